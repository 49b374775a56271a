//! How fast a hub takes reports in, beside how fast one core verifies signatures.
//!
//! Both are counted in processor time of this process, its store's thread included, so that others on the machine and
//! a slow disk do not matter. What is left out: TLS and MQTT, and what people see of it.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use edgefleet::clock;
use fleet_broker::{
    logic::fleet::{Application, BundleRecord, ClusterRecord, Effect, Event, Fleet},
    store::{Store, Write},
};
use protocol::{
    documents::Report,
    ids::{AppId, FleetId, Incarnation, Name},
    time::Now,
    topics::{Downward, Upward},
    verify::{self, Trust},
};
use serde_json::json;
use tempfile::TempDir;
use tests::{
    figures::{self, Row, Target},
    spoke::{self, APPLICATION, FLEET, Spoke},
};

/// Clusters that report.
const CLUSTERS: usize = 1_000;

/// Reports of each in a round, each with news.
const REPORTS: usize = 10;

/// Rounds, of which the median counts.
const ROUNDS: usize = 5;

/// Events that the hub handles as one, as its controller does.
const BATCH: usize = 256;

/// Batches between two ticks: at the speed that is expected, half a second.
const BATCHES_PER_TICK: usize = 32;

fn main() -> Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(measure())
}

async fn measure() -> Result<()> {
    let folder = TempDir::with_prefix("edgefleet-ingest-")?;
    let mut hub = Hub::new(Store::open(&folder.path().join("hub.sqlite"))?)?;
    let mut spokes = (0..CLUSTERS).map(Spoke::new).collect::<Result<Vec<_>>>()?;
    hub.enrol(&mut spokes).await?;
    let (mut limit, mut opened, mut taken, mut beats) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let news = said(&mut spokes, |spoke| spoke.report(clock::now()))?;
        limit.push(per_second(&news, verified_by_ring(&spokes, &news)?));
        opened.push(per_second(&news, opened_only(&spokes, &news)?));
        taken.push(per_second(&news, hub.take(&news).await?));
        let again = said(&mut spokes, |spoke| spoke.say(clock::now()))?;
        beats.push(per_second(&again, hub.take(&again).await?));
    }
    let limit = figures::median(limit)?;
    let row = |what: &str, figures: Vec<f64>, target| -> Result<Row> {
        let figure = figures::median(figures)?;
        Ok(Row::compared(what, figure, "a second", figure / limit, target))
    };
    figures::print(&[
        Row::plain("signatures verified by ring alone", limit, "a second"),
        row("reports verified and decoded", opened, Target::None)?,
        row("reports verified, stored, acknowledged", taken, Target::AtLeast(0.8))?,
        row("heartbeats verified, acknowledged", beats, Target::None)?,
    ])
}

/// A cluster's number and what it said.
type Said = (usize, Vec<u8>);

fn said(spokes: &mut [Spoke], mut say: impl FnMut(&mut Spoke) -> Result<Vec<u8>>) -> Result<Vec<Said>> {
    let mut all = Vec::new();
    for _ in 0..REPORTS {
        for (number, spoke) in spokes.iter_mut().enumerate() {
            all.push((number, say(spoke)?));
        }
    }
    Ok(all)
}

fn per_second(said: &[Said], took: Duration) -> f64 {
    said.len() as f64 / took.as_secs_f64()
}

/// Messages as long as the reports, each with a signature of the same keys.
fn verified_by_ring(spokes: &[Spoke], said: &[Said]) -> Result<Duration> {
    let keys: Vec<_> = spokes.iter().map(|spoke| spoke.key.public()).collect();
    let signed: Vec<_> =
        said.iter().map(|(number, bytes)| (keys[*number], bytes, spokes[*number].key.sign(bytes))).collect();
    let begin = figures::cpu_time()?;
    let all = signed.iter().all(|(key, bytes, signature)| key.verifies(bytes, signature));
    let took = figures::cpu_time()? - begin;
    ensure!(all, "a signature does not hold");
    Ok(took)
}

fn opened_only(spokes: &[Spoke], said: &[Said]) -> Result<Duration> {
    let fleet = FleetId::new(FLEET)?;
    let keys: Vec<_> = spokes.iter().map(|spoke| spoke.key.public()).collect();
    let begin = figures::cpu_time()?;
    for (number, bytes) in said {
        verify::by_cluster::<Report>(&fleet, &spokes[*number].id, &keys[*number], bytes)?;
    }
    Ok(figures::cpu_time()? - begin)
}

