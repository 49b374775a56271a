//! What to do next for one application: a function of what is desired, what was observed and what we own.
//! It looks at levels, never at edges, so a restart anywhere goes on from where the journal stands.

use std::time::Duration;

use protocol::{ceilings, documents::Adopt};

use super::{
    app::{App, Current, Found, ObjectState, ParentState, refuse},
    event::{Failure, Foreseen, How},
    health::Status,
    object::ObjectRef,
    preview,
};

/// Shortest time between two looks at one object, so that a busy controller does not keep us busy. Reports
/// are due within 2 s of a change.
pub const INSPECT_INTERVAL: Duration = Duration::from_millis(500);

/// Time between two looks at an object that is not healthy. Its pods may tell more than they did, and time alone
/// may settle it, without a change of the object that a watch would show.
pub const UNHEALTHY_INTERVAL: Duration = Duration::from_secs(30);

/// Why an object that was there before is not taken over.
pub(super) const NOTHING_ADOPTED: &str = "the release adopts nothing";

/// Why an object that was there before, and differs, is not taken over.
pub(super) const DIFFERS: &str = "it differs from the release, which adopts only equals";

/// One thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Look at an object.
    Inspect(ObjectRef),
    /// Apply the object at this place of the release.
    Apply(ObjectRef, usize, How),
    /// Delete an object of the inventory.
    Delete(ObjectRef, String),
    /// Take an object out of the inventory that was never ours.
    Forget(ObjectRef),
    /// Note why an object is not touched.
    Refuse(ObjectRef, Failure),
    /// Write the object that lists the application's kinds.
    Parent,
    /// Delete that object: nothing else is left.
    DeleteParent,
}

impl Action {
    /// The object that it reads or writes as a whole.
    pub fn reads(&self) -> Option<&ObjectRef> {
        match self {
            Self::Inspect(object) | Self::Apply(object, ..) | Self::Delete(object, _) => Some(object),
            Self::Forget(_) | Self::Refuse(..) | Self::Parent | Self::DeleteParent => None,
        }
    }
}

/// What the plan depends on beside the application itself.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings<'a> {
    /// Monotonic time.
    pub now: Duration,
    /// Whether somebody at the site holds it: nothing is started, healed or pruned.
    pub held: bool,
    /// Objects in the inventory, over all applications.
    pub owned: usize,
    /// The label value of this application's objects.
    pub apply_set: &'a str,
}

/// The steps to start now, in order. The caller bounds how many run at once.
pub fn plan(app: &App, around: Surroundings<'_>) -> Vec<Action> {
    if app.row.removing {
        return removal(app, around);
    }
    let Some(current) = &app.current else { return Vec::new() };
    let mut actions = preview::actions(app, current, around.now);
    if !(0..current.release.objects.len()).any(|index| current.enforces(index)) {
        return actions;
    }
    match &app.parent {
        ParentState::Done => {}
        ParentState::Busy => return actions,
        ParentState::Failed(failed) if failed.retry_at > around.now => return actions,
        ParentState::Needed | ParentState::Failed(_) => {
            actions.insert(0, Action::Parent);
            return actions;
        }
    }
    let mut open = u8::MAX;
    for (index, entry) in current.release.objects.iter().enumerate() {
        if !current.enforces(index) {
            continue;
        }
        let phase = phase(&entry.group, &entry.kind);
        let object = super::event::object_ref(&current.release, index);
        let next = next(app, current, index, &object, around);
        if open < phase && matches!(next, Next::Do(Action::Apply(..))) && !app.is_applied(index) {
            continue;
        }
        if !app.is_applied(index) && !next.is_settled() {
            open = open.min(phase);
        }
        if let Next::Do(action) = next {
            actions.push(action);
        }
    }
    if open == u8::MAX && current.is_enforced() {
        actions.extend(pruning(app, around));
    }
    actions
}

/// Why leftovers are not pruned, where the ceiling forbids it.
pub fn prune_refusal(app: &App, owned: usize) -> Option<String> {
    let count = app.leftovers().count();
    let signed = app.current.as_ref().map(|current| &current.release.ceilings);
    let allowed = ceilings::deletes_allowed(signed, owned) as usize;
    (count > allowed).then(|| {
        format!(
            "{count} objects would be deleted, {allowed} are allowed; sign a release with a higher maxDeletes"
        )
    })
}

