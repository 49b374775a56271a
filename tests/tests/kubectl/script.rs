//! The script: one hub, these commands in this order.

/// One command and what it must do.
pub(crate) struct Step {
    /// kubectl's arguments, separated by spaces; single quotes hold one together.
    pub(crate) command: &'static str,
    /// Its standard input.
    pub(crate) input: &'static str,
    /// The program with which `kubectl edit` has the object edited.
    pub(crate) editor: &'static str,
    pub(crate) expected: Expected,
    pub(crate) on: On,
}

/// Where a command runs, and what has to be the same there.
pub(crate) enum On {
    /// On the hub and on a real API server, which answer the same.
    Both,
    /// On both, which each answer as expected, and differ beside it for a reason.
    Apart(&'static str),
    /// On the hub alone: it is about what no other API server has.
    Hub,
}

pub(crate) enum Expected {
    /// It succeeds, and prints all of these.
    Prints(&'static [&'static str]),
    /// It succeeds, prints all of these, and not that.
    PrintsWithout(&'static [&'static str], &'static str),
    /// It fails, and says all of these.
    Fails(&'static [&'static str]),
}

use Expected::{Fails, Prints, PrintsWithout};

/// Splits a command into arguments.
pub(crate) fn split(command: &str) -> Vec<String> {
    let mut arguments = vec![String::new()];
    for (index, part) in command.split('\'').enumerate() {
        for (position, word) in part.split(' ').enumerate() {
            let last = arguments.len() - 1;
            if index % 2 == 1 && position > 0 {
                arguments[last] += " ";
            } else if position > 0 && !arguments[last].is_empty() {
                arguments.push(String::new());
            }
            let last = arguments.len() - 1;
            arguments[last] += word;
        }
    }
    arguments
}

pub(crate) const CLUSTER: &str = "
apiVersion: edgefleet.dev/v1alpha1
kind: Cluster
metadata:
  name: tower-0001
  labels: {region: eu-north, stage: prod}
spec: {}
";

const MORE_CLUSTERS: &str = "
apiVersion: edgefleet.dev/v1alpha1
kind: Cluster
metadata: {name: tower-0002, labels: {region: eu-north, stage: test}}
spec: {accepted: true}
---
apiVersion: edgefleet.dev/v1alpha1
kind: Cluster
metadata: {name: tower-0003, labels: {region: eu-south, stage: prod}}
spec: {accepted: true, hold: {reason: crane on site}}
";

const MISSPELT: &str = "
apiVersion: edgefleet.dev/v1alpha1
kind: Cluster
metadata: {name: tower-0009}
spec: {acepted: true}
";

const WRONG_TYPE: &str = "
apiVersion: edgefleet.dev/v1alpha1
kind: Cluster
metadata: {name: tower-0009}
spec: {accepted: 'yes'}
";

const BAD_NAME: &str = "
apiVersion: edgefleet.dev/v1alpha1
kind: Cluster
metadata: {name: t.1}
spec: {}
";

const BUNDLE: &str = "
apiVersion: edgefleet.dev/v1alpha1
kind: Bundle
metadata: {name: gateway-1.0.0, namespace: radio}
spec:
  application: gateway
  version: 1.0.0
  digest: sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
  pack: sha256:60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752
  release: dGVzdA==
";

const APPLICATION: &str = "
apiVersion: edgefleet.dev/v1alpha1
kind: Application
metadata: {name: gateway, namespace: radio}
spec:
  bundle: gateway-1.0.0
  placement: {clusterSelector: {matchLabels: {stage: prod}}}
  parameters: {logLevel: info}
";

const APPLICATION_CHANGED: &str = "
apiVersion: edgefleet.dev/v1alpha1
kind: Application
metadata: {name: gateway, namespace: radio}
spec:
  bundle: gateway-1.0.0
  placement: {clusterSelector: {matchLabels: {stage: prod}}}
";

const ASSIGNMENT: &str = "
apiVersion: edgefleet.dev/v1alpha1
kind: Assignment
metadata: {name: gateway.tower-0001, namespace: radio}
";

pub(crate) const fn step(command: &'static str, expected: Expected) -> Step {
    with_input(command, "", expected)
}

pub(crate) const fn with_input(command: &'static str, input: &'static str, expected: Expected) -> Step {
    Step { command, input, editor: "false", expected, on: On::Both }
}

/// An object is edited as `editor` does it.
pub(crate) const fn edit(editor: &'static str, command: &'static str, expected: Expected) -> Step {
    Step { editor, ..step(command, expected) }
}

