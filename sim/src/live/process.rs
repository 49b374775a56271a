//! Processes of a live fleet: started, spoken with, measured and ended.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File},
    io::{self, Write as _},
    os::{fd::AsFd as _, unix::process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command as Program, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Error, Result, anyhow};
use rustix::{
    process::{Resource, Rlimit, Signal, getrlimit, set_parent_process_death_signal, setrlimit},
    time::{ClockId, clock_gettime},
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    net::unix::pipe::Receiver,
    process::{Child, ChildStdin, ChildStdout, Command},
};

use super::{Part, tally::At};

/// Ticks of a second in which the kernel counts a process's time for others to read.
const TICKS: u64 = 100;

/// Lines at the end of a process's log that are shown when it ends.
const LOG_LINES: usize = 10;

/// A running part of the fleet. It is killed when this is dropped, and when the process that started it dies.
pub(super) struct Running {
    name: String,
    child: Child,
    log: PathBuf,
}

/// What a part says, line by line.
pub(super) struct Words(Lines<BufReader<ChildStdout>>);

/// Where a part is told what to do.
pub(super) struct Ear(ChildStdin);

impl Running {
    /// Starts this program as a part of the fleet. What it complains of goes to a log in the folder.
    pub(super) fn start(
        part: Part,
        name: &str,
        folder: &Path,
        told: &[&OsStr],
    ) -> Result<(Self, Ear, Words)> {
        let log = folder.join(format!("{name}.log"));
        let complaints = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let this = std::env::current_exe().context("cannot find this program")?;
        let mut command = Command::new(this);
        command.args(["live", "--part", part.name(), "--"]).args(told);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(complaints);
        // Ctrl-C is for the parent, which ends the others.
        command.kill_on_drop(true).process_group(0);
        let mut child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        let (ear, words) = child.stdin.take().zip(child.stdout.take()).context("it has both pipes")?;
        Ok((Self { name: name.to_owned(), child, log }, Ear(ear), Words(BufReader::new(words).lines())))
    }

    /// Kills it, as a power cut would, and waits until it is gone.
    pub(super) async fn kill(&mut self) -> Result<()> {
        self.child.kill().await.with_context(|| format!("cannot end {}", self.name))
    }

    /// Fails when it has ended, with the last of what it complained of.
    pub(super) fn lives(&mut self) -> Result<()> {
        let ended = self.child.try_wait().with_context(|| format!("cannot look at {}", self.name))?;
        ended.map_or(Ok(()), |status| Err(self.last_words(status)))
    }

    /// Why one ended that says nothing any more.
    pub(super) async fn why_it_ended(&mut self) -> Error {
        match self.child.wait().await {
            Ok(status) => self.last_words(status),
            Err(error) => Error::new(error).context(format!("cannot look at {}", self.name)),
        }
    }

    /// Whether it has written this to its log.
    pub(super) fn has_logged(&self, text: &str) -> bool {
        fs::read_to_string(&self.log).is_ok_and(|log| log.contains(text))
    }

    fn last_words(&self, status: ExitStatus) -> Error {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let last = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
        let said =
            if last.is_empty() { "it said nothing".to_owned() } else { format!("it said last:\n{last}") };
        anyhow!("{} ended ({status}); {said}", self.name)
    }

    /// Memory that it takes now, in bytes.
    pub(super) fn resident(&self) -> Result<u64> {
        let text = self.of("status")?;
        let line =
            text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("a process has VmRSS")?;
        let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().context("VmRSS is in kB")?;
        Ok(kilobytes * 1024)
    }

    /// Processor time that it has taken, its own and the kernel's for it.
    pub(super) fn processor(&self) -> Result<Duration> {
        Ok(Duration::from_millis(ticks(&self.of("stat")?)? * (1000 / TICKS)))
    }

    fn of(&self, what: &str) -> Result<String> {
        let id = self.child.id().with_context(|| format!("{} has ended", self.name))?;
        let path = format!("/proc/{id}/{what}");
        fs::read_to_string(&path).with_context(|| format!("cannot read {path} of {}", self.name))
    }
}

/// User and system time in what `/proc/<id>/stat` says (proc(5)). The program's name may hold anything, so counting begins
/// behind it.
fn ticks(stat: &str) -> Result<u64> {
    let (_, rest) = stat.rsplit_once(')').context("a process has a name")?;
    let mut fields = rest.split_whitespace().skip(11);
    let mut number =
        || fields.next().and_then(|field| field.parse::<u64>().ok()).context("a process takes time");
    Ok(number()? + number()?)
}

impl Words {
    /// The next thing that it says; none when it has ended.
    pub(super) async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>> {
        let Some(line) = self.0.next_line().await.context("cannot hear a part of the fleet")? else {
            return Ok(None);
        };
        serde_json::from_str(&line).map(Some).with_context(|| format!("{line:?} is not what a part says"))
    }
}

impl Ear {
    /// Tells it something.
    pub(super) async fn tell(&mut self, what: &impl Serialize) -> Result<()> {
        let mut line = serde_json::to_vec(what)?;
        line.push(b'\n');
        self.0.write_all(&line).await.context("a part of the fleet does not listen any more")
    }
}

/// What the process that started this one says, line by line.
pub(super) fn told() -> Result<Lines<BufReader<Receiver>>> {
    let input = io::stdin().as_fd().try_clone_to_owned()?;
    let input = Receiver::from_file(input.into()).context("cannot hear whoever started this process")?;
    Ok(BufReader::new(input).lines())
}

/// Says something to the process that started this one.
pub(super) fn say(what: &impl Serialize) -> Result<()> {
    let mut line = serde_json::to_vec(what)?;
    line.push(b'\n');
    let mut out = io::stdout().lock();
    out.write_all(&line)?;
    Ok(out.flush()?)
}

/// From now on the kernel ends this process with the one that started it, however that ends.
pub(super) fn die_with_parent() -> Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL)).context("cannot be ended with the parent")
}

/// Becomes another program, under the same process id.
pub(super) fn become_program(told: &[OsString]) -> Result<()> {
    let (program, arguments) = told.split_first().context("no program to become")?;
    let error = Program::new(program).args(arguments).exec();
    Err(error).with_context(|| format!("cannot run {}", Path::new(program).display()))
}

/// Allows this process and those that it starts as many open files as the system lets it, and gives their number.
pub(super) fn open_files() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let most = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let allowed = if setrlimit(Resource::Nofile, most).is_ok() { most.current } else { limit.current };
    allowed.map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX))
}

/// Now.
pub(super) fn now() -> At {
    let time = clock_gettime(ClockId::Monotonic);
    let time = Duration::try_from(time).expect("the machine did not start in the future");
    At(u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_counted_behind_the_name() {
        let stat = "42 (a (b) c) S 1 42 42 0 -1 4194560 1000 0 3 0 250 50 0 0 20 0 4 0 12345 1 2 3";
        assert_eq!(ticks(stat).unwrap(), 300);
        assert!(ticks("42 (a) S 1 2").is_err());
        assert!(ticks("").is_err());
    }

    #[test]
    fn the_clock_goes_on() {
        let before = now();
        assert!(now() >= before);
    }
}
