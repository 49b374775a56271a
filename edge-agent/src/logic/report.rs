//! What the hub is told: one row for each application, coalesced until the hub has it, and nothing else.

use std::{collections::BTreeMap, time::Duration};

use protocol::{
    documents::{
        AppReport, AppState, Condition, ConditionStatus, Counts, Drift, ObjectMessage, Rejection, ReleaseRef,
        Report,
    },
    ids::{AppId, Digest},
    limits,
    planted::Bug,
};

pub use super::instant::instant;
use super::{
    app::{App, Current, ObjectState},
    entry::ReportRow,
    event::{Failure, object_ref},
    health::Status,
    object::ObjectRef,
    preview,
};

/// How long changes are gathered before they are journaled and sent: an apply of many objects is one report.
pub const GATHER: Duration = Duration::from_millis(300);

/// How long to wait for the hub's acknowledgement before sending again.
pub const RESEND: Duration = Duration::from_secs(30);

/// Says how an application is. None while it cannot be told yet: right after a start, until every object that was
/// applied was looked at once, what was reported before still stands.
pub fn assess(app: &App, refused: Option<String>) -> Option<AppReport> {
    let current = app.current.as_ref();
    if app.report.is_some() && !app.is_observed() {
        return None;
    }
    let watched = current.filter(|current| !current.is_enforced() && !app.row.removing);
    let refused = refused.filter(|_| watched.is_none());
    let tally = current.map(|current| tally(app, current, refused.as_deref())).unwrap_or_default();
    let state = state(app, &tally, refused.is_some());
    let mut report = AppReport {
        app: current.map(|current| current.release.app.clone())?,
        state,
        accepted: current.map(Current::reference),
        applied: app.row.applied.clone(),
        reverted: None,
        rejected: app.row.rejected.as_ref().map(|refused| refused.rejection.clone()),
        conditions: conditions(app, &tally, refused),
        worst: tally.worst.map(|(_, worst)| worst),
        counts: tally.counts,
        drift: drift(app),
        preview: None,
    };
    if let Some(current) = watched {
        preview::report(app, current, &mut report);
    }
    Some(report)
}

/// Says how an application is that has nothing to run yet, or no longer.
pub fn assess_empty(id: &AppId, app: &App) -> AppReport {
    let state = match (&app.row.rejected, app.row.removing) {
        (_, true) => AppState::Removed,
        (Some(_), false) => AppState::Rejected,
        (None, false) => AppState::Pending,
    };
    AppReport {
        app: id.clone(),
        state,
        accepted: None,
        applied: None,
        reverted: None,
        rejected: app.row.rejected.as_ref().map(|refused| refused.rejection.clone()),
        conditions: app.waits_for.iter().map(|(why, text)| waiting(why, text)).collect(),
        worst: None,
        counts: Counts::default(),
        drift: Vec::new(),
        preview: None,
    }
}

/// A condition, with its message cut to what a report may carry.
pub fn condition(kind: &str, holds: bool, reason: &str, message: &str) -> Condition {
    let status = if holds { ConditionStatus::True } else { ConditionStatus::False };
    Condition { kind: kind.into(), status, reason: reason.into(), message: cut(message) }
}

/// A refusal, with its message cut to what a report may carry.
pub fn rejection(digest: Digest, reason: &str, message: &str) -> Rejection {
    Rejection { digest, reason: reason.to_owned(), message: cut(message) }
}

/// The text, or as much of it as a report may carry.
pub fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(limits::MESSAGE_TEXT_BYTES)].to_owned()
}

/// An error with all of its causes.
pub fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// The rows that wait for the hub, and what it has acknowledged.
#[derive(Debug, Default)]
pub struct Outbox {
    /// Number of the newest row.
    pub seq: u64,
    /// The newest row the hub has.
    pub acked: u64,
    /// The newest that it ever had: in the journal, so that no number is used for another report after a restart.
    pub recorded: u64,
    /// When gathered changes are to be journaled and sent.
    pub flush_at: Option<Duration>,
    /// When to send again what was not acknowledged.
    pub resend_at: Option<Duration>,
    /// Whether everything was sent again since the last heartbeat.
    pub resent: bool,
}