/// The fleet core and the store, driven as the hub's controller does.
struct Hub {
    fleet: Fleet,
    store: Store,
    trust: Trust,
    ids: Vec<protocol::ids::ClusterId>,
    batches: usize,
}

impl Hub {
    fn new(store: Store) -> Result<Self> {
        let now = clock::now();
        let keys = spoke::fleet_keys(Vec::new(), now)?;
        let trust = Trust::given(&keys.envelope)?;
        let release = spoke::release(&keys, 1, now)?;
        let mut fleet = Fleet::new(trust.clone(), Arc::new(keys.director), Incarnation::new([7; 16]));
        let bundle = format!("{APPLICATION}-1.0.1");
        fleet.handle(
            now_of(),
            Event::Bundle(Name::new(FLEET)?, bundle.clone(), Some(BundleRecord { release })),
        );
        let spec = json!({"bundle": bundle, "placement": {"clusterSelector": {}}});
        let application = Application { spec: serde_json::from_value(spec)?, generation: 1, approval: None };
        fleet.handle(now_of(), Event::Application(AppId::new(FLEET, APPLICATION)?, Some(application)));
        Ok(Self { fleet, store, trust, ids: Vec::new(), batches: 0 })
    }

    /// Registers, enrols and connects clusters, and tells them what to run.
    async fn enrol(&mut self, spokes: &mut [Spoke]) -> Result<()> {
        self.ids = spokes.iter().map(|spoke| spoke.id.clone()).collect();
        let mut effects = Vec::new();
        for spoke in spokes.iter() {
            let record = ClusterRecord { accepted: true, ..ClusterRecord::default() };
            for event in [
                Event::Cluster(spoke.id.clone(), Some(record)),
                Event::Enrolled(spoke.id.clone(), spoke.key.public()),
                Event::Connected(spoke.id.clone()),
                Event::Said(spoke.id.clone(), Upward::Hello, spoke.hello(clock::now())),
            ] {
                effects.extend(self.fleet.handle(now_of(), event));
            }
        }
        effects.extend(self.fleet.handle(now_of(), Event::Tick));
        for effect in &effects {
            if let Effect::Push(to, topic @ Downward::Desired, bytes) = effect {
                let number = self.ids.iter().position(|id| id == to).context("a cluster that is told")?;
                spokes[number].take(&self.trust, *topic, bytes)?;
            }
        }
        self.store.commit(writes(effects)).await?;
        Ok(())
    }

    /// Takes in all that was said. Returns the processor time.
    async fn take(&mut self, said: &[Said]) -> Result<Duration> {
        let begin = figures::cpu_time()?;
        let mut acknowledged = 0;
        for batch in said.chunks(BATCH) {
            let mut effects = Vec::new();
            for (number, bytes) in batch {
                let event = Event::Said(self.ids[*number].clone(), Upward::Report, bytes.clone());
                effects.extend(self.fleet.handle(now_of(), event));
            }
            self.batches += 1;
            if self.batches.is_multiple_of(BATCHES_PER_TICK) {
                effects.extend(self.fleet.handle(now_of(), Event::Tick));
            }
            let is_ack = |effect: &&Effect| matches!(effect, Effect::Push(_, Downward::Ack, _));
            acknowledged += effects.iter().filter(is_ack).count();
            let writes = writes(effects);
            if !writes.is_empty() {
                self.store.commit(writes).await?;
            }
        }
        let took = figures::cpu_time()? - begin;
        ensure!(acknowledged == said.len(), "{acknowledged} of {} reports were taken", said.len());
        Ok(took)
    }
}

fn writes(effects: Vec<Effect>) -> Vec<Write> {
    let mut writes = Vec::new();
    for effect in effects {
        if let Effect::Store(documents) = effect {
            for document in documents {
                let (kind, key) = (document.kind.name(), document.key);
                writes.push(match document.bytes {
                    Some(bytes) => Write::PutDocument { kind, key, bytes },
                    None => Write::DeleteDocument { kind, key },
                });
            }
        }
    }
    writes
}

/// The wall clock alone: nothing here waits.
fn now_of() -> Now {
    Now { monotonic: Duration::ZERO, wall: clock::now() }
}
