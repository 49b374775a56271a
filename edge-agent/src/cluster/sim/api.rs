//! What the API server does with a request, in its own words.

use std::{sync::Arc, time::Duration};

use apimachinery::apply::{self, ApplyError, Manager};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    Action, Edit, Effects, SimCluster, controllers,
    controllers::{CONTROLLER_DELAY, Work},
    kinds::Kind,
    store::{self, Change, metadata},
    validate,
};
use crate::{
    cluster::{
        ClusterError, MAX_LISTED, Request, Response, addressable,
        status::{Details, Status, StatusCause, Verb},
    },
    logic::{
        object::{Gvk, ObjectRef},
        owned::FIELD_MANAGER,
    },
};

/// What keeps a definition until its objects are gone.
const DEFINITION_FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

/// A write, whoever asks for it.
struct Write<'a> {
    kind: &'a Kind,
    manager: Manager<'a>,
    live: Option<&'a Arc<Value>>,
}

impl SimCluster {
    /// Answers a request of the agent.
    pub(super) fn answer(
        &mut self,
        now: Duration,
        request: Request,
        effects: &mut Effects,
    ) -> Result<Response, ClusterError> {
        match request {
            Request::Get(object) => self.read(&self.address(object)?),
            Request::List { kind, namespace, label_selector } => {
                self.list(now, &kind, &namespace, &label_selector)
            }
            Request::Apply { object, body, force, dry_run } => {
                let object = self.address(object)?;
                let applied = self.apply(now, &object, &body, force);
                let (value, is_changed) = applied.map_err(|status| status.about(&object, Verb::Apply))?;
                if dry_run || !is_changed {
                    return Ok(Response::Object(value));
                }
                Ok(Response::Object(self.store_written(object, value, effects)))
            }
            Request::Delete { object, uid } => {
                let object = self.address(object)?;
                self.delete(now, &object, Some(&uid), effects)
                    .map_err(|status| status.about(&object, Verb::Delete))
            }
            Request::Version => Ok(Response::Version(self.settings.version.clone())),
        }
    }

    /// A write by someone else. One that the API server would refuse changes nothing, as nobody waits.
    pub(super) fn edit(&mut self, now: Duration, edit: Edit, effects: &mut Effects) {
        let Ok(object) = self.address(edit.object) else { return };
        match edit.action {
            Action::Merge(patch) => {
                let written = self.merge(now, &object, &patch, &edit.manager, &edit.subresource);
                if let Ok((value, true)) = written {
                    self.store_written(object, value, effects);
                }
            }
            Action::Delete => drop(self.delete(now, &object, None, effects)),
        }
    }

    /// Writes a status as a controller of the cluster does.
    pub(super) fn write_status(
        &mut self,
        now: Duration,
        object: &ObjectRef,
        status: Value,
        effects: &mut Effects,
    ) {
        let patch = json!({"status": status});
        let written = self.merge(now, object, &patch, controllers::MANAGER, "status");
        if let Ok((value, true)) = written {
            self.store_written(object.clone(), value, effects);
        }
    }

    /// Creates a namespace that is there from the start.
    pub(super) fn found_namespace(&mut self, name: &str) {
        let object = ObjectRef { gvk: Gvk::new("v1", "Namespace"), namespace: None, name: name.into() };
        let mut value = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        validate::fill_in(&object, &mut value);
        self.born(Duration::ZERO, &mut value, false);
        self.store.put(object, value);
    }

    /// Deletes an object, or marks it as being deleted where something must happen first.
    pub(super) fn delete(
        &mut self,
        now: Duration,
        object: &ObjectRef,
        uid: Option<&str>,
        effects: &mut Effects,
    ) -> Result<Response, Status> {
        let live = self.store.get(object).ok_or_else(|| self.not_found(object))?.clone();
        let recorded = live["metadata"]["uid"].as_str().unwrap_or("");
        if let Some(uid) = uid.filter(|uid| *uid != recorded) {
            return Err(self.uid_mismatch(object, uid, recorded));
        }
        if live.pointer("/metadata/deletionTimestamp").is_some() {
            return Ok(Response::Deleting);
        }
        let mut value = (*live).clone();
        let time = self.time(now);
        let fields = metadata(&mut value);
        fields.insert("deletionTimestamp".into(), json!(time));
        fields.insert("deletionGracePeriodSeconds".into(), json!(0));
        if let Some(generation) = fields.get("generation").and_then(Value::as_i64) {
            fields.insert("generation".into(), json!(generation + 1));
        }
        if object.gvk.kind == "Namespace" {
            value["status"]["phase"] = json!("Terminating");
        }
        let change = self.store.put(object.clone(), value);
        let is_gone = change.after.is_none();
        self.settle(change, effects);
        Ok(if is_gone { Response::Deleted } else { Response::Deleting })
    }

