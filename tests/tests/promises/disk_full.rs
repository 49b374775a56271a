//! A full disk stops what is new, loses nothing, is told to the hub, and is over as soon as there is room.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result, ensure};
use fleet_broker::resources::AssignmentState;
use protocol::ids::Digest;

use crate::harness::Site;

/// Room for the agent's state, a little more, and what takes that up.
const DISK_KIB: u64 = 4096;

/// What is left of it: less than what is delivered.
const FREE_KIB: u64 = 160;

/// Bytes of an object that does not compress, beyond what is free.
const LARGE_BYTES: u64 = 512 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_told_and_waited_out() -> Result<()> {
    let mut site = Site::start("full").await?;
    let first = site.deliver(&manifests(&site.name, 64)).await?;
    site.assigned(&first, AssignmentState::Updated).await?;
    site.stop_agent().await?;
    let ballast = start_on_a_small_disk(&mut site)?;
    site.condition("Connected").await?;

    let second = site.deliver(&manifests(&site.name, LARGE_BYTES)).await?;
    site.condition("DiskFull").await?;
    let kept = site.get("configmap", "noise").await?;
    ensure!(kept["data"]["noise"].as_str().is_some_and(|noise| noise.len() == 64), "{kept:#}");

    fs::remove_file(&ballast).with_context(|| format!("remove {}", ballast.display()))?;
    site.assigned(&second, AssignmentState::Updated).await?;
    site.condition_gone("DiskFull").await
}

/// Starts the agent with its state in a small file system that only it sees. Returns what fills that.
fn start_on_a_small_disk(site: &mut Site) -> Result<PathBuf> {
    const SCRIPT: &str = r#"
        set -e
        cp -a "$1" "$1.aside"
        mount -t tmpfs -o size="$2"k,mode=0700 tmpfs "$1"
        cp -a "$1.aside"/. "$1"
        used=$(df -k --output=used "$1" | tail -1)
        head -c $((($2 - used - $3) * 1024)) /dev/zero >"$1/ballast"
        exec "$4" run --config "$1/config.toml"
    "#;
    let state = site.state();
    let (disk, free) = (DISK_KIB.to_string(), FREE_KIB.to_string());
    // In a mount namespace of its own, and where we are not root, in a user namespace that lets us mount.
    let arguments = ["--mount", "--map-root-user", "sh", "-c", SCRIPT, "sh"];
    let pid = site.start_agent_by("unshare", &arguments, &[&disk, &free])?;
    let seen_by_agent = PathBuf::from(format!("/proc/{pid}/root"));
    let folder = state.folder().strip_prefix("/").context("the state directory has an absolute path")?;
    Ok(seen_by_agent.join(folder).join("ballast"))
}

fn manifests(namespace: &str, bytes: u64) -> String {
    let noise: String = (0..bytes / 64).map(|n| Digest::of(&n.to_be_bytes()).to_string()).collect();
    format!(
        "
apiVersion: v1
kind: Namespace
metadata: {{name: {namespace}}}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: noise}}
data: {{noise: {noise}}}
"
    )
}
