//! A whole fleet of one, of real parts: a Kubernetes control plane, a hub, and the agent under measure.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use crate::{
    logic::{procfs::Memory, settling::Settling},
    process::{Process, run},
    say,
    wait::Stopwatch,
};

/// How long anything may take to come up or to arrive; reached only when something is wrong.
const SOON: Duration = Duration::from_secs(180);

/// The one cluster; what runs there, and the tenant it belongs to, which is also its namespace.
const CLUSTER: &str = "tower-0001";
pub(crate) const TENANT: &str = "budget";
const APPLICATION: &str = "web";

/// The namespace that is there from the start, where published manifests put what belongs to one.
const DEFAULT: &str = "default";

/// Written to `clear_refs`, it makes the peak what is resident now (proc(5)).
const RESET_PEAK: &str = "5";

/// The programs a fleet consists of.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    pub(crate) agent: PathBuf,
    pub(crate) hub: PathBuf,
    pub(crate) operator: PathBuf,
    /// Starts a control plane and runs a command for whose life it stays.
    pub(crate) control_plane: PathBuf,
    pub(crate) kubectl: PathBuf,
}

/// A fleet whose one agent is connected. Its parts end in the order in which they stand here.
#[derive(Debug)]
pub(crate) struct Fleet {
    agent: Process,
    _hub: Process,
    _control_plane: Process,
    programs: Programs,
    folder: PathBuf,
}

impl Fleet {
    /// Starts everything, in an empty folder, and lets the agent join.
    pub(crate) fn start(programs: Programs, folder: &Path) -> Result<Self> {
        say("starting a Kubernetes control plane");
        let (control_plane, kubeconfig) = start_control_plane(&programs, folder)?;
        say("starting the hub");
        make_keys(&programs, folder)?;
        let hub = start_hub(&programs, folder)?;
        say("letting the agent join");
        let agent = start_agent(&programs, folder, &kubeconfig)?;
        Ok(Self { agent, _hub: hub, _control_plane: control_plane, programs, folder: folder.to_owned() })
    }

    /// Signs these manifests as a version, has the cluster run it, and waits until the hub says that it is there and
    /// healthy.
    pub(crate) fn deliver(&mut self, version: u32, manifests: &str) -> Result<()> {
        say(&format!("delivering {} bytes of manifests", manifests.len()));
        let named = format!("1.0.{version}");
        let file = self.folder.join(format!("{APPLICATION}-{named}.bundle"));
        let app = format!("{TENANT}/{APPLICATION}");
        let mut build = self.operator();
        build.args(["bundle", "build", "-", "--app", &app, "--version", &named]);
        build.args(["--counter", &version.to_string(), "--output"]).arg(&file);
        run(&build, manifests, true)?;
        let mut sign = self.operator();
        sign.args(["bundle", "sign"]).arg(&file);
        // Two, because a namespace is an object of the whole cluster.
        for key in ["release-1.key", "release-2.key"] {
            sign.arg("--key").arg(self.folder.join("keys").join(key));
        }
        run(&sign, "", true)?;
        run(self.operator().args(["bundle", "push"]).arg(&file), "", true)?;
        let bundle = format!("{APPLICATION}-{named}");
        self.kubectl(&["apply", "-f", "-"], &application(&bundle))?;
        self.wait_until_healthy(&bundle)
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

    fn wait_until_healthy(&mut self, bundle: &str) -> Result<()> {
        let ask = kubectl(&self.programs, &self.folder, &["get", "assignments", "-n", TENANT, "-o", "json"]);
        self.agent.wait_for(&format!("{bundle} on {CLUSTER}"), SOON, |_| {
            let found: Value = serde_json::from_str(&run(&ask, "", true)?)?;
            let status = &found["items"][0]["status"];
            ensure!(status["bundle"] == bundle && status["state"] == "Updated", "{status}");
            Ok(())
        })
    }

    fn operator(&self) -> Command {
        operator(&self.programs, &self.folder)
    }

    fn kubectl(&self, arguments: &[&str], input: &str) -> Result<String> {
        run(&kubectl(&self.programs, &self.folder, arguments), input, true)
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

fn make_keys(programs: &Programs, folder: &Path) -> Result<()> {
    let data = folder.join("hub");
    let mut pin = Command::new(&programs.hub);
    let pin = run(pin.args(["pin", "--fleet", TENANT, "--data"]).arg(data), "", true)?;
    let mut init = operator(programs, folder);
    init.args(["keys", "init"]).arg(folder.join("keys"));
    init.args(["--fleet", TENANT, "--tenant", TENANT, "--namespace", TENANT]);
    init.args(["--namespace", DEFAULT, "--ca-pin", pin.trim()]);
    run(&init, "", true).map(drop)
}

fn start_hub(programs: &Programs, folder: &Path) -> Result<Process> {
    let keys = folder.join("keys");
    let mut command = Command::new(&programs.hub);
    command.arg("serve").arg("--data").arg(folder.join("hub"));
    command.arg("--root").arg(keys.join("root.cose")).arg("--director-key").arg(keys.join("director.key"));
    // A name, so that the agent looks names up as it does on a tower.
    command.args(["--advertise", "localhost"]);
    for listener in ["--api", "--broker", "--enrol"] {
        command.args([listener, "127.0.0.1:0"]);
    }
    let mut process = Process::spawn("fleet-broker", command, folder)?;
    let kubeconfig = hub_kubeconfig(folder);
    process.wait_for("hub", SOON, |_| {
        ensure!(kubeconfig.exists(), "there is no {}", kubeconfig.display());
        run(&kubectl(programs, folder, &["get", "clusters"]), "", true).map(drop)
    })?;
    Ok(process)
}

fn start_agent(programs: &Programs, folder: &Path, kubeconfig: &Path) -> Result<Process> {
    let mut add = operator(programs, folder);
    let code = run(add.args(["cluster", "add", CLUSTER, "--label", "stage=budget"]), "", true)?;
    let state = folder.join("agent");
    let mut join = Command::new(&programs.agent);
    join.args(["join", code.trim(), "--state"]).arg(&state).arg("--kubeconfig").arg(kubeconfig);
    // Its arguments hold a secret, so an error must not show them.
    if let Err(error) = run(&join, "", true) {
        bail!("the agent did not join: {}", format!("{error:#}").replace(code.trim(), "CODE"));
    }
    let mut command = Command::new(&programs.agent);
    command.args(["run", "--config"]).arg(state.join("config.toml"));
    Process::spawn("edge-agent", command, folder)
}

fn application(bundle: &str) -> String {
    json!({
        "apiVersion": "edgefleet.dev/v1alpha1",
        "kind": "Application",
        "metadata": {"namespace": TENANT, "name": APPLICATION},
        "spec": {"bundle": bundle, "placement": {"clusterSelector": {"matchLabels": {"stage": "budget"}}}},
    })
    .to_string()
}

fn operator(programs: &Programs, folder: &Path) -> Command {
    let mut command = Command::new(&programs.operator);
    command.env("EDGEFLEET_KUBECONFIG", hub_kubeconfig(folder));
    command
}

/// kubectl on the hub's API.
fn kubectl(programs: &Programs, folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(&programs.kubectl);
    command
        .args(arguments)
        .env("KUBECONFIG", hub_kubeconfig(folder))
        .env("KUBECACHEDIR", folder.join("cache"));
    command
}

fn hub_kubeconfig(folder: &Path) -> PathBuf {
    folder.join("hub/hub.kubeconfig")
}
