//! What other projects publish is delivered as they publish it: shown as it is, upgraded, and taken away again.
//!
//! A target of its own: an APIService without a server, which metrics-server brings, keeps the API server from
//! ending any namespace, and other tests wait for that.

mod addons;
mod cert_manager;
#[path = "../promises/fleet_keys.rs"]
#[allow(dead_code, reason = "promises use more of it")]
mod fleet_keys;
mod gateway;
#[path = "../promises/harness.rs"]
#[allow(dead_code, reason = "promises use the rest")]
mod harness;
mod phase;
mod prometheus;

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    time::Duration,
};

use anyhow::{Result, ensure};
use edgefleet::{clock, release::Plan};
use fleet_broker::resources::{AssignmentState, AssignmentStatus};
use protocol::ids::AppId;

use harness::{FAR_KINDS, PART_OF, Site};

/// Definitions of custom resources.
const DEFINITIONS: &str = "customresourcedefinitions";

/// How often those that are about to go are changed.
const TOUCH_EVERY: Duration = Duration::from_secs(20);

/// Where add-ons live.
const SYSTEM: &str = "kube-system";

/// The label of APIServices that the API server makes for definitions, and takes away with them.
const AUTOMANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";

/// Delivers another version of an application and waits until all of it is applied and healthy, and nothing else of it
/// is there.
async fn upgrades_to(site: &mut Site, application: &str, manifests: &str) -> Result<AssignmentStatus> {
    let bundle = site.deliver_as(application, manifests).await?;
    let shown = site.assigned(&bundle, AssignmentState::Updated).await?;
    ensure!(condition(&shown, "Available") == Some("True"), "{shown:#?}");
    ensure!(members(site, application).await? == named(site, manifests).await?);
    Ok(shown)
}

/// Delivers a release that holds less: what it left out is gone, what it kept is as it was, and so is all else.
#[allow(clippy::print_stdout, reason = "how much was pruned is what is printed")]
async fn shrinks_to(
    site: &mut Site,
    application: &str,
    all: &str,
    kept: &str,
    before: &BTreeMap<String, String>,
) -> Result<()> {
    let (all, kept_names) = (named(site, all).await?, named(site, kept).await?);
    let applied = uids(site, application).await?;
    let max_deletes = u32::try_from(all.len())?;
    let bundle = site.deliver_deleting(application, kept, max_deletes).await?;
    // It is not up to date before what it left out is gone.
    tokio::select! {
        shown = site.assigned(&bundle, AssignmentState::Updated) => drop(shown?),
        never = touch_definitions(site) => match never {},
    }
    let after = uids(site, application).await?;
    for name in &all {
        let expected = applied.get(name).filter(|_| kept_names.contains(name));
        ensure!(after.get(name) == expected, "{name}: {:?} where {expected:?} should be", after.get(name));
    }
    ensure!(members(site, application).await? == kept_names);
    let lost: Vec<_> = before.iter().filter(|(name, uid)| after.get(*name) != Some(uid)).collect();
    ensure!(lost.is_empty(), "what was there before is gone or new: {lost:?}");
    println!("{application}: {} of {} objects pruned", all.len() - kept_names.len(), all.len());
    Ok(())
}

/// Changes definitions that are about to go, again and again. The API server looks for objects of each before it goes; if
/// its storage of them is not ready, it looks again when the definition changes, or after minutes.
async fn touch_definitions(site: &Site) -> Infallible {
    let deleting = r#"jsonpath={range .items[?(@.metadata.deletionTimestamp)]}{.metadata.name}{"\n"}{end}"#;
    let mut rounds = tokio::time::interval(TOUCH_EVERY);
    loop {
        rounds.tick().await;
        let round = format!("edgefleet.dev/touched={}", clock::now().0);
        // Any of them may be gone by now.
        let names = site.kubectl.run(&["get", DEFINITIONS, "-o", deleting]).await.unwrap_or_default();
        for name in names.lines() {
            drop(site.kubectl.run(&["annotate", "--overwrite", DEFINITIONS, name, &round]).await);
        }
    }
}

/// What manifests hold, as kubectl names it.
async fn named(site: &Site, manifests: &str) -> Result<BTreeSet<String>> {
    let columns = r#"jsonpath={.kind} {.metadata.namespace}/{.metadata.name}{"\n"}"#;
    let arguments = ["create", "--dry-run=client", "--validate=false", "-f", "-", "-o", columns];
    let printed = site.kubectl.run_with_input(&arguments, manifests).await?;
    Ok(printed.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect())
}

/// The application's objects on the cluster.
async fn members(site: &Site, application: &str) -> Result<BTreeSet<String>> {
    Ok(applied(site, application).await?.into_keys().collect())
}

async fn applied(site: &Site, application: &str) -> Result<BTreeMap<String, String>> {
    let selector = format!("{PART_OF}={}", site.apply_set_of(application)?);
    listed(site, &["--all-namespaces"], &selector).await
}

/// What is there and not about to go, with its identity; apart from what the API server keeps for itself and what
/// other tests apply meanwhile, or leave to go with their namespace.
async fn uids(site: &Site, application: &str) -> Result<BTreeMap<String, String>> {
    let others = format!("!{AUTOMANAGED},!{PART_OF}");
    let mut found = listed(site, &["--namespace", SYSTEM], &others).await?;
    found.extend(applied(site, application).await?);
    Ok(found)
}

async fn listed(site: &Site, scope: &[&str], selector: &str) -> Result<BTreeMap<String, String>> {
    let columns = r#"jsonpath={range .items[*]}{.kind} {.metadata.namespace}/{.metadata.name} {.metadata.uid} {.metadata.deletionTimestamp} {.metadata.ownerReferences[*].kind}{"\n"}{end}"#;
    let arguments = [&["get", FAR_KINDS, "-l", selector, "-o", columns], scope].concat();
    let printed = site.kubectl.run(&arguments).await?;
    let line = |line: &str| match line.split(' ').collect::<Vec<_>>()[..] {
        [kind, name, uid, "", ref owners @ ..] if !owners.contains(&"Namespace") => {
            Some((format!("{kind} {name}"), uid.to_owned()))
        }
        [..] => None,
    };
    Ok(printed.lines().filter_map(line).collect())
}

fn condition<'a>(status: &'a AssignmentStatus, kind: &str) -> Option<&'a str> {
    status.conditions.iter().find(|one| one.type_ == kind).map(|one| one.status.as_str())
}

impl Site {
    /// Delivers a release that may delete so many objects. Returns the bundle's name.
    async fn deliver_deleting(&mut self, application: &str, manifests: &str, max: u32) -> Result<String> {
        let plan = self.plan(&AppId::new(&self.name, application)?);
        let plan = Plan { max_deletes: Some(max), ..plan };
        let bundle = self.build(&plan, manifests, &self.signers(&self.name))?;
        self.operator.push(&bundle).await?;
        self.place(&bundle).await
    }

    async fn in_system(&self, arguments: &[&str]) -> Result<String> {
        self.kubectl.run(&[&["--namespace", SYSTEM], arguments].concat()).await
    }
}
