//! The cases.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use edge_agent::cluster::{ClusterError, Remedy, Request, Response};
use edge_agent::logic::{
    health::{self, Context},
    object::{Gvk, ObjectRef},
    owned,
};
use futures::{FutureExt, StreamExt};
use serde_json::{Value, json};
use tests::wait_for;

use crate::{check, real, side::Side};

/// Longest a case waits for one thing.
const PATIENCE: Duration = Duration::from_secs(60);

const CONTEXT: Context = Context {
    since_applied: Duration::ZERO,
    progress_deadline: Duration::from_secs(600),
    waits_for_consumer: false,
};

#[tokio::test]
async fn apply_creates_changes_and_removes() -> Result<()> {
    check(
        async |side, seen| {
            for data in [json!({"a": "1"}), json!({"a": "1"}), json!({"a": "2", "b": "3"}), json!({"b": "3"})]
            {
                let answer = apply(side, &config(side, "one", data), false).await;
                seen.answer(&answer, &["/data"]);
            }
            let tried = config(side, "one", json!({"b": "tried"}));
            seen.answer(&dry_run(side, &tried, false).await, &["/data"]);
            seen.answer(&side.send(Request::Get(ObjectRef::of(&tried)?)).await, &["/data"]);
            Ok(())
        },
        &[
            r#"u1 v1 generation - data={"a":"1"}"#,
            r#"u1 v1 generation - data={"a":"1"}"#,
            r#"u1 v2 generation - data={"a":"2","b":"3"}"#,
            r#"u1 v3 generation - data={"b":"3"}"#,
            r#"u1 v3 generation - data={"b":"tried"}"#,
            r#"u1 v3 generation - data={"b":"3"}"#,
        ],
    )
    .await
}

#[tokio::test]
async fn what_others_own_is_a_conflict() -> Result<()> {
    check(
        async |side, seen| {
            let body = deployment(side, &json!({}));
            let object = ObjectRef::of(&body)?;
            apply(side, &body, false).await?;
            side.edit(&object, "kubectl", "scale", &json!({"spec": {"replicas": 3}})).await?;
            let image = json!({"spec": {"template": {"spec": {"containers": [{"name": "app", "image": "gateway:9"}]}}}});
            side.edit(&object, "kubectl-set", "", &image).await?;
            let answer = apply(side, &body, false).await;
            if let Err(ClusterError::Conflict { conflicts, .. }) = &answer {
                for one in conflicts {
                    seen.line(format!("{} {} {}", one.manager, one.field, owned::covers(&body, &one.field)));
                }
            }
            seen.line(answer.err().map_or("no error".into(), |error| error.to_string()));
            let forced = apply(side, &body, true).await?;
            let Response::Object(forced) = forced else { bail!("{forced:?}") };
            seen.line(forced["spec"]["template"]["spec"]["containers"][0]["image"].to_string());
            Ok(())
        },
        &[
            "kubectl .spec.replicas true",
            r#"kubectl-set .spec.template.spec.containers[name="app"].image true"#,
            "Deployment NS/gateway: Apply failed with 2 conflicts: conflicts with \"kubectl\" with subresource \"scale\" using apps/v1:\n- .spec.replicas\nconflicts with \"kubectl-set\" using apps/v1:\n- .spec.template.spec.containers[name=\"app\"].image",
            r#""gateway:1""#,
        ],
    )
    .await
}

