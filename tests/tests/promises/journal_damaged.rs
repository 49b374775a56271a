//! A journal that is lost costs no object: the file is kept, the hub is told, and what is on the cluster is taken up
//! again from the hub's word and from the labels.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use fleet_broker::resources::AssignmentState;

use crate::harness::Site;
use crate::manifests::WEB;

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_journal_is_kept_and_what_runs_goes_on() -> Result<()> {
    let mut site = Site::start("damaged").await?;
    let first = site.deliver(&manifests(&site.name, &["kept", "dropped"])).await?;
    site.assigned(&first, AssignmentState::Updated).await?;
    let before = identities(&site).await?;

    site.stop_agent().await?;
    let damaged = damage(&site)?;
    site.start_agent()?;
    site.condition("JournalLost").await?;
    site.assigned(&first, AssignmentState::Updated).await?;
    ensure!(identities(&site).await? == before, "what ran was made anew");
    ensure!(kept_aside(&site)? == [damaged], "the damaged file is not there as it was");

    // The inventory is whole again: what a new version leaves out is pruned.
    let second = site.deliver(&manifests(&site.name, &["kept"])).await?;
    site.assigned(&second, AssignmentState::Updated).await?;
    site.gone("configmap", "dropped").await
}

/// The newest version no longer holds an object that the lost journal knew of. Nothing says any more that it was ours
/// to delete but a label, which is not enough.
#[tokio::test(flavor = "multi_thread")]
async fn what_only_a_lost_journal_knew_of_is_not_pruned_until_a_release_names_it() -> Result<()> {
    let mut site = Site::start("lost").await?;
    let first = site.deliver(&manifests(&site.name, &["kept", "stray"])).await?;
    site.assigned(&first, AssignmentState::Updated).await?;

    site.stop_agent().await?;
    damage(&site)?;
    let second = site.deliver(&manifests(&site.name, &["kept"])).await?;
    site.start_agent()?;
    site.assigned(&second, AssignmentState::Updated).await?;
    site.get("configmap", "stray").await?;

    let third = site.deliver(&manifests(&site.name, &["kept", "stray"])).await?;
    site.assigned(&third, AssignmentState::Updated).await?;
    let fourth = site.deliver(&manifests(&site.name, &["kept"])).await?;
    site.assigned(&fourth, AssignmentState::Updated).await?;
    site.gone("configmap", "stray").await
}

/// Without its journal and without a hub an agent knows of nothing, and so it changes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn without_journal_and_hub_nothing_is_touched() -> Result<()> {
    let mut site = Site::start("blank").await?;
    let bundle = site.deliver(&manifests(&site.name, &["kept"])).await?;
    site.assigned(&bundle, AssignmentState::Updated).await?;
    let before = identities(&site).await?;

    site.stop_agent().await?;
    site.link.cut();
    damage(&site)?;
    site.start_agent()?;
    site.agent()?.printed("the journal was put aside", crate::harness::SOON).await?;
    site.agent()?.printed("no connection to the hub", crate::harness::SOON).await?;
    ensure!(identities(&site).await? == before, "something was touched");

    site.link.restore();
    site.condition("JournalLost").await?;
    site.assigned(&bundle, AssignmentState::Updated).await?;
    ensure!(identities(&site).await? == before, "what ran was made anew");
    Ok(())
}

/// Flips every bit of the journal but for the mark at its beginning. Returns what is there then.
fn damage(site: &Site) -> Result<Vec<u8>> {
    let path = site.state().journal();
    let mut bytes = fs::read(&path)?;
    bytes.iter_mut().skip(16).for_each(|byte| *byte = !*byte);
    fs::write(&path, &bytes)?;
    Ok(bytes)
}

/// Journals that were put aside.
fn kept_aside(site: &Site) -> Result<Vec<Vec<u8>>> {
    let state = site.state();
    let mut found = Vec::new();
    for file in fs::read_dir(state.folder())? {
        let path = file?.path();
        let name = path.file_name().context("a file has a name")?.to_string_lossy().into_owned();
        // Its log is put aside beside it, if there was one.
        if name.contains(".corrupt-") && !name.contains("-wal") {
            found.push(fs::read(path)?);
        }
    }
    Ok(found)
}

/// Identity, and how often its content changed, of everything that runs.
async fn identities(site: &Site) -> Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    for (kind, name) in [("configmap", "kept"), ("deployment", "web")] {
        let object = site.get(kind, name).await?;
        let text = |pointer| object.pointer(pointer).map(ToString::to_string).unwrap_or_default();
        found.push((text("/metadata/uid"), text("/metadata/generation")));
    }
    Ok(found)
}

fn manifests(namespace: &str, names: &[&str]) -> String {
    let rest = format!(
        "
apiVersion: v1
kind: Namespace
metadata: {{name: {namespace}}}
---
{WEB}
"
    );
    names.iter().fold(rest, |text, name| {
        format!("{text}---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{a: b}}\n")
    })
}
