//! Every limit of the protocol, written once with its reason. Both ends refuse what is beyond them.

/// Largest MQTT payload either side sends or accepts: small enough for a broker's defaults and a tower's
/// link, large enough that the desired state of a full cluster fits in one.
pub const MESSAGE_BYTES: usize = 256 * 1024;

/// Largest signed document of any type. A document travels in one message, with room for its envelope.
pub const DOCUMENT_BYTES: usize = 192 * 1024;

/// One piece of content on the wire. At 100 kbit/s it takes 2.6 s, so a cut link loses little.
pub const CHUNK_BYTES: usize = 32 * 1024;

/// Pieces the hub sends for one `Want`, so that no agent can make it queue more than 256 KiB.
pub const WINDOW_CHUNKS: usize = 8;

/// Largest release document. It names every object, so it is larger than other documents; it travels as content.
pub const RELEASE_BYTES: usize = 1024 * 1024;

/// Largest unpacked content of one release: several times the largest bundle known to us (4.2 MB).
pub const PACK_BYTES: u64 = 32 * 1024 * 1024;

/// Base-2 logarithm of the window of compressed content, in bytes: 1 MiB is what an agent sets aside to unpack any
/// release, and a larger window gains little on manifests.
pub const PACK_WINDOW_LOG: u32 = 20;

/// Largest single Kubernetes object; an API server refuses more than 3 MiB.
pub const OBJECT_BYTES: u64 = 3 * 1024 * 1024;

/// Objects in one release.
pub const RELEASE_OBJECTS: usize = 2_000;

/// Applications on one cluster.
pub const APPLICATIONS: usize = 128;

/// Acknowledgements under one signature. It then costs each a 256th, and the way to it takes eight digests, 256 bytes.
pub const ACKS_TOGETHER: usize = 256;

/// Parameters of one release, and targets of one parameter.
pub const PARAMETERS: usize = 64;

/// Keys listed in a root document.
pub const ROOT_KEYS: usize = 64;

/// Signatures on one document: more than any threshold needs.
pub const SIGNATURES: usize = 16;

/// Length of any short text in a document: reasons, parameter values, versions.
pub const TEXT_BYTES: usize = 1024;

/// Length of a condition's or object's message in a report.
pub const MESSAGE_TEXT_BYTES: usize = 512;

/// One step of the sequence number, so that a stolen director key cannot run it to its end.
pub const SEQ_STEP: u64 = 1 << 20;

/// Deletions one desired state may cause where the release's ceilings say nothing: at least this many...
pub const DELETES_MIN: u32 = 10;

/// ...or this share of the inventory, whichever is more.
pub const DELETES_PERCENT: u32 = 10;

/// Longest keepalive of a connection, in seconds: a hub notices a dead one after one and a half of it.
pub const KEEPALIVE_MAX_SECONDS: u16 = 3600;

/// How long a head stays fresh after it was signed. Past it nothing new starts.
pub const HEAD_FRESH_SECONDS: u64 = 24 * 60 * 60;

/// How often the hub signs heads again.
pub const HEAD_RESIGN_SECONDS: u64 = 6 * 60 * 60;

/// How long a desired state may be newly installed, renewed at hello.
pub const INSTALL_BY_SECONDS: u64 = 30 * 24 * 60 * 60;

/// How far a signed time may lie ahead of trusted time: clocks of honest machines differ this much.
pub const CLOCK_SKEW_SECONDS: u64 = 5 * 60;

/// Largest file that carries updates or reports by hand: as much as an agent's journal may hold, so that nothing it
/// could take is refused for its length.
pub const CARRY_BYTES: u64 = 1 << 30;
