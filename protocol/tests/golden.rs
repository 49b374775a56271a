//! The wire layout of every document, byte for byte. A change here breaks every agent in the field: fields are
//! only ever added, at the end, and left out when absent.

#![allow(clippy::unwrap_used, reason = "a test says no by panicking")]

mod common;

use std::fmt::Write;

use protocol::{
    carry::{Carried, Label, Record, Way, Writer},
    cose,
    documents::{Chunk, DocumentType, Encoding},
    enrol::{EnrolAnswer, EnrolAsk, JoinCode, JoinSecret},
    ids::TokenId,
    order::{Epoch, Order},
    renew::{CertificateAsk, RenewAnswer, RenewAsk},
    together::Tree,
};

/// One line for each: its name, a space, its bytes in hexadecimal.
const GOLDEN: &str = include_str!("golden.txt");

fn join_code() -> JoinCode {
    JoinCode {
        cluster: common::tower(),
        fleet: common::fleet(),
        enrol: "hub.example:8443".to_owned(),
        broker: "hub.example:8883".to_owned(),
        ca_pin: common::digest(0xca),
        root: common::digest(1),
        token: TokenId::new("token001").unwrap(),
        secret: JoinSecret::new([0x5e; 16]),
    }
}

fn chunk() -> Chunk {
    let bytes = b"piece".to_vec();
    Chunk { target: common::digest(9), encoding: Encoding::Plain, total: 100_000, offset: 32_768, bytes }
}

/// One record of each kind, in a file that none could be.
fn carried_file() -> Vec<u8> {
    let carried = Carried {
        app: common::gateway(),
        version: "1.4.2".to_owned(),
        included: true,
        withheld: Some("frozen".to_owned()),
    };
    let order = Order { epoch: Epoch(1), seq: 7 };
    let way = Way::ToCluster { order, valid_until: common::NOW, apps: vec![carried] };
    let label = Label { fleet: common::fleet(), cluster: common::tower(), made: common::NOW, way };
    let (mut writer, mut bytes) = Writer::begin(label);
    for record in [Record::Head, Record::Desired, Record::Piece, Record::Report] {
        bytes.extend(writer.put(&record(vec![0x84])));
    }
    bytes.extend(writer.end());
    bytes
}

#[test]
fn the_wire_layout_is_pinned() {
    let mut found = String::new();
    let mut line = |name: &str, bytes: &[u8]| writeln!(found, "{name} {}", hex::encode(bytes)).unwrap();
    for kind in DocumentType::ALL {
        line(kind.name(), &common::payload(kind));
    }
    line("ef/ack envelope", &common::envelope(DocumentType::Ack));
    let acks = common::acks_together();
    let tree = Tree::new(acks.iter().map(Vec::as_slice));
    line("ef/ack together", &tree.message(b"signed", &acks[1], 1));
    let binding = cose::Binding { kind: DocumentType::Release, fleet: &common::fleet(), cluster: None };
    let keys = common::RADIO.map(common::key);
    line("COSE_Sign of two", &cose::sign_many(binding, b"payload", &keys.each_ref()));
    line("chunk", &chunk().encode());
    line("enrol ask", &protocol::codec::encode(&EnrolAsk::new(&join_code(), &common::key(8), vec![0x30, 0])));
    let granted = EnrolAnswer::Granted { certificates: "PEM".to_owned(), root: vec![0x84] };
    line("enrol granted", &protocol::codec::encode(&granted));
    let refused = EnrolAnswer::Refused { message: "no".to_owned() };
    line("enrol refused", &protocol::codec::encode(&refused));
    let challenge = RenewAsk::Challenge { cluster: common::tower() };
    line("renew challenge", &protocol::codec::encode(&challenge));
    let (fleet, cluster, key) = (common::fleet(), common::tower(), common::key(8));
    let ask = CertificateAsk::new(&fleet, &cluster, &key, vec![0xc4], vec![0x30, 0]).unwrap();
    line("renew certificate", &protocol::codec::encode(&RenewAsk::Certificate { ask }));
    let answers = [
        RenewAnswer::Challenge { challenge: vec![0xc4] },
        RenewAnswer::Granted { certificate: "PEM".to_owned() },
        RenewAnswer::Refused { message: "no".to_owned() },
    ];
    for answer in answers {
        line("renew answer", &protocol::codec::encode(&answer));
    }
    line("carried file", &carried_file());
    writeln!(found, "join-code {}", join_code()).unwrap();
    found.lines().zip(GOLDEN.lines()).for_each(|(found, golden)| assert_eq!(found, golden));
    assert_eq!(found.lines().count(), GOLDEN.lines().count());
}
