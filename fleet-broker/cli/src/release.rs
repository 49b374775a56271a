//! From objects and the operator's decisions to a release document and the content it describes.

mod options;

use std::collections::BTreeMap;

use protocol::{
    documents::{
        Adopt, Ceilings, ContentError, Document, IgnoreRule, ObjectEntry, Parameter, ParameterTarget, Release,
    },
    ids::{AppId, Digest, Name},
    limits,
    render::{self, RenderError},
    time::UnixSeconds,
};
use serde_json::Value;

pub use options::{
    IgnoreOption, ParameterError, ParameterFileError, ParameterSpec, TargetSpec, read_parameters,
};

use crate::{
    kinds,
    manifest::{Object, Origin},
};

/// What a release says beside its objects.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Whose application it is.
    pub app: AppId,
    /// The version people read.
    pub version: String,
    /// Counts up with every release of the application.
    pub counter: u64,
    /// The lowest counter that may be gone back to once this release proved healthy.
    pub floor: u64,
    /// After this it is never newly installed.
    pub not_after: UnixSeconds,
    /// What the hub may set.
    pub parameters: Vec<ParameterSpec>,
    /// What belongs to others.
    pub ignore: Vec<IgnoreOption>,
    /// What to do with objects that are already there.
    pub adopt: Adopt,
    /// Deletions moving to this release may cause.
    pub max_deletes: Option<u32>,
    /// Whether the release can cut the cluster's own link.
    pub affects_link: bool,
}

impl Plan {
    /// A release that asks for nothing special: nothing may be set, nothing is adopted.
    pub fn new(app: AppId, version: String, counter: u64, not_after: UnixSeconds) -> Self {
        Self {
            app,
            version,
            counter,
            floor: 0,
            not_after,
            parameters: Vec::new(),
            ignore: Vec::new(),
            adopt: Adopt::Never,
            max_deletes: None,
            affects_link: false,
        }
    }
}

