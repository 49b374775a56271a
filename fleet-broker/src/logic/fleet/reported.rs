//! What is held of a cluster's reports: all of it in one piece, as it is stored, and beside it what is asked of it again
//! and again. Of tens of thousands of clusters, most are as they were; what they said is read when something changes.

use std::cell::OnceCell;

use protocol::{
    codec::{self, DecodeError},
    documents::{AppReport, AppState, Condition, ReleaseRef, Report},
    ids::{AppId, ClusterId, Digest, JournalId},
    limits,
    order::Order,
    time::{Now, UnixSeconds},
};
use serde::{Deserialize, Serialize};

use super::{Document, DocumentKind};

/// Former lives of a cluster's journal whose reports are known to be old. A life begins only when a disk was rolled
/// back or rebuilt.
const PAST_LIVES: usize = 8;

/// The newest report of a cluster, all applications together.
#[derive(Debug)]
pub(super) struct Reported {
    pub(super) journal: JournalId,
    /// Former lives of the journal, the latest last.
    pub(super) past: Box<[JournalId]>,
    pub(super) seq: u64,
    pub(super) order: Order,
    pub(super) clock_skew: u64,
    pub(super) at: UnixSeconds,
    /// When it was made, by the cluster's clock, if it came by hand.
    pub(super) carried: Option<UnixSeconds>,
    /// The digest of all that is held of applications, as the agent computes it: what was removed counts on neither side.
    pub(super) digest: Digest,
    apps: Box<[Brief]>,
    stored: Box<[u8]>,
}

/// How one application is, as far as it is asked again and again.
#[derive(Debug)]
pub(super) struct Brief {
    pub(super) app: AppId,
    pub(super) state: AppState,
    pub(super) accepted: Option<Digest>,
    pub(super) applied: Option<Digest>,
    pub(super) rejected: Option<Digest>,
}

/// All that is held, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Said {
    journal: JournalId,
    past: Vec<JournalId>,
    seq: u64,
    order: Order,
    pub(super) apps: Vec<AppReport>,
    pub(super) conditions: Vec<Condition>,
    clock_skew: u64,
    pub(super) kubernetes: String,
    pub(super) agent: String,
    at: UnixSeconds,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    carried: Option<UnixSeconds>,
}

/// What was said before, read when it is asked for.
#[derive(Debug)]
pub(super) struct Before<'a> {
    held: &'a Reported,
    said: OnceCell<Said>,
}

impl Reported {
    /// Takes up what was stored.
    pub(super) fn restored(bytes: &[u8]) -> Result<Self, DecodeError> {
        let said: Said = codec::decode("report", bytes)?;
        Ok(Self::of(&said, bytes.into()))
    }

    fn of(said: &Said, stored: Box<[u8]>) -> Self {
        let Said { journal, ref past, seq, order, ref apps, clock_skew, at, carried, .. } = *said;
        Self {
            journal,
            past: past.as_slice().into(),
            seq,
            order,
            clock_skew,
            at,
            carried,
            digest: Report::digest_of(apps),
            apps: apps.iter().map(Brief::of).collect(),
            stored,
        }
    }

    /// What is held after `report`: in the journal's first life, or a new one, nothing that was held before counts.
    pub(super) fn new(before: Option<Self>, report: Report, now: Now, carried: Option<UnixSeconds>) -> Self {
        // How long a report was on its way says nothing about clocks.
        let clock_skew = match carried {
            Some(_) => before.as_ref().map_or(0, |before| before.clock_skew),
            None => skew(&report, now),
        };
        let (past, rest) = match before {
            Some(before) if before.journal == report.journal => {
                let rest = before.unlike(&report.apps);
                (before.past.into_vec(), rest)
            }
            Some(before) => {
                let mut past = before.past.into_vec();
                past.push(before.journal);
                past.drain(..past.len().saturating_sub(PAST_LIVES));
                (past, Vec::new())
            }
            None => (Vec::new(), Vec::new()),
        };
        let said = Said {
            journal: report.journal,
            past,
            seq: report.report_seq,
            order: report.order,
            apps: merge(rest, report.apps),
            conditions: report.conditions,
            clock_skew,
            kubernetes: report.kubernetes,
            agent: report.agent,
            at: now.wall,
            carried,
        };
        Self::of(&said, codec::encode(&said).into())
    }

