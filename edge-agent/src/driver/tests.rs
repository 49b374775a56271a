use std::fs;

use protocol::{
    documents::{AppState, Ceilings, Drift},
    ids::AppId,
};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::*;
use crate::{
    cluster::{
        ClusterError, Response,
        sim::{Action, Edit, LiveCluster, Settings, SimCluster},
    },
    logic::{
        app::{PARENT_NAMESPACE, parent_name},
        object::ObjectRef,
    },
    testing::{Bundle, Fleet, Hub, expect, reached},
    uplink,
};

/// A cluster, its agent's disk, and its hub.
struct Site {
    fleet: Rc<Fleet>,
    folder: tempfile::TempDir,
    cluster: LiveCluster,
    hub: Hub,
    journal_bytes: u64,
}

/// What somebody at the site can do while an agent runs.
#[derive(Clone)]
struct Local {
    asks: mpsc::Sender<Ask>,
}

impl Local {
    async fn ask(&self, request: Request) -> Reply {
        let (reply, answer) = oneshot::channel();
        self.asks.send(Ask { request, reply }).await.unwrap();
        answer.await.unwrap()
    }

    async fn status(&self) -> Status {
        match self.ask(Request::Status).await {
            Reply::Status(status) => *status,
            other @ (Reply::Done | Reply::Report { .. } | Reply::Failed { .. }) => panic!("{other:?}"),
        }
    }
}

impl Site {
    fn new() -> Self {
        let fleet = Rc::new(Fleet::new());
        let cluster = LiveCluster::new(SimCluster::new(Settings::default().into()));
        let folder = tempfile::tempdir().unwrap();
        Self { hub: Hub::new(Rc::clone(&fleet)), fleet, folder, cluster, journal_bytes: journal::MAX_BYTES }
    }

    fn journal(&self) -> PathBuf {
        self.folder.path().join("journal")
    }

    /// Runs an agent until `scene` is over, and then pulls the plug. With `linked` the hub answers.
    async fn play(&self, linked: bool, scene: impl AsyncFnOnce(Local)) {
        let setup = Setup {
            identity: self.fleet.identity(),
            trust: self.fleet.trust.clone(),
            journal: self.journal(),
            journal_bytes: self.journal_bytes,
            boundaries: Boundaries::default(),
            seen: watch::Sender::default(),
        };
        let (uplink, side) = uplink::channel();
        let (asks, asked) = mpsc::channel(1);
        let driver = Driver::new(setup, self.cluster.clone(), uplink, asked).unwrap();
        let hub = async {
            match linked {
                true => self.hub.serve(side).await,
                // Held open, or the agent would take the link for broken.
                false => side.events.closed().await,
            }
        };
        tokio::select! {
            ended = driver.run(std::future::pending()) => panic!("the agent stopped: {ended:?}"),
            () = hub => panic!("the agent let go of the hub"),
            () = scene(Local { asks }) => {}
        }
    }

    fn bundle(&self, counter: u64, objects: &[Value]) -> Bundle {
        self.fleet.bundle(counter, objects, Ceilings::default())
    }

    /// What a person does by hand.
    fn edit(&self, object: &Value, action: Action) {
        let object = ObjectRef::of(object).unwrap();
        let (manager, subresource) = ("kubectl-edit".to_owned(), String::new());
        self.cluster.edit(Edit { manager, subresource, object, action });
    }

    async fn live(&self, object: &Value) -> Option<Value> {
        self.get(ObjectRef::of(object).unwrap()).await
    }

    async fn get(&self, object: ObjectRef) -> Option<Value> {
        match self.cluster.send(crate::cluster::Request::Get(object)).await {
            Ok(Response::Object(value)) => Some(value),
            Err(ClusterError::NotFound { .. }) => None,
            other => panic!("{other:?}"),
        }
    }

    /// Waits until the hub knows that the release runs and is healthy.
    async fn available(&self, local: &Local, version: &str) {
        reached(async || {
            let report = self.hub.report();
            let applied = report.as_ref().and_then(|report| report.applied.as_ref());
            let is = self.hub.state() == Some(AppState::Available);
            let holds = is && applied.is_some_and(|applied| applied.version == version);
            expect(holds, &(local.status().await, report))
        })
        .await;
    }
}

fn namespace() -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "radio"}})
}

