//! Attacks by stick: what is refused, with what words, and that nothing of it stays.

use std::{collections::BTreeMap, time::Duration};

use protocol::{
    cose,
    documents::{Ceilings, Desired, DesiredRelease, Document as _, Encoding, Head, Mode, Permit},
    ids::{AppId, ClusterId, Digest, FleetId, Incarnation, JournalId, Nonce},
    limits,
    order::{Epoch, Order},
    topics::Downward,
};
use serde_json::json;

use super::*;
use crate::{
    logic::event::Event,
    testing::{Bundle, Fleet, TIME},
};

const LIFE: Incarnation = Incarnation::new([1; 16]);
const NONCE: Nonce = Nonce::new([1; 16]);

fn now() -> Now {
    Now { monotonic: Duration::from_secs(1), wall: TIME }
}

fn app() -> AppId {
    AppId::new("radio", "gateway").unwrap()
}

fn bundle(fleet: &Fleet) -> Bundle {
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap",
                        "metadata": {"namespace": "radio", "name": "a"}, "data": {"value": "one"}});
    fleet.bundle(1, &[object], Ceilings::default())
}

fn desired(fleet: &Fleet, seq: u64) -> Vec<u8> {
    let bundle = bundle(fleet);
    fleet.sign(&Desired {
        cluster: fleet.cluster.clone(),
        order: Order { epoch: Epoch(1), seq },
        prev: None,
        issued: TIME,
        install_by: TIME.plus(limits::INSTALL_BY_SECONDS),
        releases: vec![DesiredRelease {
            app: app(),
            release: bundle.release.digest(),
            len: u32::try_from(bundle.envelope.len()).unwrap(),
            values: BTreeMap::new(),
            mode: Mode::Enforce,
            depends_on: Vec::new(),
            enforce: None,
        }],
        remove: Vec::new(),
        policy: None,
    })
}

fn head_of(fleet: &Fleet, seq: u64, desired: &[u8]) -> Head {
    let until = TIME.plus(limits::INSTALL_BY_SECONDS);
    Head {
        cluster: fleet.cluster.clone(),
        incarnation: LIFE,
        order: Order { epoch: Epoch(1), seq },
        desired: Digest::of(desired),
        root_version: 1,
        hub_time: TIME,
        fresh_until: until,
        permits: vec![Permit { app: app(), not_before: TIME, not_after: until }],
        nonce: None,
    }
}

fn carry_head(fleet: &Fleet, seq: u64, desired: &[u8]) -> Vec<u8> {
    fleet.sign(&CarryHead { head: head_of(fleet, seq, desired) })
}

fn agent(fleet: &Fleet) -> Agent {
    Agent::new(fleet.identity(), fleet.trust.clone(), JournalId::new([3; 16])).0
}

fn bring(agent: &mut Agent, now: Now, carried: Carried) -> Result<(), String> {
    let effects = agent.handle(now, Event::Carried(carried));
    let judged = effects.into_iter().find_map(|effect| match effect {
        Effect::Judged(judged) => Some(judged),
        Effect::Record(_) | Effect::Observe(_) | Effect::Execute { .. } | Effect::Publish { .. } => None,
    });
    judged.unwrap().map_err(|refusal| crate::logic::report::chain(&refusal))
}

fn record(agent: &mut Agent, record: Record) -> Result<(), String> {
    bring(agent, now(), Carried::Record(record))
}

/// An agent whose clock somebody vouched for, and that took the desired state of this place.
fn holding(fleet: &Fleet, seq: u64) -> Agent {
    let mut agent = agent(fleet);
    bring(&mut agent, now(), Carried::Clock).unwrap();
    let bytes = desired(fleet, seq);
    record(&mut agent, Record::Head(carry_head(fleet, seq, &bytes))).unwrap();
    record(&mut agent, Record::Desired(bytes)).unwrap();
    assert_eq!(agent.held.map(|held| held.order.seq), Some(seq));
    agent
}

fn pieces(target: Digest, encoding: Encoding, bytes: &[u8]) -> Vec<Record> {
    let piece = |(index, part): (usize, &[u8])| {
        let (total, offset) = (bytes.len() as u64, (index * 64) as u64);
        Record::Piece(Chunk { target, encoding, total, offset, bytes: part.to_vec() }.encode())
    };
    bytes.chunks(64).enumerate().map(piece).collect()
}

#[test]
fn a_stick_brings_what_a_link_would() {
    let fleet = Fleet::new();
    let bundle = bundle(&fleet);
    let mut agent = holding(&fleet, 1);
    let release = pieces(bundle.release.digest(), Encoding::Plain, &bundle.envelope);
    let content = pieces(bundle.release.pack, Encoding::Zstd, &bundle.packed);
    // Brought twice, as by an import after a power cut, it is the same.
    for _ in 0..2 {
        for piece in release.iter().chain(&content).cloned() {
            record(&mut agent, piece).unwrap();
        }
        assert!(agent.transfers.stored[&bundle.release.pack].is_complete());
        assert!(agent.needs().is_empty());
        assert_eq!(agent.alarms.len(), 0);
    }
}