#[tokio::test]
async fn a_dry_run_answers_as_an_apply_and_leaves_nothing() -> Result<()> {
    check(
        async |side, seen| {
            let new = config(side, "new", json!({"a": "1"}));
            seen.answer(&dry_run(side, &new, false).await, &["/data"]);
            seen.answer(&side.send(Request::Get(ObjectRef::of(&new)?)).await, &[]);
            let body = deployment(side, &json!({}));
            let object = ObjectRef::of(&body)?;
            apply(side, &body, false).await?;
            side.edit(&object, "kubectl", "scale", &json!({"spec": {"replicas": 3}})).await?;
            seen.answer(&dry_run(side, &body, false).await, &[]);
            let Response::Object(forced) = dry_run(side, &body, true).await? else { bail!("no object") };
            seen.line(format!("forced to {}", forced["spec"]["replicas"]));
            seen.line(format!("left at {}", side.get(&object).await?["spec"]["replicas"]));
            let mut refused = deployment(side, &json!({"more": "x"}));
            refused["spec"]["selector"]["matchLabels"]["more"] = json!("x");
            seen.answer(&dry_run(side, &refused, true).await, &[]);
            let mut nowhere = new.clone();
            nowhere["metadata"]["namespace"] = json!("nowhere");
            seen.answer(&dry_run(side, &nowhere, false).await, &[]);
            let unknown = json!({"apiVersion": "example.com/v1", "kind": "Widget",
                                 "metadata": {"name": "w", "namespace": side.namespace()}});
            seen.answer(&dry_run(side, &unknown, false).await, &[]);
            Ok(())
        },
        &[
            r#"u1 v1 generation - data={"a":"1"}"#,
            "ConfigMap NS/new does not exist; Object",
            "Deployment NS/gateway: Apply failed with 1 conflict: conflict with \"kubectl\" with subresource \"scale\" using apps/v1: .spec.replicas; Object",
            "forced to 2",
            "left at 3",
            "Deployment NS/gateway is invalid: Deployment.apps \"gateway\" is invalid: spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"gateway\",\"more\":\"x\"}}: field is immutable; Object",
            "namespace nowhere of ConfigMap nowhere/new does not exist: create it, or add it to a bundle; Retry { after: None }",
            "the cluster does not serve Widget.v1.example.com: write a version that `kubectl api-versions` lists, or install its CustomResourceDefinition; Retry { after: None }",
        ],
    )
    .await
}

#[tokio::test]
async fn only_the_object_meant_is_deleted() -> Result<()> {
    check(
        async |side, seen| {
            let body = config(side, "one", json!({}));
            let object = ObjectRef::of(&body)?;
            let delete = |uid: &str| Request::Delete { object: object.clone(), uid: uid.to_owned() };
            seen.answer(&side.send(delete("00000000-0000-4000-8000-000000000000")).await, &[]);
            let answer = apply(side, &body, false).await;
            seen.answer(&answer, &[]);
            let uid = uid(&side.get(&object).await?);
            seen.answer(&side.send(delete("00000000-0000-4000-8000-000000000000")).await, &[]);
            seen.answer(&side.send(delete(&uid)).await, &[]);
            seen.answer(&side.send(Request::Get(object.clone())).await, &[]);

            let mut held = body.clone();
            held["metadata"]["finalizers"] = json!(["example.com/hold"]);
            let answer = apply(side, &held, false).await;
            seen.answer(&answer, &[]);
            let uid = self::uid(&side.get(&object).await?);
            let delete = Request::Delete { object: object.clone(), uid };
            seen.answer(&side.send(delete).await, &[]);
            let there = side.get(&object).await?;
            seen.line(format!("{:?}", assess(&there).status));
            side.edit(&object, "controller", "", &json!({"metadata": {"finalizers": null}})).await?;
            seen.answer(&side.send(Request::Get(object.clone())).await, &[]);
            Ok(())
        },
        &[
            "ConfigMap NS/one does not exist; Object",
            "u1 v1 generation -",
            "ConfigMap NS/one is another object of the same name: Operation cannot be fulfilled on ConfigMap \"one\": the UID in the precondition (00000000-0000-4000-8000-000000000000) does not match the UID in record (u1). The object might have been deleted and then recreated; Object",
            "deleted",
            "ConfigMap NS/one does not exist; Object",
            "u2 v2 generation -",
            "deleting",
            "Terminating",
            "ConfigMap NS/one does not exist; Object",
        ],
    )
    .await
}

