//! One site: a fleet's keys, its hub, one agent, and the links to hub and API server, all of them the test's own.

use std::{
    collections::BTreeSet,
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, ensure};
use edge_agent::{
    config::{Address, Config, StateDir},
    control::{self, Reply, Request},
    logic::app::{PARENT_NAMESPACE, apply_set, parent_name},
    status::Status,
};
use edgefleet::{
    bundle::Bundle,
    clock,
    hub::Hub,
    manifest::{self, Rules},
    release::{self, Plan},
    source::SourceText,
};
use fleet_broker::{
    keys::{self, ROOT_FILE},
    pki::CERTIFICATE_LIFETIME,
    resources::{APPROVE_ANNOTATION, Assignment, AssignmentState, AssignmentStatus, Cluster},
    serve::{self, Running, ServeConfig},
};
use protocol::ids::{AppId, ClusterId, FleetId};
use serde_json::{Value, json};
use tempfile::TempDir;
pub(crate) use tests::program;
use tests::{CutProxy, Kubectl, Process, kubeconfig, wait_for};

use crate::fleet_keys::{KEYS, OTHER_KEYS, make_keys, other_tenant};

/// Longest wait for anything that should happen; reached only by a test that fails. A busy API server may take a
/// minute to end a definition.
pub(crate) const SOON: Duration = Duration::from_secs(180);

/// How long bundles are good for.
const DAY_SECONDS: u64 = 24 * 60 * 60;

/// The one application of every site.
pub(crate) const APPLICATION: &str = "web";

/// The label by which the ApplySet of KEP-3659 knows its members.
pub(crate) const PART_OF: &str = "applyset.kubernetes.io/part-of";

/// Kinds that tests put where a namespace's end does not reach: into other namespaces, and beside all of them.
pub(crate) const FAR_KINDS: &str = "apiservices,clusterrolebindings,clusterroles,configmaps,\
    customresourcedefinitions,daemonsets,deployments,mutatingwebhookconfigurations,namespaces,rolebindings,roles,\
    serviceaccounts,services,validatingadmissionpolicies,validatingadmissionpolicybindings,\
    validatingwebhookconfigurations";

/// A hub and the one cluster of its fleet. What it put on the shared cluster is deleted when it is dropped.
pub(crate) struct Site {
    /// Names everything that the site puts where others are: tenant, namespace, cluster.
    pub(crate) name: String,
    /// The operator's way to the hub.
    pub(crate) operator: Hub,
    /// The link between agent and hub.
    pub(crate) link: CutProxy,
    /// The link between agent and API server.
    pub(crate) api: CutProxy,
    pub(crate) kubectl: Kubectl,
    pub(crate) folder: TempDir,
    hub: Option<Running>,
    hub_program: Option<Process>,
    ports: Ports,
    certificate_lifetime: Duration,
    agent: Option<Process>,
    released: u64,
    /// What was built, and may stand on the shared cluster.
    apps: BTreeSet<AppId>,
}

/// Where a hub listens.
#[derive(Debug, Clone, Copy, Default)]
struct Ports {
    api: u16,
    broker: u16,
    enrol: u16,
}

impl Site {
    /// Starts a hub, and an agent that has joined it and is connected. `promise` begins the site's name.
    pub(crate) async fn start(promise: &str) -> Result<Self> {
        Self::start_with(promise, &[]).await
    }

    /// [`Site::start`] with releases that may reach these namespaces too.
    pub(crate) async fn start_with(promise: &str, namespaces: &[&str]) -> Result<Self> {
        Self::start_at(promise, namespaces, CERTIFICATE_LIFETIME).await
    }

    /// [`Site::start`] with certificates that last so long.
    pub(crate) async fn start_short(promise: &str, certificate_lifetime: Duration) -> Result<Self> {
        Self::start_at(promise, &[], certificate_lifetime).await
    }

