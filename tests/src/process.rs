//! Programs under test.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::NamedTempFile;

use crate::wait_for;

/// Lines of a program's output that are shown beside a failure.
const LOG_TAIL_LINES: usize = 40;

/// A program of this workspace, as cargo built it beside the tests.
///
/// # Errors
///
/// When it was not built.
pub fn program(name: &str) -> Result<PathBuf> {
    let tests = std::env::current_exe().context("find this test's own program")?;
    let folder = tests.ancestors().nth(2).context("cargo puts tests into deps/")?;
    let program = folder.join(name);
    ensure!(program.is_file(), "{} is missing: run this by tests/run, which builds it", program.display());
    Ok(program)
}

/// A running program with its output in a file. It leads a process group of its own, and the whole group
/// is killed when the value is dropped; the program is also killed when the thread that spawned it dies,
/// however that dies.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: NamedTempFile,
}

impl Process {
    /// Starts the program; `name` is what failures call it. Spawn it from the test's own thread.
    ///
    /// # Errors
    ///
    /// When there is no such program.
    pub fn spawn(name: &str, command: &Command) -> Result<Self> {
        let log = NamedTempFile::with_prefix(format!("{name}-"))?;
        let output = log.reopen()?;
        let child = killed_with_parent(command)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("start {name}: {command:?} (setpriv is in util-linux)"))?;
        Ok(Self { name: name.into(), child, log })
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// All that the program has printed so far.
    ///
    /// # Errors
    ///
    /// When the log cannot be read.
    pub fn log(&self) -> Result<String> {
        let log = fs::read(self.log.path()).with_context(|| format!("read the log of {}", self.name))?;
        Ok(String::from_utf8_lossy(&log).into_owned())
    }

    /// Whether the program has ended, and how.
    ///
    /// # Errors
    ///
    /// When the system cannot tell.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().with_context(|| format!("ask whether {} has ended", self.name))
    }

    /// Waits until the program ends by itself.
    ///
    /// # Errors
    ///
    /// When it still runs after `deadline`.
    pub async fn wait(&mut self, deadline: Duration) -> Result<ExitStatus> {
        let what = format!("end of {}", self.name);
        wait_for(&what, deadline, async || self.ended()?.context("it still runs")).await
    }

    /// Waits until the program has printed `text`.
    ///
    /// # Errors
    ///
    /// When it has not after `deadline`, or ended before.
    pub async fn printed(&mut self, text: &str, deadline: Duration) -> Result<()> {
        let what = format!("{text:?} in the log of {}", self.name);
        wait_for(&what, deadline, async || {
            let ended = self.ended()?;
            ensure!(self.log()?.contains(text), "it is not there (exit status so far: {ended:?})");
            Ok(())
        })
        .await
    }

    /// Asks the program to end (SIGTERM).
    ///
    /// # Errors
    ///
    /// When it has ended already.
    pub fn terminate(&self) -> Result<()> {
        kill_process_group(self.group(), Signal::TERM).with_context(|| format!("terminate {}", self.name))
    }

    /// Kills the program and its children as a power cut would, and waits until the program is gone.
    ///
    /// # Errors
    ///
    /// When the system does not let us.
    pub fn kill9(&mut self) -> Result<()> {
        // No such group: they have all ended already.
        let _ = kill_process_group(self.group(), Signal::KILL);
        self.child.wait().with_context(|| format!("wait for {} to be gone", self.name))?;
        Ok(())
    }

    fn group(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    fn log_tail(&self) -> String {
        let log = self.log().unwrap_or_else(|error| format!("{error:#}"));
        let skipped = log.lines().count().saturating_sub(LOG_TAIL_LINES);
        log.lines().skip(skipped).collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Process {
    #[allow(clippy::print_stderr, reason = "the test runner shows it beside the failure")]
    fn drop(&mut self) {
        if let Err(error) = self.kill9() {
            eprintln!("{error:#}");
        }
        // Always: a test that fails by returning an error does not panic. The runner drops it otherwise.
        eprintln!("--- the end of what {} printed:\n{}", self.name, self.log_tail());
    }
}

/// The same command, run so that the kernel kills it when its parent dies without dropping anything.
fn killed_with_parent(command: &Command) -> Command {
    let mut wrapped = Command::new("setpriv");
    wrapped.args(["--pdeathsig", "KILL", "--"]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => wrapped.env(name, value),
            None => wrapped.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        wrapped.current_dir(folder);
    }
    wrapped
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    fn shell(script: &str) -> Result<Process> {
        Process::spawn("shell", Command::new("sh").args(["-c", script]).env("GREETING", "hello"))
    }

    fn exists(id: &str) -> bool {
        // A zombie has a folder too, but no command line.
        fs::read(Path::new("/proc").join(id).join("cmdline")).is_ok_and(|line| !line.is_empty())
    }

    #[tokio::test]
    async fn captures_output_and_exit_code() -> Result<()> {
        let mut process = shell("echo $GREETING; echo oh >&2; exit 3")?;
        assert_eq!(process.wait(SOON).await?.code(), Some(3));
        assert_eq!(process.log()?, "hello\noh\n");
        Ok(())
    }

    #[tokio::test]
    async fn can_be_asked_to_end() -> Result<()> {
        let mut process = shell("trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.01; done")?;
        process.printed("ready", SOON).await?;
        process.terminate()?;
        assert!(process.wait(SOON).await?.success());
        assert!(process.log()?.contains("bye"));
        Ok(())
    }

    #[tokio::test]
    async fn ends_with_its_children_when_dropped() -> Result<()> {
        let mut process = shell("sleep 600 & echo child $!; wait")?;
        process.printed("child ", SOON).await?;
        let log = process.log()?;
        let child = log.trim().strip_prefix("child ").context("no child")?;
        assert!(exists(child));
        drop(process);
        wait_for("end of the child", SOON, async || {
            ensure!(!exists(child), "it still runs");
            Ok(())
        })
        .await
    }

    #[tokio::test]
    async fn ends_when_the_thread_that_spawned_it_dies() -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let spawning = std::thread::Builder::new().spawn(move || {
            let mut process = shell("echo ready; sleep 600")?;
            runtime.block_on(process.printed("ready", SOON))?;
            anyhow::Ok(process)
        })?;
        let mut process = spawning.join().expect("the thread does not panic")?;
        assert!(!process.wait(SOON).await?.success());
        Ok(())
    }

    #[tokio::test]
    async fn shows_the_end_of_a_long_log() -> Result<()> {
        let mut process = shell("seq 100")?;
        process.wait(SOON).await?;
        let tail = process.log_tail();
        assert_eq!((tail.lines().next(), tail.lines().last()), (Some("61"), Some("100")));
        Ok(())
    }
}