    /// Removes an object without asking anybody.
    pub(super) fn remove(&mut self, object: &ObjectRef, effects: &mut Effects) {
        if let Some(change) = self.store.remove(object) {
            self.settle(change, effects);
        }
    }

    /// The time of the model as Kubernetes writes it.
    pub(super) fn time(&self, now: Duration) -> String {
        let seconds = self.settings.start.saturating_add_unsigned(now.as_secs());
        Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX).to_string()
    }

    /// The true identity of an object: a kind that is served, and a namespace if and only if it has one.
    fn address(&self, object: ObjectRef) -> Result<ObjectRef, ClusterError> {
        let Some(kind) = self.kinds.get(&object.gvk) else {
            return Err(ClusterError::UnknownKind { gvk: object.gvk });
        };
        addressable(&object, kind.namespaced)?;
        Ok(object)
    }

    fn read(&self, object: &ObjectRef) -> Result<Response, ClusterError> {
        match self.store.get(object) {
            Some(value) => Ok(Response::Object((**value).clone())),
            None => Err(self.not_found(object).about(object, Verb::Read)),
        }
    }

    fn list(
        &self,
        now: Duration,
        kind: &Gvk,
        namespace: &str,
        label_selector: &str,
    ) -> Result<Response, ClusterError> {
        if self.kinds.get(kind).is_none() {
            return Err(ClusterError::UnknownKind { gvk: kind.clone() });
        }
        let inside = |object: &ObjectRef| object.namespace.as_deref() == Some(namespace);
        let stored = self.store.of_kind(kind).filter(|(object, _)| inside(object));
        let mut found: Vec<Value> = stored
            .map(|(_, value)| value)
            .filter(|value| store::selected(value, label_selector))
            .map(|value| (**value).clone())
            .collect();
        if *kind == Gvk::new("v1", "Pod") {
            let workloads = self.store.iter().filter(|(object, _)| inside(object));
            let pods =
                workloads.flat_map(|(object, value)| controllers::pods(object, value, &self.time(now)));
            found.extend(pods.filter(|pod| store::selected(pod, label_selector)));
        }
        found.truncate(MAX_LISTED as usize);
        Ok(Response::List(found))
    }

    /// What the object would be after an apply, and whether that is a change.
    fn apply(
        &mut self,
        now: Duration,
        object: &ObjectRef,
        body: &Value,
        force: bool,
    ) -> Result<(Value, bool), Status> {
        let named = body["metadata"]["name"].as_str().unwrap_or(&object.name);
        if named != object.name {
            let message = format!(
                "the name of the object ({named}) does not match the name on the URL ({})",
                object.name
            );
            return Err(Status { code: 400, reason: "BadRequest".into(), message, ..Status::default() });
        }
        let mut body = body.clone();
        validate::address(object, &mut body);
        let (time, api_version) = (self.time(now), object.gvk.api_version());
        let write = self.write(object, FIELD_MANAGER, "", &time, &api_version)?;
        let live = write.live.map(Arc::as_ref);
        let applied = apply::apply(live, &body, &write.manager, force, &write.kind.topology)
            .map_err(|error| refused(&error))?;
        let is_changed = applied.is_changed;
        self.written(now, object, applied.object, is_changed)
    }

    /// What the object would be after a merge patch, and whether that is a change.
    fn merge(
        &mut self,
        now: Duration,
        object: &ObjectRef,
        patch: &Value,
        manager: &str,
        subresource: &str,
    ) -> Result<(Value, bool), Status> {
        let (time, api_version) = (self.time(now), object.gvk.api_version());
        let write = self.write(object, manager, subresource, &time, &api_version)?;
        let live = write.live.map(Arc::as_ref);
        let mut after = live.cloned().unwrap_or_else(|| json!({}));
        merge_patch(&mut after, patch);
        validate::address(object, &mut after);
        // A Scale leaves out a zero, so that whoever scales to zero comes to own nothing and all others lose
        // the field.
        let to_zero = subresource == "scale" && after["spec"]["replicas"] == 0;
        if let Some(spec) = after["spec"].as_object_mut().filter(|_| to_zero) {
            spec.remove("replicas");
        }
        let mut tracked = apply::track_update(live, &after, &write.manager, &write.kind.topology)
            .map_err(|error| refused(&error))?;
        if to_zero {
            tracked.object["spec"]["replicas"] = json!(0);
        }
        self.written(now, object, tracked.object, tracked.is_changed)
    }

    fn write<'a>(
        &'a self,
        object: &'a ObjectRef,
        name: &'a str,
        subresource: &'a str,
        time: &'a str,
        api_version: &'a str,
    ) -> Result<Write<'a>, Status> {
        let kind = self.kinds.get(&object.gvk).ok_or_else(Status::default)?;
        let live = self.store.get(object);
        if live.is_none() {
            self.admit_into_namespace(object)?;
        }
        Ok(Write { kind, manager: Manager { name, api_version, subresource, time }, live })
    }

    /// What the API server does to every object after it was merged: defaults, what it alone sets, checks.
    fn written(
        &mut self,
        now: Duration,
        object: &ObjectRef,
        mut value: Value,
        is_changed: bool,
    ) -> Result<(Value, bool), Status> {
        let live = self.store.get(object).cloned();
        if !is_changed {
            return Ok((value, false));
        }
        validate::fill_in(object, &mut value);
        if object.gvk.kind == "CustomResourceDefinition" {
            metadata(&mut value).insert("finalizers".into(), json!([DEFINITION_FINALIZER]));
        }
        let has_generation = self.kinds.get(&object.gvk).is_some_and(|kind| kind.has_generation);
        match &live {
            None => self.born(now, &mut value, has_generation),
            Some(live) if has_generation && !same_spec(live, &value) => {
                let generation = live["metadata"]["generation"].as_i64().unwrap_or(0) + 1;
                metadata(&mut value).insert("generation".into(), json!(generation));
            }
            Some(_) => {}
        }
        let causes = validate::check(object, live.as_deref(), &value);
        if !causes.is_empty() {
            return Err(invalid(&self.kinds.resource(object), object, causes));
        }
        let is_changed = live.is_none_or(|live| apply::settle(&live, &mut value));
        Ok((value, is_changed))
    }

    fn born(&mut self, now: Duration, value: &mut Value, has_generation: bool) {
        let (uid, time) = (self.store.next_uid(), self.time(now));
        let metadata = metadata(value);
        metadata.insert("uid".into(), json!(uid));
        metadata.insert("creationTimestamp".into(), json!(time));
        if has_generation {
            metadata.insert("generation".into(), json!(1));
        }
    }

    /// Stores what was written; gives it with its new version.
    fn store_written(&mut self, object: ObjectRef, value: Value, effects: &mut Effects) -> Value {
        let change = self.store.put(object, value);
        let stored = change.after.clone();
        self.settle(change, effects);
        stored.map_or(Value::Null, |stored| (*stored).clone())
    }

    /// What follows from every change, whoever made it.
    fn settle(&mut self, change: Change, effects: &mut Effects) {
        self.changed(&change, effects);
        if change.after.is_none() {
            let uid = change.before.as_ref().and_then(|last| last["metadata"]["uid"].as_str());
            if let Some(uid) = uid {
                effects.later(CONTROLLER_DELAY, Work::Collect { owner: uid.to_owned() });
            }
        }
    }

    /// NamespaceLifecycle: nothing is created in a namespace that is missing or going.
    fn admit_into_namespace(&self, object: &ObjectRef) -> Result<(), Status> {
        let Some(name) = &object.namespace else { return Ok(()) };
        let namespace = ObjectRef { gvk: Gvk::new("v1", "Namespace"), namespace: None, name: name.clone() };
        let Some(found) = self.store.get(&namespace) else { return Err(self.not_found(&namespace)) };
        if found.pointer("/metadata/deletionTimestamp").is_none() {
            return Ok(());
        }
        let message = format!(
            "{} \"{}\" is forbidden: unable to create new content in namespace {name} because it is being terminated",
            self.kinds.resource(object),
            object.name
        );
        let cause = StatusCause {
            reason: "NamespaceTerminating".into(),
            message: format!("namespace {name} is being terminated"),
            field: "metadata.namespace".into(),
        };
        let details = Box::new(Details { causes: vec![cause], ..*self.details(object) });
        Err(Status { code: 403, reason: "Forbidden".into(), message, details })
    }

    fn not_found(&self, object: &ObjectRef) -> Status {
        let message = format!("{} \"{}\" not found", self.kinds.resource(object), object.name);
        Status { code: 404, reason: "NotFound".into(), message, details: self.details(object) }
    }

    fn uid_mismatch(&self, object: &ObjectRef, uid: &str, recorded: &str) -> Status {
        let message = format!(
            "Operation cannot be fulfilled on {} \"{}\": the UID in the precondition ({uid}) does not match the \
             UID in record ({recorded}). The object might have been deleted and then recreated",
            qualified_kind(&object.gvk),
            object.name
        );
        Status { code: 409, reason: "Conflict".into(), message, details: self.details(object) }
    }

    fn details(&self, object: &ObjectRef) -> Box<Details> {
        let kind = self.kinds.get(&object.gvk).map_or("", |kind| kind.plural.as_str());
        Box::new(Details { name: object.name.clone(), kind: kind.into(), ..Details::default() })
    }
}

