//! What a fleet costs its hub, and how fast a change reaches all of it, beside Mosquitto carrying the same bytes.
//!
//! The hub is a process of its own, and so is Mosquitto; the clusters are light clients in this one, which verify what
//! they get. All of it shares one machine.

mod crowd;
mod hub;
mod mosquitto;
mod mqtt;

use anyhow::{Context as _, Result};
use tempfile::TempDir;
use tests::figures::{self, Row, Target};

use crowd::{Crowd, Heard};
use hub::{Folder, Hub};
use mosquitto::{Mosquitto, Publisher};
use tikv_jemallocator::Jemalloc;

/// That of the hub.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// Fleets that are measured, unless EDGEFLEET_BENCH_CLUSTERS says otherwise.
const CLUSTERS: &str = "1000,10000";

/// Changes, of which the median counts.
const ROUNDS: u64 = 9;

/// Fleets up to this size are connected to hub and Mosquitto at once, which carry in turn, so that a machine that is slow
/// for a while is slow for both. Larger ones would need more open files than a process may have.
const IN_TURN: usize = 5000;

/// Most memory of a cluster that is away: in 1 GB there is room for a hundred thousand.
const CLUSTER_BYTES: f64 = 8.0 * 1024.0;

/// Most time for a change beside Mosquitto's.
const FAN_OUT: f64 = 1.5;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match arguments.split_first() {
        Some((role, rest)) if role == hub::ROLE => runtime.block_on(hub::run(rest)),
        Some(_) | None => runtime.block_on(measure()),
    }
}

#[allow(clippy::disallowed_methods, reason = "a benchmark's main reads its one setting")]
async fn measure() -> Result<()> {
    let sizes = std::env::var("EDGEFLEET_BENCH_CLUSTERS").unwrap_or_else(|_| CLUSTERS.to_owned());
    let (mut rows, mut taken) = (Vec::new(), Vec::new());
    for size in sizes.split(',') {
        let size = size.trim().parse().context("EDGEFLEET_BENCH_CLUSTERS is numbers with commas")?;
        let measured = measure_one(size).await?;
        rows.extend(measured.rows);
        taken.push(Taken { clusters: size as f64, bytes: measured.away });
    }
    rows.extend(memory_of_one(&taken));
    figures::print(&rows)
}

/// Bytes that a hub takes more for clusters that are away.
#[derive(Clone, Copy)]
struct Taken {
    clusters: f64,
    bytes: f64,
}

/// What one cluster takes: between the smallest and the largest fleet, so that what any fleet takes is not shared out
/// among them; of a single fleet, its share of all.
fn memory_of_one(taken: &[Taken]) -> Option<Row> {
    let nothing = Taken { clusters: 0.0, bytes: 0.0 };
    let (first, last) = (taken.first()?, taken.last()?);
    let first = if taken.len() > 1 { *first } else { nothing };
    let each = (last.bytes - first.bytes) / (last.clusters - first.clusters);
    let what = format!("memory of a cluster that is away, from {} to {}", first.clusters, last.clusters);
    Some(Row::compared(what, each, "bytes", each / CLUSTER_BYTES, Target::AtMost(1.0)))
}

/// What was measured of a fleet.
struct Measured {
    rows: Vec<Row>,
    /// Bytes that its hub takes more for it while all are away.
    away: f64,
}

