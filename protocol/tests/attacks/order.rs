//! Attacks on the order of desired states, with real signed documents.

use protocol::{
    documents::{Desired, DocumentType},
    limits::SEQ_STEP,
    order::{Admission, Epoch, Held, Order, OrderError, admit},
};

use crate::common::*;

/// What an agent holds after it believed `document`.
fn hold(document: &Desired) -> Held {
    let bytes = sign(document, &[DIRECTOR]);
    let verified = trust().director::<Desired>(&tower(), &bytes).unwrap();
    Held { order: verified.order, digest: verified.digest() }
}

fn at(epoch: u32, seq: u64) -> Desired {
    Desired { order: Order { epoch: Epoch(epoch), seq }, ..desired() }
}

#[test]
fn rollback_to_each_older_document() {
    let history: Vec<Held> = (1..=20).map(|seq| hold(&at(1, seq))).collect();
    let newest = *history.last().unwrap();
    for old in &history[..19] {
        let found = admit(Some(newest), Epoch(1), *old, None);
        assert_eq!(found, Err(OrderError::Older { incoming: old.order, held: newest.order }));
    }
    assert_eq!(admit(Some(newest), Epoch(1), newest, None), Ok(Admission::Same));
}

#[test]
fn equivocation() {
    let first = hold(&at(1, 7));
    let other = hold(&Desired { remove: Vec::new(), ..at(1, 7) });
    assert_ne!(first.digest, other.digest);
    let found = admit(Some(first), Epoch(1), other, None);
    assert_eq!(found, Err(OrderError::Equivocation { order: first.order }));
}

#[test]
fn equivocation_by_another_spelling_of_the_same_document() {
    // Whoever could respell a signed document without its key would have it reported as equivocation.
    let bytes = sign(&at(1, 7), &[DIRECTOR]);
    let respelled = [&[0x98, 0x04], &bytes[1..]].concat();
    expect(verdict(DocumentType::Desired, &respelled), "the envelope is malformed", "a longer length");
}

#[test]
fn fast_forward_of_seq_then_recovery_by_root() {
    let mut held = hold(&at(1, 7));
    for leap in [SEQ_STEP + 1, u64::MAX - 7] {
        let far = hold(&at(1, 7 + leap));
        let found = admit(Some(held), Epoch(1), far, None);
        assert_eq!(found, Err(OrderError::Leap { incoming: far.order, held: held.order }), "{leap}");
    }
    // A thief may still walk in the longest steps; the next epoch leaves all of it behind.
    for step in 1..=3 {
        let next = hold(&at(1, 7 + step * SEQ_STEP));
        assert_eq!(admit(Some(held), Epoch(1), next, None), Ok(Admission::New { broken_chain: false }));
        held = next;
    }
    let fresh = hold(&at(2, 1));
    assert!(matches!(admit(Some(held), Epoch(1), fresh, None), Err(OrderError::Epoch { .. })));
    assert_eq!(admit(Some(held), Epoch(2), fresh, None), Ok(Admission::New { broken_chain: false }));
    let thief = hold(&at(1, held.order.seq + 1));
    assert!(matches!(admit(Some(fresh), Epoch(2), thief, None), Err(OrderError::Epoch { .. })));
}

#[test]
fn a_broken_chain_alarms_and_is_believed() {
    let first = hold(&at(1, 7));
    let next = hold(&at(1, 8));
    for (prev, broken_chain) in [(Some(first.digest), false), (Some(digest(0)), true), (None, true)] {
        assert_eq!(admit(Some(first), Epoch(1), next, prev), Ok(Admission::New { broken_chain }), "{prev:?}");
    }
}