#[tokio::test]
async fn what_cannot_be_addressed_is_named() -> Result<()> {
    check(
        async |side, seen| {
            let mut elsewhere = config(side, "one", json!({}));
            elsewhere["metadata"]["namespace"] = json!("nowhere");
            let answer = apply(side, &elsewhere, false).await;
            seen.answer(&answer, &[]);
            let unknown = json!({"apiVersion": "example.com/v1", "kind": "Unknown", "metadata": {"name": "x"}});
            let answer = apply(side, &unknown, false).await;
            seen.answer(&answer, &[]);
            let mut homeless = config(side, "one", json!({}));
            homeless["metadata"].as_object_mut().expect("metadata").remove("namespace");
            let answer = apply(side, &homeless, false).await;
            seen.answer(&answer, &[]);
            let role = json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
                "metadata": {"name": format!("{}:reader", side.namespace()), "namespace": "ignored"}, "rules": [],
            });
            // What was signed as an object of a namespace must not reach the whole cluster.
            let answer = apply(side, &role, false).await;
            seen.answer(&answer, &[]);
            Ok(())
        },
        &[
            "namespace nowhere of ConfigMap nowhere/one does not exist: create it, or add it to a bundle; Retry { after: None }",
            "the cluster does not serve Unknown.v1.example.com: write a version that `kubectl api-versions` lists, or install its CustomResourceDefinition; Retry { after: None }",
            "ConfigMap one is invalid: objects of this kind belong to a namespace: give metadata.namespace; Object",
            "ClusterRole ignored/NS:reader names a namespace, but ClusterRole.v1.rbac.authorization.k8s.io belongs to the whole cluster: leave the namespace out; Object",
        ],
    )
    .await
}

#[tokio::test]
async fn what_is_wrong_is_refused() -> Result<()> {
    check(
        async |side, seen| {
            let answer = apply(side, &config(side, "Upper", json!({})), false).await;
            seen.answer(&answer, &[]);
            let mut other = deployment(side, &json!({}));
            other["spec"]["template"]["metadata"]["labels"] = json!({"app": "other"});
            let answer = apply(side, &other, false).await;
            seen.answer(&answer, &[]);
            let mut empty = deployment(side, &json!({}));
            empty["spec"]["template"]["spec"]["containers"] = json!([]);
            let answer = apply(side, &empty, false).await;
            seen.answer(&answer, &[]);
            let mut misnamed = config(side, "one", json!({}));
            let object = ObjectRef::of(&misnamed)?;
            misnamed["metadata"]["name"] = json!("two");
            let request = Request::Apply { object, body: misnamed, force: false, dry_run: false };
            seen.answer(&side.send(request).await, &[]);
            apply(side, &deployment(side, &json!({})), false).await?;
            let mut moved = deployment(side, &json!({}));
            moved["spec"]["selector"]["matchLabels"] = json!({"app": "gateway", "more": "x"});
            moved["spec"]["template"]["metadata"]["labels"] = json!({"app": "gateway", "more": "x"});
            let answer = apply(side, &moved, false).await;
            seen.answer(&answer, &[]);
            Ok(())
        },
        &[
            "ConfigMap NS/Upper is invalid: ConfigMap \"Upper\" is invalid: metadata.name: Invalid value: \"Upper\": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*'); Object",
            "Deployment NS/gateway is invalid: Deployment.apps \"gateway\" is invalid: spec.template.metadata.labels: Invalid value: {\"app\":\"other\"}: `selector` does not match template `labels`; Object",
            "Deployment NS/gateway is invalid: Deployment.apps \"gateway\" is invalid: spec.template.spec.containers: Required value; Object",
            "ConfigMap NS/one is invalid: the name of the object (two) does not match the name on the URL (one); Object",
            "Deployment NS/gateway is invalid: Deployment.apps \"gateway\" is invalid: spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"gateway\",\"more\":\"x\"}}: field is immutable; Object",
        ],
    )
    .await
}

#[tokio::test]
async fn a_watch_tells_metadata_in_order() -> Result<()> {
    check(
        async |side, seen| {
            let labelled = |name: &str, set: Option<&str>, data: Value| {
                let mut body = config(side, name, data);
                if let Some(set) = set {
                    body["metadata"]["labels"] = json!({"part-of": format!("{}-{set}", side.namespace())});
                }
                body
            };
            apply(side, &labelled("one", Some("x"), json!({})), false).await?;
            apply(side, &labelled("other", None, json!({})), false).await?;
            let selector = format!("part-of in ({0}-x,{0}-y)", side.namespace());
            let mut watch = side.watch(Gvk::new("v1", "ConfigMap"), &selector);
            for _ in 0..3 {
                seen.event(&watch.next().await.expect("watches do not end"));
            }
            apply(side, &labelled("one", Some("x"), json!({"a": "1"})), false).await?;
            apply(side, &labelled("one", Some("x"), json!({"a": "1"})), false).await?;
            apply(side, &labelled("two", Some("y"), json!({})), false).await?;
            apply(side, &labelled("one", None, json!({})), false).await?;
            apply(side, &labelled("one", Some("y"), json!({})), false).await?;
            let two = ObjectRef::of(&labelled("two", None, json!({})))?;
            let uid = uid(&side.get(&two).await?);
            side.send(Request::Delete { object: two, uid }).await?;
            for _ in 0..5 {
                seen.event(&watch.next().await.expect("watches do not end"));
            }
            ensure!(watch.next().now_or_never().is_none(), "one event too many");
            Ok(())
        },
        &[
            "listing",
            "changed ConfigMap NS/one u1 v1 generation - [part-of=NS-x]",
            "synced",
            "changed ConfigMap NS/one u1 v2 generation - [part-of=NS-x]",
            "changed ConfigMap NS/two u2 v3 generation - [part-of=NS-y]",
            "gone ConfigMap NS/one u1 v4 generation - [part-of=NS-x]",
            "changed ConfigMap NS/one u1 v5 generation - [part-of=NS-y]",
            "gone ConfigMap NS/two u2 v6 generation - [part-of=NS-y]",
        ],
    )
    .await
}

