//! Every codec takes back what it gave, and arbitrary bytes neither panic nor verify.

#![allow(clippy::unwrap_used, reason = "a test says no by panicking")]

mod common;

use common::{fleet, key, sign_payload, signers, tower, verdict};
use proptest::{collection::vec, option, prelude::*, sample::select};
use protocol::{
    carry::{Carried, Label, Record, Way},
    codec,
    documents::*,
    enrol::{EnrolAnswer, EnrolAsk, JoinCode, JoinSecret},
    ids::*,
    keys::PublicKey,
    order::{Epoch, Order},
    renew::{CHALLENGE_BYTES, CertificateAsk, RenewAnswer, RenewAsk},
    time::UnixSeconds,
    topics::{Downward, Upward, parse_downward, parse_upward},
};

fn cluster_id() -> impl Strategy<Value = ClusterId> {
    "[a-z0-9-]{3,63}".prop_map(|text| ClusterId::new(text).unwrap())
}

fn fleet_id() -> impl Strategy<Value = FleetId> {
    "[a-z0-9-]{3,63}".prop_map(|text| FleetId::new(text).unwrap())
}

fn name() -> impl Strategy<Value = Name> {
    "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?".prop_map(|text| Name::new(text).unwrap())
}

fn app() -> impl Strategy<Value = AppId> {
    (name(), name()).prop_map(|(tenant, name)| AppId { tenant, name })
}

fn digest() -> impl Strategy<Value = Digest> {
    any::<[u8; 32]>().prop_map(Digest::new)
}

fn key_ids() -> impl Strategy<Value = Vec<KeyId>> {
    vec(any::<[u8; 32]>().prop_map(KeyId::new), 0..4)
}

fn time() -> impl Strategy<Value = UnixSeconds> {
    any::<u64>().prop_map(UnixSeconds)
}

fn order() -> impl Strategy<Value = Order> {
    (any::<u32>(), any::<u64>()).prop_map(|(epoch, seq)| Order { epoch: Epoch(epoch), seq })
}

fn journal() -> impl Strategy<Value = JournalId> {
    any::<[u8; 16]>().prop_map(JournalId::new)
}

fn text() -> impl Strategy<Value = String> {
    "\\PC{0,24}"
}

fn pattern() -> impl Strategy<Value = NamespacePattern> {
    "[a-z0-9]{1,20}(-?\\*)?|\\*".prop_map(|text| text.parse().unwrap())
}

fn role() -> impl Strategy<Value = Role> {
    (any::<u8>(), key_ids()).prop_map(|(threshold, keys)| Role { threshold, keys })
}

fn release_role() -> impl Strategy<Value = ReleaseRole> {
    (name(), vec(pattern(), 0..4), key_ids(), any::<u8>(), any::<u8>()).prop_map(
        |(tenant, namespaces, keys, threshold, privileged_threshold)| ReleaseRole {
            tenant,
            namespaces,
            keys,
            threshold,
            privileged_threshold,
        },
    )
}

fn root() -> impl Strategy<Value = Root> {
    let keys = vec(any::<[u8; 32]>().prop_map(PublicKey::new), 0..4);
    let first = (fleet_id(), any::<u32>(), any::<u32>(), time(), time(), keys);
    let second = (role(), role(), vec(release_role(), 0..3), vec(digest(), 0..3), option::of(digest()));
    (first, second).prop_map(|((fleet, version, epoch, issued, not_after, keys), rest)| {
        let (root, director, releases, ca_pins, prev) = rest;
        let min_epoch = Epoch(epoch);
        Root { fleet, version, min_epoch, issued, not_after, keys, root, director, releases, ca_pins, prev }
    })
}

fn object_name() -> impl Strategy<Value = ObjectName> {
    "[a-z][A-Za-z0-9:.@-]{0,60}".prop_map(|text| ObjectName::new(text).unwrap())
}

fn object() -> impl Strategy<Value = ObjectEntry> {
    (text(), text(), text(), option::of(name()), object_name(), any::<u32>(), digest()).prop_map(
        |(group, version, kind, namespace, name, len, sha256)| ObjectEntry {
            group,
            version,
            kind,
            namespace,
            name,
            len,
            sha256,
        },
    )
}

