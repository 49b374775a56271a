//! The port to the cluster that the agent keeps, at the level of API requests.
//!
//! [`kube::KubeCluster`] talks to a real API server and `sim::SimCluster` is a model of one. The same
//! request gives the same answer from both, down to the words of a conflict; one set of conformance cases
//! holds them to it.

mod access;
mod backoff;
pub mod kube;
#[cfg(feature = "sim")]
pub mod sim;
mod status;

use std::{collections::BTreeMap, time::Duration};

use futures::stream::LocalBoxStream;
use serde_json::Value;
use thiserror::Error;

pub use self::access::{Access, AccessError};
use crate::logic::object::{Gvk, ObjectRef};

/// Largest object sent or received, in bytes of JSON. The API server takes no request body over 3 MiB and
/// etcd no object over 1.5 MiB; `managedFields` may double what was sent.
pub const MAX_OBJECT_BYTES: usize = 4 << 20;

/// How long one request may take. Webhooks may take 30 s by their own limit, and then the API server
/// still has to answer.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(40);

/// Most objects a [`Request::List`] returns: enough pods to find a failing one, small enough to hold.
pub const MAX_LISTED: u32 = 50;

/// A Kubernetes cluster, as far as the agent needs one.
///
/// The agent runs on one thread, so that futures need not be `Send`.
pub trait Cluster {
    /// Sends one request. It ends within [`REQUEST_TIMEOUT`].
    fn send(&self, request: Request) -> impl Future<Output = Result<Response, ClusterError>>;

    /// Watches the metadata of all objects of a kind, in all namespaces, that match a label selector.
    ///
    /// The stream never ends: it resumes where it was, lists anew where it cannot, and retries with backoff
    /// whose jitter comes from `seed`. Nothing is remembered, so that an object that vanished between two
    /// lists is not reported [`WatchEvent::Gone`]: it is the one not seen between
    /// [`WatchEvent::Listing`] and [`WatchEvent::Synced`].
    fn watch(&self, kind: Gvk, label_selector: String, seed: u64) -> LocalBoxStream<'static, WatchEvent>;
}

/// A request to the API server.
///
/// An object that names a namespace although its kind belongs to the whole cluster is refused with
/// [`ClusterError::ScopeMismatch`] before anything is sent: an API server would overlook the namespace, and
/// what was signed for one namespace would reach all of them.
#[derive(Clone, Debug, PartialEq)]
pub enum Request {
    /// Reads one object.
    Get(ObjectRef),
    /// Reads at most [`MAX_LISTED`] objects of a kind in one namespace, such as a workload's pods.
    List {
        /// Kind to list; it belongs to namespaces.
        kind: Gvk,
        /// Namespace to list in.
        namespace: String,
        /// Label selector, such as `app=gateway,tier in (edge)`.
        label_selector: String,
    },
    /// Applies an object (server-side apply, KEP-555) as field manager
    /// [`FIELD_MANAGER`](crate::logic::owned::FIELD_MANAGER), with strict field validation.
    Apply {
        /// Which object.
        object: ObjectRef,
        /// The manifest: what we own is what it holds.
        body: Value,
        /// Takes fields of other managers instead of reporting a conflict.
        force: bool,
        /// Says what would happen and changes nothing.
        dry_run: bool,
    },
    /// Deletes an object, and in the background what it owns.
    Delete {
        /// Which object.
        object: ObjectRef,
        /// UID that it must have, so that a namesake created by someone else is left alone.
        uid: String,
    },
    /// Asks for the version of the API server.
    Version,
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Response {
    /// To [`Request::Get`] and [`Request::Apply`]: the object as it is now (or, for a dry run, would be).
    Object(Value),
    /// To [`Request::List`].
    List(Vec<Value>),
    /// To [`Request::Delete`]: the object is gone.
    Deleted,
    /// To [`Request::Delete`]: the object goes when its finalizers or its pods are done.
    Deleting,
    /// To [`Request::Version`]: such as `v1.36.3+k3s1`.
    Version(String),
}

/// What happens to watched objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchEvent {
    /// A list begins: everything that exists follows, then [`WatchEvent::Synced`].
    Listing,
    /// The object exists in this version.
    Changed(ObjectMeta),
    /// The object was deleted, or no longer matches the selector.
    Gone(ObjectMeta),
    /// All that exists has been reported.
    Synced,
    /// The watch was interrupted and tries again; events may be late, none is lost.
    Lost(ClusterError),
}

