//! Objects that are only looked at: when to look, what applying them would do, and what is told of that.

use std::time::Duration;

use protocol::documents::{Adopt, AppReport, Condition, ConditionStatus, Mode, ObjectMessage, Preview};

use super::{
    app::{self, App, Current, Found, ObjectState},
    event::{FieldTaken, Foreseen, How, object_ref},
    health::Status,
    object::ObjectRef,
    plan::{Action, DIFFERS, INSPECT_INTERVAL, NOTHING_ADOPTED},
    report::condition,
};

/// Shortest time between two looks at an object without a sign that it changed. Watches tell only of what is ours.
pub const LOOK_INTERVAL: Duration = Duration::from_secs(60);

/// Looks at one application's objects each second, where it has more objects than [`LOOK_INTERVAL`] has seconds: an API
/// server of a small site has other things to do.
const LOOKS_PER_SECOND: u64 = 2;

/// Shortest time between two dry runs of one object: a busy controller must not keep the API server busy.
pub const DRY_RUN_INTERVAL: Duration = Duration::from_secs(10);

/// Longest text about one object, in bytes: a report carries several of each of many applications.
const TEXT_BYTES: usize = 200;

/// What applying an object would do, in the light of whose it is and what the release may adopt.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Not known yet.
    Unknown,
    /// Nothing, and it is ours.
    Unchanged,
    /// Make it.
    Create,
    /// Change these fields.
    Change(String),
    /// Take it over, and change nothing else.
    Adopt,
    /// Nothing: others hold these fields.
    Conflict(String),
    /// Nothing: for this reason, and in this sentence.
    Refuse(String, String),
}

/// The looks and dry runs that are due.
pub(super) fn actions(app: &App, current: &Current, now: Duration) -> Vec<Action> {
    let watched = watched(current);
    watched.filter_map(|(index, object)| action(app, current, index, object, now)).collect()
}

/// When looks and dry runs will be due, only because time passes.
pub(super) fn next_times(app: &App) -> Vec<Duration> {
    let Some(current) = app.current.as_ref().filter(|current| !current.is_enforced()) else {
        return Vec::new();
    };
    let states = watched(current).filter_map(|(_, object)| app.objects.get(&object));
    let dry_run = |state: &ObjectState| {
        let old = state.forecast.as_ref().filter(|_| state.foreseen().is_none());
        old.map(|cast| cast.at + DRY_RUN_INTERVAL)
    };
    let look = |state: &ObjectState| state.inspected_at.map(|at| at + look_interval(current));
    states.filter(|state| !state.busy).flat_map(|state| [dry_run(state), look(state)]).flatten().collect()
}

/// What applying an object would do.
fn verdict(app: &App, current: &Current, object: &ObjectRef) -> Verdict {
    let Some(state) = app.objects.get(object) else { return Verdict::Unknown };
    if let Some(failed) = &state.failure {
        return Verdict::Refuse(failed.failure.reason.clone(), failed.failure.message.clone());
    }
    // An older answer stands until there is a new one.
    let Some(foreseen) = state.forecast.as_ref().map(|cast| &cast.foreseen) else { return Verdict::Unknown };
    let adopt = if is_ours(app, state, object) { None } else { Some(current.release.ceilings.adopt) };
    let refuse = |why: &str, fields: &[String]| {
        let fields = if fields.is_empty() { String::new() } else { format!(": {}", fields.join(", ")) };
        Verdict::Refuse("AlreadyExists".to_owned(), format!("it is not ours, and {why}{fields}"))
    };
    match (foreseen, adopt) {
        (Foreseen::Create, _) => Verdict::Create,
        (_, Some(Adopt::Never)) => refuse(NOTHING_ADOPTED, &[]),
        (Foreseen::Same, None) => Verdict::Unchanged,
        (Foreseen::Same, Some(Adopt::IfIdentical | Adopt::Always)) => Verdict::Adopt,
        (Foreseen::Change(fields), Some(Adopt::IfIdentical)) => refuse(DIFFERS, fields),
        (Foreseen::Conflict(taken), Some(Adopt::IfIdentical)) => refuse(DIFFERS, &[holders(taken)]),
        (Foreseen::Change(fields), None | Some(Adopt::Always)) => Verdict::Change(fields.join(", ")),
        (Foreseen::Conflict(taken), None | Some(Adopt::Always)) => Verdict::Conflict(holders(taken)),
    }
}

/// Says how an application is of which something is only looked at. `report` is what is known of what is enforced.
pub(super) fn report(app: &App, current: &Current, report: &mut AppReport) {
    let Tally { preview, unknown, healthy } = tally(app, current);
    report.counts.healthy += healthy;
    let differs = preview.differing() > 0;
    let text = preview.to_string();
    let dry_run = current.accepted.mode == Mode::DryRun;
    let reason = match (differs, dry_run) {
        (false, _) => "InSync",
        (true, true) => "WouldChange",
        (true, false) => "Differs",
    };
    replace(&mut report.conditions, condition("Drifted", differs, reason, &text));
    let mode = if dry_run { "DryRun" } else { "Observed" };
    let all = report.counts.healthy == report.counts.desired;
    let available = match unknown {
        0 => condition("Available", all, mode, &healthy_text(report)),
        _ => Condition {
            status: ConditionStatus::Unknown,
            ..condition("Available", false, "Observing", &healthy_text(report))
        },
    };
    replace(&mut report.conditions, available);
    report.preview = Some(preview);
    if unknown > 0 {
        let text = format!("{unknown} of {} objects are still to be looked at", report.counts.desired);
        replace(&mut report.conditions, condition("Progressing", true, "Observing", &text));
    }
}

