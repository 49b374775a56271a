//! The only place in the hub's API that rolls dice.

use ring::rand::{SecureRandom, SystemRandom};

/// `N` bytes that nobody can guess.
///
/// # Panics
/// When the operating system has no randomness to give: nothing sensible can be done without.
pub(crate) fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).expect("the operating system gives random bytes");
    bytes
}

/// A random UUID (RFC 9562, version 4).
pub(crate) fn uid() -> String {
    let mut bytes = bytes::<16>();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = hex::encode(bytes);
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}
