//! Heads of a hub that was lost: which are believed, and what the hub is shown.

use std::{collections::BTreeMap, time::Duration};

use protocol::{
    documents::{AppReport, Ceilings, Counts, DesiredRelease, Encoding, Mode, Report},
    ids::{Incarnation, Name},
    limits,
    order::{Epoch, Order},
    time::UnixSeconds,
    topics::Downward,
};

use super::*;
use crate::{
    logic::{entry::ReportRow, event::Event},
    testing::{Fleet, TIME},
};

const NONCE: Nonce = Nonce::new([1; 16]);
const LIFE: Incarnation = Incarnation::new([1; 16]);
const NEXT_LIFE: Incarnation = Incarnation::new([2; 16]);

fn now() -> Now {
    Now { monotonic: Duration::from_secs(1), wall: TIME }
}

fn desired(fleet: &Fleet, seq: u64, values: &str) -> Vec<u8> {
    let release = DesiredRelease {
        app: AppId::new("radio", "gateway").unwrap(),
        release: Digest::of(b"release"),
        len: 7,
        values: BTreeMap::from([("level".to_owned(), values.to_owned())]),
        mode: Mode::Enforce,
        enforce: None,
        depends_on: vec![Name::new("meter").unwrap()],
    };
    fleet.sign(&Desired {
        cluster: fleet.cluster.clone(),
        order: Order { epoch: Epoch(1), seq },
        prev: None,
        issued: TIME,
        install_by: TIME.plus(limits::INSTALL_BY_SECONDS),
        releases: vec![release],
        remove: Vec::new(),
        policy: None,
    })
}

fn head(fleet: &Fleet, incarnation: Incarnation, seq: u64, desired: &[u8], nonce: Option<Nonce>) -> Vec<u8> {
    fleet.sign(&Head {
        cluster: fleet.cluster.clone(),
        incarnation,
        order: Order { epoch: Epoch(1), seq },
        desired: Digest::of(desired),
        root_version: 1,
        hub_time: TIME,
        fresh_until: TIME.plus(limits::HEAD_FRESH_SECONDS),
        permits: Vec::new(),
        nonce,
    })
}

fn hear(agent: &mut Agent, topic: Downward, bytes: Vec<u8>) -> Vec<Effect> {
    agent.handle(now(), Event::Received { topic, bytes })
}

/// An agent that holds the desired state of this place, from the hub's first life.
fn holding(fleet: &Fleet, seq: u64) -> (Agent, Vec<u8>) {
    let (mut agent, _) = Agent::new(fleet.identity(), fleet.trust.clone(), JournalId::new([3; 16]));
    agent.handle(now(), Event::Connected { nonce: NONCE });
    let bytes = desired(fleet, seq, "info");
    hear(&mut agent, Downward::Head, head(fleet, LIFE, seq, &bytes, Some(NONCE)));
    hear(&mut agent, Downward::Desired, bytes.clone());
    assert_eq!(agent.held.map(|held| held.order.seq), Some(seq));
    agent.handle(now(), Event::Disconnected { reason: String::new() });
    agent.handle(now(), Event::Connected { nonce: NONCE });
    (agent, bytes)
}

fn shown(effects: &[Effect]) -> Vec<&[u8]> {
    let held = effects.iter().filter_map(|effect| match effect {
        Effect::Publish { topic: Upward::Held, bytes } => Some(bytes.as_slice()),
        Effect::Publish { .. }
        | Effect::Record(_)
        | Effect::Observe(_)
        | Effect::Execute { .. }
        | Effect::Judged(_) => None,
    });
    held.collect()
}