/// The step, only for the hub.
pub(crate) const fn hub(step: Step) -> Step {
    Step { on: On::Hub, ..step }
}

/// The step, with answers that differ for a reason.
pub(crate) const fn apart(reason: &'static str, step: Step) -> Step {
    Step { on: On::Apart(reason), ..step }
}

pub(crate) const STEPS: &[Step] = &[
    // What there is.
    hub(step("version", Prints(&["Server Version: v1.36.0+edgefleet."]))),
    apart(
        "a real API server serves more kinds",
        step(
            "api-resources",
            Prints(&[
                "clusters",
                "edgefleet.dev/v1alpha1",
                "applications",
                "app",
                "Application",
                "namespaces",
            ]),
        ),
    ),
    step(
        "api-resources --namespaced=false --api-group=edgefleet.dev -o name",
        Prints(&["clusters.edgefleet.dev"]),
    ),
    apart(
        "a real API server serves more groups",
        step("api-versions", Prints(&["edgefleet.dev/v1alpha1", "v1"])),
    ),
    apart(
        "the hub says it shorter what metadata is",
        step(
            "explain cluster",
            Prints(&["GROUP:      edgefleet.dev", "One edge cluster", "spec", "metadata"]),
        ),
    ),
    step("explain cluster.spec.hold", Prints(&["nobody changes this cluster", "reason", "-required-"])),
    step("explain application.spec --recursive", Prints(&["clusterSelector", "matchLabels", "onUnmatch"])),
    step("explain cluster.metadata.labels", Prints(&["FIELD: labels"])),
    step("get --raw /livez", Prints(&["ok"])),
    step("get --raw /readyz", Prints(&["ok"])),
    apart(
        "a real API server adds what only storage and collections need",
        step("get --raw /apis/edgefleet.dev/v1alpha1", Prints(&["\"applications/status\""])),
    ),
    apart("the hub says which path, in a Status", step("get --raw /nothing", Fails(&["NotFound"]))),
    step("get rollouts", Fails(&["the server doesn't have a resource type \"rollouts\""])),
    // Nothing yet.
    step("get clusters", Prints(&[])),
    step("get cluster tower-0001", Fails(&["(NotFound)", "clusters.edgefleet.dev \"tower-0001\" not found"])),
    // Creation, and what is refused.
    with_input("create -f -", CLUSTER, Prints(&["cluster.edgefleet.dev/tower-0001 created"])),
    with_input(
        "create -f -",
        CLUSTER,
        Fails(&["(AlreadyExists)", "clusters.edgefleet.dev \"tower-0001\" already exists"]),
    ),
    with_input(
        "create -f -",
        MISSPELT,
        Fails(&["(BadRequest)", "strict decoding error: unknown field \"spec.acepted\""]),
    ),
    with_input(
        "create -f - --validate=warn -o name",
        MISSPELT,
        Prints(&["cluster.edgefleet.dev/tower-0009"]),
    ),
    step("delete cluster tower-0009", Prints(&["cluster.edgefleet.dev \"tower-0009\" deleted"])),
    with_input("create -f -", WRONG_TYPE, Fails(&["The Cluster \"tower-0009\" is invalid", "spec.accepted"])),
    hub(with_input(
        "create -f -",
        BAD_NAME,
        Fails(&["The Cluster \"t.1\" is invalid", "metadata.name", "[a-z0-9-]{3,63}"]),
    )),
    with_input(
        "create -f - --dry-run=server",
        MORE_CLUSTERS,
        Prints(&["tower-0002 created (server dry run)"]),
    ),
    with_input("create -f -", MORE_CLUSTERS, Prints(&["tower-0002 created", "tower-0003 created"])),
    // Reading.
    step(
        "get clusters",
        Prints(&["NAME", "ACCEPTED", "CONNECTED", "AGE", "tower-0001", "false", "tower-0003", "true"]),
    ),
    step("get clusters -o wide", Prints(&["HOLD", "KUBERNETES", "crane on site"])),
    step(
        "get clusters -o name",
        Prints(&["cluster.edgefleet.dev/tower-0001", "cluster.edgefleet.dev/tower-0002"]),
    ),
    step(
        "get cluster tower-0003 -o yaml",
        Prints(&["kind: Cluster", "reason: crane on site", "generation: 1"]),
    ),
    step("get clusters -o json", Prints(&["\"kind\": \"List\"", "\"tower-0002\""])),
    step(
        "get clusters -o jsonpath='{.items[*].metadata.name}'",
        Prints(&["tower-0001 tower-0002 tower-0003"]),
    ),
    step("get clusters -l stage=prod", PrintsWithout(&["tower-0001", "tower-0003"], "tower-0002")),
    step("get clusters -l 'region in (eu-north), stage!=prod'", PrintsWithout(&["tower-0002"], "tower-0001")),
    step("get clusters -l 'nothing'", PrintsWithout(&[], "tower")),
    step(
        "get clusters --field-selector metadata.name=tower-0002",
        PrintsWithout(&["tower-0002"], "tower-0001"),
    ),
    step("get clusters --field-selector spec.accepted=true", Fails(&["field label not supported"])),
    step("get clusters --chunk-size=1 -o name", Prints(&["tower-0001", "tower-0002", "tower-0003"])),
    step("get clusters --show-labels", Prints(&["LABELS", "region=eu-north,stage=prod"])),
    step("get clusters -L region", Prints(&["REGION", "eu-south"])),
    step("get clusters --sort-by='{.metadata.labels.region}'", Prints(&["tower-0001", "tower-0003"])),
    step("get clusters --no-headers", PrintsWithout(&["tower-0001"], "NAME")),
    apart(
        "what is in a token is each server's own",
        step(
            "get --raw '/apis/edgefleet.dev/v1alpha1/clusters?continue=nonsense'",
            Fails(&["continue key is not valid"]),
        ),
    ),
    step(
        "get --raw '/apis/edgefleet.dev/v1alpha1/clusters?watch=1&timeoutSeconds=1&resourceVersion=0'",
        Prints(&["\"type\":\"ADDED\"", "tower-0003"]),
    ),
    step(
        "get --raw '/apis/edgefleet.dev/v1alpha1/clusters?watch=true&timeoutSeconds=1&allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan'",
        Prints(&["\"type\":\"ADDED\"", "\"type\":\"BOOKMARK\"", "\"k8s.io/initial-events-end\":\"true\""]),
    ),
    hub(step(
        "get --raw '/apis/edgefleet.dev/v1alpha1/clusters?watch=true&timeoutSeconds=1&resourceVersion=99999999'",
        Prints(&["\"type\":\"ERROR\"", "Too large resource version"]),
    )),
    apart(
        "a real API server tells nothing of custom resources",
        step(
            "describe cluster tower-0003",
            Prints(&["Name:         tower-0003", "Reason:  crane on site", "Events:"]),
        ),
    ),
    // Changing.
    step("label cluster tower-0001 ring=2", Prints(&["tower-0001 labeled"])),
    step("label cluster tower-0001 ring=3", Fails(&["already has a value (2)"])),
    step("label cluster tower-0001 'ring=not a value'", Fails(&["a valid label must be"])),
    step(
        "label clusters --all fleet=a",
        Prints(&["tower-0001 labeled", "tower-0002 labeled", "tower-0003 labeled"]),
    ),
    step("label cluster tower-0001 ring-", Prints(&["tower-0001 unlabeled"])),
    step("get clusters -l ring", PrintsWithout(&[], "tower")),
    step("annotate cluster tower-0001 edgefleet.dev/note='on a hill'", Prints(&["tower-0001 annotated"])),
    step(
        "patch cluster tower-0001 --type merge -p '{\"spec\":{\"accepted\":true}}'",
        Prints(&["tower-0001 patched"]),
    ),
    step(
        "patch cluster tower-0001 --type merge -p '{\"spec\":{\"accepted\":true}}'",
        Prints(&["patched (no change)"]),
    ),
    step("get cluster tower-0001 -o jsonpath='{.spec.accepted} {.metadata.generation}'", Prints(&["true 2"])),
    apart(
        "the hub says which operation failed",
        step(
            "patch cluster tower-0001 --type json -p '[{\"op\":\"test\",\"path\":\"/spec/accepted\",\"value\":false}]'",
            Fails(&["is invalid"]),
        ),
    ),
    step(
        "patch cluster tower-0001 --type merge -p '{\"spec\":{\"acepted\":true}}'",
        Prints(&["patched (no change)"]),
    ),
    step(
        "patch cluster tower-0001 -p '{}'",
        Fails(&["application/strategic-merge-patch+json is not supported", "application/merge-patch+json"]),
    ),
    step(
        "patch cluster tower-0001 --subresource status --type merge -p '{\"status\":{\"agent\":\"0.1.0\"},\"spec\":{\"accepted\":false}}'",
        Prints(&["tower-0001 patched"]),
    ),
    step(
        "get cluster tower-0001 -o jsonpath='{.status.agent} {.spec.accepted} {.metadata.generation}'",
        Prints(&["0.1.0 true 2"]),
    ),
    step(
        "patch cluster tower-0001 --type merge -p '{\"metadata\":{\"resourceVersion\":\"2\"},\"spec\":{\"accepted\":false}}'",
        Fails(&["(Conflict)", "the object has been modified"]),
    ),
    // Namespaced kinds, and client-side apply.
    with_input("apply -f -", BUNDLE, Prints(&["bundle.edgefleet.dev/gateway-1.0.0 created"])),
    with_input("apply -f -", BUNDLE, Prints(&["bundle.edgefleet.dev/gateway-1.0.0 unchanged"])),
    hub(step(
        "patch bundle -n radio gateway-1.0.0 --type merge -p '{\"spec\":{\"signatures\":[{\"keyId\":\"k\"}]}}'",
        Fails(&["a Bundle never changes"]),
    )),
    with_input("apply -f -", APPLICATION, Prints(&["application.edgefleet.dev/gateway created"])),
    with_input("apply -f -", APPLICATION, Prints(&["application.edgefleet.dev/gateway unchanged"])),
    with_input("diff -f -", APPLICATION, Prints(&[])),
    with_input("apply -f -", APPLICATION_CHANGED, Prints(&["application.edgefleet.dev/gateway configured"])),
    step(
        "get app -n radio gateway -o yaml",
        PrintsWithout(&["onUnmatch: Leave", "mode: Enforce"], "parameters:"),
    ),
    step(
        "get applications,bundles -A",
        Prints(&["radio", "gateway-1.0.0", "application.edgefleet.dev/gateway"]),
    ),
    step(
        "get edgefleet -A",
        Prints(&["bundle.edgefleet.dev/gateway-1.0.0", "cluster.edgefleet.dev/tower-0001"]),
    ),
    step("get applications", Prints(&[])),
    apart(
        "those of the hub follow from what is in them",
        step("get namespaces", Prints(&["radio", "Active"])),
    ),
    step("get ns radio -o name", Prints(&["namespace/radio"])),
    step("get ns core", Fails(&["namespaces \"core\" not found"])),
    with_input("replace -f -", APPLICATION, Prints(&["application.edgefleet.dev/gateway replaced"])),
    // What the hub alone writes.
    step("get assignments -A", Prints(&[])),
    hub(with_input("create -f - --validate=false", ASSIGNMENT, Fails(&["(MethodNotAllowed)"]))),
    // Waiting and deleting.
    step(
        "wait application -n radio gateway --for=jsonpath='{.spec.mode}'=Enforce --timeout=10s",
        Prints(&["condition met"]),
    ),
    step(
        "wait application -n radio gateway --for=condition=Available --timeout=1s",
        Fails(&["timed out waiting for the condition"]),
    ),
    step("wait application -n radio gateway --for=delete --timeout=1s", Fails(&["timed out"])),
    step(
        "patch cluster tower-0002 --type merge -p '{\"metadata\":{\"finalizers\":[\"edgefleet.dev/test\"]}}'",
        Prints(&["tower-0002 patched"]),
    ),
    step("delete cluster tower-0002 --wait=false", Prints(&["tower-0002\" deleted"])),
    step("get cluster tower-0002 -o jsonpath='{.metadata.deletionTimestamp}'", Prints(&["T", "Z"])),
    step(
        "patch cluster tower-0002 --type merge -p '{\"metadata\":{\"finalizers\":null}}'",
        Prints(&["tower-0002 patched"]),
    ),
    step("wait cluster tower-0002 --for=delete --timeout=10s", Prints(&[])),
    step("delete clusters -l stage=prod", Prints(&["tower-0001\" deleted", "tower-0003\" deleted"])),
    step(
        "delete application,bundle -n radio --all",
        Prints(&["gateway\" deleted", "gateway-1.0.0\" deleted"]),
    ),
    step("get edgefleet -A", Prints(&[])),
    step("get clusters,applications,bundles -A", Prints(&[])),
    // Who may, and what is counted.
    hub(step("get clusters --token=wrong", Fails(&["Unauthorized"]))),
    hub(step(
        "get --raw /metrics",
        Prints(&["edgefleet_api_requests_total{verb=\"PATCH\",code=\"200\"}", "edgefleet_objects"]),
    )),
];
