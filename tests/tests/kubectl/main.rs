//! The hub's API is used by the real kubectl: a script of commands, what each must print, and that a real API
//! server answers it the same.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fleet_broker::api::{self, access::Access, auth::Token};
use fleet_broker::hub::Hub;
use fleet_broker::kubeconfig as hub_kubeconfig;
use fleet_broker::resources::{Kind, custom_resource_definition};
use fleet_broker::store::Store;
use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::PrivateKeyDer;
use tempfile::TempDir;
use tests::{Kubectl, Process, kubeconfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::timeout;

mod access;
mod more;
mod oracle;
mod script;
mod told;

use more::MORE;
use script::{Expected, On, STEPS, Step};
use told::TOLD;

const SOON: Duration = Duration::from_secs(20);

/// The same commands, one by one, on the hub and on a real API server that has the hub's own resource definitions:
/// where what they print, how they end or what was refused differs, the hub is wrong.
#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::print_stdout, reason = "the number of commands is a figure")]
async fn the_hub_answers_as_a_real_api_server() -> Result<()> {
    let hub = TestHub::start().await?;
    let server = ApiServer::prepare().await?;
    let (mut broken, mut same) = (String::new(), 0);
    for step in STEPS.iter().chain(MORE).chain(TOLD) {
        match compare_on(&hub.kubectl, &server.0, step).await {
            Ok(compared) => same += usize::from(compared),
            Err(error) => broken += &format!("\nkubectl {}: {error:#}\n", step.command),
        }
    }
    server.clear().await?;
    ensure!(broken.is_empty(), "{broken}");
    let all = STEPS.len() + MORE.len() + TOLD.len();
    println!("{all} commands, {same} of them answered the same by a real API server");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_watches_and_waits() -> Result<()> {
    let hub = TestHub::start().await?;
    let create = script::with_input("create -f -", script::CLUSTER, Expected::Prints(&["created"]));
    check(&hub.kubectl, &create).await?;

    let mut watching = Process::spawn(
        "watch",
        &hub.kubectl.command(&["get", "clusters", "-l", "stage=prod", "-w", "--output-watch-events"]),
    )?;
    watching.printed("ADDED", SOON).await?;
    let mut told = Process::spawn("told", &hub.kubectl.command(&["get", "events", "-w"]))?;
    told.printed("Created", SOON).await?;
    let waiting = hub.kubectl.run(&[
        "wait",
        "cluster/tower-0001",
        "--for=jsonpath={.spec.accepted}=true",
        "--timeout=20s",
    ]);
    let accepting = async {
        hub.kubectl
            .run(&["patch", "cluster/tower-0001", "--type=merge", "-p", r#"{"spec":{"accepted":true}}"#])
            .await
    };
    let (waited, _) = tokio::try_join!(waiting, accepting)?;
    ensure!(waited.contains("condition met"), "{waited}");
    watching.printed("MODIFIED", SOON).await?;
    told.printed("Accepted", SOON).await?;

    // It leaves the selection, which a watcher sees as its deletion.
    hub.kubectl.run(&["label", "cluster/tower-0001", "stage=test", "--overwrite"]).await?;
    watching.printed("DELETED", SOON).await?;

    hub.kubectl.run(&["delete", "cluster/tower-0001", "--wait=false"]).await?;
    hub.kubectl.run(&["wait", "cluster/tower-0001", "--for=delete", "--timeout=20s"]).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_survives_a_restart() -> Result<()> {
    let hub = TestHub::start().await?;
    let create = script::with_input("create -f -", script::CLUSTER, Expected::Prints(&["created"]));
    check(&hub.kubectl, &create).await?;
    let version = ["get", "cluster/tower-0001", "-o", "jsonpath={.metadata.uid} {.metadata.resourceVersion}"];
    let before = hub.kubectl.run(&version).await?;
    let events = ["events", "--for", "cluster/tower-0001", "-o", "yaml"];
    let told = hub.kubectl.run(&events).await?;
    ensure!(told.contains("registered by"), "{told}");

    let hub = hub.restart().await?;
    let after = hub.kubectl.run(&version).await?;
    ensure!(before == after, "{before} became {after}");
    let after = hub.kubectl.run(&events).await?;
    ensure!(told == after, "{told} became {after}");
    let list = hub.kubectl.run(&["get", "--raw", "/apis/edgefleet.dev/v1alpha1/clusters"]).await?;
    ensure!(!list.contains(r#""metadata":{"resourceVersion":"1"}"#), "the list's version went back: {list}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_http_is_answered_as_by_a_real_api_server() -> Result<()> {
    let hub = TestHub::start().await?;
    let (hub, server) = (without_tls(&hub.kubectl).await?, without_tls(&Kubectl::new(kubeconfig()?)?).await?);
    ensure!(hub == server, "the hub answers {hub:?}, the API server {server:?}");
    Ok(())
}

/// What is answered to a request without TLS.
async fn without_tls(kubectl: &Kubectl) -> Result<String> {
    let view = ["config", "view", "--minify", "-o", "jsonpath={.clusters[0].cluster.server}"];
    let server = kubectl.run(&view).await?;
    let address = server.strip_prefix("https://").context("an API is served with TLS")?;
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(b"GET /version HTTP/1.1\r\nHost: hub\r\n\r\n").await?;
    let mut answer = String::new();
    timeout(SOON, stream.read_to_string(&mut answer)).await??;
    Ok(answer)
}

/// Runs a step where it is to run. Says whether two answers were compared.
async fn compare_on(hub: &Kubectl, server: &Kubectl, step: &Step) -> Result<bool> {
    if matches!(step.on, On::Hub) {
        oracle::check(step, &oracle::ask(hub, step).await?)?;
        return Ok(false);
    }
    let (hub, server) = tokio::try_join!(oracle::ask(hub, step), oracle::ask(server, step))?;
    oracle::check(step, &server).context("on a real API server")?;
    oracle::check(step, &hub)?;
    match step.on {
        On::Both => oracle::compare(&hub, &server).map(|()| true),
        On::Apart(reason) => {
            ensure!(!reason.is_empty(), "a difference needs a reason");
            Ok(false)
        }
        On::Hub => Ok(false),
    }
}

async fn check(kubectl: &Kubectl, step: &Step) -> Result<()> {
    oracle::check(step, &oracle::ask(kubectl, step).await?)
}

/// The shared API server, which serves the hub's kinds for as long as the script takes.
struct ApiServer(Kubectl);

impl ApiServer {
    async fn prepare() -> Result<ApiServer> {
        let kubectl = Kubectl::new(kubeconfig()?)?;
        let definitions = definitions()?;
        kubectl.run_with_input(&["apply", "-f", "-"], &definitions).await?;
        let established = ["wait", "--for=condition=Established", "--timeout=60s", "-f", "-"];
        kubectl.run_with_input(&established, &definitions).await?;
        kubectl.run(&["create", "namespace", "radio"]).await?;
        Ok(ApiServer(kubectl))
    }

    async fn clear(&self) -> Result<()> {
        self.0.run(&["delete", "namespace", "radio"]).await?;
        self.0.run_with_input(&["delete", "-f", "-"], &definitions()?).await?;
        Ok(())
    }
}

fn definitions() -> Result<String> {
    let definitions: Vec<String> = Kind::ALL
        .into_iter()
        .filter_map(custom_resource_definition)
        .map(|definition| serde_json::to_string(&definition))
        .collect::<Result<_, _>>()?;
    Ok(definitions.join("\n---\n"))
}

/// A hub's API with a store in a folder of its own, and kubectl for it.
struct TestHub {
    folder: TempDir,
    kubectl: Kubectl,
    stop: oneshot::Sender<()>,
    stopped: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl TestHub {
    async fn start() -> Result<TestHub> {
        TestHub::start_in(TempDir::new()?).await
    }

    async fn start_in(folder: TempDir) -> Result<TestHub> {
        let hub = Hub::open(Store::open(&folder.path().join("hub.db"))?).await?;
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let (tls, ca_pem) = certificate()?;
        let token = Token::generate();
        let server = format!("https://{}", listener.local_addr()?);
        let kubeconfig = kubeconfig_path(folder.path());
        hub_kubeconfig::write(&kubeconfig, &server, &ca_pem, &token)?;
        let access = Access::open(hub.store().clone(), &token.hash()).await?;
        let (stop, stopping) = oneshot::channel();
        let serving = api::serve(
            listener,
            tls,
            api::router(hub, access, tokio::sync::mpsc::channel(1).0, None, None),
            async {
                let _ = stopping.await;
            },
        );
        let stopped = tokio::spawn(serving);
        Ok(TestHub { kubectl: Kubectl::new(kubeconfig)?, folder, stop, stopped })
    }

    async fn restart(self) -> Result<TestHub> {
        let _ = self.stop.send(());
        self.stopped.await??;
        TestHub::start_in(self.folder).await
    }
}

fn kubeconfig_path(folder: &Path) -> PathBuf {
    folder.join("hub.kubeconfig")
}

fn certificate() -> Result<(Arc<ServerConfig>, String)> {
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(vec!["127.0.0.1".to_owned()])?.self_signed(&key)?;
    let private = PrivateKeyDer::try_from(key.serialize_der()).map_err(anyhow::Error::msg)?;
    let mut tls = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private)?;
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok((Arc::new(tls), certificate.pem()))
}
