use serde_json::value::to_raw_value;
use serde_json::{Value, json};

use super::*;
use crate::logic::occurrence::{MESSAGE_MAX_LEN, Reason};
use crate::logic::registry::{FieldValidation, Filter, StoredObject, WriteOptions};

const START: i64 = 1_800_000_000;

/// A registry with two clusters, and a clock.
struct Bench {
    registry: Registry,
    now: i64,
}

impl Bench {
    fn new() -> Bench {
        let mut bench = Bench { registry: Registry::restore(1, Vec::new()).unwrap(), now: START };
        for name in ["tower-a", "tower-b"] {
            let options = WriteOptions { validation: FieldValidation::Strict, manager: "test".to_owned() };
            let body = json!({
                "apiVersion": "edgefleet.dev/v1alpha1", "kind": "Cluster", "metadata": {"name": name}, "spec": {},
            });
            bench.write(|t| {
                drop(t.create(Kind::Cluster, "", body, &options, &format!("uid-{name}")).unwrap())
            });
        }
        bench
    }

    fn write(&mut self, with: impl FnOnce(&mut Transaction<'_>)) -> usize {
        let now = Timestamp::from_second(self.now).unwrap();
        let mut transaction = self.registry.begin(now, "test");
        with(&mut transaction);
        let changes = transaction.finish();
        let rows = changes.len();
        self.registry.apply(changes);
        rows
    }

    /// Tells of something; how many rows that took.
    fn tell(&mut self, cluster: &str, reason: Reason, message: &str) -> usize {
        let occurrence = happened(cluster, reason, message);
        self.write(|transaction| transaction.tell(&occurrence))
    }

    /// Reason, message and count of each event about a cluster, the one that happened last first.
    fn told(&self, cluster: &str) -> Vec<(String, String, i64)> {
        let mut events: Vec<&Arc<Object>> = self.registry.objects(Kind::Event).collect();
        events.retain(|event| event.field("involvedObject.name") == cluster);
        events.sort_by_key(|event| std::cmp::Reverse(event.version()));
        let row = |event: &&Arc<Object>| {
            let count = event.value()["count"].as_i64().unwrap();
            (event.field("reason").into_owned(), event.field("message").into_owned(), count)
        };
        events.iter().map(row).collect()
    }
}

fn happened(cluster: &str, reason: Reason, message: &str) -> Occurrence {
    let about = ObjectKey::new(Kind::Cluster, "", cluster);
    Occurrence { about, reason, message: message.to_owned() }
}

fn row(reason: &str, message: &str, count: i64) -> (String, String, i64) {
    (reason.to_owned(), message.to_owned(), count)
}

#[test]
fn an_event_is_as_kubernetes_clients_know_it() {
    let mut bench = Bench::new();
    bench.tell("tower-a", Reason::Rejected, "beyond its keys");
    let event = bench.registry.objects(Kind::Event).next().unwrap().value();
    let expected = json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": event["metadata"],
        "involvedObject": {
            "apiVersion": "edgefleet.dev/v1alpha1", "kind": "Cluster", "name": "tower-a", "namespace": "",
            "uid": "uid-tower-a",
        },
        "type": "Warning",
        "reason": "Rejected",
        "message": "beyond its keys",
        "source": {"component": "edgefleet"},
        "reportingComponent": "edgefleet",
        "reportingInstance": "",
        "eventTime": null,
        "firstTimestamp": "2027-01-15T08:00:00Z",
        "lastTimestamp": "2027-01-15T08:00:00Z",
        "count": 1,
    });
    assert_eq!(event, expected);
    let name = event["metadata"]["name"].as_str().unwrap();
    assert!(name.starts_with("tower-a.cluster-") && event["metadata"]["namespace"] == "default", "{name}");
    assert_eq!(bench.registry.namespaces().len(), 0, "what was told makes no namespace");
}

#[test]
fn what_happens_again_is_counted() {
    let mut bench = Bench::new();
    for (seconds, reason, message) in [
        (0, Reason::Offline, "down"),
        (60, Reason::Connected, "up"),
        (60, Reason::Offline, "down"),
        (60, Reason::Connected, "up"),
        (60, Reason::Offline, "down"),
    ] {
        bench.now += seconds;
        assert_eq!(bench.tell("tower-a", reason, message), 1);
    }
    bench.tell("tower-b", Reason::Offline, "down");
    assert_eq!(bench.told("tower-a"), [row("Offline", "down", 3), row("Connected", "up", 2)]);
    assert_eq!(bench.told("tower-b"), [row("Offline", "down", 1)]);
    let event = bench.registry.objects(Kind::Event).find(|event| event.value()["count"] == 3).unwrap();
    let tale = event.tale().unwrap();
    assert_eq!([tale.first.0, tale.last.0].map(|time| time - START), [0, 240]);
    assert_eq!(bench.tell("tower-c", Reason::Offline, "down"), 0, "there is no such cluster");
}

