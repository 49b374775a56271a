//! A cluster that runs things already is looked at before anything is taken over: what would change is told, nothing
//! is changed, and objects are taken over when an operator says which.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use edgefleet::bundle::Bundle;
use edgefleet::release::Plan;
use fleet_broker::resources::{AssignmentState, AssignmentStatus, PreviewCounts};
use protocol::documents::Adopt;
use serde_json::{Value, json};

use crate::harness::{PART_OF, Site};

/// Names and data of the objects of a bundle.
type Objects = [(&'static str, &'static str)];

/// What the bundle has that is to be put over what runs already.
const TAKEN_OVER: [(&str, &str); 4] =
    [("same", "a: '1'"), ("more", "a: '1', b: '2'"), ("held", "a: '1'"), ("new", "a: '1'")];

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_already_is_looked_at_and_taken_over_when_told() -> Result<()> {
    let mut site = Site::start("observed").await?;
    run_by_hand(&site).await?;
    let before = versions(&site).await?;
    let bundle = publish(&mut site, &TAKEN_OVER).await?;

    // What would change is told, object by object.
    site.place_in(&bundle, json!({"mode": "DryRun"})).await?;
    let shown = previewed(&site, "DryRun", counts(0, 1, 1, 2, 1)).await?;
    let told = ["WouldConflict", "WouldChange", "WouldCreate"];
    ensure!(said(&shown, "held") == [told[0], ".data.a held by kubectl-create"], "{shown:#?}");
    ensure!(said(&shown, "more") == [told[1], ".data.b"], "{shown:#?}");
    ensure!(said(&shown, "new") == [told[2], "it is not there"], "{shown:#?}");
    ensure!(shown.message.as_deref() == Some("1 to create, 1 to change, 2 to adopt, 1 in conflict"));
    ensure!(condition(&shown, "Drifted") == ["True", "WouldChange"], "{shown:#?}");
    ensure!(condition(&shown, "Available")[0] == "False", "what is not there is not available: {shown:#?}");
    ensure!(versions(&site).await? == before, "a dry run changed something");
    fleet_is_told(&site).await?;

    // What differs is told as it comes, and stays.
    site.place_in(&bundle, json!({"mode": "Observe"})).await?;
    let shown = previewed(&site, "Observed", counts(0, 1, 1, 2, 1)).await?;
    ensure!(said(&shown, "new")[0] == "Missing" && said(&shown, "more")[0] == "Differs", "{shown:#?}");
    let after = versions(&site).await?;
    ensure!(after == before, "what is only looked at was changed");

    // One object is taken over, and no other.
    let one = json!([{"kind": "ConfigMap", "namespace": site.name, "name": "new"}]);
    site.place_in(&bundle, json!({"mode": "Observe", "enforce": one})).await?;
    let shown = previewed(&site, "Observed", counts(0, 0, 1, 2, 1)).await?;
    site.get_again("configmap", "new").await?;
    ensure!(condition(&shown, "Available")[0] == "True", "{shown:#?}");
    let mut found = versions(&site).await?;
    found.remove("new").context("what was taken over is there")?;
    ensure!(found == after, "more was taken over than was told");

    // What was taken over is healed, and what is only looked at is not.
    site.kubectl(&["delete", "configmap", "new"]).await?;
    site.get_again("configmap", "new").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dry_run_tells_is_what_enforcing_does() -> Result<()> {
    let mut site = Site::start("foreseen").await?;
    run_by_hand(&site).await?;
    let bundle = publish(&mut site, &TAKEN_OVER).await?;
    let before = live(&site).await?;
    site.place_in(&bundle, json!({"mode": "DryRun"})).await?;
    let told = previewed(&site, "DryRun", counts(0, 1, 1, 2, 1)).await?;
    ensure!(live(&site).await? == before, "a dry run changed something");

    let name = site.place_in(&bundle, json!({"mode": "Enforce"})).await?;
    // What is held by others is refused as was foreseen; all else is done by then.
    let failed = site.assigned(&name, AssignmentState::Failed).await?;
    ensure!(failed.worst_object.as_deref().is_some_and(|object| object.ends_with("/held")), "{failed:#?}");
    let after = live(&site).await?;
    for name in ["same", "more", "held", "new", "extra"] {
        let (old, new) = (before.get(name), after.get(name).context("nothing is deleted")?);
        let is_ours = new["metadata"]["labels"][PART_OF].is_string();
        let did = match old {
            None => "WouldCreate",
            Some(old) if old["metadata"]["resourceVersion"] == new["metadata"]["resourceVersion"] => {
                if name == "extra" { "" } else { "WouldConflict" }
            }
            Some(old) if old["data"] != new["data"] => "WouldChange",
            // Those that are only adopted are counted and not named.
            Some(_) => "",
        };
        ensure!(said(&told, name)[0] == did, "{name}: {did:?} after {told:#?}");
        ensure!(is_ours != ["held", "extra"].contains(&name), "{new:#}");
    }
    ensure!(after["more"]["data"] == json!({"a": "1", "b": "2"}), "{:#}", after["more"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_enforced_is_only_looked_at_until_it_is_enforced_again() -> Result<()> {
    let mut site = Site::start("loosened").await?;
    let data = "a: '1'";
    let first =
        publish(&mut site, &[("kept", data), ("changed", data), ("lost", data), ("old", data)]).await?;
    let name = site.place(&first).await?;
    site.assigned(&name, AssignmentState::Updated).await?;
    let second = publish(&mut site, &[("kept", data), ("changed", "a: '2'"), ("lost", data)]).await?;

    // The next version is looked at: nothing of it is applied, and nothing is pruned.
    let before = live(&site).await?;
    site.place_in(&second, json!({"mode": "Observe"})).await?;
    let enforced = PreviewCounts { delete: 1, ..counts(3, 0, 1, 0, 0) };
    let shown = previewed(&site, "Observed", enforced).await?;
    ensure!(said(&shown, "changed") == ["Differs", ".data.a"], "{shown:#?}");
    ensure!(said(&shown, "old") == ["NotInRelease", "the release does not name it"], "{shown:#?}");
    ensure!(live(&site).await? == before, "what is only looked at was changed");

    // What is changed by hand is told, and stays as it is; all of it is still ours.
    site.kubectl(&["patch", "configmap", "kept", "-p", r#"{"data":{"a":"mine"}}"#]).await?;
    site.kubectl(&["delete", "configmap", "lost"]).await?;
    let by_hand = live(&site).await?;
    let drifted = PreviewCounts { delete: 1, ..counts(1, 1, 2, 0, 0) };
    let shown = previewed(&site, "Observed", drifted).await?;
    ensure!(
        said(&shown, "kept") == ["Differs", ".data.a"] && said(&shown, "lost")[0] == "Missing",
        "{shown:#?}"
    );
    ensure!(condition(&shown, "Drifted") == ["True", "Differs"], "{shown:#?}");
    let left = live(&site).await?;
    ensure!(left == by_hand, "what is only looked at was healed");
    let apply_set = site.apply_set()?;
    ensure!(left.values().all(|found| found["metadata"]["labels"][PART_OF] == apply_set), "{left:#?}");

    // Enforced again it is healed, and what the release no longer names is pruned.
    let name = site.place_in(&second, json!({"mode": "Enforce"})).await?;
    site.assigned(&name, AssignmentState::Updated).await?;
    let found = live(&site).await?;
    let data = |name: &str| found.get(name).map(|found| &found["data"]["a"]);
    let wanted = [Some(json!("1")), Some(json!("2")), Some(json!("1")), None];
    let is_as_wanted = ["kept", "changed", "lost", "old"].map(data) == wanted.each_ref().map(Option::as_ref);
    ensure!(is_as_wanted, "{found:#?}");
    Ok(())
}

/// Two objects are as the bundle has them, one lacks something, of one another manager holds what would change, and one
/// is none of the bundle's business.
async fn run_by_hand(site: &Site) -> Result<()> {
    site.kubectl(&["create", "namespace", &site.name]).await?;
    for (name, value) in [("same", "a=1"), ("more", "a=1"), ("held", "a=mine"), ("extra", "a=1")] {
        site.kubectl(&["create", "configmap", name, &format!("--from-literal={value}")]).await?;
    }
    Ok(())
}

/// A bundle of the site's namespace and these objects in it, which adopts what is there.
async fn publish(site: &mut Site, objects: &Objects) -> Result<Bundle> {
    let app = site.app()?;
    let plan = Plan { adopt: Adopt::Always, ..site.plan(&app) };
    let namespace = &site.name;
    let mut manifests = format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {namespace}}}\n");
    for (name, data) in objects {
        let object = format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{{data}}}");
        manifests = format!("{manifests}---\n{object}\n");
    }
    let bundle = site.build(&plan, &manifests, &site.signers(&site.name))?;
    site.operator.push(&bundle).await?;
    Ok(bundle)
}

/// The version of each of the site's objects that somebody may have changed.
async fn versions(site: &Site) -> Result<BTreeMap<String, Value>> {
    let live = live(site).await?.into_iter();
    Ok(live.map(|(name, found)| (name, found["metadata"]["resourceVersion"].clone())).collect())
}

/// The ConfigMaps of the site's namespace, but for the one that every namespace gets.
async fn live(site: &Site) -> Result<BTreeMap<String, Value>> {
    let list: Value = serde_json::from_str(&site.kubectl(&["get", "configmaps", "-o", "json"]).await?)?;
    let items = list["items"].as_array().context("a list")?.iter();
    let named =
        items.map(|item| (item["metadata"]["name"].as_str().unwrap_or_default().to_owned(), item.clone()));
    Ok(named.filter(|(name, _)| name != "kube-root-ca.crt").collect())
}

fn counts(unchanged: u64, create: u64, change: u64, adopt: u64, conflict: u64) -> PreviewCounts {
    PreviewCounts { unchanged, create, change, adopt, conflict, refuse: 0, delete: 0 }
}

/// Waits until the hub shows that the cluster looks at the application in this mode, and that applying it would do so much.
async fn previewed(site: &Site, mode: &str, wanted: PreviewCounts) -> Result<AssignmentStatus> {
    let is_it = |status: &AssignmentStatus| {
        let found = status.preview.as_ref().map(|preview| preview.objects);
        let told = condition(status, "Available")[1] == mode;
        status.state == AssignmentState::Observed && told && found == Some(wanted)
    };
    site.assignment(&format!("{wanted:?}"), is_it).await
}

/// What is said of one object.
fn said<'a>(shown: &'a AssignmentStatus, name: &str) -> [&'a str; 2] {
    let first = shown.preview.iter().flat_map(|preview| &preview.first);
    let mut said = first.filter(|one| one.object.ends_with(&format!("/{name}")));
    said.next().map_or(["", ""], |one| [&one.reason, &one.message])
}

fn condition<'a>(shown: &'a AssignmentStatus, kind: &str) -> [&'a str; 2] {
    let found = shown.conditions.iter().find(|one| one.type_ == kind);
    found.map_or(["", ""], |one| [&one.status, &one.reason])
}

/// The application tells of the whole fleet, and neither it nor the cluster is said to have failed.
async fn fleet_is_told(site: &Site) -> Result<()> {
    let told = "1 of 1 clusters look at it: 1 to create, 1 to change, 2 to adopt, 1 in conflict";
    site.condition("Synced").await?;
    tests::wait_for("the fleet's counts", crate::harness::SOON, async || {
        let applications = site.operator.applications().await?;
        let status = applications.first().and_then(|one| one.status.clone()).context("a status")?;
        ensure!(status.preview == Some(counts(0, 1, 1, 2, 1)), "{status:#?}");
        ensure!(status.clusters.is_some_and(|clusters| (clusters.observed, clusters.failed) == (1, 0)));
        ensure!(status.reason.as_deref() == Some(told), "{status:#?}");
        Ok(())
    })
    .await
}
