use serde_json::json;

use super::*;
use crate::logic::{
    health::{self, Context, Status},
    owned,
};

/// Longest time anything in these tests may take in the model.
const DEADLINE: Duration = Duration::from_secs(3600);

/// A cluster, its time, and what is due.
struct Run {
    cluster: SimCluster,
    now: Duration,
    due: BTreeMap<(Duration, u64), Output>,
    made: u64,
    events: Vec<WatchEvent>,
}

impl Run {
    fn new(seed: u64) -> Self {
        let cluster = SimCluster::new(Arc::new(Settings { seed, ..Settings::default() }));
        let mut run =
            Self { cluster, now: Duration::ZERO, due: BTreeMap::new(), made: 0, events: Vec::new() };
        run.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "radio"}})).unwrap();
        run
    }

    fn put(&mut self, input: Input) {
        for (delay, output) in self.cluster.handle(self.now, input) {
            self.made += 1;
            self.due.insert((self.now + delay, self.made), output);
        }
    }

    fn step(&mut self) -> Option<Result<Response, ClusterError>> {
        let ((time, _), output) = self.due.pop_first().expect("something is due");
        assert!(time <= DEADLINE, "nothing came of it");
        self.now = time;
        match output {
            Output::Answer { answer, .. } => return Some(answer),
            Output::Event { event, .. } => self.events.push(event),
            Output::Task(task) => self.put(Input::Task(task)),
        }
        None
    }

    fn send(&mut self, request: Request) -> Result<Response, ClusterError> {
        self.put(Input::Request { id: 0, request });
        loop {
            if let Some(answer) = self.step() {
                return answer;
            }
        }
    }

    fn settle(&mut self) {
        while !self.due.is_empty() {
            self.step();
        }
    }

    fn apply_as(&mut self, body: &Value, force: bool, dry_run: bool) -> Result<Value, ClusterError> {
        let object = ObjectRef::of(body).unwrap();
        let answer = self.send(Request::Apply { object, body: body.clone(), force, dry_run })?;
        match answer {
            Response::Object(value) => Ok(value),
            Response::List(_) | Response::Deleted | Response::Deleting | Response::Version(_) => {
                panic!("an apply answers with the object, not {answer:?}")
            }
        }
    }

    fn apply(&mut self, body: &Value) -> Result<Value, ClusterError> {
        self.apply_as(body, false, false)
    }

    fn edit(&mut self, manager: &str, subresource: &str, body: &Value, patch: Value) {
        self.put(Input::Edit(Edit {
            manager: manager.into(),
            subresource: subresource.into(),
            object: ObjectRef::of(body).unwrap(),
            action: Action::Merge(patch),
        }));
    }

    fn live(&self, body: &Value) -> Value {
        self.cluster.object(&ObjectRef::of(body).unwrap()).cloned().unwrap_or_default()
    }

    fn delete(&mut self, body: &Value) -> Result<Response, ClusterError> {
        let uid = self.live(body)["metadata"]["uid"].as_str().unwrap_or("none").to_owned();
        self.send(Request::Delete { object: ObjectRef::of(body).unwrap(), uid })
    }

    fn watch(&mut self, kind: Gvk, label_selector: &str) {
        self.put(Input::Watch { id: 1, kind, label_selector: label_selector.into() });
    }

    /// What the watch saw since it was last asked, in short.
    fn seen(&mut self) -> Vec<String> {
        let short = |event: WatchEvent| match event {
            WatchEvent::Listing => "listing".to_owned(),
            WatchEvent::Synced => "synced".to_owned(),
            WatchEvent::Changed(meta) => format!("changed {}", meta.object.name),
            WatchEvent::Gone(meta) => format!("gone {}", meta.object.name),
            WatchEvent::Lost(error) => format!("lost: {error}"),
        };
        self.events.drain(..).map(short).collect()
    }
}

fn config(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "radio", "name": name}, "data": data})
}