#[test]
fn a_hub_in_another_life_is_shown_what_is_held_and_believed_only_in_answer() {
    let fleet = Fleet::new();
    let answer = Some(NONCE);
    // The head's life, place, whether it names what is held there, its nonce: whether what is held is shown, the
    // alarm, and the life that the agent agrees with then.
    let cases = [
        (LIFE, 5, true, answer, false, None, LIFE),
        (LIFE, 5, false, answer, true, Some("Equivocation"), LIFE),
        (LIFE, 4, false, answer, true, Some("Rollback"), LIFE),
        (LIFE, 4, false, None, false, Some("Rollback"), LIFE),
        (LIFE, 6, false, answer, false, None, LIFE),
        (NEXT_LIFE, 5, true, answer, false, None, NEXT_LIFE),
        (NEXT_LIFE, 5, false, answer, true, None, LIFE),
        (NEXT_LIFE, 4, false, answer, true, None, LIFE),
        (NEXT_LIFE, 0, false, answer, true, None, LIFE),
        (NEXT_LIFE, 6, false, answer, true, None, LIFE),
        (NEXT_LIFE, 5, true, None, false, Some("Replay"), LIFE),
        (NEXT_LIFE, 6, false, None, false, Some("Replay"), LIFE),
        (NEXT_LIFE, 6, false, Some(Nonce::new([9; 16])), false, Some("Replay"), LIFE),
    ];
    for (life, seq, named, nonce, shows, alarm, agrees) in cases {
        let what = format!("{life} {seq} {named} {nonce:?}");
        let (mut agent, held) = holding(&fleet, 5);
        // A head without a nonce is believed by a clock that an answer confirmed.
        hear(&mut agent, Downward::Head, head(&fleet, LIFE, 5, &held, answer));
        let other = desired(&fleet, seq, "debug");
        let bytes = if named { &held } else { &other };
        let said = head(&fleet, life, seq, bytes, nonce);
        let effects = hear(&mut agent, Downward::Head, said.clone());
        assert_eq!(shown(&effects), if shows { vec![held.as_slice()] } else { vec![] }, "{what}");
        assert_eq!(agent.alarms.keys().copied().next(), alarm, "{what}");
        assert_eq!(
            (agent.incarnation, agent.held.unwrap().digest),
            (Some(agrees), Digest::of(&held)),
            "{what}"
        );
        // However often it is repeated, the link carries it once.
        assert_eq!(shown(&hear(&mut agent, Downward::Head, said)), Vec::<&[u8]>::new(), "{what}");
    }
}

/// It may be lost on the way.
#[test]
fn what_is_held_is_shown_again_after_the_next_report() {
    let fleet = Fleet::new();
    let (mut agent, held) = holding(&fleet, 5);
    let mut time = now();
    let asks = head(&fleet, NEXT_LIFE, 0, &[0; 32], Some(NONCE));
    for _ in 0..3 {
        let ask = || Event::Received { topic: Downward::Head, bytes: asks.clone() };
        assert_eq!(shown(&agent.handle(time, ask())), [held.as_slice()]);
        assert!(shown(&agent.handle(time, ask())).is_empty(), "once is enough");
        time.monotonic += fleet.identity().heartbeat;
        let said = agent.handle(time, Event::Tick);
        assert!(said.iter().any(|effect| matches!(effect, Effect::Publish { topic: Upward::Report, .. })));
    }
}

/// The life is on disk with the desired state, so that what the lost hub said is refused after a reboot too.
#[test]
fn what_a_lost_hub_said_is_refused_after_a_reboot() {
    let fleet = Fleet::new();
    let (mut agent, held) = holding(&fleet, 5);
    let effects = hear(&mut agent, Downward::Head, head(&fleet, NEXT_LIFE, 5, &held, Some(NONCE)));
    let rows: Vec<Row> = effects
        .into_iter()
        .filter_map(|effect| if let Effect::Record(entries) = effect { Some(entries) } else { None })
        .flatten()
        .filter_map(|entry| if let Entry::Put(row) = entry { Some(row) } else { None })
        .chain([Row::Life(JournalId::new([3; 16]))])
        .collect();
    let mut agent = Agent::restore(fleet.identity(), fleet.trust.clone(), rows, Vec::new()).unwrap();
    assert_eq!(agent.incarnation, Some(NEXT_LIFE));
    agent.handle(now(), Event::Connected { nonce: NONCE });
    hear(&mut agent, Downward::Head, head(&fleet, NEXT_LIFE, 5, &held, Some(NONCE)));
    // Signed and never delivered before the hub was lost.
    let lost = desired(&fleet, 7, "debug");
    hear(&mut agent, Downward::Head, head(&fleet, LIFE, 7, &lost, None));
    hear(&mut agent, Downward::Desired, lost);
    assert_eq!(agent.alarms.keys().copied().collect::<Vec<_>>(), ["Replay", "Unannounced"]);
    assert_eq!(agent.held.unwrap().digest, Digest::of(&held));
}

