//! Attacks on who signed, how, and for whom.

use protocol::{
    codec::{self, EmptyMap},
    cose::{self, Binding, Envelope},
    documents::{Desired, DocumentType, Head},
    ids::{ClusterId, FleetId},
    verify::VerifyError,
};
use serde_bytes::Bytes;

use crate::common::*;

/// A COSE_Sign1 from its parts.
fn one(header: &[u8], payload: &[u8], signature: &[u8]) -> Vec<u8> {
    codec::encode(&(Bytes::new(header), EmptyMap {}, Bytes::new(payload), Bytes::new(signature)))
}

/// A COSE_Sign from its parts.
fn many(payload: &[u8], signatures: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let signatures: Vec<_> =
        signatures.iter().map(|(h, s)| (Bytes::new(h), EmptyMap {}, Bytes::new(s))).collect();
    codec::encode(&(Bytes::new(&[]), EmptyMap {}, Bytes::new(payload), signatures))
}

/// Header and signature of the `index`th signature of a rightly signed COSE_Sign.
fn parts(bytes: &[u8], index: usize) -> (Vec<u8>, Vec<u8>) {
    let sign = <coset::CoseSign as coset::CborSerializable>::from_slice(bytes).unwrap();
    let found = &sign.signatures[index];
    (found.protected.original_data.clone().unwrap(), found.signature.clone())
}

fn parts_of_one(bytes: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let sign = <coset::CoseSign1 as coset::CborSerializable>::from_slice(bytes).unwrap();
    (sign.protected.original_data.unwrap(), sign.signature)
}

fn singles() -> impl Iterator<Item = DocumentType> {
    DocumentType::ALL.into_iter().filter(|kind| !is_for_the_fleet(*kind))
}

#[test]
fn unsigned() {
    for kind in DocumentType::ALL {
        expect(verdict(kind, &payload(kind)), "bad envelope", "the bare payload");
    }
    for kind in [DocumentType::Root, DocumentType::Release] {
        expect(verdict(kind, &many(&payload(kind), &[])), "carries 0 signatures", kind.name());
    }
}

#[test]
fn signatures_of_wrong_length() {
    for kind in singles() {
        let (header, signature) = parts_of_one(&envelope(kind));
        for len in [0, 1, 63, 65, 128] {
            let signature: Vec<u8> = signature.iter().copied().cycle().take(len).collect();
            let bytes = one(&header, &payload(kind), &signature);
            expect(verdict(kind, &bytes), &format!("{len} bytes long, not 64"), kind.name());
        }
    }
    let kind = DocumentType::Release;
    let (header, signature) = parts(&envelope(kind), 0);
    for len in [0, 63] {
        let bytes = many(&payload(kind), &[(header.clone(), signature[..len].to_vec())]);
        expect(verdict(kind, &bytes), "bytes long, not 64", kind.name());
    }
}

#[test]
fn a_signature_of_zeros() {
    for kind in singles() {
        let (header, _) = parts_of_one(&envelope(kind));
        expect(verdict(kind, &one(&header, &payload(kind), &[0; 64])), "is not signed", kind.name());
    }
}

#[test]
fn more_signatures_than_any_threshold_needs() {
    let kind = DocumentType::Release;
    let good = parts(&envelope(kind), 0);
    let bytes = many(&payload(kind), &vec![good; 17]);
    expect(verdict(kind, &bytes), "carries 17 signatures", "one good signature, 17 times");
}

#[test]
fn one_key_signing_twice() {
    let kind = DocumentType::Root;
    let (header, signature) = parts(&envelope(kind), 0);
    let twice = many(&payload(kind), &[(header.clone(), signature.clone()), (header, signature)]);
    expect(verdict(kind, &twice), "is not signed by 2", "the same signature twice");
    expect(verdict(kind, &sign(&next_root(), &[1, 1])), "is not signed by 2", "the same key twice");
    expect(verdict(kind, &sign(&next_root(), &[1, 2, 1])), "", "two keys, one of them twice");
    expect(verdict(kind, &sign(&next_root(), &[STRANGER, 1, 2])), "", "two keys and a stranger");
}

