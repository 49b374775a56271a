use std::collections::BTreeSet;

use fleet_broker::resources::Validate;
use protocol::ids::Name;
use serde_json::json;

use super::*;
use crate::{
    keys::{self, Charter, FleetKeys},
    manifest::{self, Rules},
    release::{self, Plan},
    source::SourceText,
};

const CONFIG: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: gateway}\ndata: {a: b}\n";
const NAMESPACE: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: radio}\n";
const ELSEWHERE: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: gateway, namespace: core}\n";
const EXPIRES: UnixSeconds = UnixSeconds(1_000);

fn fleet() -> FleetId {
    FleetId::new("acme").unwrap()
}

fn fleet_keys() -> FleetKeys {
    let charter = Charter {
        fleet: fleet(),
        tenant: Name::new("radio").unwrap(),
        namespaces: vec!["radio".parse().unwrap()],
        ca_pins: Vec::new(),
        issued: UnixSeconds(1),
        not_after: UnixSeconds(2_000),
    };
    keys::generate(&charter).unwrap()
}

fn trust(keys: &FleetKeys) -> Trust {
    Trust::pin(&keys.envelope, &fleet(), Digest::of(&keys.envelope)).unwrap()
}

fn plan(app: &str) -> Plan {
    let plan = Plan::new(app.parse().unwrap(), "1.4.2".to_owned(), 7, EXPIRES);
    Plan { adopt: protocol::documents::Adopt::IfIdentical, ..plan }
}

fn bundle(app: &str, text: &str) -> Bundle {
    built(&plan(app), text)
}

fn built(plan: &Plan, text: &str) -> Bundle {
    let rules = Rules {
        namespace: Name::new("radio").unwrap(),
        cluster_scoped: BTreeSet::new(),
        plaintext_secrets: false,
    };
    let text = SourceText { name: "a.yaml".to_owned(), text: text.to_owned() };
    let objects = manifest::parse(&[text], &rules).unwrap().objects;
    Bundle::new(&release::build(plan, objects).unwrap()).unwrap()
}

fn why(error: &BundleError) -> String {
    let mut message = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        message.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    message
}

#[test]
fn a_bundle_is_believed_when_enough_of_the_right_keys_signed() {
    let keys = fleet_keys();
    let stranger = fleet_keys();
    let [one, two] = [&keys.release[0], &keys.release[1]];
    let both = format!("{CONFIG}---\n{NAMESPACE}");
    type Row<'a> = (&'a str, &'a str, &'a [&'a SigningKey], Result<(), &'a str>);
    let cases: [Row<'_>; 9] = [
        ("radio/gateway", CONFIG, &[one], Ok(())),
        ("radio/gateway", CONFIG, &[two], Ok(())),
        ("radio/gateway", CONFIG, &[&stranger.release[0], one], Ok(())),
        ("radio/gateway", CONFIG, &[], Err("nobody signed it yet")),
        ("radio/gateway", CONFIG, &[&stranger.release[0]], Err("is not signed by 1 of the keys that may")),
        ("radio/gateway", &both, &[one], Err("1 of 2 signatures (it holds cluster-scoped objects)")),
        ("radio/gateway", &both, &[one, one], Err("1 of 2 signatures")),
        ("radio/gateway", ELSEWHERE, &[one, two], Err("namespace core is outside its keys' scope")),
        ("core/gateway", CONFIG, &[one, two], Err("no key releases for tenant core")),
    ];
    for (app, text, signers, expected) in cases {
        let mut bundle = bundle(app, text);
        signers.iter().for_each(|key| bundle.sign(&fleet(), key).unwrap());
        let found = bundle.verify(&trust(&keys), EXPIRES).map(|_| ());
        match expected {
            Ok(()) => found.unwrap(),
            Err(expected) => {
                let message = why(&found.unwrap_err());
                assert!(message.contains(expected), "{message}\n  lacks {expected}");
            }
        }
    }
    let mut privileged = bundle("radio/gateway", &both);
    [one, two].iter().for_each(|key| privileged.sign(&fleet(), key).unwrap());
    assert_eq!(privileged.verify(&trust(&keys), EXPIRES).unwrap().signers().len(), 2);
}

#[test]
fn a_bundle_for_another_fleet_or_too_old_is_refused() {
    let keys = fleet_keys();
    let mut other = bundle("radio/gateway", CONFIG);
    other.sign(&FleetId::new("other").unwrap(), &keys.release[0]).unwrap();
    assert!(matches!(other.verify(&trust(&keys), EXPIRES), Err(BundleError::Verify(_))));
    let mut old = bundle("radio/gateway", CONFIG);
    old.sign(&fleet(), &keys.release[0]).unwrap();
    let error = old.verify(&trust(&keys), UnixSeconds(1_001)).unwrap_err().to_string();
    assert_eq!(error, "the release expired at 1970-01-01T00:16:40Z; build and sign it anew");
}