    async fn start_at(promise: &str, namespaces: &[&str], certificate_lifetime: Duration) -> Result<Self> {
        let name = format!("{promise}-{}", clock::now());
        let folder = TempDir::with_prefix(&name)?;
        make_keys(folder.path(), &name, namespaces)?;
        let mut site = Self::open(name, folder, certificate_lifetime).await?;
        site.join().await?;
        site.start_agent()?;
        site.condition("Connected").await?;
        Ok(site)
    }

    /// Starts the hub of a folder, and the links for an agent that is not started.
    pub(crate) async fn open(name: String, folder: TempDir, certificate_lifetime: Duration) -> Result<Self> {
        let director = folder.path().join(KEYS).join("director.key");
        let hub = start_hub(folder.path(), Ports::default(), &director, certificate_lifetime).await?;
        let ports = Ports {
            api: hub.api.port(),
            broker: hub.addresses.clusters.port(),
            enrol: hub.addresses.bootstrap.context("the hub enrols clusters")?.port(),
        };
        let operator = Hub::open(&hub.kubeconfig).await?;
        let link = CutProxy::start(hub.addresses.clusters).await?;
        let kubectl = Kubectl::new(kubeconfig()?)?;
        let (api, proxied) = proxied_kubeconfig(&kubectl).await?;
        fs::write(folder.path().join("kubeconfig"), proxied)?;
        let (hub, hub_program, agent) = (Some(hub), None, None);
        let (released, apps) = (0, BTreeSet::new());
        Ok(Self {
            name,
            operator,
            link,
            api,
            kubectl,
            folder,
            hub,
            hub_program,
            ports,
            certificate_lifetime,
            agent,
            released,
            apps,
        })
    }

    /// Registers the cluster and lets the agent join, whose way to the hub then is the link that can be cut.
    pub(crate) async fn join(&self) -> Result<()> {
        let cluster = ClusterId::new(&*self.name)?;
        self.operator.add_cluster(&cluster, &[("stage".to_owned(), "test".to_owned())]).await?;
        let code = self.operator.join_code(&cluster).await?.to_string();
        let state = self.state();
        let mut command = Command::new(program("edge-agent")?);
        command.args(["join", &code, "--state"]).arg(state.folder());
        command.arg("--kubeconfig").arg(self.folder.path().join("kubeconfig"));
        let mut joining = Process::spawn("edge-agent-join", &command)?;
        ensure!(joining.wait(SOON).await?.success(), "the agent did not join");
        self.lead_agent()
    }

    /// Makes the link that can be cut the agent's way to the hub.
    pub(crate) fn lead_agent(&self) -> Result<()> {
        let path = self.state().config();
        let mut config = Config::load(&path)?;
        config.broker = Address { host: "127.0.0.1".to_owned(), port: self.link.address().port() };
        config.enrol = Some(Address { host: "127.0.0.1".to_owned(), port: self.ports.enrol });
        Ok(fs::write(path, config.to_text()?)?)
    }

