//! One site: the production's agent and executor, with a journal in memory and a simulated cluster.

use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use edge_agent::{
    VERSION,
    boundary::Boundaries,
    cluster::{
        Cluster, ClusterError, REQUEST_TIMEOUT, Request, Response, WatchEvent,
        sim::{Action, Edit, Input, Output, Settings, SimCluster},
    },
    execute::{Executor, PART_OF},
    logic::{
        agent::{Agent, Identity},
        event::{Effect, Event, Outcome, StepId},
        object::{Gvk, ObjectRef},
        report,
    },
    watches,
};
use futures::{
    FutureExt as _,
    future::LocalBoxFuture,
    stream::{self, LocalBoxStream, StreamExt as _},
};
use protocol::{
    documents::{AppReport, Condition},
    ids::{ClusterId, FleetId, JournalId, Nonce},
    time::{Now, UnixSeconds},
    topics::{Downward, Upward},
};
use serde_json::{Value, json};

use crate::{
    chance::Chance,
    charter::{Charter, FLEET, TENANT, cluster_key},
    disk::{Disk, DiskError},
    hub::wall,
};

/// How often an agent says that it is there.
const HEARTBEAT: Duration = Duration::from_secs(3600);

/// What comes of something at a site.
#[derive(Debug)]
pub enum Caused {
    /// The agent says something to its hub, on a connection.
    Said(u64, Upward, Vec<u8>),
    /// Power failed while it went on.
    PowerFailed,
    /// The journal cannot be written. The agent goes on from what it has, after a while.
    JournalFailed,
    /// The cluster does something later.
    Later(Duration, Box<Output>),
}

/// What is in the way of a request to the API server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hindrance {
    /// The API server is away.
    Refused,
    /// Its answer does not come in time. It did what it was asked for.
    Unanswered,
    /// Somebody else writes the same object at the same time.
    Contended,
    /// Its answer does not come in time, nor does it do what it was asked for.
    Unheard,
}

/// One site.
pub struct Site {
    /// Its cluster's name.
    pub id: ClusterId,
    /// The agent, while it runs.
    pub agent: Option<Agent>,
    /// Its journal.
    pub disk: Disk,
    /// How often it was started.
    pub starts: u32,
    /// Which of its connections is up.
    pub connection: Option<u64>,
    /// What chance decides here.
    pub chance: Chance,
    /// When the next timer of the agent is due; those before it are void.
    pub timer: Duration,
    /// How far its clock is from a right one, in seconds.
    pub clock: i64,
    /// After how many more effects power fails.
    pub fuse: Option<u32>,
    /// What is wrong with its journal, as the hub is to hear.
    trouble: Option<Condition>,
    identity: Identity,
    charter: Arc<Charter>,
    cluster: SimCluster,
    executor: Rc<Executor<Port, Disk>>,
    port: Port,
    steps: Vec<(StepId, LocalBoxFuture<'static, Outcome>)>,
    watched: BTreeMap<Gvk, u64>,
    /// When this process of the agent began.
    started: Duration,
    handled: Duration,
}

/// The way from the executor to the cluster.
#[derive(Clone, Default)]
struct Port(Rc<RefCell<Wire>>);

#[derive(Default)]
struct Wire {
    asked: VecDeque<(u64, Request)>,
    answers: BTreeMap<u64, Result<Response, ClusterError>>,
    /// Requests and watches have numbers of their own over all lives of an agent.
    numbers: u64,
}

impl Wire {
    fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }
}

impl Cluster for Port {
    async fn send(&self, request: Request) -> Result<Response, ClusterError> {
        let number = {
            let mut wire = self.0.borrow_mut();
            let number = wire.number();
            wire.asked.push_back((number, request));
            number
        };
        std::future::poll_fn(|_| match self.0.borrow_mut().answers.remove(&number) {
            Some(answer) => Poll::Ready(answer),
            None => Poll::Pending,
        })
        .await
    }

    /// Watches come by themselves: the executor opens none.
    fn watch(&self, _: Gvk, _: String, _: u64) -> LocalBoxStream<'static, WatchEvent> {
        stream::pending().boxed_local()
    }
}