impl Outbox {
    /// Has changes sent soon, together with those that follow.
    pub fn gather(&mut self, now: Duration) {
        self.flush_at.get_or_insert(now + GATHER);
    }

    /// The rows the hub does not have yet, oldest first, as many as one report carries.
    pub fn unacknowledged<'a>(&self, apps: &'a BTreeMap<AppId, App>) -> Vec<&'a ReportRow> {
        let mut rows: Vec<&ReportRow> = apps.values().filter_map(|app| app.report.as_ref()).collect();
        rows.retain(|row| row.seq > self.acked);
        rows.sort_by_key(|row| row.seq);
        rows.truncate(Report::APPS);
        rows
    }
}

/// The digest of every report, as the hub computes it of what it holds. What is removed counts on neither side.
pub fn digest(apps: &BTreeMap<AppId, App>) -> Digest {
    let reports = apps.values().filter_map(|app| app.report.as_ref()).map(|row| &row.report);
    Report::digest_of(reports.filter(|report| report.state != AppState::Removed))
}

#[derive(Default)]
struct Tally {
    counts: Counts,
    attempted: bool,
    worst: Option<(Severity, ObjectMessage)>,
    progressing: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Severity {
    Progressing,
    Unhealthy,
    NotApplied,
}

fn tally(app: &App, current: &Current, prune_refusal: Option<&str>) -> Tally {
    let mut tally = Tally { attempted: true, ..Tally::default() };
    let fresh = ObjectState::default();
    for index in 0..current.release.objects.len() {
        let object = object_ref(&current.release, index);
        let state = app.objects.get(&object).unwrap_or(&fresh);
        tally.counts.desired += 1;
        if !current.enforces(index) {
            continue;
        }
        tally.object(app.is_applied(index), &object, state);
    }
    if let (Some(message), Some((first, _))) = (prune_refusal, app.leftovers().next()) {
        tally.note(Severity::NotApplied, first, "PruneRefused", message);
    }
    let leftovers = app.leftovers().filter_map(|(object, _)| Some((object, app.objects.get(object)?)));
    for (object, failed) in leftovers.filter_map(|(object, state)| Some((object, state.failure.as_ref()?))) {
        tally.note(Severity::Unhealthy, object, &failed.failure.reason, &failed.failure.message);
    }
    tally
}

impl Tally {
    fn object(&mut self, applied: bool, object: &ObjectRef, state: &ObjectState) {
        self.counts.applied += u32::from(applied);
        let health = state.inspection().map(|inspection| &inspection.health);
        if let Some(Failure { reason, message, .. }) = state.failure.as_ref().map(|failed| &failed.failure) {
            self.counts.failed += 1;
            self.note(Severity::NotApplied, object, reason, message);
            return;
        }
        self.attempted &= applied;
        let Some(health) = health.filter(|_| applied) else { return };
        match health.status {
            Status::Current => self.counts.healthy += 1,
            Status::Progressing if Bug::ReadyTooEarly.is_planted() => self.counts.healthy += 1,
            Status::Failed => {
                self.counts.failed += 1;
                self.note(Severity::Unhealthy, object, &health.reason, &health.message);
            }
            Status::Progressing | Status::Terminating | Status::Unknown => {
                self.progressing += 1;
                self.note(Severity::Progressing, object, &health.reason, &health.message);
            }
        }
    }