async fn measure_one(size: usize) -> Result<Measured> {
    let folder = TempDir::with_prefix("edgefleet-fleet-")?;
    let fleet = Folder::make(folder.path())?;
    let empty = resident_after_start(&fleet).await?;
    let members = fleet.members(size)?;
    fleet.register(&members).await?;
    let hub = fleet.start().await?;
    for version in [1, 2] {
        hub.operator.push(&fleet.bundle(version)?).await?;
    }
    let ca = fleet.authority.certificate();
    let before = hub.resident()?;
    let mut crowd = Crowd::connect(members, fleet.broker(), ca, &fleet.trust, true).await?;
    // The first desired state answers the hello.
    crowd.all_told(async { Ok(()) }).await?;
    hub.rests().await?;
    let connected = hub.resident()?;
    let mut took = Took::default();
    first_change(&hub, &mut crowd).await?;
    let mut beside = if size <= IN_TURN { Beside::start(&fleet, size).await? } else { None };
    for round in 0..ROUNDS {
        hub.rests().await?;
        took.hub.push(crowd.all_told(hub.place(2 - round % 2)).await?.as_secs_f64());
        hub.rests().await?;
        if let Some(beside) = &mut beside {
            took.mosquitto.push(beside.carry(&crowd.heard()).await?);
        }
    }
    let changed = hub.resident()?;
    let heard = crowd.heard();
    drop(crowd);
    hub.stop().await?;
    if size > IN_TURN
        && let Some(mut beside) = Beside::start(&fleet, size).await?
    {
        for _ in 0..ROUNDS {
            took.mosquitto.push(beside.carry(&heard).await?);
        }
    }
    let each = |bytes: f64| bytes / size as f64;
    let away = resident_after_start(&fleet).await? - empty;
    let mut rows = vec![
        Row::plain(format!("memory of a fleet that is away, by cluster, of {size}"), each(away), "bytes"),
        Row::plain(format!("memory of its connection, of {size}"), each(connected - before), "bytes"),
        Row::plain(format!("memory of the last changes, of {size}"), each(changed - connected), "bytes"),
    ];
    rows.extend(took.rows(size)?);
    Ok(Measured { rows, away })
}

/// What a hub takes that has just read its store.
async fn resident_after_start(fleet: &Folder) -> Result<f64> {
    let hub = fleet.start().await?;
    let resident = hub.resident()?;
    hub.stop().await?;
    Ok(resident)
}

/// The first change is not counted: all report then, so that the hub has a report of each.
async fn first_change(hub: &Hub, crowd: &mut Crowd) -> Result<()> {
    crowd.all_told(hub.place(1)).await?;
    // Hello, and a report to each of the two.
    crowd.all_confirmed(3).await?;
    crowd.stop_reporting();
    Ok(())
}

/// The seconds from each change, as an operator makes it, until every cluster has verified it.
#[derive(Default)]
struct Took {
    hub: Vec<f64>,
    mosquitto: Vec<f64>,
}

impl Took {
    fn rows(self, size: usize) -> Result<Vec<Row>> {
        let what = format!("a change reaches {size} clusters");
        let by_hub = figures::median(self.hub)?;
        if self.mosquitto.is_empty() {
            return Ok(vec![Row::plain(what, by_hub, "s")]);
        }
        let alone = figures::median(self.mosquitto)?;
        Ok(vec![
            Row::plain(format!("the same bytes through Mosquitto to {size}"), alone, "s"),
            Row::compared(what, by_hub, "s", by_hub / alone, Target::AtMost(FAN_OUT)),
        ])
    }
}

/// Mosquitto with as many subscribers, which verify what they get too.
struct Beside {
    crowd: Crowd,
    publisher: Publisher,
    _mosquitto: Mosquitto,
    _folder: TempDir,
}

impl Beside {
    /// None where there is no Mosquitto.
    async fn start(fleet: &Folder, size: usize) -> Result<Option<Self>> {
        let folder = TempDir::with_prefix("edgefleet-mosquitto-")?;
        let mosquitto = match Mosquitto::start(fleet, folder.path()).await {
            Ok(mosquitto) => mosquitto,
            Err(error) => {
                say(&format!("no comparison, for there is no Mosquitto: {error:#}"));
                return Ok(None);
            }
        };
        let ca = fleet.authority.certificate();
        let members = fleet.members(size)?;
        let crowd = Crowd::connect(members, mosquitto.address, ca, &fleet.trust, false).await?;
        let publisher = mosquitto.publisher(fleet).await?;
        Ok(Some(Self { crowd, publisher, _mosquitto: mosquitto, _folder: folder }))
    }

    /// The seconds until all have verified the same bytes.
    async fn carry(&mut self, heard: &[Heard]) -> Result<f64> {
        let Self { crowd, publisher, .. } = self;
        Ok(crowd.all_told(publisher.publish(heard)).await?.as_secs_f64())
    }
}

#[allow(clippy::print_stderr, reason = "the figures alone are the answer")]
fn say(text: &str) {
    eprintln!("fleet: {text}");
}