fn workload(kind: &str, pod_labels: Value) -> Value {
    let mut labels = json!({"app": "gateway"});
    labels.as_object_mut().unwrap().extend(pod_labels.as_object().unwrap().clone());
    let mut body = json!({
        "apiVersion": "apps/v1", "kind": kind, "metadata": {"namespace": "radio", "name": "gateway"},
        "spec": {
            "selector": {"matchLabels": {"app": "gateway"}},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "app", "image": "gateway:1"}]},
            },
        },
    });
    match kind {
        "Job" => {
            body["apiVersion"] = json!("batch/v1");
            body["spec"].as_object_mut().unwrap().remove("selector");
        }
        "DaemonSet" => {}
        _ => body["spec"]["replicas"] = json!(2),
    }
    body
}

fn definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced", "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}],
        },
    })
}

fn widget() -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"namespace": "radio", "name": "w"}, "spec": {"size": 1}})
}

fn health(object: &Value) -> (Status, String) {
    let context = Context {
        since_applied: Duration::from_secs(60),
        progress_deadline: Duration::from_secs(600),
        waits_for_consumer: false,
    };
    let health = health::assess(object, &context);
    (health.status, health.reason)
}

#[test]
fn a_change_counts_where_it_should() {
    let mut run = Run::new(1);
    let first = workload("Deployment", json!({}));
    let version = |object: &Value| object["metadata"]["resourceVersion"].clone();
    let created = run.apply(&first).unwrap();
    assert_eq!(created["metadata"]["generation"], 1);
    assert_eq!(version(&run.apply(&first).unwrap()), version(&created));

    let mut labelled = first.clone();
    labelled["metadata"]["labels"] = json!({"tier": "edge"});
    let labelled = run.apply(&labelled).unwrap();
    assert_eq!(labelled["metadata"]["generation"], 1);
    assert_ne!(version(&labelled), version(&created));

    let mut scaled = first.clone();
    scaled["spec"]["replicas"] = json!(3);
    let tried = run.apply_as(&scaled, false, true).unwrap();
    assert_eq!((&tried["spec"]["replicas"], &tried["metadata"]["generation"]), (&json!(3), &json!(2)));
    assert_eq!(run.live(&first)["spec"]["replicas"], 2);
    let scaled = run.apply(&scaled).unwrap();
    assert_eq!(scaled["metadata"]["generation"], 2);
    assert_eq!(scaled["metadata"]["labels"], Value::Null);
}

#[test]
fn a_person_takes_a_field_and_it_is_taken_back() {
    let mut run = Run::new(1);
    let body = workload("Deployment", json!({}));
    run.apply(&body).unwrap();
    run.settle();
    let digest = |run: &Run| owned::digest(&run.live(&body), &[]).unwrap();
    let ours = digest(&run);
    run.edit("kubectl", "scale", &body, json!({"spec": {"replicas": 5}}));
    run.settle();
    assert_ne!(digest(&run), ours);
    assert_eq!(owned::who_changed(&run.live(&body), &body), ["kubectl"]);

    let Err(ClusterError::Conflict { conflicts, message, .. }) = run.apply(&body) else {
        panic!("a conflict")
    };
    assert_eq!(
        message,
        "Apply failed with 1 conflict: conflict with \"kubectl\" with subresource \"scale\" using apps/v1: .spec.replicas"
    );
    assert!(conflicts.iter().all(|one| one.manager == "kubectl" && owned::covers(&body, &one.field)));
    run.apply_as(&body, true, false).unwrap();
    assert_eq!(run.live(&body)["spec"]["replicas"], 2);
    assert_eq!(digest(&run), ours);
}

#[test]
fn every_workload_comes_up() {
    for kind in ["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job"] {
        let mut run = Run::new(3);
        let mut body = workload(kind, json!({}));
        run.apply(&body).unwrap();
        assert_eq!(health(&run.live(&body)).0, Status::Progressing, "{kind}");
        run.settle();
        assert_eq!(health(&run.live(&body)).0, Status::Current, "{kind}: {:?}", run.live(&body)["status"]);
        if kind != "Job" {
            body["spec"]["template"]["spec"]["containers"][0]["image"] = json!("gateway:2");
            run.apply(&body).unwrap();
            assert_eq!(health(&run.live(&body)).1, "LatestGenerationNotObserved", "{kind}");
            run.settle();
            assert_eq!(
                health(&run.live(&body)).0,
                Status::Current,
                "{kind}: {:?}",
                run.live(&body)["status"]
            );
        }
    }
}

