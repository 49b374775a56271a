//! Hubs that lost something: what clusters hold is learned, and no cluster is moved back.

use protocol::{
    codec,
    cose::{self, Binding},
    documents::{Desired, Document as _},
    ids::{Digest, FleetId},
    order::{Epoch, Order},
    topics::{Downward, Upward},
};
use serde_json::json;

use super::{
    super::{DocumentKind, Effect, recovery::Cause},
    bench::{
        Backup, Bench, DIRECTOR, STRANGER, app, fleet_id, id, key, kicks, pushes, removing, spec, stores,
        trust,
    },
};
use crate::resources::AssignmentState;

const TOWERS: [&str; 3] = ["tower-1", "tower-2", "tower-3"];

/// A fleet of three that runs `gateway` and `meter`, a backup of then, and three changes after it: another version, a
/// parameter, and no `meter` any more.
fn changed_since_backup() -> (Bench, Backup) {
    let mut bench = Bench::running(3, json!({}));
    bench.publish("meter", "1");
    bench.apply("meter", spec("meter-1", removing()), None);
    report_all(&mut bench);
    let backup = bench.backup();
    bench.publish("gateway", "2");
    bench.apply("gateway", spec("gateway-2", json!({})), None);
    bench.apply("gateway", spec("gateway-2", json!({"parameters": {"level": "debug"}})), None);
    let mut nowhere = removing();
    nowhere["placement"]["clusterSelector"]["matchLabels"]["stage"] = json!("none");
    bench.apply("meter", spec("meter-1", nowhere), Some("2: replaced"));
    report_all(&mut bench);
    (bench, backup)
}

fn report_all(bench: &mut Bench) {
    report_all_of(bench, &TOWERS);
}

fn report_all_of(bench: &mut Bench, towers: &[&str]) {
    towers.iter().for_each(|name| drop(bench.report(name)));
    bench.settle();
}

/// What a cluster runs, with the release: the truth that no hub may turn back.
fn runs(bench: &mut Bench, name: &str) -> Vec<(String, Digest, usize)> {
    let desired = bench.cluster(name).desired.clone().unwrap();
    let run = desired.releases.iter();
    run.map(|release| (release.app.to_string(), release.release, release.values.len())).collect()
}

fn order(bench: &mut Bench, name: &str) -> u64 {
    bench.cluster(name).held.unwrap().order.seq
}

fn changes(effects: &[Effect]) -> usize {
    TOWERS.iter().map(|name| pushes(effects, name, Downward::Desired)).sum()
}

#[test]
fn a_restored_hub_learns_what_clusters_hold_and_moves_none_back() {
    let (mut bench, backup) = changed_since_backup();
    let before = TOWERS.map(|name| (order(&mut bench, name), runs(&mut bench, name)));
    let mut effects = bench.come_back(&backup, Some(8));
    for name in &TOWERS[..2] {
        effects.extend(bench.connect(name));
        effects.extend(bench.report(name));
        effects.extend(bench.report(name));
    }
    bench.settle();
    // It is not even asked to: whoever writes meanwhile is told that it waits.
    effects.extend(bench.apply("gateway", spec("gateway-1", json!({"parameters": {"level": "info"}})), None));
    effects.extend(bench.tick());
    assert_eq!(changes(&effects), 0);
    assert!(bench.reason("gateway").starts_with("Hold: the hub was restored from a backup of 2027-01-15T"));
    assert!(bench.cluster("tower-1").permits().is_empty(), "nothing starts");
    assert_eq!(bench.cluster("tower-1").head.as_ref().unwrap().incarnation.as_bytes(), &[8; 16]);
    assert_eq!(bench.condition("tower-1", "Adopted").0, "True");
    assert_eq!(bench.condition("tower-3", "Adopted").0, "False");
    let standing = bench.fleet.standing().unwrap();
    assert_eq!((standing.joined, standing.unheard), (3, vec![id("tower-3")]));
    assert_eq!(bench.state("tower-3"), Some(AssignmentState::Deferred), "its report is of before");
    assert_eq!(standing.found, [(app("gateway"), 2), (app("meter"), 2)]);
    assert_eq!(bench.state("tower-1"), Some(AssignmentState::Updated));
    let (_, shown) = &bench.assignments[&(app("gateway"), id("tower-1"))];
    assert!(shown.bundle.starts_with("sha256:") && shown.message.as_ref().unwrap().contains("push it again"));

    // Accepted, it goes on with what was written since, where it knows what runs.
    let meter = |bench: &Bench| bench.reason("meter");
    bench.accept();
    bench.settle();
    assert!(meter(&bench).starts_with("Hold: 2 clusters run it otherwise"), "{}", meter(&bench));
    for (name, (seq, _)) in TOWERS.iter().zip(&before).take(2) {
        assert_eq!(order(&mut bench, name), seq + 1, "{name}");
        assert_eq!(bench.told(name), ["gateway level=info"], "{name}");
    }
    assert_eq!((order(&mut bench, TOWERS[2]), runs(&mut bench, TOWERS[2])), before[2]);
    bench.connect(TOWERS[2]);
    bench.settle();
    assert_eq!(order(&mut bench, TOWERS[2]), before[2].0 + 1);
    assert_eq!(bench.told(TOWERS[2]), ["gateway level=info", "-meter"], "it has not said that this is done");
    // The old record comes into force by a word of the operator, who repeats nothing by accident.
    bench.annotate("meter", spec("meter-1", removing()), Some("1: it is needed again"));
    bench.settle();
    assert_eq!(bench.told("tower-1"), ["gateway level=info", "meter"]);
    assert_eq!(bench.fleet.standing().unwrap().found, []);
}