/// Whether something of an application was not looked at yet.
pub(super) fn is_open(app: &App, current: &Current) -> bool {
    watched(current).any(|(_, object)| verdict(app, current, &object) == Verdict::Unknown)
}

struct Tally {
    preview: Preview,
    unknown: u32,
    healthy: u32,
}

fn tally(app: &App, current: &Current) -> Tally {
    let mut tally = Tally { preview: Preview::default(), unknown: 0, healthy: 0 };
    let dry_run = current.accepted.mode == Mode::DryRun;
    for (_, object) in watched(current) {
        let verdict = verdict(app, current, &object);
        let found = app.objects.get(&object).and_then(ObjectState::inspection);
        tally.healthy += u32::from(found.is_some_and(|found| found.health.status == Status::Current));
        tally.count(dry_run, &object, verdict);
    }
    let leftovers =
        app.leftovers().filter(|(object, owned)| owned.uid.is_some() && app.successor(object).is_none());
    for (object, _) in leftovers {
        tally.preview.delete += 1;
        tally.note(
            object,
            if dry_run { "WouldDelete" } else { "NotInRelease" },
            "the release does not name it",
        );
    }
    tally
}

impl Tally {
    fn count(&mut self, dry_run: bool, object: &ObjectRef, verdict: Verdict) {
        let preview = &mut self.preview;
        let (count, words, text) = match verdict {
            Verdict::Unknown => return self.unknown += 1,
            Verdict::Unchanged => return preview.unchanged += 1,
            Verdict::Create => {
                (&mut preview.create, ["WouldCreate", "Missing"], "it is not there".to_owned())
            }
            Verdict::Change(fields) => (&mut preview.change, ["WouldChange", "Differs"], fields),
            Verdict::Adopt => return preview.adopt += 1,
            Verdict::Conflict(fields) => (&mut preview.conflict, ["WouldConflict", "Differs"], fields),
            Verdict::Refuse(reason, text) => {
                preview.refuse += 1;
                return self.note(object, &reason, &text);
            }
        };
        *count += 1;
        self.note(object, if dry_run { words[0] } else { words[1] }, &text);
    }

    fn note(&mut self, object: &ObjectRef, reason: &str, message: &str) {
        if self.preview.objects.len() < AppReport::PREVIEWED {
            let message = message[..message.floor_char_boundary(TEXT_BYTES)].to_owned();
            let (object, reason) = (object.to_string(), reason.to_owned());
            self.preview.objects.push(ObjectMessage { object, reason, message });
        }
    }
}

/// The objects that are only looked at.
fn watched(current: &Current) -> impl Iterator<Item = (usize, ObjectRef)> {
    let all = 0..current.release.objects.len();
    all.filter(|index| !current.enforces(*index)).map(|index| (index, object_ref(&current.release, index)))
}

fn action(app: &App, current: &Current, index: usize, object: ObjectRef, now: Duration) -> Option<Action> {
    let fresh = ObjectState::default();
    let state = app.objects.get(&object).unwrap_or(&fresh);
    if state.busy || state.failure.as_ref().is_some_and(|failed| failed.retry_at > now) {
        return None;
    }
    let since = |wait: Duration| state.inspected_at.is_none_or(|at| now >= at + wait);
    let unknown = matches!(state.found, Found::Unknown);
    if (state.stale || unknown) && since(INSPECT_INTERVAL) || since(look_interval(current)) {
        return Some(Action::Inspect(object));
    }
    let settled = state.forecast.as_ref().is_none_or(|cast| now >= cast.at + DRY_RUN_INTERVAL);
    let due = !state.stale && !unknown && state.foreseen().is_none() && settled;
    due.then_some(Action::Apply(object, index, How::DryRun))
}

fn look_interval(current: &Current) -> Duration {
    let objects = current.release.objects.len() as u64;
    LOOK_INTERVAL.max(Duration::from_secs(objects / LOOKS_PER_SECOND))
}

fn is_ours(app: &App, state: &ObjectState, object: &ObjectRef) -> bool {
    let Some(found) = state.inspection() else { return true };
    let recorded = app.inventory.get(object).and_then(|owned| owned.uid.as_ref());
    let labelled = || {
        let release = app.current.as_ref().map(|current| &current.release);
        release.is_some_and(|release| found.apply_set.as_deref() == Some(&*app::apply_set(&release.app)))
    };
    recorded == Some(&found.uid) || labelled()
}

fn holders(taken: &[FieldTaken]) -> String {
    let one = |field: &FieldTaken| format!("{} held by {}", field.field, field.manager);
    taken.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn healthy_text(report: &AppReport) -> String {
    format!("{} of {} objects are healthy", report.counts.healthy, report.counts.desired)
}

fn replace(conditions: &mut Vec<Condition>, condition: Condition) {
    match conditions.iter_mut().find(|one| one.kind == condition.kind) {
        Some(one) => *one = condition,
        None => conditions.push(condition),
    }
}

#[cfg(test)]
#[cfg(feature = "sim")]
mod tests;
