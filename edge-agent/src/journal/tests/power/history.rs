//! What an agent records in its life: the real driver on a simulated cluster, with a hub that answers, and now and then
//! without one.

use std::rc::Rc;

use protocol::{
    documents::{AppState, Ceilings},
    ids::{AppId, Digest},
};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot, watch};

use super::super::noted;
use crate::{
    boundary::Boundaries,
    cluster::{
        self, Cluster as _,
        sim::{Action, Edit, LiveCluster, Settings, SimCluster},
    },
    control::{Ask, Reply, Request},
    driver::{Driver, Setup},
    journal::MAX_BYTES,
    logic::{entry::Entry, object::ObjectRef},
    testing::{Fleet, Hub, expect, reached},
    uplink,
};

/// Objects of a release that are large, and of how many digests each consists: together they do not fit into one piece.
const LARGE: u64 = 6;
const NOISE_DIGESTS: u64 = 800;

/// Updates from one start of the agent to the next: more than fills the journal's log, so that it starts over.
const UPDATES_PER_LIFE: usize = 12;

/// What a life of a journal wrote, from one start of the agent to the next: transactions of entries.
pub(super) type Life = Vec<Vec<Entry>>;

/// A life of an agent, and the fleet it belongs to.
pub(super) struct History {
    pub(super) fleet: Rc<Fleet>,
    pub(super) lives: Vec<Life>,
}

struct Site {
    fleet: Rc<Fleet>,
    folder: tempfile::TempDir,
    cluster: LiveCluster,
    hub: Hub,
    lives: Vec<Life>,
}

impl History {
    /// A site that joins, is updated `updates` times, edited by hand, held, cleared and started again.
    pub(super) async fn of(updates: u64) -> Self {
        let fleet = Rc::new(Fleet::new());
        let mut site = Site {
            hub: Hub::new(Rc::clone(&fleet)),
            fleet,
            folder: tempfile::tempdir().unwrap(),
            cluster: LiveCluster::new(SimCluster::new(Settings::default().into())),
            lives: Vec::new(),
        };
        let updates: Vec<u64> = (1..=updates).collect();
        for updates in updates.chunks(UPDATES_PER_LIFE) {
            site.live(true, async |site, asks| {
                for update in updates {
                    site.is_updated(*update, asks).await;
                    site.heals(*update).await;
                    if update.is_multiple_of(3) {
                        site.is_cleared().await;
                    }
                }
            })
            .await;
            let last = updates.last().copied().unwrap();
            // Without a link, and from what the journal has.
            site.live(false, async |site, _| {
                if !last.is_multiple_of(3) {
                    site.heals(last).await
                }
            })
            .await;
        }
        Self { fleet: site.fleet, lives: site.lives }
    }
}

impl Site {
    async fn is_updated(&self, update: u64, asks: &mpsc::Sender<Ask>) {
        let bundle = self.fleet.bundle(update, &objects(update), Ceilings::default());
        self.hub.desire(std::slice::from_ref(&bundle), &[]);
        if update.is_multiple_of(2) {
            let reason = "crane on site".to_owned();
            ask(asks, Request::Hold { reason }).await;
            ask(asks, Request::Release).await;
        }
        reached(async || {
            let report = self.hub.report();
            let applied = report.as_ref().and_then(|report| report.applied.as_ref());
            let is = self.hub.state() == Some(AppState::Available);
            let holds = is && applied.is_some_and(|applied| applied.version == bundle.release.version);
            expect(holds, &report)
        })
        .await;
    }

    /// Somebody changes an object by hand, over and over.
    async fn heals(&self, update: u64) {
        for time in 1..=3 {
            let object = small("settings", update);
            let action = Action::Merge(json!({"data": {"value": format!("by hand {time}")}}));
            let (manager, subresource) = ("kubectl-edit".to_owned(), String::new());
            let edited = ObjectRef::of(&object).unwrap();
            self.cluster.edit(Edit { manager, subresource, object: edited.clone(), action });
            reached(async || {
                let live = self.object(&edited).await;
                expect(live["data"] == object["data"], &live)
            })
            .await;
        }
    }

    async fn is_cleared(&self) {
        self.hub.desire(&[], &[AppId::new("radio", "gateway").unwrap()]);
        reached(async || expect(self.hub.state() == Some(AppState::Removed), &self.hub.report())).await;
    }

    async fn object(&self, object: &ObjectRef) -> Value {
        match self.cluster.send(cluster::Request::Get(object.clone())).await {
            Ok(cluster::Response::Object(object)) => object,
            other => panic!("{other:?}"),
        }
    }

    /// Runs an agent until `scene` is over.
    async fn live(&mut self, linked: bool, scene: impl AsyncFnOnce(&Self, &mpsc::Sender<Ask>)) {
        let setup = Setup {
            identity: self.fleet.identity(),
            trust: self.fleet.trust.clone(),
            journal: self.folder.path().join("journal"),
            journal_bytes: MAX_BYTES,
            boundaries: Boundaries::default(),
            seen: watch::Sender::default(),
        };
        let (uplink, side) = uplink::channel();
        let (asks, asked) = mpsc::channel(1);
        let driver = Driver::new(setup, self.cluster.clone(), uplink, asked).unwrap();
        let hub = async {
            match linked {
                true => self.hub.serve(side).await,
                false => side.events.closed().await,
            }
        };
        tokio::select! {
            ended = driver.run(std::future::pending()) => panic!("the agent stopped: {ended:?}"),
            () = hub => panic!("the agent let go of the hub"),
            () = scene(self, &asks) => {}
        }
        self.lives.push(noted());
    }
}

async fn ask(asks: &mpsc::Sender<Ask>, request: Request) {
    let (reply, answer) = oneshot::channel();
    asks.send(Ask { request, reply }).await.unwrap();
    assert_eq!(answer.await.unwrap(), Reply::Done);
}

/// A release of this update: each has objects that the next one has not, and some whose content is large.
fn objects(update: u64) -> Vec<Value> {
    let large = (0..LARGE).map(|number| {
        let digest = |n: u64| Digest::of(format!("{update} {number} {n}").as_bytes()).to_string();
        let noise: String = (0..NOISE_DIGESTS).map(digest).collect();
        config(&format!("large-{number}"), &noise)
    });
    let passing = small(&format!("passing-{update}"), update);
    [namespace(), small("settings", update), passing, workload()].into_iter().chain(large).collect()
}

fn namespace() -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "radio"}})
}

fn small(name: &str, update: u64) -> Value {
    config(name, &format!("value {update}"))
}

fn config(name: &str, value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap",
           "metadata": {"namespace": "radio", "name": name}, "data": {"value": value}})
}

fn workload() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"namespace": "radio", "name": "gateway"},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": "gateway"}},
            "template": {"metadata": {"labels": {"app": "gateway"}},
                         "spec": {"containers": [{"name": "app", "image": "gateway:1"}]}},
        },
    })
}