/// What a watch tells about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectMeta {
    /// Which object.
    pub object: ObjectRef,
    /// Identity for its lifetime; a namesake created later has another.
    pub uid: String,
    /// Version of its spec, for kinds that count it.
    pub generation: Option<i64>,
    /// Version of everything in it; opaque.
    pub resource_version: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Whether it is being deleted.
    pub deleting: bool,
}

/// Why a request failed.
///
/// Messages of the API server are carried as they are: operators know them and can look them up.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ClusterError {
    /// The object does not exist.
    #[error("{object} does not exist")]
    NotFound {
        /// Which object.
        object: Box<ObjectRef>,
    },
    /// The cluster does not serve this kind, at least not yet: its CRD may be on the way.
    #[error(
        "the cluster does not serve {gvk}: write a version that `kubectl api-versions` lists, or install its CustomResourceDefinition"
    )]
    UnknownKind {
        /// The kind.
        gvk: Gvk,
    },
    /// The object names a namespace, but its kind belongs to the whole cluster.
    #[error("{object} names a namespace, but {} belongs to the whole cluster: leave the namespace out", object.gvk)]
    ScopeMismatch {
        /// Which object.
        object: Box<ObjectRef>,
    },
    /// The namespace does not exist.
    #[error("namespace {namespace} of {object} does not exist: create it, or add it to a bundle")]
    NamespaceMissing {
        /// The namespace.
        namespace: String,
        /// What was to go there.
        object: Box<ObjectRef>,
    },
    /// The namespace is being deleted.
    #[error("namespace of {object} is being deleted: {message}")]
    NamespaceTerminating {
        /// What was to go there.
        object: Box<ObjectRef>,
        /// The API server's words.
        message: String,
    },
    /// Other managers own fields that the manifest sets to other values.
    #[error("{object}: {message}")]
    Conflict {
        /// Which object.
        object: Box<ObjectRef>,
        /// Whose fields, in order.
        conflicts: Vec<FieldConflict>,
        /// The API server's words.
        message: String,
    },
    /// The object changed while the request was at work.
    #[error("{object} changed meanwhile: {message}")]
    Contended {
        /// Which object.
        object: Box<ObjectRef>,
        /// The API server's words.
        message: String,
    },
    /// The object of this name is not the one that was to be deleted.
    #[error("{object} is another object of the same name: {message}")]
    UidMismatch {
        /// Which object.
        object: Box<ObjectRef>,
        /// The API server's words.
        message: String,
    },
    /// The API server refuses the object.
    #[error("{object} is invalid: {message}")]
    Invalid {
        /// Which object.
        object: Box<ObjectRef>,
        /// The API server's words.
        message: String,
        /// What is wrong, field by field.
        causes: Vec<Cause>,
    },
    /// An admission webhook or policy of the cluster refuses the object.
    #[error("{object} was denied by the cluster's policy: {message}")]
    Denied {
        /// Which object.
        object: Box<ObjectRef>,
        /// The API server's words.
        message: String,
    },
    /// A quota of the namespace is used up.
    #[error("{object} does not fit its namespace's quota: {message}")]
    QuotaExceeded {
        /// Which object.
        object: Box<ObjectRef>,
        /// The API server's words.
        message: String,
    },
    /// The agent may not do this.
    #[error("not allowed: {message}; grant the agent's account this right")]
    Forbidden {
        /// The API server's words.
        message: String,
    },
    /// The API server does not know the agent.
    #[error("the API server does not accept the agent's credentials: {message}")]
    Unauthorized {
        /// The API server's words, or what is wrong with the credentials at hand.
        message: String,
    },
    /// The API server asks for patience.
    #[error("the API server is busy: {message}")]
    Throttled {
        /// How long it asks to wait.
        retry_after: Option<Duration>,
        /// The API server's words.
        message: String,
    },
    /// An admission webhook that must be asked does not answer.
    #[error("an admission webhook of the cluster does not answer: {message}")]
    WebhookDown {
        /// The API server's words.
        message: String,
    },
    /// The API server cannot be reached or does not work.
    #[error("the API server is not available: {message}")]
    Unavailable {
        /// What happened.
        message: String,
    },
    /// No answer in time. Whether the request took effect is not known.
    #[error("no answer within {} s", after.as_secs())]
    Timeout {
        /// How long was waited.
        after: Duration,
    },
    /// A body over [`MAX_OBJECT_BYTES`].
    #[error("{what} is larger than {MAX_OBJECT_BYTES} bytes")]
    TooLarge {
        /// The object or answer.
        what: String,
    },
    /// The version that a watch asked for is no longer kept.
    #[error("the watched version is no longer kept: {message}")]
    Expired {
        /// The API server's words.
        message: String,
    },
    /// An answer that no API server gives: something else answers at that address.
    #[error("unexpected answer from the API server: {message}")]
    Unexpected {
        /// What came.
        message: String,
    },
}

