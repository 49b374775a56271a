//! The kinds of object the hub serves: their types, schemas, columns and rules.

#![allow(clippy::duplicated_attributes, reason = "columns share types and priorities; none is there twice")]

use std::collections::BTreeMap;
use std::sync::LazyLock;

use apimachinery::schema::Topology;
pub use apimachinery::selector::LabelSelector;
use apimachinery::selector::METADATA_FIELDS;
use apimachinery::table::{ColumnDefinition, Columns};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::Value;

mod application;
mod assignment;
mod bundle;
mod cluster;
mod dated;
mod decode;
pub mod event;
mod field;
mod freeze;
mod preview;
mod schema;
mod structural;
#[cfg(test)]
mod tests;
mod validate;

pub use application::*;
pub use assignment::*;
pub use bundle::{
    Adopt, Bundle, BundleCeilings, BundleParameter, BundleSignature, BundleSpec, IgnoreDifference,
    ParameterTarget,
};
pub use cluster::*;
pub use dated::{Before, Status, UNDATED};
pub use decode::{Decoded, FieldPath, Segment};
pub use field::FieldError;
pub use freeze::*;
pub use preview::*;
pub use validate::Validate;

/// The API group of all kinds but events.
pub const GROUP: &str = "edgefleet.dev";
/// Its only version.
pub const VERSION: &str = "v1alpha1";
/// Group and version as they stand in `apiVersion`.
pub const API_VERSION: &str = "edgefleet.dev/v1alpha1";

/// A kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Which bundle goes where.
    Application,
    /// One application on one cluster.
    Assignment,
    /// One signed version of an application.
    Bundle,
    /// One edge cluster.
    Cluster,
    /// What happened to an object.
    Event,
    /// Where nothing new starts.
    Freeze,
}

impl Kind {
    /// All of them, in the order of their names.
    pub const ALL: [Kind; 6] =
        [Kind::Application, Kind::Assignment, Kind::Bundle, Kind::Cluster, Kind::Event, Kind::Freeze];

    /// Those of the hub's own group.
    pub const OWN: [Kind; 5] =
        [Kind::Application, Kind::Assignment, Kind::Bundle, Kind::Cluster, Kind::Freeze];

    /// The kind with this name: `Cluster`.
    pub fn from_name(name: &str) -> Option<Kind> {
        Kind::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// The kind of the hub's own group whose objects are found under this path segment: `clusters`.
    pub fn from_plural(plural: &str) -> Option<Kind> {
        Kind::OWN.into_iter().find(|kind| kind.plural() == plural)
    }

    /// `Cluster`.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Application => "Application",
            Kind::Assignment => "Assignment",
            Kind::Bundle => "Bundle",
            Kind::Cluster => "Cluster",
            Kind::Event => "Event",
            Kind::Freeze => "Freeze",
        }
    }

    /// `clusters`.
    pub const fn plural(self) -> &'static str {
        match self {
            Kind::Application => "applications",
            Kind::Assignment => "assignments",
            Kind::Bundle => "bundles",
            Kind::Cluster => "clusters",
            Kind::Event => "events",
            Kind::Freeze => "freezes",
        }
    }

    /// Its API group; empty for the core group.
    pub const fn group(self) -> &'static str {
        match self {
            Kind::Event => "",
            Kind::Application | Kind::Assignment | Kind::Bundle | Kind::Cluster | Kind::Freeze => GROUP,
        }
    }

    /// Group and version as they stand in `apiVersion`.
    pub const fn api_version(self) -> &'static str {
        match self {
            Kind::Event => event::API_VERSION,
            Kind::Application | Kind::Assignment | Kind::Bundle | Kind::Cluster | Kind::Freeze => API_VERSION,
        }
    }

    /// By which fields its objects are selected.
    pub const fn selectable_fields(self) -> &'static [&'static str] {
        match self {
            Kind::Assignment => ASSIGNMENT_FIELDS,
            Kind::Event => event::FIELDS,
            Kind::Application | Kind::Bundle | Kind::Cluster | Kind::Freeze => METADATA_FIELDS,
        }
    }

    /// Whether its objects live in namespaces.
    pub const fn is_namespaced(self) -> bool {
        match self {
            Kind::Application | Kind::Assignment | Kind::Bundle | Kind::Event => true,
            Kind::Cluster | Kind::Freeze => false,
        }
    }

    /// Whether its objects are kept on disk. The others are made again in memory.
    pub const fn is_stored(self) -> bool {
        match self {
            Kind::Application | Kind::Bundle | Kind::Cluster | Kind::Event | Kind::Freeze => true,
            Kind::Assignment => false,
        }
    }

    /// Whether its objects are written by clients. The others the hub makes itself.
    pub const fn is_writable(self) -> bool {
        match self {
            Kind::Application | Kind::Bundle | Kind::Cluster | Kind::Freeze => true,
            Kind::Assignment | Kind::Event => false,
        }
    }

    /// Whether its status is written apart from the rest, through `/status`.
    pub const fn has_status(self) -> bool {
        match self {
            Kind::Application | Kind::Assignment | Kind::Cluster => true,
            Kind::Bundle | Kind::Event | Kind::Freeze => false,
        }
    }

    /// What its custom resource definition says, or would say.
    pub fn definition(self) -> &'static Definition {
        &DEFINITIONS[&self]
    }
}

/// What is served of a kind, ready to use.
#[derive(Clone, Debug)]
pub struct Definition {
    /// `cluster`.
    pub singular: String,
    /// What kubectl accepts instead: `app`.
    pub short_names: Vec<String>,
    /// What kubectl accepts for several kinds at once.
    pub categories: Vec<String>,
    /// The columns of `kubectl get`.
    pub columns: Columns,
    /// The OpenAPI v3 schema, structural.
    pub schema: Value,
    /// How its objects merge when they are applied.
    pub topology: Topology,
}

static DEFINITIONS: LazyLock<BTreeMap<Kind, Definition>> =
    LazyLock::new(|| Kind::ALL.into_iter().map(|kind| (kind, Definition::new(kind))).collect());

impl Definition {
    fn new(kind: Kind) -> Definition {
        let Some(mut crd) = custom_resource_definition(kind) else { return event::definition() };
        let version = crd.spec.versions.remove(0);
        let schema = version.schema.and_then(|validation| validation.open_api_v3_schema);
        let columns = version.additional_printer_columns.unwrap_or_default();
        let schema = serde_json::to_value(schema).expect("a schema is JSON");
        let topology =
            Topology::custom(&schema, kind.has_status()).expect("the schemas in this crate are structural");
        Definition {
            singular: crd.spec.names.singular.unwrap_or_default(),
            short_names: crd.spec.names.short_names.unwrap_or_default(),
            categories: crd.spec.names.categories.unwrap_or_default(),
            columns: columns_of(serde_json::to_value(columns)),
            schema,
            topology,
        }
    }
}

/// The custom resource definition with which a real API server serves this kind; none for events, which it has.
pub fn custom_resource_definition(kind: Kind) -> Option<CustomResourceDefinition> {
    match kind {
        Kind::Application => Some(Application::crd()),
        Kind::Assignment => Some(Assignment::crd()),
        Kind::Bundle => Some(Bundle::crd()),
        Kind::Cluster => Some(Cluster::crd()),
        Kind::Event => None,
        Kind::Freeze => Some(Freeze::crd()),
    }
}

fn columns_of(columns: serde_json::Result<Value>) -> Columns {
    let definitions: Vec<ColumnDefinition> =
        columns.and_then(serde_json::from_value).expect("the columns in this crate are well-formed");
    Columns::new(definitions).expect("the paths in this crate are ones that tables read")
}