    /// Where the hub listens for clusters.
    pub(crate) fn hub_address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.ports.broker))
    }

    /// Where the agent keeps its state.
    pub(crate) fn state(&self) -> StateDir {
        StateDir::new(&self.folder.path().join("agent"))
    }

    /// Starts the agent that has joined.
    pub(crate) fn start_agent(&mut self) -> Result<()> {
        self.start_agent_until(0)
    }

    /// Starts the agent, which aborts at its `boundary`th boundary; at 0 it only counts them.
    pub(crate) fn start_agent_until(&mut self, boundary: u64) -> Result<()> {
        let mut command = Command::new(program("edge-agent")?);
        command.args(["run", "--config"]).arg(self.state().config());
        command.env("EDGEFLEET_ABORT_AT", boundary.to_string());
        self.agent = Some(Process::spawn("edge-agent", &command)?);
        Ok(())
    }

    /// Starts the agent by the program `by`, which gets `first`, the state directory, `rest` and the agent's program as
    /// arguments, and becomes the agent. Returns the process id.
    pub(crate) fn start_agent_by(&mut self, by: &str, first: &[&str], rest: &[&str]) -> Result<u32> {
        let mut command = Command::new(by);
        command.args(first).arg(self.state().folder()).args(rest).arg(program("edge-agent")?);
        let agent = self.agent.insert(Process::spawn("edge-agent", &command)?);
        Ok(agent.id())
    }

    /// The agent's process.
    pub(crate) fn agent(&mut self) -> Result<&mut Process> {
        self.agent.as_mut().context("the agent runs")
    }

    /// Stops the agent in order. Returns what it printed.
    pub(crate) async fn stop_agent(&mut self) -> Result<String> {
        let mut agent = self.agent.take().context("the agent runs")?;
        agent.terminate()?;
        ensure!(agent.wait(SOON).await?.success(), "the agent did not stop in order");
        agent.log()
    }

    /// What the agent says of itself at its control socket.
    pub(crate) async fn agent_status(&self) -> Result<Status> {
        let socket = self.state().control();
        let asked = tokio::task::spawn_blocking(move || control::ask(&socket, &Request::Status));
        match asked.await?? {
            Reply::Status(status) => Ok(*status),
            other @ (Reply::Done | Reply::Report { .. } | Reply::Failed { .. }) => Err(anyhow!("{other:?}")),
        }
    }

    /// Kills the agent, as a power cut would.
    pub(crate) fn kill_agent(&mut self) -> Result<()> {
        self.agent.take().context("the agent runs")?.kill9()
    }

    /// Stops the hub in order.
    pub(crate) async fn stop_hub(&mut self) -> Result<()> {
        self.hub.take().context("the hub runs")?.stop().await;
        Ok(())
    }

    /// Starts the hub again, on the same folder and ports.
    pub(crate) async fn start_hub(&mut self) -> Result<()> {
        let director = self.folder.path().join(KEYS).join("director.key");
        self.hub =
            Some(start_hub(self.folder.path(), self.ports, &director, self.certificate_lifetime).await?);
        Ok(())
    }

    /// Starts the hub as a program of its own, on the same folder and ports.
    pub(crate) async fn start_hub_program(&mut self) -> Result<()> {
        let folder = self.folder.path();
        let local = |port: u16| format!("127.0.0.1:{port}");
        let mut command = Command::new(program("fleet-broker")?);
        command.args(["serve", "--advertise", "127.0.0.1", "--data"]).arg(folder.join("hub"));
        command.arg("--root").arg(folder.join("keys").join(ROOT_FILE));
        command.arg("--director-key").arg(folder.join("keys/director.key"));
        command.args(["--api", &local(self.ports.api), "--broker", &local(self.ports.broker)]);
        command.args(["--enrol", &local(self.ports.enrol)]);
        let hub = self.hub_program.insert(Process::spawn("fleet-broker", &command)?);
        hub.printed("ready", SOON).await
    }

    /// Kills that program, as a power cut would.
    pub(crate) fn kill_hub(&mut self) -> Result<()> {
        self.hub_program.take().context("the hub runs as a program")?.kill9()
    }

    /// Builds, signs and publishes a version of the application, and has it run. Returns the bundle's name.
    pub(crate) async fn deliver(&mut self, manifests: &str) -> Result<String> {
        self.deliver_as(APPLICATION, manifests).await
    }

    /// [`Site::deliver`] for an application of another name.
    pub(crate) async fn deliver_as(&mut self, application: &str, manifests: &str) -> Result<String> {
        let bundle = self.publish(application, manifests).await?;
        self.place(&bundle).await
    }

    /// Builds, signs and publishes a version of an application.
    pub(crate) async fn publish(&mut self, application: &str, manifests: &str) -> Result<Bundle> {
        let plan = self.plan(&AppId::new(&self.name, application)?);
        let bundle = self.build(&plan, manifests, &self.signers(&self.name))?;
        self.operator.push(&bundle).await?;
        Ok(bundle)
    }

    /// The next version of an application.
    pub(crate) fn plan(&mut self, app: &AppId) -> Plan {
        self.released += 1;
        self.apps.insert(app.clone());
        plan(app, self.released)
    }

    /// A bundle of these manifests with these signatures. Objects that name no namespace are in the tenant's.
    pub(crate) fn build(&self, plan: &Plan, manifests: &str, signers: &[PathBuf]) -> Result<Bundle> {
        build(&FleetId::new(&*self.name)?, plan, manifests, signers)
    }

    /// The release keys of a tenant: both, because a namespace is an object of the whole cluster.
    pub(crate) fn signers(&self, tenant: &str) -> Vec<PathBuf> {
        let folder = self.folder.path().join(if tenant == self.name { KEYS } else { OTHER_KEYS });
        ["release-1.key", "release-2.key"].map(|name| folder.join(name)).to_vec()
    }

    /// Has a bundle run that was published. Returns its name.
    pub(crate) async fn place(&self, bundle: &Bundle) -> Result<String> {
        self.place_in(bundle, json!({})).await
    }

    /// [`Site::place`] with more in the application's `spec`, such as a mode.
    pub(crate) async fn place_in(&self, bundle: &Bundle, more: Value) -> Result<String> {
        let mut application = application(bundle, "test", "Leave");
        for (field, value) in more.as_object().context("fields of a spec")? {
            application["spec"][field] = value.clone();
        }
        self.operator.put_application(application).await?;
        Ok(name_of(bundle))
    }

    /// Has the bundle's application run nowhere, with the approval that this needs.
    pub(crate) async fn remove(&self, bundle: &Bundle) -> Result<()> {
        let mut nowhere = application(bundle, "nowhere", "Remove");
        self.operator.put_application(nowhere.clone()).await?;
        let applications = self.operator.applications().await?;
        let name = bundle.release().app.name.as_str();
        let generation = applications.iter().find(|one| one.metadata.name.as_deref() == Some(name));
        let generation = generation.and_then(|one| one.metadata.generation).context("its generation")?;
        nowhere["metadata"]["annotations"] =
            json!({APPROVE_ANNOTATION: format!("{generation}: it is a test")});
        Ok(self.operator.put_application(nowhere).await?)
    }

    /// The site's one application, unless a test makes others.
    pub(crate) fn app(&self) -> Result<AppId> {
        Ok(AppId::new(&self.name, APPLICATION)?)
    }

    /// The same application of the fleet's other tenant, which has release keys and a namespace of its own.
    pub(crate) fn other_app(&self) -> Result<AppId> {
        Ok(AppId::new(other_tenant(&self.name), APPLICATION)?)
    }

    /// The label value of the application's objects.
    pub(crate) fn apply_set(&self) -> Result<String> {
        self.apply_set_of(APPLICATION)
    }

    /// The label value of another application's objects.
    pub(crate) fn apply_set_of(&self, application: &str) -> Result<String> {
        Ok(apply_set(&AppId::new(&self.name, application)?))
    }

    /// Waits until the hub shows `bundle` in `state`, and returns all that it shows.
    pub(crate) async fn assigned(&self, bundle: &str, state: AssignmentState) -> Result<AssignmentStatus> {
        let wanted = |status: &AssignmentStatus| status.bundle == bundle && status.state == state;
        self.assignment(&format!("{bundle} {state:?}"), wanted).await
    }

    /// Waits until what the hub shows of the application is as `wanted`.
    pub(crate) async fn assignment(
        &self,
        what: &str,
        wanted: impl Fn(&AssignmentStatus) -> bool,
    ) -> Result<AssignmentStatus> {
        wait_for(what, SOON, async || {
            let shown = self.operator.assignments().await?;
            let shown: Vec<AssignmentStatus> =
                shown.into_iter().filter_map(|one: Assignment| one.status).collect();
            shown.iter().find(|status| wanted(status)).cloned().ok_or_else(|| anyhow!("{shown:#?}"))
        })
        .await
    }

    /// Waits until a condition of the cluster is true at the hub.
    pub(crate) async fn condition(&self, kind: &str) -> Result<()> {
        self.cluster(kind, |cluster| condition_is(cluster, kind, "True")).await.map(drop)
    }

    /// The message of a condition of the cluster at the hub, once it is true.
    pub(crate) async fn told(&self, kind: &str) -> Result<String> {
        let cluster = self.cluster(kind, |cluster| condition_is(cluster, kind, "True")).await?;
        let [_, _, message] = condition(&cluster, kind).with_context(|| format!("{kind} is told"))?;
        Ok(message.to_owned())
    }

    /// Waits until the hub speaks no more of a condition of the cluster.
    pub(crate) async fn condition_gone(&self, kind: &str) -> Result<()> {
        let speaks = |cluster: &Cluster| {
            let conditions = cluster.status.iter().flat_map(|shown| &shown.conditions);
            conditions.into_iter().any(|one| one.type_ == kind)
        };
        self.cluster(&format!("end of {kind}"), |cluster| !speaks(cluster)).await.map(drop)
    }

    /// Waits until the hub no longer sees the agent.
    pub(crate) async fn is_offline(&self) -> Result<()> {
        self.cluster("Offline", |cluster| condition_is(cluster, "Connected", "False")).await.map(drop)
    }

    /// Waits until the hub shows the cluster as `wanted`, and returns all that it shows.
    pub(crate) async fn cluster(&self, what: &str, wanted: impl Fn(&Cluster) -> bool) -> Result<Cluster> {
        wait_for(what, SOON, async || {
            let clusters = self.operator.clusters().await?;
            clusters.iter().find(|cluster| wanted(cluster)).cloned().ok_or_else(|| anyhow!("{clusters:#?}"))
        })
        .await
    }

    /// What `edge-agent status` prints, as text for people, or as JSON.
    pub(crate) fn status(&self, form: &[&str]) -> Result<String> {
        let mut command = Command::new(program("edge-agent")?);
        command.args(["status", "--state"]).arg(self.state().folder()).args(form);
        let output = command.output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Runs kubectl in the site's namespace, past the proxy.
    pub(crate) async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.kubectl.run(&[&["--namespace", &self.name], arguments].concat()).await
    }

    /// One object of the site's namespace as the API server has it.
    pub(crate) async fn get(&self, kind: &str, name: &str) -> Result<Value> {
        let arguments = ["get", kind, name, "--show-managed-fields", "-o", "json"];
        Ok(serde_json::from_str(&self.kubectl(&arguments).await?)?)
    }

    /// Waits until an object of the site's namespace is as `wanted`.
    pub(crate) async fn object(
        &self,
        kind: &str,
        name: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        wait_for(&format!("{kind} {name}"), SOON, async || {
            let object = self.get(kind, name).await?;
            if wanted(&object) { Ok(object) } else { Err(anyhow!("{object:#}")) }
        })
        .await
    }

    /// Waits until an object of the site's namespace is there again.
    pub(crate) async fn get_again(&self, kind: &str, name: &str) -> Result<Value> {
        self.object(kind, name, |_| true).await
    }

    /// Waits until an object of the site's namespace is gone.
    pub(crate) async fn gone(&self, kind: &str, name: &str) -> Result<()> {
        wait_for(&format!("end of {kind} {name}"), SOON, async || {
            let found = self.kubectl(&["get", kind, name, "--ignore-not-found", "-o", "name"]).await?;
            ensure!(found.is_empty(), "{found}");
            Ok(())
        })
        .await
    }
}

