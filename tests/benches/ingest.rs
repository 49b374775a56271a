//! How fast a hub takes reports in, beside how fast one core verifies signatures.
//!
//! Both are counted in processor time of this process, its store's thread included, so that others on the machine and
//! a slow disk do not matter. Making what clusters say is not counted; TLS and MQTT are left out.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result, anyhow, ensure};
use edgefleet::clock;
use fleet_broker::{
    controller::show_one,
    hub,
    logic::{
        fleet::{
            Application, BundleRecord, ClusterRecord, Document, Effect, Event, Fleet, messages::HEARD_AT_ONCE,
        },
        occurrence::Occurrence,
        registry::{FieldValidation, WriteOptions},
    },
    resources::Kind,
    store::{Store, Write},
};
use protocol::{
    documents::Report,
    ids::{AppId, ClusterId, FleetId, Incarnation, Name},
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
use tikv_jemallocator::Jemalloc;

/// That of the hub.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// Clusters that report.
const CLUSTERS: usize = 1_000;

/// Reports of each in a round, each with news.
const REPORTS: usize = 3;

/// Rounds, of which the median counts: short ones, so that a machine that gets slower does so in all of a round.
const ROUNDS: usize = 17;

/// Events that the hub handles as one, as its controller does.
const BATCH: usize = 512;

/// Who writes statuses.
const ACTOR: &str = "system:fleet";

/// Batches between two ticks: at the speed that is expected, half a second.
const BATCHES_PER_TICK: usize = 16;

fn main() -> Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(measure())
}

async fn measure() -> Result<()> {
    let folder = TempDir::with_prefix("edgefleet-ingest-")?;
    let mut hub = Hub::new(Store::open(&folder.path().join("hub.sqlite"))?).await?;
    let mut spokes = (0..CLUSTERS).map(Spoke::new).collect::<Result<Vec<_>>>()?;
    hub.enrol(&mut spokes).await?;
    let mut rounds = Rounds::default();
    for _ in 0..ROUNDS {
        let news = said(&mut spokes, |spoke| spoke.report(clock::now()))?;
        rounds.signature.push(each(&news, verified_by_ring(&spokes, &news)?));
        rounds.opened.push(each(&news, opened_only(&spokes, &news)?));
        rounds.news.push(hub.take(&news).await?);
        let again = said(&mut spokes, |spoke| spoke.say(clock::now()))?;
        rounds.beats.push(hub.take(&again).await?);
    }
    rounds.print()
}

/// Microseconds for each message.
#[derive(Default)]
struct Rounds {
    signature: Vec<f64>,
    opened: Vec<f64>,
    news: Vec<Steps>,
    beats: Vec<Steps>,
}

/// Microseconds for each message, by what they were spent on.
#[derive(Clone, Copy, Default)]
struct Steps {
    /// Verifying, decoding, and what changes by it.
    handled: f64,
    /// Acknowledgements, and decisions twice a second.
    settled: f64,
    /// The store's part.
    stored: f64,
    /// Statuses that differ from what was shown.
    judged: f64,
    /// Statuses as objects, written and seen.
    shown: f64,
    /// Events of what happened.
    told: f64,
}

impl Steps {
    fn verified_and_stored(&self) -> f64 {
        self.handled + self.stored
    }

    fn taken_in(&self) -> f64 {
        self.verified_and_stored() + self.settled
    }

    fn all(&self) -> f64 {
        self.taken_in() + self.judged + self.shown + self.told
    }
}

impl Rounds {
    fn print(&self) -> Result<()> {
        let news = |of: fn(&Steps) -> f64| self.news.iter().map(of).collect::<Vec<_>>();
        let beats: Vec<f64> = self.beats.iter().map(Steps::taken_in).collect();
        figures::print(&[
            Row::plain(
                "signatures verified by ring alone",
                1e6 / figures::median(self.signature.clone())?,
                "a second",
            ),
            self.a_second("reports verified and decoded", &self.opened, Target::None)?,
            self.a_second(
                "reports verified and stored",
                &news(Steps::verified_and_stored),
                Target::AtLeast(0.8),
            )?,
            self.a_second("reports acknowledged too", &news(Steps::taken_in), Target::None)?,
            self.a_second("reports seen by people too", &news(Steps::all), Target::None)?,
            self.a_second("heartbeats verified, acknowledged", &beats, Target::None)?,
            step("ring's verification", self.signature.clone())?,
            step("decoding", beyond(&self.opened, &self.signature))?,
            step("judging", beyond(&news(|steps| steps.handled), &self.opened))?,
            step("acknowledging", news(|steps| steps.settled))?,
            step("storing", news(|steps| steps.stored))?,
            step("statuses", news(|steps| steps.judged))?,
            step("statuses as objects", news(|steps| steps.shown))?,
            step("events", news(|steps| steps.told))?,
        ])
    }

