//! The fleet's keys and releases, and its hub: the production's, in a process of its own, through all of its lives.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use edgefleet::{
    bundle::Bundle,
    clock,
    hub::Hub as Operator,
    manifest::{self, Rules},
    release::{self, Plan},
    source::SourceText,
};
use fleet_broker::{
    keys::{self, Charter, FleetKeys, ROOT_FILE},
    resources::ApplicationClusters,
    serve::KUBECONFIG,
};
use protocol::ids::{AppId, FleetId, Name};
use serde_json::json;
use tokio::time::{interval, timeout};

use super::{Part, process::Running, tally::VERSIONS};
use crate::charter::{FLEET, TENANT, manifests};

/// The application that is delivered.
pub(super) const APPLICATION: &str = "gateway";

/// The label by which it is placed, and its value.
pub(super) const LABEL: (&str, &str) = ("stage", "live");

/// How long keys and releases are good for.
const DAYS_SECONDS: u64 = 7 * 24 * 60 * 60;

/// Longest start of a hub: thousands of clusters are read.
const START_WITHIN: Duration = Duration::from_secs(120);

/// How often is looked whether it is ready.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What it writes to its log when it is.
const READY: &str = " ready api=";

/// Where ports are looked for: below those that Linux gives to whoever connects, so that no connection of this fleet has
/// the hub's port while the hub is away.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// A fleet's keys and the folder and ports of its hub.
pub(super) struct Fleet {
    folder: PathBuf,
    program: PathBuf,
    keys: FleetKeys,
    ports: [u16; 3],
    lives: u32,
}

/// A hub that runs, and the right to change it.
pub(super) struct Hub {
    pub(super) process: Running,
    pub(super) operator: Operator,
}

impl Fleet {
    /// Makes a fleet with one tenant in an empty folder.
    pub(super) fn make(folder: &Path, program: Option<PathBuf>) -> Result<Self> {
        let program = program.map_or_else(beside, Ok)?;
        ensure!(
            program.is_file(),
            "{} is missing: build the hub (cargo build -p fleet-broker), or give its program with --hub",
            program.display()
        );
        let issued = clock::now();
        let keys = keys::generate(&Charter {
            fleet: FleetId::new(FLEET)?,
            tenant: Name::new(TENANT)?,
            namespaces: vec![TENANT.parse()?],
            ca_pins: Vec::new(),
            issued,
            not_after: issued.plus(DAYS_SECONDS),
        })?;
        keys.write(&folder.join("keys"))?;
        Ok(Self { folder: folder.to_owned(), program, keys, ports: free_ports()?, lives: 0 })
    }

    /// Where clusters connect, and where they join.
    pub(super) fn doors(&self) -> [u16; 2] {
        let [_, broker, enrol] = self.ports;
        [broker, enrol]
    }

    /// Starts the hub, for the first time or from what the one before left, and waits until it is ready.
    pub(super) async fn start(&mut self) -> Result<Hub> {
        self.lives += 1;
        let (keys, data) = (self.folder.join("keys"), self.folder.join("hub"));
        let (root, director) = (keys.join(ROOT_FILE), keys.join("director.key"));
        let [api, broker, enrol] = self.ports.map(|port| format!("127.0.0.1:{port}"));
        let told: [&OsStr; 16] = [
            self.program.as_os_str(),
            "serve".as_ref(),
            "--advertise".as_ref(),
            "127.0.0.1".as_ref(),
            "--data".as_ref(),
            data.as_os_str(),
            "--root".as_ref(),
            root.as_os_str(),
            "--director-key".as_ref(),
            director.as_os_str(),
            "--api".as_ref(),
            api.as_ref(),
            "--broker".as_ref(),
            broker.as_ref(),
            "--enrol".as_ref(),
            enrol.as_ref(),
        ];
        let (mut process, _, _) =
            Running::start(Part::Hub, &format!("hub-{}", self.lives), &self.folder, &told)?;
        let mut looks = interval(LOOK_EVERY);
        let ready = async {
            while !process.has_logged(READY) {
                looks.tick().await;
                process.lives()?;
            }
            anyhow::Ok(())
        };
        timeout(START_WITHIN, ready).await.context("the hub did not start in time")??;
        Ok(Hub { process, operator: Operator::open(&data.join(KUBECONFIG)).await? })
    }

    /// A signed release of the application.
    pub(super) fn bundle(&self, version: u64) -> Result<Bundle> {
        let until = clock::now().plus(DAYS_SECONDS);
        let plan = Plan { max_deletes: Some(2), ..Plan::new(application()?, name(version), version, until) };
        let rules = Rules {
            namespace: Name::new(TENANT)?,
            cluster_scoped: BTreeSet::new(),
            plaintext_secrets: false,
        };
        let text = SourceText { name: APPLICATION.to_owned(), text: manifests(APPLICATION, version) };
        let mut bundle = Bundle::new(&release::build(&plan, manifest::parse(&[text], &rules)?.objects)?)?;
        let key = self.keys.release.first().context("a tenant has release keys")?;
        bundle.sign(&FleetId::new(FLEET)?, key)?;
        Ok(bundle)
    }

    /// Publishes every release.
    pub(super) async fn publish(&self, hub: &Hub) -> Result<()> {
        for version in VERSIONS {
            hub.operator.push(&self.bundle(version)?).await?;
        }
        Ok(())
    }
}

impl Hub {
    /// Has every cluster run a version.
    pub(super) async fn place(&self, version: u64) -> Result<()> {
        let (label, value) = LABEL;
        let application = json!({
            "apiVersion": "edgefleet.dev/v1alpha1",
            "kind": "Application",
            "metadata": {"namespace": TENANT, "name": APPLICATION},
            "spec": {
                "bundle": format!("{APPLICATION}-{}", name(version)),
                "placement": {"clusterSelector": {"matchLabels": {label: value}}},
            },
        });
        Ok(self.operator.put_application(application).await?)
    }

    /// How many clusters are how far, as people are shown for the newest change; nothing until it was looked at.
    pub(super) async fn shows(&self) -> Result<ApplicationClusters> {
        let found = self.operator.application(&application()?).await?.context("the application is there")?;
        let status = found.status.unwrap_or_default();
        let is_new = found.metadata.generation.and_then(|newest| u64::try_from(newest).ok());
        let is_new = is_new == Some(status.observed_generation);
        Ok(status.clusters.filter(|_| is_new).unwrap_or_default())
    }
}

fn application() -> Result<AppId> {
    Ok(AppId::new(TENANT, APPLICATION)?)
}

fn name(version: u64) -> String {
    format!("1.0.{version}")
}

/// The hub's program where cargo puts it: beside this one, or beside the folder of a test.
fn beside() -> Result<PathBuf> {
    let this = std::env::current_exe().context("cannot find this program")?;
    Ok(this.with_file_name("fleet-broker"))
}

/// Three ports on which nobody listens, other ones for each process that asks.
fn free_ports() -> Result<[u16; 3]> {
    let count = u32::from(PORTS.end - PORTS.start);
    let first = std::process::id().wrapping_mul(3) % count;
    let ports =
        (0..count).map(|index| PORTS.start + u16::try_from((first + index) % count).unwrap_or_default());
    let free = ports.filter(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok());
    let free: Vec<u16> = free.take(3).collect();
    free.try_into().ok().context("no ports are free")
}

/// Bytes that the files of a folder take, those in folders in it too.
pub(super) fn folder_bytes(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(about) if about.is_dir() => folder_bytes(&entry.path()),
        Ok(about) => about.len(),
        // It may have gone meanwhile.
        Err(_) => 0,
    };
    entries.map(size).sum()
}