/// When something may be planned that is not planned at `now`, only because time has to pass.
pub fn next_time(app: &App, now: Duration) -> Option<Duration> {
    let parent = match &app.parent {
        ParentState::Failed(failed) => Some(failed.retry_at),
        ParentState::Needed | ParentState::Busy | ParentState::Done => None,
    };
    let objects = app.objects.values().filter(|state| !state.busy);
    let looks = preview::next_times(app);
    objects.flat_map(wake_at).chain(parent).chain(looks).filter(|at| *at > now).min()
}

fn wake_at(state: &ObjectState) -> impl Iterator<Item = Duration> {
    let retry = state.failure.as_ref().map(|failed| failed.retry_at);
    let stale = state.stale.then_some(state.inspected_at).flatten();
    retry.into_iter().chain(stale.map(|at| at + INSPECT_INTERVAL)).chain(look_again_at(state))
}

/// When to look again at an object that is not healthy.
fn look_again_at(state: &ObjectState) -> Option<Duration> {
    let unhealthy = state.inspection().is_some_and(|found| found.health.status != Status::Current);
    unhealthy.then_some(state.inspected_at).flatten().map(|at| at + UNHEALTHY_INTERVAL)
}

enum Next {
    /// Something is under way or has to wait its turn.
    Wait,
    /// It failed and waits for its next try: others need not wait for it.
    Failed,
    /// It is as it should be.
    Settled,
    Do(Action),
}

impl Next {
    fn is_settled(&self) -> bool {
        matches!(self, Self::Failed | Self::Settled)
    }
}

fn next(app: &App, current: &Current, index: usize, object: &ObjectRef, around: Surroundings<'_>) -> Next {
    let fresh = ObjectState::default();
    let state = app.objects.get(object).unwrap_or(&fresh);
    if state.busy {
        return Next::Wait;
    }
    if state.failure.as_ref().is_some_and(|failed| failed.retry_at > around.now) {
        return Next::Failed;
    }
    if waits_for_definition(app, current, index) {
        return Next::Wait;
    }
    let how = if state.force_next { How::Forced } else { How::Normal };
    let apply = Next::Do(Action::Apply(object.clone(), index, how));
    let again = look_again_at(state).is_some_and(|at| at <= around.now);
    if state.stale || again || matches!(state.found, Found::Unknown) {
        return inspect(object, state, around);
    }
    let owned = app.inventory.get(object).filter(|owned| owned.uid.is_some());
    match (&state.found, owned) {
        (Found::Unknown, _) => Next::Wait,
        (Found::Present(inspection), _) if inspection.deleting => Next::Wait,
        (Found::Absent, None) => apply,
        (Found::Absent, Some(owned)) => heal(owned.source == current.sources[index], apply, around),
        (Found::Present(inspection), Some(owned)) if Some(&inspection.uid) == owned.uid.as_ref() => {
            if owned.source != current.sources[index] {
                return apply;
            }
            let intact = inspection.owned.is_some_and(|found| found.0.as_slice() == owned.owned.as_slice());
            if intact { Next::Settled } else { heal(true, apply, around) }
        }
        (Found::Present(inspection), None | Some(_)) => {
            if inspection.apply_set.as_deref() == Some(around.apply_set) {
                return apply;
            }
            adopt(current.release.ceilings.adopt, state, object, index, apply)
        }
    }
}

/// A hold stops healing, but what was started goes on to its end.
fn heal(was_applied: bool, apply: Next, around: Surroundings<'_>) -> Next {
    if was_applied && around.held { Next::Settled } else { apply }
}

fn inspect(object: &ObjectRef, state: &ObjectState, around: Surroundings<'_>) -> Next {
    let due = state.inspected_at.is_none_or(|at| around.now >= at + INSPECT_INTERVAL);
    if due { Next::Do(Action::Inspect(object.clone())) } else { Next::Wait }
}

