//! Carries out one [`Step`] and says how it ended. What a request should say and what an answer means are
//! pure functions in [`manifest`] and [`meaning`]; here they are only put in order.

mod difference;
mod manifest;
mod meaning;

use std::{cell::RefCell, error, io::BufRead, rc::Rc, time::Duration};

use protocol::{
    ids::{AppId, Digest},
    planted::Bug,
    render::RenderError,
};
use serde_json::Value;
use tracing::debug;

pub use self::manifest::PART_OF;
use self::meaning::failed;
use crate::{
    boundary::{At, Boundaries},
    cluster::{Cluster, ClusterError, FieldConflict, Request, Response},
    journal::{Journal, JournalError, Packed},
    logic::{
        app,
        event::{Failure, FieldTaken, Foreseen, How, Inspection, Outcome, Parent, Remedy, Source, Step},
        health::{self, Context, Health},
        object::{Gvk, ObjectRef},
        owned, report,
    },
    pack::{self, Reader},
};

/// How long an object may take to become healthy before its silence counts as an answer: as long as a rollout
/// gives a cluster by default.
const PROGRESS_DEADLINE: Duration = Duration::from_secs(20 * 60);

/// Where content is kept.
pub trait Contents {
    /// Content as it is read.
    type Packed: BufRead;
    /// Why it cannot be.
    type Error: error::Error + 'static;

    /// The content with this digest, if all of it is there.
    ///
    /// # Errors
    /// When what is there cannot be read.
    fn content(&self, target: &Digest) -> Result<Option<Self::Packed>, Self::Error>;
}

impl Contents for Rc<Journal> {
    type Packed = Packed;
    type Error = JournalError;

    fn content(&self, target: &Digest) -> Result<Option<Packed>, JournalError> {
        Journal::content(self, target)
    }
}

/// Carries out steps on one cluster, with content from one journal.
pub struct Executor<C, K: Contents = Rc<Journal>> {
    cluster: C,
    contents: K,
    boundaries: Boundaries,
    /// Where the last object was read, and the release it belongs to: the next one is mostly behind it.
    reader: RefCell<Option<(Digest, Reader<K::Packed>)>>,
}

/// An end that needs no more requests.
type Ended = Result<Outcome, Outcome>;

impl<C: Cluster, K: Contents> Executor<C, K> {
    /// Steps on `cluster`; manifests come from `contents`.
    pub fn new(cluster: C, contents: K, boundaries: Boundaries) -> Self {
        Self { cluster, contents, boundaries, reader: RefCell::new(None) }
    }

    /// Lets go of what only helps the next step: none follows soon.
    pub fn rest(&self) {
        *self.reader.borrow_mut() = None;
    }

    /// Carries out one step. May be dropped at any time: every step may run twice.
    pub async fn run(&self, step: Step) -> Outcome {
        let ended = match step {
            Step::Inspect { object, source, since_applied } => {
                self.inspect(&object, source.as_ref(), since_applied).await
            }
            Step::Apply { source, previous, how: How::DryRun } => {
                self.dry_run(&source, previous.as_ref()).await
            }
            Step::Apply { source, previous, how: how @ (How::Normal | How::Forced) } => {
                self.apply(&source, previous.as_ref(), how == How::Forced).await
            }
            Step::Delete { object, uid } => self.delete(object, uid).await,
            Step::Parent(parent) => self.write_parent(&parent).await,
            Step::DeleteParent(app) => self.delete_parent(&app).await,
            Step::CheckContent(release) => Ok(self.check(&release)),
            Step::Version => self.version().await,
        };
        ended.unwrap_or_else(|outcome| outcome)
    }

    async fn inspect(&self, object: &ObjectRef, source: Option<&Source>, since_applied: Duration) -> Ended {
        match self.get(object).await? {
            Some(live) => Ok(present(self.look(&live, source, since_applied).await?)),
            None => Ok(Outcome::Absent),
        }
    }

    async fn apply(&self, source: &Source, previous: Option<&Source>, force: bool) -> Ended {
        let apply_set = app::apply_set(&source.release.app);
        let body = manifest::decorated(self.rendered(source)?, &apply_set);
        let force = force || Bug::AlwaysForced.is_planted();
        let request = Request::Apply { object: source.object(), body, force, dry_run: false };
        match self.send(request).await {
            Ok(response) => {
                let live = meaning::object(response)?;
                Ok(present(self.look(&live, Some(source), Duration::ZERO).await?))
            }
            Err(ClusterError::Conflict { conflicts, message, .. }) => {
                Ok(Outcome::Conflict { fields: self.taken(conflicts, previous), message })
            }
            Err(error) => Err(failed(&error)),
        }
    }

    /// Fields that others hold. Without what was applied before, nothing says that one was ours.
    fn taken(&self, conflicts: Vec<FieldConflict>, previous: Option<&Source>) -> Vec<FieldTaken> {
        let before = previous.and_then(|previous| self.rendered(previous).ok());
        let ours = |field: &str| before.as_ref().is_some_and(|before| owned::covers(before, field));
        let taken = conflicts.into_iter().map(|conflict| {
            let ours = ours(&conflict.field);
            FieldTaken { manager: conflict.manager, field: conflict.field, ours }
        });
        taken.collect()
    }