fn parameter_type() -> impl Strategy<Value = ParameterType> {
    prop_oneof![
        vec(text(), 0..4).prop_map(ParameterType::Enum),
        (any::<i64>(), any::<i64>()).prop_map(|(min, max)| ParameterType::Integer { min, max }),
        (text(), any::<u16>()).prop_map(|(charset, max_bytes)| ParameterType::Text { charset, max_bytes }),
    ]
}

fn parameter() -> impl Strategy<Value = Parameter> {
    let target = (any::<u32>(), text()).prop_map(|(object, pointer)| ParameterTarget { object, pointer });
    (text(), parameter_type(), option::of(text()), vec(target, 0..3))
        .prop_map(|(name, of, default, targets)| Parameter { name, of, default, targets })
}

fn ceilings() -> impl Strategy<Value = Ceilings> {
    let rule = (text(), option::of(text()), vec(text(), 0..3))
        .prop_map(|(kind, name, pointers)| IgnoreRule { kind, name, pointers });
    let slot = (name(), object_name(), any::<u64>()).prop_map(|(namespace, name, floor)| SecretSlot {
        namespace,
        name,
        floor,
    });
    let adopt = select(vec![Adopt::Never, Adopt::IfIdentical, Adopt::Always]);
    (
        option::of(any::<u32>()),
        adopt,
        vec(rule, 0..3),
        vec(any::<u32>(), 0..3),
        any::<bool>(),
        vec(slot, 0..3),
    )
        .prop_map(|(max_deletes, adopt, ignore_differences, splittable, affects_link, secret_slots)| {
            Ceilings { max_deletes, adopt, ignore_differences, splittable, affects_link, secret_slots }
        })
}

fn release() -> impl Strategy<Value = Release> {
    let first = (app(), text(), any::<u64>(), any::<u64>(), digest());
    let second = (vec(object(), 0..4), vec(name(), 0..3), vec(parameter(), 0..3), ceilings(), time());
    (first, second).prop_map(|((app, version, counter, floor, pack), rest)| {
        let (objects, scope, parameters, ceilings, not_after) = rest;
        Release { app, version, counter, floor, pack, objects, scope, parameters, ceilings, not_after }
    })
}

fn desired() -> impl Strategy<Value = Desired> {
    let values = proptest::collection::btree_map(text(), text(), 0..4);
    let rule = (text(), option::of(text()), option::of(text()))
        .prop_map(|(kind, namespace, name)| ObjectRule { kind, namespace, name });
    let mode = (select(vec![Mode::Enforce, Mode::Observe, Mode::DryRun]), option::of(vec(rule, 0..3)));
    let release = (app(), digest(), any::<u32>(), values, vec(name(), 0..3), mode).prop_map(
        |(app, release, len, values, depends_on, (mode, enforce))| DesiredRelease {
            app,
            release,
            len,
            values,
            mode,
            depends_on,
            enforce,
        },
    );
    let first = (cluster_id(), order(), option::of(digest()), time(), time());
    (first, vec(release, 0..3), vec(app(), 0..3), option::of(digest())).prop_map(
        |((cluster, order, prev, issued, install_by), releases, remove, policy)| Desired {
            cluster,
            order,
            prev,
            issued,
            install_by,
            releases,
            remove,
            policy,
        },
    )
}

fn head() -> impl Strategy<Value = Head> {
    let permit = (app(), time(), time()).prop_map(|(app, not_before, not_after)| Permit {
        app,
        not_before,
        not_after,
    });
    let first = (cluster_id(), any::<[u8; 16]>(), order(), digest(), any::<u32>());
    let nonce = option::of(any::<[u8; 16]>().prop_map(Nonce::new));
    (first, time(), time(), vec(permit, 0..3), nonce).prop_map(
        |((cluster, incarnation, order, desired, root_version), hub_time, fresh_until, permits, nonce)| {
            Head {
                cluster,
                incarnation: Incarnation::new(incarnation),
                order,
                desired,
                root_version,
                hub_time,
                fresh_until,
                permits,
                nonce,
            }
        },
    )
}

fn ack() -> impl Strategy<Value = Ack> {
    (cluster_id(), journal(), any::<u64>(), digest()).prop_map(|(cluster, journal, report_seq, digest)| Ack {
        cluster,
        journal,
        report_seq,
        digest,
    })
}

