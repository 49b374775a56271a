//! What the agents' processes say, and what it comes to: which cluster is how far, and since when. Pure.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A time by the machine's monotonic clock, which is the same for all of its processes, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct At(pub(super) u64);

impl At {
    /// How long after `earlier` it is.
    pub(super) fn since(self, earlier: At) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

/// What a process of agents is told to do, one in a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Order {
    /// A cluster joins, and its agent runs from then on.
    Join {
        /// Its number.
        cluster: usize,
        /// Its join code.
        code: String,
    },
    /// Somebody changes an object of a cluster by hand.
    Edit {
        /// Its number.
        cluster: usize,
    },
}

/// What a process of agents says, one in a line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Said {
    /// Something happened at a cluster.
    Happened {
        /// Its number.
        cluster: usize,
        /// When.
        at: At,
        /// What.
        what: What,
    },
    /// How many reports its agents have sent so far.
    Reports(u64),
}

/// What can happen at a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum What {
    /// It begins to join.
    Asks,
    /// It has its certificate.
    Joined,
    /// Its agent is connected.
    Up,
    /// Its agent is not connected any more.
    Down,
    /// The last object of a release was applied.
    Applied {
        /// Which release.
        version: u64,
    },
    /// Somebody changed an object.
    Edited,
    /// The agent took it back.
    Healed,
    /// It goes on no more.
    Failed {
        /// Why.
        reason: String,
    },
}

/// The releases that are delivered, one after the other.
pub(super) const VERSIONS: [u64; 2] = [1, 2];

/// How far one cluster is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) asked: Option<At>,
    pub(super) joined: Option<At>,
    /// Since when it is connected, if it is.
    pub(super) up: Option<At>,
    /// When each release was applied first.
    pub(super) applied: [Option<At>; VERSIONS.len()],
    pub(super) edited: Option<At>,
    pub(super) healed: Option<At>,
}

/// How far all are.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) members: Vec<Member>,
    /// Of each process of agents, how many reports were sent.
    reports: Vec<u64>,
}

impl Tally {
    /// Nothing happened yet.
    pub(super) fn new(clusters: usize, processes: usize) -> Self {
        Self { members: vec![Member::default(); clusters], reports: vec![0; processes] }
    }

    /// Takes what a process says.
    ///
    /// # Errors
    /// With the cluster and the reason, when its agent goes on no more.
    pub(super) fn take(&mut self, process: usize, said: Said) -> Result<(), (usize, String)> {
        let (cluster, at, what) = match said {
            Said::Happened { cluster, at, what } => (cluster, at, what),
            Said::Reports(count) => {
                self.reports[process] = count;
                return Ok(());
            }
        };
        let member = &mut self.members[cluster];
        match what {
            What::Asks => member.asked = Some(at),
            What::Joined => member.joined = Some(at),
            What::Up => member.up = Some(at),
            What::Down => member.up = None,
            What::Applied { version } => {
                if let Some(index) = VERSIONS.iter().position(|known| *known == version) {
                    member.applied[index].get_or_insert(at);
                }
            }
            What::Edited => member.edited = Some(at),
            What::Healed => drop(member.healed.get_or_insert(at)),
            What::Failed { reason } => return Err((cluster, reason)),
        }
        Ok(())
    }

    /// Reports that were sent so far.
    pub(super) fn reports(&self) -> u64 {
        self.reports.iter().sum()
    }

    /// How many are so far.
    pub(super) fn count(&self, so_far: impl Fn(&Member) -> bool) -> usize {
        self.members.iter().filter(|member| so_far(member)).count()
    }

    /// The times of those that have one.
    pub(super) fn times(&self, of: impl Fn(&Member) -> Option<Duration>) -> Spread {
        Spread::of(self.members.iter().filter_map(of).collect())
    }
}

/// How times are spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spread {
    pub(super) count: usize,
    pub(super) p50: Duration,
    pub(super) p90: Duration,
    pub(super) p99: Duration,
    pub(super) longest: Duration,
}

impl Spread {
    fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        // The smallest time that so many of a hundred do not exceed.
        let part = |percent: usize| {
            let rank = (times.len() * percent).div_ceil(100).saturating_sub(1);
            times.get(rank).copied().unwrap_or_default()
        };
        Self { count: times.len(), p50: part(50), p90: part(90), p99: part(99), longest: part(100) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_spread_by_rank() {
        let check = |millis: &[u64], expected: [u64; 4]| {
            let spread = Spread::of(millis.iter().map(|millis| Duration::from_millis(*millis)).collect());
            let found = [spread.p50, spread.p90, spread.p99, spread.longest];
            assert_eq!(found, expected.map(Duration::from_millis), "{millis:?}");
        };
        check(&[], [0, 0, 0, 0]);
        check(&[7], [7, 7, 7, 7]);
        check(&[3, 1, 2], [2, 3, 3, 3]);
        check(&(1..=100).rev().collect::<Vec<_>>(), [50, 90, 99, 100]);
        check(&(1..=1000).collect::<Vec<_>>(), [500, 900, 990, 1000]);
    }

    #[test]
    fn a_cluster_is_as_far_as_it_says() {
        let mut tally = Tally::new(2, 1);
        let mut say = |cluster, at, what| tally.take(0, Said::Happened { cluster, at: At(at), what });
        say(1, 5, What::Up).unwrap();
        say(1, 9, What::Down).unwrap();
        say(0, 6, What::Up).unwrap();
        say(0, 7, What::Applied { version: 2 }).unwrap();
        say(0, 8, What::Applied { version: 2 }).unwrap();
        say(0, 8, What::Applied { version: 3 }).unwrap();
        assert_eq!(say(1, 9, What::Failed { reason: "full".into() }), Err((1, "full".into())));
        tally.take(0, Said::Reports(4)).unwrap();
        let first = Member { up: Some(At(6)), applied: [None, Some(At(7))], ..Member::default() };
        assert_eq!(tally.members, [first, Member::default()]);
        assert_eq!((tally.count(|member| member.up.is_some()), tally.reports()), (1, 4));
        let times = tally.times(|member| Some(member.up?.since(At(2))));
        assert_eq!((times.count, times.longest), (1, Duration::from_micros(4)));
    }

    #[test]
    fn what_is_said_is_one_line() {
        let said = Said::Happened { cluster: 3, at: At(17), what: What::Failed { reason: "a\nb".into() } };
        let line = serde_json::to_string(&said).unwrap();
        assert!(!line.contains('\n'));
        assert_eq!(serde_json::from_str::<Said>(&line).unwrap(), said);
    }
}
