//! Attacks on acknowledgements that were signed together.

use protocol::{
    codec,
    cose::{self, Binding},
    documents::{Ack, Acks, Document as _, DocumentType},
    ids::{ClusterId, Digest, FleetId},
    limits,
    together::Tree,
    verify::VerifyError,
};

use crate::common::*;

/// The message with the acknowledgement at a place, under what a key signed for a fleet.
fn message(acks: &[Vec<u8>], place: usize, fleet: &FleetId, seed: u8) -> Vec<u8> {
    let tree = Tree::new(acks.iter().map(Vec::as_slice));
    let binding = Binding { kind: Acks::TYPE, fleet, cluster: None };
    let signed = cose::sign_many(binding, &codec::encode(&Acks { root: tree.root() }), &[&key(seed)]);
    tree.message(&signed, &acks[place], place)
}

/// The tower's own.
fn own() -> Vec<u8> {
    message(&acks_together(), 1, &fleet(), DIRECTOR)
}

/// What the tower says to it.
fn answers(bytes: &[u8], expected: &str, why: &str) {
    expect(trust().ack(&tower(), bytes).map(drop), expected, why);
}

fn is_refused_unread(bytes: &[u8], why: &str) {
    let found = trust().ack(&tower(), bytes);
    let unread = matches!(
        found,
        Err(VerifyError::Envelope { .. }
            | VerifyError::Signatures { .. }
            | VerifyError::Stray { .. }
            | VerifyError::TooLarge { .. })
    );
    assert!(unread, "{why}: {found:?}");
}

#[test]
fn its_own_is_believed_wherever_it_stands() {
    for count in 1..=9_usize {
        for place in 0..count {
            let mut acks = vec![acks_together()[0].clone(); count];
            acks[place] = codec::encode(&ack());
            let found = trust().ack(&tower(), &message(&acks, place, &fleet(), DIRECTOR)).unwrap();
            assert_eq!(*found, ack(), "{place} of {count}");
        }
    }
    assert_eq!(*trust().ack(&tower(), &envelope(DocumentType::Ack)).unwrap(), ack(), "by itself");
}

#[test]
fn every_bit_flipped() {
    let bytes = own();
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        is_refused_unread(&flipped, &format!("with bit {bit} flipped"));
    }
}

#[test]
fn cut_short_or_longer() {
    let bytes = own();
    (0..bytes.len()).for_each(|len| is_refused_unread(&bytes[..len], &format!("cut to {len}")));
    for tail in [&[0x00][..], &[0xa0], &[0xff], &bytes] {
        is_refused_unread(&[&bytes, tail].concat(), &format!("with {tail:?} behind"));
    }
    let limit = Ack::LIMIT;
    let long = [&[0xa4][..], &vec![0; limit]].concat();
    assert!(matches!(trust().ack(&tower(), &long), Err(VerifyError::TooLarge { .. })));
}

#[test]
fn signed_by_another_or_for_another_fleet() {
    let acks = acks_together();
    for seed in [STRANGER, CLUSTER, RADIO[0], ROOTS[0]] {
        answers(&message(&acks, 1, &fleet(), seed), "is not signed", "another key");
    }
    let south = FleetId::new("south").unwrap();
    answers(&message(&acks, 1, &south, DIRECTOR), "is not signed", "another fleet");
}

#[test]
fn a_neighbours() {
    let acks = acks_together();
    for (place, named) in [(0, "names cluster tower-0"), (2, "names cluster tower-2")] {
        answers(&message(&acks, place, &fleet(), DIRECTOR), named, "rightly signed");
    }
}

#[test]
fn one_that_was_not_signed() {
    let acks = acks_together();
    let tree = Tree::new(acks.iter().map(Vec::as_slice));
    let signed = sign(&Acks { root: tree.root() }, &[DIRECTOR]);
    let forged = codec::encode(&Ack { report_seq: u64::MAX, ..ack() });
    let stray = "is not among those";
    answers(&tree.message(&signed, &forged, 1), stray, "a higher number");
    for place in [0, 2, 3, 4, 257] {
        answers(&tree.message(&signed, &acks[1], place), stray, "at another place");
    }
    let other = Tree::new([acks[1].as_slice(), &acks[0]]);
    answers(&other.message(&signed, &acks[1], 0), stray, "of another tree");
    let root = sign(&Acks { root: Digest::of(&acks[1]) }, &[DIRECTOR]);
    answers(&other.message(&root, &acks[1], 0), stray, "hashed as no leaf is");
}

#[test]
fn other_documents_in_its_place() {
    let acks = acks_together();
    let tree = Tree::new(acks.iter().map(Vec::as_slice));
    for kind in DocumentType::ALL.into_iter().filter(|kind| *kind != DocumentType::Acks) {
        let bytes = tree.message(&envelope(kind), &acks[1], 1);
        answers(&bytes, "bad envelope", kind.name());
    }
    answers(&envelope(DocumentType::Acks), "bad envelope", "the root by itself");
    for kind in DocumentType::ALL.into_iter().filter(|kind| *kind != DocumentType::Ack) {
        let payload = payload(kind);
        let bytes = message(std::slice::from_ref(&payload), 0, &fleet(), DIRECTOR);
        answers(&bytes, "does not decode", kind.name());
    }
}

#[test]
fn as_many_as_one_signature_may_cover() {
    let acks: Vec<Vec<u8>> = (0..limits::ACKS_TOGETHER)
        .map(|number| {
            let cluster = ClusterId::new(format!("tower-{number}")).unwrap();
            codec::encode(&Ack { cluster, ..ack() })
        })
        .collect();
    let bytes = message(&acks, 1, &fleet(), DIRECTOR);
    assert_eq!(*trust().ack(&tower(), &bytes).unwrap(), ack());
    assert!(bytes.len() < 700, "{} bytes on a tower's link", bytes.len());
}
