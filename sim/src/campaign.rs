//! Seeds, one after the other, for hours: each once, whatever ends the program in between.

use std::{
    collections::BTreeSet,
    fs::File,
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard},
};

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::{
    happening::instant,
    rehearsal::{Ended, Fleet, rehearse},
    scenario::Scenario,
};

/// A rule that a seed broke.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Found {
    /// The seed.
    pub seed: u64,
    /// When, since the beginning of its run, and what is wrong.
    pub what: String,
}

/// How far a campaign is, as its file says it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// What is rehearsed.
    pub fleet: Fleet,
    /// The first seed.
    pub from: u64,
    /// Every seed before this one was run.
    pub next: u64,
    /// Those behind it that were run: several are under way at once.
    pub ahead: BTreeSet<u64>,
    /// What was found.
    pub found: Vec<Found>,
}

impl State {
    /// A campaign that begins.
    pub fn new(fleet: Fleet, from: u64) -> Self {
        Self { fleet, from, next: from, ahead: BTreeSet::new(), found: Vec::new() }
    }

    /// How many seeds were run.
    pub fn seeds(&self) -> u64 {
        self.next - self.from + self.ahead.len() as u64
    }

    /// A seed was run.
    fn ended(&mut self, seed: u64, found: Option<Found>) {
        self.found.extend(found);
        self.ahead.insert(seed);
        while self.ahead.remove(&self.next) {
            self.next += 1;
        }
    }
}

/// A campaign and its file.
#[derive(Debug)]
pub struct Campaign {
    state: State,
    file: PathBuf,
    scenario: Scenario,
}

/// What the threads share.
struct Shared<'a> {
    state: State,
    /// The next seed that nobody runs.
    hand_out: u64,
    /// What keeps the campaign from going on.
    problem: Option<anyhow::Error>,
    told: &'a mut (dyn FnMut(&State, u64, &Ended) + Send),
}

impl Campaign {
    /// Goes on from a file, or begins one there: with seed 1, if nothing else is said.
    ///
    /// # Errors
    /// When the file cannot be read, or is another campaign's.
    pub fn open(file: &Path, fleet: Fleet, from: Option<u64>) -> Result<Self> {
        let scenario = fleet.scenario()?;
        let name = file.display();
        let state = match std::fs::read(file) {
            Ok(bytes) => {
                let state: State =
                    serde_json::from_slice(&bytes).with_context(|| format!("read campaign {name}"))?;
                ensure!(
                    state.fleet == fleet && from.is_none_or(|from| from == state.from),
                    "{name} is a campaign of {} from seed {}: go on with that, or give another --state",
                    state.fleet,
                    state.from
                );
                state
            }
            Err(error) if error.kind() == ErrorKind::NotFound => State::new(fleet, from.unwrap_or(1)),
            Err(error) => return Err(error).with_context(|| format!("read campaign {name}")),
        };
        Ok(Self { state, file: file.to_owned(), scenario })
    }

    /// How far it is.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Runs seeds on so many threads for as long as `goes_on` says so of the next one. `told` is told of each that ended,
    /// after the file was written.
    ///
    /// # Errors
    /// When a fleet cannot be made, or the file cannot be written.
    pub fn run(
        self,
        jobs: usize,
        goes_on: &(dyn Fn(u64) -> bool + Sync),
        told: &mut (dyn FnMut(&State, u64, &Ended) + Send),
    ) -> Result<State> {
        let Self { state, file, scenario } = self;
        let shared = Mutex::new(Shared { hand_out: state.next, state, problem: None, told });
        std::thread::scope(|threads| {
            for _ in 0..jobs.max(1) {
                threads.spawn(|| {
                    loop {
                        // The lock ends with the statement, before a run begins.
                        let seed = take(&mut lock(&shared), goes_on);
                        let Some(seed) = seed else { break };
                        let ended = rehearse(scenario.clone(), seed, None, |_, _| ());
                        end(&mut lock(&shared), &file, seed, ended);
                    }
                });
            }
        });
        let Shared { state, problem, .. } = shared.into_inner().expect(NO_PANIC);
        problem.map_or(Ok(state), Err)
    }
}

const NO_PANIC: &str = "a run that panics is an answer, and nothing else does";

fn lock<'a, 'b>(shared: &'a Mutex<Shared<'b>>) -> MutexGuard<'a, Shared<'b>> {
    shared.lock().expect(NO_PANIC)
}

/// The next seed, if there is to be one.
fn take(shared: &mut Shared<'_>, goes_on: &(dyn Fn(u64) -> bool + Sync)) -> Option<u64> {
    while shared.state.ahead.contains(&shared.hand_out) {
        shared.hand_out += 1;
    }
    let seed = shared.hand_out;
    if shared.problem.is_some() || !goes_on(seed) {
        return None;
    }
    shared.hand_out += 1;
    Some(seed)
}

fn end(shared: &mut Shared<'_>, file: &Path, seed: u64, ended: Result<Ended>) {
    let ended = match ended {
        Ok(ended) => ended,
        Err(problem) => {
            shared.problem.get_or_insert(problem);
            return;
        }
    };
    let found = ended.as_ref().err().map(|violation| {
        let what = format!("{}: {}", instant(violation.at), violation.what);
        Found { seed, what }
    });
    shared.state.ended(seed, found);
    if let Err(problem) = write(file, &shared.state) {
        shared.problem.get_or_insert(problem);
    }
    (shared.told)(&shared.state, seed, &ended);
}

/// The file is the old one or the new one, whatever happens.
fn write(file: &Path, state: &State) -> Result<()> {
    let mut name = file.file_name().context("--state names no file")?.to_owned();
    name.push(".new");
    let new = file.with_file_name(name);
    let write = || {
        let mut written = File::create(&new)?;
        written.write_all(&serde_json::to_vec_pretty(state)?)?;
        written.sync_all()?;
        std::fs::rename(&new, file)
    };
    write().with_context(|| format!("write campaign {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fleet() -> Fleet {
        Fleet { scenario: "swarm".to_owned(), clusters: 3, days: 1, without: BTreeSet::new() }
    }

    #[test]
    fn seeds_that_ended_out_of_order_are_counted_once() {
        let mut state = State::new(fleet(), 5);
        for (seed, next, count) in [(6, 5, 1), (8, 5, 2), (5, 7, 3), (7, 9, 4)] {
            state.ended(seed, None);
            assert_eq!((state.next, state.seeds()), (next, count));
        }
        assert!(state.ahead.is_empty());
    }

    #[test]
    fn a_file_is_gone_on_with_and_no_others() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("campaign.json");
        assert_eq!(Campaign::open(&file, fleet(), None).unwrap().state(), &State::new(fleet(), 1));
        let mut state = State::new(fleet(), 3);
        state.ended(4, Some(Found { seed: 4, what: "all of it".to_owned() }));
        write(&file, &state).unwrap();
        assert_eq!(Campaign::open(&file, fleet(), None).unwrap().state(), &state);
        for (fleet, from) in [(Fleet { clusters: 4, ..fleet() }, None), (fleet(), Some(1))] {
            let problem = Campaign::open(&file, fleet, from).unwrap_err().to_string();
            assert!(problem.contains("--scenario swarm --clusters 3 --days 1 from seed 3"), "{problem}");
        }
        std::fs::write(&file, "half of").unwrap();
        assert!(Campaign::open(&file, fleet(), None).is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