    /// Of what is held, the applications that are not among these.
    fn unlike(&self, reported: &[AppReport]) -> Vec<AppReport> {
        let is_reported = |app: &AppId| reported.iter().any(|report| &report.app == app);
        if self.apps.iter().all(|held| is_reported(&held.app)) {
            return Vec::new();
        }
        let mut held = self.read().apps;
        held.retain(|held| !is_reported(&held.app));
        held
    }

    /// All that was said.
    pub(super) fn read(&self) -> Said {
        let said = codec::decode("report", &self.stored).expect("it was decoded, or encoded, when it came");
        Said { clock_skew: self.clock_skew, at: self.at, ..said }
    }

    /// How one of its applications is.
    pub(super) fn app(&self, id: &AppId) -> Option<&Brief> {
        self.apps.iter().find(|held| &held.app == id)
    }

    /// Takes what differs in a report that says the same: the clocks. Whether its cluster's is, or was, so far from
    /// the hub's that people are to see it.
    pub(super) fn say_again(&mut self, report: &Report, now: Now) -> bool {
        let before = self.clock_skew;
        if self.carried.is_none() {
            self.clock_skew = skew(report, now);
        }
        self.at = now.wall;
        before.max(self.clock_skew) > limits::CLOCK_SKEW_SECONDS
    }

    /// Forgets all that was reported, but not by which lives of the journal. The number too: an acknowledgement of a
    /// higher one would take back that the cluster says everything again.
    pub(super) fn forget(&mut self) {
        let said = Said { seq: 0, order: Order::default(), apps: Vec::new(), ..self.read() };
        *self = Self::of(&said, codec::encode(&said).into());
    }

    pub(super) fn document(&self, id: &ClusterId) -> Document {
        let bytes = Some(self.stored.to_vec());
        Document { kind: DocumentKind::Report, key: id.to_string(), bytes }
    }

    /// Whether `report` is an older one of the same life, replayed or overtaken: neither number ever goes back.
    pub(super) fn is_newer_than(&self, report: &Report) -> bool {
        self.journal == report.journal && (self.seq > report.report_seq || self.order > report.order)
    }

    /// Whether nothing in `report` differs but the clocks: a heartbeat.
    pub(super) fn says_the_same(&self, report: &Report, carried: Option<UnixSeconds>) -> bool {
        // All of them, so that a field to come is not forgotten here.
        let Report {
            cluster: _,
            journal,
            report_seq,
            order,
            digest: _,
            apps,
            conditions,
            clock: _,
            kubernetes,
            agent,
        } = report;
        if (self.journal, self.seq, self.order, self.carried) != (*journal, *report_seq, *order, carried) {
            return false;
        }
        let said = self.read();
        let is_held = |app: &AppReport| match said.app(&app.app) {
            Some(held) => held == app,
            None => app.state == AppState::Removed,
        };
        (&said.conditions, &said.kubernetes, &said.agent) == (conditions, kubernetes, agent)
            && apps.iter().all(is_held)
    }
}

impl Brief {
    fn of(report: &AppReport) -> Self {
        let digest = |release: &Option<ReleaseRef>| release.as_ref().map(|release| release.digest);
        Self {
            app: report.app.clone(),
            state: report.state,
            accepted: digest(&report.accepted),
            applied: digest(&report.applied),
            rejected: report.rejected.as_ref().map(|rejected| rejected.digest),
        }
    }
}

impl Said {
    /// What was said of one application.
    pub(super) fn app(&self, id: &AppId) -> Option<&AppReport> {
        self.apps.iter().find(|report| &report.app == id)
    }
}

impl<'a> Before<'a> {
    pub(super) fn new(held: &'a Reported) -> Self {
        Self { held, said: OnceCell::new() }
    }

    pub(super) fn brief(&self, id: &AppId) -> Option<&Brief> {
        self.held.app(id)
    }

    pub(super) fn app(&self, id: &AppId) -> Option<&AppReport> {
        self.said.get_or_init(|| self.held.read()).app(id)
    }
}

/// How far a cluster's clock is from the hub's.
fn skew(report: &Report, now: Now) -> u64 {
    report.clock.since(now.wall).max(now.wall.since(report.clock))
}

/// What is held of applications: what was just reported, and the rest.
fn merge(mut rest: Vec<AppReport>, reported: Vec<AppReport>) -> Vec<AppReport> {
    rest.extend(reported);
    // What is removed is gone here too; the cluster lets go of it once this is acknowledged.
    rest.retain(|app| app.state != AppState::Removed);
    rest.sort_by(|a, b| a.app.cmp(&b.app));
    rest.truncate(limits::APPLICATIONS);
    rest
}