fn hello() -> impl Strategy<Value = Hello> {
    let incarnation = option::of(any::<[u8; 16]>().prop_map(Incarnation::new));
    let first = (cluster_id(), journal(), vec(any::<u16>(), 0..4), any::<u32>(), incarnation);
    let second = (order(), option::of(digest()), any::<[u8; 16]>().prop_map(Nonce::new), time(), text());
    (first, second).prop_map(|((cluster, journal, documents, root_version, incarnation), rest)| {
        let (order, desired, nonce, clock, agent) = rest;
        Hello { cluster, journal, documents, root_version, incarnation, order, desired, nonce, clock, agent }
    })
}

fn encoding() -> impl Strategy<Value = Encoding> {
    select(vec![Encoding::Plain, Encoding::Zstd, Encoding::ZstdDelta])
}

fn want() -> impl Strategy<Value = Want> {
    (cluster_id(), digest(), encoding(), option::of(digest()), any::<u64>()).prop_map(
        |(cluster, target, encoding, base, offset)| Want { cluster, target, encoding, base, offset },
    )
}

fn condition() -> impl Strategy<Value = Condition> {
    let status = select(vec![ConditionStatus::True, ConditionStatus::False, ConditionStatus::Unknown]);
    (text(), status, text(), text()).prop_map(|(kind, status, reason, message)| Condition {
        kind: kind.into(),
        status,
        reason: reason.into(),
        message,
    })
}

fn app_report() -> impl Strategy<Value = AppReport> {
    let reference = || {
        let parts = (digest(), text(), any::<u64>());
        option::of(parts.prop_map(|(digest, version, counter)| ReleaseRef {
            digest,
            version: version.into(),
            counter,
        }))
    };
    let rejected = (digest(), text(), text()).prop_map(|(digest, reason, message)| Rejection {
        digest,
        reason,
        message,
    });
    let worst = || {
        (text(), text(), text()).prop_map(|(object, reason, message)| ObjectMessage {
            object,
            reason,
            message,
        })
    };
    let preview = (any::<[u32; 7]>(), vec(worst(), 0..3)).prop_map(|(counts, objects)| {
        let [unchanged, create, change, adopt, conflict, refuse, delete] = counts;
        Preview { unchanged, create, change, adopt, conflict, refuse, delete, objects }
    });
    let drift = (text(), text(), time(), any::<u32>()).prop_map(|(object, manager, found, count)| Drift {
        object,
        manager,
        found,
        count,
    });
    let counts = any::<[u32; 4]>().prop_map(|[desired, applied, healthy, failed]| Counts {
        desired,
        applied,
        healthy,
        failed,
    });
    let state = select(vec![AppState::Pending, AppState::Available, AppState::Removed, AppState::Observed]);
    let first = (app(), state, reference(), reference(), reference(), option::of(rejected));
    let second = (vec(condition(), 0..3), option::of(worst()), counts, vec(drift, 0..3), option::of(preview));
    (first, second).prop_map(|((app, state, accepted, applied, reverted, rejected), rest)| {
        let (conditions, worst, counts, drift, preview) = rest;
        AppReport {
            app,
            state,
            accepted,
            applied,
            reverted,
            rejected,
            conditions,
            worst,
            counts,
            drift,
            preview,
        }
    })
}

fn report() -> impl Strategy<Value = Report> {
    let first = (cluster_id(), journal(), any::<u64>(), order(), digest());
    let second = (vec(app_report(), 0..3), vec(condition(), 0..3), time(), text(), text());
    (first, second).prop_map(|((cluster, journal, report_seq, order, digest), rest)| {
        let (apps, conditions, clock, kubernetes, agent) = rest;
        Report {
            cluster,
            journal,
            report_seq,
            order,
            digest,
            apps,
            conditions,
            clock,
            kubernetes: kubernetes.into(),
            agent: agent.into(),
        }
    })
}

fn chunk() -> impl Strategy<Value = Chunk> {
    (digest(), encoding(), any::<u32>(), vec(any::<u8>(), 0..200), any::<u32>()).prop_map(
        |(target, encoding, offset, bytes, more)| Chunk {
            target,
            encoding,
            total: u64::from(offset) + bytes.len() as u64 + u64::from(more),
            offset: u64::from(offset),
            bytes,
        },
    )
}

fn join_code() -> impl Strategy<Value = JoinCode> {
    let token = "[a-z0-9]{8,32}".prop_map(|text| TokenId::new(text).unwrap());
    let parts = (cluster_id(), fleet_id(), text(), text(), digest(), digest(), token, any::<[u8; 16]>());
    parts.prop_map(|(cluster, fleet, enrol, broker, ca_pin, root, token, secret)| JoinCode {
        cluster,
        fleet,
        enrol,
        broker,
        ca_pin,
        root,
        token,
        secret: JoinSecret::new(secret),
    })
}

