//! A release's content, compressed. The only file that knows the compression.

use std::io::{self, Read};

use protocol::limits;
use zstd::{
    bulk::Compressor,
    stream::read::Decoder,
    zstd_safe::{CParameter, DParameter},
};

/// Bundles are built once and sent to thousands of clusters over thin links.
const LEVEL: i32 = 19;

/// log2 of the window: unpacking takes this much memory on every cluster, so 1 MiB.
const WINDOW_LOG: u32 = limits::PACK_WINDOW_LOG;

/// Compressed content that does not unpack to what it should be.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// Not one Zstandard frame with a small window.
    #[error("the content is not one Zstandard frame with a window of at most 1 MiB")]
    Malformed(#[source] io::Error),
    /// More or less than was signed.
    #[error("the content does not unpack to the {expected} bytes that the release states")]
    Length {
        /// The length it should have.
        expected: u64,
    },
    /// Something follows on the content.
    #[error("{0} bytes follow on the compressed content")]
    Trailing(usize),
}

/// Compresses content into one Zstandard frame (RFC 8878).
pub fn compress(content: &[u8]) -> io::Result<Vec<u8>> {
    let mut compressor = Compressor::new(LEVEL)?;
    compressor.set_parameter(CParameter::WindowLog(WINDOW_LOG))?;
    compressor.set_parameter(CParameter::ChecksumFlag(false))?;
    compressor.compress(content)
}

/// Unpacks what [`compress`] made, refusing to write more than `len` bytes.
pub fn unpack(compressed: &[u8], len: u64) -> Result<Vec<u8>, PackError> {
    let expected = len.min(limits::PACK_BYTES);
    let mut decoder = Decoder::with_buffer(compressed).map_err(PackError::Malformed)?.single_frame();
    decoder.set_parameter(DParameter::WindowLogMax(WINDOW_LOG)).map_err(PackError::Malformed)?;
    let mut content = Vec::new();
    decoder.by_ref().take(expected + 1).read_to_end(&mut content).map_err(PackError::Malformed)?;
    if content.len() as u64 != len {
        return Err(PackError::Length { expected: len });
    }
    match decoder.get_ref().len() {
        0 => Ok(content),
        trailing => Err(PackError::Trailing(trailing)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(len: usize) -> Vec<u8> {
        let mut state = 1_u64;
        let mut step = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as u8
        };
        (0..len).map(|_| step()).collect()
    }

    #[test]
    fn content_comes_back() {
        for content in [vec![], b"{}".to_vec(), noise(3 << 20), vec![7; 3 << 20]] {
            let compressed = compress(&content).unwrap();
            assert!(unpack(&compressed, content.len() as u64).unwrap() == content);
        }
    }

    #[test]
    fn anything_but_the_stated_content_is_refused() {
        let content = vec![7_u8; 4 << 20];
        let good = compress(&content).unwrap();
        let len = content.len() as u64;
        assert!(good.len() < 1024, "a bomb for this test");
        let two = [good.clone(), good.clone()].concat();
        let wide = {
            let mut compressor = Compressor::new(1).unwrap();
            compressor.set_parameter(CParameter::WindowLog(WINDOW_LOG + 2)).unwrap();
            compressor.compress(&noise(8 << 20)).unwrap()
        };
        let cases: [(&str, &[u8], u64, &str); 6] = [
            ("longer than stated", &good, len - 1, "does not unpack to"),
            ("shorter than stated", &good, len + 1, "does not unpack to"),
            ("cut", &good[..good.len() - 3], len, "not one Zstandard frame"),
            ("two frames", &two, len, "bytes follow"),
            ("too wide a window", &wide, 8 << 20, "not one Zstandard frame"),
            ("not compressed", b"{}{}", 4, "not one Zstandard frame"),
        ];
        for (why, compressed, len, expected) in cases {
            let error = unpack(compressed, len).unwrap_err().to_string();
            assert!(error.contains(expected), "{why}: {error}");
        }
    }
}
