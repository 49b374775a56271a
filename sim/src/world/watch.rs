//! What is watched at every site beside what it holds: that its agent says only what its journal holds, goes by what its
//! journal holds, starts only what it may, counts right, and neither falls silent nor runs hot.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use edge_agent::{
    cluster::{ClusterError, Request, sim::Output},
    logic::{
        agent::Agent,
        app::App,
        entry::{AppRow, Key, ReportRow, Row},
        object::ObjectRef,
        report::RESEND,
    },
    pack,
};
use protocol::{
    codec,
    cose::Envelope,
    documents::{AppState, Document, Hello, Report},
    ids::{AppId, Digest, JournalId, Nonce},
    order::Order,
    time::UnixSeconds,
    topics::{Downward, Upward},
};
use serde_json::Value;

use crate::{
    charter::{Charter, Published},
    disk::Image,
    ledger::is_own,
    site::Site,
    stored,
};

/// Requests to its API server that an agent may make in an hour. It is some hundred while everything goes wrong, and some
/// thousand while its disk is full: each time it starts it looks at everything.
const REQUESTS: u32 = 10_000;

/// How long a report that the hub does not have may wait, on a connection, until it is said again.
const SILENT: Duration = RESEND.saturating_mul(3);

/// How long what failed waits at most: people who mended something wait as long.
const TRIED_WITHIN: Duration = Duration::from_secs(300);

/// How long after somebody changed an object by hand nobody is asked how it is.
const HEALED_AFTER: Duration = Duration::from_secs(900);

/// Answers of the hub to challenges that are remembered of each site: they come late, and more than once.
const ANSWERS: usize = 64;

/// What is known of one site.
#[derive(Debug, Clone, Default)]
pub(super) struct Watch {
    /// Challenges it said, and on which connection it said the last.
    nonces: BTreeSet<Nonce>,
    challenge: Option<(u64, Nonce)>,
    /// What time it was, as the hub said in answer to a challenge.
    answers: VecDeque<(Nonce, UnixSeconds)>,
    /// The time that was confirmed last, as its journal has it.
    clock: Option<UnixSeconds>,
    /// What the hub acknowledged, of each life of the journal.
    acked: BTreeMap<JournalId, u64>,
    /// What its agent was permitted to start since it runs, under which desired state.
    permits: BTreeSet<(Digest, AppId)>,
    /// What runs, as far as was looked at.
    started: BTreeMap<AppId, Digest>,
    /// Content that was all there, as it was signed.
    whole: BTreeSet<Digest>,
    /// The life of its journal.
    life: Option<JournalId>,
    /// The newest numbers of reports in its journal that were looked at.
    reported: BTreeMap<AppId, u64>,
    /// Since when a report waits while it says nothing.
    silent_since: Option<Duration>,
    /// The hour, and requests in it.
    asked: (u64, u32),
    /// Objects of which it was told that others hold their fields, since it runs.
    conflicts: BTreeSet<ObjectRef>,
    /// How often objects were changed by hand.
    edits: BTreeMap<ObjectRef, u32>,
    edited_at: Option<Duration>,
    /// Whether somebody changed all objects at once.
    is_restored: bool,
    /// Whether its journal is not the one that it wrote last.
    forgot: bool,
}

impl Watch {
    /// Its agent starts, from what is on its disk.
    pub(super) fn starts(&mut self, site: &Site) {
        self.permits.clear();
        self.conflicts.clear();
        self.whole.clear();
        self.silent_since = None;
        site.disk.look(|image| {
            self.clock = clock(image);
            let accepted = |row: &AppRow| row.accepted.as_ref().map(|accepted| accepted.release);
            self.started = apps(image).filter_map(|(id, row)| Some((id.clone(), accepted(row)?))).collect();
            self.reported = numbers(image);
        });
    }

    /// It has another disk.
    pub(super) fn has_another_disk(&mut self) {
        self.forgot = true;
    }

    /// Somebody changes an object there.
    pub(super) fn edited(&mut self, at: Duration, object: &ObjectRef) {
        *self.edits.entry(object.clone()).or_default() += 1;
        self.edited_at = Some(at);
    }

    /// Somebody does something to all that is in its cluster.
    pub(super) fn suffers(&mut self, at: Duration) {
        self.edited_at = Some(at);
        self.is_restored = true;
    }