fn enrol_answer() -> impl Strategy<Value = EnrolAnswer> {
    prop_oneof![
        (text(), vec(any::<u8>(), 0..100))
            .prop_map(|(certificates, root)| EnrolAnswer::Granted { certificates, root }),
        text().prop_map(|message| EnrolAnswer::Refused { message }),
    ]
}

fn renew_ask() -> impl Strategy<Value = RenewAsk> {
    let certificate = (vec(any::<u8>(), 0..CHALLENGE_BYTES), vec(any::<u8>(), 0..100));
    prop_oneof![
        Just(RenewAsk::Challenge { cluster: tower() }),
        certificate.prop_map(|(challenge, csr)| {
            let key = key(common::CLUSTER);
            let ask = CertificateAsk::new(&fleet(), &tower(), &key, challenge, csr);
            RenewAsk::Certificate { ask: ask.unwrap() }
        }),
    ]
}

fn renew_answer() -> impl Strategy<Value = RenewAnswer> {
    prop_oneof![
        vec(any::<u8>(), 0..CHALLENGE_BYTES).prop_map(|challenge| RenewAnswer::Challenge { challenge }),
        text().prop_map(|certificate| RenewAnswer::Granted { certificate }),
        text().prop_map(|message| RenewAnswer::Refused { message }),
    ]
}

fn carried_record() -> impl Strategy<Value = Record> {
    let carried = (app(), text(), any::<bool>(), option::of(text()))
        .prop_map(|(app, version, included, withheld)| Carried { app, version, included, withheld });
    let down = (order(), time(), vec(carried, 0..3)).prop_map(|(order, valid_until, apps)| Way::ToCluster {
        order,
        valid_until,
        apps,
    });
    let way = prop_oneof![Just(Way::ToHub), down];
    let label = (fleet_id(), cluster_id(), time(), way).prop_map(|(fleet, cluster, made, way)| Label {
        fleet,
        cluster,
        made,
        way,
    });
    let bytes = || vec(any::<u8>(), 0..32);
    prop_oneof![
        label.prop_map(Record::Label),
        bytes().prop_map(Record::Head),
        bytes().prop_map(Record::Desired),
        bytes().prop_map(Record::Piece),
        bytes().prop_map(Record::Report),
        digest().prop_map(Record::End),
    ]
}

fn reads_back<T>(value: &T) -> Result<(), TestCaseError>
where
    T: serde::Serialize + for<'a> serde::Deserialize<'a> + PartialEq + std::fmt::Debug,
{
    let bytes = codec::encode(value);
    prop_assert_eq!(&codec::decode::<T>("value", &bytes).unwrap(), value);
    let longer = [bytes.as_slice(), &[0]].concat();
    prop_assert!(codec::decode::<T>("value", &longer).is_err());
    prop_assert!(codec::decode::<T>("value", &bytes[..bytes.len() - 1]).is_err());
    Ok(())
}

/// Decodes or not, and if it does, those bytes were its encoding.
fn is_faithful<T>(bytes: &[u8]) -> Result<(), TestCaseError>
where
    T: serde::Serialize + for<'a> serde::Deserialize<'a>,
{
    if let Ok(value) = codec::decode::<T>("value", bytes) {
        prop_assert_eq!(codec::encode(&value), bytes);
    }
    Ok(())
}

