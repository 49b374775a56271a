//! What is decided and compared: text and bytes in, values out.

pub(crate) mod budget;
pub(crate) mod elf;
pub(crate) mod manifests;
pub(crate) mod procfs;
pub(crate) mod settling;
pub(crate) mod traffic;
pub(crate) mod wire;
