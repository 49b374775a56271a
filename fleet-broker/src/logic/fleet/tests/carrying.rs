//! Files that are carried by hand: what goes into them, and which reports are taken.

use protocol::{
    carry::{Carried, Way},
    documents::CarryHead,
    time::UnixSeconds,
    verify::Verified,
};
use serde_json::json;

use super::super::carry::{CarryRefusal, Export};
use super::bench::{Bench, DAY, START, STRANGER, id, key, spec, trust};
use crate::resources::AssignmentState;

fn head(export: &Export) -> Verified<CarryHead> {
    trust().director(&id("tower-1"), &export.head).unwrap()
}

fn apps(export: &Export) -> &[Carried] {
    let Way::ToCluster { apps, .. } = &export.label.way else { panic!("{:?}", export.label) };
    apps
}

/// A cluster that joined and was never heard of, and an application for it.
fn apart() -> Bench {
    let mut bench = Bench::new();
    bench.register("tower-1", &[("stage", "prod")]);
    bench.join("tower-1");
    bench.publish("gateway", "1");
    bench.apply("gateway", spec("gateway-1", json!({})), None);
    bench.settle();
    bench
}

#[test]
fn an_export_brings_a_cluster_that_never_connected_to_its_newest_state() {
    let mut bench = apart();
    bench.wait(DAY);
    let export = bench.export("tower-1", false).unwrap();
    let head = head(&export);
    assert_eq!(head.head.fresh_until, START.plus(30 * DAY), "until the desired state may be installed");
    let permits: Vec<_> = head.head.permits.iter().map(|permit| permit.app.name.as_str()).collect();
    assert_eq!((permits, head.head.nonce), (vec!["gateway"], None));
    assert_eq!(export.releases.len(), 1);
    assert!(apps(&export)[0].included);
    bench.cluster("tower-1").bring(&export);
    assert_eq!(bench.told("tower-1"), ["gateway"]);
    assert_eq!(bench.state("tower-1"), Some(AssignmentState::Deferred), "nobody knows of it yet");
}

#[test]
fn what_a_cluster_said_it_has_is_left_out() {
    let mut bench = Bench::running(1, json!({}));
    for (full, included) in [(false, false), (true, true)] {
        let export = bench.export("tower-1", full).unwrap();
        assert_eq!(apps(&export)[0].included, included);
        assert_eq!(export.releases.len(), usize::from(included));
        assert_eq!(head(&export).head.permits.len(), 1, "a permit all the same: it may not have started");
    }
}

#[test]
fn a_freeze_and_a_hold_hold_for_exports_too() {
    for (is_freeze, why) in
        [(true, "freeze fair: trade fair"), (false, "the cluster is on hold: crane on site")]
    {
        let mut bench = apart();
        match is_freeze {
            true => bench.freeze("fair", None, &[]),
            false => bench.hold("tower-1", None),
        };
        let export = bench.export("tower-1", false).unwrap();
        assert!(head(&export).head.permits.is_empty(), "{why}");
        assert_eq!(apps(&export)[0].withheld.as_deref(), Some(why));
    }
}

#[test]
fn an_old_desired_state_is_signed_anew_so_that_a_file_is_good_for_half_its_time() {
    let mut bench = apart();
    for (days, until) in [(14, 30), (15, 30), (16, 46), (60, 90)] {
        bench.wait((START.plus(days * DAY)).since(bench.now.wall));
        let export = bench.export("tower-1", false).unwrap();
        assert_eq!(head(&export).head.fresh_until, START.plus(until * DAY), "on day {days}");
    }
}

#[test]
fn nothing_is_exported_for_whom_the_hub_would_not_speak_to() {
    let check = |bench: &mut Bench, expected: &str| {
        let refusal = bench.export("tower-1", false).unwrap_err().to_string();
        assert!(refusal.contains(expected), "{refusal} lacks {expected}");
    };
    check(&mut Bench::new(), "is not registered");
    let mut bench = Bench::new();
    bench.register("tower-1", &[]);
    check(&mut bench, "has not joined");
    let mut bench = apart();
    bench.record("tower-1", &[("stage", "prod")], |record| record.accepted = false);
    check(&mut bench, "is not accepted");
    let mut bench = apart();
    bench.handle(super::super::Event::Revoke(id("tower-1"), "stolen".to_owned()));
    check(&mut bench, "its key is revoked");
    let mut bench = Bench::running(1, json!({}));
    let backup = bench.backup();
    bench.come_back(&backup, Some(9));
    check(&mut bench, "restore --accept");
    bench.accept();
    check(&mut bench, "connect it once");
}