impl Site {
    /// A site whose agent has joined and was never started.
    pub fn new(number: usize, charter: &Arc<Charter>, settings: Arc<Settings>, chance: Chance) -> Self {
        let id = ClusterId::new(format!("tower-{number:06}")).expect("it is a name");
        let identity = Identity {
            cluster: id.clone(),
            fleet: FleetId::new(FLEET).expect("it is a name"),
            key: Arc::new(cluster_key(number)),
            version: VERSION,
            heartbeat: HEARTBEAT,
        };
        let (port, disk) = (Port::default(), Disk::default());
        let executor = Executor::new(port.clone(), disk.clone(), Boundaries::default());
        let mut cluster = SimCluster::new(settings);
        let made = Action::Merge(json!({}));
        // What comes of it is of no use to anybody yet.
        drop(cluster.handle(Duration::ZERO, Input::Edit(edit(namespace(), made))));
        Self {
            id,
            agent: None,
            disk,
            starts: 0,
            connection: None,
            chance,
            timer: Duration::MAX,
            clock: 0,
            fuse: None,
            trouble: None,
            identity,
            charter: Arc::clone(charter),
            cluster,
            executor: Rc::new(executor),
            port,
            steps: Vec::new(),
            watched: BTreeMap::new(),
            started: Duration::ZERO,
            handled: Duration::ZERO,
        }
    }

    /// The public part of the key that it joined with.
    pub fn key(&self) -> protocol::keys::PublicKey {
        self.identity.key.public()
    }

    /// Starts the agent from its journal, or for the first time.
    ///
    /// # Errors
    /// When it does not take up what it wrote itself.
    pub fn start(&mut self, at: Duration) -> Result<Vec<Caused>, String> {
        (self.starts, self.started, self.handled) = (self.starts + 1, at, Duration::ZERO);
        let (rows, content) = self.disk.load();
        let (identity, trust) = (self.identity.clone(), self.charter.trust.clone());
        let agent = if rows.is_empty() {
            let (agent, entries) = Agent::new(identity, trust, JournalId::new(self.chance.bytes()));
            if let Err(error) = self.disk.record(entries) {
                return Ok(self.journal_failed(at, error));
            }
            agent
        } else {
            Agent::restore(identity, trust, rows, content).map_err(|error| error.to_string())?
        };
        self.agent = Some(agent);
        let mut caused = self.handle(at, Event::Tick);
        if let Some(trouble) = self.trouble.clone() {
            caused.extend(self.handle(at, Event::Journal(vec![trouble])));
        }
        Ok(caused)
    }

    /// Power fails: what is not in the journal is gone. The cluster stays as it is.
    pub fn crash(&mut self, at: Duration) {
        self.end(at);
        (self.fuse, self.trouble) = (None, None);
        self.disk.power_fails(&mut self.chance);
    }

    /// The agent ends, or begins anew.
    fn end(&mut self, at: Duration) {
        self.agent = None;
        self.connection = None;
        self.timer = Duration::MAX;
        self.steps.clear();
        for id in std::mem::take(&mut self.watched).into_values() {
            drop(self.cluster.handle(at, Input::Unwatch { id }));
        }
        let mut wire = self.port.0.borrow_mut();
        wire.asked.clear();
        wire.answers.clear();
        drop(wire);
        self.executor.rest();
    }

    /// The link is up.
    pub fn connected(&mut self, at: Duration) -> Vec<Caused> {
        let nonce = Nonce::new(self.chance.bytes());
        self.handle(at, Event::Connected { nonce })
    }

    /// The link is down.
    pub fn disconnected(&mut self, at: Duration) -> Vec<Caused> {
        self.handle(at, Event::Disconnected { reason: "the connection was cut".to_owned() })
    }

    /// A message comes.
    pub fn received(&mut self, at: Duration, topic: Downward, bytes: Vec<u8>) -> Vec<Caused> {
        self.handle(at, Event::Received { topic, bytes })
    }

    /// A timer is due.
    pub fn tick(&mut self, at: Duration) -> Vec<Caused> {
        self.handle(at, Event::Tick)
    }

    /// Somebody changes an object, or deletes it.
    pub fn edit(&mut self, at: Duration, object: ObjectRef, action: Action) -> Vec<Caused> {
        later(self.cluster.handle(at, Input::Edit(edit(object, action))))
    }

    /// What is in its cluster, for [`Self::restore_cluster`].
    pub fn cluster_image(&self) -> SimCluster {
        self.cluster.clone()
    }

    /// The API server is restored from a backup.
    pub fn restore_cluster(&mut self, image: &SimCluster) -> Vec<Caused> {
        later(self.cluster.restore(image))
    }

