//! Debian's Mosquitto, with the hub's certificates, topics and rules: each cluster is known by its certificate and reads
//! its own topics alone.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use protocol::{
    ids::{ClusterId, KeyId},
    topics::Downward,
};
use tests::{Process, free_port, wait_for};
use tokio::net::TcpStream;

use crate::{
    crowd::Heard,
    hub::{Folder, now},
    mqtt::{Connection, Identity},
};

/// Longest start.
const SOON: Duration = Duration::from_secs(20);

/// Who publishes: the hub's part.
const PUBLISHER: &str = "publisher";

/// A running broker. Most messages for one client at once are the hub's own limit.
pub(crate) struct Mosquitto {
    pub(crate) address: SocketAddr,
    _process: Process,
}

impl Mosquitto {
    /// Starts one for the clusters of a fleet.
    pub(crate) async fn start(fleet: &Folder, folder: &Path) -> Result<Self> {
        let program = program()?;
        let port = free_port()?;
        let identity = fleet.authority.server_identity(&["127.0.0.1".to_owned()], now()?)?;
        let certificates: String =
            identity.chain.iter().map(|one| pem("CERTIFICATE", one.as_ref())).collect();
        fs::write(folder.join("server.pem"), certificates)?;
        fs::write(folder.join("server.key"), pem("PRIVATE KEY", identity.key.secret_der()))?;
        fs::write(folder.join("ca.pem"), fleet.authority.certificate_pem())?;
        fs::write(
            folder.join("acl"),
            format!("user {PUBLISHER}\ntopic write #\npattern read ef/v1/c/%u/d/#\n"),
        )?;
        let path = |name: &str| folder.join(name).display().to_string();
        let config = format!(
            "listener {port} 127.0.0.1\ncafile {}\ncertfile {}\nkeyfile {}\nrequire_certificate true\n\
             use_identity_as_username true\nallow_anonymous false\nacl_file {}\npersistence false\n\
             set_tcp_nodelay true\nmax_inflight_messages 32\nmax_queued_messages 0\nuser root\nlog_type error\n",
            path("ca.pem"),
            path("server.pem"),
            path("server.key"),
            path("acl"),
        );
        fs::write(folder.join("mosquitto.conf"), config)?;
        let mut command = Command::new(program);
        command.arg("-c").arg(folder.join("mosquitto.conf"));
        let process = Process::spawn("mosquitto", &command)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        wait_for("Mosquitto's listener", SOON, async || Ok(TcpStream::connect(address).await?)).await?;
        Ok(Self { address, _process: process })
    }

    /// Connects who publishes.
    pub(crate) async fn publisher(&self, fleet: &Folder) -> Result<Publisher> {
        let who = ClusterId::new(PUBLISHER)?;
        let pem = fleet.certificate(&who, &KeyId::new([7; 32]))?;
        let identity = Identity { name: PUBLISHER, ca: fleet.authority.certificate(), pem: &pem };
        Ok(Publisher(Connection::open(self.address, &identity, &[]).await?))
    }
}

/// Publishes what the hub said.
pub(crate) struct Publisher(Connection);

impl Publisher {
    /// Publishes a head and a desired state for each cluster, as the hub does, and waits until the broker has them.
    pub(crate) async fn publish(&mut self, all: &[Heard]) -> Result<()> {
        let messages = all.iter().flat_map(|Heard { cluster, head, desired }| {
            let message = |topic: Downward, bytes: &Bytes| (topic.topic(cluster), bytes.clone());
            [message(Downward::Head, head), message(Downward::Desired, desired)]
        });
        self.0.publish_all(messages).await
    }
}

/// The program, fetched if it is not there.
fn program() -> Result<PathBuf> {
    let build = Path::new(env!("CARGO_MANIFEST_DIR")).join("mosquitto/build");
    let output = Command::new(&build).output().with_context(|| format!("run {}", build.display()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {}", build.display(), said.trim());
    Ok(Path::new(String::from_utf8(output.stdout)?.trim()).join("mosquitto"))
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).filter_map(|line| str::from_utf8(line).ok()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}
