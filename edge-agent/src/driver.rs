//! The loop: events in, one transaction, effects out.
//!
//! What is ready together is handled together, and all that it records is written in one transaction before
//! anything else of it starts. Where that fails, nothing of it happened: the agent is rebuilt from the journal,
//! as after a restart.

use std::{path::PathBuf, pin::pin, rc::Rc, time::Duration};

use futures::{FutureExt, StreamExt, future::LocalBoxFuture, stream::FuturesUnordered};
use protocol::{codec, documents::Condition, ids::Digest, time::Now, topics::Upward, verify::Trust};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tracing::{error, info, warn};

use crate::{
    boundary::{At, Boundaries},
    clock::{self, Clock, NoRandom},
    cluster::{Cluster, WatchEvent},
    control::{Ask, Reply, Request},
    execute::{Executor, PART_OF},
    journal::{self, Held, Journal, JournalError},
    logic::{
        RestoreError,
        agent::{Agent, Identity},
        backoff,
        entry::Entry,
        event::{Carried, Command, Effect, Event, Outcome, StepId},
        object::Gvk,
        report::{self, chain},
    },
    status::{HubStatus, Status},
    uplink::{FromHub, Receipt, ToHub, Uplink},
    watches::{self, Watches},
};

/// Most events handled together. More of them in one transaction save little; fewer keep the answer to the
/// next one near.
const BATCH: usize = 64;

/// What a driver is told once.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Who the agent is.
    pub identity: Identity,
    /// What everything is verified against.
    pub trust: Trust,
    /// The journal's file.
    pub journal: PathBuf,
    /// Largest it may become.
    pub journal_bytes: u64,
    /// Where a test may abort it.
    pub boundaries: Boundaries,
    /// How it is with the hub, for whoever runs it.
    pub seen: watch::Sender<Seen>,
}

/// How it is with the hub.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The connection.
    pub hub: HubStatus,
    /// Reports that were given to the link, heartbeats and those said again among them.
    pub reports: u64,
}

/// What ends a driver other than being asked to.
#[derive(Debug, thiserror::Error)]
pub enum DriveError {
    /// The journal is of no use.
    #[error("the agent cannot go on without its journal")]
    Journal(#[from] JournalError),
    /// Nothing can be sent without random bytes.
    #[error("the agent cannot go on without random bytes")]
    Random(#[from] NoRandom),
    /// The journal was damaged while it was in use. It was put aside: the next start begins a new one.
    #[error("{} was damaged and is put aside ({problem}); start the agent again", path.display())]
    Damaged {
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The link cannot be started again.
    #[error("the link to the hub ended: check the files of the cluster's identity")]
    Link,
}

/// Runs one agent.
pub struct Driver<C> {
    setup: Setup,
    clock: Clock,
    cluster: C,
    uplink: Uplink,
    asks: mpsc::Receiver<Ask>,
    agent: Agent,
    journal: Rc<Journal>,
    executor: Rc<Executor<C>>,
    steps: FuturesUnordered<LocalBoxFuture<'static, (StepId, Outcome)>>,
    watches: Watches,
    trouble: Trouble,
    /// When the last event was handled.
    handled: Duration,
}

/// What is wrong with the journal, and with the certificate.
#[derive(Debug, Default)]
struct Trouble {
    /// What was found damaged, since this process started.
    damage: Option<String>,
    /// The last write that failed, until one succeeds.
    failed: Option<Condition>,
    /// Why the certificate was not renewed, until it is.
    certificate: Option<Condition>,
    /// How many failed in a row.
    times: u32,
    /// Nothing is done until then.
    paused_until: Option<Duration>,
    /// Messages of the link before are not heard.
    deaf: bool,
    /// The agent does not know of it as it is now.
    untold: bool,
}

impl Trouble {
    fn new(damage: Option<String>) -> Self {
        Self { untold: damage.is_some(), damage, ..Self::default() }
    }

    /// What the hub is to know of it.
    fn conditions(&self) -> Vec<Condition> {
        let damage = self.damage.iter();
        let damage = damage.map(|problem| report::condition("JournalLost", true, "JournalDamaged", problem));
        self.failed.iter().chain(&self.certificate).cloned().chain(damage).collect()
    }
}

/// What is waited for.
enum Input {
    Hub(Option<FromHub>),
    Step(StepId, Outcome),
    Watch(Gvk, WatchEvent),
    Ask(Ask),
    Tick,
}

/// What a batch of events led to.
#[derive(Default)]
struct Work {
    effects: Vec<Effect>,
    receipts: Vec<Receipt>,
    asks: Vec<Asked>,
}

/// Somebody who waits for an answer.
struct Asked {
    ask: Ask,
    /// Why what was brought is refused.
    refused: Option<String>,
}

impl Work {
    fn take(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match (effect, self.asks.last_mut()) {
                (Effect::Judged(Err(refusal)), Some(asked)) => asked.refused = Some(chain(&refusal)),
                (Effect::Judged(_), _) => {}
                (effect, _) => self.effects.push(effect),
            }
        }
    }
}

impl<C: Cluster + Clone + 'static> Driver<C> {
    /// An agent as its journal has it, or a new one.
    pub fn new(
        setup: Setup,
        cluster: C,
        uplink: Uplink,
        asks: mpsc::Receiver<Ask>,
    ) -> Result<Self, DriveError> {
        let clock = Clock::start();
        let (journal, agent, damage) = open(&setup)?;
        let executor = Executor::new(cluster.clone(), Rc::clone(&journal), setup.boundaries.clone());
        let watches = Watches::new(PART_OF, seed(&setup.identity));
        Ok(Self {
            setup,
            clock,
            cluster,
            uplink,
            asks,
            agent,
            journal,
            executor: Rc::new(executor),
            steps: FuturesUnordered::new(),
            watches,
            trouble: Trouble::new(damage),
            handled: Duration::ZERO,
        })
    }

    /// Runs until `shutdown` is ready.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) -> Result<(), DriveError> {
        let mut shutdown = pin!(shutdown);
        let mut batch = vec![Input::Tick];
        loop {
            let work = self.handle(batch)?;
            if let Err(error) = self.commit(work) {
                self.recover(error)?;
            }
            if self.steps.is_empty() {
                self.executor.rest();
            }
            let first = tokio::select! {
                biased;
                () = &mut shutdown => break,
                input = self.next() => input,
            };
            batch = vec![first];
            // While the journal rests, so does everything else.
            while self.trouble.paused_until.is_none()
                && batch.len() < BATCH
                && let Some(input) = self.ready().now_or_never()
            {
                batch.push(input);
            }
        }
        if let Some(passed) = self.setup.boundaries.total() {
            info!(passed, "boundaries");
        }
        Ok(())
    }

