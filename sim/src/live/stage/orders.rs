//! What agents' processes are told to do, at the time for it: join, as fast as operators may make codes, and have an object
//! changed by hand.

use std::time::Duration;

use anyhow::{Error, Result};
use edgefleet::hub::Hub as Operator;
use futures::{StreamExt as _, stream};
use protocol::ids::ClusterId;
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};

use crate::live::{fleet::LABEL, tally::Order};

/// How fast codes are made: three requests each, of the hundred a second that a hub takes of one operator.
const CODE_EVERY: Duration = Duration::from_millis(32);

/// Codes being made at once.
const AT_ONCE: usize = 8;

/// Orders that may wait.
const WAITING: usize = 64;

/// An order for a cluster.
pub(super) struct Given {
    pub(super) cluster: usize,
    pub(super) order: Order,
}

/// Orders as they become due.
pub(super) struct Orders {
    clusters: usize,
    /// Of each process of agents, the ports of its network: where clusters connect, and where they join.
    doors: Vec<[u16; 2]>,
    due: mpsc::Receiver<Result<Given>>,
}

impl Orders {
    /// None is due yet.
    pub(super) fn new(clusters: usize, doors: Vec<[u16; 2]>) -> Self {
        let (_nobody, due) = mpsc::channel(1);
        Self { clusters, doors, due }
    }

    /// Which process a cluster belongs to.
    pub(super) fn process_of(&self, cluster: usize) -> usize {
        cluster % self.doors.len()
    }

    /// The next that is due; none when there are no more.
    pub(super) async fn next(&mut self) -> Option<Result<Given>> {
        self.due.recv().await
    }

    /// Has every cluster registered, and join through its network.
    pub(super) fn join(&mut self, operator: Operator) {
        let mut pace = interval(CODE_EVERY);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let doors: Vec<[u16; 2]> =
            (0..self.clusters).map(|cluster| self.doors[self.process_of(cluster)]).collect();
        let paced =
            stream::unfold((pace, doors.into_iter().enumerate()), |(mut pace, mut left)| async move {
                let (cluster, doors) = left.next()?;
                pace.tick().await;
                Some(((cluster, doors), (pace, left)))
            });
        self.send(paced.map(move |(cluster, doors)| register(operator.clone(), cluster, doors)));
    }

    /// Has an object changed by hand on so many clusters, one after the other.
    pub(super) fn edit(&mut self, edits: usize, within: Duration) {
        let every = within / u32::try_from(edits.max(1)).unwrap_or(u32::MAX);
        let pace = interval(every.max(Duration::from_millis(1)));
        // Spread over the fleet, whatever the processes.
        let stride = self.clusters / edits.max(1);
        let paced = stream::unfold((pace, 0..edits), move |(mut pace, mut left)| async move {
            let cluster = left.next()? * stride;
            pace.tick().await;
            Some((cluster, (pace, left)))
        });
        self.send(paced.map(|cluster| async move { Ok(Given { cluster, order: Order::Edit { cluster } }) }));
    }

    fn send<F>(&mut self, orders: impl stream::Stream<Item = F> + Send + 'static)
    where
        F: Future<Output = Result<Given>> + Send + 'static,
    {
        let (to, due) = mpsc::channel(WAITING);
        self.due = due;
        tokio::spawn(async move {
            let mut made = std::pin::pin!(orders.buffer_unordered(AT_ONCE));
            while let Some(given) = made.next().await {
                // The phase is over.
                if to.send(given).await.is_err() {
                    return;
                }
            }
        });
    }
}

/// A cluster's name.
pub(super) fn name(cluster: usize) -> String {
    format!("tower-{cluster:05}")
}

async fn register(operator: Operator, cluster: usize, [broker, enrol]: [u16; 2]) -> Result<Given> {
    let id = ClusterId::new(name(cluster))?;
    let (label, value) = LABEL;
    let context =
        |error: edgefleet::hub::HubError| Error::new(error).context(format!("cannot register {id}"));
    operator.add_cluster(&id, &[(label.to_owned(), value.to_owned())]).await.map_err(context)?;
    let mut code = operator.join_code(&id).await.map_err(context)?;
    (code.broker, code.enrol) = (format!("127.0.0.1:{broker}"), format!("127.0.0.1:{enrol}"));
    Ok(Given { cluster, order: Order::Join { cluster, code: code.to_string() } })
}
