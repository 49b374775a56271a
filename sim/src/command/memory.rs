//! How much memory the process has, where the system says so.

/// Resident memory of the process in bytes: now, and the most that it was.
pub(crate) fn resident() -> Option<(u64, u64)> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    Some((bytes(&status, "VmRSS:")?, bytes(&status, "VmHWM:")?))
}

/// What it had before this is forgotten, where the system can.
pub(crate) fn forget_most() {
    // Where it cannot, the most of all is told.
    let _forgotten = std::fs::write("/proc/self/clear_refs", "5");
}

fn bytes(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kilobytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read() {
        let status = "Name:\tsim\nVmHWM:\t    2048 kB\nVmRSS:\t       3 kB\n";
        assert_eq!((bytes(status, "VmRSS:"), bytes(status, "VmHWM:")), (Some(3072), Some(2 * 1024 * 1024)));
        assert_eq!(bytes(status, "VmSwap:"), None);
        let (now, most) = resident().unwrap();
        assert!(now > 0 && most >= now);
    }
}