#[test]
fn what_differs_in_words_alone_is_counted_as_one() {
    let mut bench = Bench::new();
    for index in 0..14 {
        bench.now += 1;
        bench.tell("tower-a", Reason::Degraded, &format!("restarted {index} times"));
    }
    bench.tell("tower-a", Reason::Rejected, "beyond its keys");
    let told = bench.told("tower-a");
    assert_eq!(
        told[..2],
        [row("Rejected", "beyond its keys", 1), row("Degraded", &format!("{COMBINED}restarted 13 times"), 4)]
    );
    assert_eq!(told.len(), 12);
    // Later it is news again.
    bench.now += SIMILAR_SECONDS;
    bench.tell("tower-a", Reason::Degraded, "restarted 99 times");
    assert_eq!(bench.told("tower-a")[0], row("Degraded", "restarted 99 times", 1));
}

#[test]
fn who_flaps_writes_no_row_for_each_time() {
    let mut bench = Bench::new();
    let rows: usize = (0..1000).map(|_| bench.tell("tower-a", Reason::Offline, "down")).sum();
    assert_eq!(i64::try_from(rows).unwrap(), BURST);
    bench.now += 3 * REFILL_SECONDS;
    let rows: usize = (0..1000).map(|_| bench.tell("tower-a", Reason::Offline, "down")).sum();
    assert_eq!(rows, 3);
    // Nor does who finds new words each time: for the reasons there are, and no more.
    let words = |index: usize| format!("another {index}");
    let rows: usize = (0..1000).map(|index| bench.tell("tower-b", Reason::Degraded, &words(index))).sum();
    assert_eq!(rows, SIMILAR_MAX + usize::try_from(BURST).unwrap());
}

#[test]
fn one_object_has_so_many_events_and_the_oldest_goes() {
    let mut bench = Bench::new();
    bench.tell("tower-b", Reason::Joined, "once");
    for index in 0..2 * EVENTS_PER_OBJECT_MAX {
        bench.now += SIMILAR_SECONDS;
        bench.tell("tower-a", Reason::Changed, &index.to_string());
    }
    let told = bench.told("tower-a");
    assert_eq!(told.len(), EVENTS_PER_OBJECT_MAX);
    assert_eq!(told.last().unwrap().1, EVENTS_PER_OBJECT_MAX.to_string());
    assert_eq!(bench.told("tower-b").len(), 1);
}

#[test]
fn all_objects_have_so_many_events_and_the_oldest_goes() {
    let mut bench = Bench::new();
    bench.tell("tower-b", Reason::Joined, "the first");
    bench.tell("tower-b", Reason::Accepted, "the second");
    let assignment = |index: usize| Occurrence {
        about: ObjectKey::new(Kind::Assignment, "radio", &format!("gateway.tower-{index}")),
        reason: Reason::Offered,
        message: "bundle gateway-2".to_owned(),
    };
    bench.write(|transaction| (2..EVENTS_MAX).for_each(|index| transaction.tell(&assignment(index))));
    assert_eq!(bench.registry.count(Kind::Event), EVENTS_MAX);
    bench.tell("tower-b", Reason::Joined, "the first");
    bench.write(|transaction| (0..2).for_each(|index| transaction.tell(&assignment(EVENTS_MAX + index))));
    assert_eq!(bench.registry.count(Kind::Event), EVENTS_MAX);
    assert_eq!(bench.told("tower-b"), [row("Joined", "the first", 2)], "what happened last stays");
    assert_eq!(bench.told("gateway.tower-2").len(), 0);
    let bytes =
        bench.registry.objects(Kind::Event).map(|event| event.value().to_string().len()).max().unwrap();
    println!("{EVENTS_MAX} events, {bytes} bytes of JSON each");
}

#[test]
fn events_end_after_a_week_and_not_before() {
    let mut bench = Bench::new();
    bench.tell("tower-a", Reason::Offline, "down");
    bench.now += 60;
    bench.tell("tower-a", Reason::Connected, "up");
    let old = |bench: &Bench| bench.registry.has_old_events(Timestamp::from_second(bench.now).unwrap());
    bench.now += EVENT_KEPT_SECONDS - 61;
    assert!(!old(&bench));
    bench.now += 1;
    assert!(old(&bench));
    assert_eq!(bench.write(|transaction| transaction.expire_events(10)), 1);
    assert_eq!((bench.told("tower-a"), old(&bench)), (vec![row("Connected", "up", 1)], false));
}

#[test]
fn a_deleted_object_keeps_its_events_and_another_of_its_name_has_its_own() {
    let mut bench = Bench::new();
    bench.tell("tower-a", Reason::Joined, "once");
    let key = ObjectKey::new(Kind::Cluster, "", "tower-a");
    bench.write(|transaction| {
        transaction.delete(&key, &Default::default()).unwrap();
        transaction.tell(&happened("tower-a", Reason::Changed, "deleted"));
    });
    assert_eq!(bench.told("tower-a").len(), 2);
    let options = WriteOptions { validation: FieldValidation::Strict, manager: "test".to_owned() };
    let body = json!({
        "apiVersion": "edgefleet.dev/v1alpha1", "kind": "Cluster", "metadata": {"name": "tower-a"}, "spec": {},
    });
    bench.write(|t| drop(t.create(Kind::Cluster, "", body, &options, "another").unwrap()));
    bench.tell("tower-a", Reason::Joined, "once");
    assert_eq!(bench.told("tower-a").iter().map(|row| row.2).collect::<Vec<_>>(), [1, 1, 1]);
}