    /// The next thing that happens, or the time at which something is to be done.
    async fn next(&mut self) -> Input {
        if let Some(until) = self.trouble.paused_until {
            let timer = sleep_until(self.clock.at(until));
            tokio::select! {
                biased;
                Some(ask) = self.asks.recv() => return Input::Ask(ask),
                () = timer => {}
            }
            self.trouble.paused_until = None;
            return Input::Tick;
        }
        let at = self.agent.next_time(self.handled);
        let timer = sleep_until(self.clock.at(at));
        tokio::select! {
            biased;
            input = self.ready() => input,
            () = timer => Input::Tick,
        }
    }

    /// The next thing that happens. Dropping this future loses nothing.
    async fn ready(&mut self) -> Input {
        tokio::select! {
            biased;
            Some(ask) = self.asks.recv() => Input::Ask(ask),
            Some((id, outcome)) = self.steps.next() => Input::Step(id, outcome),
            said = self.uplink.events.recv() => Input::Hub(said),
            (kind, event) = self.watches.next() => Input::Watch(kind, event),
        }
    }

    fn handle(&mut self, batch: Vec<Input>) -> Result<Work, DriveError> {
        let mut work = Work::default();
        if std::mem::take(&mut self.trouble.untold) {
            let event = Event::Journal(self.trouble.conditions());
            work.take(self.agent.handle(self.clock.now(), event));
        }
        for input in batch {
            let now = self.clock.now();
            if let Some(event) = self.event(input, now, &mut work)? {
                work.take(self.agent.handle(now, event));
                self.handled = now.monotonic;
            }
        }
        Ok(work)
    }

    /// What the agent is told of an input, if anything.
    fn event(&mut self, input: Input, now: Now, work: &mut Work) -> Result<Option<Event>, DriveError> {
        Ok(match input {
            Input::Tick => Some(Event::Tick),
            Input::Step(id, outcome) => Some(Event::StepDone { id, outcome }),
            Input::Watch(kind, event) => watches::observation(kind, event).map(Event::Observed),
            Input::Ask(ask) => {
                let event = match &ask.request {
                    Request::Status | Request::Report { .. } => None,
                    Request::Hold { reason } => {
                        Some(Event::Command(Command::Hold { reason: reason.clone() }))
                    }
                    Request::Release => Some(Event::Command(Command::Release)),
                    Request::ConfirmClock => Some(Event::Carried(Carried::Clock)),
                    Request::Carry { record } => match codec::decode("record", record) {
                        Ok(record) => Some(Event::Carried(Carried::Record(record))),
                        Err(error) => {
                            // Whoever asked may have gone.
                            let _sent = ask.reply.send(Reply::Failed { message: chain(&error) });
                            return Ok(None);
                        }
                    },
                };
                work.asks.push(Asked { ask, refused: None });
                event
            }
            Input::Hub(None) => return Err(DriveError::Link),
            Input::Hub(Some(said)) => self.heard(said, now, work)?,
        })
    }

