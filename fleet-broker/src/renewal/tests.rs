use std::{collections::BTreeMap, sync::Arc, time::Duration};

use protocol::{
    ids::{ClusterId, Incarnation, Name},
    keys::SigningKey,
    time::UnixSeconds,
    verify::Trust,
};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ECDSA_P256_SHA256};
use tempfile::TempDir;
use zeroize::Zeroizing;

use super::*;
use crate::{
    clock,
    keys::{self, Charter},
    logic::fleet::{ClusterRecord, Event},
};

/// A hub with two towers that joined, and what asks it.
struct Desk {
    fleet: Fleet,
    renewals: Renewals,
    authority: CertificateAuthority,
    now: Now,
}

fn id(name: &str) -> ClusterId {
    ClusterId::new(name).unwrap()
}

/// The identity key of tower-1 (1), of tower-2 (2), and a key that nobody joined with (3).
fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(Zeroizing::new([seed; 32]))
}

fn north() -> FleetId {
    FleetId::new("north").unwrap()
}

fn request(name: &str) -> Vec<u8> {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    parameters.serialize_request(&key).unwrap().der().to_vec()
}

impl Desk {
    fn new() -> Self {
        let now = UnixSeconds(u64::try_from(clock::now().as_second()).unwrap());
        let charter = Charter {
            fleet: north(),
            tenant: Name::new("radio").unwrap(),
            namespaces: Vec::new(),
            ca_pins: Vec::new(),
            issued: now,
            not_after: now.plus(1000),
        };
        let made = keys::generate(&charter).unwrap();
        let trust = Trust::given(&made.envelope).unwrap();
        let mut fleet = Fleet::new(trust, Arc::new(made.director), Incarnation::new([1; 16]));
        let now = Now { monotonic: Duration::from_secs(100), wall: now };
        for (name, seed) in [("tower-1", 1), ("tower-2", 2)] {
            fleet.handle(now, Event::Cluster(id(name), Some(accepted(true))));
            fleet.handle(now, Event::Enrolled(id(name), key(seed).public()));
        }
        let directory = TempDir::new().unwrap();
        let authority =
            CertificateAuthority::load_or_create(directory.path(), "north", clock::now()).unwrap();
        Self { fleet, renewals: Renewals::new(north()), authority, now }
    }

    fn answer(&mut self, ask: &RenewAsk) -> RenewAnswer {
        self.now.monotonic += Duration::from_millis(1);
        self.renewals.answer(ask, &self.fleet, &self.authority, self.now, clock::now())
    }

    fn challenge(&mut self, name: &str) -> Vec<u8> {
        let answer = self.answer(&RenewAsk::Challenge { cluster: id(name) });
        let RenewAnswer::Challenge { challenge } = answer else { panic!("no challenge: {answer:?}") };
        challenge
    }

    /// What `key` asks for `name` with a fresh challenge of its own.
    fn ask(&mut self, name: &str, by: u8, csr: Vec<u8>) -> RenewAsk {
        let challenge = self.challenge(name);
        proved(&north(), name, by, challenge, csr)
    }

    fn refusal(&mut self, ask: &RenewAsk) -> String {
        let answer = self.answer(ask);
        let RenewAnswer::Refused { message } = answer else { panic!("not refused: {answer:?}") };
        message
    }

    fn grants(&mut self, ask: &RenewAsk) {
        let answer = self.answer(ask);
        assert!(matches!(answer, RenewAnswer::Granted { .. }), "{answer:?}");
    }
}

fn accepted(accepted: bool) -> ClusterRecord {
    ClusterRecord { labels: BTreeMap::new(), accepted, hold: None }
}

fn proved(fleet: &FleetId, name: &str, by: u8, challenge: Vec<u8>, csr: Vec<u8>) -> RenewAsk {
    let ask = CertificateAsk::new(fleet, &id(name), &key(by), challenge, csr).unwrap();
    RenewAsk::Certificate { ask }
}

#[test]
fn a_cluster_that_proves_its_identity_key_gets_a_certificate() {
    let mut desk = Desk::new();
    let ask = desk.ask("tower-1", 1, request("tower-1"));
    desk.grants(&ask);
}

#[test]
fn a_renewal_for_another_cluster() {
    let mut desk = Desk::new();
    let ask = desk.ask("tower-2", 1, request("tower-2"));
    assert!(desk.refusal(&ask).contains("another identity key"));
    let ask = desk.ask("tower-9", 1, request("tower-9"));
    assert!(desk.refusal(&ask).contains("not registered"));
}

#[test]
fn an_identity_key_that_did_not_join() {
    let mut desk = Desk::new();
    let ask = desk.ask("tower-1", 3, request("tower-1"));
    assert!(desk.refusal(&ask).contains("another identity key"));
}

#[test]
fn a_certificate_request_for_another_name() {
    let mut desk = Desk::new();
    let ask = desk.ask("tower-1", 1, request("tower-2"));
    assert!(desk.refusal(&ask).contains("subject"));
}

#[test]
fn a_replayed_renewal() {
    let mut desk = Desk::new();
    let ask = desk.ask("tower-1", 1, request("tower-1"));
    desk.grants(&ask);
    assert!(desk.refusal(&ask).contains("challenge"), "the same again");
    let challenge = desk.challenge("tower-2");
    let ask = proved(&north(), "tower-1", 1, challenge, request("tower-1"));
    assert!(desk.refusal(&ask).contains("challenge"), "another cluster's challenge");
    let ask = desk.ask("tower-1", 1, request("tower-1"));
    desk.renewals = Renewals::new(north());
    assert!(desk.refusal(&ask).contains("challenge"), "after a restart of the hub");
    let ask = desk.ask("tower-1", 1, request("tower-1"));
    desk.now.monotonic += Duration::from_secs(301);
    assert!(desk.refusal(&ask).contains("challenge"), "too late");
}

#[test]
fn a_renewal_meant_for_another_fleet() {
    let mut desk = Desk::new();
    let challenge = desk.challenge("tower-1");
    let south = FleetId::new("south").unwrap();
    let ask = proved(&south, "tower-1", 1, challenge, request("tower-1"));
    assert!(desk.refusal(&ask).contains("proof"));
}

#[test]
fn a_renewal_by_a_revoked_key_also_after_the_cluster_was_deleted_and_made_again() {
    let mut desk = Desk::new();
    let now = desk.now;
    desk.fleet.handle(now, Event::Revoke(id("tower-1"), "stolen".to_owned()));
    let ask = desk.ask("tower-1", 1, request("tower-1"));
    assert!(desk.refusal(&ask).contains("revoked (stolen)"));
    for record in [None, Some(accepted(true))] {
        desk.fleet.handle(now, Event::Cluster(id("tower-1"), record));
        let ask = desk.ask("tower-1", 1, request("tower-1"));
        assert!(desk.refusal(&ask).contains("revoked (stolen)"));
    }
    // It joins with another key, and the revoked one still gets nothing.
    desk.fleet.handle(now, Event::Enrolled(id("tower-1"), key(3).public()));
    let ask = desk.ask("tower-1", 3, request("tower-1"));
    desk.grants(&ask);
    let ask = desk.ask("tower-1", 1, request("tower-1"));
    assert!(desk.refusal(&ask).contains("revoked (stolen)"));
}

#[test]
fn a_cluster_that_is_not_accepted() {
    let mut desk = Desk::new();
    let now = desk.now;
    desk.fleet.handle(now, Event::Cluster(id("tower-1"), Some(accepted(false))));
    let ask = desk.ask("tower-1", 1, request("tower-1"));
    assert!(desk.refusal(&ask).contains("spec.accepted"));
}
