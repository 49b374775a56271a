//! Attacks on joining.

use protocol::{
    codec,
    enrol::{EnrolAsk, JoinCode, JoinSecret},
    ids::{ClusterId, TokenId},
};

use crate::common::*;

fn code() -> JoinCode {
    JoinCode {
        cluster: tower(),
        fleet: fleet(),
        enrol: "hub.example:8443".to_owned(),
        broker: "hub.example:8883".to_owned(),
        ca_pin: digest(0xca),
        root: digest(1),
        token: TokenId::new("token001").unwrap(),
        secret: JoinSecret::new([0x5e; 16]),
    }
}

fn csr() -> Vec<u8> {
    b"a certificate request".to_vec()
}

fn is_granted(ask: &EnrolAsk) -> bool {
    ask.is_proved(&tower(), &code().token, &code().secret)
}

/// The bytes of an ask with `from` replaced by `to` in all places.
fn replaced(ask: &EnrolAsk, from: &[u8], to: &[u8]) -> EnrolAsk {
    let mut bytes = codec::encode(ask);
    let places: Vec<usize> =
        (0..bytes.len() - from.len()).filter(|at| bytes[*at..].starts_with(from)).collect();
    assert!(!places.is_empty() && from.len() == to.len());
    places.into_iter().for_each(|at| bytes[at..at + to.len()].copy_from_slice(to));
    codec::decode("ask", &bytes).unwrap()
}

#[test]
fn the_code_and_the_key_together_are_granted() {
    assert!(is_granted(&EnrolAsk::new(&code(), &key(CLUSTER), csr())));
}

#[test]
fn a_wrong_join_secret() {
    for bit in 0..128 {
        let mut secret = [0x5e; 16];
        secret[bit / 8] ^= 1 << (bit % 8);
        let code = JoinCode { secret: JoinSecret::new(secret), ..code() };
        assert!(!is_granted(&EnrolAsk::new(&code, &key(CLUSTER), csr())), "bit {bit}");
    }
}

#[test]
fn another_token() {
    let code = JoinCode { token: TokenId::new("token002").unwrap(), ..code() };
    assert!(!is_granted(&EnrolAsk::new(&code, &key(CLUSTER), csr())));
}

#[test]
fn an_ask_for_another_cluster() {
    let other = ClusterId::new("tower-2").unwrap();
    // The holder of a code for tower-1 makes proofs for tower-2: they hold, and it is not what the token is for.
    let ask = EnrolAsk::new(&JoinCode { cluster: other.clone(), ..code() }, &key(CLUSTER), csr());
    assert!(!is_granted(&ask));
    assert!(ask.is_proved(&other, &code().token, &code().secret));
    let ask = EnrolAsk::new(&code(), &key(CLUSTER), csr());
    assert!(!is_granted(&replaced(&ask, b"tower-1", b"tower-2")));
}

#[test]
fn a_swapped_certificate_request() {
    let ask = EnrolAsk::new(&code(), &key(CLUSTER), csr());
    assert!(!is_granted(&replaced(&ask, &csr(), b"a certificate REQUEST")));
    let mut swapped = ask;
    swapped.csr = b"another request".to_vec();
    assert!(!is_granted(&swapped));
}

#[test]
fn a_swapped_identity_key() {
    let ask = EnrolAsk::new(&code(), &key(CLUSTER), csr());
    let stranger = key(STRANGER).public();
    assert!(!is_granted(&replaced(&ask, key(CLUSTER).public().as_bytes(), stranger.as_bytes())));
    let mut swapped = ask;
    swapped.identity = stranger;
    assert!(!is_granted(&swapped));
}

#[test]
fn every_bit_of_an_ask_flipped() {
    let ask = EnrolAsk::new(&code(), &key(CLUSTER), csr());
    let bytes = codec::encode(&ask);
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let found = codec::decode::<EnrolAsk>("ask", &flipped);
        assert!(!found.is_ok_and(|ask| is_granted(&ask)), "bit {bit}");
    }
}

#[test]
fn proofs_left_out_or_shortened() {
    let bytes = codec::encode(&EnrolAsk::new(&code(), &key(CLUSTER), csr()));
    let head_len = bytes.len() - (1 + 2 + 32) - (1 + 2 + 64);
    let (mac, proof) = (&bytes[head_len + 3..head_len + 35], &bytes[head_len + 38..]);
    for (mac_len, proof_len) in [(0, 0), (0, 64), (32, 0), (31, 64), (16, 64), (32, 63), (32, 64)] {
        let mut cut = bytes[..head_len].to_vec();
        cut.push(3);
        cut.extend(codec::encode(&serde_bytes::Bytes::new(&mac[..mac_len])));
        cut.push(4);
        cut.extend(codec::encode(&serde_bytes::Bytes::new(&proof[..proof_len])));
        let granted = is_granted(&codec::decode("ask", &cut).unwrap());
        assert_eq!(granted, (mac_len, proof_len) == (32, 64), "{mac_len} and {proof_len} bytes");
    }
}

#[test]
fn a_join_code_is_read_whole_or_not_at_all() {
    let text = code().to_string();
    assert_eq!(text.parse(), Ok(code()));
    assert_eq!(format!(" {text}\n").parse(), Ok(code()), "as it is pasted");
    for len in 0..text.len() {
        assert!(text[..len].parse::<JoinCode>().is_err(), "cut to {len}");
    }
    for bad in [format!("{text}A"), format!("{text}="), text.replace("ef1-", "ef2-"), text[4..].to_owned()] {
        assert!(bad.parse::<JoinCode>().is_err(), "{bad}");
    }
}

#[test]
fn a_secret_of_another_length() {
    assert!(JoinSecret::try_from([0; 16].as_slice()).is_ok());
    for len in [0, 1, 15, 17, 32] {
        assert!(JoinSecret::try_from(vec![0; len].as_slice()).is_err(), "{len}");
        let bytes = codec::encode(&serde_bytes::Bytes::new(&vec![0; len]));
        assert!(codec::decode::<JoinSecret>("secret", &bytes).is_err(), "{len}");
    }
}

#[test]
fn a_secret_never_prints() {
    let shown = format!("{:?}", code());
    assert!(
        shown.contains("JoinSecret(..)") && !shown.contains("5e5e") && !shown.contains("94, 94"),
        "{shown}"
    );
    let error = JoinSecret::try_from([0x5e; 15].as_slice()).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("5e"), "{error}");
}