    /// What an apply would do, as the API server says it of one that changes nothing.
    async fn dry_run(&self, source: &Source, previous: Option<&Source>) -> Ended {
        let before = self.get(&source.object()).await?;
        let mut body = self.rendered(source)?;
        let apply_set = app::apply_set(&source.release.app);
        // The label that says whose an object is does not count where it is to be adopted.
        if previous.is_some() || before.as_ref().is_some_and(|live| meaning::is_part_of(live, &apply_set)) {
            body = manifest::decorated(body, &apply_set);
        }
        let object = source.object();
        let try_apply = async |force: bool| {
            let request = Request::Apply { object: object.clone(), body: body.clone(), force, dry_run: true };
            match self.send(request).await {
                Ok(response) => meaning::object(response).map(Ok),
                Err(error) => Ok(Err(error)),
            }
        };
        let foreseen = match try_apply(false).await? {
            Ok(after) => difference::foreseen(before.as_ref(), &after),
            Err(ClusterError::Conflict { conflicts, .. }) => {
                let taken = self.taken(conflicts, previous);
                // What was taken from us is taken back.
                let forced = match taken.iter().all(|field| field.ours) {
                    true => try_apply(true).await?.ok(),
                    false => None,
                };
                forced
                    .map_or(Foreseen::Conflict(taken), |after| difference::foreseen(before.as_ref(), &after))
            }
            // What is missing would be there by then.
            Err(ClusterError::NamespaceMissing { namespace, .. })
                if manifest::makes_namespace(&source.release, &namespace) =>
            {
                Foreseen::Create
            }
            Err(ClusterError::UnknownKind { gvk }) if manifest::defines(&source.release, &gvk) => {
                Foreseen::Create
            }
            Err(error) => return Err(failed(&error)),
        };
        Ok(Outcome::Foreseen(foreseen))
    }

    async fn delete(&self, object: ObjectRef, uid: String) -> Ended {
        meaning::deleted(self.send(Request::Delete { object, uid }).await)
    }

    async fn write_parent(&self, parent: &Parent) -> Ended {
        for body in [manifest::parent_namespace(), manifest::parent(parent)] {
            let object = ObjectRef::of(&body).map_err(|error| meaning::internal(&error))?;
            // Nobody else has a claim on these objects' few fields.
            let request = Request::Apply { object, body, force: true, dry_run: false };
            self.send(request).await.map_err(|error| failed(&error))?;
        }
        Ok(Outcome::ParentDone)
    }

    async fn delete_parent(&self, app: &AppId) -> Ended {
        let object = manifest::parent_ref(app);
        let Some(live) = self.get(&object).await?.filter(|live| manifest::is_parent_of(live, app)) else {
            return Ok(Outcome::ParentDone);
        };
        let uid = manifest::text(&live, "/metadata/uid").to_owned();
        meaning::deleted(self.send(Request::Delete { object, uid }).await).map(|_| Outcome::ParentDone)
    }

    async fn version(&self) -> Ended {
        let response = self.send(Request::Version).await.map_err(|error| failed(&error))?;
        let Response::Version(version) = response else {
            return Err(meaning::internal(&format!("{response:?} to a question for the version")));
        };
        Ok(Outcome::Version(version))
    }

    fn check(&self, release: &protocol::documents::Release) -> Outcome {
        // Whatever is wrong with content, the journal included, is mended by fetching it again.
        match self.contents.content(&release.pack) {
            Ok(Some(packed)) => match pack::check(release, packed) {
                Ok(()) => Outcome::ContentGood,
                Err(error) => Outcome::ContentBad(report::chain(&error)),
            },
            Ok(None) => Outcome::ContentBad("pieces of it are missing".to_owned()),
            Err(error) => Outcome::ContentBad(report::chain(&error)),
        }
    }

    /// What an object is like: of itself, and where it is not well, as its pods and storage class tell.
    async fn look(
        &self,
        live: &Value,
        source: Option<&Source>,
        since_applied: Duration,
    ) -> Result<Inspection, Outcome> {
        let waits_for_consumer = self.waits_for_consumer(live).await?;
        let context = Context { since_applied, progress_deadline: PROGRESS_DEADLINE, waits_for_consumer };
        let health = self.explain(live, health::assess(live, &context), &context).await?;
        let ignore = source.map(ignored).unwrap_or_default();
        let changed_by = self.changed_by(live, source);
        Ok(meaning::inspection(live, &ignore, health, changed_by))
    }

    async fn explain(&self, live: &Value, health: Health, context: &Context) -> Result<Health, Outcome> {
        let well = matches!(health.status, health::Status::Current | health::Status::Terminating);
        let Some((namespace, label_selector)) = manifest::pods_of(live).filter(|_| !well) else {
            return Ok(health);
        };
        let kind = Gvk::new("v1", "Pod");
        let pods = self.help(Request::List { kind, namespace, label_selector }).await?;
        let Some(Response::List(pods)) = pods else { return Ok(health) };
        Ok(health::explain(health, &pods, context))
    }

