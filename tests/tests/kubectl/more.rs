//! The script's second part: server-side apply, editing, replacing, deleting, and bad input of more sorts.

use super::script::{Expected, Step, apart, edit, step, with_input};
use Expected::{Fails, Prints, PrintsWithout};

const DECLARED: &str = "
apiVersion: edgefleet.dev/v1alpha1
kind: Cluster
metadata: {name: tower-0011, labels: {region: eu-north, stage: prod}}
spec: {accepted: true, hold: {reason: crane on site}}
";

const LESS_DECLARED: &str = "
apiVersion: edgefleet.dev/v1alpha1
kind: Cluster
metadata: {name: tower-0011, labels: {region: eu-north}}
spec: {accepted: true}
";

const BY_ANOTHER: &str = "
apiVersion: edgefleet.dev/v1alpha1
kind: Cluster
metadata: {name: tower-0011, labels: {owner: ann}}
spec: {accepted: false}
";

const STATUS: &str = "
apiVersion: edgefleet.dev/v1alpha1
kind: Cluster
metadata: {name: tower-0011}
status: {agent: 0.9.0}
";

const MISSPELT: &str = "
apiVersion: edgefleet.dev/v1alpha1
kind: Cluster
metadata: {name: tower-0019}
spec: {acepted: true, hold: {reason: x, untill: y}}
";

const OTHER_VERSION: &str = "
apiVersion: edgefleet.dev/v1
kind: Cluster
metadata: {name: tower-0019}
spec: {}
";

const OTHER_KIND: &str = "
apiVersion: edgefleet.dev/v1alpha1
kind: Clutter
metadata: {name: tower-0019}
spec: {}
";

const NAMELESS: &str = "
apiVersion: edgefleet.dev/v1alpha1
kind: Cluster
metadata: {labels: {a: b}}
spec: {}
";

const APPLICATION: &str = "
apiVersion: edgefleet.dev/v1alpha1
kind: Application
metadata: {name: core, namespace: radio}
spec:
  bundle: core-1.0.0
  placement: {clusterSelector: {matchLabels: {stage: prod}}}
  overrides:
  - {clusterSelector: {matchLabels: {region: eu-north}}, parameters: {level: debug}}
";

const WITHOUT_BUNDLE: &str = "
apiVersion: edgefleet.dev/v1alpha1
kind: Application
metadata: {name: core, namespace: radio}
spec:
  placement: {clusterSelector: {}}
";

const WRONG_MODE: &str = "
apiVersion: edgefleet.dev/v1alpha1
kind: Application
metadata: {name: core, namespace: radio}
spec:
  bundle: core-1.0.0
  placement: {clusterSelector: {}}
  mode: Guess
";