/// Decisions that do not fit the objects.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// A version that cannot be part of the bundle's name on the hub.
    #[error(
        "the version {0:?} cannot be part of a name on the hub: use a-z, 0-9, '-' and '.', and start and end \
         with a letter or digit"
    )]
    Version(String),
    /// A floor that no release of the application reaches.
    #[error("the floor {floor} lies above the counter {counter}: the release could not be installed itself")]
    Floor {
        /// The floor.
        floor: u64,
        /// The counter.
        counter: u64,
    },
    /// A parameter that cannot be set.
    #[error("parameter {name}: {problem}")]
    Parameter {
        /// Which.
        name: String,
        /// What is wrong with it.
        problem: ParameterError,
    },
    /// An ignored field of an object that is not there.
    #[error("--ignore {0} matches no object of the bundle")]
    IgnoresNothing(IgnoreOption),
    /// More content than a release may have.
    #[error(
        "the objects have {0} bytes together, a bundle may have {max}; split them into several applications",
        max = limits::PACK_BYTES
    )]
    TooLarge(u64),
    /// The whole says something a release must not.
    #[error("the release would not be valid")]
    Content(#[source] ContentError),
    /// An object would not be what it should be after parameters and ignored fields are applied.
    #[error("{origin}: the edge would refuse this object")]
    Render {
        /// Where the object was written.
        origin: Origin,
        /// Why.
        #[source]
        source: Box<RenderError>,
    },
    /// A parameter aims at what no parameter may touch.
    #[error("a parameter cannot be set")]
    Target(#[source] Box<RenderError>),
}

/// A release and the content it describes.
#[derive(Debug, Clone, PartialEq)]
pub struct Built {
    /// The document to be signed.
    pub release: Release,
    /// The objects' JSON documents, one behind the other.
    pub pack: Vec<u8>,
}

/// Puts the objects into the order in which they are applied and describes them.
pub fn build(plan: &Plan, mut objects: Vec<Object>) -> Result<Built, ReleaseError> {
    check_plan(plan)?;
    objects.sort_by_key(|object| kinds::phase_of(&object.group, &object.kind));
    let documents: Vec<Vec<u8>> = objects.iter().map(|object| json(&object.value)).collect();
    let entries = objects.iter().zip(&documents).map(|(object, document)| entry(object, document)).collect();
    let pack = documents.concat();
    if pack.len() as u64 > limits::PACK_BYTES {
        return Err(ReleaseError::TooLarge(pack.len() as u64));
    }
    let release = Release {
        app: plan.app.clone(),
        version: plan.version.clone(),
        counter: plan.counter,
        floor: plan.floor,
        pack: Digest::of(&pack),
        objects: entries,
        scope: scope(&objects),
        parameters: parameters(plan, &objects)?,
        ceilings: ceilings(plan, &objects)?,
        not_after: plan.not_after,
    };
    release.check().map_err(ReleaseError::Content)?;
    check_rendering(&release, &objects, &documents)?;
    Ok(Built { release, pack })
}

fn check_plan(plan: &Plan) -> Result<(), ReleaseError> {
    let alphanumeric = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let version = plan.version.as_bytes();
    let ends = version.first().is_some_and(alphanumeric) && version.last().is_some_and(alphanumeric);
    // The hub's name is `<application>-<version>`, at most 253 bytes with an application of 63.
    let fits = version.len() <= 189 && version.iter().all(|b| alphanumeric(b) || *b == b'-' || *b == b'.');
    if !(ends && fits) {
        return Err(ReleaseError::Version(plan.version.clone()));
    }
    if plan.floor > plan.counter {
        return Err(ReleaseError::Floor { floor: plan.floor, counter: plan.counter });
    }
    Ok(())
}

/// JSON without spaces and with sorted keys, so that the same object is always the same bytes.
fn json(value: &Value) -> Vec<u8> {
    value.to_string().into_bytes()
}

fn entry(object: &Object, document: &[u8]) -> ObjectEntry {
    ObjectEntry {
        group: object.group.clone(),
        version: object.version.clone(),
        kind: object.kind.clone(),
        namespace: object.namespace.clone(),
        name: object.name.clone(),
        len: u32::try_from(document.len()).unwrap_or(u32::MAX),
        sha256: Digest::of(document),
    }
}

fn scope(objects: &[Object]) -> Vec<Name> {
    let mut names: Vec<Name> = objects.iter().filter_map(|object| object.namespace.clone()).collect();
    names.sort();
    names.dedup();
    names
}

fn parameters(plan: &Plan, objects: &[Object]) -> Result<Vec<Parameter>, ReleaseError> {
    let parameter = |spec: &ParameterSpec| {
        let of = spec.of()?;
        let targets = spec.targets.iter().map(|target| position(target, objects));
        let targets = targets.collect::<Result<Vec<ParameterTarget>, ParameterError>>()?;
        Ok(Parameter { name: spec.name.clone(), of, default: spec.default_text()?, targets })
    };
    let refused =
        |spec: &ParameterSpec, problem| ReleaseError::Parameter { name: spec.name.clone(), problem };
    plan.parameters.iter().map(|spec| parameter(spec).map_err(|problem| refused(spec, problem))).collect()
}

fn position(target: &TargetSpec, objects: &[Object]) -> Result<ParameterTarget, ParameterError> {
    let mut matching = (0_u32..).zip(objects).filter(|(_, object)| target.names(object));
    match (matching.next(), matching.next()) {
        (Some((index, _)), None) => Ok(ParameterTarget { object: index, pointer: target.pointer.clone() }),
        (None, _) => Err(ParameterError::NoObject(target.to_string())),
        (Some(_), Some(_)) => Err(ParameterError::SeveralObjects(target.to_string())),
    }
}

fn ceilings(plan: &Plan, objects: &[Object]) -> Result<Ceilings, ReleaseError> {
    if let Some(idle) = plan.ignore.iter().find(|option| !objects.iter().any(|object| option.names(object))) {
        return Err(ReleaseError::IgnoresNothing(idle.clone()));
    }
    let mut rules: Vec<IgnoreRule> = Vec::new();
    for option in &plan.ignore {
        match rules.iter_mut().find(|rule| rule.kind == option.kind && rule.name == option.name) {
            Some(rule) => rule.pointers.push(option.pointer.clone()),
            None => rules.push(IgnoreRule {
                kind: option.kind.clone(),
                name: option.name.clone(),
                pointers: vec![option.pointer.clone()],
            }),
        }
    }
    Ok(Ceilings {
        max_deletes: plan.max_deletes,
        adopt: plan.adopt,
        ignore_differences: rules,
        affects_link: plan.affects_link,
        ..Ceilings::default()
    })
}

/// Does with each object what the edge will do, so that what it would refuse is refused here.
fn check_rendering(release: &Release, objects: &[Object], documents: &[Vec<u8>]) -> Result<(), ReleaseError> {
    let values: Vec<Value> = objects.iter().map(|object| object.value.clone()).collect();
    render::check_targets(release, &values).map_err(|source| ReleaseError::Target(Box::new(source)))?;
    let defaults = release.resolve(&BTreeMap::new()).map_err(ReleaseError::Content)?;
    for (index, (object, document)) in objects.iter().zip(documents).enumerate() {
        render::render(release, index, document, &defaults).map_err(|source| ReleaseError::Render {
            origin: object.origin.clone(),
            source: Box::new(source),
        })?;
    }
    Ok(())
}

/// Room for signatures in an envelope: each takes about 120 bytes, and there may be [`limits::SIGNATURES`].
pub(crate) const UNSIGNED_BYTES: usize = limits::RELEASE_BYTES - limits::SIGNATURES * 128 - 64;

#[cfg(test)]
mod tests;
