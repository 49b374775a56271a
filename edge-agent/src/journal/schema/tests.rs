use std::collections::BTreeMap;

use protocol::{
    codec,
    documents::{
        AppReport, AppState, Condition, ConditionStatus, Counts, Drift, Mode, ObjectMessage, ObjectRule,
        Preview, Rejection, ReleaseRef,
    },
    ids::{AppId, Digest, Incarnation, JournalId, Name},
    time::UnixSeconds,
};
use serde::{Deserialize, Serialize};

use super::*;
use crate::logic::{
    entry::{Accepted, AppRow, DesiredRow, Healed, Hold, Owned, Refused, ReportRow, Row},
    object::{Gvk, ObjectRef},
};

/// What the rows of each schema look like: a digest of one of every kind, with every field set.
const LAYOUTS: &[&str] = &[
    "c44490902a4d13445b7db00889bedd22352165d8d6fd39915b2263d915272372",
    "8294f479c9c1bfba1cde552f5da8ce7aa01a44c94ba45a455ad77129014c36c2",
];

#[test]
fn rows_are_those_of_this_schema() {
    let bytes: Vec<u8> = full().iter().flat_map(|row| [row.key().encode(), row.encode()].concat()).collect();
    let found = Digest::of(&bytes).to_string();
    let said = "rows changed: do as journal/schema.rs says, and add this line";
    assert_eq!(LAYOUTS.last(), Some(&found.as_str()), "{said}: {found}");
    assert_eq!(LAYOUTS.len(), UPGRADES.len(), "one line for each schema");
}

/// A row as a coming version might have it.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Coming {
    reason: String,
    since: UnixSeconds,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<UnixSeconds>,
}

#[test]
fn a_row_that_gained_a_field_reads_what_was_written_before() {
    let today = Hold { reason: "crane".to_owned(), since: UnixSeconds(7) };
    let written = codec::encode(&today);
    let read: Coming = codec::decode("coming", &written).unwrap();
    assert_eq!(read, Coming { reason: "crane".to_owned(), since: UnixSeconds(7), until: None });
    assert_eq!(codec::encode(&read), written, "and leaves it as it is");
    let coming = codec::encode(&Coming { until: Some(UnixSeconds(9)), ..read });
    codec::decode::<Hold>("today", &coming).unwrap_err();
}

/// No `..` here: a field that is added must be set.
fn full() -> Vec<Row> {
    let (app, digest) = (AppId::new("radio", "web").unwrap(), Digest::of(b"digest"));
    let accepted = Accepted {
        release: digest,
        values: BTreeMap::from([("name".to_owned(), "value".to_owned())]),
        mode: Mode::Enforce,
        depends_on: vec![Name::new("database").unwrap()],
        enforce: Some(vec![ObjectRule {
            kind: "Deployment".to_owned(),
            namespace: Some("radio".to_owned()),
            name: Some("web".to_owned()),
        }]),
    };
    let rejection = Rejection { digest, reason: "OutOfScope".to_owned(), message: "why".to_owned() };
    let named = ReleaseRef { digest, version: "1.0.2".into(), counter: 2 };
    let gvk = Gvk { group: "apps".to_owned(), version: "v1".to_owned(), kind: "Deployment".to_owned() };
    let object = ObjectRef { gvk, namespace: Some("radio".to_owned()), name: "web".to_owned() };
    vec![
        Row::Life(JournalId::new([1; 16])),
        Row::Root(vec![2]),
        Row::Desired(DesiredRow { bytes: vec![3], root_version: 4, incarnation: Incarnation::new([5; 16]) }),
        Row::Clock(UnixSeconds(6)),
        Row::Hold(Hold { reason: "crane".to_owned(), since: UnixSeconds(7) }),
        Row::Acked(8),
        Row::App(
            app.clone(),
            AppRow {
                accepted: Some(accepted.clone()),
                previous: Some(accepted.clone()),
                applied: Some(named),
                rejected: Some(Refused { named: accepted, rejection }),
                floor: 9,
                removing: true,
            },
        ),
        Row::Release(digest, vec![10]),
        Row::Report(app.clone(), ReportRow { seq: 14, report: report(&app) }),
        Row::Object(
            app,
            object,
            Owned {
                uid: Some("uid".to_owned()),
                source: digest,
                owned: vec![11],
                drifted_by: Some("kubectl".to_owned()),
                healed: Some(Healed { manager: "kubectl".to_owned(), at: UnixSeconds(12), count: 13 }),
            },
        ),
    ]
}

fn report(app: &AppId) -> AppReport {
    let (digest, text) = (Digest::of(b"digest"), |text: &str| text.to_owned());
    let named = || Some(ReleaseRef { digest, version: text("1.0.2").into(), counter: 2 });
    AppReport {
        app: app.clone(),
        state: AppState::Available,
        accepted: named(),
        applied: named(),
        reverted: named(),
        rejected: Some(Rejection { digest, reason: text("OutOfScope"), message: text("why") }),
        conditions: vec![Condition {
            kind: text("Applied").into(),
            status: ConditionStatus::True,
            reason: text("Applied").into(),
            message: text("all"),
        }],
        worst: Some(ObjectMessage {
            object: text("Pod radio/web"),
            reason: text("Failed"),
            message: text("why"),
        }),
        counts: Counts { desired: 1, applied: 2, healthy: 3, failed: 4 },
        drift: vec![Drift {
            object: text("Pod radio/web"),
            manager: text("me"),
            found: UnixSeconds(5),
            count: 6,
        }],
        preview: Some(Preview {
            unchanged: 1,
            create: 2,
            change: 3,
            adopt: 4,
            conflict: 5,
            refuse: 6,
            delete: 7,
            objects: vec![ObjectMessage {
                object: text("Pod radio/web"),
                reason: text("WouldChange"),
                message: text(".spec"),
            }],
        }),
    }
}
