//! Attacks on the bytes of a rightly signed document, by somebody without a key.

use protocol::{
    documents::{Document, DocumentType, Release, Root},
    ids::Digest,
    verify::{Trust, VerifyError},
};

use crate::common::{self, envelope, expect, fleet, sign, verdict};

fn each_type(check: impl Fn(DocumentType, Vec<u8>)) {
    DocumentType::ALL.into_iter().for_each(|kind| check(kind, envelope(kind)));
}

/// Refused, and never because the bytes decoded to something: signatures are checked before.
fn is_refused_unread(kind: DocumentType, bytes: &[u8], why: &str) {
    let found = verdict(kind, bytes);
    let unread = matches!(
        found,
        Err(VerifyError::Envelope { .. } | VerifyError::Signatures { .. } | VerifyError::TooLarge { .. })
    );
    assert!(unread, "{kind:?} {why}: {found:?}");
}

#[test]
fn the_untouched_documents_are_believed() {
    each_type(|kind, bytes| expect(verdict(kind, &bytes), "", kind.name()));
}

fn every_bit_flipped(kind: DocumentType) {
    let bytes = envelope(kind);
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        is_refused_unread(kind, &flipped, &format!("with bit {bit} flipped"));
    }
}

// One test for each type, so that they run beside each other.
macro_rules! flip {
    ($($test:ident: $kind:ident,)*) => { $(#[test] fn $test() { every_bit_flipped(DocumentType::$kind); })* };
}

flip! {
    every_bit_of_a_root_flipped: Root,
    every_bit_of_a_release_flipped: Release,
    every_bit_of_a_desired_state_flipped: Desired,
    every_bit_of_a_head_flipped: Head,
    every_bit_of_an_ack_flipped: Ack,
    every_bit_of_a_root_of_acks_flipped: Acks,
    every_bit_of_a_carried_head_flipped: CarryHead,
    every_bit_of_a_hello_flipped: Hello,
    every_bit_of_a_want_flipped: Want,
    every_bit_of_a_report_flipped: Report,
}

#[test]
fn every_bit_of_a_pinned_root_flipped() {
    let bytes = sign(&common::root(), &common::ROOTS[..2]);
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let pinned = Trust::pin(&flipped, &fleet(), Digest::of(&bytes));
        assert!(matches!(pinned, Err(VerifyError::Pin { .. })), "bit {bit}");
        // Even a pin of the damaged bytes does not make its signatures hold.
        assert!(Trust::pin(&flipped, &fleet(), Digest::of(&flipped)).is_err(), "bit {bit}");
    }
}

#[test]
fn cut_short_at_every_byte() {
    each_type(|kind, bytes| {
        (0..bytes.len()).for_each(|len| is_refused_unread(kind, &bytes[..len], &format!("cut to {len}")));
    });
}

#[test]
fn trailing_bytes() {
    each_type(|kind, bytes| {
        for tail in [&[0x00][..], &[0xa0], &[0xff], &bytes] {
            is_refused_unread(kind, &[&bytes, tail].concat(), &format!("with {tail:?} behind"));
        }
    });
}

#[test]
fn the_same_envelope_in_another_spelling() {
    each_type(|kind, bytes| {
        let items = bytes[0] & 0x1f;
        assert_eq!(bytes[0], 0x80 | items, "an array of few");
        let rest = &bytes[1..];
        for (start, end, why) in [
            (vec![0x98, items], vec![], "a longer length"),
            (vec![0x9f], vec![0xff], "an indefinite array"),
            (vec![0xd2, bytes[0]], vec![], "tag 18"),
            (vec![0xd8, 0x62, bytes[0]], vec![], "tag 98"),
            (vec![bytes[0] + 1], vec![0xf6], "one item more"),
        ] {
            is_refused_unread(kind, &[start.as_slice(), rest, &end].concat(), why);
        }
    });
    // The empty body header of a COSE_Sign, as empty text instead of empty bytes.
    for kind in [DocumentType::Root, DocumentType::Release] {
        let mut bytes = envelope(kind);
        assert_eq!(bytes[1], 0x40);
        bytes[1] = 0x60;
        is_refused_unread(kind, &bytes, "text for the body header");
    }
}

#[test]
fn larger_than_its_type_allows() {
    each_type(|kind, _| {
        let limit = match kind {
            DocumentType::Release => Release::LIMIT,
            DocumentType::Root
            | DocumentType::Desired
            | DocumentType::Head
            | DocumentType::Ack
            | DocumentType::Acks
            | DocumentType::CarryHead
            | DocumentType::Hello
            | DocumentType::Want
            | DocumentType::Report => Root::LIMIT,
        };
        let found = verdict(kind, &vec![0x80; limit + 1]);
        assert!(matches!(found, Err(VerifyError::TooLarge { .. })), "{kind:?}: {found:?}");
        let found = verdict(kind, &vec![0x80; limit]);
        assert!(matches!(found, Err(VerifyError::Envelope { .. })), "{kind:?}: {found:?}");
    });
}

#[test]
fn wrong_pin() {
    let bytes = sign(&common::root(), &common::ROOTS[..2]);
    let pin = |bytes: &[u8], pin| Trust::pin(bytes, &fleet(), pin).map(drop);
    expect(pin(&bytes, Digest::of(&bytes)), "", "the pinned root");
    let other = sign(&common::root(), &common::ROOTS[1..]);
    expect(pin(&other, Digest::of(&bytes)), "the pinned one is", "the same root, signed by others");
    expect(pin(&bytes, common::digest(0)), "the pinned one is", "another pin");
}
