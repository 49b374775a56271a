//! Bytes made to exhaust whoever reads them. Each is rightly signed, so that decoding is what stops it.

use std::collections::BTreeMap;

use protocol::{
    codec,
    documents::{
        Chunk, ChunkError, Desired, DocumentType, Encoding, Mode, ObjectMessage, ObjectRule, Preview, Report,
    },
    ids::AppId,
};

use crate::common::*;

fn signed(kind: DocumentType, payload: &[u8]) -> Vec<u8> {
    sign_payload(kind, &fleet(), &tower(), payload, &signers(kind))
}

fn is_refused(kind: DocumentType, payload: &[u8], why: &str) {
    expect(
        verdict(kind, &signed(kind, payload)),
        "is signed but does not decode",
        &format!("{kind:?} {why}"),
    );
}

#[test]
fn nested_a_hundred_thousand_deep() {
    for kind in DocumentType::ALL {
        for byte in [0x81, 0x9f, 0xa1, 0xbf, 0xc1, 0xd8] {
            is_refused(kind, &vec![byte; 100_000], &format!("of {byte:#x}"));
            is_refused(
                kind,
                &[&[0xa1, 0x00][..], &vec![byte; 100_000]].concat(),
                &format!("in field 0, {byte:#x}"),
            );
        }
    }
}

#[test]
fn lengths_that_nobody_could_allocate() {
    for kind in DocumentType::ALL {
        for start in [0x5b, 0x7b, 0x9b, 0xbb] {
            for len in
                [[0xff; 8], [0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff], [0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff]]
            {
                let bomb = [&[start][..], &len].concat();
                is_refused(kind, &bomb, "at the top");
                for field in 0..12 {
                    is_refused(kind, &[&[0xa1, field][..], &bomb].concat(), &format!("in field {field}"));
                }
            }
        }
    }
}

#[test]
fn a_field_or_a_key_twice() {
    for kind in DocumentType::ALL {
        let payload = payload(kind);
        let first = [&[payload[0] + 1][..], &payload[1..], &[0x00, 0x00]].concat();
        is_refused(kind, &first, "with field 0 again at the end");
    }
    // The map of parameter values stands as `a1 68 "replicas" 61 "4"`.
    let once = hex::decode("a1687265706c6963617361").unwrap();
    let payload = payload(DocumentType::Desired);
    let at = payload.windows(once.len()).position(|window| window == once).unwrap();
    let mut twice = payload;
    twice[at] = 0xa2;
    twice.splice(
        at + once.len() + 1..at + once.len() + 1,
        hex::decode("687265706c69636173613 5".replace(' ', "")).unwrap(),
    );
    is_refused(DocumentType::Desired, &twice, "with one parameter twice");
    let mut renamed = twice.clone();
    renamed[at + 2..at + 10].copy_from_slice(b"aaaaaaaa");
    let desired: Desired = codec::decode("desired", &renamed).unwrap();
    let both = BTreeMap::from([("aaaaaaaa", "4"), ("replicas", "5")]);
    assert!(
        desired.releases[0].values.iter().map(|(k, v)| (k.as_str(), v.as_str())).eq(both),
        "else it decodes"
    );
}

#[test]
fn the_same_payload_in_another_spelling() {
    for kind in DocumentType::ALL {
        let payload = payload(kind);
        let (fields, rest) = (payload[0] & 0x1f, &payload[1..]);
        for (start, end, why) in [
            (vec![0xb8, fields], vec![], "a longer length"),
            (vec![0xb9, 0, fields], vec![], "a still longer length"),
            (vec![0xbf], vec![0xff], "an indefinite map"),
            (vec![0xd9, 0xd9, 0xf7, payload[0]], vec![], "the self-describing tag"),
            (vec![payload[0]], vec![0x00], "a trailing byte"),
            (vec![payload[0] + 1], vec![0x17, 0xf6], "an unknown field"),
        ] {
            is_refused(kind, &[start.as_slice(), rest, &end].concat(), why);
        }
    }
}

#[test]
fn an_identifier_that_breaks_its_rule() {
    for cluster in ["", "ab", "Tower-1", "tower/1", "tower+", "#", "$SYS", "tower-1\0", &"a".repeat(64)] {
        let payload = codec::encode(&desired());
        let good = codec::encode(&"tower-1");
        let at = payload.windows(good.len()).position(|window| window == good).unwrap();
        let mut bad = payload.clone();
        bad.splice(at..at + good.len(), codec::encode(&cluster));
        is_refused(DocumentType::Desired, &bad, cluster);
    }
}