#[tokio::test]
async fn a_watch_of_nothing_begins_at_once() -> Result<()> {
    check(
        async |side, seen| {
            let set = format!("{}-z", side.namespace());
            let mut watch = side.watch(Gvk::new("v1", "ConfigMap"), &format!("part-of={set}"));
            for _ in 0..2 {
                seen.event(&watch.next().await.expect("watches do not end"));
            }
            let mut body = config(side, "one", json!({}));
            body["metadata"]["labels"] = json!({"part-of": set});
            apply(side, &body, false).await?;
            let object = ObjectRef::of(&body)?;
            let uid = uid(&side.get(&object).await?);
            side.send(Request::Delete { object, uid }).await?;
            for _ in 0..2 {
                seen.event(&watch.next().await.expect("watches do not end"));
            }
            Ok(())
        },
        &[
            "listing",
            "synced",
            "changed ConfigMap NS/one u1 v1 generation - [part-of=NS-z]",
            "gone ConfigMap NS/one u1 v2 generation - [part-of=NS-z]",
        ],
    )
    .await
}

#[tokio::test]
async fn a_deployment_comes_up_and_drift_is_seen() -> Result<()> {
    check(
        async |side, seen| {
            let body = deployment(side, &json!({}));
            let object = ObjectRef::of(&body)?;
            let applied = apply(side, &body, false).await?;
            let Response::Object(applied) = applied else { bail!("{applied:?}") };
            seen.line(format!("{:?} {}", assess(&applied).status, applied["metadata"]["generation"]));
            let live = wait_until(side, &object, "Current Available").await?;
            let ours = owned::digest(&live, &[]);
            seen.line(format!("status moves the digest: {}", ours != owned::digest(&applied, &[])));
            seen.line(format!("{:?}", owned::who_changed(&live, &body)));

            side.edit(&object, "kubectl", "scale", &json!({"spec": {"replicas": 3}})).await?;
            let live = side.get(&object).await?;
            seen.line(format!("scaling moves the digest: {}", ours != owned::digest(&live, &[])));
            let ignore = ["/spec/replicas".to_owned()];
            seen.line(format!(
                "ignored: {}",
                owned::digest(&applied, &ignore) == owned::digest(&live, &ignore)
            ));
            seen.line(format!("{:?} {}", owned::who_changed(&live, &body), live["metadata"]["generation"]));
            let forced = apply(side, &body, true).await?;
            let Response::Object(forced) = forced else { bail!("{forced:?}") };
            seen.line(format!("healed: {}", ours == owned::digest(&forced, &[])));
            wait_until(side, &object, "Current Available").await?;
            wait_for("two pods", PATIENCE, async || match pods(side).await?.len() {
                2 => Ok(()),
                other => bail!("{other} pods"),
            })
            .await?;
            Ok(())
        },
        &[
            "Progressing 1",
            "status moves the digest: false",
            r#"[]"#,
            "scaling moves the digest: true",
            "ignored: true",
            r#"["kubectl"] 2"#,
            "healed: true",
        ],
    )
    .await
}

