//! The phases of a live fleet, one after the other, and what is measured in each.

mod orders;

use std::{ffi::OsStr, num::NonZero, time::Duration};

use anyhow::{Context as _, Error, Result, anyhow, ensure};
use tempfile::TempDir;
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval, timeout},
};

use super::{
    Live, Part,
    fleet::{Fleet, Hub, folder_bytes},
    process::{self, Ear, Running, Words},
    report::{Memory, Phase, Report},
    tally::{At, Member, Said, Spread, Tally, VERSIONS},
};
use orders::{Given, Orders};

/// Open files of one agent: its connection, its journal of two files, its control socket, and one in passing.
const AGENT_FILES: usize = 5;

/// Open files of any process beside those of its agents or connections.
const OTHER_FILES: usize = 200;

/// Most processes of agents: each has two networks of addresses.
const PROCESSES_MAX: usize = 100;

/// How often is looked how far all are. Times are the agents' own.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How often people are told.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// How long a process may take from closing its connections to its end.
const ENDED_WITHIN: Duration = Duration::from_secs(1);

/// Things said that may wait: agents do not wait for whoever counts.
const WORDS: usize = 65_536;

/// Runs a fleet through all phases and prints the figures. Whatever it ends with, no process is left.
pub(super) async fn all(live: &Live, print: fn(&str), progress: fn(&str)) -> Result<()> {
    ensure!(live.clusters > 0, "a fleet has clusters");
    let mut stage = Stage::set(live, progress).await?;
    let report = match stage.play().await {
        Ok(report) => Ok(report),
        Err(error) => Err(stage.explained(error).await),
    };
    stage.end().await?;
    // Before the folder is removed: with thousands of journals in it that takes a while.
    print(&report?.tables());
    Ok(())
}

/// A process of agents, and where it is told what to do.
struct Crowd {
    process: Running,
    ear: Ear,
}

/// What one of them says; nothing when it ends.
struct Word {
    process: usize,
    said: Result<Option<Said>>,
}

struct Stage {
    // Dropped in this order: a folder goes when nobody writes to it any more.
    crowds: Vec<Crowd>,
    /// The ears are held: a network ends when nobody can speak to it.
    networks: Vec<(Running, Ear)>,
    hub: Hub,
    fleet: Fleet,
    words: mpsc::Receiver<Word>,
    orders: Orders,
    tally: Tally,
    progress: fn(&str),
    within: Duration,
    edits: usize,
    edits_for: Duration,
    /// What the hub's former lives took of a processor.
    spent: Duration,
    hub_empty: u64,
    agents_empty: u64,
    folder: TempDir,
}

/// A phase that goes on.
struct Begun {
    name: &'static str,
    at: At,
    deadline: Instant,
    reports: u64,
    hub: Duration,
    agents: Duration,
}

impl Stage {
    /// Starts the hub, and processes without agents.
    async fn set(live: &Live, progress: fn(&str)) -> Result<Self> {
        let clusters = live.clusters;
        let processes = processes(clusters, live.share)?;
        let folder = TempDir::with_prefix("edgefleet-live-").context("cannot make a folder")?;
        let mut fleet = Fleet::make(folder.path(), live.hub.clone())?;
        let hub = fleet.start().await?;
        let (to_words, words) = mpsc::channel(WORDS);
        let (mut crowds, mut networks, mut doors) = (Vec::new(), Vec::new(), Vec::new());
        for number in 0..processes {
            let (network, ear, mut said) = network(number, &fleet, &folder)?;
            doors.push(said.next().await?.context("a network says where it listens")?);
            networks.push((network, ear));
            let agents = folder.path().join("agents");
            let (process, ear, said) = Running::start(
                Part::Agents,
                &format!("agents-{number}"),
                folder.path(),
                &[agents.as_os_str()],
            )?;
            tokio::spawn(hear(number, said, to_words.clone()));
            crowds.push(Crowd { process, ear });
        }
        let each = Duration::from_secs(60) + Duration::from_millis(125) * u32::try_from(clusters)?;
        let mut stage = Self {
            crowds,
            networks,
            orders: Orders::new(clusters, doors),
            hub,
            fleet,
            words,
            tally: Tally::new(clusters, processes),
            progress,
            within: live.within.map_or(each, Duration::from_secs),
            edits: live.edits.unwrap_or(clusters.div_ceil(10)).min(clusters),
            edits_for: Duration::from_secs(live.edits_for),
            spent: Duration::ZERO,
            hub_empty: 0,
            agents_empty: 0,
            folder,
        };
        (stage.hub_empty, stage.agents_empty) = (stage.hub.process.resident()?, stage.agents_resident()?);
        Ok(stage)
    }

