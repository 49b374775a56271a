//! `edge-agent`: joins a cluster to a fleet and keeps it in its signed desired state.

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, anyhow, bail};
use clap::{Parser, Subcommand};
use edge_agent::{
    VERSION,
    boundary::Boundaries,
    cluster::{Access, kube::KubeCluster},
    config::{Config, ConfigError, Kubernetes, LogFormat, LogLevel, STATE, StateDir},
    control::{self, Reply, Request},
    join, run,
};
use protocol::enrol::JoinCode;
use tokio::signal::unix::{SignalKind, signal};
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
    }
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
    runtime()?.block_on(async {
        let shutdown = stopped()?;
        match config.kubernetes.clone() {
            Kubernetes::Simulated => simulate(config, boundaries, shutdown).await,
            Kubernetes::InCluster => {
                let access = in_cluster()?;
                Ok(run(config, KubeCluster::new(access)?, boundaries, shutdown).await?)
            }
            Kubernetes::Kubeconfig(file) => {
                let access = Access::from_kubeconfig(&file, None)?;
                Ok(run(config, KubeCluster::new(access)?, boundaries, shutdown).await?)
            }
        }
    })
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
async fn simulate(
    config: Config,
    boundaries: Boundaries,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    use edge_agent::cluster::sim::{LiveCluster, Settings, SimCluster};
    let cluster = LiveCluster::new(SimCluster::new(Settings::default().into()));
    Ok(run(config, cluster, boundaries, shutdown).await?)
}

#[cfg(not(feature = "sim"))]
#[allow(clippy::unused_async, reason = "as in a build with the simulated cluster")]
async fn simulate(_: Config, _: Boundaries, _: impl Future<Output = ()>) -> anyhow::Result<()> {
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
        other @ (Reply::Done | Reply::Failed { .. }) => refused(other),
    }
}

fn tell(state: &Path, request: &Request, done: &str) -> anyhow::Result<()> {
    match control::ask(&StateDir::new(state).control(), request)? {
        Reply::Done => print(&format!("{done}\n")),
        other @ (Reply::Status(_) | Reply::Failed { .. }) => refused(other),
    }
}

fn refused(reply: Reply) -> anyhow::Result<()> {
    match reply {
        Reply::Failed { message } => bail!("the agent refused: {message}"),
        Reply::Status(_) | Reply::Done => {
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
