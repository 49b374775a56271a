//! What one connection, one address and one listener may use, each with its reason.

use std::time::Duration;

/// Largest MQTT packet: the protocol's largest payload plus a topic and MQTT's own headers.
pub(super) const PACKET_BYTES: usize = protocol::limits::MESSAGE_BYTES + 1024;

/// Largest packet on the bootstrap listener: an ask is one certificate request with a proof.
pub(super) const BOOTSTRAP_PACKET_BYTES: usize = 16 * 1024;

/// A TLS handshake over a 600 ms link takes three round trips; this leaves room for lost packets.
pub(super) const HANDSHAKE: Duration = Duration::from_secs(15);

/// Handshakes under way at once: they are the only costly thing a stranger can ask for.
pub(super) const HANDSHAKES: usize = 1024;

/// Handshakes under way from one address: a site behind one NAT reconnects together after a power cut.
pub(super) const HANDSHAKES_PER_ADDRESS: usize = 64;

/// Subscriptions of one connection: there is no further topic it may read.
pub(super) const SUBSCRIPTIONS: usize = protocol::topics::Downward::ALL.len();

/// Unacknowledged messages in flight to one cluster.
pub(super) const INFLIGHT: u16 = 32;

/// Messages waiting in memory for one cluster: two windows of content and every other topic once.
pub(super) const WAITING: usize = 64;

/// Bytes waiting in memory for one cluster beyond `WAITING`: one window of content, with headers.
pub(super) const WAITING_BYTES: usize = 1024 * 1024;

/// How long a push may wait for room before the cluster counts as too slow.
pub(super) const PUSH: Duration = Duration::from_secs(2);

/// Messages one cluster may send in `RATE_WINDOW`: a window of content costs one, a report costs one.
pub(super) const MESSAGES_PER_WINDOW: u32 = 1200;

/// Bytes one cluster may send in `RATE_WINDOW`: some 180 KB/s, more than a tower's link carries.
pub(super) const BYTES_PER_WINDOW: u64 = 10 * 1024 * 1024;

/// What the two rates above are counted over.
pub(super) const RATE_WINDOW: Duration = Duration::from_secs(60);

/// How long a stopped connection may take to say goodbye before its socket is closed.
pub(super) const FAREWELL: Duration = Duration::from_secs(1);

/// How long the listener rests after an `accept` that failed: the usual cause is too many open files.
pub(super) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Bootstrap connections at once, in total: enrolment is rare, and each may wait for an operator.
pub(super) const BOOTSTRAPS: usize = 256;

/// Bootstrap connections at once from one address.
pub(super) const BOOTSTRAPS_PER_ADDRESS: usize = 8;

/// Bootstrap connections one address may open in `RATE_WINDOW`: a guess at a 128-bit secret costs one.
pub(super) const BOOTSTRAPS_PER_WINDOW: u32 = 30;

/// Addresses whose bootstrap rate is remembered; past it strangers wait for the window to end.
pub(super) const BOOTSTRAP_ADDRESSES: usize = 10_000;

/// How long a bootstrap connection lives: connect, subscribe, ask, answer.
pub(super) const BOOTSTRAP_LIFETIME: Duration = Duration::from_secs(30);
