//! One command on a fresh machine: keys, a hub, one agent, a signed bundle delivered and healthy. Everything lives
//! in one folder, and the same command on that folder goes on where it stopped.

mod agent;

use std::{
    collections::BTreeSet,
    fs, io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use edge_agent::config::{Kubernetes, StateDir};
use fleet_broker::{
    keys::{self, Charter, ROOT_FILE},
    pki::CERTIFICATE_LIFETIME,
    resources::{Assignment, AssignmentState},
    serve::{self, Running, ServeConfig},
};
use protocol::{
    documents::{Adopt, NamespacePattern},
    ids::{AppId, ClusterId, FleetId, Name},
    time::UnixSeconds,
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::signal::unix::{Signal as Interrupt, SignalKind, signal};

use crate::{
    bundle::Bundle,
    commands::CommandError,
    hub::{Hub, HubError},
    manifest::{self, Rules},
    output::Output,
    release::{self, Plan},
    source::SourceText,
};
use agent::AgentThread;

/// What is delivered.
const DEMO: &str = include_str!("quickstart/demo.yaml");

/// The demo's tenant and application.
const TENANT: &str = "demo";
const APPLICATION: &str = "web";
const VERSION: &str = "1.0.0";

/// The one cluster.
const CLUSTER: &str = "tower-1";

/// How long keys and bundle are good for.
const YEAR_SECONDS: u64 = 365 * 24 * 60 * 60;

/// How long the demo may take to be healthy, with images to be pulled on a real cluster.
const HEALTHY_WITHIN: Duration = Duration::from_secs(300);

/// How often the hub is asked meanwhile.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// What a quickstart is told.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where everything is kept.
    pub folder: PathBuf,
    /// A real cluster, instead of the simulated one.
    pub kubeconfig: Option<PathBuf>,
    /// Whether to stop once the demo is healthy.
    pub once: bool,
    /// The time now.
    pub now: UnixSeconds,
}

/// What has to be the same when the command is run again.
#[derive(Debug, Serialize, Deserialize)]
struct Ports {
    api: u16,
    broker: u16,
    enrol: u16,
}

/// Runs it; ends on Ctrl-C, or with [`Options::once`] when the demo is healthy.
pub async fn run(options: &Options, output: &mut Output<'_>) -> Result<(), CommandError> {
    // From here on Ctrl-C is heard between steps, and stops the agent and the hub in order.
    let mut interrupt = signal(SignalKind::interrupt()).map_err(CommandError::Runtime)?;
    let mut steps = Steps::start(output);
    let ports = ports(&options.folder)?;
    let made = make_keys(options)?;
    steps.done(if made { "made keys and a root document" } else { "found keys and root document" })?;
    let hub = start_hub(options, &ports).await?;
    steps.done(&format!("started the hub, its API at https://127.0.0.1:{}", hub.api.port()))?;
    let operator = Hub::open(&hub.kubeconfig).await?;
    let state = StateDir::new(&options.folder.join("agent"));
    let kind = cluster_kind(options)?;
    if !state.config().exists() {
        let cluster = ClusterId::new(CLUSTER).expect("the name follows the rule");
        operator.add_cluster(&cluster, &[("stage".to_owned(), "demo".to_owned())]).await?;
        let code = operator.join_code(&cluster).await?;
        agent::join(code, state.clone(), kind.clone()).await?;
        steps.done(&format!("{CLUSTER} joined with a one-time code"))?;
    }
    let agent = AgentThread::start(&state, options.kubeconfig.clone())?;
    steps.done(match options.kubeconfig {
        Some(_) => "started its agent on your cluster",
        None => "started its agent on a simulated cluster (no Kubernetes needed; --kubeconfig FILE for a real one)",
    })?;
    let bundle = bundle(options)?;
    operator.push(&bundle).await?;
    operator.put_application(application()).await?;
    let what =
        format!("signed and published {APPLICATION} {VERSION}: {} objects", bundle.release().objects.len());
    steps.done(&what)?;
    let seen = tokio::select! {
        seen = wait_until_healthy(&operator, &state, &mut steps) => Some(seen),
        problem = agent.ended() => Some(Err(CommandError::Agent(problem))),
        _ = interrupt.recv() => None,
    };
    let ended = match seen {
        Some(Ok(())) => {
            if options.once {
                steps
                    .output
                    .note("The same command without --once goes on from here and keeps both running.")?;
                Ok(())
            } else {
                steps.output.note(&next_steps(&hub))?;
                until_stopped(agent.ended(), &mut interrupt).await
            }
        }
        Some(Err(error)) => Err(error),
        None => Err(CommandError::Stopped),
    };
    agent.stop();
    hub.stop().await;
    ended
}

/// Prints what was done and how long it took.
struct Steps<'a, 'b> {
    output: &'a mut Output<'b>,
    started: Instant,
    last: Instant,
}

impl<'a, 'b> Steps<'a, 'b> {
    #[allow(clippy::disallowed_methods, reason = "how long a step took is what is printed")]
    fn start(output: &'a mut Output<'b>) -> Self {
        let now = Instant::now();
        Self { output, started: now, last: now }
    }

    #[allow(clippy::disallowed_methods, reason = "how long a step took is what is printed")]
    fn done(&mut self, what: &str) -> Result<(), CommandError> {
        let now = Instant::now();
        let took = now.duration_since(self.last);
        self.last = now;
        Ok(self.output.line(&format!("{:>7.2} s  {what}", took.as_secs_f64()))?)
    }

    fn total(&self) -> f64 {
        self.last.duration_since(self.started).as_secs_f64()
    }
}

/// The ports of the first run, which the agent's configuration names ever after.
fn ports(folder: &Path) -> Result<Ports, CommandError> {
    let path = folder.join("ports.json");
    let about = |action| {
        let path = path.clone();
        move |source| file_error(action, &path, source)
    };
    if path.exists() {
        let text = fs::read(&path).map_err(about("read"))?;
        return serde_json::from_slice(&text).map_err(|error| CommandError::State {
            file: path.display().to_string(),
            problem: error.to_string(),
        });
    }
    fs::create_dir_all(folder).map_err(about("make the folder of"))?;
    let taken: Vec<TcpListener> = (0..3)
        .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
        .collect::<Result<_, _>>()
        .map_err(about("choose ports for"))?;
    let mut free = taken.iter().filter_map(|listener| Some(listener.local_addr().ok()?.port()));
    let mut port = || free.next().unwrap_or_default();
    let ports = Ports { api: port(), broker: port(), enrol: port() };
    let text = serde_json::to_vec(&ports).expect("numbers are JSON");
    fs::write(&path, text).map_err(about("write"))?;
    Ok(ports)
}

/// Makes the fleet's keys, unless they are there. Their folder appears at once, whole.
fn make_keys(options: &Options) -> Result<bool, CommandError> {
    let folder = options.folder.join("keys");
    if folder.exists() {
        return Ok(false);
    }
    let fleet = FleetId::new(format!("quickstart-{}", options.now)).expect("digits follow the rule");
    let authority = serve::certificate_authority(&options.folder.join("hub"), fleet.as_str())?;
    let namespaces = [TENANT, "demo-*"].iter().map(|text| text.parse::<NamespacePattern>());
    let charter = Charter {
        fleet,
        tenant: tenant(),
        namespaces: namespaces.collect::<Result<_, _>>().expect("the patterns follow the rule"),
        ca_pins: vec![authority.pin()],
        issued: options.now,
        not_after: options.now.plus(YEAR_SECONDS),
    };
    keys::generate(&charter)?.write(&folder)?;
    Ok(true)
}

async fn start_hub(options: &Options, ports: &Ports) -> Result<Running, CommandError> {
    let folder = options.folder.join("keys");
    let root = folder.join(ROOT_FILE);
    let root = fs::read(&root).map_err(|source| file_error("read", &root, source))?;
    let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let config = ServeConfig {
        directory: options.folder.join("hub"),
        api: local(ports.api),
        broker: local(ports.broker),
        enrol: local(ports.enrol),
        advertise: "127.0.0.1".to_owned(),
        root,
        director: keys::load_signing_key(&folder.join("director.key"))?.key,
        certificate_lifetime: CERTIFICATE_LIFETIME,
    };
    Ok(serve::start(config).await?)
}

fn cluster_kind(options: &Options) -> Result<Kubernetes, CommandError> {
    let Some(path) = &options.kubeconfig else { return Ok(Kubernetes::Simulated) };
    let absolute = std::path::absolute(path).map_err(|source| file_error("find", path, source))?;
    Ok(Kubernetes::Kubeconfig(absolute))
}

fn bundle(options: &Options) -> Result<Bundle, CommandError> {
    let path = options.folder.join("web.bundle");
    if path.exists() {
        return Bundle::open(&path).map_err(CommandError::bundle("read", &path));
    }
    let texts = [SourceText { name: "quickstart's demo".to_owned(), text: DEMO.to_owned() }];
    let rules = Rules { namespace: tenant(), cluster_scoped: BTreeSet::new(), plaintext_secrets: false };
    let manifests = manifest::parse(&texts, &rules)?;
    let app = AppId { tenant: tenant(), name: Name::new(APPLICATION).expect("the name follows the rule") };
    let plan = Plan {
        adopt: Adopt::IfIdentical,
        ..Plan::new(app, VERSION.to_owned(), 1, options.now.plus(YEAR_SECONDS))
    };
    let about = CommandError::bundle("make", &path);
    let mut bundle = Bundle::new(&release::build(&plan, manifests.objects)?).map_err(about)?;
    let folder = options.folder.join("keys");
    let trust = keys::load_root(&folder.join(ROOT_FILE))?;
    for name in ["release-1.key", "release-2.key"] {
        let file = keys::load_signing_key(&folder.join(name))?;
        bundle.sign(&trust.root().fleet, &file.key).map_err(about)?;
    }
    bundle.save(&path).map_err(about)?;
    Ok(bundle)
}

fn application() -> serde_json::Value {
    json!({
        "apiVersion": "edgefleet.dev/v1alpha1",
        "kind": "Application",
        "metadata": {"namespace": TENANT, "name": APPLICATION},
        "spec": {
            "bundle": format!("{APPLICATION}-{VERSION}"),
            "placement": {"clusterSelector": {"matchLabels": {"stage": "demo"}}},
        },
    })
}

/// Waits until the hub says that the demo is healthy, and the agent that this is so now: when a folder is taken up
/// again, the hub still shows what it last heard.
async fn wait_until_healthy(
    operator: &Hub,
    state: &StateDir,
    steps: &mut Steps<'_, '_>,
) -> Result<(), CommandError> {
    let mut last = String::new();
    let watch = async {
        let mut asks = tokio::time::interval(ASK_EVERY);
        loop {
            asks.tick().await;
            let assignments = operator.assignments().await?;
            let Some(shown) = state_of(&assignments) else { continue };
            if shown.0 == AssignmentState::Updated && agent::sees_it_healthy(state).await {
                return Ok::<_, HubError>(());
            }
            last = shown.1;
        }
    };
    match tokio::time::timeout(HEALTHY_WITHIN, watch).await {
        Ok(outcome) => outcome?,
        Err(_) => {
            let text = format!("{APPLICATION} is not healthy after {} s; {last}", HEALTHY_WITHIN.as_secs());
            return Err(CommandError::Timeout(text));
        }
    }
    steps.done(&format!("{APPLICATION} {VERSION} is applied and healthy on {CLUSTER}"))?;
    steps.output.line(&format!("{:>7.2} s  in all", steps.total()))?;
    Ok(())
}

fn state_of(assignments: &[Assignment]) -> Option<(AssignmentState, String)> {
    let status = assignments.iter().filter_map(|assignment| assignment.status.as_ref());
    let status =
        status.into_iter().find(|status| status.cluster == CLUSTER && status.application == APPLICATION)?;
    let object = status.worst_object.clone().unwrap_or_default();
    let message = status.message.clone().unwrap_or_default();
    Some((status.state, format!("it is {:?}: {object} {message}", status.state)))
}

/// Whoever built this by one command has no other program of Edgefleet, and this one is in no search path.
fn next_steps(hub: &Running) -> String {
    let kubeconfig = hub.kubeconfig.display();
    let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("edgefleet"));
    let program = program.display();
    format!(
        "\nWhat to do next, from another terminal:\n\
         \x20 kubectl --kubeconfig {kubeconfig} get clusters,applications,assignments -A\n\
         \x20 {program} status --kubeconfig {kubeconfig}\n\
         \x20 {program} status {CLUSTER} --kubeconfig {kubeconfig}\n\
         Ctrl-C stops both; the same command goes on from here."
    )
}

async fn until_stopped(
    failure: impl Future<Output = String>,
    interrupt: &mut Interrupt,
) -> Result<(), CommandError> {
    tokio::select! {
        _ = interrupt.recv() => Ok(()),
        problem = failure => Err(CommandError::Agent(problem)),
    }
}

fn tenant() -> Name {
    Name::new(TENANT).expect("the name follows the rule")
}

fn file_error(action: &'static str, file: &Path, source: io::Error) -> CommandError {
    CommandError::File { action, file: file.display().to_string(), source }
}
