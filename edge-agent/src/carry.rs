//! `edge-agent import` and `edge-agent report`: files carried by hand, between a stick and the running agent.
//!
//! The file is read twice. The first time only for damage, so that a bad copy changes nothing; the second time record
//! by record into the control socket, where the agent judges each as if it had come over the link. What it took is in
//! its journal: ended anywhere, the same import again goes on to the same end.

use std::{
    fs::{self, File},
    io::{self, BufReader},
    path::{Path, PathBuf},
    time::Duration,
};

use protocol::{
    carry::{Carried, CarryError, Label, Reader, Record, Way, Writer},
    codec,
    ids::{ClusterId, FleetId},
    limits,
    order::Order,
    time::UnixSeconds,
};

use crate::{
    boundary::Boundaries,
    clock,
    control::{self, ControlError, Reply, Request},
    files,
    logic::report::instant,
    status::{AppStatus, Status},
};

/// How often the agent is asked how far it is: a person waits for it.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// What is imported, and by which agent.
#[derive(Debug)]
pub struct Import {
    /// The file.
    pub file: PathBuf,
    /// The agent's control socket.
    pub socket: PathBuf,
    /// Whether somebody looked at this machine's clock and found it right.
    pub confirm_clock: bool,
}

/// What the agent took.
#[derive(Debug, Clone)]
pub struct Taken {
    order: Order,
    apps: Vec<Carried>,
}

/// A file that was not imported, or a report that was not written.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file cannot be opened or written.
    #[error("cannot use {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is not as it was written.
    #[error("{} changes nothing here", path.display())]
    Carry {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: CarryError,
    },
    /// The file goes another way.
    #[error(
        "{} carries {way}, and changes nothing here: `edge-agent import` takes a file of `edgefleet export`",
        path.display()
    )]
    Way {
        /// The file.
        path: PathBuf,
        /// Which way it goes.
        way: Way,
    },
    /// The file is for somebody else.
    #[error("{} is for {}, this is {here}: it changes nothing here", path.display(), whose(label))]
    Other {
        /// The file.
        path: PathBuf,
        /// For whom it is.
        label: Box<Label>,
        /// Who this is.
        here: String,
    },
    /// The agent did not take it.
    #[error("the agent refused {} (made {}): {message}", path.display(), instant(*made))]
    Refused {
        /// The file.
        path: PathBuf,
        /// When it was made.
        made: UnixSeconds,
        /// The agent's words.
        message: String,
    },
    /// The agent does not answer.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The agent answers something else.
    #[error("the agent answered something else: is it version {}?", crate::VERSION)]
    Answer,
}

fn whose(label: &Label) -> String {
    format!("cluster {} of fleet {}", label.cluster, label.fleet)
}

impl Import {
    /// Has the agent take all of the file.
    ///
    /// # Errors
    /// When the file, or something in it, is refused. What was taken before stays.
    pub fn run(&self) -> Result<Taken, ImportError> {
        let label = self.inspect()?;
        let Way::ToCluster { order, apps, .. } = label.way.clone() else {
            return Err(ImportError::Way { path: self.file.clone(), way: label.way });
        };
        let status = status(&self.socket)?;
        if (label.cluster.as_str(), label.fleet.as_str()) != (&*status.cluster, &*status.fleet) {
            let here = format!("cluster {} of fleet {}", status.cluster, status.fleet);
            return Err(ImportError::Other { path: self.file.clone(), label: Box::new(label), here });
        }
        if self.confirm_clock {
            self.tell(&label, &Request::ConfirmClock)?;
        }
        let (mut reader, _) = self.open()?;
        while let Some(record) = reader.read().map_err(|source| self.carry(source))? {
            self.tell(&label, &Request::Carry { record: codec::encode(&record) })?;
        }
        Ok(Taken { order, apps })
    }

