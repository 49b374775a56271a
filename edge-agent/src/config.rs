//! The configuration file of `edge-agent run`, and what lies in the state directory.
//!
//! ```toml
//! cluster = "tower-0123"
//! fleet = "north"
//! root = "3b0c…"                 # digest of the root document that was pinned when joining
//! broker = "hub.example.com:8883"
//! enrol = "hub.example.com:8884"  # where the certificate is renewed; the broker's host and 8884 if not given
//! kubernetes = "in-cluster"      # or the path of a kubeconfig
//! heartbeat_seconds = 3600
//! keepalive_seconds = 600
//! log = "text"                   # or "json"
//! log_level = "info"             # error, warn, info, debug
//! ```
//!
//! `edge-agent join` writes it into the state directory, beside
//!
//! | file | what |
//! | --- | --- |
//! | `identity.key` | the seed of the key that signs reports, in hexadecimal; 0600 |
//! | `connection.pem` | certificate and key of the connection to the hub, replaced together; 0600 |
//! | `ca.pem` | the hub's certificate authority |
//! | `root.cose` | the root document in force |
//! | `journal`, `journal-wal` | what the agent knows: an SQLite database |
//! | `journal.corrupt-<time>` | a damaged journal that was put aside |
//! | `control.sock` | where `status`, `hold` and `release` find the agent |

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use protocol::ids::{ClusterId, Digest, FleetId};
use serde::{Deserialize, Serialize};

/// Where an agent keeps its state if nothing else is said.
pub const STATE: &str = "/var/lib/edgefleet";

/// Where hubs give certificates unless they are told otherwise.
const ENROL_PORT: u16 = 8884;

/// Largest configuration file.
const MAX_BYTES: u64 = 64 << 10;

/// How an agent runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// This cluster.
    pub cluster: ClusterId,
    /// Its fleet.
    pub fleet: FleetId,
    /// Digest of the root document that was pinned when joining, in hexadecimal.
    #[serde(with = "digest")]
    pub root: Digest,
    /// Where the hub listens for enrolled clusters.
    pub broker: Address,
    /// Where the hub gives certificates, if not where every hub does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enrol: Option<Address>,
    /// The state directory; the configuration file's own if not given.
    #[serde(default)]
    pub state: PathBuf,
    /// How to reach the Kubernetes API.
    #[serde(default)]
    pub kubernetes: Kubernetes,
    /// How often a report is sent when nothing changes, in seconds. The hub's idea of who is silent goes by it.
    #[serde(default = "heartbeat_seconds", deserialize_with = "range::heartbeat")]
    pub heartbeat_seconds: u32,
    /// Silence on the link after which either side pings, in seconds.
    #[serde(default = "keepalive_seconds", deserialize_with = "range::keepalive")]
    pub keepalive_seconds: u16,
    /// How log lines look.
    #[serde(default)]
    pub log: LogFormat,
    /// Which log lines are written.
    #[serde(default)]
    pub log_level: LogLevel,
}

/// A host and a port, as `host:port`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address {
    /// A name or an IP address; an IPv6 address stands in brackets in text.
    pub host: String,
    /// A port.
    pub port: u16,
}

/// How to reach the Kubernetes API.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub enum Kubernetes {
    /// With the service account of the pod the agent runs in.
    #[default]
    InCluster,
    /// With a kubeconfig file.
    Kubeconfig(PathBuf),
    /// A simulated cluster in the agent's own process, for trying things out.
    Simulated,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// Which log lines are written: these and worse.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// What needs somebody.
    Error,
    /// What may need somebody.
    Warn,
    /// What happens.
    #[default]
    Info,
    /// How it happens.
    Debug,
}

/// A configuration file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("cannot read {}: give the file that `edge-agent join` wrote", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is not what it should be.
    #[error("{}: {problem}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Line, column, key and what is wrong.
        problem: String,
    },
}

/// Files of the state directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateDir(PathBuf);

