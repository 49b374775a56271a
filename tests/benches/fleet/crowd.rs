//! Thousands of connected clusters, each a task.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Result, ensure};
use bytes::Bytes;
use edgefleet::clock;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use protocol::{
    documents::{Desired, Head},
    ids::ClusterId,
    topics::{Downward, Upward, parse_downward},
    verify::Trust,
};
use rustls_pki_types::CertificateDer;
use tests::spoke::Spoke;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, timeout},
};

use crate::mqtt::{Connection, Identity};

/// Connections being made at once: fewer than a hub allows from one address.
const CONNECTING: usize = 32;

/// Longest wait for all clusters to hear something; reached only when something is wrong.
const SOON: Duration = Duration::from_secs(180);

/// A cluster and its certificate with key.
pub(crate) struct Member {
    pub(crate) spoke: Spoke,
    pub(crate) pem: String,
}

/// The last head and desired state that a cluster was sent.
#[derive(Debug, Clone)]
pub(crate) struct Heard {
    pub(crate) cluster: ClusterId,
    pub(crate) head: Bytes,
    pub(crate) desired: Bytes,
}

/// How far all are, together.
#[derive(Debug, Default)]
struct Progress {
    /// Desired states that were verified.
    told: usize,
    /// Messages that the broker confirmed.
    confirmed: usize,
    failed: Option<String>,
}

/// What the clusters share.
struct Shared {
    trust: Trust,
    /// Whether they say hello and report, as clusters do to their hub.
    talks: bool,
    reports: AtomicBool,
    progress: watch::Sender<Progress>,
    heard: Mutex<Vec<Heard>>,
}

/// Connected clusters. They go when it is dropped.
pub(crate) struct Crowd {
    shared: Arc<Shared>,
    count: usize,
    /// Desired states that each was to be told so far.
    rounds: usize,
    _tasks: JoinSet<()>,
}

impl Crowd {
    /// Connects every member to the broker at `address`; those that talk have said hello when this returns.
    pub(crate) async fn connect(
        members: Vec<Member>,
        address: SocketAddr,
        ca: &CertificateDer<'static>,
        trust: &Trust,
        talks: bool,
    ) -> Result<Self> {
        let count = members.len();
        let connecting = stream::iter(members).map(async |member| {
            let Member { spoke, pem } = member;
            let identity = Identity { name: spoke.id.as_str(), ca, pem: &pem };
            let topics = Downward::ALL.map(|topic| topic.topic(&spoke.id));
            let connection = Connection::open(address, &identity, &topics).await?;
            if talks {
                connection.publish(Upward::Hello.topic(&spoke.id), spoke.hello(clock::now()))?;
            }
            anyhow::Ok(Client { spoke, connection })
        });
        let connected: Vec<Client> = connecting.buffer_unordered(CONNECTING).try_collect().await?;
        let nothing = |client: &Client| {
            let cluster = client.spoke.id.clone();
            Heard { cluster, head: Bytes::new(), desired: Bytes::new() }
        };
        let shared = Arc::new(Shared {
            trust: trust.clone(),
            talks,
            reports: AtomicBool::new(talks),
            progress: watch::Sender::default(),
            heard: Mutex::new(connected.iter().map(nothing).collect()),
        });
        let mut tasks = JoinSet::new();
        for (number, client) in connected.into_iter().enumerate() {
            let shared = Arc::clone(&shared);
            tasks.spawn(async move {
                if let Err(error) = client.run(number, &shared).await {
                    shared.progress.send_modify(|progress| progress.failed = Some(format!("{error:#}")));
                }
            });
        }
        Ok(Self { shared, count, rounds: 0, _tasks: tasks })
    }

    /// Has something done, and waits until every cluster was told another desired state because of it. Returns how long
    /// that took. What each is told is counted from the start: the first may come before anybody waits for it.
    pub(crate) async fn all_told(&mut self, change: impl Future<Output = Result<()>>) -> Result<Duration> {
        self.rounds += 1;
        let goal = self.rounds * self.count;
        let begin = Instant::now();
        change.await?;
        self.reach(|progress| progress.told >= goal).await?;
        Ok(begin.elapsed())
    }

    /// Waits until the hub has so many messages of every cluster.
    pub(crate) async fn all_confirmed(&self, times: usize) -> Result<()> {
        self.reach(|progress| progress.confirmed >= times * self.count).await
    }

    /// From now on they only listen.
    pub(crate) fn stop_reporting(&self) {
        self.shared.reports.store(false, Ordering::Release);
    }

    /// What each was sent last.
    pub(crate) fn heard(&self) -> Vec<Heard> {
        self.shared.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn reach(&self, goal: impl Fn(&Progress) -> bool) -> Result<()> {
        let mut progress = self.shared.progress.subscribe();
        let reached = progress.wait_for(|progress| progress.failed.is_some() || goal(progress));
        let reached = timeout(SOON, reached).await;
        let now = self.shared.progress.borrow();
        ensure!(reached.is_ok() && now.failed.is_none(), "of {} clusters: {now:?}", self.count);
        Ok(())
    }
}

/// One connected cluster.
struct Client {
    spoke: Spoke,
    connection: Connection,
}

impl Client {
    async fn run(mut self, number: usize, shared: &Shared) -> Result<()> {
        loop {
            match self.connection.next().await? {
                None => shared.progress.send_modify(|progress| progress.confirmed += 1),
                Some(message) => {
                    let (_, topic) = parse_downward(str::from_utf8(&message.topic)?)?;
                    let told = self.take(topic, &message.payload, shared)?;
                    self.connection.confirm(&message)?;
                    let mut heard = shared.heard.lock().unwrap_or_else(PoisonError::into_inner);
                    note(&mut heard[number], topic, message.payload);
                    drop(heard);
                    if told {
                        self.told(shared)?;
                    }
                }
            }
        }
    }

    /// Verifies what came, whoever carried it. True for another desired state.
    fn take(&mut self, topic: Downward, payload: &[u8], shared: &Shared) -> Result<bool> {
        if shared.talks {
            return self.spoke.take(&shared.trust, topic, payload);
        }
        // The same as before: the spoke would not believe it twice.
        if topic == Downward::Head {
            shared.trust.director::<Head>(&self.spoke.id, payload)?;
            return Ok(false);
        }
        shared.trust.director::<Desired>(&self.spoke.id, payload)?;
        Ok(true)
    }

    fn told(&mut self, shared: &Shared) -> Result<()> {
        if shared.reports.load(Ordering::Acquire) {
            let report = self.spoke.report(clock::now())?;
            self.connection.publish(Upward::Report.topic(&self.spoke.id), report)?;
        }
        shared.progress.send_modify(|progress| progress.told += 1);
        Ok(())
    }
}

fn note(heard: &mut Heard, topic: Downward, payload: Bytes) {
    match topic {
        Downward::Head => heard.head = payload,
        Downward::Desired => heard.desired = payload,
        Downward::Ack | Downward::Ask | Downward::Blob | Downward::Root => {}
    }
}