impl Drop for Site {
    #[allow(clippy::print_stderr, reason = "the test runner shows it beside the failure")]
    fn drop(&mut self) {
        // First the agent, which would put everything back.
        drop(self.agent.take());
        for app in &self.apps {
            let members = format!("{PART_OF}={}", apply_set(app));
            let parent = parent_name(app);
            let deletions: [&[&str]; 3] = [
                &["delete", FAR_KINDS, "--all-namespaces", "-l", &members, "--wait=false"],
                &["delete", "namespace", &self.name, "--ignore-not-found", "--wait=false"],
                &["--namespace", PARENT_NAMESPACE, "delete", "configmap", &parent, "--ignore-not-found"],
            ];
            for deletion in deletions {
                match self.kubectl.command(deletion).output() {
                    Ok(output) if output.status.success() => {}
                    Ok(output) => eprintln!("{deletion:?}: {}", String::from_utf8_lossy(&output.stderr)),
                    Err(error) => eprintln!("{deletion:?}: {error}"),
                }
            }
        }
    }
}

/// A version of an application, good for a day, without anything special.
pub(crate) fn plan(app: &AppId, counter: u64) -> Plan {
    Plan::new(app.clone(), format!("1.0.{counter}"), counter, clock::now().plus(DAY_SECONDS))
}

