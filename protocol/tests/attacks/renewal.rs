//! Attacks on renewing a certificate. What only a hub can judge, whose key it is and whether the challenge is fresh, is
//! attacked at the hub.

use protocol::{
    codec,
    enrol::EnrolAsk,
    ids::{ClusterId, FleetId},
    renew::{CHALLENGE_BYTES, CertificateAsk, RenewAsk},
};

use crate::common::*;

fn ask() -> CertificateAsk {
    let csr = b"a certificate request".to_vec();
    CertificateAsk::new(&fleet(), &tower(), &key(CLUSTER), vec![0xc4; 40], csr).unwrap()
}

#[test]
fn the_identity_key_proves_a_renewal_for_its_fleet_alone() {
    assert!(ask().is_proved(&fleet()));
    assert!(!ask().is_proved(&FleetId::new("another").unwrap()));
}

#[test]
fn a_renewal_with_another_cluster_key_challenge_or_request() {
    let changes: [fn(&mut CertificateAsk); 5] = [
        |ask| ask.cluster = ClusterId::new("tower-2").unwrap(),
        |ask| ask.identity = key(STRANGER).public(),
        |ask| ask.challenge[39] ^= 1,
        |ask| ask.csr[0] ^= 1,
        // The same bytes, cut elsewhere.
        |ask| ask.csr.insert(0, ask.challenge.pop().unwrap()),
    ];
    for change in changes {
        let mut changed = ask();
        change(&mut changed);
        assert!(!changed.is_proved(&fleet()), "{changed:?}");
    }
}

#[test]
fn every_bit_of_a_renewal_flipped() {
    let bytes = codec::encode(&RenewAsk::Certificate { ask: ask() });
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let proved = match codec::decode::<RenewAsk>("renewal", &flipped) {
            Ok(RenewAsk::Certificate { ask }) => ask.is_proved(&fleet()),
            Ok(RenewAsk::Challenge { .. }) | Err(_) => false,
        };
        assert!(!proved, "bit {bit}");
    }
}

#[test]
fn a_renewal_is_never_taken_for_an_enrolment() {
    for ask in [RenewAsk::Challenge { cluster: tower() }, RenewAsk::Certificate { ask: ask() }] {
        assert!(codec::decode::<EnrolAsk>("enrolment", &codec::encode(&ask)).is_err());
    }
}

#[test]
fn a_challenge_longer_than_any_is_not_signed() {
    let signed = |len| CertificateAsk::new(&fleet(), &tower(), &key(CLUSTER), vec![0; len], Vec::new());
    assert!(signed(CHALLENGE_BYTES).is_some() && signed(CHALLENGE_BYTES + 1).is_none());
}
