//! A hub with its operator: what is delivered goes through the programs that people use.

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use crate::{
    process::{Process, run},
    say,
};

/// How long anything may take to come up or to arrive; reached only when something is wrong.
pub(crate) const SOON: Duration = Duration::from_secs(180);

/// The tenant that everything belongs to, which is also its namespace.
pub(crate) const TENANT: &str = "budget";

/// What runs on the clusters.
const APPLICATION: &str = "web";

/// The namespace that is there from the start, where published manifests put what belongs to one.
const DEFAULT: &str = "default";

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

/// A running hub.
#[derive(Debug)]
pub(crate) struct Hub {
    process: Process,
    programs: Programs,
    folder: PathBuf,
}

impl Hub {
    /// Makes the keys of a fleet in `folder` and starts its hub.
    pub(crate) fn start(programs: Programs, folder: &Path) -> Result<Self> {
        say("starting the hub");
        make_keys(&programs, folder)?;
        let keys = folder.join("keys");
        let mut command = Command::new(&programs.hub);
        command.arg("serve").arg("--data").arg(folder.join("hub"));
        command
            .arg("--root")
            .arg(keys.join("root.cose"))
            .arg("--director-key")
            .arg(keys.join("director.key"));
        // A name, so that the agent looks names up as it does on a tower.
        command.args(["--advertise", "localhost"]);
        for listener in ["--api", "--broker", "--enrol"] {
            command.args([listener, "127.0.0.1:0"]);
        }
        let mut process = Process::spawn("fleet-broker", command, folder)?;
        let kubeconfig = hub_kubeconfig(folder);
        process.wait_for("hub", SOON, |_| {
            ensure!(kubeconfig.exists(), "there is no {}", kubeconfig.display());
            run(&kubectl(&programs, folder, &["get", "clusters"]), "", true).map(drop)
        })?;
        Ok(Self { process, programs, folder: folder.to_owned() })
    }

    /// Registers a cluster, labelled with its name, and lets an agent join as it, whose state is in the folder that is
    /// returned. Its Kubernetes is that of `kubeconfig`.
    pub(crate) fn join(&self, cluster: &str, kubeconfig: &Path) -> Result<PathBuf> {
        say(&format!("letting {cluster} join"));
        let mut add = self.operator();
        add.args(["cluster", "add", cluster, "--label", "stage=budget"]);
        let code = run(add.args(["--label", &format!("cluster={cluster}")]), "", true)?;
        let state = self.folder.join(cluster);
        let mut join = Command::new(&self.programs.agent);
        join.args(["join", code.trim(), "--state"]).arg(&state).arg("--kubeconfig").arg(kubeconfig);
        // Its arguments hold a secret, so an error must not show them.
        if let Err(error) = run(&join, "", true) {
            bail!("{cluster} did not join: {}", format!("{error:#}").replace(code.trim(), "CODE"));
        }
        Ok(state)
    }

    /// Starts an agent that has joined.
    pub(crate) fn start_agent(&self, state: &Path) -> Result<Process> {
        let mut command = Command::new(&self.programs.agent);
        command.args(["run", "--config"]).arg(state.join("config.toml"));
        Process::spawn("edge-agent", command, state)
    }

    /// Signs these manifests as a version, has every cluster run it, and waits until the hub says that `clusters` of
    /// them have it and are healthy.
    pub(crate) fn deliver(&mut self, version: u32, manifests: &str, clusters: usize) -> Result<()> {
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
        self.wait_until_healthy(&bundle, clusters)
    }

    /// The operator's way to this hub.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        hub_kubeconfig(&self.folder)
    }

    /// The operator's tool, set up for this hub.
    pub(crate) fn operator(&self) -> Command {
        let mut command = Command::new(&self.programs.operator);
        command.env("EDGEFLEET_KUBECONFIG", self.kubeconfig());
        command
    }

    fn kubectl(&self, arguments: &[&str], input: &str) -> Result<String> {
        run(&kubectl(&self.programs, &self.folder, arguments), input, true)
    }

    fn wait_until_healthy(&mut self, bundle: &str, clusters: usize) -> Result<()> {
        let ask = kubectl(&self.programs, &self.folder, &["get", "assignments", "-n", TENANT, "-o", "json"]);
        self.process.wait_for(&format!("{bundle} on {clusters} clusters"), SOON, |_| {
            let found: Value = serde_json::from_str(&run(&ask, "", true)?)?;
            let items = found["items"].as_array().context("a list has items")?;
            let updated =
                |item: &&Value| item["status"]["bundle"] == bundle && item["status"]["state"] == "Updated";
            ensure!(items.iter().filter(updated).count() == clusters, "{}", found["items"]);
            Ok(())
        })
    }
}

fn make_keys(programs: &Programs, folder: &Path) -> Result<()> {
    let data = folder.join("hub");
    let mut pin = Command::new(&programs.hub);
    let pin = run(pin.args(["pin", "--fleet", TENANT, "--data"]).arg(data), "", true)?;
    let mut init = Command::new(&programs.operator);
    init.args(["keys", "init"]).arg(folder.join("keys"));
    init.args(["--fleet", TENANT, "--tenant", TENANT, "--namespace", TENANT]);
    init.args(["--namespace", DEFAULT, "--ca-pin", pin.trim()]);
    run(&init, "", true).map(drop)
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