#[test]
fn a_head_on_a_stick_is_refused_for_each_reason_by_name() {
    let fleet = Fleet::new();
    let held = desired(&fleet, 5);
    let other = |seq: u64| {
        let mut other: Desired = (*fleet.trust.director::<Desired>(&fleet.cluster, &held).unwrap()).clone();
        (other.order.seq, other.issued) = (seq, UnixSeconds(TIME.0 - 1));
        fleet.sign(&CarryHead { head: head_of(&fleet, seq, &fleet.sign(&other)) })
    };
    let with = |change: &dyn Fn(&mut Head)| {
        let mut head = head_of(&fleet, 6, b"another");
        change(&mut head);
        fleet.sign(&CarryHead { head })
    };
    let bound = |fleet_id: &str, cluster: &str| {
        let document = CarryHead { head: head_of(&fleet, 6, b"another") };
        let (id, cluster) = (FleetId::new(fleet_id).unwrap(), ClusterId::new(cluster).unwrap());
        let binding = cose::Binding { kind: CarryHead::TYPE, fleet: &id, cluster: Some(&cluster) };
        cose::sign_one(binding, &protocol::codec::encode(&document), fleet.director())
    };
    let mut link_head = head_of(&fleet, 6, b"another");
    link_head.fresh_until = TIME.plus(limits::HEAD_FRESH_SECONDS);
    let cases = [
        ("for another cluster", bound("north", "tower-2"), "is it for this cluster and this fleet?"),
        ("of another fleet", bound("south", "tower-1"), "is it for this cluster and this fleet?"),
        ("a head of the link", fleet.sign(&link_head), "its head is not believed"),
        ("nothing", Vec::new(), "its head is not believed"),
        ("with a nonce", with(&|head| head.nonce = Some(NONCE)), "answers no challenge"),
        (
            "expired",
            with(&|head| {
                (head.hub_time, head.fresh_until) = (UnixSeconds(TIME.0 - 9), UnixSeconds(TIME.0 - 1))
            }),
            "export it anew",
        ),
        (
            "from the future",
            with(&|head| head.hub_time = TIME.plus(limits::CLOCK_SKEW_SECONDS + 1)),
            "set the clock of this machine, or the hub's",
        ),
        ("older", other(4), "1.4 is older than 1.5, which is held"),
        ("another of the same place", other(5), "another document was signed for 1.5"),
        (
            "older than the hub's last word",
            with(&|head| {
                head.hub_time = UnixSeconds(TIME.0 - 1);
                head.fresh_until = TIME.plus(1);
            }),
            "the hub spoke here",
        ),
        ("of another life", with(&|head| head.incarnation = Incarnation::new([2; 16])), "connect it once"),
        ("of another root", with(&|head| head.root_version = 2), "root 1 is held here"),
    ];
    for (what, bytes, expected) in cases {
        let mut agent = holding(&fleet, 5);
        let refusal = record(&mut agent, Record::Head(bytes)).unwrap_err();
        assert!(refusal.contains(expected), "{what}: {refusal} lacks {expected}");
        let next = desired(&fleet, 7);
        let refusal = record(&mut agent, Record::Desired(next)).unwrap_err();
        assert!(refusal.contains("no fresh head names"), "{what}: {refusal}");
        assert_eq!(agent.held.unwrap().digest, Digest::of(&held), "{what}");
        // Whoever brought it was told; the hub has nothing to look after.
        assert_eq!(agent.alarms.len(), 0, "{what}");
    }
}

#[test]
fn without_a_clock_nothing_on_a_stick_is_believed_and_nothing_is_broken_by_it() {
    let fleet = Fleet::new();
    let bytes = desired(&fleet, 1);
    let head = || Carried::Record(Record::Head(carry_head(&fleet, 1, &bytes)));
    let mut agent = agent(&fleet);
    let refusal = bring(&mut agent, now(), head()).unwrap_err();
    assert!(refusal.contains("--confirm-clock") && refusal.contains("2027-01-15T08:00:00Z"), "{refusal}");
    // A clock that starts in 1970 at every boot, and one that runs ten years ahead.
    for (wall, expected) in [(0, "set the clock"), (TIME.0 + 315_360_000, "export it anew")] {
        let now = Now { wall: UnixSeconds(wall), ..now() };
        bring(&mut agent, now, Carried::Clock).unwrap();
        let refusal = bring(&mut agent, now, head()).unwrap_err();
        assert!(refusal.contains(expected), "{wall}: {refusal}");
    }
    // Set right, the same file is taken.
    bring(&mut agent, now(), Carried::Clock).unwrap();
    bring(&mut agent, now(), head()).unwrap();
    record(&mut agent, Record::Desired(bytes.clone())).unwrap();
    assert!(agent.held.is_some());
}