    fn heard(&mut self, said: FromHub, now: Now, work: &mut Work) -> Result<Option<Event>, DriveError> {
        Ok(match said {
            FromHub::Down { reason } => {
                info!(reason, "no connection to the hub");
                self.trouble.deaf = false;
                self.link_is(HubStatus { connected: false, reason: reason.clone(), since: now.wall });
                Some(Event::Disconnected { reason })
            }
            FromHub::Certificate(trouble) => {
                self.trouble.certificate = trouble;
                Some(Event::Journal(self.trouble.conditions()))
            }
            FromHub::Up | FromHub::Message { .. } if self.trouble.deaf => None,
            FromHub::Up => {
                info!("connected to the hub");
                self.link_is(HubStatus { connected: true, reason: String::new(), since: now.wall });
                Some(Event::Connected { nonce: clock::nonce()? })
            }
            FromHub::Message { topic, bytes, receipt } => {
                work.receipts.push(receipt);
                Some(Event::Received { topic, bytes })
            }
        })
    }

    fn link_is(&self, hub: HubStatus) {
        self.setup.seen.send_modify(|seen| seen.hub = hub);
    }

    /// Writes what is to be recorded; then starts the rest, in order.
    fn commit(&mut self, work: Work) -> Result<(), JournalError> {
        let Work { effects, receipts, asks } = work;
        let (entries, effects) = split(effects);
        if !entries.is_empty() {
            if let Err(error) = self.journal.record(&entries) {
                refuse(asks, &error);
                return Err(error);
            }
            self.trouble.untold |= self.trouble.failed.take().is_some();
            self.trouble.times = 0;
        }
        effects.into_iter().for_each(|effect| self.start(effect));
        for receipt in receipts {
            self.setup.boundaries.pass(At::Acknowledge);
            self.tell(ToHub::Acknowledge(receipt));
        }
        for Asked { ask, refused } in asks {
            let reply = match (ask.request, refused) {
                (_, Some(message)) => Reply::Failed { message },
                (Request::Status, None) => Reply::Status(Box::new(self.status())),
                (Request::Report { index }, None) => self.report(index),
                (
                    Request::Hold { .. } | Request::Release | Request::ConfirmClock | Request::Carry { .. },
                    None,
                ) => Reply::Done,
            };
            // Whoever asked may have gone.
            let _sent = ask.reply.send(reply);
        }
        Ok(())
    }

    fn report(&self, index: usize) -> Reply {
        let mut reports = self.agent.reports(self.clock.now());
        let count = reports.len();
        match index < count {
            true => Reply::Report { envelope: reports.swap_remove(index), count },
            false => Reply::Failed { message: format!("there are {count} reports") },
        }
    }

    fn start(&mut self, effect: Effect) {
        match effect {
            // Written already, with all others of the batch; told already, with its question.
            Effect::Record(_) | Effect::Judged(_) => {}
            Effect::Observe(kinds) => {
                self.setup.boundaries.pass(At::Watch);
                self.watches.observe(&self.cluster, kinds);
            }
            Effect::Execute { id, step } => {
                let executor = Rc::clone(&self.executor);
                self.steps.push(async move { (id, executor.run(step).await) }.boxed_local());
            }
            Effect::Publish { topic, bytes } => {
                self.setup.boundaries.pass(At::Publish);
                if topic == Upward::Report {
                    self.setup.seen.send_modify(|seen| seen.reports += 1);
                }
                self.tell(ToHub::Publish { topic, bytes });
            }
        }
    }

    fn tell(&self, command: ToHub) {
        // A hub that does not take messages learns what is from the next heartbeat.
        if let Err(error) = self.uplink.commands.try_send(command) {
            warn!(%error, "the link to the hub takes no more messages");
        }
    }

