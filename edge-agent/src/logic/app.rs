//! One application on this cluster: what it is to run, what of it is there, and how its objects are.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use protocol::{
    codec,
    documents::{ContentError, Mode, Release, ReleaseRef},
    ids::{AppId, Digest},
    planted::Bug,
    verify::Verified,
};

use super::{
    backoff,
    entry::{Accepted, AppRow, Owned, ReportRow},
    event::{Failure, Foreseen, Inspection, Remedy, Source, object_ref},
    object::ObjectRef,
};

/// An application and all that is known of it.
#[derive(Debug, Default)]
pub struct App {
    /// What the journal keeps of it.
    pub row: AppRow,
    /// What the desired state names, where that is not what is enforced already.
    pub named: Option<Named>,
    /// The named release, once it is here and believed.
    pub staged: Option<Current>,
    /// What is enforced.
    pub current: Option<Current>,
    /// What was enforced before, until nothing of it is left.
    pub previous: Option<Current>,
    /// What we applied.
    pub inventory: BTreeMap<ObjectRef, Owned>,
    /// What is known of each object, since the process started.
    pub objects: BTreeMap<ObjectRef, ObjectState>,
    /// The object that lists its kinds.
    pub parent: ParentState,
    /// Its newest report.
    pub report: Option<ReportRow>,
    /// Why it is not started yet, for the report.
    pub waits_for: Option<(&'static str, String)>,
}

/// What a desired state names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The release and how it is set.
    pub accepted: Accepted,
    /// Length of the release's envelope in bytes.
    pub len: u32,
}

/// A believed release and how it is set.
#[derive(Debug, Clone)]
pub struct Current {
    /// The release.
    pub release: Verified<Release>,
    /// What the journal keeps of it.
    pub accepted: Accepted,
    /// Parameters, resolved.
    pub values: Arc<BTreeMap<String, String>>,
    /// For each object, what applying it means: see [`source_digest`].
    pub sources: Vec<Digest>,
    /// The objects, by name.
    pub indices: BTreeMap<ObjectRef, usize>,
}

impl Current {
    /// Puts a release and its settings together.
    pub fn new(release: Verified<Release>, accepted: Accepted) -> Result<Self, ContentError> {
        let values = Arc::new(release.resolve(&accepted.values)?);
        let count = release.objects.len();
        let sources = (0..count).map(|index| source_digest(&release, index, &values)).collect();
        let indices = (0..count).map(|index| (object_ref(&release, index), index)).collect();
        Ok(Self { release, accepted, values, sources, indices })
    }

    /// Whether everything of it is enforced.
    pub fn is_enforced(&self) -> bool {
        self.accepted.mode == Mode::Enforce
    }

    /// Whether the object at `index` is enforced; any other is only looked at.
    pub fn enforces(&self, index: usize) -> bool {
        let rules = self.accepted.enforce.as_deref().unwrap_or_default();
        self.is_enforced() || rules.iter().any(|rule| rule.selects(&self.release.objects[index]))
    }

    /// Where the manifest of the object at `index` comes from.
    pub fn source(&self, index: usize) -> Source {
        Source { release: self.release.clone(), index, values: Arc::clone(&self.values) }
    }

    /// The release, for people.
    pub fn reference(&self) -> ReleaseRef {
        ReleaseRef {
            digest: self.release.digest(),
            version: self.release.version.as_str().into(),
            counter: self.release.counter,
        }
    }
}

/// What applying the object at `index` means: its signed bytes, the values that go into it, what is left out.
/// Equal digests apply equally, so an unchanged object of a new release is not touched.
pub fn source_digest(release: &Release, index: usize, values: &BTreeMap<String, String>) -> Digest {
    let entry = &release.objects[index];
    let aimed: Vec<(&str, &str)> = release
        .parameters
        .iter()
        .flat_map(|parameter| parameter.targets.iter().map(move |target| (parameter, target)))
        .filter(|(_, target)| target.object as usize == index)
        .filter_map(|(parameter, target)| {
            Some((target.pointer.as_str(), values.get(&parameter.name)?.as_str()))
        })
        .collect();
    Digest::of(&codec::encode(&(entry.sha256, aimed, release.ignored_pointers(entry))))
}