#[test]
fn what_is_shown_survives_a_reboot() {
    let fleet = Fleet::new();
    let bytes = desired(&fleet, 5, "info");
    let row = DesiredRow { bytes: bytes.clone(), root_version: 1, incarnation: LIFE };
    let rows = vec![Row::Life(JournalId::new([3; 16])), Row::Clock(UnixSeconds(1)), Row::Desired(row)];
    let mut agent = Agent::restore(fleet.identity(), fleet.trust.clone(), rows, Vec::new()).unwrap();
    agent.handle(now(), Event::Connected { nonce: NONCE });
    let nothing = [0; 32];
    let effects = hear(&mut agent, Downward::Head, head(&fleet, NEXT_LIFE, 0, &nothing, Some(NONCE)));
    assert_eq!(shown(&effects), [bytes.as_slice()]);
}

/// The answer may be lost, or altered, on a connection that stays up.
#[test]
fn hello_is_said_again_until_a_head_answers() {
    let fleet = Fleet::new();
    let (mut agent, _) = Agent::new(fleet.identity(), fleet.trust.clone(), JournalId::new([3; 16]));
    let mut time = now();
    agent.handle(time, Event::Connected { nonce: NONCE });
    let hellos = |effects: &[Effect]| {
        let is_hello = |effect: &&Effect| matches!(effect, Effect::Publish { topic: Upward::Hello, .. });
        effects.iter().filter(is_hello).count()
    };
    let mut waits = Vec::new();
    let mut said_at = time.monotonic;
    while waits.len() < 10 {
        time.monotonic = agent.next_time(time.monotonic);
        if hellos(&agent.handle(time, Event::Tick)) > 0 {
            waits.push((time.monotonic - said_at).as_secs());
            said_at = time.monotonic;
        }
    }
    let longest = fleet.identity().heartbeat.as_secs();
    let doubled = (0..10).map(|times| (30 << times).min(longest));
    assert_eq!(waits, doubled.collect::<Vec<_>>());
    let bytes = desired(&fleet, 1, "info");
    agent.handle(time, Event::Received { topic: Downward::Head, bytes: head(&fleet, LIFE, 1, &bytes, None) });
    assert!(agent.link.unanswered.is_some(), "a head without a nonce answers nothing");
    hear(&mut agent, Downward::Head, head(&fleet, LIFE, 1, &bytes, Some(NONCE)));
    for _ in 0..100 {
        time.monotonic = agent.next_time(time.monotonic);
        assert_eq!(hellos(&agent.handle(time, Event::Tick)), 0, "it was answered");
    }
}

