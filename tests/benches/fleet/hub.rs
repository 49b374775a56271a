//! A hub in a process of its own, whose clusters have joined without asking: their records are put into its store.

use std::{
    collections::BTreeSet,
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};
use edge_agent::enrol::KeyAndRequest;
use edgefleet::{
    bundle::Bundle,
    clock,
    hub::Hub as Operator,
    manifest::{self, Rules},
    release::{self, Plan},
    source::SourceText,
};
use fleet_broker::{
    backup::STORE_FILE,
    hub::Hub as Objects,
    keys::{self, FleetKeys, ROOT_FILE},
    logic::{
        fleet::DocumentKind,
        registry::{FieldValidation, WriteOptions},
    },
    pki::{CERTIFICATE_LIFETIME, CertificateAuthority},
    resources::Kind,
    serve::{self, KUBECONFIG, ServeConfig},
    store::{Store, Write},
};
use jiff::Timestamp;
use protocol::{
    ids::{AppId, ClusterId, FleetId, KeyId, Name},
    time::UnixSeconds,
    verify::Trust,
};
use serde_json::json;
use tests::{
    Process, figures, free_port,
    spoke::{self, APPLICATION, FLEET, Spoke},
};
use tokio::time::timeout;

use crate::crowd::Member;

/// The first argument of this program when it is to be a hub; ports and folder follow.
pub(crate) const ROLE: &str = "hub";

/// What it prints when it is ready.
const READY: &str = "the hub is ready";

/// Longest start: ten thousand clusters are read.
const SOON: Duration = Duration::from_secs(120);

/// A hub that takes less than a twentieth of a processor for so long rests: statuses follow within less.
const REST: Duration = Duration::from_secs(1);

/// Clusters registered at once.
const BATCH: usize = 500;

/// How long bundles are good for.
const DAY_SECONDS: u64 = 24 * 60 * 60;

/// A fleet's folder: keys, certificate authority, store.
pub(crate) struct Folder {
    path: PathBuf,
    keys: FleetKeys,
    pub(crate) authority: CertificateAuthority,
    pub(crate) trust: Trust,
    ports: [u16; 3],
}

impl Folder {
    /// Makes the keys of a fleet in an empty folder.
    pub(crate) fn make(path: &Path) -> Result<Self> {
        let authority = serve::certificate_authority(&path.join(ROLE), FLEET)?;
        let keys = spoke::fleet_keys(vec![authority.pin()], clock::now())?;
        keys.write(&path.join("keys"))?;
        let trust = Trust::given(&keys.envelope)?;
        let ports = [free_port()?, free_port()?, free_port()?];
        Ok(Self { path: path.to_owned(), keys, authority, trust, ports })
    }

    /// Where clusters connect.
    pub(crate) fn broker(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.ports[1]))
    }

    /// The clusters of these numbers, with certificates.
    pub(crate) fn members(&self, count: usize) -> Result<Vec<Member>> {
        let member = |number| {
            let spoke = Spoke::new(number)?;
            let pem = self.certificate(&spoke.id, &spoke.key.public().id())?;
            Ok(Member { spoke, pem })
        };
        (0..count).map(member).collect()
    }

    /// A certificate and its key.
    pub(crate) fn certificate(&self, who: &ClusterId, identity: &KeyId) -> Result<String> {
        let made = KeyAndRequest::make(who)?;
        let certificate = self.authority.sign_cluster(&made.request, who, identity, now()?)?;
        Ok(certificate.pem + &made.key_pem)
    }

    /// Registers these clusters, as joined, with a hub that does not run.
    pub(crate) async fn register(&self, members: &[Member]) -> Result<()> {
        let store = Store::open(&self.path.join(ROLE).join(STORE_FILE))?;
        let objects = Objects::open(store.clone()).await?;
        let options = WriteOptions { validation: FieldValidation::Strict, manager: "benchmark".to_owned() };
        for batch in members.chunks(BATCH) {
            let written = objects.write("benchmark", |transaction| {
                for Member { spoke, .. } in batch {
                    let cluster = json!({
                        "apiVersion": "edgefleet.dev/v1alpha1",
                        "kind": "Cluster",
                        "metadata": {"name": spoke.id.as_str(), "labels": {"stage": "bench"}},
                        "spec": {"accepted": true},
                    });
                    transaction.create(Kind::Cluster, "", cluster, &options, spoke.id.as_str())?;
                }
                Ok(())
            });
            written.await.map_err(|failure| anyhow!("{}", failure.message))?;
            let identity = |Member { spoke, .. }: &Member| Write::PutDocument {
                kind: DocumentKind::Identity.name(),
                key: spoke.id.to_string(),
                bytes: spoke.key.public().as_bytes().to_vec(),
            };
            store.commit(batch.iter().map(identity).collect()).await?;
        }
        drop(objects);
        Ok(store.close().await?)
    }

    /// Starts the hub.
    pub(crate) async fn start(&self) -> Result<Hub> {
        let mut command = Command::new(std::env::current_exe().context("find this program")?);
        command.arg(ROLE).args(self.ports.map(|port| port.to_string())).arg(&self.path);
        let mut process = Process::spawn(ROLE, &command)?;
        process.printed(READY, SOON).await?;
        let operator = Operator::open(&self.path.join(ROLE).join(KUBECONFIG)).await?;
        Ok(Hub { process, operator })
    }

    /// A signed version of the application: one ConfigMap.
    pub(crate) fn bundle(&self, version: u64) -> Result<Bundle> {
        let app = AppId::new(FLEET, APPLICATION)?;
        let plan = Plan::new(app, format!("1.0.{version}"), version, clock::now().plus(DAY_SECONDS));
        let text =
            format!("{{apiVersion: v1, kind: ConfigMap, metadata: {{name: web}}, data: {{v: '{version}'}}}}");
        let texts = [SourceText { name: "bench".to_owned(), text }];
        let rules =
            Rules { namespace: Name::new(FLEET)?, cluster_scoped: BTreeSet::new(), plaintext_secrets: false };
        let mut bundle = Bundle::new(&release::build(&plan, manifest::parse(&texts, &rules)?.objects)?)?;
        bundle
            .sign(&FleetId::new(FLEET)?, self.keys.release.first().context("a tenant has release keys")?)?;
        Ok(bundle)
    }
}

