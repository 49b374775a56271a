use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::logic::occurrence::Reason;
use crate::logic::registry::{FieldValidation, ObjectKey, WriteOptions};
use crate::resources::Kind;

async fn open(folder: &TempDir) -> Hub {
    Hub::open(Store::open(&folder.path().join("hub.db")).unwrap()).await.unwrap()
}

fn cluster(name: &str) -> Value {
    json!({
        "apiVersion": "edgefleet.dev/v1alpha1",
        "kind": "Cluster",
        "metadata": {"name": name},
        "spec": {},
    })
}

async fn create(hub: &Hub, name: &str) -> Result<u64, Failure> {
    hub.write("tester", |transaction| {
        let written = transaction.create(Kind::Cluster, "", cluster(name), &strict(), name)?;
        Ok(written.object.version())
    })
    .await
}

#[tokio::test]
async fn versions_never_come_back() {
    let folder = TempDir::new().unwrap();
    let hub = open(&folder).await;
    let first = create(&hub, "tower-a").await.unwrap();
    let second = create(&hub, "tower-b").await.unwrap();
    assert_eq!(second, first + 1);
    let loaded = hub.store().load().await.unwrap();
    assert!(loaded.reserved_version >= second);

    // The same files, as a power cut would leave them.
    let copy = TempDir::new().unwrap();
    for file in std::fs::read_dir(folder.path()).unwrap().map(Result::unwrap) {
        std::fs::copy(file.path(), copy.path().join(file.file_name())).unwrap();
    }
    let again = open(&copy).await;
    assert_eq!(again.read(|registry| registry.count(Kind::Cluster)), 2);
    assert!(create(&again, "tower-c").await.unwrap() > loaded.reserved_version);
}

#[tokio::test]
async fn changes_are_seen_in_order_and_once_durable() {
    let folder = TempDir::new().unwrap();
    let hub = open(&folder).await;
    let start = hub.read(Registry::version);
    let mut published = hub.subscribe();
    let names: Vec<String> = (0..50).map(|number| format!("tower-{number:02}")).collect();
    let created = futures::future::try_join_all(names.iter().map(|name| create(&hub, name))).await.unwrap();
    published.changed().await.unwrap();
    assert_eq!(*published.borrow_and_update(), start + 50);
    let changes = hub.read(|registry| registry.changes(start, 100)).unwrap();
    let versions: Vec<u64> = changes.iter().map(|change| change.version).collect();
    assert_eq!(versions, (start + 1..=start + 50).collect::<Vec<_>>());
    assert_eq!(created.len(), 50);
    assert_eq!(hub.store().load().await.unwrap().objects.len(), 50);
}

#[tokio::test]
async fn what_is_refused_leaves_nothing_behind() {
    let folder = TempDir::new().unwrap();
    let hub = open(&folder).await;
    let version = hub.read(Registry::version);
    let result: Result<(), Failure> = hub
        .write("tester", |transaction| {
            transaction.create(Kind::Cluster, "", cluster("tower-a"), &strict(), "1")?;
            Err(failure::bad_request("on second thoughts"))
        })
        .await;
    assert_eq!(result.unwrap_err().code, 400);
    hub.dry_run("tester", |transaction| {
        transaction.create(Kind::Cluster, "", cluster("tower-a"), &strict(), "1")
    })
    .unwrap();
    let key = ObjectKey::new(Kind::Cluster, "", "tower-a");
    assert!(hub.read(|registry| registry.get(&key).is_none() && registry.version() == version));
}

#[tokio::test]
async fn documents_and_objects_are_written_together() {
    let folder = TempDir::new().unwrap();
    let hub = open(&folder).await;
    hub.write_with("tester", |transaction| {
        transaction.create(Kind::Cluster, "", cluster("tower-a"), &strict(), "1")?;
        let document = Write::PutDocument { kind: "token", key: "tower-a".to_owned(), bytes: vec![1] };
        Ok(((), vec![document]))
    })
    .await
    .unwrap();
    assert_eq!(hub.store().documents("token").await.unwrap(), [("tower-a".to_owned(), vec![1])]);
}

#[tokio::test]
async fn a_client_that_goes_away_does_not_stop_its_write() {
    let folder = TempDir::new().unwrap();
    let hub = open(&folder).await;
    let mut published = hub.subscribe();
    {
        let mut writing = Box::pin(create(&hub, "tower-a"));
        // Once: it decides, hands its changes over, and waits; then the client is gone.
        assert!(futures::poll!(&mut writing).is_pending());
    }
    published.changed().await.unwrap();
    assert_eq!(hub.read(|registry| registry.count(Kind::Cluster)), 1);
    create(&hub, "tower-b").await.unwrap();
}

#[tokio::test]
async fn a_store_that_cannot_keep_a_change_leaves_none() {
    let folder = TempDir::new().unwrap();
    let store = crate::store::tests::with_little_room(&folder.path().join("hub.db"));
    let hub = Hub::open(store).await.unwrap();
    create(&hub, "tower-a").await.unwrap();
    let version = hub.read(Registry::version);
    let published = hub.subscribe();
    let mut large = cluster("tower-b");
    large["spec"]["hold"] = json!({"reason": "crane"});
    large["metadata"]["annotations"] = json!({"a": "x".repeat(250_000)});
    let refused = hub
        .write("tester", |transaction| transaction.create(Kind::Cluster, "", large, &strict(), "2"))
        .await
        .unwrap_err();
    assert!(refused.code == 500 && refused.message.contains("disk is full"), "{refused}");
    assert_eq!(hub.read(|registry| (registry.version(), registry.count(Kind::Cluster))), (version, 1));
    assert!(!published.has_changed().unwrap());
    assert_eq!(create(&hub, "tower-c").await.unwrap(), version + 1, "the version was never given out");
}

fn strict() -> WriteOptions {
    WriteOptions { validation: FieldValidation::Strict, manager: "test".to_owned() }
}

#[tokio::test]
async fn what_happened_is_kept_with_what_it_came_of() {
    let folder = TempDir::new().unwrap();
    let hub = open(&folder).await;
    create(&hub, "tower-a").await.unwrap();
    let version = hub.read(Registry::version);
    let about = ObjectKey::new(Kind::Cluster, "", "tower-a");
    let joined = Occurrence { about, reason: Reason::Joined, message: "once".to_owned() };
    let document = |key: &str| Write::PutDocument { kind: "identity", key: key.to_owned(), bytes: vec![1] };
    hub.commit("fleet", vec![joined.clone()], vec![document("tower-a")]).await.unwrap();
    assert_eq!(hub.read(Registry::version), version + 1);
    hub.commit("fleet", Vec::new(), vec![document("tower-b")]).await.unwrap();
    assert_eq!(hub.read(Registry::version), version + 1, "nothing that happened is no version");
    hub.commit("fleet", vec![joined], Vec::new()).await.unwrap();

    hub.store().clone().close().await.unwrap();
    drop(hub);
    let again = open(&folder).await;
    let counts: Vec<i64> = again.read(|registry| {
        registry.objects(Kind::Event).filter_map(|event| event.value()["count"].as_i64()).collect()
    });
    assert_eq!(counts, [2]);
    assert_eq!(again.store().documents("identity").await.unwrap().len(), 2);
}