    async fn play(&mut self) -> Result<Report> {
        let mut phases = vec![self.joins().await?, self.change().await?];
        let (hub, agents) = (self.hub.process.resident()?, self.agents_resident()?);
        phases.push(self.storm().await?);
        phases.push(self.drift().await?);
        Ok(Report {
            clusters: self.clusters(),
            processes: self.crowds.len(),
            phases,
            hub: Memory { empty: self.hub_empty, full: hub },
            agents: Memory { empty: self.agents_empty, full: agents },
            disk: folder_bytes(&self.folder.path().join("agents")),
        })
    }

    /// Every cluster is registered, joins with its code, connects, and gets the first release.
    async fn joins(&mut self) -> Result<Phase> {
        self.fleet.publish(&self.hub).await?;
        self.hub.place(VERSIONS[0]).await?;
        let begun = self.begin("joins")?;
        self.orders.join(self.hub.operator.clone());
        let all = self.clusters();
        self.until(&begun, "run the first release", all, |member| {
            member.up.is_some() && member.applied[0].is_some()
        })
        .await?;
        self.shown(&begun).await?;
        let since_asked = |until: fn(&Member) -> Option<At>| {
            self.tally.times(|member| Some(until(member)?.since(member.asked?)))
        };
        let times = vec![
            ("from its question to its certificate", since_asked(|member| member.joined)),
            ("from its question until it is connected", since_asked(|member| member.up)),
            ("from its question until the first release runs", since_asked(|member| member.applied[0])),
        ];
        self.finish(begun, times)
    }

    /// Every cluster gets the other release.
    async fn change(&mut self) -> Result<Phase> {
        let begun = self.begin("change")?;
        self.hub.place(VERSIONS[1]).await?;
        let all = self.clusters();
        self.until(&begun, "have the change", all, |member| member.applied[1].is_some()).await?;
        self.shown(&begun).await?;
        let at = begun.at;
        let times = self.tally.times(|member| Some(member.applied[1]?.since(at)));
        self.finish(begun, vec![("until it has the change", times)])
    }

    /// The hub is killed and starts again, and every cluster comes back.
    async fn storm(&mut self) -> Result<Phase> {
        let begun = self.begin("storm")?;
        self.spent += self.hub.process.processor()?;
        self.hub.process.kill().await?;
        let killed = process::now();
        self.hub = self.fleet.start().await?;
        let ready = process::now();
        let all = self.clusters();
        self.until(&begun, "are back", all, |member| member.up.is_some_and(|up| up > killed)).await?;
        self.shown(&begun).await?;
        let since = |begin: At| self.tally.times(|member| Some(member.up?.since(begin)));
        let times = vec![
            ("from the kill until it is back", since(killed)),
            ("from the hub's start until it is back", since(ready)),
        ];
        self.finish(begun, times)
    }

    /// Somebody changes objects by hand, here and there, and agents take it back.
    async fn drift(&mut self) -> Result<Phase> {
        let begun = self.begin("drift")?;
        self.orders.edit(self.edits, self.edits_for);
        let mut looks = interval(LOOK_EVERY);
        while process::now().since(begun.at) < self.edits_for {
            self.go_on(&mut looks).await?;
        }
        self.until(&begun, "took back what was changed by hand", self.edits, |member| {
            member.healed.is_some()
        })
        .await?;
        self.shown(&begun).await?;
        let times = self.tally.times(|member| Some(member.healed?.since(member.edited?)));
        self.finish(begun, vec![("from the change by hand until it is taken back", times)])
    }

    fn clusters(&self) -> usize {
        self.tally.members.len()
    }

    fn begin(&self, name: &'static str) -> Result<Begun> {
        Ok(Begun {
            name,
            at: process::now(),
            deadline: Instant::now() + self.within,
            reports: self.tally.reports(),
            hub: self.hub_processor()?,
            agents: self.agents_processor()?,
        })
    }

    fn finish(&self, begun: Begun, times: Vec<(&'static str, Spread)>) -> Result<Phase> {
        let took = process::now().since(begun.at);
        (self.progress)(&format!("{}: done in {:.1} s", begun.name, took.as_secs_f64()));
        Ok(Phase {
            name: begun.name,
            took,
            reports: self.tally.reports() - begun.reports,
            hub: self.hub_processor()?.saturating_sub(begun.hub),
            agents: self.agents_processor()?.saturating_sub(begun.agents),
            times,
        })
    }

    /// Goes on until so many clusters are so far.
    async fn until(
        &mut self,
        begun: &Begun,
        what: &str,
        goal: usize,
        so_far: impl Fn(&Member) -> bool,
    ) -> Result<()> {
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told = Instant::now();
        loop {
            self.go_on(&mut looks).await?;
            let count = self.tally.count(&so_far);
            if count >= goal {
                return Ok(());
            }
            let state = || format!("{}: {count} of {goal} clusters {what}", begun.name);
            ensure!(Instant::now() < begun.deadline, "{}, and time is up ({:?})", state(), self.within);
            if told.elapsed() >= TELL_EVERY {
                told = Instant::now();
                (self.progress)(&state());
            }
        }
    }

    /// Goes on until people see of every cluster that it is there, has what it should, and is well.
    async fn shown(&mut self, begun: &Begun) -> Result<()> {
        let all = u64::try_from(self.clusters())?;
        let mut looks = interval(LOOK_EVERY * 5);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.go_on(&mut looks).await?;
            let shown = self.hub.shows().await?;
            if shown.updated == all && shown.available == all && shown.offline == 0 {
                return Ok(());
            }
            ensure!(
                Instant::now() < begun.deadline,
                "{}: the hub shows {shown:?} of {all} clusters, and time is up ({:?})",
                begun.name,
                self.within
            );
        }
    }

