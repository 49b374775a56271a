//! What clients' changes mean: who did what, and with which words.

use serde_json::Value;

use super::{Occurrence, Reason};
use crate::logic::registry::{Change, Object};
use crate::resources::{APPROVE_ANNOTATION, Kind, UNFREEZE_ANNOTATION};

/// What is told of a change, of the object that was changed. Statuses are the hub's own, and not told of.
pub fn of_change(change: &Change) -> Vec<Occurrence> {
    let Change { key, before, after, actor, .. } = change;
    let told = match (before.as_deref(), after.as_deref()) {
        (None, Some(made)) => of_made(key.kind, made, actor),
        (Some(before), Some(after)) => of_update(key.kind, before, after, actor),
        (Some(gone), None) => of_gone(key.kind, gone, actor),
        (None, None) => Vec::new(),
    };
    let occurrence = |(reason, message)| Occurrence { about: key.clone(), reason, message };
    told.into_iter().map(occurrence).collect()
}

type Told = Vec<(Reason, String)>;

fn of_made(kind: Kind, made: &Object, actor: &str) -> Told {
    match kind {
        Kind::Application => vec![(Reason::Created, specified(made, actor))],
        Kind::Bundle => vec![(Reason::Published, format!("published by {actor}"))],
        Kind::Cluster => {
            let mut told = vec![(Reason::Created, format!("registered by {actor}"))];
            told.extend(accepted(made).then(|| (Reason::Accepted, format!("accepted by {actor}"))));
            told.extend(hold(made).map(|hold| (Reason::Held, held(&hold, actor))));
            told
        }
        Kind::Freeze => vec![(Reason::Frozen, frozen(made, actor))],
        Kind::Assignment | Kind::Event => Vec::new(),
    }
}

fn of_update(kind: Kind, before: &Object, after: &Object, actor: &str) -> Told {
    let is_respecified = before.generation() != after.generation();
    match kind {
        Kind::Application => {
            let mut told = Vec::new();
            told.extend(is_respecified.then(|| (Reason::Changed, specified(after, actor))));
            let [old, new] = [before, after].map(|object| object.annotation(APPROVE_ANNOTATION));
            let approval = new.filter(|new| !new.is_empty() && old.as_ref() != Some(new));
            told.extend(
                approval.map(|text| (Reason::Approved, format!("approved by {actor}: generation {text}"))),
            );
            told
        }
        Kind::Cluster => of_cluster(before, after, actor),
        Kind::Freeze if is_respecified => vec![(Reason::Frozen, frozen(after, actor))],
        Kind::Freeze | Kind::Bundle | Kind::Assignment | Kind::Event => Vec::new(),
    }
}

fn of_cluster(before: &Object, after: &Object, actor: &str) -> Told {
    let mut told = Vec::new();
    match (accepted(before), accepted(after)) {
        (false, true) => told.push((Reason::Accepted, format!("accepted by {actor}"))),
        (true, false) => told.push((Reason::NotAccepted, format!("not accepted any more, by {actor}"))),
        (true, true) | (false, false) => {}
    }
    match (hold(before), hold(after)) {
        (old, Some(new)) if old.as_ref() != Some(&new) => told.push((Reason::Held, held(&new, actor))),
        (Some(_), None) => told.push((Reason::HoldEnded, format!("ended by {actor}"))),
        _ => {}
    }
    told.extend(
        (!before.is_labelled_as(after)).then(|| (Reason::Changed, format!("labels changed by {actor}"))),
    );
    told
}

fn of_gone(kind: Kind, gone: &Object, actor: &str) -> Told {
    match kind {
        Kind::Freeze => {
            let why = gone.annotation(UNFREEZE_ANNOTATION).map(|why| format!(": {why}")).unwrap_or_default();
            vec![(Reason::Lifted, format!("lifted by {actor}{why}"))]
        }
        Kind::Application | Kind::Bundle | Kind::Cluster => {
            vec![(Reason::Deleted, format!("deleted by {actor}"))]
        }
        Kind::Assignment | Kind::Event => Vec::new(),
    }
}

fn accepted(cluster: &Object) -> bool {
    cluster.value()["spec"]["accepted"] == true
}

fn hold(cluster: &Object) -> Option<Value> {
    cluster.value()["spec"].get("hold").filter(|hold| !hold.is_null()).cloned()
}

fn held(hold: &Value, actor: &str) -> String {
    let until = hold["until"].as_str().map(|until| format!(" until {until}")).unwrap_or_default();
    format!("held by {actor}{until}: {}", hold["reason"].as_str().unwrap_or_default())
}

fn frozen(freeze: &Object, actor: &str) -> String {
    format!("frozen by {actor}: {}", freeze.value()["spec"]["reason"].as_str().unwrap_or_default())
}

fn specified(application: &Object, actor: &str) -> String {
    let value = application.value();
    let bundle = value["spec"]["bundle"].as_str().unwrap_or_default();
    format!("generation {} by {actor}: bundle {bundle}", application.generation())
}

#[cfg(test)]
mod tests;
