//! Pieces of content. They are not signed: what they add up to is checked against a signed digest.

use serde::{Deserialize, Serialize};

use crate::{
    codec::{self, DecodeError},
    ids::Digest,
    limits,
};

/// How content travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Encoding {
    /// As it is.
    Plain,
    /// One Zstandard frame (RFC 8878).
    Zstd,
    /// One Zstandard frame with the base as its dictionary. Decided place; nothing is encoded so yet.
    ZstdDelta,
}

/// One piece of some content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Chunk {
    /// Digest of the plain content.
    pub target: Digest,
    /// How it is encoded.
    pub encoding: Encoding,
    /// Length of the whole encoded content.
    pub total: u64,
    /// Where this piece starts in it.
    pub offset: u64,
    /// The piece. Empty with a `total` of zero says that the hub has no such content.
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
}

/// A piece that is not one.
#[derive(Debug, thiserror::Error)]
pub enum ChunkError {
    /// It does not decode.
    #[error("a piece of content is malformed")]
    Decode(#[source] DecodeError),
    /// It is larger than a piece may be, or reaches beyond the content's end.
    #[error("a piece of {len} bytes at {offset} does not fit content of {total} bytes")]
    Bounds {
        /// Where it starts.
        offset: u64,
        /// Its length.
        len: usize,
        /// The content's length.
        total: u64,
    },
}

impl Chunk {
    /// Encodes it for the wire.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Decodes it from the wire, within its limits.
    pub fn decode(bytes: &[u8]) -> Result<Self, ChunkError> {
        let chunk: Self = codec::decode("chunk", bytes).map_err(ChunkError::Decode)?;
        let len = chunk.bytes.len();
        let end = chunk.offset.checked_add(len as u64);
        if len <= limits::CHUNK_BYTES && end.is_some_and(|end| end <= chunk.total) {
            return Ok(chunk);
        }
        Err(ChunkError::Bounds { offset: chunk.offset, len, total: chunk.total })
    }
}