    /// What the cluster was to do later.
    pub fn kube(&mut self, at: Duration, output: Output) -> Vec<Caused> {
        match output {
            Output::Task(task) => later(self.cluster.handle(at, Input::Task(task))),
            Output::Answer { id, answer } => {
                // Whoever asked may have gone.
                if self.agent.is_some() {
                    self.port.0.borrow_mut().answers.insert(id, answer);
                }
                self.go_on(at)
            }
            Output::Event { id, event } => {
                let kind = self.watched.iter().find(|(_, watch)| **watch == id).map(|(kind, _)| kind.clone());
                match kind.and_then(|kind| watches::observation(kind, event)) {
                    Some(observation) => self.handle(at, Event::Observed(observation)),
                    None => Vec::new(),
                }
            }
        }
    }

    /// Requests that the agent has for its cluster; each is to be put to it with [`Site::ask`], or not at all.
    pub fn requests(&mut self) -> Vec<(u64, Request)> {
        self.port.0.borrow_mut().asked.drain(..).collect()
    }

    /// Puts a request to the cluster, unless something is in its way.
    pub fn ask(
        &mut self,
        at: Duration,
        id: u64,
        request: Request,
        hindrance: Option<Hindrance>,
    ) -> Vec<Caused> {
        let answer_after =
            |delay, error| Caused::Later(delay, Box::new(Output::Answer { id, answer: Err(error) }));
        match hindrance {
            None => later(self.cluster.handle(at, Input::Request { id, request })),
            Some(Hindrance::Refused) => {
                let error = ClusterError::Unavailable { message: "connection refused".to_owned() };
                vec![answer_after(Duration::from_millis(1), error)]
            }
            Some(Hindrance::Contended) => {
                let Request::Apply { object, .. } = request else {
                    return later(self.cluster.handle(at, Input::Request { id, request }));
                };
                let message = "the object has been modified; please apply your changes to the latest version";
                let error = ClusterError::Contended { object: Box::new(object), message: message.to_owned() };
                vec![answer_after(Duration::from_millis(5), error)]
            }
            Some(Hindrance::Unheard) => {
                vec![answer_after(REQUEST_TIMEOUT, ClusterError::Timeout { after: REQUEST_TIMEOUT })]
            }
            Some(Hindrance::Unanswered) => {
                let mut caused = later(self.cluster.handle(at, Input::Request { id, request }));
                caused.retain(|one| !matches!(one, Caused::Later(_, output) if matches!(**output, Output::Answer { .. })));
                caused.push(answer_after(REQUEST_TIMEOUT, ClusterError::Timeout { after: REQUEST_TIMEOUT }));
                caused
            }
        }
    }

    /// An object of its cluster.
    pub fn object(&self, object: &ObjectRef) -> Option<&Value> {
        self.cluster.object(object)
    }

    /// What the agent says of its applications, for people who look for what is wrong.
    pub fn says(&self) -> Vec<String> {
        let Some(agent) = &self.agent else { return vec!["its agent does not run".to_owned()] };
        let said = agent.apps().values().filter_map(|app| report::assess(app, None));
        let line = |report: AppReport| {
            let worst =
                report.worst.map(|worst| format!("{}: {}: {}", worst.object, worst.reason, worst.message));
            let refused =
                report.rejected.map(|rejected| format!("{}: {}", rejected.reason, rejected.message));
            let problems: Vec<String> = worst.into_iter().chain(refused).collect();
            format!("its agent says: {} is {} {}", report.app, report.state, problems.join("; "))
        };
        said.map(line).collect()
    }

    /// Objects of which the agent says that others hold their fields, the worst of each application.
    pub fn conflicts(&self) -> Vec<String> {
        let apps = self.agent.iter().flat_map(|agent| agent.apps().values());
        let worst = apps.filter_map(|app| report::assess(app, None)?.worst);
        worst.filter(|worst| worst.reason == "Conflict").map(|worst| worst.object).collect()
    }

    /// When the agent wants to be told the time.
    pub fn next_time(&self) -> Option<Duration> {
        let at = self.agent.as_ref()?.next_time(self.handled);
        (at < Duration::MAX).then(|| self.started + at)
    }

    /// How long its agent runs.
    pub fn runs_for(&self, at: Duration) -> Duration {
        at.saturating_sub(self.started)
    }

    fn now(&self, at: Duration) -> Now {
        let wall = UnixSeconds(wall(at).0.saturating_add_signed(self.clock));
        Now { monotonic: self.runs_for(at), wall }
    }

