//! What is held of a cluster's reports: all of it in one piece, as it is stored, and beside it what is asked of it again
//! and again. Of tens of thousands of clusters, most are as they were; what they said is read when something changes.
//! It stands there as they encoded it: a report is taken in without encoding any of it again.

use std::cell::OnceCell;

use protocol::{
    codec::{self, DecodeError},
    documents::{AppReport, AppState, Condition, ReleaseRef, Report},
    ids::{AppId, ClusterId, Digest, JournalId},
    kept::ReportParts,
    limits,
    order::Order,
    time::{Now, UnixSeconds},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_bytes::Bytes;

use super::{Document, DocumentKind};

/// Former lives of a cluster's journal whose reports are known to be old. A life begins only when a disk was rolled
/// back or rebuilt.
const PAST_LIVES: usize = 8;

/// Room for what is stored of a report beside what its cluster encoded.
const ROOM: usize = 320;

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
    /// In the order in which they are stored.
    apps: Box<[Brief]>,
    stored: Box<[u8]>,
}

/// How one application is, as far as it is asked again and again.
#[derive(Debug, Clone)]
pub(super) struct Brief {
    pub(super) app: AppId,
    pub(super) state: AppState,
    pub(super) accepted: Option<Digest>,
    pub(super) applied: Option<Digest>,
    pub(super) rejected: Option<Digest>,
}

/// All that is held, as it is stored.
#[derive(Debug, Serialize, Deserialize)]
struct Stored<'a> {
    journal: JournalId,
    past: Vec<JournalId>,
    seq: u64,
    order: Order,
    /// Each as its cluster encoded it, in the order of their names.
    #[serde(borrow)]
    apps: Vec<&'a Bytes>,
    /// All of them, as the cluster encoded them.
    #[serde(borrow)]
    conditions: &'a Bytes,
    clock_skew: u64,
    kubernetes: &'a str,
    agent: &'a str,
    at: UnixSeconds,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    carried: Option<UnixSeconds>,
}

/// All that is held, as hubs up to 0.2.0 stored it.
#[derive(Debug, Serialize, Deserialize)]
struct StoredBefore {
    journal: JournalId,
    past: Vec<JournalId>,
    seq: u64,
    order: Order,
    apps: Vec<AppReport>,
    conditions: Vec<Condition>,
    clock_skew: u64,
    kubernetes: String,
    agent: String,
    at: UnixSeconds,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    carried: Option<UnixSeconds>,
}