#[test]
fn a_failing_pod_fails_its_workload_and_says_why() {
    let mut run = Run::new(3);
    let body = workload("Deployment", json!({FAIL_LABEL: "true"}));
    run.apply(&body).unwrap();
    run.settle();
    let failed = run.live(&body);
    assert_eq!(health(&failed), (Status::Failed, "ProgressDeadlineExceeded".into()));
    let list = Request::List {
        kind: Gvk::new("v1", "Pod"),
        namespace: "radio".into(),
        label_selector: "app=gateway".into(),
    };
    let Ok(Response::List(pods)) = run.send(list) else { panic!("a list") };
    assert_eq!(pods.len(), 2);
    assert_eq!(health(&pods[0]).0, Status::Failed);

    let mut run = Run::new(3);
    let body = workload("Job", json!({FAIL_LABEL: "true"}));
    run.apply(&body).unwrap();
    run.settle();
    assert_eq!(health(&run.live(&body)), (Status::Failed, "BackoffLimitExceeded".into()));
}

#[test]
fn a_kind_is_served_once_its_definition_is_established() {
    let mut run = Run::new(1);
    run.watch(Gvk::new("example.com/v1", "Widget"), "");
    assert!(matches!(run.apply(&widget()), Err(ClusterError::UnknownKind { .. })));
    run.apply(&definition()).unwrap();
    assert_eq!(health(&run.live(&definition())).0, Status::Progressing);
    assert!(matches!(run.apply(&widget()), Err(ClusterError::UnknownKind { .. })));
    run.settle();
    assert_eq!(health(&run.live(&definition())).0, Status::Current);
    run.apply(&widget()).unwrap();
    assert_eq!(run.delete(&definition()).unwrap(), Response::Deleting);
    run.settle();
    assert_eq!(run.live(&definition()), Value::Null);
    assert!(matches!(run.apply(&widget()), Err(ClusterError::UnknownKind { .. })));
    let lost = format!("lost: {}", ClusterError::UnknownKind { gvk: Gvk::new("example.com/v1", "Widget") });
    assert_eq!(run.seen(), [lost.as_str(), "listing", "synced", "changed w", "gone w"]);
}

#[test]
fn a_namespace_takes_its_content_along() {
    let mut run = Run::new(1);
    let radio = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "radio"}});
    let mut held = config("held", json!({}));
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    run.apply(&config("a", json!({}))).unwrap();
    run.apply(&held).unwrap();
    assert_eq!(run.delete(&radio).unwrap(), Response::Deleting);
    let refused = run.apply(&config("b", json!({}))).unwrap_err();
    assert!(matches!(refused, ClusterError::NamespaceTerminating { .. }), "{refused}");
    assert_eq!(health(&run.live(&radio)).0, Status::Terminating);
    run.edit("controller", "", &held, json!({"metadata": {"finalizers": null}}));
    run.settle();
    assert_eq!(run.live(&radio), Value::Null);
    assert_eq!(run.live(&config("a", json!({}))), Value::Null);
    let refused = run.apply(&config("b", json!({}))).unwrap_err();
    assert!(matches!(refused, ClusterError::NamespaceMissing { .. }), "{refused}");
}