/// What is known of one object.
#[derive(Debug, Default)]
pub struct ObjectState {
    /// Whether a step is under way.
    pub busy: bool,
    /// How it was when last looked at.
    pub found: Found,
    /// Whether it changed since, or may have.
    pub stale: bool,
    /// Whether the running list of its kind named it.
    pub listed: bool,
    /// When it was last looked at.
    pub inspected_at: Option<Duration>,
    /// When it was last applied, by this process.
    pub applied_at: Option<Duration>,
    /// Why it is not as it should be.
    pub failure: Option<Failed>,
    /// Whether the next apply takes fields that were taken from us.
    pub force_next: bool,
    /// What the last dry run said.
    pub forecast: Option<Forecast>,
    /// Fields taken back: when, and from whom.
    pub forcings: Vec<(Duration, String)>,
}

/// What a dry run said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forecast {
    /// Of which version of the object; none where there was no object.
    pub of: Option<String>,
    /// When.
    pub at: Duration,
    /// What it said.
    pub foreseen: Foreseen,
}

/// How an object was when last looked at.
#[derive(Debug, Default)]
pub enum Found {
    /// Never looked at by this process.
    #[default]
    Unknown,
    /// Not there.
    Absent,
    /// There.
    Present(Box<Inspection>),
}

impl Found {
    /// What a look at it showed.
    pub fn of(inspection: Option<Box<Inspection>>) -> Self {
        inspection.map_or(Self::Absent, Self::Present)
    }
}

/// Why an object is not as it should be, and when to try again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// What happened.
    pub failure: Failure,
    /// How often in a row.
    pub times: u32,
    /// When to try again.
    pub retry_at: Duration,
}

/// How far the object that lists an application's kinds is.
#[derive(Debug, Default)]
pub enum ParentState {
    /// To be written.
    #[default]
    Needed,
    /// Being written.
    Busy,
    /// Written.
    Done,
    /// Failed.
    Failed(Failed),
}

/// Forcings against one manager within [`FORCING_WINDOW`] after which we give way: two controllers would
/// otherwise fight for ever.
pub const FORCINGS: usize = 3;

/// See [`FORCINGS`].
pub const FORCING_WINDOW: Duration = Duration::from_secs(600);

impl ObjectState {
    /// Notes a failure; the wait grows with every one in a row.
    pub fn fail(&mut self, object: &ObjectRef, failure: Failure, now: Duration) {
        let times = self.failure.as_ref().map_or(0, |failed| failed.times) + 1;
        let wait = backoff::wait(times, &object.to_string());
        let retry_at = if Bug::RetryWithoutPause.is_planted() { now } else { now + wait };
        self.failure = Some(Failed { failure, times, retry_at });
        self.stale = true;
        self.forecast = None;
    }

    /// Whether fields may once more be taken back from `manager`.
    pub fn may_force(&self, manager: &str, now: Duration) -> bool {
        let recent = |at: &Duration| now.saturating_sub(*at) < FORCING_WINDOW;
        let against = self.forcings.iter().filter(|(at, who)| who == manager && recent(at));
        against.count() < FORCINGS
    }

    /// Notes that fields are taken back from `manager`.
    pub fn force(&mut self, manager: &str, now: Duration) {
        self.forcings.retain(|(at, _)| now.saturating_sub(*at) < FORCING_WINDOW);
        self.forcings.push((now, manager.to_owned()));
        self.force_next = true;
    }

    /// How it was when last looked at, if it was there.
    pub fn inspection(&self) -> Option<&Inspection> {
        match &self.found {
            Found::Present(inspection) => Some(inspection),
            Found::Unknown | Found::Absent => None,
        }
    }

    /// What a dry run said of the object as it is now known.
    pub fn foreseen(&self) -> Option<&Foreseen> {
        let version = self.inspection().map(|found| &found.resource_version);
        self.forecast.as_ref().filter(|cast| cast.of.as_ref() == version).map(|cast| &cast.foreseen)
    }
}

