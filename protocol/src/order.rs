//! The order in which desired states are believed: (epoch, seq) never goes back.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{ids::Digest, limits, planted::Bug};

/// Raised only by a root document; a new epoch starts sequence numbers anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u32);

/// A desired state's place: compared by epoch, then by sequence number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// The root's epoch.
    pub epoch: Epoch,
    /// Counts up within it.
    pub seq: u64,
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch.0, self.seq)
    }
}

/// What an agent holds: a desired state's place and the digest of its envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Its place.
    pub order: Order,
    /// Its bytes.
    pub digest: Digest,
}

/// A document that is in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Newer than what is held.
    New {
        /// It follows directly on what is held but names another predecessor: believed, and an alarm.
        broken_chain: bool,
    },
    /// What is held already.
    Same,
}

/// A document that is out of order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// Older than what is held.
    #[error("{incoming} is older than {held}, which is held")]
    Older {
        /// Its place.
        incoming: Order,
        /// What is held.
        held: Order,
    },
    /// The same place with other bytes: two desired states were signed for it.
    #[error("another document was signed for {order}")]
    Equivocation {
        /// The place.
        order: Order,
    },
    /// Not of the root's epoch.
    #[error("epoch {} is not the root's epoch {}", incoming.0, root.0)]
    Epoch {
        /// Its epoch.
        incoming: Epoch,
        /// The root's.
        root: Epoch,
    },
    /// Too far ahead.
    #[error("{incoming} is more than {} steps after {held}", limits::SEQ_STEP)]
    Leap {
        /// Its place.
        incoming: Order,
        /// What is held.
        held: Order,
    },
}

/// Decides whether a document at `incoming` with `digest` may follow on what is held.
pub fn admit(
    held: Option<Held>,
    root_epoch: Epoch,
    incoming: Held,
    prev: Option<Digest>,
) -> Result<Admission, OrderError> {
    let order = incoming.order;
    if order.epoch != root_epoch {
        return Err(OrderError::Epoch { incoming: order.epoch, root: root_epoch });
    }
    let start = Order { epoch: root_epoch, seq: 0 };
    let last = held.map_or(start, |held| held.order);
    // A new epoch starts anew, so its first step is measured from zero.
    let base = if last.epoch == order.epoch { last } else { start };
    match held {
        Some(held) if held.order == order && held.digest == incoming.digest => return Ok(Admission::Same),
        Some(held) if held.order == order && !Bug::SamePlaceIsNews.is_planted() => {
            return Err(OrderError::Equivocation { order });
        }
        Some(held) if held.order > order && !Bug::OlderIsNews.is_planted() => {
            return Err(OrderError::Older { incoming: order, held: held.order });
        }
        Some(_) | None => {}
    }
    if order.seq.saturating_sub(base.seq) > limits::SEQ_STEP {
        return Err(OrderError::Leap { incoming: order, held: base });
    }
    let follows = held.filter(|held| held.order.epoch == order.epoch && held.order.seq + 1 == order.seq);
    Ok(Admission::New { broken_chain: follows.is_some_and(|held| prev != Some(held.digest)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(epoch: u32, seq: u64, content: u8) -> Held {
        Held { order: Order { epoch: Epoch(epoch), seq }, digest: Digest::new([content; 32]) }
    }

    #[test]
    fn only_forward_and_one_content_for_each_place() {
        let new = Ok(Admission::New { broken_chain: false });
        let broken = Ok(Admission::New { broken_chain: true });
        let older = "is older than";
        let cases = [
            // held, root epoch, incoming, prev, verdict
            (None, 1, held(1, 1, 1), None, new),
            (Some(held(1, 1, 1)), 1, held(1, 2, 2), Some(1), new),
            (Some(held(1, 1, 1)), 1, held(1, 2, 2), Some(9), broken),
            (Some(held(1, 1, 1)), 1, held(1, 2, 2), None, broken),
            (Some(held(1, 1, 1)), 1, held(1, 7, 2), Some(6), new),
            (Some(held(1, 1, 1)), 1, held(1, 1, 1), None, Ok(Admission::Same)),
            (Some(held(1, 1, 1)), 1, held(1, 1, 2), None, Err("another document was signed")),
            (Some(held(1, 5, 1)), 1, held(1, 4, 2), None, Err(older)),
            (Some(held(1, 5, 1)), 2, held(1, 6, 2), None, Err("is not the root's epoch")),
            (Some(held(1, 5, 1)), 1, held(2, 6, 2), None, Err("is not the root's epoch")),
            (Some(held(1, 5, 1)), 2, held(2, 1, 2), None, new),
            (Some(held(2, 5, 1)), 2, held(2, 4, 2), None, Err(older)),
            (None, 1, held(1, limits::SEQ_STEP, 1), None, new),
            (None, 1, held(1, limits::SEQ_STEP + 1, 1), None, Err("steps after")),
            (Some(held(1, 3, 1)), 1, held(1, u64::MAX, 1), None, Err("steps after")),
            (Some(held(1, u64::MAX, 1)), 2, held(2, 1, 1), None, new),
        ];
        for (have, root, incoming, prev, expected) in cases {
            let prev = prev.map(|content| Digest::new([content; 32]));
            let found = admit(have, Epoch(root), incoming, prev);
            match (found, expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{have:?} then {incoming:?}"),
                (Err(error), Err(expected)) => assert!(error.to_string().contains(expected), "{error}"),
                (found, expected) => panic!("{have:?} then {incoming:?}: {found:?}, expected {expected:?}"),
            }
        }
    }
}
