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
    logic::app::{PARENT_NAMESPACE, apply_set, parent_name},
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
    keys::{self, Charter, ROOT_FILE},
    resources::{Assignment, AssignmentState, AssignmentStatus, Cluster},
    serve::{self, Running, ServeConfig},
};
use protocol::{
    documents::{Adopt, NamespacePattern},
    ids::{AppId, ClusterId, FleetId, Name},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::{CutProxy, Kubectl, Process, kubeconfig, wait_for};

/// Longest wait for anything that should happen; reached only by a test that fails.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// How long keys and bundles are good for.
const DAY_SECONDS: u64 = 24 * 60 * 60;

/// The one application of every site.
pub(crate) const APPLICATION: &str = "web";

/// The label by which the ApplySet of KEP-3659 knows its members.
pub(crate) const PART_OF: &str = "applyset.kubernetes.io/part-of";

/// Kinds that tests put where a namespace's end does not reach: into other namespaces, and beside all of them.
pub(crate) const FAR_KINDS: &str = "apiservices,clusterrolebindings,clusterroles,configmaps,\
    customresourcedefinitions,daemonsets,deployments,namespaces,rolebindings,serviceaccounts,services,\
    validatingadmissionpolicies,validatingadmissionpolicybindings";

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
    ports: Ports,
    agent: Option<Process>,
    released: u64,
    /// Every application that was delivered.
    delivered: BTreeSet<String>,
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
        let name = format!("{promise}-{}", clock::now());
        let folder = TempDir::with_prefix(&name)?;
        make_keys(folder.path(), &name, namespaces)?;
        let director = folder.path().join("keys/director.key");
        let hub = start_hub(folder.path(), Ports::default(), &director).await?;
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
        let (hub, agent) = (Some(hub), None);
        let (released, delivered) = (0, BTreeSet::new());
        let mut site =
            Self { name, operator, link, api, kubectl, folder, hub, ports, agent, released, delivered };
        site.join().await?;
        site.start_agent()?;
        site.condition("Connected").await?;
        Ok(site)
    }

    /// Registers the cluster and lets the agent join, whose way to the hub then is the link that can be cut.
    async fn join(&self) -> Result<()> {
        let cluster = ClusterId::new(&*self.name)?;
        self.operator.add_cluster(&cluster, &[("stage".to_owned(), "test".to_owned())]).await?;
        let code = self.operator.join_code(&cluster).await?.to_string();
        let state = self.state();
        let mut command = Command::new(agent_program()?);
        command.args(["join", &code, "--state"]).arg(state.folder());
        command.arg("--kubeconfig").arg(self.folder.path().join("kubeconfig"));
        let mut joining = Process::spawn("edge-agent-join", &command)?;
        ensure!(joining.wait(SOON).await?.success(), "the agent did not join");
        let mut config = Config::load(&state.config())?;
        config.broker = Address { host: "127.0.0.1".to_owned(), port: self.link.address().port() };
        fs::write(state.config(), config.to_text()?)?;
        Ok(())
    }

    /// Where the agent keeps its state.
    pub(crate) fn state(&self) -> StateDir {
        StateDir::new(&self.folder.path().join("agent"))
    }

    /// Starts the agent that has joined.
    pub(crate) fn start_agent(&mut self) -> Result<()> {
        let mut command = Command::new(agent_program()?);
        command.args(["run", "--config"]).arg(self.state().config());
        self.agent = Some(Process::spawn("edge-agent", &command)?);
        Ok(())
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
        let director = self.folder.path().join("keys/director.key");
        self.hub = Some(start_hub(self.folder.path(), self.ports, &director).await?);
        Ok(())
    }

    /// Builds, signs and publishes a version of the application, and has it run. Returns the bundle's name.
    pub(crate) async fn deliver(&mut self, manifests: &str) -> Result<String> {
        self.deliver_as(APPLICATION, manifests).await
    }

    /// [`Site::deliver`] for an application of another name.
    pub(crate) async fn deliver_as(&mut self, application: &str, manifests: &str) -> Result<String> {
        let bundle = self.bundle(application, manifests)?;
        self.delivered.insert(application.to_owned());
        let name = format!("{application}-{}", bundle.release().version);
        self.operator.push(&bundle).await?;
        let application = json!({
            "apiVersion": "edgefleet.dev/v1alpha1",
            "kind": "Application",
            "metadata": {"namespace": self.name, "name": application},
            "spec": {"bundle": name, "placement": {"clusterSelector": {"matchLabels": {"stage": "test"}}}},
        });
        self.operator.put_application(application).await?;
        Ok(name)
    }

    /// A signed bundle that nobody has published yet.
    pub(crate) fn bundle(&mut self, application: &str, manifests: &str) -> Result<Bundle> {
        self.released += 1;
        let texts = [SourceText { name: self.name.clone(), text: manifests.to_owned() }];
        let namespace = Name::new(&*self.name)?;
        let rules = Rules { namespace, cluster_scoped: BTreeSet::new(), plaintext_secrets: false };
        let plan = Plan {
            app: self.app(application)?,
            version: format!("1.0.{}", self.released),
            counter: self.released,
            floor: 0,
            not_after: clock::now().plus(DAY_SECONDS),
            parameters: Vec::new(),
            ignore: Vec::new(),
            adopt: Adopt::Never,
            max_deletes: None,
            affects_link: false,
        };
        let mut bundle = Bundle::new(&release::build(&plan, manifest::parse(&texts, &rules)?.objects)?)?;
        let folder = self.folder.path().join("keys");
        let trust = keys::load_root(&folder.join(ROOT_FILE))?;
        // Two, because a namespace is an object of the whole cluster.
        for name in ["release-1.key", "release-2.key"] {
            bundle.sign(&trust.root().fleet, &keys::load_signing_key(&folder.join(name))?.key)?;
        }
        Ok(bundle)
    }

    fn app(&self, application: &str) -> Result<AppId> {
        Ok(AppId::new(&self.name, application)?)
    }

    /// The label value of the application's objects.
    pub(crate) fn apply_set(&self) -> Result<String> {
        self.apply_set_of(APPLICATION)
    }

    /// The label value of another application's objects.
    pub(crate) fn apply_set_of(&self, application: &str) -> Result<String> {
        Ok(apply_set(&self.app(application)?))
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
        self.cluster(kind, |cluster| condition_is(cluster, kind, "True")).await
    }

    /// Waits until the hub no longer sees the agent.
    pub(crate) async fn is_offline(&self) -> Result<()> {
        self.cluster("Offline", |cluster| condition_is(cluster, "Connected", "False")).await
    }

    async fn cluster(&self, what: &str, wanted: impl Fn(&Cluster) -> bool) -> Result<()> {
        wait_for(what, SOON, async || {
            let clusters = self.operator.clusters().await?;
            ensure!(clusters.iter().any(&wanted), "{clusters:#?}");
            Ok(())
        })
        .await
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
        for app in self.delivered.iter().filter_map(|name| self.app(name).ok()) {
            let members = format!("{PART_OF}={}", apply_set(&app));
            let parent = parent_name(&app);
            let deletions: [&[&str]; 2] = [
                &["delete", FAR_KINDS, "--all-namespaces", "-l", &members, "--wait=false"],
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

/// Whether a condition of a cluster has this status.
fn condition_is(cluster: &Cluster, kind: &str, status: &str) -> bool {
    let conditions = cluster.status.iter().flat_map(|shown| &shown.conditions);
    conditions.into_iter().any(|one| one.type_ == kind && one.status == status)
}

fn make_keys(folder: &Path, name: &str, namespaces: &[&str]) -> Result<()> {
    let fleet = FleetId::new(name)?;
    let authority = serve::certificate_authority(&folder.join("hub"), fleet.as_str())?;
    let now = clock::now();
    let charter = Charter {
        fleet,
        tenant: Name::new(name)?,
        namespaces: [&[name], namespaces]
            .concat()
            .into_iter()
            .map(str::parse::<NamespacePattern>)
            .collect::<Result<_, _>>()?,
        ca_pins: vec![authority.pin()],
        issued: now,
        not_after: now.plus(DAY_SECONDS),
    };
    Ok(keys::generate(&charter)?.write(&folder.join("keys"))?)
}

async fn start_hub(folder: &Path, ports: Ports, director: &Path) -> Result<Running> {
    let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let config = ServeConfig {
        directory: folder.join("hub"),
        api: local(ports.api),
        broker: local(ports.broker),
        enrol: local(ports.enrol),
        advertise: "127.0.0.1".to_owned(),
        root: fs::read(folder.join("keys").join(ROOT_FILE))?,
        director: keys::load_signing_key(director)?.key,
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

/// The agent as cargo built it, two folders above the tests.
fn agent_program() -> Result<PathBuf> {
    let tests = std::env::current_exe().context("find this test's own program")?;
    let folder = tests.ancestors().nth(2).context("cargo puts tests into deps/")?;
    let program = folder.join("edge-agent");
    ensure!(program.is_file(), "{} is missing: run this by tests/run, which builds it", program.display());
    Ok(program)
}
