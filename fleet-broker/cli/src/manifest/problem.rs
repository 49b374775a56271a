//! What can be wrong with manifests, and what to do about it.

use std::fmt;

use protocol::{ids::IdError, limits};

use super::{GroupKind, Origin};
use crate::yaml::YamlError;

/// Problems shown at once; the rest are counted.
const SHOWN: usize = 20;

/// Manifests that cannot become a bundle.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// A file is neither YAML nor JSON.
    #[error("{file}:{}:{}: {}{}", .problem.line, .problem.column, .problem.problem, template(*.is_template))]
    Syntax {
        /// Which file.
        file: String,
        /// What is wrong in it, and where.
        problem: YamlError,
        /// Whether the line holds a placeholder, as templates have them.
        is_template: bool,
    },
    /// There is nothing in the files.
    #[error("{0} holds no object: give manifests, each with apiVersion, kind and metadata")]
    NoObjects(String),
    /// More objects than a release may hold.
    #[error("the manifests hold {0} objects, a bundle may hold {max}; split them into several applications", max = limits::RELEASE_OBJECTS)]
    TooManyObjects(usize),
    /// Objects that cannot be taken.
    #[error("{}", Lines(.0))]
    Problems(Vec<Problem>),
}

/// One object that cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where it was written.
    pub origin: Origin,
    /// What it is, as far as that is known.
    pub object: String,
    /// What is wrong with it.
    pub problem: ObjectProblem,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} {}", self.origin, self.object, self.problem)
    }
}

/// What is wrong with an object, as the end of a sentence that starts with its name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ObjectProblem {
    /// Not a mapping at all.
    #[error("is no Kubernetes object: that is a mapping with apiVersion, kind and metadata")]
    NotAMapping,
    /// A field every object has is not there.
    #[error("has no {0}")]
    Missing(&'static str),
    /// A field that is text is something else.
    #[error("has the {field} {found}, which is not text; quote it")]
    NotText {
        /// Which field.
        field: &'static str,
        /// What it holds, as JSON.
        found: String,
    },
    /// Not a version of an API.
    #[error("has the apiVersion {0:?}; write v1 or GROUP/VERSION")]
    ApiVersion(String),
    /// A name that a server would make up.
    #[error("has metadata.generateName; what is kept applied needs a fixed metadata.name")]
    GenerateName,
    /// A name no object can have.
    #[error("cannot have its name: {0}")]
    Name(IdError),
    /// A namespace no object can be in.
    #[error("cannot be in its namespace: {0}")]
    Namespace(IdError),
    /// Nobody said whether the kind lives in a namespace.
    #[error(
        "names no namespace, and whether a {0} needs one is not known here: write metadata.namespace, add its \
         CustomResourceDefinition to the bundle, or pass --cluster-scoped {0}"
    )]
    UnknownScope(GroupKind),
    /// A secret everyone could read who gets hold of the bundle.
    #[error(
        "would be readable by everyone who gets hold of the bundle; leave its data out, or pass \
         --allow-plaintext-secrets to ship it all the same"
    )]
    PlaintextSecret,
    /// Larger than an API server takes.
    #[error("has {0} bytes, an object may have {max}, because no API server takes more; split it", max = limits::OBJECT_BYTES)]
    TooLarge(u64),
    /// The same object stands elsewhere too.
    #[error("stands twice, first at {0}; remove one of them")]
    Duplicate(Origin),
}

fn template(is_template: bool) -> &'static str {
    if is_template {
        "; the line is a template's: render it before it is built (a Helm chart: helm template)"
    } else {
        ""
    }
}

struct Lines<'a>(&'a [Problem]);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [only] = self.0 {
            return only.fmt(f);
        }
        write!(f, "{} objects cannot be taken:", self.0.len())?;
        for problem in self.0.iter().take(SHOWN) {
            write!(f, "\n  {problem}")?;
        }
        match self.0.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, "\n  and {more} more"),
        }
    }
}