#[test]
fn only_the_object_that_was_meant_is_deleted() {
    let mut run = Run::new(1);
    let body = config("a", json!({}));
    assert!(matches!(run.delete(&body), Err(ClusterError::NotFound { .. })));
    let uid = run.apply(&body).unwrap()["metadata"]["uid"].as_str().unwrap().to_owned();
    let mut dependent = config("b", json!({}));
    dependent["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "a", "uid": uid}]);
    run.apply(&dependent).unwrap();
    let object = ObjectRef::of(&body).unwrap();
    let wrong = run.send(Request::Delete { object: object.clone(), uid: "other".into() }).unwrap_err();
    assert!(matches!(wrong, ClusterError::UidMismatch { .. }), "{wrong}");
    assert_eq!(run.send(Request::Delete { object, uid }).unwrap(), Response::Deleted);
    run.settle();
    assert_eq!(run.live(&dependent), Value::Null);
    assert_ne!(run.apply(&body).unwrap()["metadata"]["uid"], Value::Null);
}

#[test]
fn a_watch_sees_what_its_selector_selects() {
    let mut run = Run::new(1);
    let with = |set: Option<&str>| {
        let mut body = config("a", json!({}));
        if let Some(set) = set {
            body["metadata"]["labels"] = json!({"applyset.kubernetes.io/part-of": set});
        }
        body
    };
    run.apply(&with(Some("x"))).unwrap();
    run.apply(&config("b", json!({}))).unwrap();
    run.watch(Gvk::new("v1", "ConfigMap"), "applyset.kubernetes.io/part-of");
    run.apply(&with(Some("y"))).unwrap();
    run.apply(&with(Some("y"))).unwrap();
    run.apply(&with(None)).unwrap();
    run.apply(&with(Some("x"))).unwrap();
    run.delete(&with(None)).unwrap();
    run.put(Input::Unwatch { id: 1 });
    run.apply(&with(Some("x"))).unwrap();
    run.settle();
    assert_eq!(run.seen(), ["listing", "changed a", "synced", "changed a", "gone a", "changed a", "gone a"]);
}

#[test]
fn what_the_api_server_refuses_is_refused() {
    let mut run = Run::new(1);
    let mut check = |body: Value, expected: &str| {
        let error = run.apply(&body).expect_err(expected);
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(error.remedy(), crate::cluster::Remedy::Object, "{error}");
    };
    check(config("Upper", json!({})), "ConfigMap \"Upper\" is invalid: metadata.name: Invalid value");
    let mut other = workload("Deployment", json!({}));
    other["spec"]["template"]["metadata"]["labels"] = json!({"app": "other"});
    check(other, "`selector` does not match template `labels`");
    let mut bare = workload("Deployment", json!({}));
    bare["spec"].as_object_mut().unwrap().remove("selector");
    check(bare, "spec.selector: Required value");
    let mut homeless = config("a", json!({}));
    homeless["metadata"].as_object_mut().unwrap().remove("namespace");
    check(homeless, "give metadata.namespace");
}

#[test]
fn the_seed_decides_everything() {
    let trace = |seed| {
        let mut run = Run::new(seed);
        run.apply(&workload("Deployment", json!({}))).unwrap();
        run.settle();
        (run.now, run.live(&workload("Deployment", json!({}))).to_string())
    };
    assert_eq!(trace(7), trace(7));
    assert_ne!(trace(7), trace(8));
}

#[tokio::test(start_paused = true)]
async fn the_port_drives_the_model() {
    use futures::StreamExt;

    use crate::cluster::Cluster;

    let cluster = LiveCluster::new(SimCluster::new(Arc::new(Settings::default())));
    let mut body = workload("Deployment", json!({}));
    body["metadata"]["namespace"] = json!("default");
    let object = ObjectRef::of(&body).unwrap();
    let mut watch = cluster.watch(object.gvk.clone(), String::new(), 0);
    assert_eq!(watch.next().await, Some(WatchEvent::Listing));
    assert_eq!(watch.next().await, Some(WatchEvent::Synced));
    cluster
        .send(Request::Apply { object: object.clone(), body, force: false, dry_run: false })
        .await
        .unwrap();
    loop {
        assert!(matches!(watch.next().await, Some(WatchEvent::Changed(_))));
        let Response::Object(live) = cluster.send(Request::Get(object.clone())).await.unwrap() else {
            panic!("an object")
        };
        if health(&live).0 == Status::Current {
            break;
        }
    }
}