    /// Waits until all that was taken runs, or cannot, but no longer than `limit`. How it is then, and whether all of
    /// it runs.
    ///
    /// # Errors
    /// When the agent does not answer.
    #[allow(
        clippy::disallowed_methods,
        reason = "a process of its own, which waits for the agent as a person does"
    )]
    pub fn wait(&self, taken: &Taken, limit: Duration) -> Result<(Status, bool), ImportError> {
        let mut waited = Duration::ZERO;
        loop {
            // Before the first question, too: the agent gathers changes for a moment before it speaks of them.
            std::thread::sleep(ASK_EVERY);
            waited += ASK_EVERY;
            let status = status(&self.socket)?;
            let progress = taken.progress(&status);
            if progress != Progress::Going || waited >= limit {
                return Ok((status, progress == Progress::Done));
            }
        }
    }

    /// Reads the file from end to end: whatever is damaged is found before anything is taken.
    fn inspect(&self) -> Result<Label, ImportError> {
        let (mut reader, label) = self.open()?;
        while reader.read().map_err(|source| self.carry(source))?.is_some() {}
        Ok(label)
    }

    fn open(&self) -> Result<(Reader<BufReader<File>>, Label), ImportError> {
        let failed = |source| ImportError::File { path: self.file.clone(), source };
        let file = File::open(&self.file).map_err(failed)?;
        if fs::metadata(&self.file).map_err(failed)?.len() > limits::CARRY_BYTES {
            return Err(self.carry(CarryError::TooLarge));
        }
        Reader::open(BufReader::new(file)).map_err(|source| self.carry(source))
    }

    fn carry(&self, source: CarryError) -> ImportError {
        ImportError::Carry { path: self.file.clone(), source }
    }

    fn tell(&self, label: &Label, request: &Request) -> Result<(), ImportError> {
        match control::ask(&self.socket, request)? {
            Reply::Done => Ok(()),
            Reply::Failed { message } => {
                Err(ImportError::Refused { path: self.file.clone(), made: label.made, message })
            }
            Reply::Status(_) | Reply::Report { .. } => Err(ImportError::Answer),
        }
    }
}

/// How far an agent is with what it took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Going,
    Done,
    /// All of it ended, and not all as it should.
    Stuck,
}

impl Taken {
    fn progress(&self, status: &Status) -> Progress {
        // The hub may have said something newer meanwhile, over the link.
        if status.desired.as_deref() != Some(&*self.order.to_string()) {
            return Progress::Stuck;
        }
        let of = |carried: &Carried| {
            let name = carried.app.to_string();
            let app = status.applications.iter().find(|app| app.app == name);
            app.map_or(Progress::Going, |app| progress_of(carried, app))
        };
        let all: Vec<Progress> = self.apps.iter().map(of).collect();
        match () {
            () if all.contains(&Progress::Going) => Progress::Going,
            () if all.contains(&Progress::Stuck) => Progress::Stuck,
            () => Progress::Done,
        }
    }
}

fn progress_of(carried: &Carried, app: &AppStatus) -> Progress {
    let runs = app.version.as_deref() == Some(&carried.version);
    match app.state.as_str() {
        "Available" if runs && app.observed && app.message.is_empty() => Progress::Done,
        "Rejected" => Progress::Stuck,
        _ if !runs && carried.withheld.is_some() => Progress::Stuck,
        _ => Progress::Going,
    }
}

/// Writes a report of the agent at `socket` into a file that can be carried to the hub.
///
/// # Errors
/// When the agent does not answer, or the file cannot be written.
pub fn report(socket: &Path, file: &Path) -> Result<(), ImportError> {
    let status = status(socket)?;
    let (Ok(fleet), Ok(cluster)) = (FleetId::new(&*status.fleet), ClusterId::new(&*status.cluster)) else {
        return Err(ImportError::Answer);
    };
    let made = UnixSeconds(clock::unix_seconds());
    let (mut writer, mut bytes) = Writer::begin(Label { fleet, cluster, made, way: Way::ToHub });
    let mut index = 0;
    loop {
        let Reply::Report { envelope, count } = control::ask(socket, &Request::Report { index })? else {
            return Err(ImportError::Answer);
        };
        bytes.extend(writer.put(&Record::Report(envelope)));
        index += 1;
        if index >= count {
            break;
        }
    }
    bytes.extend(writer.end());
    let failed = |source| ImportError::File { path: file.to_owned(), source };
    let path = std::path::absolute(file).map_err(failed)?;
    files::write(&path, &bytes, 0o644, &Boundaries::default()).map_err(failed)
}

fn status(socket: &Path) -> Result<Status, ImportError> {
    match control::ask(socket, &Request::Status)? {
        Reply::Status(status) => Ok(*status),
        Reply::Done | Reply::Report { .. } | Reply::Failed { .. } => Err(ImportError::Answer),
    }
}
