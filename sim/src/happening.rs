//! What can happen in a fleet, and how it is told.

use std::{fmt, time::Duration};

use edge_agent::cluster::sim::Output;
use jiff::Timestamp;
use protocol::topics::{Downward, Upward};

use crate::hub::wall;

/// A rule that was broken.
#[derive(Debug)]
pub struct Violation {
    /// When, since the beginning.
    pub at: Duration,
    /// What is wrong.
    pub what: String,
    /// What happened last where it is wrong.
    pub last: Vec<String>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.last.iter().try_for_each(|line| writeln!(f, "  {line}"))?;
        write!(f, "{}: {}", instant(self.at), self.what)
    }
}

/// What happens.
#[derive(Debug)]
pub(crate) enum What {
    HubTick,
    HubTurn,
    ToHub { site: usize, connection: u64, topic: Upward, bytes: Vec<u8> },
    ToSite { site: usize, connection: u64, topic: Downward, bytes: Vec<u8> },
    Timer { site: usize },
    Kube { site: usize, output: Box<Output> },
    Dial { site: usize },
    Unnoticed { site: usize, connection: u64 },
    Cut { site: usize },
    Mended { site: usize },
    Crash { site: usize },
    Boot { site: usize },
    Edit { site: usize },
    Flooded { site: usize },
    KeyStolen { site: usize },
    Machine { site: usize, what: Machine },
    RegionCut,
    Change,
    HubEnds,
    HubStarts,
    HubClock { right: bool },
    BackUp,
    HubLost,
    Accepted,
}

/// What happens to the machine of a site.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Machine {
    DiskFills,
    DiskHasRoom,
    FlushFails,
    OldDisk,
    JournalLost,
    ClockWrong,
    ClockRight,
    PowerSaved,
    WindowOpens,
    WindowCloses,
    PeopleLook,
    LinkSlow,
    LinkFast,
    NamespaceStuck,
    NamespaceFreed,
    NamespaceMade,
    ClusterRestored,
    Cloned,
    CloneEnds,
}

impl Machine {
    fn name(self) -> &'static str {
        match self {
            Self::DiskFills => "disk-fills",
            Self::DiskHasRoom => "disk-has-room",
            Self::FlushFails => "flush-fails",
            Self::OldDisk => "old-disk",
            Self::JournalLost => "journal-lost",
            Self::ClockWrong => "clock-wrong",
            Self::ClockRight => "clock-right",
            Self::PowerSaved => "power-saved",
            Self::WindowOpens => "window-opens",
            Self::WindowCloses => "window-closes",
            Self::PeopleLook => "people-look",
            Self::LinkSlow => "link-slow",
            Self::LinkFast => "link-fast",
            Self::NamespaceStuck => "namespace-stuck",
            Self::NamespaceFreed => "namespace-freed",
            Self::NamespaceMade => "namespace-made",
            Self::ClusterRestored => "cluster-restored",
            Self::Cloned => "cloned",
            Self::CloneEnds => "clone-ends",
        }
    }
}

impl What {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::HubTick => "hub-tick",
            Self::HubTurn => "hub-turn",
            Self::ToHub { .. } => "to-hub",
            Self::ToSite { .. } => "to-site",
            Self::Timer { .. } => "timer",
            Self::Kube { .. } => "kube",
            Self::Dial { .. } => "dial",
            Self::Unnoticed { .. } => "unnoticed",
            Self::Cut { .. } => "cut",
            Self::Mended { .. } => "mended",
            Self::Crash { .. } => "crash",
            Self::Boot { .. } => "boot",
            Self::Edit { .. } => "edit",
            Self::Flooded { .. } => "flooded",
            Self::KeyStolen { .. } => "key-stolen",
            Self::Machine { what, .. } => what.name(),
            Self::RegionCut => "region-cut",
            Self::HubClock { right: true } => "hub-clock-right",
            Self::HubClock { right: false } => "hub-clock-wrong",
            Self::Change => "change",
            Self::HubEnds => "hub-ends",
            Self::HubStarts => "hub-starts",
            Self::BackUp => "back-up",
            Self::HubLost => "hub-lost",
            Self::Accepted => "accepted",
        }
    }

    pub(crate) fn site(&self) -> Option<usize> {
        match self {
            Self::ToHub { site, .. }
            | Self::ToSite { site, .. }
            | Self::Timer { site }
            | Self::Kube { site, .. }
            | Self::Dial { site }
            | Self::Unnoticed { site, .. }
            | Self::Cut { site }
            | Self::Machine { site, .. }
            | Self::Mended { site }
            | Self::Crash { site }
            | Self::Boot { site }
            | Self::Flooded { site }
            | Self::KeyStolen { site }
            | Self::Edit { site } => Some(*site),
            Self::HubTick
            | Self::HubTurn
            | Self::RegionCut
            | Self::Change
            | Self::HubEnds
            | Self::HubStarts
            | Self::HubClock { .. }
            | Self::BackUp
            | Self::HubLost
            | Self::Accepted => None,
        }
    }

    pub(crate) fn said(&self) -> (String, &[u8]) {
        match self {
            Self::ToHub { topic, bytes, .. } => (format!("{topic:?}"), bytes),
            Self::ToSite { topic, bytes, .. } => (format!("{topic:?}"), bytes),
            Self::HubTick
            | Self::HubTurn
            | Self::Timer { .. }
            | Self::Kube { .. }
            | Self::Dial { .. }
            | Self::Unnoticed { .. }
            | Self::Cut { .. }
            | Self::Mended { .. }
            | Self::Crash { .. }
            | Self::Boot { .. }
            | Self::Edit { .. }
            | Self::Flooded { .. }
            | Self::KeyStolen { .. }
            | Self::Machine { .. }
            | Self::RegionCut
            | Self::Change
            | Self::HubEnds
            | Self::HubStarts
            | Self::HubClock { .. }
            | Self::BackUp
            | Self::HubLost
            | Self::Accepted => (String::new(), &[]),
        }
    }
}

/// Something that happened, as it is remembered.
pub(crate) struct Recent {
    pub(crate) at: Duration,
    pub(crate) name: &'static str,
    pub(crate) site: Option<usize>,
    pub(crate) len: usize,
}

impl Recent {
    pub(crate) fn line(&self) -> String {
        let site = self.site.map_or("the hub".to_owned(), |site| format!("tower-{site:06}"));
        let bytes = if self.len > 0 { format!(" {} bytes", self.len) } else { String::new() };
        format!("{} {site} {}{bytes}", instant(self.at), self.name)
    }
}

/// A time of the simulation: `day 3, 04:05:06.789`.
pub fn instant(at: Duration) -> String {
    let seconds = at.as_secs();
    let (day, hour, minute) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    format!("day {day}, {hour:02}:{minute:02}:{:02}.{:03}", seconds % 60, at.subsec_millis())
}

/// What a right clock shows then, to the minute, in UTC: `2027-01-17 03:12`.
pub fn date(at: Duration) -> String {
    let seconds = i64::try_from(wall(at).0).unwrap_or(i64::MAX);
    let date = Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX);
    date.strftime("%Y-%m-%d %H:%M").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_as_dates() {
        assert_eq!(date(Duration::ZERO), "2027-01-15 08:00");
        assert_eq!(date(Duration::from_secs(43 * 3600 + 12 * 60)), "2027-01-17 03:12");
        assert_eq!(instant(Duration::from_millis(86_400_000 + 61_005)), "day 1, 00:01:01.005");
    }
}