    /// Whether all that is in its cluster may be what was there before.
    pub(super) fn is_restored(&self) -> bool {
        self.is_restored
    }

    /// The hub says something to it.
    pub(super) fn hub_said(&mut self, topic: Downward, bytes: &[u8]) {
        match topic {
            Downward::Head => {
                let Some(head) = stored::head(bytes) else { return };
                if let Some(nonce) = head.nonce {
                    self.answers.truncate(ANSWERS - 1);
                    self.answers.push_front((nonce, head.hub_time));
                }
            }
            Downward::Ack => {
                let Some(ack) = stored::ack(bytes) else { return };
                let acked = self.acked.entry(ack.journal).or_default();
                *acked = ack.report_seq.max(*acked);
            }
            Downward::Root | Downward::Desired | Downward::Blob | Downward::Ask => {}
        }
    }

    /// A message reaches it.
    pub(super) fn hears(&mut self, topic: Downward, bytes: &[u8]) {
        let head = (topic == Downward::Head).then(|| stored::head(bytes)).flatten();
        if let Some(head) = head {
            self.permits.extend(head.permits.into_iter().map(|permit| (head.desired, permit.app)));
        }
    }

    /// It says something: what its journal holds, and a challenge that was never said before.
    ///
    /// # Errors
    /// What is wrong.
    pub(super) fn says(
        &mut self,
        at: Duration,
        site: &Site,
        first_life: bool,
        (connection, topic): (u64, Upward),
        bytes: &[u8],
    ) -> Result<(), String> {
        match topic {
            Upward::Hello => {
                let hello: Hello = claimed(bytes).ok_or_else(|| format!("{} says no hello", site.id))?;
                let again = self.challenge == Some((connection, hello.nonce));
                self.challenge = Some((connection, hello.nonce));
                if !self.nonces.insert(hello.nonce) && !again {
                    return Err(format!("{} challenges the hub as it did before", site.id));
                }
                self.says_recorded(site, hello.journal, hello.order, 0)
            }
            Upward::Report => {
                self.silent_since = self.silent_since.map(|_| at);
                let report: Report = claimed(bytes).ok_or_else(|| format!("{} reports nothing", site.id))?;
                let is_said = |kind: &str| report.conditions.iter().any(|one| one.kind == kind);
                if !self.forgot && is_said("RefusedJournalRolledBack") {
                    return Err(format!("{} says that its journal is an old one, which it is not", site.id));
                }
                if first_life && is_said("RefusedEquivocation") {
                    return Err(format!("{} says that it was told two things, which it was not", site.id));
                }
                self.says_recorded(site, report.journal, report.order, report.report_seq)
            }
            Upward::Want | Upward::Held => Ok(()),
        }
    }

    fn says_recorded(&self, site: &Site, journal: JournalId, order: Order, seq: u64) -> Result<(), String> {
        let held = site.agent.as_ref().and_then(|agent| agent.desired()).map(|desired| desired.order);
        site.disk.look(|image| {
            let life = Some(&Row::Life(journal)) == image.rows.get(&Key::Life);
            let recorded = recorded_reports(image);
            if !life || seq > recorded {
                return Err(format!("{} tells report {seq}, and has {recorded} in its journal", site.id));
            }
            let is_held = held.is_none_or(|held| order <= held);
            let is_recorded = order == Order::default() || image.rows.contains_key(&Key::Desired);
            (is_held && is_recorded)
                .then_some(())
                .ok_or_else(|| format!("{} says that it holds {order}, which is not in its journal", site.id))
        })
    }

    /// Looks at what it asks of its cluster.
    ///
    /// # Errors
    /// What is wrong.
    pub(super) fn asks(&mut self, at: Duration, site: &Site, request: &Request) -> Result<(), String> {
        let hour = at.as_secs() / 3600;
        self.asked = if self.asked.0 == hour { (hour, self.asked.1 + 1) } else { (hour, 1) };
        if self.asked.1 > REQUESTS {
            return Err(format!(
                "{} makes more than {REQUESTS} requests in an hour, last {request:?}",
                site.id
            ));
        }
        match request {
            Request::Apply { object, force: true, dry_run: false, .. }
                if !is_own(object) && !self.conflicts.contains(object) =>
            {
                Err(format!("{} takes fields of {object} by force, which nobody took from it", site.id))
            }
            Request::Apply { .. }
            | Request::Delete { .. }
            | Request::Get(_)
            | Request::List { .. }
            | Request::Version => Ok(()),
        }
    }

