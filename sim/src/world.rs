//! The fleet in virtual time: what happens, in which order, and what is checked after each thing that does.

use std::{collections::VecDeque, io::Write, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use edge_agent::cluster::{
    Request,
    sim::{Settings, SimCluster},
};
use fleet_broker::resources::AssignmentState;
use protocol::{
    documents::Desired,
    ids::{ClusterId, Digest, Hasher},
    topics::{Downward, Upward},
};

use self::watch::Watch;
use crate::{
    chance::Chance,
    charter::{Charter, START},
    disk::Image,
    happening::{Machine, Recent, Violation, What},
    hub::{Backup, Hub, Sent},
    ledger::{Ledger, Place},
    report::Report,
    scenario::{Faults, Scenario},
    site::{Caused, Site},
};

mod attack;
mod clone;
mod cluster;
mod end;
mod hub;
mod link;
mod machine;
mod trouble;
mod watch;
mod wire;

use link::Link;

/// How long a message that is late is late, at most.
const LATE: Duration = Duration::from_secs(60);

/// How long an agent waits before it connects again, at most.
const REDIAL: Duration = Duration::from_secs(30);

/// How long a hub is busy with something else, at most, before it handles what came.
const TURN: Duration = Duration::from_millis(50);

/// How long a hub takes to notice that a connection is dead, at most: one and a half keepalives.
const UNNOTICED: Duration = Duration::from_secs(900);

/// Messages to a cluster that a hostile broker remembers.
const REMEMBERED: usize = 8;

/// Effects within which power fails that fails between two.
const FUSE: u64 = 8;

/// Events that are shown when something is wrong.
const SHOWN: usize = 24;

/// Events that are remembered, to show those of one cluster.
const RECENT: usize = 1 << 14;

/// After the last fault people look at what their clusters say, so often.
const PEOPLE: Duration = Duration::from_secs(1800);

/// Within this it shows what somebody did to a cluster.
const TAKES_EFFECT: Duration = Duration::from_secs(600);

/// At the end nothing may be applied for so long.
const QUIET: Duration = Duration::from_secs(600);

/// What is run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The scenario.
    pub scenario: Scenario,
    /// Decides everything that the scenario leaves open.
    pub seed: u64,
}

/// What an operator decided about an application.
struct Placed {
    release: usize,
    at: Duration,
    /// Which sites run it, as people see it.
    reached: Vec<bool>,
}

/// The fleet.
pub struct World<'a> {
    plan: Plan,
    charter: Arc<Charter>,
    chance: Chance,
    faults: Faults,
    now: Duration,
    end: Duration,
    queue: crate::queue::Queue<What>,
    hub: Hub,
    hub_up: bool,
    /// The last backup; and whether the hub's own store is lost.
    backup: Option<Backup>,
    hub_lost: bool,
    hub_tick: Duration,
    /// Whether something came that it is to handle.
    hub_turn: bool,
    /// Clusters first, then machines whose disk is a copy of a cluster's.
    sites: Vec<Site>,
    clones: clone::Clones,
    links: Vec<Link>,
    connections: u64,
    ledger: Ledger,
    watches: Vec<Watch>,
    placed: Vec<Option<Placed>>,
    /// Of each site, what was on its disk some time ago, and what it held then.
    images: Vec<Option<(Image, Option<Place>)>>,
    /// Of each site, what was in its cluster some time ago.
    clusters: Vec<Option<SimCluster>>,
    /// Sites whose namespace somebody deleted.
    stuck: Vec<bool>,
    /// When somebody last did something at a site that its hub does not know of, unless its agent mended that since.
    edited: Vec<Option<Duration>>,
    /// Sites whose journal does not say any more what is theirs.
    forgot: Vec<bool>,
    recent: VecDeque<Recent>,
    trace: Hasher,
    written: Option<&'a mut dyn Write>,
    applied_late: u64,
    report: Report,
}

