//! A whole fleet of one, of real parts: a Kubernetes control plane, a hub, and the agent under measure.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    hub::{Hub, Programs, SOON},
    logic::{procfs::Memory, settling::Settling},
    process::Process,
    say,
    wait::Stopwatch,
};

/// The one cluster.
const CLUSTER: &str = "tower-0001";

/// Written to `clear_refs`, it makes the peak what is resident now (proc(5)).
const RESET_PEAK: &str = "5";

/// A fleet whose one agent is connected. Its parts end in the order in which they stand here.
#[derive(Debug)]
pub(crate) struct Fleet {
    agent: Process,
    hub: Hub,
    _control_plane: Process,
}

impl Fleet {
    /// Starts everything, in an empty folder, and lets the agent join.
    pub(crate) fn start(programs: Programs, folder: &Path) -> Result<Self> {
        say("starting a Kubernetes control plane");
        let (control_plane, kubeconfig) = start_control_plane(&programs, folder)?;
        let hub = Hub::start(programs, folder)?;
        let agent = hub.start_agent(&hub.join(CLUSTER, &kubeconfig)?)?;
        Ok(Self { agent, hub, _control_plane: control_plane })
    }

    /// Signs these manifests as a version, has the cluster run it, and waits until the hub says that it is there and
    /// healthy.
    pub(crate) fn deliver(&mut self, version: u32, manifests: &str) -> Result<()> {
        self.hub.deliver(version, manifests, 1)
    }

    /// What the agent takes once it has nothing to do.
    pub(crate) fn idle(&mut self) -> Result<Memory> {
        say("waiting until the agent is idle");
        let watch = Stopwatch::start();
        let mut settling = Settling::default();
        self.agent.wait_for("idle agent", SOON, |agent| {
            let memory = memory(agent.id())?;
            ensure!(settling.look(watch.elapsed(), memory), "it has not settled: {memory:?}");
            Ok(memory)
        })
    }

    /// Has the agent's peak counted from now.
    pub(crate) fn reset_peak(&self) -> Result<()> {
        let file = format!("/proc/{}/clear_refs", self.agent.id());
        fs::write(&file, RESET_PEAK).with_context(|| format!("write {file}"))
    }
}

/// What a process takes now.
fn memory(process: u32) -> Result<Memory> {
    let read = |name: &str| {
        let file = format!("/proc/{process}/{name}");
        fs::read_to_string(&file).with_context(|| format!("read {file}"))
    };
    Memory::parse(&read("status")?, &read("smaps_rollup")?)
}

/// Returns the control plane with its administrator's kubeconfig.
fn start_control_plane(programs: &Programs, folder: &Path) -> Result<(Process, PathBuf)> {
    let ready = folder.join("control-plane.ready");
    let mut command = Command::new(&programs.control_plane);
    // Moved, so that it is never seen half written.
    let script = r#"printf %s "$KUBECONFIG" >"$0.new" && mv "$0.new" "$0" && exec sleep infinity"#;
    command.args(["sh", "-c", script]).arg(&ready);
    let mut process = Process::spawn("control-plane", command, folder)?;
    let kubeconfig = process.wait_for("Kubernetes control plane", SOON, |_| {
        fs::read_to_string(&ready).with_context(|| format!("read {}", ready.display()))
    })?;
    Ok((process, kubeconfig.into()))
}