/// All that a cluster said.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) apps: Vec<AppReport>,
    pub(super) conditions: Vec<Condition>,
    pub(super) kubernetes: String,
    pub(super) agent: String,
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
        match codec::decode::<Stored<'_>>("report", bytes) {
            Ok(stored) => {
                codec::decode::<Vec<Condition>>("report", stored.conditions)?;
                let briefs = stored.apps.iter().map(|app| Ok(Brief::of(&codec::decode("report", app)?)));
                Ok(Self::of(&stored, briefs.collect::<Result<_, _>>()?, bytes.into()))
            }
            Err(error) => match codec::decode::<StoredBefore>("report", bytes) {
                Ok(before) => Ok(before.take_up()),
                Err(_) => Err(error),
            },
        }
    }

    fn of(stored: &Stored<'_>, apps: Box<[Brief]>, bytes: Box<[u8]>) -> Self {
        let Stored { journal, ref past, seq, order, clock_skew, at, carried, .. } = *stored;
        Self {
            journal,
            past: past.as_slice().into(),
            seq,
            order,
            clock_skew,
            at,
            carried,
            digest: Report::digest_of_encoded(stored.apps.iter().map(|app| &***app)),
            apps,
            stored: bytes,
        }
    }

    fn new(stored: &Stored<'_>, apps: Vec<Brief>) -> Self {
        Self::of(stored, apps.into(), stored.encode().into())
    }

    /// What is held after `report`, and what is to be stored of it: in the journal's first life, or a new one, nothing that
    /// was held before counts.
    pub(super) fn after(
        before: Option<&Self>,
        report: &Report,
        parts: &ReportParts<'_>,
        now: Now,
        carried: Option<UnixSeconds>,
    ) -> (Self, Vec<u8>) {
        // How long a report was on its way says nothing about clocks.
        let clock_skew = match carried {
            Some(_) => before.map_or(0, |before| before.clock_skew),
            None => skew(report, now),
        };
        let same_life = before.filter(|before| before.journal == report.journal);
        let rest = same_life.map(|before| before.unlike(&report.apps)).unwrap_or_default();
        let (briefs, apps) = merge(rest, report, parts);
        let stored = Stored {
            journal: report.journal,
            past: before.map(|before| before.lives_before(report.journal)).unwrap_or_default(),
            seq: report.report_seq,
            order: report.order,
            apps,
            conditions: Bytes::new(parts.conditions),
            clock_skew,
            kubernetes: &report.kubernetes,
            agent: &report.agent,
            at: now.wall,
            carried,
        };
        let bytes = stored.encode();
        (Self::of(&stored, briefs.into(), bytes.as_slice().into()), bytes)
    }

    /// The lives of the journal that are former ones when it lives `journal`.
    fn lives_before(&self, journal: JournalId) -> Vec<JournalId> {
        let mut past = self.past.to_vec();
        if self.journal != journal {
            past.push(self.journal);
            past.drain(..past.len().saturating_sub(PAST_LIVES));
        }
        past
    }

    /// Of what is held, the applications that are not among these.
    fn unlike(&self, reported: &[AppReport]) -> Vec<(Brief, &Bytes)> {
        let is_reported = |held: &Brief| reported.iter().any(|report| report.app == held.app);
        if self.apps.iter().all(is_reported) {
            return Vec::new();
        }
        let held = self.apps.iter().zip(self.stored().apps).filter(|(held, _)| !is_reported(held));
        held.map(|(held, encoded)| (held.clone(), encoded)).collect()
    }

    fn stored(&self) -> Stored<'_> {
        codec::decode("report", &self.stored).expect("it was decoded, or encoded, when it came")
    }

    /// All that was said.
    pub(super) fn read(&self) -> Said {
        let Stored { apps, conditions, kubernetes, agent, .. } = self.stored();
        Said {
            apps: apps.into_iter().map(|app| said(app)).collect(),
            conditions: said(conditions),
            kubernetes: kubernetes.to_owned(),
            agent: agent.to_owned(),
        }
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
        let (clock_skew, at) = (self.clock_skew, self.at);
        let nothing =
            Stored { seq: 0, order: Order::default(), apps: Vec::new(), clock_skew, at, ..self.stored() };
        *self = Self::new(&nothing, Vec::new());
    }

    pub(super) fn document(&self, id: &ClusterId) -> Document {
        document(id, self.stored.to_vec())
    }

    /// Whether `report` is an older one of the same life, replayed or overtaken: neither number ever goes back.
    pub(super) fn is_newer_than(&self, report: &Report) -> bool {
        self.journal == report.journal && (self.seq > report.report_seq || self.order > report.order)
    }

    /// Whether nothing in `report` differs but the clocks: a heartbeat.
    pub(super) fn says_the_same(
        &self,
        report: &Report,
        parts: &ReportParts<'_>,
        carried: Option<UnixSeconds>,
    ) -> bool {
        // All of them, so that a field to come is not forgotten here.
        let Report {
            cluster: _,
            journal,
            report_seq,
            order,
            digest: _,
            apps,
            conditions: _,
            clock: _,
            kubernetes,
            agent,
        } = report;
        if (self.journal, self.seq, self.order, self.carried) != (*journal, *report_seq, *order, carried) {
            return false;
        }
        let stored = self.stored();
        let is_held = |(app, encoded): (&AppReport, &&[u8])| {
            let place = self.apps.iter().position(|held| held.app == app.app);
            match place.and_then(|place| stored.apps.get(place)) {
                Some(held) => &***held == *encoded,
                None => app.state == AppState::Removed,
            }
        };
        (&**stored.conditions, stored.kubernetes, stored.agent) == (parts.conditions, kubernetes, agent)
            && apps.iter().zip(&parts.apps).all(is_held)
    }
}

impl Stored<'_> {
    /// In room that is there at once: with news, that is more than most of what is encoded takes.
    fn encode(&self) -> Vec<u8> {
        let said = self.apps.iter().map(|app| app.len()).sum::<usize>() + self.conditions.len();
        let mut bytes = Vec::with_capacity(said + ROOM);
        codec::encode_into(&mut bytes, self);
        bytes
    }
}