#[tokio::test]
async fn scaling_to_zero_leaves_no_owner() -> Result<()> {
    check(
        async |side, seen| {
            let body = deployment(side, &json!({}));
            let object = ObjectRef::of(&body)?;
            apply(side, &body, false).await?;
            let ours = owned::digest(&side.get(&object).await?, &[]);
            side.edit(&object, "kubectl", "scale", &json!({"spec": {"replicas": 0}})).await?;
            let live = side.get(&object).await?;
            seen.line(format!("{} seen: {}", live["spec"]["replicas"], ours != owned::digest(&live, &[])));
            let healed = apply(side, &body, false).await?;
            let Response::Object(healed) = healed else { bail!("{healed:?}") };
            seen.line(format!(
                "{} healed: {}",
                healed["spec"]["replicas"],
                ours == owned::digest(&healed, &[])
            ));
            Ok(())
        },
        &["0 seen: true", "2 healed: true"],
    )
    .await
}

#[tokio::test]
async fn a_deployment_that_no_node_takes_is_given_up() -> Result<()> {
    check(
        async |side, seen| {
            let mut body = deployment(side, &json!({}));
            body["spec"]["progressDeadlineSeconds"] = json!(3);
            body["spec"]["template"]["spec"]["nodeSelector"] = json!({"example.com/there": "no"});
            let object = ObjectRef::of(&body)?;
            apply(side, &body, false).await?;
            let failed = wait_until(side, &object, "Failed ProgressDeadlineExceeded").await?;
            let pods = pods(side).await?;
            let context = Context { since_applied: PATIENCE, ..CONTEXT };
            seen.line(health::explain(assess(&failed), &pods, &context).reason);
            Ok(())
        },
        &["Unschedulable"],
    )
    .await
}

#[tokio::test]
async fn failing_pods_keep_their_deployment_from_health() -> Result<()> {
    check(
        async |side, seen| {
            let mut body = deployment(side, &json!({edge_agent::cluster::sim::FAIL_LABEL: "true"}));
            // A pod runs for a moment before it fails; that must not count as available.
            body["spec"]["minReadySeconds"] = json!(30);
            let object = ObjectRef::of(&body)?;
            apply(side, &body, false).await?;
            wait_for("a pod that failed", PATIENCE, async || {
                let live = side.get(&object).await?;
                let health = health::explain(assess(&live), &pods(side).await?, &CONTEXT);
                ensure!(health.reason == "PodFailed", "{health:?}");
                Ok(())
            })
            .await?;
            seen.line(format!("{:?}", assess(&side.get(&object).await?).status));
            Ok(())
        },
        &["Progressing"],
    )
    .await
}

#[tokio::test]
async fn a_kind_comes_with_its_definition() -> Result<()> {
    check(
        async |side, seen| {
            let group = format!("{}.example.com", side.namespace());
            let definition = json!({
                "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
                "metadata": {"name": format!("widgets.{group}")},
                "spec": {
                    "group": group, "scope": "Namespaced",
                    "names": {"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"},
                    "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                        "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                            "spec": {"type": "object", "properties": {"size": {"type": "integer"}}},
                            "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                        }}}}],
                },
            });
            let widget = |size: i64| {
                json!({"apiVersion": format!("{group}/v1"), "kind": "Widget",
                       "metadata": {"name": "w", "namespace": side.namespace()}, "spec": {"size": size}})
            };
            let object = ObjectRef::of(&widget(1))?;
            seen.answer(&apply(side, &widget(1), false).await, &[]);
            apply(side, &definition, false).await?;
            let defined = ObjectRef::of(&definition)?;
            wait_until(side, &defined, "Current Established").await?;
            let first = wait_for("the kind", PATIENCE, async || Ok(apply(side, &widget(1), false).await?)).await;
            seen.answer(&Ok(first?), &["/spec/size"]);
            seen.answer(&apply(side, &widget(2), false).await, &["/spec/size"]);
            side.edit(&object, "controller", "status", &json!({"status": {"seen": true}})).await?;
            seen.answer(&apply(side, &widget(2), false).await, &["/status/seen"]);
            let live = side.get(&defined).await?;
            let delete = Request::Delete { object: defined.clone(), uid: uid(&live) };
            seen.answer(&side.send(delete).await, &[]);
            wait_for("its end", PATIENCE, async || match side.send(Request::Get(object.clone())).await {
                Err(ClusterError::NotFound { .. } | ClusterError::UnknownKind { .. }) => Ok(()),
                other => bail!("{other:?}"),
            })
            .await
        },
        &[
            "the cluster does not serve Widget.v1.NS.example.com: write a version that `kubectl api-versions` lists, or install its CustomResourceDefinition; Retry { after: None }",
            "u1 v1 generation 1 size=1",
            "u1 v2 generation 2 size=2",
            "u1 v3 generation 2 seen=true",
            "deleting",
        ],
    )
    .await
}