#[test]
fn accepting_alone_changes_nothing() {
    let (mut bench, backup) = changed_since_backup();
    let before = TOWERS.map(|name| (order(&mut bench, name), runs(&mut bench, name)));
    bench.come_back(&backup, Some(8));
    let mut effects = bench.accept();
    for name in TOWERS {
        effects.extend(bench.connect(name));
        effects.extend(bench.report(name));
        effects.extend(bench.report(name));
    }
    effects.extend((0..4).flat_map(|_| bench.tick()).collect::<Vec<_>>());
    assert_eq!(changes(&effects), 0);
    let after = TOWERS.map(|name| (order(&mut bench, name), runs(&mut bench, name)));
    assert_eq!(after, before);
    // A restart forgets nothing of it.
    let store = bench.store.clone();
    assert_eq!(stores(&bench.restart()), 0);
    bench.settle();
    assert_eq!(TOWERS.iter().map(|name| stores(&bench.connect(name))).sum::<usize>(), 0);
    bench.settle();
    assert_eq!(bench.store, store);
    assert_eq!(bench.fleet.standing().unwrap().unheard, []);
}

#[test]
fn a_backup_that_is_up_to_date_costs_one_word_of_the_operator() {
    let mut bench = Bench::running(3, json!({}));
    let backup = bench.backup();
    bench.come_back(&backup, Some(8));
    // One has lost its disk meanwhile: what it shall run is not for a hub that waits to say.
    let mut effects = TOWERS[..2].iter().flat_map(|name| bench.connect(name)).collect::<Vec<_>>();
    assert_eq!(changes(&effects), 0);
    effects = bench.accept();
    assert_eq!((kicks(&effects), changes(&effects)), (0, 2), "they hold it already");
    bench.settle();
    assert_eq!(bench.cluster("tower-1").permits(), ["gateway"]);
    bench.apply("gateway", spec("gateway-1", json!({"parameters": {"level": "info"}})), None);
    assert_eq!(bench.told("tower-1"), ["gateway level=info"]);
    assert_eq!(bench.told("tower-3"), ["gateway"], "it was not heard of");
    bench.connect("tower-3");
    bench.settle();
    assert_eq!(bench.told("tower-3"), ["gateway level=info"]);
}