    /// Its cluster answers, soon.
    pub(super) fn answers(&mut self, output: &Output) {
        if let Output::Answer { answer: Err(ClusterError::Conflict { object, .. }), .. } = output {
            self.conflicts.insert((**object).clone());
        }
    }

    /// Looks at the site after something happened there.
    ///
    /// # Errors
    /// What is wrong.
    pub(super) fn check(&mut self, at: Duration, site: &Site, charter: &Charter) -> Result<(), String> {
        let Some(agent) = &site.agent else {
            self.silent_since = None;
            return Ok(());
        };
        self.check_silence(at, site, agent)?;
        check_waits(at, site, agent)?;
        site.disk.look(|image| {
            check_rows(site, agent, image)?;
            self.check_contents(site, agent, image, charter)?;
            self.check_clock(site, image)?;
            self.check_acked(site, image)?;
            self.check_started(site, agent, image, charter)?;
            self.check_reported(at, site, image, charter)
        })?;
        self.check_healed(site, agent)
    }

    /// What the hub does not have is said again.
    fn check_silence(&mut self, at: Duration, site: &Site, agent: &Agent) -> Result<(), String> {
        if !agent.is_connected() || agent.reports_waiting() == 0 {
            self.silent_since = None;
            return Ok(());
        }
        let since = *self.silent_since.get_or_insert(at);
        if at - since <= SILENT {
            return Ok(());
        }
        Err(format!("{} has a report for the hub, a connection, and says nothing for {SILENT:?}", site.id))
    }

    /// Content that something needs is kept, once it is what was signed, and no other.
    fn check_contents(
        &mut self,
        site: &Site,
        agent: &Agent,
        image: &Image,
        charter: &Charter,
    ) -> Result<(), String> {
        let rows = agent.apps().values().map(|app| &app.row);
        let accepted = rows.flat_map(|row| row.accepted.iter().chain(&row.previous));
        let desired = agent.desired().into_iter().flat_map(|desired| &desired.releases);
        let needed = accepted.map(|accepted| accepted.release).chain(desired.map(|told| told.release));
        let needed: Vec<&Published> = needed.filter_map(|digest| charter.release(&digest)).collect();
        let is_needed = |pack: &Digest| needed.iter().any(|published| published.pack == *pack);
        if let Some(kept) = image.contents.keys().find(|pack| !is_needed(pack)) {
            return Err(format!("{} keeps content {} that nothing needs any more", site.id, kept.short()));
        }
        self.whole.retain(is_needed);
        for Published { pack, packed, .. } in needed {
            let kept = image.contents.get(pack);
            if self.whole.contains(pack) && kept.is_none() {
                return Err(format!("{} throws away content {}, which is good", site.id, pack.short()));
            }
            if !self.whole.contains(pack) && kept.is_some_and(|kept| kept.bytes == **packed) {
                self.whole.insert(*pack);
            }
        }
        Ok(())
    }

    /// Time is confirmed by answers to the challenge of the connection, and nothing else.
    fn check_clock(&mut self, site: &Site, image: &Image) -> Result<(), String> {
        let confirmed = clock(image);
        if confirmed == self.clock {
            return Ok(());
        }
        self.clock = confirmed;
        let answers = |(nonce, time): &(Nonce, UnixSeconds)| {
            self.challenge.is_some_and(|(_, challenge)| challenge == *nonce) && confirmed == Some(*time)
        };
        let is_answer = self.answers.iter().any(answers);
        is_answer
            .then_some(())
            .ok_or_else(|| format!("{} takes a time for confirmed that answers no challenge of its", site.id))
    }

    /// What counts as acknowledged was.
    fn check_acked(&self, site: &Site, image: &Image) -> Result<(), String> {
        let (Some(Row::Life(life)), Some(Row::Acked(acked))) =
            (image.rows.get(&Key::Life), image.rows.get(&Key::Acked))
        else {
            return Ok(());
        };
        let by_hub = self.acked.get(life).copied().unwrap_or_default();
        (*acked <= by_hub).then_some(()).ok_or_else(|| {
            format!("{} takes report {acked} for acknowledged, the hub acknowledged {by_hub}", site.id)
        })
    }