/// A bundle of these manifests with these signatures. Objects that name no namespace are in the tenant's.
pub(crate) fn build(fleet: &FleetId, plan: &Plan, manifests: &str, signers: &[PathBuf]) -> Result<Bundle> {
    let texts = [SourceText { name: fleet.to_string(), text: manifests.to_owned() }];
    let namespace = plan.app.tenant.clone();
    let rules = Rules { namespace, cluster_scoped: BTreeSet::new(), plaintext_secrets: false };
    let mut bundle = Bundle::new(&release::build(plan, manifest::parse(&texts, &rules)?.objects)?)?;
    for path in signers {
        bundle.sign(fleet, &keys::load_signing_key(path)?.key)?;
    }
    Ok(bundle)
}

/// Status, reason and message of a condition of a cluster.
pub(crate) fn condition<'a>(cluster: &'a Cluster, kind: &str) -> Option<[&'a str; 3]> {
    let found = cluster.status.iter().flat_map(|shown| &shown.conditions).find(|one| one.type_ == kind)?;
    Some([&found.status, &found.reason, &found.message])
}

/// An application that has a bundle run on clusters of a stage.
fn application(bundle: &Bundle, stage: &str, on_unmatch: &str) -> Value {
    let AppId { tenant, name } = &bundle.release().app;
    let selector = json!({"matchLabels": {"stage": stage}});
    json!({
        "apiVersion": "edgefleet.dev/v1alpha1",
        "kind": "Application",
        "metadata": {"namespace": tenant.as_str(), "name": name.as_str(), "annotations": {}},
        "spec": {
            "bundle": name_of(bundle),
            "placement": {"clusterSelector": selector, "onUnmatch": on_unmatch},
        },
    })
}