    /// Whether power fails before the next effect.
    fn burns(&mut self) -> bool {
        match self.fuse {
            Some(0) => true,
            Some(left) => {
                self.fuse = Some(left - 1);
                false
            }
            None => false,
        }
    }

    fn journal_failed(&mut self, at: Duration, error: DiskError) -> Vec<Caused> {
        let kind = match error {
            DiskError::Full => "DiskFull",
            DiskError::Flush => "JournalFailed",
        };
        self.trouble = Some(report::condition(kind, true, kind, &error.to_string()));
        self.end(at);
        vec![Caused::JournalFailed]
    }

    /// Tells the agent, as the driver does: what it records is written before anything else of it starts.
    fn handle(&mut self, at: Duration, event: Event) -> Vec<Caused> {
        let now = self.now(at);
        let Some(agent) = &mut self.agent else { return Vec::new() };
        self.handled = now.monotonic;
        let mut effects = agent.handle(now, event);
        let mut entries = Vec::new();
        effects.retain_mut(|effect| match effect {
            Effect::Record(recorded) => {
                entries.append(recorded);
                false
            }
            Effect::Judged(_) => false,
            Effect::Observe(_) | Effect::Execute { .. } | Effect::Publish { .. } => true,
        });
        if self.burns() {
            self.crash(at);
            return vec![Caused::PowerFailed];
        }
        let is_written = !entries.is_empty();
        if let Err(error) = self.disk.record(entries) {
            return self.journal_failed(at, error);
        }
        let mended = is_written && self.trouble.take().is_some();
        let mut caused = Vec::new();
        for effect in effects {
            if self.burns() {
                self.crash(at);
                caused.push(Caused::PowerFailed);
                return caused;
            }
            match effect {
                Effect::Record(_) | Effect::Judged(_) => {}
                Effect::Observe(kinds) => self.observe(at, kinds, &mut caused),
                Effect::Execute { id, step } => {
                    let executor = Rc::clone(&self.executor);
                    self.steps.push((id, async move { executor.run(step).await }.boxed_local()));
                }
                Effect::Publish { topic, bytes } => {
                    caused.extend(self.connection.map(|connection| Caused::Said(connection, topic, bytes)));
                }
            }
        }
        if mended {
            caused.extend(self.handle(at, Event::Journal(Vec::new())));
        }
        caused.extend(self.go_on(at));
        caused
    }

    fn observe(&mut self, at: Duration, kinds: Vec<Gvk>, caused: &mut Vec<Caused>) {
        let gone: Vec<Gvk> = self.watched.keys().filter(|kind| !kinds.contains(kind)).cloned().collect();
        for kind in gone {
            if let Some(id) = self.watched.remove(&kind) {
                caused.extend(later(self.cluster.handle(at, Input::Unwatch { id })));
            }
        }
        for kind in kinds {
            if !self.watched.contains_key(&kind) {
                let id = self.port.0.borrow_mut().number();
                self.watched.insert(kind.clone(), id);
                let watch = Input::Watch { id, kind, label_selector: PART_OF.to_owned() };
                caused.extend(later(self.cluster.handle(at, watch)));
            }
        }
    }

    /// Lets steps go on as far as they can, and tells the agent of those that ended.
    fn go_on(&mut self, at: Duration) -> Vec<Caused> {
        let mut caused = Vec::new();
        let mut context = Context::from_waker(Waker::noop());
        let mut index = 0;
        while let Some((id, step)) = self.steps.get_mut(index) {
            let id = *id;
            match step.as_mut().poll(&mut context) {
                Poll::Pending => index += 1,
                Poll::Ready(outcome) => {
                    drop(self.steps.remove(index));
                    caused.extend(self.handle(at, Event::StepDone { id, outcome }));
                    // What it led to may have changed the list.
                    index = 0;
                }
            }
        }
        if self.steps.is_empty() {
            self.executor.rest();
        }
        caused
    }
}

/// The namespace that the tenant's applications run in.
pub fn namespace() -> ObjectRef {
    ObjectRef { gvk: Gvk::new("v1", "Namespace"), namespace: None, name: TENANT.to_owned() }
}

fn later(outputs: Vec<(Duration, Output)>) -> Vec<Caused> {
    outputs.into_iter().map(|(delay, output)| Caused::Later(delay, Box::new(output))).collect()
}

fn edit(object: ObjectRef, action: Action) -> Edit {
    Edit { manager: "kubectl-edit".to_owned(), subresource: String::new(), object, action }
}