#[test]
fn a_carried_report_counts_once_and_the_link_that_comes_later_agrees() {
    let mut bench = apart();
    let export = bench.export("tower-1", false).unwrap();
    bench.cluster("tower-1").bring(&export);
    let made = bench.now.wall;
    let report = bench.cluster("tower-1").next_report(made);
    bench.wait(3 * DAY);
    assert_eq!(bench.carried("tower-1", std::slice::from_ref(&report)), Ok(1));
    bench.settle();
    assert_eq!(bench.state("tower-1"), Some(AssignmentState::Updated));
    assert_eq!(bench.condition("tower-1", "Connected").0, "False");
    assert_eq!(bench.condition("tower-1", "Carried").0, "True");
    assert_eq!(bench.condition("tower-1", "ClockSynced").0, "True", "the way took three days, not the clock");
    let shown = bench.statuses[&id("tower-1")].last_report_time.clone().unwrap();
    assert_eq!(shown.0.as_second() as u64, made.0);

    let stored = bench.store.clone();
    assert_eq!(bench.carried("tower-1", std::slice::from_ref(&report)), Ok(0), "carried twice");
    assert_eq!(bench.store, stored);
    bench.restart();
    bench.settle();
    assert_eq!(bench.condition("tower-1", "Carried").0, "True", "also after a restart");

    bench.connect("tower-1");
    bench.report("tower-1");
    bench.settle();
    assert!(!bench.statuses[&id("tower-1")].conditions.iter().any(|one| one.type_ == "Carried"));
    assert_eq!(bench.state("tower-1"), Some(AssignmentState::Updated));
    assert_eq!(bench.cluster("tower-1").acks.last().map(|ack| ack.report_seq), Some(1));
    // The stick is found again.
    assert_eq!(bench.carried("tower-1", &[report]), Ok(0));
    bench.settle();
    assert!(!bench.statuses[&id("tower-1")].conditions.iter().any(|one| one.type_ == "Carried"));
}

#[test]
fn reports_that_are_not_the_clusters_own_change_nothing() {
    let mut bench = Bench::running(2, json!({}));
    bench.disconnect("tower-1");
    let wall = bench.now.wall;
    let own = bench.cluster("tower-1").next_report(wall);
    let other = bench.cluster("tower-2").next_report(wall);
    let unsigned = bench.cluster("tower-1").unsigned_report(wall);
    let forged = bench.cluster("tower-1").sign_as(&unsigned, &key(STRANGER));
    let mut flipped = own.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let stored = bench.store.clone();
    for (what, report) in [("another cluster's", other), ("a stranger's", forged), ("damaged", flipped)] {
        let taken = bench.carried("tower-1", &[own.clone(), report]);
        assert_eq!(taken, Err(CarryRefusal::Forged(id("tower-1"))), "{what}");
        assert_eq!(bench.store, stored, "{what}");
    }
    bench.record("tower-1", &[("stage", "prod")], |record| record.accepted = false);
    assert_eq!(
        bench.carried("tower-1", std::slice::from_ref(&own)),
        Err(CarryRefusal::NotAdmitted(id("tower-1")))
    );
    assert_eq!(bench.carried("tower-9", &[own]), Err(CarryRefusal::Unknown(id("tower-9"))));
}

#[test]
fn a_report_of_a_disk_that_is_no_more_is_not_taken() {
    let mut bench = Bench::running(1, json!({}));
    let wall = bench.now.wall;
    // Two lives: one that the hub knows, and one in between that it never heard of.
    let known = bench.cluster("tower-1").next_report(wall);
    bench.cluster("tower-1").be_reborn(77);
    let unheard = bench.cluster("tower-1").next_report(UnixSeconds(wall.0 + 1));
    bench.cluster("tower-1").be_reborn(78);
    bench.wait(10);
    bench.report("tower-1");
    bench.settle();
    let stored = bench.store.clone();
    for report in [known, unheard] {
        assert_eq!(bench.carried("tower-1", &[report]), Err(CarryRefusal::FormerLife(id("tower-1"))));
        assert_eq!(bench.store, stored);
    }
}