/// The name of a bundle at the hub.
pub(crate) fn name_of(bundle: &Bundle) -> String {
    format!("{}-{}", bundle.release().app.name, bundle.release().version)
}

/// Whether a condition of a cluster has this status.
pub(crate) fn condition_is(cluster: &Cluster, kind: &str, status: &str) -> bool {
    condition(cluster, kind).is_some_and(|[found, ..]| found == status)
}

async fn start_hub(
    folder: &Path,
    ports: Ports,
    director: &Path,
    certificate_lifetime: Duration,
) -> Result<Running> {
    let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let config = ServeConfig {
        directory: folder.join("hub"),
        api: local(ports.api),
        broker: local(ports.broker),
        enrol: local(ports.enrol),
        advertise: "127.0.0.1".to_owned(),
        root: fs::read(folder.join(KEYS).join(ROOT_FILE))?,
        director: keys::load_signing_key(director)?.key,
        certificate_lifetime,
    };
    Ok(serve::start(config).await?)
}

/// A proxy to the shared cluster's API server, and a kubeconfig that goes through it.
async fn proxied_kubeconfig(kubectl: &Kubectl) -> Result<(CutProxy, String)> {
    let text = kubectl.run(&["config", "view", "--raw", "--minify", "--flatten", "-o", "json"]).await?;
    let mut config: Value = serde_json::from_str(&text)?;
    let server = config.pointer_mut("/clusters/0/cluster/server").context("a kubeconfig names its server")?;
    let address = server.as_str().and_then(|server| server.strip_prefix("https://"));
    let address = address.context("the API server is at https://ADDRESS:PORT")?;
    let proxy = CutProxy::start(address.parse().context("the API server has an IP address")?).await?;
    *server = json!(format!("https://{}", proxy.address()));
    Ok((proxy, config.to_string()))
}
