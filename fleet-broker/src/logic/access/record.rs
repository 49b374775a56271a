//! What the hub keeps of a token.

use protocol::ids::Digest;
use protocol::time::UnixSeconds;
use serde::{Deserialize, Serialize};

use super::Role;

/// The name of the token in the hub's own kubeconfig, which no other has.
pub const ADMIN: &str = "admin";
/// Most tokens: people and machines of a large team. Each has a bucket and a row.
pub const TOKENS_MAX: usize = 1000;
/// Longest name, as that of a label's value.
const NAME_MAX_LEN: usize = 63;
/// How old the last use on disk may be: it is for finding tokens nobody uses, and a write for each request is not.
const LAST_USED_STEP_SECONDS: u64 = 10 * 60;

/// What the hub keeps of a token: enough to recognise it, not to use it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The SHA-256 of the secret.
    pub hash: Digest,
    /// What its bearer may.
    pub role: Role,
    /// When it was made.
    pub created: UnixSeconds,
    /// When it ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<UnixSeconds>,
    /// When it was last used, not later than a few minutes after.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_used: Option<UnixSeconds>,
}

/// A token that cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The name cannot be one.
    #[error(
        "a token's name has 1 to {NAME_MAX_LEN} of a-z, 0-9, '-' and '.', and begins and ends with a letter or digit"
    )]
    Name,
    /// The name is the hub's own token's.
    #[error("the name {ADMIN:?} is that of the token in hub.kubeconfig; take another")]
    Reserved,
}

impl Record {
    /// Whether it has ended.
    pub fn is_expired(&self, now: UnixSeconds) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }

    /// Notes a use. Whether that is worth a write.
    pub fn used(&mut self, now: UnixSeconds) -> bool {
        let due = self.last_used.is_none_or(|last| now.since(last) >= LAST_USED_STEP_SECONDS);
        if due {
            self.last_used = Some(now);
        }
        due
    }
}

/// Whether a new token may have this name.
///
/// # Errors
/// Why not.
pub fn check_name(name: &str) -> Result<(), RecordError> {
    let inner = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
    let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    let fits = bytes.len() <= NAME_MAX_LEN && bytes.iter().all(|b| inner(*b));
    match name {
        ADMIN => Err(RecordError::Reserved),
        _ if fits && edge(bytes.first()) && edge(bytes.last()) => Ok(()),
        _ => Err(RecordError::Name),
    }
}
