//! The only source of chance on the command line.

use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

/// The operating system gave no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("the operating system gives no random bytes; nothing was made")]
pub struct NoRandomness;

/// `N` secret bytes from the operating system.
pub fn secret<const N: usize>() -> Result<Zeroizing<[u8; N]>, NoRandomness> {
    let mut bytes = Zeroizing::new([0; N]);
    SystemRandom::new().fill(bytes.as_mut_slice()).map_err(|_| NoRandomness)?;
    Ok(bytes)
}