impl App {
    /// Whether every object that was applied was looked at since the process started. Until then, what was reported
    /// before still stands; what was never applied is known not to be as it should be.
    pub fn is_observed(&self) -> bool {
        let applied = self.inventory.iter().filter(|(_, owned)| owned.uid.is_some());
        let is_unknown = |object: &ObjectRef| {
            let state = self.objects.get(object);
            state.is_none_or(|state| matches!(state.found, Found::Unknown) && state.failure.is_none())
        };
        !applied.map(|(object, _)| object).any(is_unknown)
    }

    /// Whether the object at `index` of what is enforced was applied as it is now meant.
    pub fn is_applied(&self, index: usize) -> bool {
        let Some(current) = &self.current else { return false };
        let object = object_ref(&current.release, index);
        self.inventory.get(&object).is_some_and(|owned| owned.is_applied(current.sources[index]))
    }

    /// Bytes of an object's manifest; 0 for what is enforced no longer, which is only deleted.
    pub fn bytes(&self, object: &ObjectRef) -> u64 {
        let current = self.current.as_ref();
        let entry = current.and_then(|current| Some(&current.release.objects[*current.indices.get(object)?]));
        entry.map_or(0, |entry| u64::from(entry.len))
    }

    /// Whether every object of what is enforced is applied and nothing of another release is left.
    pub fn is_complete(&self) -> bool {
        let Some(current) = &self.current else { return false };
        let count = current.release.objects.len();
        (0..count).all(|index| self.is_applied(index)) && self.inventory.len() == count
    }

    /// Objects in the inventory that what is enforced no longer names.
    pub fn leftovers(&self) -> impl Iterator<Item = (&ObjectRef, &Owned)> {
        let named = self.current.as_ref().filter(|_| !self.row.removing).map(|current| &current.indices);
        self.inventory
            .iter()
            .filter(move |(object, _)| !named.is_some_and(|named| named.contains_key(*object)))
    }

    /// Where what is enforced names the object that `object` is too, in another version of its API: one object to
    /// the API server.
    pub fn successor(&self, object: &ObjectRef) -> Option<usize> {
        let current = self.current.as_ref().filter(|_| !self.row.removing)?;
        let same = |other: &ObjectRef| {
            let kind = (&other.gvk.group, &other.gvk.kind) == (&object.gvk.group, &object.gvk.kind);
            kind && other.gvk.version != object.gvk.version
                && (&other.namespace, &other.name) == (&object.namespace, &object.name)
        };
        current.indices.iter().find(|(other, _)| same(other)).map(|(_, index)| *index)
    }

    /// Where the manifest last applied for `object` comes from. An object that is the same in what is enforced is
    /// not applied again, and the release it came from may be gone: what is enforced then stands for it.
    pub fn last_source(&self, object: &ObjectRef) -> Option<Source> {
        let owned = self.inventory.get(object).filter(|owned| owned.uid.is_some())?;
        let held = self.current.iter().chain(&self.previous);
        held.filter_map(|held| Some((held, *held.indices.get(object)?)))
            .find(|(held, index)| held.sources[*index] == owned.source)
            .map(|(held, index)| held.source(index))
    }

    /// Every kind in the inventory and in what is enforced.
    pub fn objects_known(&self) -> impl Iterator<Item = &ObjectRef> {
        self.inventory.keys().chain(self.current.iter().flat_map(|current| current.indices.keys()))
    }
}

/// The label value that says an object belongs to `app`: an ApplySet id as KEP-3659 builds it from the
/// parent's name, namespace, kind and group.
pub fn apply_set(app: &AppId) -> String {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let parent = format!("{}.{PARENT_NAMESPACE}.ConfigMap.", parent_name(app));
    format!("applyset-{}-v1", URL_SAFE_NO_PAD.encode(Digest::of(parent.as_bytes()).as_bytes()))
}

/// Where the objects stand that list applications' kinds.
pub const PARENT_NAMESPACE: &str = "edgefleet-system";

/// The name of the object that lists an application's kinds. Neither part holds a dot, so no two
/// applications share one.
pub fn parent_name(app: &AppId) -> String {
    format!("app.{}.{}", app.tenant, app.name)
}

/// A failure the core itself finds.
pub fn refuse(reason: &str, message: String) -> Failure {
    Failure { remedy: Remedy::Object, reason: reason.to_owned(), message }
}