#[test]
fn more_than_a_limit_allows() {
    let app = |index: usize| AppId::new("radio", format!("app-{index}")).unwrap();
    let mut crowd = desired();
    crowd.remove = (0..129).map(app).collect();
    expect(
        verdict(DocumentType::Desired, &sign(&crowd, &[DIRECTOR])),
        "129 entries, at most 128",
        "removals",
    );
    let mut twice = desired();
    twice.remove = vec![twice.releases[0].app.clone()];
    expect(
        verdict(DocumentType::Desired, &sign(&twice, &[DIRECTOR])),
        "an entry stands twice",
        "run and removed",
    );
    let mut wordy = desired();
    wordy.releases[0].values.insert("band".to_owned(), "x".repeat(1025));
    expect(
        verdict(DocumentType::Desired, &sign(&wordy, &[DIRECTOR])),
        "at most 1024 are allowed",
        "a long value",
    );
    let mut huge = desired();
    huge.releases[0].len = 1024 * 1024 + 1;
    expect(
        verdict(DocumentType::Desired, &sign(&huge, &[DIRECTOR])),
        "larger than any may be",
        "a huge release",
    );
    let rule = ObjectRule { kind: "Pod".to_owned(), namespace: None, name: None };
    let mut picky = desired();
    (picky.releases[0].mode, picky.releases[0].enforce) = (Mode::Observe, Some(vec![rule; 65]));
    expect(
        verdict(DocumentType::Desired, &sign(&picky, &[DIRECTOR])),
        "65 entries, at most 64",
        "many rules",
    );
    picky.releases[0].enforce = Some(Vec::new());
    picky.releases[0].mode = Mode::Enforce;
    expect(
        verdict(DocumentType::Desired, &sign(&picky, &[DIRECTOR])),
        "enforces some objects and all of them",
        "rules where everything is enforced",
    );
    let report = report();
    let of = |index: usize| protocol::documents::AppReport { app: app(index), ..report.apps[0].clone() };
    let flood = Report { apps: (0..33).map(of).collect(), ..report.clone() };
    expect(verdict(DocumentType::Report, &sign(&flood, &[CLUSTER])), "33 entries, at most 32", "reports");
    let entry = ObjectMessage { object: String::new(), reason: String::new(), message: String::new() };
    let mut forecast = report.clone();
    forecast.apps[0].preview = Some(Preview { objects: vec![entry; 9], ..Preview::default() });
    expect(verdict(DocumentType::Report, &sign(&forecast, &[CLUSTER])), "9 entries, at most 8", "a preview");
    let long = "x".repeat(1025);
    let chatter: [fn(&mut Report, &str); 7] = [
        |report, text| report.conditions[0].message = text.to_owned(),
        |report, text| report.apps[0].conditions[0].reason = text.into(),
        |report, text| report.apps[0].conditions[0].kind = text.into(),
        |report, text| report.apps[0].drift[0].manager = text.to_owned(),
        |report, text| report.apps[0].applied.as_mut().unwrap().version = text.into(),
        |report, text| report.kubernetes = text.into(),
        |report, text| report.agent = text.into(),
    ];
    for (index, change) in chatter.into_iter().enumerate() {
        let mut report = report.clone();
        change(&mut report, &long);
        let found = verdict(DocumentType::Report, &sign(&report, &[CLUSTER]));
        expect(found, "1025 bytes of text, at most", &format!("case {index}"));
    }
}

#[test]
fn pieces_beyond_their_content() {
    for (offset, len, total, fits) in [
        (0, 5, 5, true),
        (0, 0, 0, true),
        (95, 5, 100, true),
        (96, 5, 100, false),
        (u64::MAX, 1, u64::MAX, false),
        (u64::MAX - 1, 1, u64::MAX, true),
        (0, 32 * 1024, 1 << 40, true),
        (0, 32 * 1024 + 1, 1 << 40, false),
    ] {
        let (target, encoding, bytes) = (digest(9), Encoding::Zstd, vec![7; len]);
        let chunk = Chunk { target, encoding, total, offset, bytes };
        match Chunk::decode(&chunk.encode()) {
            Ok(found) => assert!(fits && found == chunk, "{len} at {offset} of {total}"),
            Err(ChunkError::Bounds { .. }) => assert!(!fits, "{len} at {offset} of {total}"),
            Err(ChunkError::Decode(error)) => panic!("{error}"),
        }
    }
    assert!(matches!(Chunk::decode(&[0xa5, 0x00, 0x5b]), Err(ChunkError::Decode(_))));
}
