//! When a process has nothing to do any more.

use std::time::Duration;

use super::procfs::Memory;

/// How long nothing may change. Longer than the ten seconds for which tokio keeps the thread of a name look-up,
/// whose end is then a change.
const UNCHANGED: Duration = Duration::from_secs(12);

/// Looks at the figures of one process, one after another.
#[derive(Debug, Default)]
pub(crate) struct Settling {
    last: Option<(Duration, Memory)>,
}

impl Settling {
    /// Takes in one look at a monotonic time. True when nothing has changed for long enough.
    pub(crate) fn look(&mut self, now: Duration, memory: Memory) -> bool {
        match self.last {
            Some((since, last)) if last == memory => now.saturating_sub(since) >= UNCHANGED,
            Some(_) | None => {
                self.last = Some((now, memory));
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn has_settled_when_nothing_changed_for_long_enough() {
        let memory = |resident, threads| Memory { resident, private: 1, anonymous: 1, peak: 9, threads };
        let looks = [
            (0, memory(5, 2), false),
            (11, memory(5, 2), false),
            (12, memory(5, 1), false),
            (20, memory(6, 1), false),
            (31, memory(6, 1), false),
            (32, memory(6, 1), true),
            (33, memory(5, 1), false),
        ];
        let mut settling = Settling::default();
        for (second, memory, expected) in looks {
            assert_eq!(settling.look(Duration::from_secs(second), memory), expected, "at {second} s");
        }
    }
}