    /// Goes on from what the journal has, after a pause: as after a restart.
    fn recover(&mut self, failure: JournalError) -> Result<(), DriveError> {
        error!(error = %chain(&failure), "cannot write the journal; going on from what it has");
        self.steps.clear();
        self.watches.clear();
        self.trouble.times += 1;
        let kind = if matches!(failure, JournalError::Full { .. }) { "DiskFull" } else { "JournalFailed" };
        self.trouble.failed = Some(report::condition(kind, true, kind, &chain(&failure)));
        let wait = backoff::wait(self.trouble.times, self.setup.identity.cluster.as_str());
        self.trouble.paused_until = Some(self.clock.now().monotonic + wait);
        (self.trouble.deaf, self.trouble.untold) = (true, true);
        // A lost message is said again; this one is not.
        self.uplink.commands.try_send(ToHub::Reconnect).map_err(|_| DriveError::Link)?;
        self.reload(failure)
    }

    fn reload(&mut self, failure: JournalError) -> Result<(), DriveError> {
        if let JournalError::Corrupt { .. } = failure {
            return Err(give_up(&self.setup, chain(&failure)));
        }
        let held = match self.journal.load() {
            Ok(held) => held,
            Err(error @ JournalError::Corrupt { .. }) => return Err(give_up(&self.setup, chain(&error))),
            Err(error) => return Err(error.into()),
        };
        self.agent =
            agent(&self.setup, &self.journal, held)?.map_err(|error| give_up(&self.setup, chain(&error)))?;
        Ok(())
    }

    fn status(&self) -> Status {
        let hub = self.setup.seen.borrow().hub.clone();
        Status::new(&self.setup.identity, &self.agent, hub, self.journal.size_bytes())
    }
}

/// The journal and the agent it holds. What cannot be read or believed is put aside, and a new life begins.
fn open(setup: &Setup) -> Result<(Rc<Journal>, Agent, Option<String>), DriveError> {
    let (journal, held, damage) = Journal::open_or_begin(&setup.journal, setup.journal_bytes)?;
    let journal = journal.with_boundaries(setup.boundaries.clone());
    let problem = match agent(setup, &journal, held)? {
        Ok(agent) => return Ok((Rc::new(journal), agent, damage.map(|error| noted(&chain(&error))))),
        Err(error) => chain(&error),
    };
    drop(journal);
    journal::put_aside(&setup.journal)?;
    let (journal, _empty) = Journal::open(&setup.journal, setup.journal_bytes)?;
    let journal = journal.with_boundaries(setup.boundaries.clone());
    let agent = begin(setup, &journal)?;
    Ok((Rc::new(journal), agent, Some(noted(&problem))))
}

fn noted(problem: &str) -> String {
    error!(problem, "the journal was put aside and a new one begun");
    format!("{problem}; it was put aside and a new one begun")
}

/// The agent that a journal holds, or a new one where it holds nothing.
fn agent(setup: &Setup, journal: &Journal, held: Held) -> Result<Result<Agent, RestoreError>, DriveError> {
    if held.rows.is_empty() {
        return begin(setup, journal).map(Ok);
    }
    let Held { rows, content } = held;
    Ok(Agent::restore(setup.identity.clone(), setup.trust.clone(), rows, content))
}

fn begin(setup: &Setup, journal: &Journal) -> Result<Agent, DriveError> {
    let (agent, entries) = Agent::new(setup.identity.clone(), setup.trust.clone(), clock::journal_id()?);
    journal.record(&entries)?;
    Ok(agent)
}

/// Puts the journal aside although it is open: nothing more is written to it.
fn give_up(setup: &Setup, problem: String) -> DriveError {
    match journal::put_aside(&setup.journal) {
        Ok(()) => DriveError::Damaged { path: setup.journal.clone(), problem },
        Err(error) => error.into(),
    }
}

/// All that is to be recorded, in order, and all that is to be started after it.
fn split(effects: Vec<Effect>) -> (Vec<Entry>, Vec<Effect>) {
    let mut entries = Vec::new();
    let mut rest = Vec::new();
    for effect in effects {
        match effect {
            Effect::Record(recorded) => entries.extend(recorded),
            other @ (Effect::Observe(_)
            | Effect::Execute { .. }
            | Effect::Publish { .. }
            | Effect::Judged(_)) => rest.push(other),
        }
    }
    (entries, rest)
}

fn refuse(asks: Vec<Asked>, error: &JournalError) {
    for Asked { ask, .. } in asks {
        let _sent = ask.reply.send(Reply::Failed { message: chain(error) });
    }
}

/// Spreads the retries of a fleet's watches.
fn seed(identity: &Identity) -> u64 {
    let digest = Digest::of(identity.cluster.as_str().as_bytes());
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&digest.as_bytes()[..8]);
    u64::from_be_bytes(bytes)
}

/// Waits until then, or for ever.
async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
#[cfg(feature = "sim")]
mod tests;