    async fn waits_for_consumer(&self, live: &Value) -> Result<bool, Outcome> {
        let Some(name) = health::storage_class(live) else { return Ok(false) };
        let gvk = Gvk::new("storage.k8s.io/v1", "StorageClass");
        let class =
            self.help(Request::Get(ObjectRef { gvk, namespace: None, name: name.to_owned() })).await?;
        let Some(Response::Object(class)) = class else { return Ok(false) };
        Ok(manifest::text(&class, "/volumeBindingMode") == "WaitForFirstConsumer")
    }

    /// Who may have changed what was applied. The manifest, which has to be unpacked, is read only where there
    /// is a choice.
    fn changed_by(&self, live: &Value, source: Option<&Source>) -> Vec<String> {
        let others = owned::who_changed(live, &Value::Null);
        let applied = source.filter(|_| others.len() > 1).and_then(|source| self.rendered(source).ok());
        applied.map_or(others, |applied| owned::who_changed(live, &applied))
    }

    fn rendered(&self, source: &Source) -> Result<Value, Outcome> {
        let rendered = source.render(&self.bytes(source)?).map_err(|error| match &error {
            RenderError::Digest { .. } => Outcome::ContentBad(error.to_string()),
            // It was signed like this: fetching it again would bring the same.
            RenderError::Json { .. } | RenderError::Identity { .. } | RenderError::Target { .. } => {
                Outcome::Failed(app::refuse("ManifestInvalid", error.to_string()))
            }
        });
        if let Err(Outcome::ContentBad(_)) = rendered {
            self.rest();
        }
        Ok(rendered?.object)
    }

    /// The bytes of an object, by the reader that stands before it, or by a new one.
    fn bytes(&self, source: &Source) -> Result<Vec<u8>, Outcome> {
        let bad = |error| Outcome::ContentBad(report::chain(&error));
        let release = source.release.digest();
        // What fails is not used again.
        let reader = self.reader.take().filter(|(of, _)| *of == release || Bug::ReaderOfAnother.is_planted());
        if let Some((_, mut reader)) = reader
            && let Some(bytes) = reader.object(&source.release, source.index).map_err(bad)?
        {
            self.reader.replace(Some((release, reader)));
            return Ok(bytes);
        }
        let mut reader = Reader::new(self.packed(source)?).map_err(bad)?;
        let bytes = reader.object(&source.release, source.index).map_err(bad)?;
        self.reader.replace(Some((release, reader)));
        bytes.ok_or_else(|| meaning::internal(&"a new reader has passed nothing"))
    }

    fn packed(&self, source: &Source) -> Result<K::Packed, Outcome> {
        let retry = |reason: &str, message: String| {
            Outcome::Failed(Failure { remedy: Remedy::Retry, reason: reason.to_owned(), message })
        };
        let packed = self.contents.content(&source.pack());
        let packed = packed.map_err(|error| retry("JournalUnreadable", report::chain(&error)))?;
        packed.ok_or_else(|| retry("ContentMissing", "its content is being fetched again".to_owned()))
    }

    /// An object, or none where there is none, or where its kind is not served: then there can be none.
    async fn get(&self, object: &ObjectRef) -> Result<Option<Value>, Outcome> {
        match self.send(Request::Get(object.clone())).await {
            Ok(response) => meaning::object(response).map(Some),
            Err(
                ClusterError::NotFound { .. }
                | ClusterError::UnknownKind { .. }
                | ClusterError::NamespaceMissing { .. },
            ) => Ok(None),
            Err(error) if error.is_outage() && Bug::UnavailableIsAbsent.is_planted() => Ok(None),
            Err(error) => Err(failed(&error)),
        }
    }

    /// An answer that only helps to explain: without it the step goes on, unless no other would be answered.
    async fn help(&self, request: Request) -> Result<Option<Response>, Outcome> {
        match self.send(request).await {
            Ok(response) => Ok(Some(response)),
            Err(error) if error.is_outage() => Err(failed(&error)),
            Err(error) => {
                debug!(%error, "an object's health is judged without its surroundings");
                Ok(None)
            }
        }
    }

    async fn send(&self, request: Request) -> Result<Response, ClusterError> {
        self.boundaries.pass(At::Request);
        let answer = self.cluster.send(request).await;
        self.boundaries.pass(At::Answer);
        answer
    }
}

fn present(inspection: Inspection) -> Outcome {
    Outcome::Present(Box::new(inspection))
}

/// JSON pointers to what others own in the object that comes from `source`.
fn ignored(source: &Source) -> Vec<String> {
    let release = &source.release;
    release.ignored_pointers(&release.objects[source.index]).into_iter().map(str::to_owned).collect()
}

#[cfg(test)]
#[cfg(feature = "sim")]
mod tests;
