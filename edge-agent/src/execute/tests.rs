use protocol::{documents::Ceilings, ids::Digest};
use serde_json::json;
use std::{collections::BTreeMap, sync::Arc};

use super::*;
use crate::{
    cluster::sim::{Action, Edit, FAIL_LABEL, LiveCluster, Settings, SimCluster},
    logic::{
        entry::{ContentChunk, Entry},
        health::Status,
    },
    testing::{Bundle, Fleet, expect, reached},
};

struct Site {
    executor: Executor<LiveCluster>,
    cluster: LiveCluster,
    fleet: Fleet,
    _folder: tempfile::TempDir,
}

impl Site {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (journal, _) = Journal::open(&folder.path().join("journal"), 1 << 20).unwrap();
        let cluster = LiveCluster::new(SimCluster::new(Settings::default().into()));
        let executor = Executor::new(cluster.clone(), Rc::new(journal), Boundaries::default());
        let site = Self { executor, cluster, fleet: Fleet::new(), _folder: folder };
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "radio"}});
        site.edit("kubectl", "", &namespace, json!({}));
        site
    }

    /// Content goes to the journal in small pieces.
    fn source(&self, object: &Value) -> Source {
        let Bundle { release, packed, .. } =
            self.fleet.bundle(1, std::slice::from_ref(object), Ceilings::default());
        let total = packed.len() as u64;
        let chunk = |(index, bytes): (usize, &[u8])| {
            let (target, offset) = (release.pack, index as u64 * 16);
            Entry::Chunk(ContentChunk { target, offset, total, bytes: bytes.to_vec() })
        };
        let chunks: Vec<Entry> = packed.chunks(16).enumerate().map(chunk).collect();
        self.executor.contents.record(&chunks).unwrap();
        Source { release, index: 0, values: Arc::new(BTreeMap::new()) }
    }

    fn edit(&self, manager: &str, subresource: &str, object: &Value, patch: Value) {
        let (manager, subresource) = (manager.to_owned(), subresource.to_owned());
        let object = ObjectRef::of(object).unwrap();
        self.cluster.edit(Edit { manager, subresource, object, action: Action::Merge(patch) });
    }

    async fn apply(&self, source: &Source, previous: Option<&Source>, how: How) -> Outcome {
        self.executor.run(Step::Apply { source: source.clone(), previous: previous.cloned(), how }).await
    }

    async fn inspect(&self, source: &Source) -> Outcome {
        let step = Step::Inspect {
            object: source.object(),
            source: Some(source.clone()),
            since_applied: Duration::from_secs(5),
        };
        self.executor.run(step).await
    }

    async fn found(&self, source: &Source) -> Inspection {
        inspection(self.inspect(source).await)
    }
}

fn inspection(outcome: Outcome) -> Inspection {
    let Outcome::Present(found) = outcome else { panic!("{outcome:?}") };
    *found
}

fn config(value: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap",
           "metadata": {"namespace": "radio", "name": "gateway"}, "data": {"value": value}})
}

#[tokio::test(start_paused = true)]
async fn what_is_applied_is_ours_and_who_changes_it_is_named() {
    let site = Site::new();
    let source = site.source(&config("1"));
    assert!(matches!(site.inspect(&source).await, Outcome::Absent));
    let applied = inspection(site.apply(&source, None, How::Normal).await);
    assert_eq!(applied.apply_set, Some(app::apply_set(&source.release.app)));
    let found = site.found(&source).await;
    assert_eq!((found.owned, found.uid.as_str()), (applied.owned, applied.uid.as_str()));
    assert!(found.owned.is_some() && found.changed_by.is_empty(), "{found:?}");

    site.edit("kubectl-label", "", &config("1"), json!({"metadata": {"labels": {"site": "u"}}}));
    site.edit("kubectl-edit", "", &config("1"), json!({"data": {"value": "2"}}));
    let found = site.found(&source).await;
    assert_ne!(found.owned, applied.owned);
    assert_eq!(found.changed_by, ["kubectl-edit"], "two others wrote, one of them what is ours");
}

