//! The hub's API is used by the real kubectl: a script of commands, and what each must print.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, ensure};
use fleet_broker::api::{self, auth::Token};
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
use tokio::sync::oneshot;

mod script;

use script::{Expected, STEPS, Step};

const SOON: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_finds_an_api_server() -> Result<()> {
    let hub = TestHub::start().await?;
    check_all(&hub.kubectl, STEPS.iter()).await
}

/// The script is no invention of the hub's: with the hub's own resource definitions, a real API server passes it.
#[tokio::test(flavor = "multi_thread")]
async fn a_real_api_server_answers_the_same() -> Result<()> {
    let kubectl = Kubectl::new(kubeconfig()?)?;
    let definitions: Vec<String> = Kind::ALL
        .into_iter()
        .map(|kind| serde_json::to_string(&custom_resource_definition(kind)))
        .collect::<Result<_, _>>()?;
    let definitions = definitions.join("\n---\n");
    kubectl.run_with_input(&["apply", "-f", "-"], &definitions).await?;
    kubectl
        .run_with_input(&["wait", "--for=condition=Established", "--timeout=60s", "-f", "-"], &definitions)
        .await?;
    kubectl.run(&["create", "namespace", "radio"]).await?;
    let result = check_all(&kubectl, STEPS.iter().filter(|step| !step.hub_only)).await;
    kubectl.run(&["delete", "namespace", "radio"]).await?;
    kubectl.run_with_input(&["delete", "-f", "-"], &definitions).await?;
    result
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

    let hub = hub.restart().await?;
    let after = hub.kubectl.run(&version).await?;
    ensure!(before == after, "{before} became {after}");
    let list = hub.kubectl.run(&["get", "--raw", "/apis/edgefleet.dev/v1alpha1/clusters"]).await?;
    ensure!(!list.contains(r#""metadata":{"resourceVersion":"1"}"#), "the list's version went back: {list}");
    Ok(())
}

async fn check_all(kubectl: &Kubectl, steps: impl Iterator<Item = &Step>) -> Result<()> {
    let mut broken = String::new();
    for step in steps {
        if let Err(error) = check(kubectl, step).await {
            broken += &format!("\nkubectl {}: {error:#}\n", step.command);
        }
    }
    ensure!(broken.is_empty(), "{broken}");
    Ok(())
}

async fn check(kubectl: &Kubectl, step: &Step) -> Result<()> {
    let arguments = script::split(step.command);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = kubectl.run_with_input(&arguments, step.input).await;
    let (printed, expected, absent) = match (&step.expected, result) {
        (Expected::Prints(parts), Ok(printed)) => (printed, *parts, None),
        (Expected::PrintsWithout(parts, absent), Ok(printed)) => (printed, *parts, Some(*absent)),
        (Expected::Fails(parts), Err(error)) => (format!("{error:#}"), *parts, None),
        (Expected::Fails(_), Ok(printed)) => anyhow::bail!("it should have failed, and printed: {printed}"),
        (Expected::Prints(_) | Expected::PrintsWithout(..), Err(error)) => return Err(error),
    };
    for part in expected {
        ensure!(printed.contains(part), "{part:?} is not in what it printed:\n{printed}");
    }
    if let Some(absent) = absent {
        ensure!(!printed.contains(absent), "{absent:?} is in what it printed:\n{printed}");
    }
    Ok(())
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
        let (stop, stopping) = oneshot::channel();
        let serving = api::serve(
            listener,
            tls,
            api::router(hub, token.hash(), tokio::sync::mpsc::channel(1).0, None, None),
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
