//! Attacks on the chain of roots.

use protocol::{
    documents::{DocumentType, Root},
    ids::FleetId,
    order::Epoch,
};

use crate::common::*;

fn rotates(root: &Root, seeds: &[u8], expected: &str, why: &str) {
    expect(verdict(DocumentType::Root, &sign(root, seeds)), expected, why);
}

#[test]
fn root_skip_and_root_rollback() {
    for (version, expected) in
        [(2, ""), (3, "only the very next"), (1, "only the very next"), (0, "not valid")]
    {
        rotates(&Root { version, ..next_root() }, &ROOTS[..2], expected, &format!("version {version}"));
    }
    let last = trust_in(&Root { version: u32::MAX, ..root() }).unwrap();
    let bytes = sign(&Root { version: u32::MAX, ..root() }, &ROOTS[..2]);
    expect(last.rotate(&bytes).map(drop), "only the very next", "after the last");
}

#[test]
fn one_sided_root() {
    // Root 2 hands over from keys 1, 2, 3 to 3, 10, 11.
    let mut next = next_root();
    next.keys.extend([10, 11].map(|seed| key(seed).public()));
    next.root.keys = key_ids(&[3, 10, 11]);
    rotates(&next, &[1, 2], "is not signed by 2", "by the old alone");
    rotates(&next, &[10, 11], "is not signed by 2", "by the new alone");
    rotates(&next, &[1, 3], "is not signed by 2", "one of the new, two of the old");
    rotates(&next, &[1, 2, 10, 11], "", "by two of each");
    rotates(&next, &[1, 3, 10], "", "one key counts on both sides");
}

#[test]
fn an_expired_root_stops_no_successor() {
    let expired =
        trust_in(&Root { issued: protocol::time::UnixSeconds(1), not_after: NOW, ..root() }).unwrap();
    expect(expired.rotate(&sign(&next_root(), &ROOTS[..2])).map(drop), "", "long after it expired");
}

#[test]
fn a_root_of_another_fleet_or_an_earlier_epoch() {
    let south = Root { fleet: FleetId::new("south").unwrap(), ..next_root() };
    rotates(&south, &ROOTS[..2], "not the fleet it was signed for", "the next root");
    expect(
        trust_in(&Root { version: 1, ..south }).map(drop),
        "not the fleet it was signed for",
        "the pinned",
    );
    rotates(&Root { min_epoch: Epoch(0), ..next_root() }, &ROOTS[..2], "below that of the root", "epoch 0");
    rotates(&Root { min_epoch: Epoch(2), ..next_root() }, &ROOTS[..2], "", "epoch 2");
}

#[test]
fn a_key_dropped_by_the_next_root_signs_nothing_more() {
    let mut next = next_root();
    next.keys.push(key(10).public());
    next.director.keys = key_ids(&[10]);
    next.releases[0].keys = key_ids(&RADIO[1..]);
    let trust = trust().rotate(&sign(&next, &ROOTS[..2])).unwrap();
    for (kind, seed, expected) in [
        (DocumentType::Head, DIRECTOR, "is not signed"),
        (DocumentType::Head, 10, ""),
        (DocumentType::Release, RADIO[0], "is not signed"),
        (DocumentType::Release, RADIO[1], ""),
    ] {
        let bytes = sign_payload(kind, &fleet(), &tower(), &payload(kind), &[seed]);
        expect(verdict_in(&trust, kind, &bytes), expected, &format!("{kind:?} by {seed}"));
    }
}

#[test]
fn one_key_in_two_roles() {
    let roles: [fn(&mut Root) -> &mut Vec<protocol::ids::KeyId>; 3] =
        [|root| &mut root.root.keys, |root| &mut root.director.keys, |root| &mut root.releases[0].keys];
    for (index, role) in roles.into_iter().enumerate() {
        for seed in [ROOTS[2], DIRECTOR, RADIO[1]] {
            let mut root = root();
            let id = key(seed).public().id();
            if role(&mut root).contains(&id) {
                continue;
            }
            role(&mut root).push(id);
            let found = trust_in(&root).map(drop);
            expect(
                found,
                "of root, director and releases: an entry stands twice",
                &format!("{seed} in {index}"),
            );
        }
    }
    let mut shared = root();
    shared.releases[1].keys = key_ids(&RADIO);
    expect(trust_in(&shared).map(drop), "", "one release key for two tenants");
}

#[test]
fn roots_that_say_what_they_must_not() {
    type Change = fn(&mut Root);
    let cases: [(Change, &str); 7] = [
        (|root| root.keys.truncate(2), "is not among the root's keys"),
        (|root| root.director.keys.clear(), "can never hold"),
        (|root| root.director.keys.push(key(STRANGER).public().id()), "is not among the root's keys"),
        (|root| root.releases[0].privileged_threshold = 1, "need two signatures"),
        (|root| root.releases[0].privileged_threshold = 0, "need two signatures"),
        (|root| root.not_after = root.issued, "expires after it was issued"),
        (|root| root.keys.extend((100..200).map(|seed| key(seed).public())), "at most 64"),
    ];
    for (index, (change, expected)) in cases.into_iter().enumerate() {
        let mut root = root();
        change(&mut root);
        expect(trust_in(&root).map(drop), expected, &format!("case {index}"));
    }
    let mut two = root();
    two.keys.push(key(10).public());
    two.director = protocol::documents::Role { threshold: 2, keys: key_ids(&[DIRECTOR, 10]) };
    expect(trust_in(&two).map(drop), "one signature: threshold 1", "a director of two");
}