    /// What starts has its content, and a permit that reached this agent.
    fn check_started(
        &mut self,
        site: &Site,
        agent: &Agent,
        image: &Image,
        charter: &Charter,
    ) -> Result<(), String> {
        let accepted = |app: &App| app.row.accepted.as_ref().map(|accepted| accepted.release);
        for (id, release) in agent.apps().iter().filter_map(|(id, app)| Some((id, accepted(app)?))) {
            if self.started.get(id) == Some(&release) {
                continue;
            }
            self.started.insert(id.clone(), release);
            let is_whole =
                charter.release(&release).is_some_and(|published| is_whole(image, published, charter));
            if !is_whole {
                return Err(format!("{} starts {id} without the content that was signed", site.id));
            }
            let held = agent.desired().map(|desired| (desired.digest(), id.clone()));
            if !held.is_some_and(|held| self.permits.contains(&held)) {
                return Err(format!("{} starts {id} without a permit since it runs", site.id));
            }
        }
        Ok(())
    }

    /// Every report has a number of its own, and says that all is well only where it is.
    fn check_reported(
        &mut self,
        at: Duration,
        site: &Site,
        image: &Image,
        charter: &Charter,
    ) -> Result<(), String> {
        let life = match image.rows.get(&Key::Life) {
            Some(Row::Life(life)) => Some(*life),
            Some(_) | None => None,
        };
        if std::mem::replace(&mut self.life, life) != life {
            // Numbers are of a life.
            self.reported = numbers(image);
        }
        let newest = self.reported.values().copied().max().unwrap_or_default();
        let touched = self.edited_at.is_some_and(|edited| at - edited < HEALED_AFTER);
        for (id, row) in reports(image) {
            let before = self.reported.get(id).copied();
            if before == Some(row.seq) {
                continue;
            }
            if row.seq <= newest {
                return Err(format!("{} uses the number {} for another report again", site.id, row.seq));
            }
            self.reported.insert(id.clone(), row.seq);
            let accepted = row.report.accepted.as_ref().filter(|_| row.report.state == AppState::Available);
            let published = accepted.and_then(|accepted| charter.release(&accepted.digest));
            let objects = published.iter().flat_map(|published| &published.objects);
            let unready = objects.map(|(object, _)| object).find(|object| !is_ready(site.object(object)));
            if let Some(object) = unready.filter(|_| !touched) {
                return Err(format!("{} reports {id} as available, but {object} is not ready", site.id));
            }
        }
        Ok(())
    }

    /// What was set right was changed by hand before, each time.
    fn check_healed(&self, site: &Site, agent: &Agent) -> Result<(), String> {
        if self.forgot || self.is_restored {
            return Ok(());
        }
        for (object, owned) in agent.apps().values().flat_map(|app| &app.inventory) {
            let healed = owned.healed.as_ref().map_or(0, |healed| healed.count);
            let edits = self.edits.get(object).copied().unwrap_or_default();
            if healed > edits {
                return Err(format!("{} set {object} right {healed} times, of {edits} changes", site.id));
            }
        }
        Ok(())
    }
}

/// What failed is tried again before people who mended something give up.
fn check_waits(at: Duration, site: &Site, agent: &Agent) -> Result<(), String> {
    let until = site.runs_for(at) + TRIED_WITHIN;
    let objects = agent.apps().values().flat_map(|app| &app.objects);
    let mut waiting = objects.filter_map(|(object, state)| Some((object, state.failure.as_ref()?)));
    let late = waiting.find(|(_, failed)| failed.retry_at > until);
    late.map_or(Ok(()), |(object, _)| {
        Err(format!("{} does not try {object} again within {TRIED_WITHIN:?}", site.id))
    })
}

