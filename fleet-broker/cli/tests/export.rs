//! Files for clusters without a link at the command line: written, shown, checked; and what is said when not.
#![allow(clippy::unwrap_used, reason = "a test says no by panicking")]

mod desk;

use std::fs;

use desk::{CONFIG, Fleet};
use edge_agent::{
    config::{Kubernetes, StateDir},
    join,
};
use protocol::{
    carry::{Label, Way, Writer},
    ids::{ClusterId, FleetId},
    time::UnixSeconds,
};

const APPLICATION: &str = "apiVersion: edgefleet.dev/v1alpha1\nkind: Application\nmetadata: {namespace: radio, \
    name: gateway}\nspec:\n  bundle: gateway-1.0.0\n  placement: {clusterSelector: {matchLabels: {region: north}}}\n";

fn join(fleet: &Fleet, name: &str) {
    let state = StateDir::new(&fleet.desk.path(name));
    fleet.runtime.block_on(async {
        let code = fleet.operator.join_code(&ClusterId::new(name).unwrap()).await.unwrap();
        join::join(&code, &state, Kubernetes::Simulated).await.unwrap();
    });
}

/// A file of reports in which there are none.
fn empty_report(fleet: &Fleet, file: &str) {
    let (id, cluster) = (FleetId::new("acme").unwrap(), ClusterId::new("tower-1").unwrap());
    let made = UnixSeconds(1_800_000_000);
    let (writer, mut bytes) = Writer::begin(Label { fleet: id, cluster, made, way: Way::ToHub });
    bytes.extend(writer.end());
    fs::write(fleet.desk.path(file), bytes).unwrap();
}

#[test]
fn what_a_cluster_without_a_link_needs_is_exported_and_shown() {
    let fleet = Fleet::new();
    fleet.hub_run("export tower-1").fails(1, "cluster tower-1 has not joined");
    fleet.hub_run("export tower-9").fails(3, "\"tower-9\" not found");
    join(&fleet, "tower-1");
    fleet.build("1.0.0", CONFIG);
    fleet.hub_run("bundle push 1.0.0.bundle").ok();
    fleet.apply(APPLICATION, &[("tower-1", "gateway-1.0.0")]);

    let made = fleet.hub_run("export tower-1").ok();
    for part in
        ["tower-1.carry: updates for a cluster", "cluster  tower-1 (fleet acme)", "radio/gateway 1.0.0\n"]
    {
        assert!(made.data.contains(part), "{} lacks {part}", made.data);
    }
    assert!(made.messages.contains("edge-agent import tower-1.carry"), "{}", made.messages);
    assert_eq!(fleet.desk.run("export --show tower-1.carry").ok().data, made.data);
    // Another takes its place.
    fleet.hub_run("freeze --reason trade-fair").ok();
    let frozen = fleet.hub_run("export tower-1 --full -o tower-1.carry").ok();
    for part in ["warning: radio/gateway may not start there: freeze ", ": trade-fair"] {
        assert!(frozen.messages.contains(part), "{}", frozen.messages);
    }

    fleet.hub_run("cluster report tower-1.carry").fails(2, "`edge-agent import` takes it at the site");
    empty_report(&fleet, "back.report");
    let taken = fleet.hub_run("cluster report back.report").ok();
    assert!(taken.data.starts_with("nothing new: the hub knows all that tower-1 reported"), "{}", taken.data);
    let whole = fs::read(fleet.desk.path("tower-1.carry")).unwrap();
    fs::write(fleet.desk.path("half.carry"), &whole[..whole.len() / 2]).unwrap();
    fleet.desk.run("export --show half.carry").fails(1, "before its own end: copy it again");
    fleet.desk.run("export --show none.carry").fails(3, "cannot read none.carry");
    for wrong in ["export", "export tower-1 --show tower-1.carry", "cluster report"] {
        assert_eq!(fleet.desk.run(wrong).code, Some(2), "{wrong}");
    }
}