#[test]
fn what_a_cluster_missed_before_the_backup_waits_too() {
    let mut bench = Bench::running(3, json!({}));
    bench.disconnect("tower-1");
    bench.apply("gateway", spec("gateway-1", json!({"parameters": {"level": "info"}})), None);
    let backup = bench.backup();
    bench.come_back(&backup, Some(8));
    let held = order(&mut bench, "tower-1");
    let mut effects = bench.connect("tower-1");
    effects.extend(bench.report("tower-1"));
    effects.extend(bench.report("tower-1"));
    assert_eq!((changes(&effects), order(&mut bench, "tower-1")), (0, held));
    bench.accept();
    assert_eq!(order(&mut bench, "tower-1"), held + 1);
    assert_eq!(bench.told("tower-1"), ["gateway level=info"]);
}

#[test]
fn a_store_that_was_put_back_is_noticed_and_pauses_the_fleet() {
    for other_bytes in [false, true] {
        let (mut bench, backup) = changed_since_backup();
        let before = TOWERS.map(|name| (order(&mut bench, name), runs(&mut bench, name)));
        bench.come_back(&backup, None);
        assert!(bench.fleet.standing().is_none(), "nobody said so");
        if other_bytes {
            // It signs for the very place that is taken.
            for level in ["info", "debug", "info"] {
                bench.apply("gateway", spec("gateway-1", json!({"parameters": {"level": level}})), None);
            }
            let signed = bench.fleet.clusters[&id("tower-1")].signed.as_ref().unwrap().desired.order.seq;
            assert_eq!(signed, before[0].0);
        }
        bench.arrive("tower-2");
        let effects = bench.connect("tower-1");
        assert_eq!((changes(&effects), kicks(&effects)), (0, 1));
        let standing = bench.fleet.standing().unwrap();
        assert_eq!(standing.recovery.cause, Cause::RolledBack { cluster: id("tower-1") });
        assert_ne!(standing.recovery.incarnation.as_bytes(), &[7; 16]);
        assert_eq!(standing.unheard, [id("tower-2"), id("tower-3")]);
        bench.disconnect("tower-2");
        for name in &TOWERS[1..] {
            bench.connect(name);
        }
        bench.accept();
        bench.settle();
        let after = TOWERS.map(|name| (order(&mut bench, name), runs(&mut bench, name)));
        assert_eq!(after, before, "other bytes: {other_bytes}");
        bench.publish("gateway", "2");
        bench.apply("gateway", spec("gateway-2", json!({})), None);
        bench.settle();
        assert_eq!(order(&mut bench, "tower-3"), before[2].0 + 1);
    }
}

/// What is tried, what is said to be held, what is shown, and why it is not believed; none if it is not even looked at.
type Showing<'a> = (&'a str, &'a [u8], &'a [u8], Option<&'a str>);