impl StoredBefore {
    fn take_up(&self) -> Reported {
        let apps: Vec<Vec<u8>> = self.apps.iter().map(codec::encode).collect();
        let conditions = codec::encode(&self.conditions);
        let stored = Stored {
            journal: self.journal,
            past: self.past.clone(),
            seq: self.seq,
            order: self.order,
            apps: apps.iter().map(|app| Bytes::new(app)).collect(),
            conditions: Bytes::new(&conditions),
            clock_skew: self.clock_skew,
            kubernetes: &self.kubernetes,
            agent: &self.agent,
            at: self.at,
            carried: self.carried,
        };
        Reported::new(&stored, self.apps.iter().map(Brief::of).collect())
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

/// What is stored of a cluster's reports.
pub(super) fn document(id: &ClusterId, stored: Vec<u8>) -> Document {
    Document { kind: DocumentKind::Report, key: id.to_string(), bytes: Some(stored) }
}

/// How far a cluster's clock is from the hub's.
fn skew(report: &Report, now: Now) -> u64 {
    report.clock.since(now.wall).max(now.wall.since(report.clock))
}

/// What is held of applications: what was just reported, and the rest.
fn merge<'a>(
    rest: Vec<(Brief, &'a Bytes)>,
    report: &Report,
    parts: &ReportParts<'a>,
) -> (Vec<Brief>, Vec<&'a Bytes>) {
    // What is removed is gone here too; the cluster lets go of it once this is acknowledged.
    let reported = report.apps.iter().zip(&parts.apps).filter(|(app, _)| app.state != AppState::Removed);
    let reported = reported.map(|(app, encoded)| (Brief::of(app), Bytes::new(encoded)));
    let mut held: Vec<_> = rest.into_iter().chain(reported).collect();
    held.sort_by(|(a, _), (b, _)| a.app.cmp(&b.app));
    held.truncate(limits::APPLICATIONS);
    held.into_iter().unzip()
}

/// What a cluster said, from what is kept of it.
fn said<T: DeserializeOwned + Serialize>(encoded: &[u8]) -> T {
    codec::decode("report", encoded).expect("it was decoded when it came")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use protocol::{
        cose::{self, Binding},
        documents::{ConditionStatus, Counts, DocumentType},
        ids::FleetId,
        keys::SigningKey,
        verify::{self, Verified},
    };
    use zeroize::Zeroizing;

    use super::*;

    fn app(name: &str, state: AppState) -> AppReport {
        AppReport {
            app: AppId::new("radio", name).unwrap(),
            state,
            accepted: Some(ReleaseRef { digest: Digest::of(b"1"), version: "1".into(), counter: 1 }),
            applied: None,
            reverted: None,
            rejected: None,
            conditions: vec![condition("Available", name)],
            worst: None,
            counts: Counts::default(),
            drift: Vec::new(),
            preview: None,
        }
    }

    fn condition(kind: &str, message: &str) -> Condition {
        let (kind, reason, message) = (kind.to_owned(), "AsExpected".to_owned(), message.to_owned());
        Condition { kind: kind.into(), status: ConditionStatus::True, reason: reason.into(), message }
    }

    fn report(seq: u64, apps: &[AppReport]) -> Report {
        Report {
            cluster: ClusterId::new("tower-1").unwrap(),
            journal: JournalId::new([1; 16]),
            report_seq: seq,
            order: Order::default(),
            digest: Report::digest_of(apps),
            apps: apps.to_vec(),
            conditions: vec![condition("KubernetesReady", "it answers")],
            clock: UnixSeconds(1_000),
            kubernetes: "v1.36.3".into(),
            agent: "0.2.0".into(),
        }
    }

    fn sent(report: &Report) -> (Verified<Report>, Vec<u8>) {
        let (fleet, key) = (FleetId::new("north").unwrap(), SigningKey::from_seed(Zeroizing::new([1; 32])));
        let binding = Binding { kind: DocumentType::Report, fleet: &fleet, cluster: Some(&report.cluster) };
        let envelope = cose::sign_one(binding, &codec::encode(report), &key);
        (verify::by_cluster(&fleet, &report.cluster, &key.public(), &envelope).unwrap(), envelope)
    }

    fn now() -> Now {
        Now { wall: UnixSeconds(1_007), monotonic: Duration::ZERO }
    }

    fn take(before: Option<&Reported>, report: &Report) -> Reported {
        let (report, envelope) = sent(report);
        let (held, stored) =
            Reported::after(before, &report, &ReportParts::of(&report, &envelope).unwrap(), now(), None);
        assert_eq!(*held.stored, *stored);
        held
    }

    fn is_the_same(held: &Reported, report: &Report) -> bool {
        let (report, envelope) = sent(report);
        held.says_the_same(&report, &ReportParts::of(&report, &envelope).unwrap(), None)
    }

    /// Whether exactly these applications are held, now and after a restart.
    fn check(held: &Reported, apps: &[AppReport]) {
        let again = Reported::restored(&held.stored).unwrap();
        for held in [held, &again] {
            let said = held.read();
            assert_eq!((said.apps.as_slice(), said.agent.as_str()), (apps, "0.2.0"));
            assert_eq!(said.conditions, report(0, &[]).conditions);
            assert_eq!(
                (held.digest, held.clock_skew, held.apps.len()),
                (Report::digest_of(apps), 7, apps.len())
            );
            assert!(apps.iter().all(|app| held.app(&app.app).unwrap().state == app.state));
        }
    }

    #[test]
    fn what_is_not_said_again_is_held() {
        let [one, two, three] = ["a", "b", "c"].map(|name| app(name, AppState::Available));
        let first = take(None, &report(1, &[three.clone(), one.clone()]));
        check(&first, &[one.clone(), three.clone()]);
        let worse = AppReport { state: AppState::Degraded, ..one.clone() };
        let second = take(Some(&first), &report(2, &[two.clone(), worse.clone()]));
        check(&second, &[worse.clone(), two.clone(), three.clone()]);
        let gone = app("b", AppState::Removed);
        let third = take(Some(&second), &report(3, std::slice::from_ref(&gone)));
        check(&third, &[worse.clone(), three.clone()]);
        let reborn = Report { journal: JournalId::new([2; 16]), ..report(1, std::slice::from_ref(&two)) };
        let fourth = take(Some(&third), &reborn);
        check(&fourth, &[two]);
        assert_eq!(*fourth.past, [JournalId::new([1; 16])]);

        assert!(is_the_same(&third, &report(3, &[])), "a heartbeat");
        assert!(is_the_same(&third, &report(3, &[worse.clone(), gone])), "part of it");
        assert!(is_the_same(&third, &Report { clock: UnixSeconds(9), ..report(3, &[three]) }), "later");
        assert!(!is_the_same(&third, &report(3, &[one])), "another state");
        assert!(!is_the_same(&third, &report(4, std::slice::from_ref(&worse))), "another number");
        assert!(!is_the_same(&third, &Report { conditions: Vec::new(), ..report(3, &[]) }), "conditions");
        assert!(!is_the_same(&third, &Report { agent: "0.3.0".into(), ..report(3, &[worse]) }), "agent");
        assert!(!is_the_same(&third, &report(3, &[app("d", AppState::Available)])), "another application");
    }

    #[test]
    fn what_was_forgotten_is_not_held() {
        let mut held = take(None, &report(5, &[app("a", AppState::Available)]));
        held.forget();
        check(&held, &[]);
        assert_eq!((held.seq, held.journal), (0, JournalId::new([1; 16])));
    }

    #[test]
    fn what_was_stored_before_is_taken_up() {
        let apps = ["a", "b"].map(|name| app(name, AppState::Available));
        let before = StoredBefore {
            journal: JournalId::new([1; 16]),
            past: vec![JournalId::new([9; 16])],
            seq: 3,
            order: Order::default(),
            apps: apps.to_vec(),
            conditions: report(3, &[]).conditions,
            clock_skew: 7,
            kubernetes: "v1.36.3".to_owned(),
            agent: "0.2.0".to_owned(),
            at: UnixSeconds(1_007),
            carried: Some(UnixSeconds(1_000)),
        };
        let held = Reported::restored(&codec::encode(&before)).unwrap();
        check(&held, &apps);
        assert_eq!(
            (held.seq, &*held.past, held.at),
            (3, [JournalId::new([9; 16])].as_slice(), UnixSeconds(1_007))
        );
        assert_eq!(held.carried, before.carried);
    }

    #[test]
    fn what_is_damaged_is_not_taken_up() {
        let held = take(None, &report(1, &[app("a", AppState::Available)]));
        Reported::restored(&held.stored).unwrap();
        let nonsense = Bytes::new(b"\xff");
        for (what, damaged) in [
            ("an application", Stored { apps: vec![nonsense], ..held.stored() }),
            ("conditions", Stored { conditions: nonsense, ..held.stored() }),
        ] {
            assert!(Reported::restored(&codec::encode(&damaged)).is_err(), "{what}");
        }
        assert!(Reported::restored(&held.stored[1..]).is_err(), "its beginning");
    }
}