#[test]
fn the_file_comes_back_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.bundle");
    let mut bundle = bundle("radio/gateway", CONFIG);
    bundle.save(&path).unwrap();
    assert_eq!(Bundle::open(&path).unwrap(), bundle);
    bundle.sign(&fleet(), &fleet_keys().release[0]).unwrap();
    bundle.save(&path).unwrap();
    assert_eq!(Bundle::open(&path).unwrap(), bundle);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing unfinished is left");
}

#[test]
fn no_flipped_bit_goes_unnoticed() {
    let keys = fleet_keys();
    let mut bundle = bundle("radio/gateway", CONFIG);
    bundle.sign(&fleet(), &keys.release[0]).unwrap();
    let bytes = bundle.encode();
    let trust = trust(&keys);
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        // A frame may say the same in two ways; then what is believed is what was signed all the same.
        if let Ok(release) = Bundle::decode(&flipped).and_then(|bundle| bundle.verify(&trust, EXPIRES)) {
            assert_eq!(*release, *bundle.release(), "bit {bit}");
        }
    }
    bundle.verify(&trust, EXPIRES).unwrap();
}

#[test]
fn content_that_is_not_the_releases_is_neither_believed_nor_signed() {
    let keys = fleet_keys();
    let mut good = bundle("radio/gateway", CONFIG);
    good.sign(&fleet(), &keys.release[0]).unwrap();
    let swapped = CONFIG.replace("a: b", "a: c");
    let mut mixed = Bundle { pack_zstd: bundle("radio/gateway", &swapped).pack_zstd, ..good.clone() };
    assert!(why(&mixed.verify(&trust(&keys), EXPIRES).unwrap_err()).starts_with("the content has digest"));
    assert!(matches!(mixed.sign(&fleet(), &keys.release[1]), Err(BundleError::Digest { .. })));
    let envelope = good.envelope().unwrap().to_vec();
    let published = Bundle::published(envelope.clone(), mixed.pack_zstd.clone()).unwrap();
    assert!(matches!(published.objects(&BTreeMap::new()), Err(BundleError::Digest { .. })));
    let published = Bundle::published(envelope, good.pack_zstd.clone()).unwrap();
    assert_eq!(published.objects(&BTreeMap::new()).unwrap()[0]["data"]["a"], "b");
    let mut short = Bundle { pack_zstd: pack::compress(b"{}").unwrap(), ..good };
    assert!(why(&short.verify(&trust(&keys), EXPIRES).unwrap_err()).contains("does not unpack to the"));
    assert!(matches!(short.sign(&fleet(), &keys.release[1]), Err(BundleError::Pack(_))));
}

#[test]
fn other_files_are_not_bundles() {
    let bytes = bundle("radio/gateway", CONFIG).encode();
    let cases = [
        (b"".to_vec(), "the file is cut short"),
        (b"PK\x03\x04".to_vec(), "not a bundle made by"),
        (bytes[..bytes.len() - 1].to_vec(), "the file is damaged"),
        ([bytes.as_slice(), b"x"].concat(), "the file is damaged"),
    ];
    for (bytes, expected) in cases {
        let error = Bundle::decode(&bytes).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn the_hub_is_told_what_the_bundle_is() {
    let keys = fleet_keys();
    let parameters = "[{name: a, enum: [b, c], default: b, targets: [{kind: ConfigMap, name: gateway, pointer: /data/a}]}]";
    let plan = Plan {
        parameters: release::read_parameters("p.yaml", parameters).unwrap(),
        ignore: vec!["ConfigMap:/data/x".parse().unwrap()],
        max_deletes: Some(3),
        ..plan("radio/gateway")
    };
    let mut bundle = built(&plan, CONFIG);
    assert!(matches!(bundle.to_resource(), Err(BundleError::Unsigned)));
    bundle.sign(&fleet(), &keys.release[0]).unwrap();
    let resource = bundle.to_resource().unwrap();
    assert_eq!(resource["metadata"], json!({"namespace": "radio", "name": "gateway-1.4.2"}));
    let envelope = bundle.envelope().unwrap();
    let expected = json!({
        "application": "gateway",
        "version": "1.4.2",
        "digest": format!("sha256:{}", Digest::of(envelope)),
        "pack": format!("sha256:{}", bundle.release().pack),
        "release": STANDARD.encode(envelope),
        "signatures": [{"keyId": keys.release[0].public().id().to_string()}],
        "parameters": [{
            "name": "a",
            "enum": ["b", "c"],
            "default": "b",
            "targets": [{"kind": "ConfigMap", "name": "gateway", "pointer": "/data/a"}],
        }],
        "ceilings": {
            "maxDeletes": 3,
            "adopt": "IfIdentical",
            "ignoreDifferences": [{"kind": "ConfigMap", "pointers": ["/data/x"]}],
            "affectsLink": false,
        },
    });
    assert_eq!(resource["spec"], expected);
    let typed: fleet_broker::resources::Bundle = serde_json::from_value(resource).unwrap();
    assert_eq!(typed.validate(), []);
    assert_eq!(serde_json::to_value(&typed).unwrap()["spec"], expected, "the hub knows every field");
}