#[test]
fn one_key_listed_twice() {
    let mut root = root();
    root.root.keys = key_ids(&[1, 1]);
    expect(trust_in(&root).map(drop), "root: an entry stands twice", "in a role");
    let mut root = self::root();
    root.keys.push(root.keys[0]);
    expect(trust_in(&root).map(drop), "keys: an entry stands twice", "among the keys");
}

#[test]
fn a_role_that_never_or_always_holds() {
    for (threshold, keys) in [(0, 3), (4, 3), (255, 3), (1, 0), (0, 0)] {
        let mut root = root();
        root.root.threshold = threshold;
        root.root.keys.truncate(keys);
        let why = format!("{threshold} of {keys}");
        expect(trust_in(&root).map(drop), "can never hold as meant", &why);
        let mut root = self::root();
        root.releases[0].threshold = threshold;
        root.releases[0].keys.truncate(keys);
        expect(trust_in(&root).map(drop), "can never hold as meant", &why);
    }
}

#[test]
fn threshold_zero_still_asks_for_a_signature() {
    let bytes = envelope(DocumentType::Release);
    let fleet = fleet();
    let binding = Binding { kind: DocumentType::Release, fleet: &fleet, cluster: None };
    let parsed = Envelope::parse_many(DocumentType::Release, &bytes).unwrap();
    assert!(parsed.open(binding, &[key(STRANGER).public()], 0).is_none());
    assert!(parsed.open(binding, &[], 0).is_none());
    assert!(parsed.open(binding, &[key(RADIO[0]).public()], 0).is_some());
}

#[test]
fn the_wrong_role_signs() {
    for kind in DocumentType::ALL {
        for seed in [STRANGER, DIRECTOR, CLUSTER, RADIO[0], ROOTS[0]] {
            if signers(kind).contains(&seed) {
                continue;
            }
            let bytes = sign_payload(kind, &fleet(), &tower(), &payload(kind), &[seed]);
            expect(verdict(kind, &bytes), "is not signed", &format!("{kind:?} by {seed}"));
        }
    }
}

#[test]
fn a_signature_under_anothers_name() {
    for kind in singles() {
        let (_, signature) =
            parts_of_one(&sign_payload(kind, &fleet(), &tower(), &payload(kind), &[STRANGER]));
        let (header, _) = parts_of_one(&envelope(kind));
        expect(verdict(kind, &one(&header, &payload(kind), &signature)), "is not signed", kind.name());
    }
}

#[test]
fn headers_that_say_anything_else() {
    let kind = DocumentType::Head;
    let id = key(DIRECTOR).public().id();
    let id = hex::encode(id.as_bytes());
    let name = "67" /* text of 7 */
        .to_owned()
        + &hex::encode("ef/head");
    for (header, why) in [
        (format!("a301320458 20{id}10{name}"), "as it is"),
        (format!("a301270458 20{id}10{name}"), "algorithm EdDSA (-8)"),
        (format!("a301260458 20{id}10{name}"), "algorithm ES256 (-7)"),
        (format!("a301050458 20{id}10{name}"), "algorithm HMAC (5)"),
        (format!("a301000458 20{id}10{name}"), "no algorithm"),
        (format!("a2045820{id}10{name}"), "algorithm left out"),
        (format!("a20132 10{name}"), "key left out"),
        (format!("a201320458 20{id}"), "type left out"),
        (format!("a401320458 20{id}10{name}1100"), "an extra field"),
        (format!("a40132028110 045820{id}10{name}"), "a critical field"),
        (format!("a3013210{name}045820{id}"), "another order"),
        (format!("a30132045820{id}1069{}", hex::encode("ef/report")), "another type"),
        (format!("a301320458 20{id}10{name}00"), "a byte more"),
        (format!("a30138120458 20{id}10{name}"), "the algorithm in two bytes"),
        (format!("bf01320458 20{id}10{name}ff"), "an indefinite map"),
        (String::new(), "empty"),
        ("a0".to_owned(), "an empty map"),
    ] {
        let header = hex::decode(header.replace(' ', "")).unwrap();
        let tower = tower();
        let aad = codec::encode(&("edgefleet/1", "ef/head", "north", &tower));
        let payload = payload(kind);
        let message =
            codec::encode(&("Signature1", Bytes::new(&header), Bytes::new(&aad), Bytes::new(&payload)));
        // Each is rightly signed: only the header itself is wrong.
        let bytes = one(&header, &payload, &key(DIRECTOR).sign(&message));
        let expected = if why == "as it is" { "" } else { "header is not exactly" };
        expect(verdict(kind, &bytes), expected, why);
    }
}