/// A running hub.
pub(crate) struct Hub {
    process: Process,
    pub(crate) operator: Operator,
}

impl Hub {
    /// Has every cluster run a version.
    pub(crate) async fn place(&self, version: u64) -> Result<()> {
        let application = json!({
            "apiVersion": "edgefleet.dev/v1alpha1",
            "kind": "Application",
            "metadata": {"namespace": FLEET, "name": APPLICATION},
            "spec": {
                "bundle": format!("{APPLICATION}-1.0.{version}"),
                "placement": {"clusterSelector": {"matchLabels": {"stage": "bench"}}},
            },
        });
        Ok(self.operator.put_application(application).await?)
    }

    /// Bytes of memory that it takes now.
    pub(crate) fn resident(&self) -> Result<f64> {
        Ok(figures::resident_bytes(self.process.id())? as f64)
    }

    /// Waits until it has nothing to do: statuses and events of the last change follow after the change.
    pub(crate) async fn rests(&self) -> Result<()> {
        let mut ticks = tokio::time::interval(REST);
        let resting = async {
            let mut before = Duration::ZERO;
            loop {
                ticks.tick().await;
                let taken = figures::cpu_time_of(self.process.id())?;
                if taken.saturating_sub(before) < REST / 20 {
                    return anyhow::Ok(());
                }
                before = taken;
            }
        };
        timeout(SOON, resting).await.context("the hub rests")?
    }

    /// Stops it in order.
    pub(crate) async fn stop(mut self) -> Result<()> {
        self.process.terminate()?;
        self.process.wait(SOON).await.map(drop)
    }
}

/// This program as a hub, until it is told to end.
#[allow(clippy::print_stdout, reason = "it says when it is ready")]
pub(crate) async fn run(arguments: &[String]) -> Result<()> {
    let [api, broker, enrol, folder] = arguments else { anyhow::bail!("three ports and a folder") };
    let local = |port: &str| anyhow::Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port.parse::<u16>()?)));
    let folder = Path::new(folder);
    let keys = folder.join("keys");
    let config = ServeConfig {
        directory: folder.join(ROLE),
        api: local(api)?,
        broker: local(broker)?,
        enrol: local(enrol)?,
        advertise: "127.0.0.1".to_owned(),
        root: fs::read(keys.join(ROOT_FILE))?,
        director: keys::load_signing_key(&keys.join("director.key"))?.key,
        certificate_lifetime: CERTIFICATE_LIFETIME,
    };
    let mut hub = serve::start(config).await?;
    println!("{READY}");
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        problem = hub.failed() => anyhow::bail!("{problem}"),
        _ = terminate.recv() => hub.stop().await,
    }
    Ok(())
}

/// The time of certificates.
pub(crate) fn now() -> Result<Timestamp> {
    let UnixSeconds(seconds) = clock::now();
    Ok(Timestamp::from_second(i64::try_from(seconds)?)?)
}
