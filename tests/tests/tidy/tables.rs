//! What the rules allow: edit these tables when the project's shape changes, and say why in the commit.

/// Folders and files that decide and do nothing else. A name without extension stands for the file
/// and the folder of a module; `*` for any folder.
pub(crate) const PURE: &[&str] = &["protocol/src", "protocol/apimachinery/src", "*/logic"];

/// What pure code must not name: it gets time and chance as arguments and returns what is to be done.
pub(crate) const IMPURE: &[&str] = &[
    "axum",
    "futures",
    "getrandom",
    "hyper",
    "hyper_util",
    "jiff::Timestamp::now",
    // Its `core` holds types alone.
    "kube::Api",
    "kube::Client",
    "kube::Config",
    "kube::api",
    "kube::client",
    "kube::config",
    "kube::discovery",
    "mqtt5",
    "rand",
    "rumqttc",
    "rusqlite",
    "rustls",
    "std::env",
    "std::fs",
    "std::hash::RandomState",
    "std::io::stderr",
    "std::io::stdin",
    "std::io::stdout",
    "std::net::TcpListener",
    "std::net::TcpStream",
    "std::net::ToSocketAddrs",
    "std::net::UdpSocket",
    "std::os",
    "std::process",
    "std::sync::mpsc",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "tempfile",
    "tokio",
    "tokio_rustls",
    "tracing",
    "tracing_subscriber",
];

/// Crates that only some modules may know, so that each can be replaced there. Files named tests.rs look from
/// outside and may name any.
pub(crate) struct Outside {
    pub(crate) crates: &'static [&'static str],
    /// The folder that the rule is about.
    pub(crate) within: &'static str,
    /// The modules in it that may name the crates: NAME.rs and all in NAME/.
    pub(crate) known_to: &'static [&'static str],
}

pub(crate) const OUTSIDE: &[Outside] = &[
    Outside { crates: &["serde_cbor"], within: "protocol", known_to: &["protocol/src/codec"] },
    Outside { crates: &["serde_cbor"], within: "edge-agent", known_to: &[] },
    Outside { crates: &["serde_cbor"], within: "fleet-broker", known_to: &[] },
    Outside {
        crates: &["http_body_util", "hyper", "hyper_rustls", "hyper_util", "kube", "tower"],
        within: "edge-agent",
        known_to: &["edge-agent/src/cluster/kube"],
    },
    Outside {
        crates: &["granit_parser"],
        within: "edge-agent",
        known_to: &["edge-agent/src/cluster/access"],
    },
    Outside { crates: &["rcgen"], within: "edge-agent", known_to: &["edge-agent/src/enrol"] },
    Outside { crates: &["rumqttc"], within: "edge-agent", known_to: &["edge-agent/src/link"] },
    Outside { crates: &["rusqlite"], within: "edge-agent", known_to: &["edge-agent/src/journal"] },
    Outside { crates: &["zstd"], within: "edge-agent", known_to: &["edge-agent/src/pack"] },
    Outside { crates: &["mqtt5"], within: "fleet-broker", known_to: &["fleet-broker/src/transport"] },
    Outside { crates: &["rcgen"], within: "fleet-broker", known_to: &["fleet-broker/src/pki"] },
    Outside { crates: &["rusqlite"], within: "fleet-broker", known_to: &["fleet-broker/src/store"] },
    Outside {
        crates: &["zstd"],
        within: "fleet-broker",
        known_to: &["fleet-broker/cli/src/pack", "fleet-broker/src/pack", "fleet-broker/src/store"],
    },
    Outside { crates: &["indicatif"], within: "sim", known_to: &["sim/src/command/progress"] },
    Outside { crates: &["plotters"], within: "sim", known_to: &["sim/src/plot"] },
    Outside { crates: &["signal_hook"], within: "sim", known_to: &["sim/src/command/campaign"] },
];

/// Which of our crates each may use; all of them stand here.
pub(crate) const USES: &[(&str, &[&str])] = &[
    ("apimachinery", &[]),
    ("edge-agent", &["apimachinery", "protocol"]),
    ("edgefleet", &["apimachinery", "edge-agent", "fleet-broker", "protocol"]),
    ("edgefleet-sim", &["apimachinery", "edge-agent", "edgefleet", "fleet-broker", "protocol"]),
    ("fleet-broker", &["apimachinery", "protocol"]),
    ("packaging", &[]),
    ("protocol", &[]),
    ("tests", &["apimachinery", "edge-agent", "edgefleet", "fleet-broker", "protocol"]),
];

/// Longer files are cut by subject.
pub(crate) const FILE_LINES_MAX: usize = 600;

/// Longer functions are refused; a few may pass [`FUNCTION_LINES_GOOD`].
pub(crate) const FUNCTION_LINES_MAX: usize = 100;

/// What a reader takes in at once; the share of longer functions is printed.
pub(crate) const FUNCTION_LINES_GOOD: usize = 70;

/// What no file says: where it was written, and hosts that only a package manager's settings should name.
/// Written in parts, so that this file passes.
pub(crate) const UNSAID: &[&str] = &[
    concat!("/wor", "k/"),
    concat!("crates", ".io"),
    concat!("proxy.golang", ".org"),
    concat!("npmjs", ".org"),
    concat!("pypi", ".org"),
    concat!("sum.golang", ".org"),
];

/// Lock files name the registries they lock.
pub(crate) const UNSAID_EXCEPT: &[&str] = &["Cargo.lock", "go.sum"];