#[test]
fn a_hub_ten_years_ahead_is_mended_by_its_next_answer() {
    let fleet = Fleet::new();
    let bytes = desired(&fleet, 1);
    let mut agent = agent(&fleet);
    let answered = |hub_time: UnixSeconds| {
        let fresh_until = hub_time.plus(limits::HEAD_FRESH_SECONDS);
        let head = head_of(&fleet, 1, &bytes);
        fleet.sign(&Head { hub_time, fresh_until, nonce: Some(NONCE), ..head })
    };
    let speak = |agent: &mut Agent, hub_time: UnixSeconds| {
        agent.handle(now(), Event::Connected { nonce: NONCE });
        let (topic, bytes) = (Downward::Head, answered(hub_time));
        agent.handle(now(), Event::Received { topic, bytes });
        agent.handle(now(), Event::Disconnected { reason: String::new() });
    };
    speak(&mut agent, TIME.plus(315_360_000));
    let head = Record::Head(carry_head(&fleet, 1, &bytes));
    let refusal = record(&mut agent, head.clone()).unwrap_err();
    assert!(refusal.contains("it was good until"), "{refusal}");
    speak(&mut agent, TIME);
    record(&mut agent, head).unwrap();
    record(&mut agent, Record::Desired(bytes)).unwrap();
    assert!(agent.held.is_some());
}

/// Whoever has the link replays a stick, or says on the link what was signed for one.
#[test]
fn a_carried_head_from_the_network_is_refused_with_an_alarm() {
    let fleet = Fleet::new();
    let next = desired(&fleet, 7);
    let mut agent = holding(&fleet, 5);
    agent.handle(now(), Event::Connected { nonce: NONCE });
    for (topic, bytes) in [(Downward::Head, carry_head(&fleet, 7, &next)), (Downward::Desired, next.clone())]
    {
        agent.handle(now(), Event::Received { topic, bytes });
    }
    assert_eq!(agent.alarms.keys().copied().collect::<Vec<_>>(), ["Head", "Unannounced"]);
    assert_eq!(agent.held.map(|held| held.order.seq), Some(5));
    // A head that came by hand does not let in what comes over the link.
    record(&mut agent, Record::Head(carry_head(&fleet, 7, &next))).unwrap();
    agent.handle(now(), Event::Received { topic: Downward::Desired, bytes: next });
    assert_eq!(agent.held.map(|held| held.order.seq), Some(5));
}

#[test]
fn an_older_stick_of_the_same_state_takes_back_nothing_the_hub_said_since() {
    let fleet = Fleet::new();
    let mut agent = holding(&fleet, 5);
    let bytes = desired(&fleet, 5);
    let mut frozen = head_of(&fleet, 5, &bytes);
    frozen.permits.clear();
    frozen.hub_time = TIME.plus(1);
    record(&mut agent, Record::Head(fleet.sign(&CarryHead { head: frozen }))).unwrap();
    // No error: its content may still be needed.
    record(&mut agent, Record::Head(carry_head(&fleet, 5, &bytes))).unwrap();
    assert!(agent.head.as_ref().unwrap().permits.is_empty());
}

#[test]
fn forged_content_on_a_stick_is_refused_and_the_right_one_is_taken_after_it() {
    let fleet = Fleet::new();
    let bundle = bundle(&fleet);
    let mut agent = holding(&fleet, 1);
    let target = bundle.release.digest();
    let mut forged = bundle.envelope.clone();
    forged[20] ^= 1;
    let mut told = Vec::new();
    for piece in pieces(target, Encoding::Plain, &forged) {
        told.extend(record(&mut agent, piece).err());
    }
    assert!(told.iter().any(|text| text.contains("it came altered")), "{told:?}");
    let long = [bundle.envelope.as_slice(), &[0; 64]].concat();
    let first = pieces(target, Encoding::Plain, &long).remove(0);
    let refusal = record(&mut agent, first).unwrap_err();
    assert!(refusal.contains("longer or otherwise encoded"), "{refusal}");
    let refusal = record(&mut agent, Record::Piece(vec![0xff])).unwrap_err();
    assert!(refusal.contains("its content is damaged"), "{refusal}");
    for piece in pieces(target, Encoding::Plain, &bundle.envelope) {
        record(&mut agent, piece).unwrap();
    }
    assert!(agent.releases.contains_key(&target));
    // What nobody needs is not kept.
    record(&mut agent, pieces(Digest::of(b"other"), Encoding::Zstd, b"other").remove(0)).unwrap();
    assert!(!agent.transfers.stored.contains_key(&Digest::of(b"other")));
    for other in [Record::End(target), Record::Report(Vec::new())] {
        assert!(record(&mut agent, other).unwrap_err().contains("not for a cluster"));
    }
}
