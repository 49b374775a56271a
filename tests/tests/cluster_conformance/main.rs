//! The simulated cluster answers as a real one does.
//!
//! Every case is a script of requests. It runs against both, what it saw is written down with UIDs, versions
//! and the namespace named in order of appearance, and both transcripts must be the expected one, word for
//! word. Where they differ the simulator is wrong.

mod cases;
mod side;
mod transcript;

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use edge_agent::cluster::{
    Access, Request,
    kube::KubeCluster,
    sim::{LiveCluster, Settings, SimCluster},
};
use edge_agent::logic::object::ObjectRef;
use serde_json::json;
use tests::{Kubectl, Namespace, kubeconfig};
use tokio::time::timeout;

use side::Side;
use transcript::Transcript;

/// Longest a case may take: the slowest waits for a real Deployment to be given up.
const DEADLINE: Duration = Duration::from_secs(120);

/// Runs a case on both sides and compares each transcript with what is expected.
async fn check(case: impl AsyncFn(&Side, &mut Transcript) -> Result<()>, expected: &[&str]) -> Result<()> {
    for side in [simulated().await?, real().await?] {
        let mut transcript = Transcript::new(&side);
        let run = timeout(DEADLINE, case(&side, &mut transcript)).await;
        let lines = transcript.lines();
        run.with_context(|| format!("{}: not done within {DEADLINE:?}; so far {lines:#?}", side.name()))??;
        assert!(lines == expected, "{}: expected {expected:#?}\nfound {lines:#?}", side.name());
    }
    Ok(())
}

async fn simulated() -> Result<Side> {
    let settings = Settings {
        ready_after: Duration::from_millis(100)..=Duration::from_millis(500),
        ..Settings::default()
    };
    let cluster = LiveCluster::new(SimCluster::new(Arc::new(settings)));
    let side = Side::Simulated(cluster);
    let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": side.namespace()}});
    let object = ObjectRef::of(&body)?;
    side.send(Request::Apply { object, body, force: false, dry_run: false }).await?;
    Ok(side)
}

pub(crate) async fn real() -> Result<Side> {
    let path = kubeconfig()?;
    let cluster = KubeCluster::new(Access::from_kubeconfig(&path, None)?)?;
    let namespace = Namespace::create("conformance").await?;
    Ok(Side::Real { cluster, namespace, kubectl: Kubectl::new(path)? })
}
