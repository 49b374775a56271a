//! Programs that this one starts. All of them end with it, however it ends.

use std::{
    env,
    ffi::OsStr,
    fs::{self, File},
    io::Write as _,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::wait::wait_for;

/// How long a program may take to end when it is asked to; the control plane ends five others.
const GRACE: Duration = Duration::from_secs(15);

/// Lines of a program's output that are shown beside a failure.
const LOG_TAIL_LINES: usize = 20;

/// A running program with its output in a file. It leads a process group, which is ended when the value is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a program whose output goes to a file in `folder`.
    pub(crate) fn spawn(name: &'static str, command: Command, folder: &Path) -> Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let output = File::create(&log).with_context(|| format!("make {}", log.display()))?;
        let mut command = ended_with_us(&command);
        command.process_group(0);
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let child = command.spawn().with_context(|| format!("start {command:?}: is setpriv there?"))?;
        Ok(Self { name, child, log })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `look` returns a value while the program runs.
    pub(crate) fn wait_for<T>(
        &mut self,
        what: &str,
        deadline: Duration,
        mut look: impl FnMut(&Self) -> Result<T>,
    ) -> Result<T> {
        let found = wait_for(what, deadline, || {
            match self.child.try_wait()? {
                // Looking again would change nothing.
                Some(status) => Ok(Err(status)),
                None => look(self).map(Ok),
            }
        });
        match found {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(status)) => bail!("{} ended ({status}); it said:\n{}", self.name, self.log_tail()),
            Err(error) => Err(error.context(format!("{} said:\n{}", self.name, self.log_tail()))),
        }
    }

    /// All that the program has printed so far.
    pub(crate) fn log(&self) -> Result<String> {
        fs::read_to_string(&self.log).with_context(|| format!("read {}", self.log.display()))
    }

    fn log_tail(&self) -> String {
        let log = self.log().unwrap_or_else(|error| format!("{error:#}"));
        let skipped = log.lines().count().saturating_sub(LOG_TAIL_LINES);
        log.lines().skip(skipped).collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let group = Pid::from_child(&self.child);
        // No such group: all have ended by themselves.
        let _asked = kill_process_group(group, Signal::TERM);
        let ended = wait_for("its end", GRACE, || self.child.try_wait()?.context("it still runs"));
        let _killed = kill_process_group(group, Signal::KILL);
        if ended.is_err() {
            let _status = self.child.wait();
        }
    }
}

/// Runs a program until it ends, and returns what it printed to its standard output. Its standard error is ours
/// unless it is to be `quiet`: then it is shown only when it fails. An interrupt at the terminal reaches it and all
/// that it started, as they stay in our process group.
pub(crate) fn run(command: &Command, input: &str, quiet: bool) -> Result<String> {
    let what = || {
        let arguments = command.get_args().map(OsStr::to_string_lossy).collect::<Vec<_>>();
        format!("{} {}", command.get_program().to_string_lossy(), arguments.join(" "))
    };
    let mut running = ended_with_us(command);
    running.stdin(Stdio::piped()).stdout(Stdio::piped());
    running.stderr(if quiet { Stdio::piped() } else { Stdio::inherit() });
    let mut child = running.spawn().with_context(what)?;
    let mut stdin = child.stdin.take().context("the program has a standard input")?;
    let output = thread::scope(|scope| {
        // A program that has no use for its input closes it.
        scope.spawn(move || stdin.write_all(input.as_bytes()));
        child.wait_with_output()
    });
    let output = output.with_context(what)?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{} failed ({}) {}", what(), output.status, said.trim());
    String::from_utf8(output.stdout).with_context(what)
}

/// cargo, as somebody would call it in `workspace`. What a cargo that runs this program tells it about this package
/// would reach build scripts, which then build anew.
pub(crate) fn cargo(workspace: &Path) -> Command {
    let mut command = Command::new("cargo");
    for (name, _) in env::vars_os() {
        if ["CARGO_MANIFEST_", "CARGO_PKG_"].iter().any(|told| name.to_string_lossy().starts_with(told)) {
            command.env_remove(name);
        }
    }
    command.current_dir(workspace);
    command
}

/// The same command, run so that the kernel kills it when this process dies.
fn ended_with_us(command: &Command) -> Command {
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
