//! Why a command failed, and the number it leaves behind.

use std::{error::Error, io, path::Path};

use crate::{
    bundle::BundleError,
    hub::HubError,
    keys::KeyError,
    manifest::ManifestError,
    release::{ParameterFileError, ReleaseError},
    source::SourceError,
};

/// How a command ended, as scripts see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// As it should.
    Ok = 0,
    /// It failed; of a command that compares: something differs.
    Failed = 1,
    /// It was called in a way that makes no sense.
    Usage = 2,
    /// What it was to work on is not there.
    NotFound = 3,
    /// It was not allowed to.
    NotAllowed = 4,
    /// The hub could not be reached.
    Unreachable = 5,
    /// It took longer than it was given.
    Timeout = 124,
}

impl Exit {
    /// For a command that leaves 1 behind to say that something differs.
    fn beside_differs(self) -> Self {
        if self == Self::Failed { Self::Usage } else { self }
    }
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// Arguments that contradict each other or the files they name.
    #[error("{0}")]
    Usage(String),
    /// Keys.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// Files of manifests.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Manifests.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// A file of parameters.
    #[error(transparent)]
    Parameters(#[from] ParameterFileError),
    /// A release.
    #[error(transparent)]
    Release(#[from] ReleaseError),
    /// A bundle's file.
    #[error("cannot {action} {file}")]
    Bundle {
        /// What was to be done with it.
        action: &'static str,
        /// Which file.
        file: String,
        /// What is wrong with it.
        #[source]
        source: Box<BundleError>,
    },
    /// Backups.
    #[error(transparent)]
    Backup(#[from] fleet_broker::backup::BackupError),
    /// A file that is carried by hand.
    #[error("cannot use {file}")]
    Carry {
        /// Which file.
        file: String,
        /// What is wrong with it.
        #[source]
        source: protocol::carry::CarryError,
    },
    /// The hub.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// A bundle that the hub did not take.
    #[error("cannot publish {file}")]
    Publish {
        /// Its file.
        file: String,
        /// Why.
        #[source]
        source: HubError,
    },
    /// A hub that should run here.
    #[error("the hub does not start")]
    Serve(#[from] fleet_broker::serve::ServeError),
    /// Something that is not an Application the hub would take.
    #[error("{0}")]
    Application(String),
    /// Something that is not on the hub.
    #[error("{0}")]
    NotThere(String),
    /// What was compared differs, and how was printed.
    #[error("it differs")]
    Differs,
    /// A comparison that failed.
    #[error(transparent)]
    Trouble(Box<CommandError>),
    /// Threads.
    #[error("cannot start a runtime")]
    Runtime(#[source] io::Error),
    /// A file of the command's own.
    #[error("cannot {action} {file}")]
    File {
        /// What was to be done with it.
        action: &'static str,
        /// Which file.
        file: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file of the command's own that says something it must not.
    #[error("{file} is not what this command wrote: {problem}; remove the folder to start anew")]
    State {
        /// Which file.
        file: String,
        /// What is wrong with it.
        problem: String,
    },
    /// An agent that should run here.
    #[error("the agent does not run: {0}")]
    Agent(String),
    /// Somebody stopped it halfway.
    #[error("stopped before the demo was healthy; the same command goes on from here")]
    Stopped,
    /// Something did not happen in time.
    #[error("{0}")]
    Timeout(String),
    /// The command could not print.
    #[error("cannot print")]
    Output(#[from] io::Error),
}

impl CommandError {
    /// For `map_err`: what was to be done with which bundle.
    pub(crate) fn bundle(action: &'static str, file: &Path) -> impl Fn(BundleError) -> Self + Copy {
        move |source| Self::Bundle { action, file: file.display().to_string(), source: Box::new(source) }
    }

    /// The number the command leaves behind. A reader that wanted no more, such as `head`, is no failure.
    pub fn exit(&self) -> Exit {
        match (self, cause_in_system(self)) {
            (Self::Usage(_), _) => Exit::Usage,
            (Self::Timeout(_), _) => Exit::Timeout,
            (Self::NotThere(_), _) => Exit::NotFound,
            (Self::Trouble(error), _) => error.exit().beside_differs(),
            (Self::Hub(error) | Self::Publish { source: error, .. }, _)
                if !matches!(error, HubError::Kubeconfig { .. }) =>
            {
                hub_exit(error)
            }
            (Self::Output(_), Some(io::ErrorKind::BrokenPipe)) => Exit::Ok,
            (_, Some(io::ErrorKind::NotFound)) => Exit::NotFound,
            (_, Some(io::ErrorKind::PermissionDenied)) => Exit::NotAllowed,
            (_, _) => Exit::Failed,
        }
    }
}

fn hub_exit(error: &HubError) -> Exit {
    match (error, error.code()) {
        (_, Some(404)) => Exit::NotFound,
        (_, Some(401 | 403)) => Exit::NotAllowed,
        (HubError::Request { .. }, None) => Exit::Unreachable,
        (_, _) => Exit::Failed,
    }
}

fn cause_in_system(error: &(dyn Error + 'static)) -> Option<io::ErrorKind> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return Some(error.kind());
        }
        cause = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_says_what_kind_of_failure_it_was() {
        let read = |kind: io::ErrorKind| SourceError::Read { path: "a".to_owned(), source: kind.into() };
        let cases = [
            (CommandError::Usage("no".to_owned()), Exit::Usage),
            (read(io::ErrorKind::NotFound).into(), Exit::NotFound),
            (read(io::ErrorKind::PermissionDenied).into(), Exit::NotAllowed),
            (read(io::ErrorKind::Other).into(), Exit::Failed),
            (io::Error::from(io::ErrorKind::BrokenPipe).into(), Exit::Ok),
            (ManifestError::NoObjects("a".to_owned()).into(), Exit::Failed),
            (CommandError::Differs, Exit::Failed),
            (CommandError::Trouble(Box::new(ManifestError::NoObjects("a".to_owned()).into())), Exit::Usage),
            (CommandError::Trouble(Box::new(CommandError::NotThere("a".to_owned()))), Exit::NotFound),
            (
                CommandError::Bundle {
                    action: "verify",
                    file: "a".to_owned(),
                    source: Box::new(BundleError::Unsigned),
                },
                Exit::Failed,
            ),
        ];
        for (error, expected) in cases {
            assert_eq!(error.exit(), expected, "{error:?}");
        }
    }
}