    fn note(&mut self, severity: Severity, object: &ObjectRef, reason: &str, message: &str) {
        if self.worst.as_ref().is_none_or(|(worst, _)| severity > *worst) {
            let (object, reason) = (object.to_string(), reason.to_owned());
            self.worst = Some((severity, ObjectMessage { object, reason, message: cut(message) }));
        }
    }
}

fn state(app: &App, tally: &Tally, prune_refused: bool) -> AppState {
    let broken = tally.counts.failed > 0 || prune_refused;
    let named = app.named.as_ref().map(|named| &named.accepted);
    let refused = app.row.rejected.as_ref().is_some_and(|refused| Some(&refused.named) == named);
    let watched = app.current.as_ref().filter(|current| !current.is_enforced());
    match () {
        () if app.row.removing => AppState::Removing,
        () if refused => AppState::Rejected,
        () if !tally.attempted => AppState::Applying,
        () if broken => AppState::Degraded,
        () if watched.is_some_and(|current| preview::is_open(app, current)) => AppState::Pending,
        () if watched.is_some() => AppState::Observed,
        () if tally.progressing > 0 => AppState::Progressing,
        () if tally.counts.healthy < tally.counts.desired => AppState::Applying,
        // What the release no longer names is a part of it too: that it is gone.
        () if app.leftovers().next().is_some() => AppState::Applying,
        () => AppState::Available,
    }
}

fn conditions(app: &App, tally: &Tally, prune_refusal: Option<String>) -> Vec<Condition> {
    let Counts { desired, applied, healthy, failed } = tally.counts;
    let worst = tally.worst.as_ref().map(|(_, worst)| worst);
    let text = worst.map(|w| format!("{}: {}: {}", w.object, w.reason, w.message)).unwrap_or_default();
    let reason = worst.map_or("AsExpected", |worst| worst.reason.as_str());
    let all_applied = applied == desired && prune_refusal.is_none() && app.leftovers().next().is_none();
    let is_refused = prune_refusal.is_some();
    let applied_text = prune_refusal.unwrap_or_else(|| format!("{applied} of {desired} objects are applied"));
    let mut conditions = vec![
        condition("Applied", all_applied, if all_applied { "Applied" } else { "Incomplete" }, &applied_text),
        condition(
            "Available",
            healthy == desired && failed == 0,
            reason,
            &if text.is_empty() {
                format!("{healthy} of {desired} objects are healthy")
            } else {
                text.clone()
            },
        ),
        condition("Degraded", failed > 0 || is_refused, reason, &text),
    ];
    match &app.waits_for {
        Some((why, message)) => conditions.push(waiting(why, message)),
        None => conditions.push(condition(
            "Progressing",
            tally.progressing > 0 || !tally.attempted,
            reason,
            &text,
        )),
    }
    let drifted = app.inventory.iter().find_map(|(object, owned)| Some((object, owned.drifted_by.as_ref()?)));
    let drift_text = drifted.map(|(object, by)| format!("{object} was changed by {by}"));
    let drift_reason = if drifted.is_some() { "ChangedByOthers" } else { "InSync" };
    conditions.push(condition("Drifted", drifted.is_some(), drift_reason, &drift_text.unwrap_or_default()));
    conditions
}

fn waiting(reason: &str, message: &str) -> Condition {
    condition("Progressing", true, reason, message)
}

fn drift(app: &App) -> Vec<Drift> {
    let healed = app.inventory.iter().filter_map(|(object, owned)| Some((object, owned.healed.as_ref()?)));
    let mut drift: Vec<Drift> = healed
        .map(|(object, healed)| Drift {
            object: object.to_string(),
            manager: cut(&healed.manager),
            found: healed.at,
            count: healed.count,
        })
        .collect();
    drift.sort_by(|a, b| b.found.cmp(&a.found).then_with(|| a.object.cmp(&b.object)));
    drift.truncate(AppReport::DRIFTS);
    drift
}

/// Whether `report` says that `release` runs and is healthy.
pub fn is_available(report: &AppReport, release: Option<&ReleaseRef>) -> bool {
    report.state == AppState::Available && report.accepted.as_ref() == release
}
