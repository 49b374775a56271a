//! What Linux says about a process, in bytes (proc(5)).

use anyhow::{Context as _, Result, ensure};

/// What a process takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Memory {
    /// In memory now, with the pages of its program that it has used.
    pub(crate) resident: u64,
    /// In memory now and nobody else's; with one agent, its program is.
    pub(crate) private: u64,
    /// What of that is in no file: heap, stack and variables.
    pub(crate) anonymous: u64,
    /// The most that was in memory since the peak was last reset.
    pub(crate) peak: u64,
    /// Its threads.
    pub(crate) threads: u64,
}

impl Memory {
    /// From the text of `/proc/PID/status` and of `/proc/PID/smaps_rollup`.
    pub(crate) fn parse(status: &str, smaps_rollup: &str) -> Result<Self> {
        Ok(Self {
            resident: bytes(status, "VmRSS")?,
            private: bytes(smaps_rollup, "Private_Clean")? + bytes(smaps_rollup, "Private_Dirty")?,
            anonymous: bytes(status, "RssAnon")?,
            peak: bytes(status, "VmHWM")?,
            threads: number(field(status, "Threads")?)?,
        })
    }
}

/// A field in kB, which here are 1024 bytes.
fn bytes(text: &str, name: &str) -> Result<u64> {
    let value = field(text, name)?;
    let (kibibytes, unit) = value.split_once(' ').unwrap_or((value, ""));
    ensure!(unit == "kB", "{name} is {value:?}, expected a number of kB");
    number(kibibytes)?.checked_mul(1024).with_context(|| format!("{name} is {value:?}"))
}

fn field<'a>(text: &'a str, name: &str) -> Result<&'a str> {
    let mut values = text.lines().filter_map(|line| line.split_once(':'));
    let found = values.find(|(key, _)| *key == name);
    // A zombie has none of its memory left.
    Ok(found.with_context(|| format!("there is no {name}: has the process ended?"))?.1.trim())
}

fn number(text: &str) -> Result<u64> {
    text.parse().with_context(|| format!("{text:?} is not a number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tedge-agent\nState:\tS (sleeping)\nVmHWM:\t    5520 kB\nVmRSS:\t    3296 kB\n\
                          RssAnon:\t     444 kB\nThreads:\t1\n";
    const ROLLUP: &str = "00400000-7ffd5a1f3000 ---p 00000000 00:00 0      [rollup]\nRss:                3296 kB\n\
                          Pss_Dirty:           444 kB\nPrivate_Clean:      2848 kB\nPrivate_Dirty:       444 kB\n";

    #[test]
    fn figures_are_in_bytes() {
        let expected = Memory {
            resident: 3296 << 10,
            private: (2848 + 444) << 10,
            anonymous: 444 << 10,
            peak: 5520 << 10,
            threads: 1,
        };
        assert_eq!(Memory::parse(STATUS, ROLLUP).unwrap(), expected);
    }

    #[test]
    fn what_is_missing_or_odd_is_named() {
        let cases = [
            ("VmRSS:\t    3296 kB\n", "", "there is no VmRSS: has the process ended?"),
            ("3296 kB", "3296 MB", "VmRSS is \"3296 MB\", expected a number of kB"),
            ("3296 kB", "3296", "VmRSS is \"3296\", expected a number of kB"),
            ("3296 kB", "-1 kB", "\"-1\" is not a number"),
            ("3296 kB", "18446744073709551615 kB", "VmRSS is \"18446744073709551615 kB\""),
            ("Threads:\t1", "Threads:\tone", "\"one\" is not a number"),
        ];
        for (from, to, expected) in cases {
            let error = Memory::parse(&STATUS.replace(from, to), ROLLUP).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
    }
}
