//! The script's third part: what happened, as the hub tells it in events.

use super::script::{Expected, Step, hub, step, with_input};
use Expected::{Fails, Prints, PrintsWithout};

const TOWER: &str = "
apiVersion: edgefleet.dev/v1alpha1
kind: Cluster
metadata: {name: tower-0021, labels: {region: eu-north}}
spec: {accepted: true}
---
apiVersion: edgefleet.dev/v1alpha1
kind: Cluster
metadata: {name: tower-0022}
spec: {}
";

const FREEZE: &str = "
apiVersion: edgefleet.dev/v1alpha1
kind: Freeze
metadata: {name: fair}
spec: {reason: trade fair}
";

const APPLICATION: &str = "
apiVersion: edgefleet.dev/v1alpha1
kind: Application
metadata: {name: meter, namespace: radio}
spec:
  bundle: meter-1.0.0
  placement: {clusterSelector: {}}
";

const EVENT: &str = "
apiVersion: v1
kind: Event
metadata: {name: mine, namespace: default}
involvedObject: {kind: Cluster, name: tower-0021}
reason: Believed
message: it is mine
";

/// A real API server tells nothing of custom resources, so all of this is the hub's alone.
pub(crate) const TOLD: &[Step] = &[
    hub(with_input("create -f -", TOWER, Prints(&["tower-0021 created", "tower-0022 created"]))),
    hub(step(
        "patch cluster tower-0021 --type merge -p '{\"spec\":{\"hold\":{\"reason\":\"crane on site\"}}}'",
        Prints(&["patched"]),
    )),
    hub(step(
        "describe cluster tower-0021",
        Prints(&[
            "Events:",
            "Type",
            "Reason",
            "From",
            "Normal",
            "Accepted",
            "Held",
            "edgefleet",
            ": crane on site",
        ]),
    )),
    // The same again is counted, where nothing but the time differs.
    hub(step("label cluster tower-0022 ring=1", Prints(&["labeled"]))),
    hub(step("label cluster tower-0022 ring=2 --overwrite", Prints(&["labeled"]))),
    hub(step("describe cluster tower-0022", Prints(&["(x2 over ", "labels changed by"]))),
    hub(step("label cluster tower-0022 ring=2 --overwrite", Prints(&["not labeled"]))),
    hub(step("describe cluster tower-0022", PrintsWithout(&["(x2 over "], "(x3"))),
    hub(step(
        "get events",
        Prints(&["LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE", "Normal", "cluster/tower-0021", "Held"]),
    )),
    hub(step(
        "get events -o wide",
        Prints(&["SOURCE", "FIRST SEEN", "COUNT", "edgefleet", "tower-0021.cluster-"]),
    )),
    hub(step("get ev --sort-by=.lastTimestamp --no-headers", PrintsWithout(&["tower-0022"], "TYPE"))),
    hub(step(
        "get events --field-selector involvedObject.kind=Cluster,involvedObject.name=tower-0021,reason=Held",
        PrintsWithout(&["Held"], "Accepted"),
    )),
    hub(step("get events -A --field-selector type=Warning", PrintsWithout(&[], "tower"))),
    hub(step(
        "get events -A --field-selector reason!=Held,source=edgefleet",
        PrintsWithout(&["Accepted"], "Held"),
    )),
    hub(step("get events --field-selector involvedObject.color=red", Fails(&["field label not supported"]))),
    hub(step("get clusters --field-selector reason=Held", Fails(&["field label not supported"]))),
    hub(step("events", Prints(&["LAST SEEN", "Cluster/tower-0021", "Held"]))),
    hub(step("events --for cluster/tower-0022", PrintsWithout(&["labels changed by"], "tower-0021"))),
    hub(step("events --for cluster.edgefleet.dev/tower-0021 --types=Warning", PrintsWithout(&[], "Held"))),
    hub(step(
        "get events -o yaml --chunk-size=1",
        Prints(&["kind: Event", "count: 2", "reportingComponent: edgefleet"]),
    )),
    hub(step(
        "get --raw '/api/v1/events?watch=1&timeoutSeconds=1&allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&fieldSelector=involvedObject.name%3Dtower-0021'",
        Prints(&[
            "\"type\":\"ADDED\"",
            "\"type\":\"BOOKMARK\"",
            "\"kind\":\"Event\"",
            "\"apiVersion\":\"v1\"",
        ]),
    )),
    hub(step("get event absent", Fails(&["events \"absent\" not found"]))),
    hub(step("auth can-i watch events", Prints(&["yes"]))),
    // Nobody but the hub tells.
    hub(with_input("create -f - --validate=false", EVENT, Fails(&["(MethodNotAllowed)"]))),
    hub(step("delete events --all", Fails(&["(MethodNotAllowed)"]))),
    // Who did what, and why.
    hub(with_input("create -f -", FREEZE, Prints(&["fair created"]))),
    hub(step("annotate freeze fair edgefleet.dev/unfreeze='it is over'", Prints(&["annotated"]))),
    hub(step("delete freeze fair", Prints(&["deleted"]))),
    hub(step("events --for freeze/fair", Prints(&["Frozen", ": trade fair", "Lifted", ": it is over"]))),
    hub(with_input("apply -f -", APPLICATION, Prints(&["meter created"]))),
    hub(step(
        "annotate app -n radio meter edgefleet.dev/approve='1: the depot closes'",
        Prints(&["annotated"]),
    )),
    hub(step(
        "describe app -n radio meter",
        Prints(&["Created", "bundle meter-1.0.0", "Approved", ": the depot closes"]),
    )),
    hub(step("get events -n radio", PrintsWithout(&["application/meter"], "cluster/"))),
    // What happened to an object stays when it goes, and is not what happens to the next of its name.
    hub(step("delete app -n radio meter", Prints(&["deleted"]))),
    hub(with_input("apply -f -", APPLICATION, Prints(&["meter created"]))),
    hub(step("describe app -n radio meter", PrintsWithout(&["Created"], "Approved"))),
    hub(step("events -n radio --for app/meter", Prints(&["Approved", "Deleted", "Created"]))),
    hub(step("delete app -n radio meter", Prints(&["deleted"]))),
    hub(step("get namespaces", PrintsWithout(&[], "radio"))),
    hub(step("delete clusters --all", Prints(&["tower-0021", "tower-0022"]))),
];