impl Config {
    /// Reads the file at `path`.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let failed = |source| ConfigError::Read { path: path.to_owned(), source };
        if fs::metadata(path).map_err(failed)?.len() > MAX_BYTES {
            let problem = format!("larger than {MAX_BYTES} bytes: is it the right file?");
            return Err(ConfigError::Invalid { path: path.to_owned(), problem });
        }
        let text = fs::read_to_string(path).map_err(failed)?;
        let mut config =
            Self::parse(&text).map_err(|problem| ConfigError::Invalid { path: path.to_owned(), problem })?;
        // A relative path is relative to the file, whichever directory the agent is started in.
        let beside = path.parent().unwrap_or(Path::new(""));
        config.state = beside.join(&config.state);
        if let Kubernetes::Kubeconfig(file) = &mut config.kubernetes {
            *file = beside.join(&*file);
        }
        Ok(config)
    }

    /// Reads a configuration from text. The error names line, column and key.
    pub fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())
    }

    /// The configuration as text that [`Self::parse`] reads.
    pub fn to_text(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(self)
    }

    /// Where the hub gives certificates.
    pub fn enrol(&self) -> Address {
        let usual = || Address { host: self.broker.host.clone(), port: ENROL_PORT };
        self.enrol.clone().unwrap_or_else(usual)
    }

    /// Files of the state directory.
    pub fn state_dir(&self) -> StateDir {
        StateDir::new(&self.state)
    }
}

impl StateDir {
    /// The files in `folder`.
    pub fn new(folder: &Path) -> Self {
        Self(folder.to_owned())
    }

    /// The directory itself.
    pub fn folder(&self) -> &Path {
        &self.0
    }

    /// The configuration.
    pub fn config(&self) -> PathBuf {
        self.0.join("config.toml")
    }

    /// Seed of the key that signs reports.
    pub fn identity_key(&self) -> PathBuf {
        self.0.join("identity.key")
    }

    /// Certificate and key of the connection to the hub: one file, so that one never stands without the other.
    pub fn connection(&self) -> PathBuf {
        self.0.join("connection.pem")
    }

    /// Where versions before 0.2 kept the key of the connection, beside its certificate.
    pub(crate) fn former_connection_key(&self) -> PathBuf {
        self.0.join("connection.key")
    }

    /// The hub's certificate authority.
    pub fn ca(&self) -> PathBuf {
        self.0.join("ca.pem")
    }

    /// The root document.
    pub fn root(&self) -> PathBuf {
        self.0.join("root.cose")
    }

    /// The journal.
    pub fn journal(&self) -> PathBuf {
        self.0.join("journal")
    }

    /// The control socket.
    pub fn control(&self) -> PathBuf {
        self.0.join("control.sock")
    }
}

impl TryFrom<String> for Address {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let problem = || format!("{text:?} is not an address: write host:port, such as hub.example.com:8883");
        let (host, port) = text.rsplit_once(':').ok_or_else(problem)?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = match bare {
            Some(address) => address,
            None if host.contains(':') => return Err(problem()),
            None => host,
        };
        if host.is_empty() || host.contains(char::is_whitespace) {
            return Err(problem());
        }
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(problem)?;
        Ok(Self { host: host.to_owned(), port })
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        let Address { host, port } = address;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}

impl From<String> for Kubernetes {
    fn from(text: String) -> Self {
        match text.as_str() {
            "in-cluster" => Self::InCluster,
            "simulated" => Self::Simulated,
            _ => Self::Kubeconfig(PathBuf::from(text)),
        }
    }
}

impl From<Kubernetes> for String {
    fn from(kubernetes: Kubernetes) -> Self {
        match kubernetes {
            Kubernetes::InCluster => "in-cluster".to_owned(),
            Kubernetes::Simulated => "simulated".to_owned(),
            Kubernetes::Kubeconfig(path) => path.to_string_lossy().into_owned(),
        }
    }
}

fn heartbeat_seconds() -> u32 {
    3600
}

fn keepalive_seconds() -> u16 {
    crate::link::KEEPALIVE_SECONDS
}

/// Numbers within their ranges. To what is said here, the parser adds line and column.
mod range {
    use std::{fmt::Display, ops::RangeInclusive};

    use serde::{Deserialize, Deserializer, de};

    /// Reports more often than this would be traffic for nothing.
    const HEARTBEAT: RangeInclusive<u32> = 10..=u32::MAX;

    /// Pings more often than this would be traffic for nothing; a hub lets nobody in who says less often that it is there.
    const KEEPALIVE: RangeInclusive<u16> = 5..=protocol::limits::KEEPALIVE_MAX_SECONDS;

