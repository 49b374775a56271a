//! An agent in this process, on a thread of its own: it is made for a runtime with one thread.

use std::{path::PathBuf, thread::JoinHandle, time::Duration};

use edge_agent::{
    boundary::Boundaries,
    cluster::{
        Access,
        kube::KubeCluster,
        sim::{LiveCluster, Settings, SimCluster},
    },
    config::{Config, Kubernetes, StateDir},
    control::{self, Reply, Request},
    join,
    status::AppStatus,
};
use protocol::{documents::AppState, enrol::JoinCode};
use tokio::sync::{oneshot, watch};

use crate::commands::CommandError;

/// A running agent.
pub(super) struct AgentThread {
    stop: oneshot::Sender<()>,
    /// Empty while it runs.
    ended: watch::Receiver<String>,
    thread: JoinHandle<()>,
}

/// Joins a fleet, as `edge-agent join` does.
pub(super) async fn join(
    code: JoinCode,
    state: StateDir,
    kubernetes: Kubernetes,
) -> Result<(), CommandError> {
    let joined = join::join(&code, &state, kubernetes).await;
    joined.map(drop).map_err(|error| CommandError::Agent(chain(&error)))
}

/// Whether the agent has looked at all of its applications since it started, and found them healthy. One that does
/// not answer yet has not.
pub(super) async fn sees_it_healthy(state: &StateDir) -> bool {
    let socket = state.control();
    let asked = tokio::task::spawn_blocking(move || control::ask(&socket, &Request::Status)).await;
    let Ok(Ok(Reply::Status(status))) = asked else { return false };
    let healthy = |app: &AppStatus| app.observed && app.state == AppState::Available.to_string();
    !status.applications.is_empty() && status.applications.iter().all(healthy)
}

impl AgentThread {
    /// Starts the agent that joined with `state`.
    #[allow(
        clippy::disallowed_methods,
        reason = "the agent's runtime has one thread, which is not the hub's"
    )]
    pub(super) fn start(state: &StateDir, kubeconfig: Option<PathBuf>) -> Result<Self, CommandError> {
        let config = Config::load(&state.config()).map_err(|error| CommandError::Agent(chain(&error)))?;
        let (stop, stopped) = oneshot::channel();
        let (ends, ended) = watch::channel(String::new());
        let thread = std::thread::spawn(move || {
            let outcome = run(config, kubeconfig, stopped);
            ends.send_replace(outcome.err().unwrap_or_else(|| "it was stopped".to_owned()));
        });
        Ok(Self { stop, ended, thread })
    }

    /// Why the agent ended, once it does.
    pub(super) async fn ended(&self) -> String {
        let mut ended = self.ended.clone();
        match ended.wait_for(|problem| !problem.is_empty()).await {
            Ok(problem) => problem.clone(),
            Err(_) => "its thread panicked".to_owned(),
        }
    }

    /// Stops it and waits for its end.
    pub(super) fn stop(self) {
        let _gone = self.stop.send(());
        // A panic was printed where it happened.
        let _panicked = self.thread.join();
    }
}

fn run(config: Config, kubeconfig: Option<PathBuf>, stopped: oneshot::Receiver<()>) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let stopped = async {
        let _gone = stopped.await;
    };
    runtime.block_on(async {
        let boundaries = Boundaries::default();
        let ended = match kubeconfig {
            Some(path) => {
                let access = Access::from_kubeconfig(&path, None).map_err(|error| chain(&error))?;
                let cluster = KubeCluster::new(access).map_err(|error| chain(&error))?;
                edge_agent::run(config, cluster, boundaries, stopped).await
            }
            None => {
                // Nobody who tries this out wants to wait for a simulated image to be pulled.
                let ready_after = Duration::from_millis(500)..=Duration::from_secs(2);
                let settings = Settings { ready_after, ..Settings::default() };
                let cluster = LiveCluster::new(SimCluster::new(settings.into()));
                edge_agent::run(config, cluster, boundaries, stopped).await
            }
        };
        ended.map_err(|error| chain(&error))
    })
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