    /// Beside ring in the same round.
    fn a_second(&self, what: &str, each: &[f64], target: Target) -> Result<Row> {
        let ratios = self.signature.iter().zip(each).map(|(signature, each)| signature / each).collect();
        let figure = 1e6 / figures::median(each.to_vec())?;
        Ok(Row::compared(what, figure, "a second", figures::median(ratios)?, target))
    }
}

fn step(what: &str, each: Vec<f64>) -> Result<Row> {
    Ok(Row::plain(format!("  {what}"), figures::median(each)?, "us each"))
}

/// What is left of each when the other, of the same round, is taken away.
fn beyond(each: &[f64], other: &[f64]) -> Vec<f64> {
    each.iter().zip(other).map(|(each, other)| each - other).collect()
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

/// Microseconds for each.
fn each(said: &[Said], took: Duration) -> f64 {
    took.as_secs_f64() * 1e6 / said.len() as f64
}

/// Messages as long as the reports, each with a signature of the same keys.
fn verified_by_ring(spokes: &[Spoke], said: &[Said]) -> Result<Duration> {
    let keys: Vec<_> = spokes.iter().map(|spoke| spoke.key.public()).collect();
    let signed: Vec<_> =
        said.iter().map(|(number, bytes)| (keys[*number], bytes, spokes[*number].key.sign(bytes))).collect();
    let begin = figures::cpu_time();
    let all = signed.iter().all(|(key, bytes, signature)| key.verifies(bytes, signature));
    let took = figures::cpu_time() - begin;
    ensure!(all, "a signature does not hold");
    Ok(took)
}

fn opened_only(spokes: &[Spoke], said: &[Said]) -> Result<Duration> {
    let fleet = FleetId::new(FLEET)?;
    let keys: Vec<_> = spokes.iter().map(|spoke| spoke.key.public()).collect();
    let begin = figures::cpu_time();
    for (number, bytes) in said {
        verify::by_cluster::<Report>(&fleet, &spokes[*number].id, &keys[*number], bytes)?;
    }
    Ok(figures::cpu_time() - begin)
}

/// The fleet core, the registry and the store, driven as the hub's controller does.
struct Hub {
    fleet: Fleet,
    hub: hub::Hub,
    trust: Trust,
    ids: Vec<ClusterId>,
    batches: usize,
    /// What is to be done, while it is collected.
    effects: Vec<Effect>,
}

impl Hub {
    async fn new(store: Store) -> Result<Self> {
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
        let hub = hub::Hub::open(store).await?;
        Ok(Self { fleet, hub, trust, ids: Vec::new(), batches: 0, effects: Vec::new() })
    }

    /// Registers, enrols and connects clusters, and tells them what to run.
    async fn enrol(&mut self, spokes: &mut [Spoke]) -> Result<()> {
        self.ids = spokes.iter().map(|spoke| spoke.id.clone()).collect();
        let mut effects = Vec::new();
        for spoke in spokes.iter() {
            self.register(&spoke.id).await?;
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
        effects.extend(self.fleet.settle(now_of()));
        while self.fleet.has_more() {
            effects.extend(self.fleet.handle(now_of(), Event::More));
            effects.extend(self.fleet.settle(now_of()));
        }
        for effect in &effects {
            if let Effect::Push(to, topic @ Downward::Desired, bytes) = effect {
                let number = self.ids.iter().position(|id| id == to).context("a cluster that is told")?;
                spokes[number].take(&self.trust, *topic, bytes)?;
            }
        }
        effects.extend(self.fleet.settle(later()));
        while self.fleet.has_to_show() {
            effects.extend(self.fleet.show());
        }
        let Sorted { writes, shown, occurred, .. } = sorted(effects);
        self.hub.store().commit(writes).await?;
        self.show(shown).await?;
        Ok(self.hub.commit(ACTOR, occurred, Vec::new()).await?)
    }

    async fn register(&self, id: &ClusterId) -> Result<()> {
        let cluster = json!({
            "apiVersion": "edgefleet.dev/v1alpha1",
            "kind": "Cluster",
            "metadata": {"name": id.as_str()},
            "spec": {"accepted": true},
        });
        let options = WriteOptions { validation: FieldValidation::Strict, manager: ACTOR.to_owned() };
        let made = self.hub.write(ACTOR, |transaction| {
            transaction.create(Kind::Cluster, "", cluster, &options, id.as_str()).map(drop)
        });
        made.await.map_err(|failure| anyhow!(failure.message))
    }

    /// Takes in all that was said. Returns the processor time of each message.
    async fn take(&mut self, said: &[Said]) -> Result<Steps> {
        let mut total = Total::default();
        let mut acknowledged = 0;
        for batch in said.chunks(BATCH) {
            let event = |(number, bytes): &Said| {
                Event::Said(self.ids[*number].clone(), Upward::Report, bytes.clone())
            };
            let mut events: Vec<Event> = batch.iter().map(event).collect();
            self.batches += 1;
            if self.batches.is_multiple_of(BATCHES_PER_TICK) {
                events.push(Event::Tick);
            }
            acknowledged += self.take_batch(events, &mut total).await?;
        }
        ensure!(acknowledged == said.len(), "{acknowledged} of {} reports were taken", said.len());
        Ok(total.each(said))
    }

    /// Says how many were acknowledged.
    async fn take_batch(&mut self, events: Vec<Event>, total: &mut Total) -> Result<usize> {
        let mut lap = Lap::begin();
        let mut events = events.into_iter().peekable();
        while events.peek().is_some() {
            let some = events.by_ref().take(HEARD_AT_ONCE);
            let heard: Vec<Event> = some.map(|event| self.fleet.hear(event)).collect();
            for event in heard {
                self.fleet.handle_into(now_of(), event, &mut self.effects);
            }
        }
        lap.end(&mut total.handled);
        self.effects.extend(self.fleet.settle(now_of()));
        let Sorted { acks, writes, mut shown, occurred } = sorted(self.effects.drain(..));
        lap.end(&mut total.settled);
        if !writes.is_empty() {
            self.hub.store().commit(writes).await?;
        }
        lap.end(&mut total.stored);
        shown.extend(self.fleet.show());
        lap.end(&mut total.judged);
        self.show(shown).await?;
        lap.end(&mut total.shown);
        self.hub.commit(ACTOR, occurred, Vec::new()).await?;
        lap.end(&mut total.told);
        Ok(acks)
    }

    async fn show(&self, shown: Vec<Effect>) -> Result<()> {
        let written = self.hub.write(ACTOR, |transaction| {
            // The application has no object here.
            shown.into_iter().for_each(|effect| drop(show_one(transaction, effect)));
            Ok(())
        });
        written.await.map_err(|failure| anyhow!(failure.message))
    }
}

/// Processor time by what it was spent on.
#[derive(Default)]
struct Total {
    handled: Duration,
    settled: Duration,
    stored: Duration,
    judged: Duration,
    shown: Duration,
    told: Duration,
}

impl Total {
    fn each(&self, said: &[Said]) -> Steps {
        Steps {
            handled: each(said, self.handled),
            settled: each(said, self.settled),
            stored: each(said, self.stored),
            judged: each(said, self.judged),
            shown: each(said, self.shown),
            told: each(said, self.told),
        }
    }
}

/// Processor time since the last step ended.
struct Lap(Duration);

impl Lap {
    fn begin() -> Self {
        Self(figures::cpu_time())
    }

    fn end(&mut self, spent: &mut Duration) {
        let now = figures::cpu_time();
        *spent += now - std::mem::replace(&mut self.0, now);
    }
}

/// Effects as a controller carries them out.
#[derive(Default)]
struct Sorted {
    acks: usize,
    writes: Vec<Write>,
    shown: Vec<Effect>,
    occurred: Vec<Occurrence>,
}

fn sorted(effects: impl IntoIterator<Item = Effect>) -> Sorted {
    let mut sorted = Sorted::default();
    for effect in effects {
        match effect {
            Effect::Store(documents) => sorted.writes.extend(documents.into_iter().map(write_of)),
            Effect::Push(_, topic, _) => sorted.acks += usize::from(topic == Downward::Ack),
            Effect::Occurred(occurrence) => sorted.occurred.push(occurrence),
            Effect::SendContent { .. } | Effect::Kick(_) => {}
            Effect::ClusterStatus(..) | Effect::ApplicationStatus(..) | Effect::Assignment(..) => {
                sorted.shown.push(effect);
            }
        }
    }
    sorted
}

fn write_of(document: Document) -> Write {
    let (kind, key) = (document.kind.name(), document.key);
    match document.bytes {
        Some(bytes) => Write::PutDocument { kind, key, bytes },
        None => Write::DeleteDocument { kind, key },
    }
}

/// The wall clock alone: nothing here waits.
fn now_of() -> Now {
    Now { monotonic: Duration::ZERO, wall: clock::now() }
}

/// When statuses of a change wait no longer.
fn later() -> Now {
    Now { monotonic: Duration::from_secs(1), ..now_of() }
}
