//! What a plan says, in lines for people.

use std::collections::BTreeMap;

use protocol::ids::AppId;

use super::{Difference, How, Move, Plan};

/// Clusters named for each way they go; kubectl lists them all.
const CLUSTERS_SHOWN: usize = 5;

/// How many clusters an application's change reaches, and what it waits for.
pub fn summary(id: &AppId, plan: &Plan) -> Vec<String> {
    let changed: usize = plan.moves.iter().filter(|one| one.to.is_some()).map(|one| one.clusters.len()).sum();
    let removed: usize = plan.moves.iter().filter(|one| one.to.is_none()).map(|one| one.clusters.len()).sum();
    let selected = plural(plan.selected, "selected cluster");
    let mut lines =
        vec![format!("Application {id}: {changed} of {selected} would change, {} stay", plan.unchanged)];
    if removed > 0 {
        lines.push(format!("it would be removed from {}", plural(removed, "cluster")));
    }
    if plan.left > 0 {
        let left = plural(plan.left, "cluster");
        lines.push(format!(
            "{left} would no longer be selected, and would keep what runs there (onUnmatch: Leave)"
        ));
    }
    lines.extend(plan.approval.as_ref().map(|reason| format!("it would wait for an approval: {reason}")));
    lines
}

/// Where some clusters go, and which they are.
pub fn headline(step: &Move) -> String {
    let bundle = |side: &Option<super::Told>, without: &str| {
        let told = |told: &super::Told| match &told.looked_at {
            Some(how) => format!("{} ({how})", told.bundle),
            None => told.bundle.clone(),
        };
        side.as_ref().map_or_else(|| without.to_owned(), told)
    };
    let shown: Vec<&str> = step.clusters.iter().take(CLUSTERS_SHOWN).map(String::as_str).collect();
    let more = match step.clusters.len().saturating_sub(CLUSTERS_SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(
        "{} -> {} on {}: {}{more}",
        bundle(&step.from, "nothing"),
        bundle(&step.to, "removed"),
        plural(step.clusters.len(), "cluster"),
        shown.join(", ")
    )
}

/// Why bundles do not tell what a move does to objects, where these are only looked at; none where bundles do.
pub fn looked_at(step: &Move) -> Option<&'static str> {
    let looks = |side: &Option<super::Told>| side.as_ref().is_some_and(|told| told.looked_at.is_some());
    match step {
        Move { to, .. } if looks(to) => Some(
            "clusters would tell in their Assignments what applying it does; nothing but what spec.enforce names is applied",
        ),
        Move { from, .. } if looks(from) => {
            Some("what is only looked at now would be applied; the Assignments tell what that does")
        }
        Move { .. } => None,
    }
}

/// The parameters whose values differ, each with both.
pub fn parameters(from: &BTreeMap<String, String>, to: &BTreeMap<String, String>) -> Vec<String> {
    let value = |side: &BTreeMap<String, String>, name: &str| {
        side.get(name).cloned().unwrap_or_else(|| "none".to_owned())
    };
    let mut names: Vec<&String> = from.keys().chain(to.keys()).collect();
    names.sort();
    names.dedup();
    names.retain(|name| from.get(*name) != to.get(*name));
    names
        .iter()
        .map(|name| format!("parameter {name}: {} -> {}", value(from, name), value(to, name)))
        .collect()
}

/// How many objects differ in which way; `after` is how many there would be.
pub fn counts(differences: &[Difference], after: usize) -> String {
    let count = |how: How| differences.iter().filter(|one| one.how == how).count();
    let (added, changed, removed) = (count(How::Added), count(How::Changed), count(How::Removed));
    format!(
        "objects: {added} added, {changed} changed, {removed} removed, {} the same",
        after - added - changed
    )
}

fn plural(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