#[test]
fn watchers_see_events_come_change_and_go() {
    let mut bench = Bench::new();
    let since = bench.registry.version();
    bench.tell("tower-a", Reason::Offline, "down");
    bench.tell("tower-a", Reason::Offline, "down");
    bench.now += EVENT_KEPT_SECONDS;
    bench.write(|transaction| transaction.expire_events(10));
    let seen = bench.registry.events(Kind::Event, &Filter::default(), since).unwrap();
    let seen: Vec<String> = seen.iter().map(|event| format!("{:?}", event.event_type)).collect();
    assert_eq!(seen, ["Added", "Modified", "Deleted"]);
    assert_eq!(bench.registry.changes(since, 10).unwrap().len(), 0, "and nobody acts on them");
}

#[test]
fn long_names_and_texts_fit() {
    let mut bench = Bench::new();
    let about = ObjectKey::new(Kind::Assignment, "radio", &"gateway.".repeat(31));
    let (name, message) = (about.name.clone(), "\u{1b}".repeat(3000));
    bench.write(|transaction| transaction.tell(&Occurrence { about, reason: Reason::Degraded, message }));
    let event = bench.registry.objects(Kind::Event).next().unwrap();
    assert!(event.name().len() <= NAME_MAX_LEN, "{}", event.name());
    apimachinery::names::check_dns_subdomain(event.name()).unwrap();
    assert!(event.field("message").len() <= MESSAGE_MAX_LEN);
    assert_eq!(event.field("involvedObject.name"), name, "which the event's own name has no room for");
}

#[test]
fn an_event_in_another_ones_row_is_taken_up_under_the_rows_name() {
    let mut bench = Bench::new();
    bench.tell("tower-a", Reason::Rejected, "beyond its keys");
    let event = bench.registry.objects(Kind::Event).next().unwrap();
    let row = |name: &str| StoredObject {
        kind: "Event".to_owned(),
        namespace: event.namespace().to_owned(),
        name: name.to_owned(),
        version: event.version(),
        text: to_raw_value(&**event).unwrap(),
    };
    let registry = Registry::restore(event.version(), vec![row(event.name()), row("another")]).unwrap();
    assert_eq!(registry.get(&event.key(Kind::Event)), Some(event));
    let another = registry.get(&ObjectKey::new(Kind::Event, event.namespace(), "another")).unwrap();
    let mut expected = event.value();
    expected["metadata"]["name"] = json!("another");
    assert_eq!(another.value(), expected);
}

#[test]
fn what_was_told_is_taken_up_as_it_stands() {
    let mut bench = Bench::new();
    bench.tell("tower-a", Reason::Rejected, "beyond its \"keys\"");
    let event = bench.registry.objects(Kind::Event).next().unwrap();
    let taken_up = |change: &dyn Fn(&mut Value)| {
        let mut value = event.value();
        change(&mut value);
        let stored = StoredObject {
            kind: "Event".to_owned(),
            namespace: event.namespace().to_owned(),
            name: event.name().to_owned(),
            version: event.version(),
            text: to_raw_value(&value).unwrap(),
        };
        let registry = Registry::restore(event.version(), vec![stored]).unwrap();
        let object = registry.objects(Kind::Event).next().unwrap();
        assert_eq!(object.value(), value);
        assert_eq!(object.text(), value.to_string());
        object.tale().is_some()
    };
    assert!(taken_up(&|_| ()));
    // However the object is called, whatever its id and the reason are, they stand as they were told.
    for name in ["tower-a.b", "tower", "another", "tower-a.cluster-1", "."] {
        assert!(taken_up(&|event| event["involvedObject"]["name"] = json!(name)), "{name}");
    }
    for uid in ["", "11111111-2222-4333-8444-55555555abcd", "11111111-2222-4333-8444-55555555ABCD", "1-2"] {
        assert!(taken_up(&|event| event["involvedObject"]["uid"] = json!(uid)), "{uid}");
    }
    for reason in ["", "Offered", "NotYetKnown", "Größe"] {
        assert!(taken_up(&|event| event["reason"] = json!(reason)), "{reason}");
    }
    assert!(taken_up(&|event| event["message"] = json!("")));
    assert!(taken_up(&|event| event["count"] = json!(u32::MAX)));
    // What another hub may write is kept whole.
    assert!(!taken_up(&|event| event["series"] = json!({"count": 2})));
    assert!(!taken_up(&|event| event["metadata"]["uid"] = json!("another")));
    assert!(!taken_up(&|event| event["firstTimestamp"] = json!("2027-01-15T08:00:00.5Z")));
    assert!(!taken_up(&|event| event["involvedObject"]["name"] = json!("")));
    for count in [-1, i64::from(u32::MAX) + 1] {
        assert!(!taken_up(&|event| event["count"] = json!(count)), "{count}");
    }
}