#[test]
fn nothing_is_adopted_but_what_was_signed_here_for_this_cluster_and_is_held_now() {
    let (mut bench, backup) = changed_since_backup();
    let older = backup.store[&(DocumentKind::Desired, "tower-1".to_owned())].clone();
    let theirs = bench.cluster("tower-2").envelope.clone();
    let own = bench.cluster("tower-1").envelope.clone();
    let real = bench.cluster("tower-1").desired.clone().unwrap();
    bench.come_back(&backup, Some(8));
    let signed = |desired: &Desired, fleet: &FleetId, cluster: &str, seed: u8| {
        let binding = Binding { kind: Desired::TYPE, fleet, cluster: Some(&id(cluster)) };
        cose::sign_one(binding, &codec::encode(desired), &key(seed))
    };
    let ahead = Desired { order: Order { seq: 99, ..real.order }, ..(*real).clone() };
    let epoch = Desired { order: Order { epoch: Epoch(2), seq: 1 }, ..(*real).clone() };
    let other = FleetId::new("south").unwrap();
    let cases: [Showing<'_>; 9] = [
        ("replayed, older", &own, &older, None),
        ("another than was named", &own, &signed(&ahead, &fleet_id(), "tower-1", DIRECTOR), None),
        ("nothing", &own, &[], None),
        ("another cluster's", &theirs, &theirs, Some("is not signed by")),
        ("forged", &[1; 200], &[1; 200], Some("bad envelope")),
        (
            "signed by a stranger",
            &signed(&ahead, &fleet_id(), "tower-1", STRANGER),
            &signed(&ahead, &fleet_id(), "tower-1", STRANGER),
            Some("is not signed by"),
        ),
        (
            "of another fleet",
            &signed(&ahead, &other, "tower-1", DIRECTOR),
            &signed(&ahead, &other, "tower-1", DIRECTOR),
            Some("is not signed by"),
        ),
        (
            "of another epoch",
            &signed(&epoch, &fleet_id(), "tower-1", DIRECTOR),
            &signed(&epoch, &fleet_id(), "tower-1", DIRECTOR),
            Some("epoch"),
        ),
        (
            "of another place than was named",
            &signed(&ahead, &fleet_id(), "tower-1", DIRECTOR),
            &signed(&ahead, &fleet_id(), "tower-1", DIRECTOR),
            Some("its hello names 1."),
        ),
    ];
    let store = bench.store.clone();
    for (what, claimed, shown, refused) in cases {
        bench.disconnect("tower-1");
        bench.arrive("tower-1");
        let mut honest = bench.cluster("tower-1").held.unwrap();
        honest.digest = Digest::of(claimed);
        if what == "of another epoch" {
            honest.order = epoch.order;
        }
        let held = bench.cluster("tower-1").held.replace(honest);
        let hello = bench.cluster("tower-1").hello();
        bench.cluster("tower-1").held = held;
        assert_eq!(pushes(&bench.say("tower-1", Upward::Hello, hello), "tower-1", Downward::Head), 1);
        let effects = bench.say("tower-1", Upward::Held, shown.to_vec());
        assert_eq!((stores(&effects), changes(&effects)), (0, 0), "{what}");
        let status = &bench.statuses[&id("tower-1")];
        let adopted = status.conditions.iter().find(|one| one.type_ == "Adopted").unwrap();
        assert_eq!(adopted.status, "False", "{what}");
        match refused {
            Some(why) => {
                assert!(adopted.reason == "Refused" && adopted.message.contains(why), "{what}: {adopted:?}")
            }
            None => assert_eq!(adopted.reason, "Ahead", "{what}"),
        }
    }
    assert_eq!(bench.store, store);
    // The honest one is believed all the same, and nobody is believed who was not asked.
    bench.disconnect("tower-1");
    bench.connect("tower-1");
    assert_eq!(bench.condition("tower-1", "Adopted").0, "True");
    assert_eq!(bench.say("tower-1", Upward::Held, older).len(), 0);
    assert_eq!(bench.say("tower-1", Upward::Held, own).len(), 0);
}

/// What a cluster shows may be lost, on a connection that stays up. Until it came, nothing is said of what it runs.
#[test]
fn a_cluster_that_is_ahead_is_asked_again_with_each_heartbeat() {
    let mut bench = Bench::running(3, json!({}));
    let backup = bench.backup();
    bench.apply("gateway", spec("gateway-1", json!({"parameters": {"level": "debug"}})), None);
    report_all(&mut bench);
    bench.come_back(&backup, Some(8));
    bench.arrive("tower-1");
    let hello = bench.cluster("tower-1").hello();
    bench.say("tower-1", Upward::Hello, hello);
    // What it has to say anew, until it says the same again.
    (0..2).for_each(|_| drop(bench.report("tower-1")));
    for _ in 0..2 {
        bench.cluster("tower-1").shows = None;
        assert_eq!(pushes(&bench.report("tower-1"), "tower-1", Downward::Head), 1);
        assert_eq!(bench.condition("tower-1", "Adopted").0, "False");
        assert_eq!(bench.state("tower-1"), Some(AssignmentState::Pending));
    }
    let held = bench.cluster("tower-1").shows.take().unwrap();
    bench.say("tower-1", Upward::Held, held);
    assert_eq!(bench.condition("tower-1", "Adopted").0, "True");
    bench.report("tower-1");
    assert_eq!(bench.state("tower-1"), Some(AssignmentState::Updated));
    assert_eq!(pushes(&bench.report("tower-1"), "tower-1", Downward::Head), 0);
}