/// The status for what server-side apply refuses.
fn refused(error: &ApplyError) -> Status {
    match error {
        ApplyError::Conflicts(conflicts) => serde_json::from_value(conflicts.status()).unwrap_or_default(),
        ApplyError::Version { .. }
        | ApplyError::Kind { .. }
        | ApplyError::ManagedFieldsGiven
        | ApplyError::Time { .. }
        | ApplyError::TooDeep
        | ApplyError::List(_)
        | ApplyError::ManagedFields(_) => {
            Status { code: 400, reason: "BadRequest".into(), message: error.to_string(), ..Status::default() }
        }
    }
}

fn invalid(resource: &str, object: &ObjectRef, causes: Vec<StatusCause>) -> Status {
    let problem = |cause: &StatusCause| format!("{}: {}", cause.field, cause.message);
    let problems: Vec<String> = causes.iter().map(problem).collect();
    let problems = match problems.as_slice() {
        [one] => one.clone(),
        several => format!("[{}]", several.join(", ")),
    };
    let kind = qualified_kind(&object.gvk);
    let message = format!("{kind} \"{}\" is invalid: {problems}", object.name);
    let details = Details { name: object.name.clone(), kind: resource.into(), causes, ..Details::default() };
    Status { code: 422, reason: "Invalid".into(), message, details: Box::new(details) }
}

/// A kind as messages name it: `Deployment.apps`, `ConfigMap`.
fn qualified_kind(gvk: &Gvk) -> String {
    if gvk.group.is_empty() { gvk.kind.clone() } else { format!("{}.{}", gvk.kind, gvk.group) }
}

/// Whether a change leaves alone what is counted as a generation: all but metadata and status.
fn same_spec(before: &Value, after: &Value) -> bool {
    let spec = |value: &Value| -> Vec<(String, Value)> {
        let fields = value.as_object().into_iter().flatten();
        fields
            .filter(|(name, _)| !matches!(name.as_str(), "metadata" | "status"))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    };
    spec(before) == spec(after)
}

/// RFC 7386.
fn merge_patch(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        target.clone_from(patch);
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (name, value) in patch {
        if value.is_null() {
            target.as_object_mut().and_then(|fields| fields.remove(name));
        } else {
            merge_patch(&mut target[name], value);
        }
    }
}
