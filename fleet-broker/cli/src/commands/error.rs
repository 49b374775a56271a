//! Why a command failed, and the number it leaves behind.

use std::{error::Error, io, path::Path};

use crate::{
    bundle::BundleError,
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
    /// It failed.
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
    /// The command could not print.
    #[error("cannot print")]
    Output(#[from] io::Error),
}

impl CommandError {
    /// For `map_err`: what was to be done with which bundle.
    pub(super) fn bundle(action: &'static str, file: &Path) -> impl Fn(BundleError) -> Self + Copy {
        move |source| Self::Bundle { action, file: file.display().to_string(), source: Box::new(source) }
    }

    /// The number the command leaves behind. A reader that wanted no more, such as `head`, is no failure.
    pub fn exit(&self) -> Exit {
        match (self, cause_in_system(self)) {
            (Self::Usage(_), _) => Exit::Usage,
            (Self::Output(_), Some(io::ErrorKind::BrokenPipe)) => Exit::Ok,
            (_, Some(io::ErrorKind::NotFound)) => Exit::NotFound,
            (_, Some(io::ErrorKind::PermissionDenied)) => Exit::NotAllowed,
            (_, _) => Exit::Failed,
        }
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
            (ManifestError::NoObjects.into(), Exit::Failed),
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