/// The hub began the new life itself, by what the cluster showed it.
#[test]
fn whoever_made_a_hub_begin_another_life_hears_it_answered_with_each_head() {
    let (mut bench, backup) = changed_since_backup();
    bench.come_back(&backup, None);
    bench.arrive("tower-1");
    let hello = bench.cluster("tower-1").hello();
    bench.say("tower-1", Upward::Hello, hello);
    let held = bench.cluster("tower-1").shows.take().unwrap();
    bench.cluster("tower-1").deaf = true;
    bench.say("tower-1", Upward::Held, held);
    bench.cluster("tower-1").deaf = false;
    bench.accept();
    bench.apply("gateway", spec("gateway-1", json!({"parameters": {"level": "info"}})), None);
    bench.settle();
    let life = bench.fleet.standing().unwrap().recovery.incarnation;
    assert_eq!(bench.cluster("tower-1").incarnation, Some(life));
}

/// An old disk reports less than was reported before, and is heard all the same.
#[test]
fn a_cluster_that_is_ahead_is_asked_again_whatever_it_reports() {
    let mut bench = Bench::running(1, json!({}));
    let backup = bench.backup();
    bench.report("tower-1");
    bench.report("tower-1");
    bench.apply("gateway", spec("gateway-1", json!({"parameters": {"level": "debug"}})), None);
    bench.come_back(&backup, Some(8));
    bench.arrive("tower-1");
    let hello = bench.cluster("tower-1").hello();
    bench.say("tower-1", Upward::Hello, hello);
    bench.report("tower-1");
    bench.cluster("tower-1").seq = 0;
    for _ in 0..2 {
        bench.cluster("tower-1").shows = None;
        assert_eq!(pushes(&bench.report("tower-1"), "tower-1", Downward::Head), 1);
    }
}

/// By then the cluster holds what it was told since, and shows nothing.
#[test]
fn a_hello_that_comes_again_after_it_was_answered_is_no_news() {
    let (mut bench, backup) = changed_since_backup();
    bench.come_back(&backup, Some(8));
    bench.arrive("tower-1");
    let hello = bench.cluster("tower-1").hello();
    bench.say("tower-1", Upward::Hello, hello.clone());
    let held = bench.cluster("tower-1").shows.take().unwrap();
    bench.say("tower-1", Upward::Held, held);
    bench.accept();
    bench.apply("gateway", spec("gateway-1", json!({"parameters": {"level": "info"}})), None);
    assert_eq!(bench.condition("tower-1", "Adopted").0, "True");
    bench.say("tower-1", Upward::Hello, hello);
    assert_eq!(bench.condition("tower-1", "Adopted").0, "True");
    assert!(bench.cluster("tower-1").shows.is_none());
}

/// On a connection that stays up, too: with the first report that names a place the hub did not sign.
#[test]
fn what_a_thief_of_the_key_told_a_cluster_is_noticed() {
    let mut bench = Bench::running(2, json!({}));
    report_all_of(&mut bench, &TOWERS[..2]);
    let tower = bench.cluster("tower-1");
    let mut forged = Desired::clone(tower.desired.as_ref().unwrap());
    (forged.order.seq, forged.prev) = (forged.order.seq + 1, Some(Digest::of(&tower.envelope)));
    let (bytes, forged) = trust().direct(&key(DIRECTOR), forged).unwrap();
    tower.held = Some(protocol::order::Held { order: forged.order, digest: forged.digest() });
    (tower.desired, tower.envelope, tower.forgiving) = (Some(forged), bytes, true);
    let said = bench.report("tower-1");
    assert!(said.iter().any(|effect| matches!(effect, Effect::Kick(who) if *who == id("tower-1"))));
    assert_eq!(kicks(&bench.report("tower-2")), 0, "who holds what was signed stays connected");
    bench.disconnect("tower-1");
    bench.connect("tower-1");
    let standing = bench.fleet.standing().unwrap();
    assert_eq!(standing.recovery.cause, Cause::RolledBack { cluster: id("tower-1") });
    assert_eq!(kicks(&bench.report("tower-1")), 0, "what it holds is known now");
}