/// A field that another manager owns.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FieldConflict {
    /// The other manager.
    pub manager: String,
    /// The field, such as `.spec.template.spec.containers[name="app"].image`.
    pub field: String,
}

/// One thing that is wrong with an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// The field, such as `spec.replicas`; empty if it is about the whole.
    pub field: String,
    /// What is wrong with it.
    pub message: String,
}

/// What makes a failed request succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Time: the same request may succeed later.
    Retry {
        /// How long the API server asked to wait, if it did.
        after: Option<Duration>,
    },
    /// Another object: this one will be refused again until it, or what stands in its way, changes.
    Object,
    /// An operator of the cluster: rights, credentials, the address.
    Operator,
}

impl ClusterError {
    /// What makes the request succeed.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Throttled { retry_after, .. } => Remedy::Retry { after: *retry_after },
            Self::UnknownKind { .. }
            | Self::NamespaceMissing { .. }
            | Self::NamespaceTerminating { .. }
            | Self::Contended { .. }
            | Self::WebhookDown { .. }
            | Self::Unavailable { .. }
            | Self::Timeout { .. }
            | Self::Expired { .. } => Remedy::Retry { after: None },
            Self::NotFound { .. }
            | Self::ScopeMismatch { .. }
            | Self::Conflict { .. }
            | Self::UidMismatch { .. }
            | Self::Invalid { .. }
            | Self::Denied { .. }
            | Self::QuotaExceeded { .. }
            | Self::TooLarge { .. } => Remedy::Object,
            Self::Forbidden { .. } | Self::Unauthorized { .. } | Self::Unexpected { .. } => Remedy::Operator,
        }
    }

    /// Whether this says that the API server as a whole is away, so that no other request will fare better.
    pub fn is_outage(&self) -> bool {
        matches!(
            self,
            Self::Unavailable { .. }
                | Self::Timeout { .. }
                | Self::Throttled { .. }
                | Self::Unauthorized { .. }
                | Self::Unexpected { .. }
        )
    }
}

/// Refuses what cannot be the address of an object, before it is asked for: a name that would not be one
/// segment of a path (`path.IsValidPathSegmentName` of the API server), no namespace where one is needed, or one
/// where there is none.
fn addressable(object: &ObjectRef, namespaced: bool) -> Result<(), ClusterError> {
    let invalid = |message: &str| {
        let object = Box::new(object.clone());
        Err(ClusterError::Invalid { object, message: message.into(), causes: Vec::new() })
    };
    if !namespaced && object.namespace.is_some() {
        return Err(ClusterError::ScopeMismatch { object: Box::new(object.clone()) });
    }
    let is_segment = |name: &str| !matches!(name, "" | "." | "..") && !name.contains(['/', '%']);
    if namespaced && object.namespace.is_none() {
        return invalid("objects of this kind belong to a namespace: give metadata.namespace");
    }
    if !is_segment(&object.name) || object.namespace.as_deref().is_some_and(|name| !is_segment(name)) {
        return invalid("a name may not be empty, \".\" or \"..\", nor hold \"/\" or \"%\"");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_segment_of_a_path() {
        let check = |namespace: Option<&str>, name: &str, namespaced: bool, expected: bool| {
            let gvk = Gvk::new("v1", "ConfigMap");
            let object = ObjectRef { gvk, namespace: namespace.map(str::to_owned), name: name.into() };
            assert_eq!(addressable(&object, namespaced).is_ok(), expected, "{object}");
        };
        for name in ["", ".", "..", "a/b", "a%2fb"] {
            check(Some("radio"), name, true, false);
            check(Some(name), "gateway", true, false);
        }
        check(Some("radio"), "gateway-1.4.2", true, true);
        check(None, "gateway", true, false);
        check(None, "system:node", false, true);
        check(Some("radio"), "system:node", false, false);
    }
}