#[tokio::test(start_paused = true)]
async fn a_conflict_says_whose_the_field_was() {
    let site = Site::new();
    let (first, second) = (site.source(&config("1")), site.source(&config("2")));
    let check = async |previous: Option<&Source>, ours: bool| {
        let outcome = site.apply(&second, previous, How::Normal).await;
        let Outcome::Conflict { fields, .. } = outcome else { panic!("{outcome:?}") };
        let expected = FieldTaken { manager: "kubectl-edit".into(), field: ".data.value".into(), ours };
        assert_eq!(fields, [expected]);
    };
    site.edit("kubectl-edit", "", &config("1"), json!({"data": {"value": "by hand"}}));
    check(None, false).await;
    inspection(site.apply(&first, None, How::Forced).await);
    site.edit("kubectl-edit", "", &config("1"), json!({"data": {"value": "by hand"}}));
    check(Some(&first), true).await;
    inspection(site.apply(&second, Some(&first), How::Forced).await);
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_says_what_would_be_and_changes_nothing() {
    let site = Site::new();
    let (same, other) = (site.source(&config("1")), site.source(&config("2")));
    let check = async |source: &Source, expected: Foreseen| {
        let outcome = site.apply(source, None, How::DryRun).await;
        assert!(matches!(&outcome, Outcome::Foreseen(found) if found == &expected), "{outcome:?}");
    };
    check(&same, Foreseen::Create).await;
    assert!(matches!(site.inspect(&same).await, Outcome::Absent));
    site.edit("kubectl", "", &config("1"), json!({"data": {"value": "1"}}));
    check(&same, Foreseen::Same).await;
    let field = || ".data.value".to_owned();
    let taken = FieldTaken { manager: "kubectl".to_owned(), field: field(), ours: false };
    check(&other, Foreseen::Conflict(vec![taken])).await;
    assert_eq!(site.found(&same).await.apply_set, None);
}

#[tokio::test(start_paused = true)]
async fn content_that_is_not_there_or_not_right_is_not_applied() {
    let site = Site::new();
    let source = site.source(&config("1"));
    let check = Step::CheckContent(source.release.clone());
    assert!(matches!(site.executor.run(check.clone()).await, Outcome::ContentGood));

    let target = source.release.pack;
    let altered = ContentChunk { target, offset: 0, total: 4, bytes: b"junk".to_vec() };
    let entries = [Entry::DropContent(target), Entry::Chunk(altered)];
    site.executor.contents.record(&entries).unwrap();
    for outcome in [site.executor.run(check.clone()).await, site.apply(&source, None, How::Normal).await] {
        assert!(matches!(outcome, Outcome::ContentBad(_)), "{outcome:?}");
    }

    site.executor.contents.record(&[Entry::DropContent(target)]).unwrap();
    let outcome = site.apply(&source, None, How::Normal).await;
    let missing = matches!(&outcome, Outcome::Failed(failure) if failure.reason == "ContentMissing");
    assert!(missing, "{outcome:?}");
    assert!(matches!(site.inspect(&source).await, Outcome::Absent));
    assert_ne!(target, Digest::of(b"junk"));
}

#[tokio::test(start_paused = true)]
async fn pods_explain_their_workload() {
    let site = Site::new();
    let mut labels = json!({"app": "gateway"});
    labels[FAIL_LABEL] = "true".into();
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"namespace": "radio", "name": "gateway"},
        "spec": {
            "selector": {"matchLabels": {"app": "gateway"}},
            "template": {
                "metadata": {"labels": labels, "annotations": {format!("{FAIL_LABEL}/reason"): "NoLicence"}},
                "spec": {"containers": [{"name": "app", "image": "gateway:1"}]},
            },
        },
    });
    let source = site.source(&deployment);
    inspection(site.apply(&source, None, How::Normal).await);
    reached(async || {
        let health = site.found(&source).await.health;
        expect(health.status != Status::Current && health.message.contains("NoLicence"), &health)
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn only_the_recorded_object_is_deleted() {
    let site = Site::new();
    let source = site.source(&config("1"));
    let applied = inspection(site.apply(&source, None, How::Normal).await);
    let delete = async |uid: &str| {
        site.executor.run(Step::Delete { object: source.object(), uid: uid.to_owned() }).await
    };
    assert!(matches!(delete("another").await, Outcome::Replaced));
    assert!(matches!(delete(&applied.uid).await, Outcome::Deleted));
    assert!(matches!(delete(&applied.uid).await, Outcome::Deleted));
}