impl<'a> World<'a> {
    /// A fleet whose clusters have joined. Events are written to `trace`, if it is given.
    ///
    /// # Errors
    /// When the fleet cannot be made.
    pub fn new(plan: Plan, trace: Option<&'a mut dyn Write>) -> Result<Self> {
        let charter = Arc::new(Charter::new()?);
        let mut chance = Chance::new(plan.seed);
        let scenario = &plan.scenario;
        let start = i64::try_from(START.0)?;
        let settings = Arc::new(Settings { seed: plan.seed, start, ..Settings::default() });
        let site = |number| Site::new(number, &charter, Arc::clone(&settings), chance.split());
        let sites: Vec<Site> = (0..scenario.clusters).map(site).collect();
        let clones = clone::Clones::new(sites.len(), settings);
        let end = Duration::from_secs(u64::from(scenario.days) * 24 * 60 * 60);
        let applications = charter.releases.len() / 2;
        let mut world = Self {
            hub: Hub::new(Arc::clone(&charter)).context("start the hub")?,
            ledger: Ledger::new(Arc::clone(&charter), sites.len()),
            watches: sites.iter().map(|_| Watch::default()).collect(),
            links: sites.iter().map(|_| Link::default()).collect(),
            images: vec![None; sites.len()],
            clusters: vec![None; sites.len()],
            stuck: vec![false; sites.len()],
            edited: vec![None; sites.len()],
            forgot: vec![false; sites.len()],
            faults: scenario.faults.clone(),
            placed: (0..applications).map(|_| None).collect(),
            charter,
            chance,
            now: Duration::ZERO,
            end,
            queue: crate::queue::Queue::default(),
            hub_up: true,
            backup: None,
            hub_lost: false,
            hub_tick: Duration::MAX,
            hub_turn: false,
            sites,
            clones,
            connections: 0,
            recent: VecDeque::with_capacity(RECENT),
            trace: Hasher::new(),
            written: trace,
            applied_late: 0,
            report: Report::new(scenario),
            plan,
        };
        world.begin();
        Ok(world)
    }

    fn begin(&mut self) {
        for number in 0..self.sites.len() {
            let (id, key) = (self.sites[number].id.clone(), self.sites[number].key());
            drop(self.hub.register(Duration::ZERO, &id, key));
            let boot = self.chance.between(Duration::ZERO, REDIAL);
            self.queue.push(boot, What::Boot { site: number });
            self.machine_begins(number);
            for (every, what) in [
                (self.faults.cut_every, What::Cut { site: number }),
                (self.faults.crash_every, What::Crash { site: number }),
                (self.faults.edited_every, What::Edit { site: number }),
                (self.faults.flooded_every, What::Flooded { site: number }),
                (self.faults.key_stolen_every, What::KeyStolen { site: number }),
            ] {
                self.fault_later(every.map(|every| every.0), what);
            }
        }
        for (every, what) in [
            (self.faults.region_cut_every, What::RegionCut),
            (self.faults.hub_ends_every, What::HubEnds),
            (self.faults.hub_clock_wrong_every, What::HubClock { right: false }),
            (self.faults.backed_up_every, What::BackUp),
            (self.faults.hub_lost_every, What::HubLost),
        ] {
            self.fault_later(every.map(|every| every.0), what);
        }
        if let Some(within) = self.faults.accepted_within {
            self.fault_for(Some(within.0), What::Accepted);
        }
        self.queue.push(REDIAL * 2, What::Change);
        self.hub_tick_by(self.hub_waits());
    }