#[test]
fn a_filled_unprotected_header() {
    for kind in singles() {
        let (header, signature) = parts_of_one(&envelope(kind));
        let filled = std::collections::BTreeMap::from([(4_u8, 1_u8)]);
        let payload = payload(kind);
        let bytes =
            codec::encode(&(Bytes::new(&header), filled, Bytes::new(&payload), Bytes::new(&signature)));
        expect(verdict(kind, &bytes), "the envelope is malformed", kind.name());
    }
}

#[test]
fn a_filled_body_header() {
    for kind in [DocumentType::Root, DocumentType::Release] {
        let (header, signature) = parts(&envelope(kind), 0);
        let payload = payload(kind);
        let signatures = vec![(Bytes::new(&header), EmptyMap {}, Bytes::new(&signature))];
        let bytes = codec::encode(&(Bytes::new(&header), EmptyMap {}, Bytes::new(&payload), signatures));
        expect(verdict(kind, &bytes), "header is not exactly", kind.name());
    }
}

#[test]
fn type_confusion_of_all_ordered_pairs() {
    for meant in DocumentType::ALL {
        for taken_as in DocumentType::ALL.into_iter().filter(|kind| *kind != meant) {
            let found = verdict(taken_as, &envelope(meant));
            let refused = matches!(found, Err(VerifyError::Envelope { .. }));
            assert!(refused, "{meant:?} taken as {taken_as:?}: {found:?}");
        }
    }
}

#[test]
fn one_types_text_signed_as_another() {
    for of in DocumentType::ALL {
        for signed_as in DocumentType::ALL.into_iter().filter(|kind| *kind != of) {
            let bytes = sign_payload(signed_as, &fleet(), &tower(), &payload(of), &signers(signed_as));
            expect(verdict(signed_as, &bytes), "does not decode", &format!("{of:?} as {signed_as:?}"));
        }
    }
}

#[test]
fn another_clusters_document() {
    let other = ClusterId::new("tower-2").unwrap();
    for kind in singles() {
        let bytes = sign_payload(kind, &fleet(), &other, &payload(kind), &signers(kind));
        expect(verdict(kind, &bytes), "is not signed", kind.name());
    }
}

#[test]
fn a_text_that_names_another_cluster_than_its_signature() {
    let other = ClusterId::new("tower-2").unwrap();
    let desired = Desired { cluster: other.clone(), ..desired() };
    expect(verdict(DocumentType::Desired, &sign(&desired, &[DIRECTOR])), "names cluster tower-2", "desired");
    let head = Head { cluster: other, ..head() };
    expect(verdict(DocumentType::Head, &sign(&head, &[DIRECTOR])), "names cluster tower-2", "head");
}

#[test]
fn another_fleets_document() {
    let other = FleetId::new("south").unwrap();
    for kind in DocumentType::ALL {
        let bytes = sign_payload(kind, &other, &tower(), &payload(kind), &signers(kind));
        expect(verdict(kind, &bytes), "is not signed", kind.name());
    }
}

#[test]
fn a_signature_added_by_a_stranger_changes_nothing() {
    let fleet = fleet();
    let binding = Binding { kind: DocumentType::Root, fleet: &fleet, cluster: None };
    let half = sign(&next_root(), &[1]);
    let by = |seed| cose::add_signature(binding, &half, &key(seed)).unwrap();
    expect(verdict(DocumentType::Root, &by(STRANGER)), "is not signed by 2", "a stranger");
    expect(verdict(DocumentType::Root, &by(1)), "is not signed by 2", "the same again");
    expect(verdict(DocumentType::Root, &by(2)), "", "another root key");
    assert_eq!(by(1), half, "a key's signature is replaced, not doubled");
}
