//! `edge-agent`: joins a cluster to a fleet and keeps it in its signed desired state.

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, anyhow, bail};
use clap::{Parser, Subcommand};
use edge_agent::{
    VERSION,
    boundary::Boundaries,
    carry::{self, Import},
    cluster::{Access, Cluster, kube::KubeCluster},
    config::{Config, ConfigError, Kubernetes, LogFormat, LogLevel, STATE, StateDir},
    control::{self, Reply, Request},
    join, run, run_apart,
};
use protocol::enrol::JoinCode;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};
use tracing::level_filters::LevelFilter;

/// Keeps one Kubernetes cluster in its signed desired state.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
#[allow(clippy::large_enum_variant, reason = "parsed once, from arguments")]
enum Command {
    /// Joins this machine's cluster to a fleet.
    Join {
        /// The line that `edgefleet cluster add` printed, starting with "ef1-".
        code: JoinCode,
        /// Where the agent keeps its state.
        #[arg(long, default_value = STATE)]
        state: PathBuf,
        /// The kubeconfig to use; the pod's own service account if not given.
        #[arg(long)]
        kubeconfig: Option<PathBuf>,
    },
    /// Runs the agent.
    Run {
        /// The file that `join` wrote.
        #[arg(long, default_value = "/var/lib/edgefleet/config.toml")]
        config: PathBuf,
    },
    /// Says how the running agent and its applications are.
    Status {
        /// Where the agent keeps its state.
        #[arg(long, default_value = STATE)]
        state: PathBuf,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
    },
    /// Stops all changes of this site until `release`: nothing is started, healed or pruned.
    Hold {
        /// Why; the hub shows it.
        #[arg(long)]
        reason: String,
        /// Where the agent keeps its state.
        #[arg(long, default_value = STATE)]
        state: PathBuf,
    },
    /// Ends a hold.
    Release {
        /// Where the agent keeps its state.
        #[arg(long, default_value = STATE)]
        state: PathBuf,
    },
    /// Takes updates that were carried here, without a link to the hub.
    ///
    /// The running agent checks the file as it checks what comes over the link. Where none runs, one does until the end
    /// of this command. Once the result is known, or after --wait, a report for the hub is written beside the file.
    /// Importing the same file again does no harm.
    Import {
        /// The file that `edgefleet export` wrote.
        file: PathBuf,
        /// Where the agent keeps its state.
        #[arg(long, default_value = STATE)]
        state: PathBuf,
        /// You looked at this machine's clock (`date`), and it is right.
        #[arg(long)]
        confirm_clock: bool,
        /// How many seconds to wait for the result.
        #[arg(long, value_name = "SECONDS", default_value_t = 300)]
        wait: u64,
        /// Where to write the report; FILE.report if not given.
        #[arg(long, value_name = "FILE")]
        report: Option<PathBuf>,
    },
    /// Writes a report that can be carried to the hub: `edgefleet cluster report` takes it.
    Report {
        /// The file to write.
        #[arg(long, value_name = "FILE")]
        output: PathBuf,
        /// Where the agent keeps its state.
        #[arg(long, default_value = STATE)]
        state: PathBuf,
    },
}

fn main() -> ExitCode {
    // Arguments that cannot be understood end here, with 2.
    let cli = Cli::parse();
    match execute(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let is_config = error.downcast_ref::<ConfigError>().is_some();
            // Nobody is left to be told if this fails.
            let _told = writeln!(io::stderr(), "edge-agent: {error:#}");
            ExitCode::from(if is_config { 2 } else { 1 })
        }
    }
}

fn execute(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Join { code, state, kubeconfig } => enter(&code, &state, kubeconfig),
        Command::Run { config } => keep(&config),
        Command::Status { state, json } => show(&state, json),
        Command::Hold { reason, .. } if reason.trim().is_empty() => bail!("give a reason: the hub shows it"),
        Command::Hold { reason, state } => tell(&state, &Request::Hold { reason }, "on hold"),
        Command::Release { state } => tell(&state, &Request::Release, "released"),
        Command::Import { file, state, confirm_clock, wait, report } => {
            let state = StateDir::new(&state);
            let import = Import { file, socket: state.control(), confirm_clock };
            let wait = Duration::from_secs(wait);
            match control::answers(&import.socket) {
                true => bring(&import, wait, report),
                false => bring_apart(&state, import, wait, report),
            }
        }
        Command::Report { output, state } => {
            carry::report(&StateDir::new(&state).control(), &output)?;
            print(&format!("wrote {}; at the hub: edgefleet cluster report FILE\n", output.display()))
        }
    }
}

/// Imports a file, says what became of it, and writes the report beside it, whatever that was.
fn bring(import: &Import, wait: Duration, report: Option<PathBuf>) -> anyhow::Result<()> {
    let taken = import.run()?;
    print(&format!("took all of {}; waiting for the result\n", import.file.display()))?;
    let (status, settled) = import.wait(&taken, wait)?;
    print(&status.to_string())?;
    let report = report.unwrap_or_else(|| {
        let mut name = import.file.clone().into_os_string();
        name.push(".report");
        name.into()
    });
    carry::report(&import.socket, &report)?;
    print(&format!("wrote {}; at the hub: edgefleet cluster report FILE\n", report.display()))?;
    if settled {
        Ok(())
    } else {
        bail!("not all of it runs: see above; `edge-agent status` says how it goes on")
    }
}