    /// Hears what is said and gives orders until it is time to look.
    async fn go_on(&mut self, looks: &mut tokio::time::Interval) -> Result<()> {
        loop {
            tokio::select! {
                biased;
                _ = looks.tick() => break,
                Some(word) = self.words.recv() => self.take(word).await?,
                Some(given) = self.orders.next() => self.give(given?).await?,
            }
        }
        let parts = self.crowds.iter_mut().map(|crowd| &mut crowd.process);
        parts
            .chain(self.networks.iter_mut().map(|(process, _)| process))
            .chain([&mut self.hub.process])
            .try_for_each(Running::lives)
    }

    async fn take(&mut self, Word { process, said }: Word) -> Result<()> {
        let Some(said) = said? else { return Err(self.crowds[process].process.why_it_ended().await) };
        self.tally.take(process, said).map_err(|(cluster, reason)| {
            anyhow!("the agent of cluster {} goes on no more: {reason}", orders::name(cluster))
        })
    }

    async fn give(&mut self, given: Given) -> Result<()> {
        let Given { cluster, order } = given;
        let process = self.orders.process_of(cluster);
        self.crowds[process].ear.tell(&order).await
    }

    fn hub_processor(&self) -> Result<Duration> {
        Ok(self.spent + self.hub.process.processor()?)
    }

    fn agents_processor(&self) -> Result<Duration> {
        self.crowds.iter().map(|crowd| crowd.process.processor()).sum()
    }

    fn agents_resident(&self) -> Result<u64> {
        self.crowds.iter().map(|crowd| crowd.process.resident()).sum()
    }

    /// Where the hub has ended, what failed failed for that.
    async fn explained(&mut self, error: Error) -> Error {
        match timeout(ENDED_WITHIN, self.hub.process.why_it_ended()).await {
            Ok(ended) => ended.context(format!("{error:#}")),
            Err(_) => error,
        }
    }

    /// Ends every process.
    async fn end(&mut self) -> Result<()> {
        for crowd in &mut self.crowds {
            crowd.process.kill().await?;
        }
        for (network, _) in &mut self.networks {
            network.kill().await?;
        }
        self.hub.process.kill().await
    }
}

/// In how many processes the agents run: as many as their open files ask for, and no fewer than there are processors.
fn processes(clusters: usize, share: Option<usize>) -> Result<usize> {
    let files = process::open_files();
    let room = files.saturating_sub(OTHER_FILES);
    ensure!(
        room >= clusters,
        "the hub needs an open file for each of {clusters} clusters, and a process may have {files}: raise the limit \
         (ulimit -n), or take fewer clusters"
    );
    let share = share.unwrap_or(usize::MAX).clamp(1, room / AGENT_FILES);
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
    let processes = clusters.div_ceil(share).max(processors.min(clusters));
    ensure!(
        processes <= PROCESSES_MAX,
        "{processes} processes of agents are too many: raise the limit of open files (ulimit -n)"
    );
    Ok(processes)
}

/// Starts what is between the agents of one process and the hub.
fn network(number: usize, fleet: &Fleet, folder: &TempDir) -> Result<(Running, Ear, Words)> {
    let [broker, enrol] = fleet.doors().map(|port| port.to_string());
    // 127.0 is what others on this machine use.
    let street = (16 + 2 * number).to_string();
    let told: [&OsStr; 3] = [broker.as_ref(), enrol.as_ref(), street.as_ref()];
    Running::start(Part::Network, &format!("network-{number}"), folder.path(), &told)
}

/// Hands on what a process of agents says.
async fn hear(process: usize, mut words: Words, to: mpsc::Sender<Word>) {
    loop {
        let said = words.next().await;
        let is_last = !matches!(said, Ok(Some(_)));
        if to.send(Word { process, said }).await.is_err() || is_last {
            return;
        }
    }
}