macro_rules! read_back {
    ($($test:ident: $strategy:expr;)*) => {
        proptest! {
            #![proptest_config(ProptestConfig::with_cases(64))]
            $(#[test] fn $test(value in $strategy) { reads_back(&value)?; })*
        }
    };
}

read_back! {
    roots_read_back: root();
    releases_read_back: release();
    desired_states_read_back: desired();
    heads_read_back: head();
    acks_read_back: ack();
    roots_of_acks_read_back: digest().prop_map(|root| Acks { root });
    carried_heads_read_back: head().prop_map(|head| CarryHead { head });
    hellos_read_back: hello();
    wants_read_back: want();
    reports_read_back: report();
    enrolment_answers_read_back: enrol_answer();
    renewals_read_back: renew_ask();
    answers_to_renewals_read_back: renew_answer();
    carried_records_read_back: carried_record();
}

/// Bytes of a document with a few of them changed: closer to the decoder's inner cases than noise is.
fn damaged() -> impl Strategy<Value = (DocumentType, Vec<u8>)> {
    let damage = vec((any::<prop::sample::Index>(), any::<u8>()), 1..6);
    (select(DocumentType::ALL.to_vec()), damage).prop_map(|(kind, damage)| {
        let mut bytes = common::payload(kind);
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        (kind, bytes)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn pieces_read_back(chunk in chunk()) {
        prop_assert_eq!(Chunk::decode(&chunk.encode()).unwrap(), chunk);
    }

    #[test]
    fn join_codes_read_back(code in join_code()) {
        prop_assert_eq!(code.to_string().parse::<JoinCode>().unwrap(), code);
    }

    #[test]
    fn enrolment_asks_read_back(code in join_code(), csr in vec(any::<u8>(), 0..100)) {
        let ask = EnrolAsk::new(&code, &key(common::CLUSTER), csr);
        reads_back(&ask)?;
        prop_assert!(ask.is_proved(&code.cluster, &code.token, &code.secret));
    }

    #[test]
    fn identifiers_read_back(cluster in cluster_id(), app in app(), digest in digest(), pattern in pattern()) {
        prop_assert_eq!(cluster.to_string().parse::<ClusterId>().unwrap(), cluster);
        prop_assert_eq!(app.to_string().parse::<AppId>().unwrap(), app);
        prop_assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
        prop_assert_eq!(pattern.to_string().parse::<NamespacePattern>().unwrap(), pattern);
    }

    #[test]
    fn topics_read_back(cluster in cluster_id()) {
        for leaf in Upward::ALL {
            prop_assert_eq!(parse_upward(&leaf.topic(&cluster)).unwrap(), (cluster.clone(), leaf));
        }
        for leaf in Downward::ALL {
            prop_assert_eq!(parse_downward(&leaf.topic(&cluster)).unwrap(), (cluster.clone(), leaf));
        }
    }

    #[test]
    fn any_text_is_a_topic_only_if_it_reads_back(text in "(ef/v1/c/)?[a-z0-9/#+$-]{0,20}(/u/hello)?|\\PC*") {
        if let Ok((cluster, leaf)) = parse_upward(&text) {
            prop_assert_eq!(leaf.topic(&cluster), text);
        }
    }

    #[test]
    fn noise_never_verifies(bytes in vec(any::<u8>(), 0..300)) {
        for kind in DocumentType::ALL {
            prop_assert!(verdict(kind, &bytes).is_err());
        }
    }

    #[test]
    fn noise_never_panics(bytes in vec(any::<u8>(), 0..300), text in "(ef1-)?\\PC{0,80}") {
        is_faithful::<Chunk>(&bytes)?;
        let _ = text.parse::<JoinCode>();
        is_faithful::<EnrolAsk>(&bytes)?;
        is_faithful::<EnrolAnswer>(&bytes)?;
    }

    #[test]
    fn signed_noise_never_panics(bytes in vec(any::<u8>(), 0..300)) {
        for kind in DocumentType::ALL {
            let signed = sign_payload(kind, &fleet(), &tower(), &bytes, &signers(kind));
            let _ = verdict(kind, &signed);
        }
    }

    #[test]
    fn damage_that_decodes_is_still_the_one_encoding((kind, bytes) in damaged()) {
        match kind {
            DocumentType::Root => is_faithful::<Root>(&bytes)?,
            DocumentType::Release => is_faithful::<Release>(&bytes)?,
            DocumentType::Desired => is_faithful::<Desired>(&bytes)?,
            DocumentType::Head => is_faithful::<Head>(&bytes)?,
            DocumentType::Ack => is_faithful::<Ack>(&bytes)?,
            DocumentType::Acks => is_faithful::<Acks>(&bytes)?,
            DocumentType::CarryHead => is_faithful::<CarryHead>(&bytes)?,
            DocumentType::Hello => is_faithful::<Hello>(&bytes)?,
            DocumentType::Want => is_faithful::<Want>(&bytes)?,
            DocumentType::Report => is_faithful::<Report>(&bytes)?,
        }
        let signed = sign_payload(kind, &fleet(), &tower(), &bytes, &signers(kind));
        let _ = verdict(kind, &signed);
    }
}