fn adopt(adopt: Adopt, state: &ObjectState, object: &ObjectRef, index: usize, apply: Next) -> Next {
    let refused = |why: &str| {
        let message = format!("{object} is already there and not ours: {why}");
        Next::Do(Action::Refuse(object.clone(), refuse("AlreadyExists", message)))
    };
    match (adopt, state.foreseen()) {
        (Adopt::Always, _) | (Adopt::IfIdentical, Some(Foreseen::Same)) => apply,
        (Adopt::Never, _) => refused(NOTHING_ADOPTED),
        (Adopt::IfIdentical, Some(Foreseen::Create | Foreseen::Change(_) | Foreseen::Conflict(_))) => {
            refused(DIFFERS)
        }
        (Adopt::IfIdentical, None) => Next::Do(Action::Apply(object.clone(), index, How::DryRun)),
    }
}

/// A custom resource waits until the release's own definition of its kind is established.
fn waits_for_definition(app: &App, current: &Current, index: usize) -> bool {
    let entry = &current.release.objects[index];
    if entry.group.is_empty() || app.is_applied(index) {
        return false;
    }
    let suffix = format!(".{}", entry.group);
    let defines =
        |other: &&ObjectRef| other.gvk.kind == "CustomResourceDefinition" && other.name.ends_with(&suffix);
    current.indices.keys().filter(defines).any(|definition| {
        let state = app.objects.get(definition);
        let failed = state.is_some_and(|state| state.failure.is_some());
        let health = state.and_then(ObjectState::inspection).map(|inspection| inspection.health.status);
        !failed && health != Some(Status::Current)
    })
}

fn removal(app: &App, around: Surroundings<'_>) -> Vec<Action> {
    if !app.inventory.is_empty() {
        return pruning(app, around);
    }
    match &app.parent {
        // Everything is gone and said so.
        _ if app.current.is_none() => Vec::new(),
        ParentState::Busy => Vec::new(),
        ParentState::Failed(failed) if failed.retry_at > around.now => Vec::new(),
        ParentState::Needed | ParentState::Done | ParentState::Failed(_) => vec![Action::DeleteParent],
    }
}

/// Deletes leftovers, last applied first: a phase waits until all of the later ones are gone.
fn pruning(app: &App, around: Surroundings<'_>) -> Vec<Action> {
    if around.held || prune_refusal(app, around.owned).is_some() {
        return Vec::new();
    }
    let phase_of = |object: &ObjectRef| phase(&object.gvk.group, &object.gvk.kind);
    let Some(last) = app.leftovers().map(|(object, _)| phase_of(object)).max() else { return Vec::new() };
    let due = app.leftovers().filter(|(object, _)| phase_of(object) == last);
    due.filter_map(|(object, owned)| delete(app, object, owned.uid.as_ref(), around)).collect()
}

/// An object that was about to be applied when the power failed has no recorded identity: look first.
fn delete(app: &App, object: &ObjectRef, uid: Option<&String>, around: Surroundings<'_>) -> Option<Action> {
    let fresh = ObjectState::default();
    let state = app.objects.get(object).unwrap_or(&fresh);
    if state.busy || state.failure.as_ref().is_some_and(|failed| failed.retry_at > around.now) {
        return None;
    }
    if let Some(successor) = app.successor(object) {
        return app.is_applied(successor).then(|| Action::Forget(object.clone()));
    }
    match (uid, &state.found) {
        (Some(uid), _) => Some(Action::Delete(object.clone(), uid.clone())),
        (None, Found::Unknown) => Some(Action::Inspect(object.clone())),
        (None, Found::Present(found)) if found.apply_set.as_deref() == Some(around.apply_set) => {
            Some(Action::Delete(object.clone(), found.uid.clone()))
        }
        (None, Found::Present(_) | Found::Absent) => Some(Action::Forget(object.clone())),
    }
}

/// The order of applying: definitions, namespaces, policy, configuration, workloads, the rest.
pub fn phase(group: &str, kind: &str) -> u8 {
    match (group, kind) {
        ("apiextensions.k8s.io", _) => 0,
        ("", "Namespace") => 1,
        ("rbac.authorization.k8s.io" | "policy" | "networking.k8s.io", _)
        | ("", "ServiceAccount" | "ResourceQuota" | "LimitRange")
        | ("scheduling.k8s.io" | "storage.k8s.io" | "node.k8s.io", _) => 2,
        ("", "ConfigMap" | "Secret" | "PersistentVolume" | "PersistentVolumeClaim" | "Service") => 3,
        ("apps" | "batch", _) | ("", "Pod" | "ReplicationController") => 4,
        (_, _) => 5,
    }
}