fn config(name: &str, value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap",
           "metadata": {"namespace": "radio", "name": name}, "data": {"value": value}})
}

fn gateway() -> Value {
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

fn app() -> AppId {
    AppId::new("radio", "gateway").unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_is_signed_is_applied_kept_and_pruned() {
    let site = Site::new();
    let (kept, pruned) = (config("kept", "1"), config("pruned", "1"));
    let first = site.bundle(1, &[namespace(), kept.clone(), pruned.clone(), gateway()]);
    site.hub.desire(std::slice::from_ref(&first), &[]);
    site.play(true, async |local| {
        site.available(&local, "1.1").await;
        let live = site.live(&gateway()).await.unwrap();
        assert!(live["metadata"]["labels"][PART_OF].as_str().unwrap().starts_with("applyset-"), "{live}");
        let status = local.status().await;
        assert_eq!((status.hub.connected, status.desired.as_deref()), (true, Some("1.1")));
        assert_eq!((status.applications[0].healthy, status.applications[0].state.as_str()), (4, "Available"));
    })
    .await;

    // Without the hub, from the journal alone: drift is healed, what was deleted comes back.
    let edit = |object: &Value, action| site.edit(object, action);
    edit(&kept, Action::Merge(json!({"data": {"value": "by hand"}})));
    site.play(false, async |_| {
        let healed = async |object: &Value| {
            reached(async || {
                let live = site.live(object).await;
                expect(live.as_ref().is_some_and(|live| live["data"]["value"] == "1"), &live)
            })
            .await;
        };
        healed(&kept).await;
        edit(&pruned, Action::Delete);
        healed(&pruned).await;
        edit(&kept, Action::Merge(json!({"data": {"value": "again"}})));
        healed(&kept).await;
    })
    .await;

    // With the hub again: a release without one of the objects, then removal of everything.
    site.hub.desire(&[site.bundle(2, &[namespace(), config("kept", "2"), gateway()])], &[]);
    site.play(true, async |local| {
        site.available(&local, "1.2").await;
        assert_eq!(site.live(&pruned).await, None);
        assert_eq!(site.live(&kept).await.unwrap()["data"]["value"], "2");
        site.hub.desire(&[], &[app()]);
        reached(async || expect(site.hub.state() == Some(AppState::Removed), &local.status().await)).await;
        for object in [kept.clone(), gateway(), namespace()] {
            assert_eq!(site.live(&object).await, None);
        }
        let gvk = Gvk::new("v1", "ConfigMap");
        let parent = ObjectRef { gvk, namespace: Some(PARENT_NAMESPACE.into()), name: parent_name(&app()) };
        assert_eq!(site.get(parent).await, None);
    })
    .await;
}

/// The new release holds the same object, so it is not applied again; its fields stay ours all the same.
#[tokio::test(start_paused = true)]
async fn what_a_new_release_holds_unchanged_is_still_healed() {
    let site = Site::new();
    let same = config("same", "1");
    site.hub.desire(&[site.bundle(1, &[namespace(), same.clone(), config("other", "1")])], &[]);
    site.play(true, async |local| {
        site.available(&local, "1.1").await;
        site.hub.desire(&[site.bundle(2, &[namespace(), config("other", "2"), same.clone()])], &[]);
        site.available(&local, "1.2").await;
    })
    .await;
    site.edit(&same, Action::Merge(json!({"data": {"value": "by hand"}})));
    site.play(true, async |local| {
        reached(async || {
            let live = site.live(&same).await;
            expect(
                live.as_ref().is_some_and(|live| live["data"]["value"] == "1"),
                &(live, local.status().await),
            )
        })
        .await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn who_changed_what_outlasts_a_power_cut() {
    let site = Site::new();
    let kept = config("kept", "1");
    site.hub.desire(&[site.bundle(1, &[namespace(), kept.clone()])], &[]);
    site.play(true, async |local| site.available(&local, "1.1").await).await;
    site.edit(&kept, Action::Merge(json!({"data": {"value": "by hand"}})));
    site.play(false, async |_| {
        reached(async || {
            let live = site.live(&kept).await;
            expect(live.as_ref().is_some_and(|live| live["data"]["value"] == "1"), &live)
        })
        .await;
    })
    .await;
    site.play(true, async |_| {
        reached(async || {
            let drift = site.hub.report().map(|report| report.drift).unwrap_or_default();
            let named = |drift: &Drift| drift.manager == "kubectl-edit" && drift.count == 1;
            expect(drift.first().is_some_and(named), &drift)
        })
        .await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_object_cannot_slip_past_its_signed_scope() {
    let site = Site::new();
    // Of built-in kinds the protocol knows which belong to the cluster; of this one only the cluster does.
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com", "scope": "Cluster", "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [{"name": "v1", "served": true, "storage": true,
                          "schema": {"openAPIV3Schema": {"type": "object"}}}],
        },
    });
    let widget = json!({
        "apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"namespace": "radio", "name": "takeover"},
    });
    site.hub.desire(&[site.bundle(1, &[definition, widget.clone()])], &[]);
    site.play(true, async |local| {
        reached(async || {
            let worst = site.hub.report().and_then(|report| report.worst);
            let holds = worst.as_ref().is_some_and(|worst| worst.reason == "ScopeMismatch");
            expect(holds, &(worst, local.status().await))
        })
        .await;
        let gvk = ObjectRef::of(&widget).unwrap().gvk;
        assert_eq!(site.get(ObjectRef { gvk, namespace: None, name: "takeover".into() }).await, None);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_hold_outlasts_a_restart() {
    let site = Site::new();
    site.hub.desire(&[site.bundle(1, &[namespace(), config("kept", "1")])], &[]);
    site.play(true, async |local| {
        let reason = "crane on site".to_owned();
        assert_eq!(local.ask(Request::Hold { reason }).await, Reply::Done);
    })
    .await;
    site.play(true, async |local| {
        reached(async || {
            let status = local.status().await;
            let app = status.applications.first();
            expect(app.is_some_and(|app| app.message.contains("crane on site")), &status)
        })
        .await;
        assert_eq!(local.status().await.hold.unwrap().reason, "crane on site");
        assert_eq!(site.live(&config("kept", "1")).await, None);
        assert_eq!(local.ask(Request::Release).await, Reply::Done);
        site.available(&local, "1.1").await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_is_waited_out() {
    let mut site = Site::new();
    site.journal_bytes = 48 * 4096;
    // Does not compress: two thirds of the digits of random-looking digests.
    let noise: String = (0..8_000_u32).map(|n| Digest::of(&n.to_be_bytes()).to_string()).collect();
    site.hub.desire(&[site.bundle(1, &[namespace(), config("large", &noise)])], &[]);
    site.play(true, async |local| {
        reached(async || {
            let status = local.status().await;
            expect(status.conditions.iter().any(|condition| condition.kind == "DiskFull"), &status)
        })
        .await;
        reached(async || {
            let told = site.hub.conditions();
            expect(told.iter().any(|kind| kind == "DiskFull"), &told)
        })
        .await;
        let failed = local.status().await;
        assert_eq!(failed.applications.len(), 1, "it goes on with what it has: {failed:?}");
    })
    .await;
    site.journal_bytes = journal::MAX_BYTES;
    site.play(true, async |local| {
        site.available(&local, "1.1").await;
        let conditions = local.status().await.conditions;
        assert!(!conditions.iter().any(|condition| condition.kind == "DiskFull"), "{conditions:?}");
        assert!(!site.hub.conditions().iter().any(|kind| kind == "DiskFull"));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_damaged_journal_is_a_new_life() {
    let site = Site::new();
    site.hub.desire(&[site.bundle(1, &[namespace(), config("kept", "1")])], &[]);
    site.play(true, async |local| site.available(&local, "1.1").await).await;
    let mut bytes = fs::read(site.journal()).unwrap();
    bytes[16..].iter_mut().for_each(|byte| *byte = !*byte);
    fs::write(site.journal(), bytes).unwrap();
    site.play(true, async |local| {
        let lost = local.status().await.conditions;
        assert!(lost.iter().any(|condition| condition.kind == "JournalLost"), "{lost:?}");
        reached(async || {
            let told = site.hub.conditions();
            expect(told.iter().any(|kind| kind == "JournalLost"), &told)
        })
        .await;
        reached(async || {
            let status = local.status().await;
            expect(status.applications.first().is_some_and(|app| app.state == "Available"), &status)
        })
        .await;
    })
    .await;
}