/// What an agent goes by is in its journal: a power cut would make it forget anything else.
fn check_rows(site: &Site, agent: &Agent, image: &Image) -> Result<(), String> {
    let missing = |what: String| Err(format!("{} goes by {what} that its journal does not hold", site.id));
    let (mut objects, mut reports) = (0, 0);
    for row in image.rows.values() {
        match row {
            Row::App(id, row) => {
                if agent.apps().get(id).map(|app| &app.row) != Some(row) {
                    return missing(format!("a row of {id}"));
                }
            }
            Row::Object(id, object, owned) => {
                objects += 1;
                let known = agent.apps().get(id).and_then(|app| app.inventory.get(object));
                if known != Some(owned) {
                    return missing(format!("{object} of {id}"));
                }
            }
            Row::Report(id, row) => {
                reports += 1;
                if agent.apps().get(id).and_then(|app| app.report.as_ref()) != Some(row) {
                    return missing(format!("a report of {id}"));
                }
            }
            Row::Life(_)
            | Row::Root(_)
            | Row::Desired(_)
            | Row::Clock(_)
            | Row::Hold(_)
            | Row::Acked(_)
            | Row::Release(..) => {}
        }
    }
    let known = agent.apps().values().filter(|app| app.report.is_some()).count();
    if (agent.owned(), known) != (objects, reports) {
        return missing(format!(
            "{} objects and {known} reports, where it has {objects} and {reports}",
            agent.owned()
        ));
    }
    Ok(())
}

/// Whether a journal holds what a release consists of. A bit that was flipped on the way may have changed nothing but how
/// it is compressed.
fn is_whole(image: &Image, published: &Published, charter: &Charter) -> bool {
    let Some(content) = image.contents.get(&published.pack) else { return false };
    let release = || charter.trust.release(&published.envelope).ok();
    content.bytes == *published.packed
        || release().is_some_and(|release| pack::check(&release, content.bytes.as_slice()).is_ok())
}

/// The numbers of the reports in a journal.
fn numbers(image: &Image) -> BTreeMap<AppId, u64> {
    reports(image).map(|(id, row)| (id.clone(), row.seq)).collect()
}

fn apps(image: &Image) -> impl Iterator<Item = (&AppId, &AppRow)> {
    image.rows.values().filter_map(|row| match row {
        Row::App(id, row) => Some((id, row)),
        Row::Life(_)
        | Row::Root(_)
        | Row::Desired(_)
        | Row::Clock(_)
        | Row::Hold(_)
        | Row::Acked(_)
        | Row::Report(..)
        | Row::Release(..)
        | Row::Object(..) => None,
    })
}

fn reports(image: &Image) -> impl Iterator<Item = (&AppId, &ReportRow)> {
    image.rows.values().filter_map(|row| match row {
        Row::Report(id, row) => Some((id, row)),
        Row::Life(_)
        | Row::Root(_)
        | Row::Desired(_)
        | Row::Clock(_)
        | Row::Hold(_)
        | Row::Acked(_)
        | Row::App(..)
        | Row::Release(..)
        | Row::Object(..) => None,
    })
}

/// The number of the newest report in a journal.
fn recorded_reports(image: &Image) -> u64 {
    let acked = match image.rows.get(&Key::Acked) {
        Some(Row::Acked(seq)) => *seq,
        Some(_) | None => 0,
    };
    reports(image).map(|(_, row)| row.seq).max().unwrap_or_default().max(acked)
}

fn clock(image: &Image) -> Option<UnixSeconds> {
    match image.rows.get(&Key::Clock) {
        Some(Row::Clock(time)) => Some(*time),
        Some(_) | None => None,
    }
}

/// Whether an object is there and, if it is a workload, up as its newest generation says.
fn is_ready(object: Option<&Value>) -> bool {
    let Some(object) = object else { return false };
    let number = |pointer: &str| object.pointer(pointer).and_then(Value::as_i64).unwrap_or_default();
    if object["kind"] != "Deployment" {
        return true;
    }
    let wanted = number("/spec/replicas");
    let is_observed = number("/status/observedGeneration") == number("/metadata/generation");
    let ready = number("/status/readyReplicas").min(number("/status/updatedReplicas"));
    is_observed && ready >= wanted
}

/// What a document of one signature claims to say. Who signed it is not looked at.
fn claimed<T: Document>(bytes: &[u8]) -> Option<T> {
    let envelope = Envelope::parse_one(T::TYPE, bytes).ok()?;
    codec::decode(T::TYPE.name(), envelope.claimed_payload()).ok()
}