/// [`bring`] where no agent runs: one does, without a link, until it is over.
fn bring_apart(
    state: &StateDir,
    import: Import,
    wait: Duration,
    report: Option<PathBuf>,
) -> anyhow::Result<()> {
    let config = Config::load(&state.config())?;
    runtime()?.block_on(async {
        let (ready, is_ready) = oneshot::channel();
        let (over, is_over) = oneshot::channel();
        let client = async {
            // Otherwise the agent did not start, and says why.
            let Ok(()) = is_ready.await else { return Ok(()) };
            let result = tokio::task::spawn_blocking(move || bring(&import, wait, report)).await;
            let _told = over.send(());
            result?
        };
        let agent = on_cluster(config, Life::Apart { ready }, async {
            let _over = is_over.await;
        });
        let (agent, client) = tokio::join!(agent, client);
        agent.and(client)
    })
}

fn enter(code: &JoinCode, state: &Path, kubeconfig: Option<PathBuf>) -> anyhow::Result<()> {
    let kubernetes = match kubeconfig {
        Some(path) => Kubernetes::Kubeconfig(std::path::absolute(path)?),
        None => Kubernetes::InCluster,
    };
    let joined = runtime()?.block_on(async {
        if let Kubernetes::Kubeconfig(file) = &kubernetes {
            // The code works once: it is not spent on a machine that then could not run.
            KubeCluster::new(Access::from_kubeconfig(file, None)?)?;
        }
        anyhow::Ok(join::join(code, &StateDir::new(state), kubernetes).await?)
    })?;
    print(&format!(
        "Cluster {} has joined fleet {}.\nNow run: edge-agent run --config {}\n",
        code.cluster,
        code.fleet,
        joined.display()
    ))
}

fn keep(path: &Path) -> anyhow::Result<()> {
    let config = Config::load(path)?;
    log(&config);
    let boundaries = Boundaries::from_environment();
    runtime()?.block_on(async { on_cluster(config, Life::Linked { boundaries }, stopped()?).await })
}

/// With a link, or without one.
enum Life {
    Linked { boundaries: Boundaries },
    Apart { ready: oneshot::Sender<()> },
}

async fn on_cluster(config: Config, life: Life, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
    match config.kubernetes.clone() {
        Kubernetes::Simulated => simulate(config, life, shutdown).await,
        Kubernetes::InCluster => live(config, KubeCluster::new(in_cluster()?)?, life, shutdown).await,
        Kubernetes::Kubeconfig(file) => {
            let access = Access::from_kubeconfig(&file, None)?;
            live(config, KubeCluster::new(access)?, life, shutdown).await
        }
    }
}

async fn live(
    config: Config,
    cluster: impl Cluster + Clone + 'static,
    life: Life,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    match life {
        Life::Linked { boundaries } => Ok(run(config, cluster, boundaries, shutdown).await?),
        Life::Apart { ready } => Ok(run_apart(config, cluster, ready, shutdown).await?),
    }
}

/// Kubernetes tells every pod where its API server is.
#[allow(clippy::disallowed_methods, reason = "configuration that only the environment holds, read once")]
fn in_cluster() -> anyhow::Result<Access> {
    let tell = |name: &str| {
        std::env::var(name).map_err(|_| {
            anyhow!(
                "{name} is not set, so the agent does not run in a pod: write the path of a kubeconfig into its \
                 configuration (kubernetes = \"/etc/rancher/k3s/k3s.yaml\")"
            )
        })
    };
    let (host, port) = (tell("KUBERNETES_SERVICE_HOST")?, tell("KUBERNETES_SERVICE_PORT")?);
    let port = port.parse().with_context(|| format!("KUBERNETES_SERVICE_PORT {port:?} is not a port"))?;
    Ok(Access::in_cluster(&host, port)?)
}

#[cfg(feature = "sim")]
async fn simulate(config: Config, life: Life, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
    use edge_agent::cluster::sim::{LiveCluster, Settings, SimCluster};
    let cluster = LiveCluster::new(SimCluster::new(Settings::default().into()));
    live(config, cluster, life, shutdown).await
}

#[cfg(not(feature = "sim"))]
#[allow(clippy::unused_async, reason = "as in a build with the simulated cluster")]
async fn simulate(_: Config, _: Life, _: impl Future<Output = ()>) -> anyhow::Result<()> {
    bail!("kubernetes = \"simulated\": this build has no simulated cluster; build it with `--features sim`")
}

/// Ready when the process is asked to stop.
fn stopped() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

fn show(state: &Path, json: bool) -> anyhow::Result<()> {
    match control::ask(&StateDir::new(state).control(), &Request::Status)? {
        Reply::Status(status) if json => print(&format!("{}\n", serde_json::to_string_pretty(&status)?)),
        Reply::Status(status) => print(&status.to_string()),
        other @ (Reply::Done | Reply::Report { .. } | Reply::Failed { .. }) => refused(other),
    }
}

fn tell(state: &Path, request: &Request, done: &str) -> anyhow::Result<()> {
    match control::ask(&StateDir::new(state).control(), request)? {
        Reply::Done => print(&format!("{done}\n")),
        other @ (Reply::Status(_) | Reply::Report { .. } | Reply::Failed { .. }) => refused(other),
    }
}

fn refused(reply: Reply) -> anyhow::Result<()> {
    match reply {
        Reply::Failed { message } => bail!("the agent refused: {message}"),
        Reply::Status(_) | Reply::Done | Reply::Report { .. } => {
            bail!("the agent answered something else: is it version {VERSION}?")
        }
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    // Whoever installed one before is this same provider.
    let _installed = rustls::crypto::ring::default_provider().install_default();
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start a runtime")
}

fn log(config: &Config) {
    let level = match config.log_level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
    };
    let subscriber = tracing_subscriber::fmt().with_max_level(level).with_writer(io::stderr);
    match config.log {
        LogFormat::Text => subscriber.init(),
        LogFormat::Json => subscriber.json().init(),
    }
}

fn print(text: &str) -> anyhow::Result<()> {
    io::stdout().write_all(text.as_bytes()).context("cannot write to standard output")
}