    pub(super) fn heartbeat<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
        within(deserializer, "heartbeat_seconds", &HEARTBEAT)
    }

    pub(super) fn keepalive<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
        within(deserializer, "keepalive_seconds", &KEEPALIVE)
    }

    fn within<'de, D, T>(deserializer: D, key: &str, allowed: &RangeInclusive<T>) -> Result<T, D::Error>
    where
        D: Deserializer<'de>,
        T: TryFrom<i64> + PartialOrd + Display,
    {
        let number = T::try_from(i64::deserialize(deserializer)?).ok();
        let (least, most) = (allowed.start(), allowed.end());
        number
            .filter(|number| allowed.contains(number))
            .ok_or_else(|| de::Error::custom(format!("{key} is {least} to {most}")))
    }
}

mod digest {
    use protocol::ids::Digest;
    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<S: Serializer>(digest: &Digest, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(digest)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minimal() -> String {
        let root = "00".repeat(32);
        format!("cluster = \"tower-1\"\nfleet = \"north\"\nroot = \"{root}\"\nbroker = \"hub:8883\"\n")
    }

    #[test]
    fn what_is_left_out_has_a_default() {
        let config = Config::parse(&minimal()).unwrap();
        assert_eq!(config.kubernetes, Kubernetes::InCluster);
        assert_eq!((config.heartbeat_seconds, config.keepalive_seconds), (3600, 600));
        assert_eq!(config.broker, Address { host: "hub".into(), port: 8883 });
        assert_eq!(config.enrol(), Address { host: "hub".into(), port: 8884 });
        assert_eq!(Config::parse(&config.to_text().unwrap()).unwrap(), config);
    }

    #[test]
    fn paths_are_relative_to_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        fs::write(&path, format!("{}kubernetes = \"k3s.yaml\"\n", minimal())).unwrap();
        let config = Config::load(&path).unwrap();
        assert_eq!(config.state_dir().journal(), folder.path().join("journal"));
        assert_eq!(config.kubernetes, Kubernetes::Kubeconfig(folder.path().join("k3s.yaml")));
        fs::write(&path, format!("{}kubernetes = \"/etc/k3s.yaml\"\n", minimal())).unwrap();
        let config = Config::load(&path).unwrap();
        assert_eq!(config.kubernetes, Kubernetes::Kubeconfig("/etc/k3s.yaml".into()));
    }

    #[test]
    fn an_error_names_line_and_key() {
        let check = |more: &str, expected: &[&str]| {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("config.toml");
            fs::write(&path, minimal() + more).unwrap();
            let error = Config::load(&path).unwrap_err().to_string();
            let named = path.display().to_string();
            for part in expected.iter().chain(&[named.as_str()]) {
                assert!(error.contains(part), "{error}: {part}");
            }
        };
        check(
            "hartbeat_seconds = 60\n",
            &["line 5", "unknown field `hartbeat_seconds`", "heartbeat_seconds"],
        );
        check("log = \"xml\"\n", &["line 5", "unknown variant `xml`", "text"]);
        check("heartbeat_seconds = 1\n", &["line 5", "heartbeat_seconds is 10 to 4294967295"]);
        check("heartbeat_seconds = -1\n", &["line 5", "heartbeat_seconds is 10 to 4294967295"]);
        check("heartbeat_seconds = \"1h\"\n", &["line 5", "invalid type: string \"1h\""]);
        check("keepalive_seconds = 3601\n", &["line 5", "keepalive_seconds is 5 to 3600"]);
        check("keepalive_seconds = 4\n", &["line 5", "keepalive_seconds is 5 to 3600"]);
        check("cluster = \"twice\"\n", &["line 5", "duplicate key"]);
        check("broker", &["line 5"]);
    }

    #[test]
    fn an_address_is_a_host_and_a_port() {
        let check = |text: &str, expected: Option<(&str, u16)>| {
            let found = Address::try_from(text.to_owned());
            let found = found.map(|address| {
                assert_eq!(String::from(address.clone()), text);
                (address.host, address.port)
            });
            assert_eq!(found.ok(), expected.map(|(host, port)| (host.to_owned(), port)), "{text}");
        };
        check("hub.example.com:8883", Some(("hub.example.com", 8883)));
        check("10.0.0.1:1", Some(("10.0.0.1", 1)));
        check("[::1]:8883", Some(("::1", 8883)));
        for wrong in ["hub", "hub:", ":8883", "hub:0", "hub:99999", "::1:8883", "a b:1", ""] {
            check(wrong, None);
        }
    }
}
