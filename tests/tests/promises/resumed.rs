//! Content whose way was cut off goes on from where it stopped, also after a restart.

use anyhow::{Context as _, Result, ensure};
use edge_agent::journal::{Journal, MAX_BYTES};
use fleet_broker::resources::AssignmentState;
use protocol::{ids::Digest, limits};
use tests::wait_for;

use crate::harness::{SOON, Site};

/// Objects of the bundle, and how long each is: far more than one window of content.
const OBJECTS: u64 = 8;
const OBJECT_BYTES: u64 = 256 * 1024;

/// What is on its way at a time.
const WINDOW_BYTES: u64 = (limits::CHUNK_BYTES * limits::WINDOW_CHUNKS) as u64;

/// Where the link is cut, each time: in the middle of the content, which compresses to about half.
const CUT_AFTER_BYTES: u64 = 400 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn content_goes_on_from_where_the_link_was_cut() -> Result<()> {
    let mut site = Site::start("resumed").await?;
    site.link.cut_after(CUT_AFTER_BYTES);
    let before = site.link.downward_bytes();
    let bundle = site.deliver(&manifests(&site.name)).await?;
    site.is_offline().await?;
    let first = stored_bytes(&mut site, 0).await?;

    // A power cut on top: what came is on disk.
    site.kill_agent()?;
    site.link.restore();
    site.link.cut_after(CUT_AFTER_BYTES);
    site.start_agent()?;
    let second = stored_bytes(&mut site, first).await?;

    site.link.restore();
    site.assigned(&bundle, AssignmentState::Updated).await?;
    let carried = site.link.downward_bytes() - before;
    site.stop_agent().await?;
    let size = stored_size(&site)?;
    println!("{size} bytes of content; {first} and {second} were there at the cuts; {carried} were carried");
    // What a cut loses is on its way at that time: a window of content, and the talk of three connections.
    ensure!(carried < size + size / 4 + 2 * WINDOW_BYTES, "{carried} bytes for {size}");
    for number in 0..OBJECTS {
        site.get("configmap", &format!("noise-{number}")).await?;
    }
    Ok(())
}

/// Waits until the link is down and more than `least` bytes of content are stored.
async fn stored_bytes(site: &mut Site, least: u64) -> Result<u64> {
    wait_for("a part of the content", SOON, async || {
        let status = site.agent_status().await?;
        ensure!(!status.hub.connected, "{status}");
        let message = &status.applications.first().context("an application")?.message;
        let bytes = message.split_once(" bytes of ").and_then(|(bytes, _)| bytes.parse().ok());
        let bytes: u64 = bytes.with_context(|| format!("no part of it is here: {message}"))?;
        ensure!(bytes > least, "{message}");
        Ok(bytes)
    })
    .await
}

/// The length of the content as it travels, once the agent has stopped.
fn stored_size(site: &Site) -> Result<u64> {
    let (_journal, held) = Journal::open(&site.state().journal(), MAX_BYTES)?;
    Ok(held.content.iter().map(|content| content.total).sum())
}

fn manifests(namespace: &str) -> String {
    let rest = format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {namespace}}}\n");
    (0..OBJECTS).fold(rest, |text, number| {
        let block = |n: u64| Digest::of(&(number << 32 | n).to_be_bytes()).to_string();
        let blocks = (0..OBJECT_BYTES / 64).map(block);
        let noise: String = blocks.collect();
        format!(
            "{text}---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: noise-{number}}}\ndata: {{noise: {noise}}}\n"
        )
    })
}
