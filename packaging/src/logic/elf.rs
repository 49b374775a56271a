//! As much of an ELF file as tells for which machine it is, and that it needs nothing else to run.

use anyhow::{Context as _, Result, bail, ensure};

/// A segment that names the program which loads shared libraries.
const PT_INTERP: u32 = 3;

/// A machine that the agent is released for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Machine {
    /// 64-bit ARM.
    Aarch64,
    /// 64-bit x86.
    X86_64,
}

impl Machine {
    /// The target as Rust calls it.
    pub(crate) fn target(self) -> &'static str {
        match self {
            Self::Aarch64 => "aarch64-unknown-linux-musl",
            Self::X86_64 => "x86_64-unknown-linux-musl",
        }
    }

    fn number(self) -> u16 {
        match self {
            Self::Aarch64 => 183,
            Self::X86_64 => 62,
        }
    }
}

/// Checks that a file is a program for `machine` which loads no library.
pub(crate) fn check_static(file: &[u8], machine: Machine) -> Result<()> {
    // 64 bits, little-endian, version 1.
    ensure!(file.starts_with(b"\x7fELF\x02\x01\x01"), "it is not a 64-bit ELF file");
    let found = u16::from_le_bytes(read(file, 18)?);
    ensure!(found == machine.number(), "it is for machine {found}, not for {machine:?}");
    let table = u64::from_le_bytes(read(file, 32)?);
    let size = u16::from_le_bytes(read(file, 54)?);
    let count = u16::from_le_bytes(read(file, 56)?);
    for index in 0..u64::from(count) {
        let at = index.checked_mul(u64::from(size)).and_then(|offset| table.checked_add(offset));
        let at = at.and_then(|at| usize::try_from(at).ok()).context("its segments lie outside it")?;
        if u32::from_le_bytes(read(file, at)?) == PT_INTERP {
            bail!("it loads shared libraries");
        }
    }
    Ok(())
}

fn read<const N: usize>(file: &[u8], at: usize) -> Result<[u8; N]> {
    let bytes = file.get(at..).and_then(|rest| rest.first_chunk());
    bytes.copied().context("it is cut short")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file with nothing but its head and the types of its segments.
    fn file(machine: u16, segments: &[u32]) -> Vec<u8> {
        let mut file = b"\x7fELF\x02\x01\x01".to_vec();
        file.resize(64, 0);
        file[18..20].copy_from_slice(&machine.to_le_bytes());
        file[32..40].copy_from_slice(&64_u64.to_le_bytes());
        file[54..56].copy_from_slice(&56_u16.to_le_bytes());
        file[56..58].copy_from_slice(&(segments.len() as u16).to_le_bytes());
        for segment in segments {
            file.extend_from_slice(&segment.to_le_bytes());
            file.resize(file.len() + 52, 0);
        }
        file
    }

    #[test]
    fn a_static_program_of_the_machine_is_good() {
        // What has to be loaded (1) and relocated (2) by itself.
        check_static(&file(183, &[1, 1, 2]), Machine::Aarch64).unwrap();
        check_static(&file(62, &[1]), Machine::X86_64).unwrap();
    }

    #[test]
    fn anything_else_is_not() {
        let mut far = file(62, &[1]);
        far[32..40].copy_from_slice(&u64::MAX.to_le_bytes());
        let short = file(62, &[1])[..65].to_vec();
        let cases = [
            (file(62, &[1]), Machine::Aarch64, "it is for machine 62, not for Aarch64"),
            (file(62, &[1, 3]), Machine::X86_64, "it loads shared libraries"),
            (b"#!/bin/sh".to_vec(), Machine::X86_64, "it is not a 64-bit ELF file"),
            (short, Machine::X86_64, "it is cut short"),
            (far, Machine::X86_64, "it is cut short"),
        ];
        for (file, machine, expected) in cases {
            assert_eq!(check_static(&file, machine).unwrap_err().to_string(), expected);
        }
    }
}