/// The same as it was told since, under a lower place.
#[test]
fn an_old_disk_that_holds_what_a_lost_hub_signed_is_up_to_date() {
    let louder = || spec("gateway-1", json!({"parameters": {"level": "debug"}}));
    let mut bench = Bench::running(1, json!({}));
    bench.report("tower-1");
    let backup = bench.backup();
    let (first, life) = (bench.cluster("tower-1").held, bench.cluster("tower-1").incarnation);
    bench.cluster("tower-1").deaf = true;
    bench.apply("gateway", louder(), None);
    let lost = bench.store[&(DocumentKind::Desired, "tower-1".to_owned())].clone();
    bench.cluster("tower-1").deaf = false;
    bench.come_back(&backup, Some(8));
    bench.connect("tower-1");
    assert_eq!(bench.cluster("tower-1").held, first);
    bench.accept();
    bench.apply("gateway", spec("gateway-1", json!({"parameters": {"level": "info"}})), None);
    bench.apply("gateway", louder(), None);
    bench.report("tower-1");
    let newest = order(&mut bench, "tower-1");
    bench.disconnect("tower-1");
    let tower = bench.cluster("tower-1");
    let seq = trust().director::<Desired>(&id("tower-1"), &lost).unwrap().order.seq;
    assert!(seq < newest);
    let place = Order { seq, ..first.unwrap().order };
    tower.held = Some(protocol::order::Held { order: place, digest: Digest::of(&lost) });
    tower.incarnation = life;
    tower.be_reborn(9);
    bench.arrive("tower-1");
    let hello = bench.cluster("tower-1").hello();
    bench.say("tower-1", Upward::Hello, hello);
    bench.say("tower-1", Upward::Held, lost);
    (0..3).for_each(|_| drop(bench.report("tower-1")));
    assert_eq!(bench.state("tower-1"), Some(AssignmentState::Updated));
    // What was signed since is not forgotten with another life: no place has two contents.
    let backup = bench.backup();
    bench.come_back(&backup, Some(9));
    bench.connect("tower-1");
    assert_eq!(order(&mut bench, "tower-1"), seq);
    bench.accept();
    bench.apply("gateway", spec("gateway-1", json!({"parameters": {"level": "info"}})), None);
    assert_eq!(order(&mut bench, "tower-1"), newest + 1);
}

/// A broker that repeats an old hello and an old desired state gains nothing by it.
#[test]
fn a_replayed_meeting_is_made_good_by_the_honest_one() {
    let (mut bench, backup) = changed_since_backup();
    let before = runs(&mut bench, "tower-1");
    let held = order(&mut bench, "tower-1");
    let (newest, envelope) = (bench.cluster("tower-1").held, bench.cluster("tower-1").envelope.clone());
    bench.come_back(&backup, Some(8));
    // The first of the three changes, as it was said on the day.
    let mut old = (*bench.cluster("tower-1").desired.clone().unwrap()).clone();
    old.order.seq = held - 1;
    let binding = Binding { kind: Desired::TYPE, fleet: &fleet_id(), cluster: Some(&id("tower-1")) };
    let old_bytes = cose::sign_one(binding, &codec::encode(&old), &key(DIRECTOR));
    let tower = bench.cluster("tower-1");
    tower.held = Some(protocol::order::Held { order: old.order, digest: Digest::of(&old_bytes) });
    let hello = tower.hello();
    (tower.held, tower.deaf) = (newest, true);
    bench.arrive("tower-1");
    bench.say("tower-1", Upward::Hello, hello);
    bench.say("tower-1", Upward::Held, old_bytes);
    assert_eq!(bench.condition("tower-1", "Adopted").0, "True", "the hub cannot tell");
    bench.accept();
    for level in ["info", "debug", "info"] {
        bench.apply("gateway", spec("gateway-1", json!({"parameters": {"level": level}})), None);
    }
    bench.disconnect("tower-1");
    bench.cluster("tower-1").deaf = false;
    let effects = bench.connect("tower-1");
    assert_eq!((changes(&effects), runs(&mut bench, "tower-1")), (0, before));
    assert_eq!(bench.cluster("tower-1").envelope, envelope);
    assert!(bench.fleet.standing().unwrap().recovery.accepted.is_none(), "somebody should look at this");
    bench.accept();
    bench.apply("gateway", spec("gateway-1", json!({})), None);
    bench.settle();
    assert_eq!(bench.told("tower-1"), ["gateway", "-meter"]);
    assert_eq!(order(&mut bench, "tower-1"), held + 3, "after all that was ever signed");
}
