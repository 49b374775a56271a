//! Many acknowledgements under one signature: a hash tree over them, and the way from one of them to its root.
//!
//! What is signed is the root alone. An acknowledgement is believed when it, and what stands beside the way from it to
//! the root, add up to a signed root; so nobody can make another one fit, nor the same one at another place. Leaves and
//! inner nodes are hashed apart, as in RFC 9162, section 2.1. Unlike there every way is as long as the others: places
//! that are left over hold a digest of nothing that could be an acknowledgement.

use serde::{Deserialize, Serialize};
use serde_bytes::Bytes;

use crate::{
    codec::{self, DecodeError},
    ids::{Digest, Hasher},
    limits,
};

/// Before a leaf.
const LEAF: [u8; 1] = [0];

/// Before an inner node.
const NODE: [u8; 1] = [1];

/// At a place that is left over.
const NOTHING: Digest = Digest::new([0; Digest::LEN]);

/// The first byte of [`Together`], a map of four. An envelope is an array.
const MAP_OF_FOUR: u8 = 0xa4;

/// Room for what stands between the parts of a message.
const ROOM: usize = 32;

/// One acknowledgement of those that were signed together, with what shows that it is one of them.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Together<'a> {
    /// The envelope of what was signed.
    #[serde(borrow)]
    acks: &'a Bytes,
    /// The acknowledgement, as it would stand in an envelope of its own.
    #[serde(borrow)]
    ack: &'a Bytes,
    /// Its place among them.
    place: u32,
    /// What stands beside the way to the root, from the leaf up.
    #[serde(borrow)]
    beside: &'a Bytes,
}

/// A hash tree over acknowledgements.
#[derive(Debug)]
pub struct Tree {
    /// From the leaves up to the root, which stands alone in the last.
    levels: Vec<Vec<Digest>>,
}

impl<'a> Together<'a> {
    /// Whether this is meant to be an acknowledgement that was signed together with others.
    pub fn is_meant(bytes: &[u8]) -> bool {
        bytes.first() == Some(&MAP_OF_FOUR)
    }

    /// Reads the shape. Nothing in it is believed yet.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        codec::decode("acknowledgements", bytes)
    }

    /// The envelope of what was signed.
    pub fn acks(&self) -> &'a [u8] {
        self.acks
    }

    /// What it claims to acknowledge, if it is one of those with this root.
    pub fn among(&self, root: Digest) -> Option<&'a [u8]> {
        let (beside, rest) = self.beside.as_chunks::<{ Digest::LEN }>();
        let is_way = rest.is_empty() && beside.len() <= limits::ACKS_TOGETHER.ilog2() as usize;
        if !is_way || self.place >> beside.len() != 0 {
            return None;
        }
        let mut node = leaf(self.ack);
        for (height, beside) in beside.iter().enumerate() {
            let beside = Digest::new(*beside);
            let is_right = self.place >> height & 1 == 1;
            node = if is_right { parent(&beside, &node) } else { parent(&node, &beside) };
        }
        (node == root).then_some(&**self.ack)
    }
}

impl Tree {
    /// The tree over at most [`limits::ACKS_TOGETHER`] acknowledgements, in their order.
    pub fn new<'a>(acks: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut level: Vec<Digest> = acks.into_iter().take(limits::ACKS_TOGETHER).map(leaf).collect();
        level.resize(level.len().next_power_of_two(), NOTHING);
        let mut levels = vec![level];
        while let Some(below) = levels.last().filter(|level| level.len() > 1) {
            let above = below.as_chunks::<2>().0.iter().map(|[left, right]| parent(left, right)).collect();
            levels.push(above);
        }
        Self { levels }
    }

    /// What is to be signed.
    pub fn root(&self) -> Digest {
        self.levels.last().and_then(|level| level.first()).copied().unwrap_or(NOTHING)
    }

    /// The message for the acknowledgement at a place, where `acks` is the envelope of the root.
    pub fn message(&self, acks: &[u8], ack: &[u8], place: usize) -> Vec<u8> {
        let below_root = self.levels.iter().take(self.levels.len() - 1).enumerate();
        let beside = below_root.filter_map(|(height, level)| level.get(place >> height ^ 1));
        let beside: Vec<[u8; Digest::LEN]> = beside.map(|digest| *digest.as_bytes()).collect();
        let beside = beside.as_flattened();
        let mut message = Vec::with_capacity(acks.len() + ack.len() + beside.len() + ROOM);
        let [acks, ack, beside] = [acks, ack, beside].map(Bytes::new);
        let place = u32::try_from(place).unwrap_or(u32::MAX);
        codec::encode_into(&mut message, &Together { acks, ack, place, beside });
        message
    }
}

fn leaf(ack: &[u8]) -> Digest {
    digest_of(&LEAF, ack, &[])
}

fn parent(left: &Digest, right: &Digest) -> Digest {
    digest_of(&NODE, left.as_bytes(), right.as_bytes())
}

fn digest_of(kind: &[u8; 1], first: &[u8], second: &[u8]) -> Digest {
    let mut hasher = Hasher::new();
    [kind, first, second].into_iter().for_each(|bytes| hasher.update(bytes));
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_among_them_at_its_place_and_nowhere_else() {
        for count in [1, 2, 3, 5, 8, 255, 256] {
            let acks: Vec<Vec<u8>> = (0..count).map(|number| codec::encode(&number)).collect();
            let tree = Tree::new(acks.iter().map(Vec::as_slice));
            for (place, ack) in acks.iter().enumerate() {
                let message = tree.message(b"signed", ack, place);
                let together = Together::parse(&message).unwrap();
                assert_eq!(together.among(tree.root()), Some(ack.as_slice()), "{place} of {count}");
                assert_eq!(together.acks(), b"signed");
                for other in [place + 1, place ^ 1, place + 256].into_iter().filter(|other| *other != place) {
                    let moved = Together { place: u32::try_from(other).unwrap(), ..together };
                    assert_eq!(moved.among(tree.root()), None, "{place} of {count} at {other}");
                }
            }
        }
    }

    #[test]
    fn a_node_is_no_leaf_and_a_longer_way_is_none() {
        let acks: Vec<Vec<u8>> = (0..4).map(|number| codec::encode(&number)).collect();
        let tree = Tree::new(acks.iter().map(Vec::as_slice));
        let [left, right] = [&tree.levels[0][0], &tree.levels[0][1]];
        let pair = [left.as_bytes().as_slice(), right.as_bytes()].concat();
        let way = |ack: &[u8], beside: &[u8]| {
            let together = Together {
                acks: Bytes::new(b""),
                ack: Bytes::new(ack),
                place: 0,
                beside: Bytes::new(beside),
            };
            together.among(tree.root()).is_some()
        };
        let beside = [right.as_bytes().as_slice(), tree.levels[1][1].as_bytes()].concat();
        assert!(way(&acks[0], &beside));
        assert!(!way(&pair, tree.levels[1][1].as_bytes()), "two leaves as one");
        assert!(!way(&acks[0], &beside[..63]), "half a digest");
        assert!(!way(&acks[0], &[0; 32 * 9]), "longer than any tree is high");
        assert!(!way(&acks[0], &[]), "no way at all");
    }
}
