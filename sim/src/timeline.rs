//! How a run went over time: a look at the fleet now and then, as people see it.

use std::time::Duration;

use fleet_broker::resources::AssignmentState;
use protocol::ids::ClusterId;

use crate::{hub::Hub, report::Traffic};

/// Looks in a run: more than a plot is wide would not be seen.
const LOOKS: u32 = 240;

/// How a cluster is, as people see it; what matters more is greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    UpToDate,
    OnTheWay,
    Failed,
}

impl Standing {
    fn of(state: AssignmentState) -> Self {
        match state {
            AssignmentState::Updated | AssignmentState::Observed => Self::UpToDate,
            AssignmentState::Pending
            | AssignmentState::Applying
            | AssignmentState::Deferred
            | AssignmentState::Removing => Self::OnTheWay,
            AssignmentState::Failed | AssignmentState::Rejected => Self::Failed,
        }
    }
}

/// How many clusters are in which state. Of one with several applications the worst counts.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// They are connected and run what they should.
    pub up_to_date: u32,
    /// They are connected and do not yet.
    pub on_the_way: u32,
    /// Their connections are down, whatever was known of them last.
    pub offline: u32,
    /// They are connected and said that they cannot.
    pub failed: u32,
}

/// One look at the fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// When, since the beginning.
    pub at: Duration,
    /// How its clusters are.
    pub tally: Tally,
    /// What they said since the beginning.
    pub up: Traffic,
    /// What was said to them.
    pub down: Traffic,
}

/// The looks of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeline {
    clusters: usize,
    every: Duration,
    /// When the next is due.
    due: Duration,
    looks: Vec<Look>,
}

impl Timeline {
    /// That of a run of so many clusters until `end`.
    pub fn new(clusters: usize, end: Duration) -> Self {
        let every = (end / LOOKS).max(Duration::from_secs(1));
        Self { clusters, every, due: Duration::ZERO, looks: Vec::new() }
    }

    /// Time goes on to `at`, and what passed until then is known: looks at the hub as often as looks are due before.
    pub fn pass(&mut self, at: Duration, hub: &Hub, up: Traffic, down: Traffic) {
        if at < self.due {
            return;
        }
        let tally = self.tally(hub);
        while self.due <= at {
            self.looks.push(Look { at: self.due, tally, up, down });
            self.due += self.every;
        }
    }

    /// The looks, in order of time.
    pub fn looks(&self) -> &[Look] {
        &self.looks
    }

    fn tally(&self, hub: &Hub) -> Tally {
        let mut worst: Vec<Option<Standing>> = vec![None; self.clusters];
        for (id, state) in hub.shown() {
            if let Some(worst) = number(id).and_then(|number| worst.get_mut(number)) {
                *worst = (*worst).max(Some(Standing::of(state)));
            }
        }
        let mut tally = Tally::default();
        for id in hub.connected() {
            match number(id).and_then(|number| worst.get(number)).copied().flatten() {
                Some(Standing::UpToDate) => tally.up_to_date += 1,
                Some(Standing::OnTheWay) | None => tally.on_the_way += 1,
                Some(Standing::Failed) => tally.failed += 1,
            }
        }
        let connected = tally.up_to_date + tally.on_the_way + tally.failed;
        tally.offline = u32::try_from(self.clusters).unwrap_or(u32::MAX).saturating_sub(connected);
        tally
    }
}

fn number(id: &ClusterId) -> Option<usize> {
    id.as_str().rsplit_once('-')?.1.parse().ok()
}