#[tokio::test]
async fn nothing_enters_a_namespace_that_goes() -> Result<()> {
    check(
        async |side, seen| {
            let name = format!("{}-going", side.namespace());
            let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
            apply(side, &namespace, false).await?;
            let going = ObjectRef::of(&namespace)?;
            let mut held = config(side, "held", json!({}));
            held["metadata"]["namespace"] = json!(name);
            held["metadata"]["finalizers"] = json!(["example.com/hold"]);
            apply(side, &held, false).await?;
            let uid = uid(&side.get(&going).await?);
            seen.answer(&side.send(Request::Delete { object: going.clone(), uid }).await, &[]);
            let mut late = held.clone();
            late["metadata"]["name"] = json!("late");
            seen.answer(&apply(side, &late, false).await, &[]);
            seen.line(format!("{:?}", assess(&side.get(&going).await?).status));
            let held = ObjectRef::of(&held)?;
            side.edit(&held, "controller", "", &json!({"metadata": {"finalizers": null}})).await?;
            wait_for("its end", PATIENCE, async || match side.send(Request::Get(going.clone())).await {
                Err(ClusterError::NotFound { .. }) => Ok(()),
                other => bail!("{other:?}"),
            })
            .await
        },
        &[
            "deleting",
            "namespace of ConfigMap NS-going/late is being deleted: configmaps \"late\" is forbidden: unable to create new content in namespace NS-going because it is being terminated; Retry { after: None }",
            "Terminating",
        ],
    )
    .await
}

/// The model knows how fields merge, not which there are: this is asked of the real one alone.
#[tokio::test]
async fn a_field_that_does_not_exist_is_refused() -> Result<()> {
    let side = real().await?;
    let mut body = deployment(&side, &json!({}));
    body["spec"]["replicaz"] = json!(2);
    let error = apply(&side, &body, false).await.expect_err("strict validation");
    ensure!(error.remedy() == Remedy::Object && error.to_string().contains("replicaz"), "{error:?}");
    Ok(())
}

async fn apply(side: &Side, body: &Value, force: bool) -> Result<Response, ClusterError> {
    let object = ObjectRef::of(body).expect("cases are written with whole objects");
    side.send(Request::Apply { object, body: body.clone(), force, dry_run: false }).await
}

/// Asks what an apply would do.
async fn dry_run(side: &Side, body: &Value, force: bool) -> Result<Response, ClusterError> {
    let object = ObjectRef::of(body).expect("cases are written with whole objects");
    side.send(Request::Apply { object, body: body.clone(), force, dry_run: true }).await
}

async fn wait_until(side: &Side, object: &ObjectRef, expected: &str) -> Result<Value> {
    wait_for(expected, PATIENCE, async || {
        let live = side.get(object).await?;
        let health = assess(&live);
        let found = format!("{:?} {}", health.status, health.reason);
        ensure!(found == expected, "{found}: {}", live["status"]);
        Ok(live)
    })
    .await
}

async fn pods(side: &Side) -> Result<Vec<Value>> {
    let request = Request::List {
        kind: Gvk::new("v1", "Pod"),
        namespace: side.namespace().into(),
        label_selector: "app=gateway".into(),
    };
    match side.send(request).await? {
        Response::List(pods) => Ok(pods),
        other @ (Response::Object(_) | Response::Deleted | Response::Deleting | Response::Version(_)) => {
            bail!("pods were asked for, {other:?} came")
        }
    }
}

fn assess(object: &Value) -> health::Health {
    health::assess(object, &CONTEXT)
}

fn uid(object: &Value) -> String {
    object["metadata"]["uid"].as_str().unwrap_or_default().to_owned()
}

fn config(side: &Side, name: &str, data: Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": side.namespace()}, "data": data,
    })
}

fn deployment(side: &Side, pod_labels: &Value) -> Value {
    let mut labels = json!({"app": "gateway"});
    for (key, value) in pod_labels.as_object().into_iter().flatten() {
        labels[key.as_str()] = value.clone();
    }
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "gateway", "namespace": side.namespace()},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "gateway"}},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{"name": "app", "image": "gateway:1"}]},
            },
        },
    })
}
