//! The envelope is COSE (RFC 9052): what we sign, another implementation reads and checks, and the reverse.

#![allow(clippy::unwrap_used, reason = "a test says no by panicking")]

mod common;

use common::{envelope, fleet, key, payload, signers, tower, verdict};
use coset::{
    Algorithm, CborSerializable, CoseSign, CoseSign1, CoseSign1Builder, CoseSignBuilder,
    CoseSignatureBuilder, Header, HeaderBuilder, Label, ProtectedHeader, TaggedCborSerializable, cbor::Value,
    iana,
};
use protocol::{codec, documents::DocumentType};
use ring::signature::{ED25519, UnparsedPublicKey};

/// `typ` (RFC 9596).
const TYP: i64 = 16;

fn header(kind: DocumentType, seed: u8) -> Header {
    HeaderBuilder::new()
        .algorithm(iana::Algorithm::Ed25519)
        .key_id(key(seed).public().id().as_bytes().to_vec())
        .value(TYP, Value::Text(kind.name().to_owned()))
        .build()
}

fn external_aad(kind: DocumentType) -> Vec<u8> {
    let cluster = if common::is_for_the_fleet(kind) { String::new() } else { tower().to_string() };
    let parts = ["edgefleet/1".to_owned(), kind.name().to_owned(), fleet().to_string(), cluster];
    let mut out = Vec::new();
    coset::cbor::into_writer(&Value::Array(parts.map(Value::Text).to_vec()), &mut out).unwrap();
    out
}

fn check_header(found: &ProtectedHeader, kind: DocumentType, seed: u8) {
    assert_eq!(found.header.alg, Some(Algorithm::Assigned(iana::Algorithm::Ed25519)));
    assert_eq!(found.header.key_id, key(seed).public().id().as_bytes());
    assert_eq!(found.header.rest, [(Label::Int(TYP), Value::Text(kind.name().to_owned()))]);
    assert_eq!(found.original_data.as_deref(), Some(header(kind, seed).to_vec().unwrap().as_slice()));
}

fn check_signature(seed: u8, signature: &[u8], message: &[u8]) -> Result<(), ring::error::Unspecified> {
    UnparsedPublicKey::new(&ED25519, key(seed).public().as_bytes()).verify(message, signature)
}

fn kinds(for_the_fleet: bool) -> impl Iterator<Item = DocumentType> {
    DocumentType::ALL.into_iter().filter(move |kind| common::is_for_the_fleet(*kind) == for_the_fleet)
}

#[test]
fn coset_reads_and_checks_what_one_signer_signed() {
    for kind in kinds(false) {
        let seed = signers(kind)[0];
        let sign1 = CoseSign1::from_slice(&envelope(kind)).unwrap();
        check_header(&sign1.protected, kind, seed);
        assert!(sign1.unprotected.is_empty(), "{kind:?}");
        assert_eq!(sign1.payload, Some(payload(kind)), "{kind:?}");
        let verify = |signature: &[u8], message: &[u8]| check_signature(seed, signature, message);
        sign1.verify_signature(&external_aad(kind), verify).unwrap();
        assert!(sign1.verify_signature(b"", verify).is_err(), "{kind:?} is not bound");
    }
}

#[test]
fn coset_reads_and_checks_what_several_signed() {
    for kind in kinds(true) {
        let sign = CoseSign::from_slice(&envelope(kind)).unwrap();
        assert_eq!(sign.protected.original_data.as_deref(), Some(b"".as_slice()), "{kind:?}");
        assert!(sign.unprotected.is_empty(), "{kind:?}");
        assert_eq!(sign.payload, Some(payload(kind)), "{kind:?}");
        assert_eq!(sign.signatures.len(), signers(kind).len(), "{kind:?}");
        for (index, seed) in signers(kind).into_iter().enumerate() {
            check_header(&sign.signatures[index].protected, kind, seed);
            let verify = |signature: &[u8], message: &[u8]| check_signature(seed, signature, message);
            sign.verify_signature(index, &external_aad(kind), verify).unwrap();
            assert!(sign.verify_signature(index, b"", verify).is_err(), "{kind:?} is not bound");
        }
    }
}

#[test]
fn the_signed_bytes_are_the_signature_structure_of_the_standard() {
    let kind = DocumentType::Head;
    let sign1 = CoseSign1::from_slice(&envelope(kind)).unwrap();
    let header = header(kind, common::DIRECTOR).to_vec().unwrap();
    let parts = [header, external_aad(kind), payload(kind)].map(Value::Bytes).to_vec();
    let structure = Value::Array([vec![Value::Text("Signature1".to_owned())], parts].concat());
    let mut expected = Vec::new();
    coset::cbor::into_writer(&structure, &mut expected).unwrap();
    assert_eq!(sign1.tbs_data(&external_aad(kind)), expected);
    check_signature(common::DIRECTOR, &sign1.signature, &expected).unwrap();
}

fn built_by_coset(kind: DocumentType) -> CoseSign1 {
    let seed = signers(kind)[0];
    CoseSign1Builder::new()
        .protected(header(kind, seed))
        .payload(payload(kind))
        .create_signature(&external_aad(kind), |message| key(seed).sign(message).to_vec())
        .build()
}

#[test]
fn we_believe_what_coset_built() {
    for kind in kinds(false) {
        let bytes = built_by_coset(kind).to_vec().unwrap();
        assert_eq!(bytes, envelope(kind), "{kind:?}");
        common::expect(verdict(kind, &bytes), "", kind.name());
    }
    for kind in kinds(true) {
        let mut builder = CoseSignBuilder::new().payload(payload(kind));
        for seed in signers(kind) {
            let signature = CoseSignatureBuilder::new().protected(header(kind, seed)).build();
            let sign = |message: &[u8]| key(seed).sign(message).to_vec();
            builder = builder.add_created_signature(signature, &external_aad(kind), sign);
        }
        let bytes = builder.build().to_vec().unwrap();
        assert_eq!(bytes, envelope(kind), "{kind:?}");
        common::expect(verdict(kind, &bytes), "", kind.name());
    }
}

#[test]
fn a_tagged_envelope_is_not_ours() {
    for kind in kinds(false) {
        let bytes = built_by_coset(kind).to_tagged_vec().unwrap();
        common::expect(verdict(kind, &bytes), "bad envelope", kind.name());
    }
}

#[test]
fn our_cbor_is_the_cbor_of_others() {
    for kind in DocumentType::ALL {
        let value: Value = coset::cbor::from_reader(payload(kind).as_slice()).unwrap();
        let mut again = Vec::new();
        coset::cbor::into_writer(&value, &mut again).unwrap();
        assert_eq!(again, payload(kind), "{kind:?}");
    }
    assert_eq!(codec::encode(&codec::EmptyMap {}), Header::default().to_vec().unwrap());
}