    /// Runs to the end. `progress` is told the time now and then.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn run(mut self, mut progress: impl FnMut(Duration, Duration)) -> Result<Report, Box<Violation>> {
        let settled = self.end + self.plan.scenario.settles_within.0;
        let mut calm = false;
        while let Some((at, what)) = self.queue.pop() {
            if at > self.end && !calm {
                calm = true;
                self.now = self.end;
                self.calm_down();
                // What is mended then comes before it.
                self.queue.push(at, what);
                continue;
            }
            if at > settled {
                break;
            }
            self.now = at;
            self.report.pass(at, &self.hub);
            self.report.events += 1;
            if self.report.events.is_multiple_of(4096) {
                progress(at, settled);
            }
            self.note(&what);
            let site = what.site();
            self.happens(what).map_err(|what| self.violation(what, site))?;
        }
        self.now = settled;
        self.check_end()?;
        self.report.pass(settled, &self.hub);
        self.report.simulated = settled;
        self.report.connections = self.connections;
        self.report.signatures.by_hub += self.ledger.count();
        self.report.syncs = self.sites.iter().map(|site| site.disk.syncs()).sum();
        self.report.starts = self.sites.iter().map(|site| u64::from(site.starts)).sum();
        self.report.trace = self.trace.finish();
        Ok(self.report)
    }

    fn violation(&self, what: String, site: Option<usize>) -> Box<Violation> {
        let of = |recent: &&Recent| site.is_none() || recent.site == site || recent.site.is_none();
        let mut last: Vec<String> =
            self.recent.iter().rev().filter(of).take(SHOWN).map(Recent::line).collect();
        last.reverse();
        if let Some(site) = site.map(|site| &self.sites[site]) {
            last.extend(site.says());
            last.extend(self.hub.says(&site.id));
        }
        Box::new(Violation { at: self.now, what, last })
    }

    fn note(&mut self, what: &What) {
        let (said, bytes) = what.said();
        let (name, site) = (what.name(), what.site());
        self.trace.update(&self.now.as_nanos().to_be_bytes());
        self.trace.update(name.as_bytes());
        self.trace.update(&site.unwrap_or(usize::MAX).to_be_bytes());
        self.trace.update(bytes);
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        let recent = Recent { at: self.now, name, site, len: bytes.len() };
        if let Some(written) = &mut self.written {
            // Whoever reads the trace may have gone; the run goes on.
            let _written = writeln!(written, "{} {said} {}", recent.line(), Digest::of(bytes).short());
        }
        self.recent.push_back(recent);
    }

    /// Nothing goes wrong any more, and what is broken is mended.
    fn calm_down(&mut self) {
        self.faults = Faults::default();
        for what in [What::HubStarts, What::HubClock { right: true }, What::Accepted] {
            self.queue.push(self.now, what);
        }
        for site in 0..self.sites.len() {
            self.sites[site].fuse = None;
            for what in [Machine::ClockRight, Machine::DiskHasRoom, Machine::LinkFast] {
                self.queue.push(self.now, What::Machine { site, what });
            }
            if self.watches[site].is_restored() {
                // It may be going again in what was restored.
                self.stuck[site] = true;
                self.queue.push(self.now, What::Machine { site, what: Machine::NamespaceFreed });
            }
            if self.forgot[site] || self.watches[site].is_restored() {
                self.queue.push(self.now + PEOPLE, What::Machine { site, what: Machine::PeopleLook });
            }
            self.queue.push(self.now, What::Mended { site });
            let next = match self.clones.is_clone(site) {
                true => What::Machine { site, what: Machine::CloneEnds },
                false => What::Boot { site },
            };
            self.queue.push(self.now, next);
        }
    }

    fn happens(&mut self, what: What) -> Result<(), String> {
        match what {
            What::HubTick => self.hub_ticks(),
            What::HubTurn => {
                self.hub_turn = false;
                let sent = self.hub.turn(self.now);
                self.sends(sent)
            }
            What::ToHub { site, connection, topic, bytes } => self.hub_hears(site, connection, topic, bytes),
            What::ToSite { site, connection, topic, bytes } => {
                if self.sites[site].connection != Some(connection) {
                    return Ok(());
                }
                self.report.received(topic);
                self.watches[site].hears(topic, &bytes);
                let caused = self.sites[site].received(self.now, topic, bytes);
                self.follow(site, caused)
            }
            What::Timer { site } => {
                if self.sites[site].timer != self.now {
                    return Ok(());
                }
                self.sites[site].timer = Duration::MAX;
                let caused = self.sites[site].tick(self.now);
                self.follow(site, caused)
            }
            What::Kube { site, output } => {
                self.report.answered(&output);
                let caused = self.sites[site].kube(self.now, *output);
                self.follow(site, caused)
            }
            What::Dial { site } => self.dial(site),
            What::Unnoticed { site, connection } => {
                if self.links[site].hub_side != Some(connection) {
                    return Ok(());
                }
                self.links[site].hub_side = None;
                self.hub.disconnect(&self.sites[site].id);
                self.hub_turns();
                Ok(())
            }
            What::Cut { site } => self.cut(site),
            What::Mended { site } => {
                self.links[site].cut = false;
                self.redial(site);
                Ok(())
            }
            What::Crash { site } => self.crash(site),
            What::Boot { site } => self.boot(site),
            What::Edit { site } => self.edit(site),
            What::Flooded { site } => {
                self.flood(site);
                Ok(())
            }
            What::KeyStolen { site } => self.key_stolen(site),
            What::Machine { site, what } => self.machine(site, what),
            What::RegionCut => self.region_cut(),
            What::HubClock { right } => self.hub_clock(right),
            What::Change => self.change(),
            What::HubEnds => self.hub_ends(),
            What::HubStarts => self.hub_starts(),
            What::BackUp => {
                self.back_up();
                Ok(())
            }
            What::HubLost => self.hub_is_lost(),
            What::Accepted => self.accepted(),
        }
    }

    fn hub_hears(
        &mut self,
        site: usize,
        connection: u64,
        topic: Upward,
        bytes: Vec<u8>,
    ) -> Result<(), String> {
        if !self.hub_up || self.links[site].hub_side != Some(connection) {
            return Ok(());
        }
        self.report.heard();
        let id = self.sites[site].id.clone();
        self.hub.hear(&id, topic, bytes);
        self.hub_turns();
        Ok(())
    }

    /// What came to the hub is handled soon, together with what comes until then.
    fn hub_turns(&mut self) {
        if !std::mem::replace(&mut self.hub_turn, true) {
            let at = self.now + self.chance.between(Duration::ZERO, TURN);
            self.queue.push(at, What::HubTurn);
        }
    }

    /// What the hub sends goes its way; what it left for later comes with the next tick.
    fn sends(&mut self, sent: Vec<Sent>) -> Result<(), String> {
        self.hub_tick_by(self.hub_waits());
        self.carry(sent)
    }

    /// What the hub sends goes its way; what people see by now is looked at.
    fn carry(&mut self, sent: Vec<Sent>) -> Result<(), String> {
        self.hub.check()?;
        for one in sent {
            match one {
                Sent::Kick(id) => {
                    let site = self.clones.speaker(self.number(&id)?);
                    self.links[site].hub_side = None;
                    self.hub.disconnect(&id);
                    self.hub_turns();
                    self.lose_connection(site)?;
                }
                Sent::Message(id, topic, bytes) => {
                    let site = self.clones.speaker(self.number(&id)?);
                    if topic == Downward::Desired {
                        let desired = self.charter.trust.director::<Desired>(&id, &bytes);
                        let desired = desired
                            .map_err(|error| format!("the hub sends {id} what is not valid: {error}"))?;
                        self.ledger.signed(&id, desired.order, desired.digest())?;
                    }
                    self.watches[site].hub_said(topic, &bytes);
                    if let Some(connection) = self.links[site].hub_side {
                        self.report.sent(topic, &bytes);
                        self.deliver_down(site, connection, topic, bytes);
                    }
                }
            }
        }
        self.look_at_news()
    }

    fn look_at_news(&mut self) -> Result<(), String> {
        for (app, id) in self.hub.news() {
            let Some(seen) = self.hub.seen(&app, &id).filter(|seen| seen.state == AssignmentState::Updated)
            else {
                continue;
            };
            let site = self.number(&id)?;
            let released = &self.charter.releases;
            let Some(release) = released.iter().position(|one| one.bundle == seen.bundle) else { continue };
            let lacks = self.ledger.lacks_objects(&self.sites[site], &released[release].digest);
            match (lacks, self.edited[site]) {
                (Some(problem), None)
                    if !self.ledger.holds_forged(site, &id) && !self.clones.is_cloned(site) =>
                {
                    return Err(format!("people see that {id} runs {}, but {problem}", seen.bundle));
                }
                // Its agent may not know yet what somebody else did there.
                (Some(_), _) => continue,
                (None, Some(at)) if at + TAKES_EFFECT < self.now && self.runs_all(site) => {
                    self.edited[site] = None;
                }
                (None, _) => {}
            }
            if let Some(placed) = self.placed[release / 2].as_mut().filter(|placed| placed.release == release)
                && !std::mem::replace(&mut placed.reached[site], true)
            {
                self.report.reached(release / 2, self.now - placed.at);
            }
        }
        Ok(())
    }

    /// Whether a site runs all that is wanted, and its agent knows that it should.
    fn runs_all(&self, site: usize) -> bool {
        let placed = self.placed.iter().flatten();
        let wanted: Vec<&Digest> =
            placed.map(|placed| &self.charter.releases[placed.release].digest).collect();
        self.ledger.lacks(&self.sites[site], &wanted).is_none()
    }

    fn number(&self, id: &ClusterId) -> Result<usize, String> {
        let number = id.as_str().strip_prefix("tower-").and_then(|number| number.parse().ok());
        number
            .filter(|number| *number < self.clones.clusters())
            .ok_or_else(|| format!("there is no cluster {id}"))
    }

    /// What comes of something at a site, and what its agent asks of its cluster; then what it holds is looked at.
    fn follow(&mut self, number: usize, caused: Vec<Caused>) -> Result<(), String> {
        let mut caused = VecDeque::from(caused);
        loop {
            while let Some(one) = caused.pop_front() {
                match one {
                    Caused::Later(delay, output) => {
                        self.watches[number].answers(&output);
                        self.queue.push(self.now + delay, What::Kube { site: number, output });
                    }
                    Caused::Said(connection, topic, bytes) => {
                        let site = &self.sites[number];
                        let first = self.ledger.is_first_life();
                        self.watches[number].says(self.now, site, first, (connection, topic), &bytes)?;
                        self.report.said(topic, bytes.len());
                        self.deliver_up(number, connection, topic, bytes);
                    }
                    Caused::PowerFailed => self.power_failed(number),
                    Caused::JournalFailed => self.journal_failed(number),
                }
            }
            let requests = self.sites[number].requests();
            if requests.is_empty() {
                break;
            }
            for (id, request) in requests {
                self.ledger.check_request(&self.sites[number], &request)?;
                self.watches[number].asks(self.now, &self.sites[number], &request)?;
                self.report.requests += 1;
                let late = self.now + QUIET > self.end + self.plan.scenario.settles_within.0;
                self.applied_late +=
                    u64::from(late && matches!(request, Request::Apply { dry_run: false, .. }));
                let hindrance = self.hindrance();
                caused.extend(self.sites[number].ask(self.now, id, request, hindrance));
            }
        }
        self.ledger.check(number, &self.sites[number])?;
        self.watches[number].check(self.now, &self.sites[number], &self.charter)?;
        // What is due is due now: time does not go back.
        if let Some(at) = self.sites[number].next_time().map(|at| at.max(self.now))
            && at < self.sites[number].timer
        {
            self.sites[number].timer = at;
            self.queue.push(at, What::Timer { site: number });
        }
        Ok(())
    }

    fn boot(&mut self, site: usize) -> Result<(), String> {
        if self.sites[site].agent.is_some() || self.clones.has_ended(site) {
            return Ok(());
        }
        let id = self.sites[site].id.clone();
        self.watches[site].starts(&self.sites[site]);
        let started = self.sites[site].start(self.now);
        let caused = started.map_err(|problem| format!("{id} does not start from its journal: {problem}"))?;
        self.redial(site);
        self.follow(site, caused)
    }

    /// An operator moves an application to its other release.
    fn change(&mut self) -> Result<(), String> {
        if self.now < self.end {
            self.fault_later(Some(self.plan.scenario.change_every.0), What::Change);
        }
        if !self.hub_up || self.now >= self.end {
            return Ok(());
        }
        let application = usize::try_from(self.chance.below(self.placed.len() as u64)).unwrap_or_default();
        let release = match &self.placed[application] {
            Some(placed) if placed.release == 2 * application => 2 * application + 1,
            Some(_) | None => 2 * application,
        };
        self.report.changed(self.now, application);
        let reached = vec![false; self.clones.clusters()];
        self.placed[application] = Some(Placed { release, at: self.now, reached });
        let charter = Arc::clone(&self.charter);
        let sent = self.hub.place(self.now, &charter.releases[release]);
        self.sends(sent)
    }
}
