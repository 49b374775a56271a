use protocol::{documents::Ceilings, ids::Digest};
use serde_json::{Value, json};
use std::collections::BTreeMap;

use super::*;
use crate::{
    logic::{
        app::Forecast,
        entry::{Accepted, Owned},
        event::Inspection,
        health::{Health, Status},
    },
    testing::Fleet,
};

const NOW: Duration = Duration::from_secs(1000);

fn config(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "radio"}})
}

/// An application of one object that is looked at, with what is known of it.
fn app(adopt: Adopt, state: ObjectState) -> (App, ObjectRef) {
    let bundle = Fleet::new().bundle(1, &[config("web")], Ceilings { adopt, ..Ceilings::default() });
    let accepted = Accepted {
        release: bundle.release.digest(),
        values: BTreeMap::new(),
        mode: Mode::DryRun,
        depends_on: Vec::new(),
        enforce: None,
    };
    let current = Current::new(bundle.release, accepted).unwrap();
    let object = object_ref(&current.release, 0);
    let objects = BTreeMap::from([(object.clone(), state)]);
    (App { current: Some(current), objects, ..App::default() }, object)
}

fn there(version: &str) -> Found {
    Found::Present(Box::new(Inspection {
        uid: "uid".to_owned(),
        resource_version: version.to_owned(),
        apply_set: None,
        owned: None,
        health: Health { status: Status::Current, reason: String::new(), message: String::new() },
        changed_by: Vec::new(),
        deleting: false,
    }))
}

fn forecast(of: Option<&str>, at: Duration, foreseen: Foreseen) -> Option<Forecast> {
    Some(Forecast { of: of.map(str::to_owned), at, foreseen })
}

#[test]
fn what_would_be_done_depends_on_whose_it_is() {
    let change = || Foreseen::Change(vec![".data.a".to_owned()]);
    let taken = FieldTaken { manager: "kubectl".to_owned(), field: ".data.a".to_owned(), ours: false };
    let conflict = || Foreseen::Conflict(vec![taken.clone()]);
    let held = ".data.a held by kubectl";
    let refuse =
        |why: &str| Verdict::Refuse("AlreadyExists".to_owned(), format!("it is not ours, and {why}"));
    let differs = |what: &str| refuse(&format!("{DIFFERS}: {what}"));
    let cases = [
        // what the dry run said, whether it is ours, what may be adopted, what is told
        (Foreseen::Same, true, Adopt::Never, Verdict::Unchanged),
        (change(), true, Adopt::Never, Verdict::Change(".data.a".to_owned())),
        (conflict(), true, Adopt::Never, Verdict::Conflict(held.to_owned())),
        (Foreseen::Same, false, Adopt::Never, refuse(NOTHING_ADOPTED)),
        (change(), false, Adopt::Never, refuse(NOTHING_ADOPTED)),
        (Foreseen::Same, false, Adopt::IfIdentical, Verdict::Adopt),
        (change(), false, Adopt::IfIdentical, differs(".data.a")),
        (conflict(), false, Adopt::IfIdentical, differs(held)),
        (Foreseen::Same, false, Adopt::Always, Verdict::Adopt),
        (change(), false, Adopt::Always, Verdict::Change(".data.a".to_owned())),
        (conflict(), false, Adopt::Always, Verdict::Conflict(held.to_owned())),
    ];
    for (foreseen, ours, adopt, expected) in cases {
        let what = format!("{foreseen:?} {ours} {adopt:?}");
        let cast = forecast(Some("1"), NOW, foreseen);
        let (mut app, object) =
            app(adopt, ObjectState { found: there("1"), forecast: cast, ..ObjectState::default() });
        let uid = ours.then(|| "uid".to_owned());
        let owned = Owned { uid, source: Digest::of(b"another"), ..Owned::intended() };
        app.inventory.insert(object.clone(), owned);
        assert_eq!(verdict(&app, app.current.as_ref().unwrap(), &object), expected, "{what}");
    }
}

#[derive(Clone, Copy)]
enum Due {
    Look,
    DryRun,
}

#[test]
fn looks_and_dry_runs_have_their_time() {
    let ago = |seconds: u64| Some(NOW - Duration::from_secs(seconds));
    let known = |found: Found, seen: u64, of: Option<&str>, at: u64| ObjectState {
        found,
        inspected_at: ago(seen),
        forecast: forecast(of, NOW - Duration::from_secs(at), Foreseen::Same),
        ..ObjectState::default()
    };
    let seen = |found: Found| ObjectState { found, inspected_at: ago(1), ..ObjectState::default() };
    let stale = |state: ObjectState| ObjectState { stale: true, ..state };
    let (look, dry_run) = (Some(Due::Look), Some(Due::DryRun));
    let cases = [
        ("never seen", ObjectState::default(), look),
        ("under way", ObjectState { busy: true, ..ObjectState::default() }, None),
        ("seen", seen(there("1")), dry_run),
        ("not there", seen(Found::Absent), dry_run),
        ("known", known(there("1"), 1, Some("1"), 1), None),
        ("known not to be there", known(Found::Absent, 1, None, 1), None),
        ("changed right after a dry run", known(there("2"), 1, Some("1"), 1), None),
        ("changed", known(there("2"), 1, Some("1"), 10), dry_run),
        ("gone", known(Found::Absent, 1, Some("1"), 10), dry_run),
        ("told to have changed", stale(known(there("1"), 1, Some("1"), 1)), look),
        ("told so right after a look", stale(known(there("1"), 0, Some("1"), 10)), None),
        ("not seen for long", known(there("1"), 60, Some("1"), 60), look),
    ];
    for (what, state, expected) in cases {
        let (app, object) = app(Adopt::Never, state);
        let found = actions(&app, app.current.as_ref().unwrap(), NOW);
        let expected = expected.map(|due| match due {
            Due::Look => Action::Inspect(object),
            Due::DryRun => Action::Apply(object, 0, How::DryRun),
        });
        assert_eq!(found, Vec::from_iter(expected), "{what}");
    }
}