/// What a hub's wrong clock had an agent refuse is taken once the hub knows better.
#[test]
fn what_had_expired_by_a_wrong_clock_is_judged_again() {
    let fleet = Fleet::new();
    let bundle = fleet.bundle(1, &[], Ceilings::default());
    let wrong = TIME.plus(100 * 365 * 24 * 60 * 60);
    let (mut agent, _) = Agent::new(fleet.identity(), fleet.trust.clone(), JournalId::new([3; 16]));
    let desired = fleet.sign(&Desired {
        cluster: fleet.cluster.clone(),
        order: Order { epoch: Epoch(1), seq: 1 },
        prev: None,
        issued: wrong,
        install_by: wrong.plus(limits::INSTALL_BY_SECONDS),
        releases: vec![DesiredRelease {
            app: AppId::new("radio", "gateway").unwrap(),
            release: bundle.release.digest(),
            len: u32::try_from(bundle.envelope.len()).unwrap(),
            values: BTreeMap::new(),
            mode: Mode::Enforce,
            enforce: None,
            depends_on: Vec::new(),
        }],
        remove: Vec::new(),
        policy: None,
    });
    let head = |hub_time: UnixSeconds, nonce| {
        fleet.sign(&Head {
            cluster: fleet.cluster.clone(),
            incarnation: LIFE,
            order: Order { epoch: Epoch(1), seq: 1 },
            desired: Digest::of(&desired),
            root_version: 1,
            hub_time,
            fresh_until: hub_time.plus(limits::HEAD_FRESH_SECONDS),
            permits: Vec::new(),
            nonce: Some(nonce),
        })
    };
    let (target, total) = (bundle.release.digest(), bundle.envelope.len() as u64);
    let piece =
        Chunk { target, encoding: Encoding::Plain, total, offset: 0, bytes: bundle.envelope }.encode();
    let refused = |agent: &Agent| {
        let rejected = agent.apps().values().find_map(|app| app.row.rejected.as_ref());
        rejected.map(|refused| refused.rejection.reason.clone())
    };

    agent.handle(now(), Event::Connected { nonce: NONCE });
    hear(&mut agent, Downward::Head, head(wrong, NONCE));
    hear(&mut agent, Downward::Desired, desired.clone());
    hear(&mut agent, Downward::Blob, piece.clone());
    assert_eq!(refused(&agent).as_deref(), Some("ReleaseExpired"));
    assert!(agent.needs().is_empty(), "what is refused is not asked for again");

    // The hub knows better: first by little, then by all that it was wrong.
    for (number, hub_time, is_refused) in [(2, UnixSeconds(wrong.0 - 60), true), (3, TIME, false)] {
        agent.handle(now(), Event::Disconnected { reason: String::new() });
        let nonce = Nonce::new([number; 16]);
        agent.handle(now(), Event::Connected { nonce });
        hear(&mut agent, Downward::Head, head(hub_time, nonce));
        assert_eq!(refused(&agent).is_some(), is_refused, "at {hub_time}");
        assert_eq!(agent.needs().is_empty(), is_refused, "at {hub_time}");
    }
    hear(&mut agent, Downward::Blob, piece);
    assert_eq!(refused(&agent), None);
    assert!(agent.apps().values().all(|app| app.staged.is_some()), "it is taken");
}

/// An agent whose journal has report 9 of one application, and whose hub had 12 once.
fn with_reports(fleet: &Fleet) -> Agent {
    let app = AppId::new("radio", "gateway").unwrap();
    let report = AppReport {
        app: app.clone(),
        state: AppState::Pending,
        accepted: None,
        applied: None,
        reverted: None,
        rejected: None,
        conditions: Vec::new(),
        worst: None,
        counts: Counts::default(),
        drift: Vec::new(),
        preview: None,
    };
    let rows = vec![
        Row::Life(JournalId::new([3; 16])),
        Row::Acked(12),
        Row::Report(app, ReportRow { seq: 9, report }),
    ];
    let mut agent = Agent::restore(fleet.identity(), fleet.trust.clone(), rows, Vec::new()).unwrap();
    agent.handle(now(), Event::Connected { nonce: NONCE });
    agent
}

fn ack(fleet: &Fleet, report_seq: u64) -> Vec<u8> {
    let (cluster, digest) = (fleet.cluster.clone(), Report::digest_of([]));
    fleet.sign(&Ack { cluster, journal: JournalId::new([3; 16]), report_seq, digest })
}

/// What is said again comes under numbers that the journal does not need; those it had it needs for ever.
#[test]
fn no_number_is_used_again_when_the_hub_forgot_reports() {
    let fleet = Fleet::new();
    let mut agent = with_reports(&fleet);
    hear(&mut agent, Downward::Ack, ack(&fleet, 12));
    assert_eq!(agent.outbox.acked, 0, "the hub holds nothing, and hears everything again");
    let recorded = hear(&mut agent, Downward::Ack, ack(&fleet, 10));
    assert_eq!(agent.outbox.acked, 10);
    let is_row = |effect: &Effect| matches!(effect, Effect::Record(_));
    assert!(!recorded.iter().any(is_row), "{recorded:?}");
}

/// A hub that takes a report for an old one acknowledges what it has: that goes round and round.
#[test]
fn what_a_hub_does_not_take_is_said_again_after_a_pause() {
    let fleet = Fleet::new();
    let mut agent = with_reports(&fleet);
    hear(&mut agent, Downward::Ack, ack(&fleet, 12));
    (agent.outbox.acked, agent.outbox.flush_at) = (5, None);
    hear(&mut agent, Downward::Ack, ack(&fleet, 5));
    assert_eq!(agent.outbox.flush_at, None);
    hear(&mut agent, Downward::Ack, ack(&fleet, 7));
    assert!(agent.outbox.flush_at.is_some(), "the rest follows what was taken");
}
