//! What an idle link carries, measured between the agent's and the hub's programs. The agents' clusters are simulated:
//! no byte of what is measured depends on them.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    hub::{Hub, Programs, SOON, TENANT},
    logic::{
        manifests::manifests,
        traffic::{Measured, median},
        wire::{self, Carried},
    },
    process::{Process, run},
    proxy::Proxy,
    say,
};

/// Objects of the application that the agents keep. Nothing that is measured names them, and few are healthy soon.
const OBJECTS: usize = 3;

/// Silence after which what was said is over; less than the least of the intervals below.
const QUIET: Duration = Duration::from_secs(2);

/// Each figure is the median of so many.
const ROUNDS: usize = 3;

/// The cluster that hears of a freeze, and the freeze.
const TOLD: &str = "told";
const FREEZE: &str = "measured";

/// The shortest intervals that agents take, and the longest keepalive that hubs do, for those that are not to ping.
const PING_SECONDS: u16 = 5;
const HEARTBEAT_SECONDS: u32 = 10;
const SILENT_SECONDS: u16 = 3600;

/// Measures everything, in an empty folder.
pub(crate) fn measure(programs: Programs, folder: &Path) -> Result<Measured> {
    let mut hub = Hub::start(programs, folder)?;
    let mut pinging = Tower::join(&hub, "pinging", PING_SECONDS, u32::MAX)?;
    let mut reporting = Tower::join(&hub, "reporting", SILENT_SECONDS, HEARTBEAT_SECONDS)?;
    let mut told = Tower::join(&hub, TOLD, SILENT_SECONDS, u32::MAX)?;
    hub.deliver(1, &manifests(TENANT, 1, OBJECTS), 3)?;
    say("counting");
    // The first may be the end of another: the median is none of the ends.
    reporting.proxy.forget();
    pinging.proxy.cut();
    pinging.proxy.forget();
    let reconnect = wire::opening() + pinging.exchanges(1)?[0];
    let heads = told.heads(&hub)?;
    let pings = pinging.exchanges(1 + ROUNDS)?.split_off(1);
    let heartbeats = reporting.exchanges(ROUNDS)?;
    let middle = |weights| median(weights).context("each round gave a figure");
    Ok(Measured { ping: middle(pings)?, heartbeat: middle(heartbeats)?, head: middle(heads)?, reconnect })
}

/// A running agent and the proxy through which it speaks.
struct Tower {
    agent: Process,
    proxy: Proxy,
}

impl Tower {
    fn join(hub: &Hub, cluster: &str, keepalive: u16, heartbeat: u32) -> Result<Self> {
        // Joining checks a kubeconfig, which a simulated cluster has no use for: any will do.
        let state = hub.join(cluster, &hub.kubeconfig())?;
        let path = state.join("config.toml");
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        let (text, broker) = configured(&text, keepalive, heartbeat)?;
        let proxy = Proxy::start(SocketAddr::from((Ipv4Addr::LOCALHOST, broker)))?;
        let text = format!("broker = \"localhost:{}\"\n{text}", proxy.port());
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        Ok(Self { agent: hub.start_agent(&state)?, proxy })
    }

    /// What each of the first `count` exchanges weighs, once they are over.
    fn exchanges(&mut self, count: usize) -> Result<Vec<u64>> {
        let Self { agent, proxy, .. } = self;
        agent.wait_for(&format!("{count} exchanges on the link"), SOON, |_| {
            let carried = proxy.carried();
            let now = proxy.watch().elapsed();
            let over = |burst: &&[Carried]| burst.last().is_some_and(|last| last.at + QUIET < now);
            let bursts = wire::bursts(&carried, QUIET).filter(over).take(count);
            let weights: Vec<u64> = bursts.map(wire::weight).collect();
            ensure!(weights.len() == count, "{} so far", weights.len());
            Ok(weights)
        })
    }

    /// What heads weigh that permit what runs, as those do that are signed anew. The end of a freeze has one signed at
    /// once.
    fn heads(&mut self, hub: &Hub) -> Result<Vec<u64>> {
        let label = format!("cluster={TOLD}");
        let why = ["--name", FREEZE, "--reason", "measured"];
        let mut heads = Vec::new();
        while heads.len() < ROUNDS {
            self.proxy.forget();
            run(hub.operator().arg("freeze").args(why).args(["--label", &label]), "", true)?;
            self.exchanges(1)?;
            self.proxy.forget();
            run(hub.operator().args(["unfreeze", FREEZE, "--reason", "measured"]), "", true)?;
            heads.extend(self.exchanges(1)?);
        }
        Ok(heads)
    }
}

/// An agent's configuration with these intervals and a simulated cluster, less its broker, whose port is returned.
fn configured(text: &str, keepalive: u16, heartbeat: u32) -> Result<(String, u16)> {
    let key = |line: &str| {
        line.split_once(" = ").map(|(key, value)| (key.to_owned(), value.trim_matches('"').to_owned()))
    };
    let mut broker = None;
    let lines = text.lines().filter_map(|line| match key(line) {
        Some((key, value)) if key == "broker" => {
            broker = value.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
            None
        }
        Some((key, _)) if key == "kubernetes" => Some("kubernetes = \"simulated\"".to_owned()),
        Some((key, _)) if key == "keepalive_seconds" => Some(format!("{key} = {keepalive}")),
        Some((key, _)) if key == "heartbeat_seconds" => Some(format!("{key} = {heartbeat}")),
        Some(_) | None => Some(line.to_owned()),
    });
    let text: Vec<String> = lines.collect();
    Ok((text.join("\n"), broker.context("the configuration names a broker")?))
}