pub(crate) const MORE: &[Step] = &[
    // Server-side apply (KEP-555).
    with_input(
        "apply --server-side -f - --dry-run=server",
        DECLARED,
        Prints(&["serverside-applied (server dry run)"]),
    ),
    step("get cluster tower-0011", Fails(&["(NotFound)"])),
    with_input(
        "apply --server-side -f -",
        DECLARED,
        Prints(&["cluster.edgefleet.dev/tower-0011 serverside-applied"]),
    ),
    with_input(
        "apply --server-side -f -",
        DECLARED,
        Prints(&["cluster.edgefleet.dev/tower-0011 serverside-applied"]),
    ),
    step(
        "get cluster tower-0011 -o yaml --show-managed-fields",
        Prints(&["manager: kubectl", "operation: Apply", "f:accepted: {}", "f:reason: {}", "generation: 1"]),
    ),
    step("get cluster tower-0011 -o yaml", PrintsWithout(&["tower-0011"], "managedFields")),
    with_input(
        "apply --server-side --field-manager=ann -f -",
        BY_ANOTHER,
        Fails(&["Apply failed with 1 conflict", "conflict with \"kubectl\"", ".spec.accepted"]),
    ),
    with_input(
        "apply --server-side --field-manager=ann --force-conflicts -f -",
        BY_ANOTHER,
        Prints(&["serverside-applied"]),
    ),
    step(
        "get cluster tower-0011 -o jsonpath='{.spec.accepted} {.metadata.labels}'",
        Prints(&["false", "ann", "prod"]),
    ),
    with_input("apply --server-side -f -", DECLARED, Fails(&["conflict with \"ann\": .spec.accepted"])),
    step(
        "patch cluster tower-0011 --type merge --field-manager=bob -p '{\"spec\":{\"hold\":{\"reason\":\"storm\"}}}'",
        Prints(&["tower-0011 patched"]),
    ),
    with_input(
        "apply --server-side -f -",
        DECLARED,
        Fails(&[
            "Apply failed with 2 conflicts",
            "conflicts with \"bob\" using edgefleet.dev/v1alpha1",
            ".spec.hold.reason",
        ]),
    ),
    with_input("apply --server-side --force-conflicts -f -", DECLARED, Prints(&["serverside-applied"])),
    // What it declares no more goes, unless somebody else owns it too.
    with_input("apply --server-side -f -", LESS_DECLARED, Prints(&["serverside-applied"])),
    step(
        "get cluster tower-0011 -o jsonpath='{.spec} {.metadata.labels}'",
        PrintsWithout(&["accepted", "ann"], "stage"),
    ),
    step(
        "get cluster tower-0011 -o yaml --show-managed-fields",
        Prints(&["manager: ann", "manager: kubectl"]),
    ),
    with_input("apply --server-side --subresource=status -f -", STATUS, Prints(&["serverside-applied"])),
    step(
        "get cluster tower-0011 -o yaml --show-managed-fields",
        Prints(&["subresource: status", "agent: 0.9.0"]),
    ),
    apart(
        "a real API server names them in any order, and not always all",
        with_input("apply --server-side -f -", MISSPELT, Fails(&["field not declared in schema"])),
    ),
    with_input("apply --server-side -f -", NAMELESS, Fails(&["name"])),
    // A client-side apply is taken over by a server-side one.
    with_input("apply -f -", APPLICATION, Prints(&["application.edgefleet.dev/core created"])),
    step("apply view-last-applied -n radio application/core", Prints(&["bundle: core-1.0.0"])),
    with_input(
        "apply --server-side -f -",
        APPLICATION,
        Prints(&["application.edgefleet.dev/core serverside-applied"]),
    ),
    step(
        "get application -n radio core -o yaml --show-managed-fields",
        PrintsWithout(&["operation: Apply", "f:overrides"], "operation: Update"),
    ),
    with_input("apply -f -", APPLICATION, Prints(&["application.edgefleet.dev/core"])),
    // Editing.
    edit("sed -i s/true/false/", "edit cluster tower-0011", Prints(&["tower-0011 edited"])),
    edit("true", "edit cluster tower-0011", Prints(&[])),
    edit("sed -i s/core-1.0.0/core-1.0.1/", "edit -n radio application core", Prints(&["core edited"])),
    apart(
        "a real API server quotes the whole object that it refuses",
        edit("sed -i s/accepted/acepted/", "edit cluster tower-0011", Fails(&["acepted"])),
    ),
    edit("sed -i s/false/maybe/", "edit cluster tower-0011", Fails(&["is invalid"])),
    step("get cluster tower-0011 -o jsonpath='{.spec.accepted}'", Prints(&["false"])),
    // Reading in more ways.
    step(
        "get cluster tower-0011 -o custom-columns=NAME:.metadata.name,HOLD:.spec.hold.reason",
        Prints(&["NAME", "<none>"]),
    ),
    step(
        "get cluster tower-0011 -o go-template='{{.metadata.name}} {{.spec.accepted}}'",
        Prints(&["tower-0011 false"]),
    ),
    step("get cluster tower-0011 tower-0404", Fails(&["tower-0404\" not found"])),
    step("get cluster tower-0404 --ignore-not-found", Prints(&[])),
    step("get cluster/tower-0011 application/core -n radio", Prints(&["tower-0011", "core-1.0.1"])),
    apart(
        "kubectl prints labels in any order",
        step("label cluster tower-0011 --list", Prints(&["region=eu-north"])),
    ),
    apart(
        "a real API server tells nothing of custom resources",
        step("describe application -n radio core", Prints(&["core-1.0.1", "eu-north", "Events:"])),
    ),
    step("describe cluster tower-0404", Fails(&["not found"])),
    step("explain cluster.spec.accepted", Prints(&["FIELD: accepted <boolean>"])),
    step("explain application.spec.overrides.parameters", Prints(&["FIELD: parameters"])),
    step("explain cluster.spec.nothing", Fails(&["does not exist"])),
    step("explain application.spec.placement.onUnmatch", Prints(&["ENUM:", "Leave"])),
    // Replacing and patching.
    step(
        "patch application -n radio core --type json -p '[{\"op\":\"replace\",\"path\":\"/spec/bundle\",\"value\":\"core-1.0.2\"}]'",
        Prints(&["core patched"]),
    ),
    apart(
        "the hub says which operation failed",
        step(
            "patch application -n radio core --type json -p '[{\"op\":\"remove\",\"path\":\"/spec/nothing\"}]'",
            Fails(&["invalid"]),
        ),
    ),
    apart(
        "each server has its own JSON library, and its words",
        step("patch application -n radio core --type json -p '{}'", Fails(&["(BadRequest)"])),
    ),
    apart(
        "each server has its own JSON library, and its words",
        step("patch application -n radio core --type merge -p '[1]'", Fails(&["(BadRequest)"])),
    ),
    apart(
        "each server has its own JSON library, and its words",
        step("patch application -n radio core --type merge -p 'no json'", Fails(&["(BadRequest)"])),
    ),
    step(
        "patch application -n radio core --type merge --dry-run=server -p '{\"spec\":{\"bundle\":\"core-9\"}}' -o jsonpath='{.spec.bundle}'",
        Prints(&["core-9"]),
    ),
    step("get application -n radio core -o jsonpath='{.spec.bundle}'", Prints(&["core-1.0.2"])),
    step(
        "patch application -n radio core --type merge -p '{\"metadata\":{\"name\":\"other\"}}'",
        Fails(&["the name of the object"]),
    ),
    step("patch application -n radio absent --type merge -p '{}'", Fails(&["(NotFound)"])),
    with_input("replace -f -", WITHOUT_BUNDLE, Fails(&["spec.bundle", "Required value"])),
    with_input("replace -f -", WRONG_MODE, Fails(&["spec.mode", "Guess"])),
    with_input("replace -f -", MISSPELT, Fails(&["unknown field"])),
    apart(
        "the hub has no definitions among which kubectl could look for the version",
        with_input(
            "create -f -",
            OTHER_VERSION,
            Fails(&["no matches for kind \"Cluster\" in version \"edgefleet.dev/v1\""]),
        ),
    ),
    apart(
        "the hub has no definitions among which kubectl could look for the kind",
        with_input("create -f -", OTHER_KIND, Fails(&["no matches for kind \"Clutter\""])),
    ),
    with_input("create -f -", NAMELESS, Fails(&["name"])),
    with_input("create -f -", "kind: [", Fails(&["error"])),
    with_input(
        "create -f - --dry-run=client -o name",
        DECLARED,
        Prints(&["cluster.edgefleet.dev/tower-0011"]),
    ),
    apart("a real API server says it twice", step("annotate cluster tower-0011 'a b=c'", Fails(&["a b"]))),
    step("annotate cluster tower-0011 note=1", Prints(&["annotated"])),
    step("annotate cluster tower-0011 note=2", Fails(&["already has a value"])),
    step("annotate cluster tower-0011 note=2 --overwrite --resource-version=1", Fails(&["(Conflict)"])),
    step("annotate cluster tower-0011 note-", Prints(&["annotated"])),
    // Deleting, in every way.
    step("delete cluster tower-0404", Fails(&["(NotFound)"])),
    step("delete cluster tower-0404 --ignore-not-found", Prints(&[])),
    step("delete cluster tower-0011 --dry-run=server", Prints(&["tower-0011\" deleted"])),
    step("delete application -n radio core --cascade=foreground --timeout=30s", Prints(&["core\" deleted"])),
    with_input("apply -f -", APPLICATION, Prints(&["application.edgefleet.dev/core created"])),
    step("delete application -n radio core --cascade=orphan --timeout=30s", Prints(&["core\" deleted"])),
    with_input("create -f - --save-config", APPLICATION, Prints(&["application.edgefleet.dev/core created"])),
    with_input("replace --force -f -", APPLICATION, Prints(&["core\" deleted", "core replaced"])),
    step("delete application -n radio core --now", Prints(&["core\" deleted"])),
    step(
        "delete --raw /apis/edgefleet.dev/v1alpha1/clusters/tower-0011",
        Prints(&["\"status\":\"Success\""]),
    ),
    step("get clusters,applications -A", Prints(&[])),
];
