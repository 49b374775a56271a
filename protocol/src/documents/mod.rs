//! Every document that travels, what it says, and the checks on its content that need no other document.

mod blob;
mod downward;
mod kinds;
pub(crate) mod pointer;
mod release;
mod root;
mod upward;

use serde::{Serialize, de::DeserializeOwned};

pub use blob::{Chunk, ChunkError, Encoding};
pub use downward::{Ack, Acks, CarryHead, Desired, DesiredRelease, Head, Mode, ObjectRule, Permit};
pub use release::{
    Adopt, Ceilings, IgnoreRule, ObjectEntry, ObjectName, Parameter, ParameterTarget, ParameterType, Release,
    SecretSlot,
};
pub use root::{NamespacePattern, ReleaseRole, Role, Root};
pub use upward::{
    AppReport, AppState, Condition, ConditionStatus, Counts, Drift, Hello, ObjectMessage, Preview, Rejection,
    ReleaseRef, Report, Want,
};

/// Since this version of the documents, a desired state may have releases that are only looked at: see [`Mode`].
pub const OBSERVING: u16 = 2;

/// Versions of the documents that this program reads, as its [`Hello`] says.
pub const VERSIONS: [u16; 3] = [1, OBSERVING, WITH_ACKS_TOGETHER];

/// Since this version an acknowledgement may come signed together with others, as [`crate::together`] has it.
pub const WITH_ACKS_TOGETHER: u16 = 3;

/// What a document is. The name is signed with it, so none can pass for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DocumentType {
    /// Who may sign what.
    Root,
    /// What an application consists of.
    Release,
    /// What one cluster shall run.
    Desired,
    /// Which desired state is the newest, and until when that may be believed.
    Head,
    /// Which reports the hub has.
    Ack,
    /// Which reports the hub has of many clusters.
    Acks,
    /// A head carried by hand.
    CarryHead,
    /// What an agent holds, on connecting.
    Hello,
    /// What content an agent asks for.
    Want,
    /// How a cluster is.
    Report,
}

impl DocumentType {
    /// Every type.
    pub const ALL: [Self; 10] = [
        Self::Root,
        Self::Release,
        Self::Desired,
        Self::Head,
        Self::Ack,
        Self::Acks,
        Self::CarryHead,
        Self::Hello,
        Self::Want,
        Self::Report,
    ];

    /// The type as it stands in a signature's header.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Root => "ef/root",
            Self::Release => "ef/release",
            Self::Desired => "ef/desired",
            Self::Head => "ef/head",
            Self::Ack => "ef/ack",
            Self::Acks => "ef/acks",
            Self::CarryHead => "ef/carry-head",
            Self::Hello => "ef/hello",
            Self::Want => "ef/want",
            Self::Report => "ef/report",
        }
    }
}

/// A document that says something it must not, although it decodes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct ContentError {
    /// Which part is wrong.
    pub field: String,
    /// What is wrong with it, and what would be right.
    pub problem: String,
}

impl ContentError {
    pub(crate) fn new(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { field: field.into(), problem: problem.into() }
    }
}

/// What can be signed and verified.
pub trait Document: Serialize + DeserializeOwned {
    /// Its type.
    const TYPE: DocumentType;

    /// Largest size of its envelope in bytes.
    const LIMIT: usize = crate::limits::DOCUMENT_BYTES;

    /// Whether other documents name it, by the digest of its envelope.
    const IS_NAMED: bool = false;

    /// Checks what can be checked without any other document.
    fn check(&self) -> Result<(), ContentError>;
}

/// Refuses a list that is longer than its limit.
pub(crate) fn at_most<T>(field: &str, list: &[T], limit: usize) -> Result<(), ContentError> {
    if list.len() <= limit {
        return Ok(());
    }
    Err(ContentError::new(field, format!("{} entries, at most {limit} are allowed", list.len())))
}

/// Refuses a text that is longer than its limit.
pub(crate) fn short(field: &str, text: &str, limit: usize) -> Result<(), ContentError> {
    if text.len() <= limit {
        return Ok(());
    }
    Err(ContentError::new(field, format!("{} bytes of text, at most {limit} are allowed", text.len())))
}

/// Entries of a list up to which each is compared with each: that takes less time than memory to sort them in.
const FEW: usize = 8;

/// Refuses a list in which something stands twice.
pub(crate) fn unique<T: Ord>(
    field: &str,
    items: impl Iterator<Item = T> + Clone,
) -> Result<(), ContentError> {
    let twice = if items.clone().take(FEW + 1).count() <= FEW {
        items.clone().enumerate().any(|(place, item)| items.clone().take(place).any(|before| before == item))
    } else {
        let mut sorted: Vec<T> = items.collect();
        sorted.sort();
        sorted.windows(2).any(|pair| pair[0] == pair[1])
    };
    if twice { Err(ContentError::new(field, "an entry stands twice")) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_twice_is_found_in_lists_of_any_length() {
        for len in 0..3 * FEW {
            let mut items: Vec<usize> = (0..len).rev().collect();
            assert!(unique("numbers", items.iter()).is_ok(), "{len} different ones");
            for place in 0..len {
                items.push(items[place]);
                assert!(unique("numbers", items.iter()).is_err(), "{place} of {len} twice");
                items.pop();
            }
        }
    }
}
