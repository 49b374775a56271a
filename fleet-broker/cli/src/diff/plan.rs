//! Which clusters a change of an Application reaches, by the rules by which the hub places it.

use std::collections::BTreeMap;

use fleet_broker::{
    logic::fleet::{
        Labels,
        placement::Selection,
        rollout::{self, Change, View},
    },
    resources::{
        ApplicationSpec, Assignment, AssignmentState, AssignmentStatus, Cluster, Mode, ObjectRule, OnUnmatch,
    },
};
use protocol::{
    documents::Release,
    ids::{AppId, ClusterId},
};

/// What one cluster is told about an application.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Told {
    /// The bundle's name.
    pub bundle: String,
    /// Parameters that the Application sets.
    pub values: BTreeMap<String, String>,
    /// What must be available first.
    pub depends_on: Vec<String>,
    /// In which mode it is only looked at, and what of it is enforced already; none where all of it is enforced.
    pub looked_at: Option<String>,
}

/// Clusters that all go the same way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// What they run now; nothing where the application is new to them.
    pub from: Option<Told>,
    /// What they shall run; nothing where it is removed.
    pub to: Option<Told>,
    /// Their names.
    pub clusters: Vec<String>,
}

/// What a change of an application would mean for the fleet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// Which clusters change, and how.
    pub moves: Vec<Move>,
    /// How many clusters are selected.
    pub selected: usize,
    /// How many of them stay as they are.
    pub unchanged: usize,
    /// How many are no longer selected and keep what they run.
    pub left: usize,
    /// Why it would wait for an approval.
    pub approval: Option<String>,
}

/// What the hub knows of its clusters.
#[derive(Debug, Clone, Copy)]
pub struct Fleet<'a> {
    /// Every cluster.
    pub clusters: &'a [Cluster],
    /// How every application is on every cluster.
    pub assignments: &'a [Assignment],
}

/// Plans the change of `app` from `live`, as the hub has it, to `wanted`. Values that clusters were told are not
/// shown by the hub: they are taken to be those that `live` sets now.
///
/// # Errors
/// A selector that is none, in a sentence.
pub fn plan(
    app: &AppId,
    wanted: &ApplicationSpec,
    live: Option<&ApplicationSpec>,
    fleet: Fleet<'_>,
) -> Result<Plan, String> {
    let wanted_on = selection(wanted)?;
    let live = live.map(|live| Ok::<_, String>((live, selection(live)?))).transpose()?;
    let told = bundles(app, fleet.assignments);
    let removes = wanted.placement.on_unmatch == OnUnmatch::Remove;
    let mut plan = Plan::default();
    let (mut moves, mut change) = (BTreeMap::<_, Vec<String>>::new(), Change::default());
    let mut running = 0;
    for cluster in fleet.clusters.iter().filter(|cluster| cluster.spec.accepted) {
        let name = cluster.metadata.name.clone().unwrap_or_default();
        let labels = Labels::from(cluster.metadata.labels.clone().unwrap_or_default());
        let from = told.get(name.as_str()).map(|bundle| Told {
            bundle: (*bundle).to_owned(),
            ..live.as_ref().map_or_else(Told::nothing, |(live, live_on)| Told::on(live, live_on, &labels))
        });
        running += u64::from(from.is_some());
        let to = wanted_on.selects(&labels).then(|| Told::on(wanted, &wanted_on, &labels));
        plan.selected += usize::from(to.is_some());
        match (&from, &to) {
            (_, Some(_)) if from == to => plan.unchanged += 1,
            (None, None) => {}
            (Some(_), None) if !removes => plan.left += 1,
            (Some(_), None) => {
                change.remove.extend(ClusterId::new(&*name));
                moves.entry((from, to)).or_default().push(name);
            }
            (_, Some(_)) => moves.entry((from, to)).or_default().push(name),
        }
    }
    plan.moves = moves.into_iter().map(|((from, to), clusters)| Move { from, to, clusters }).collect();
    let (fleet, placed) = (fleet.clusters.len() as u64, plan.selected as u64);
    change.placed = placed;
    plan.approval =
        rollout::needs_approval(&change, View { fleet, placed, told: running, ..View::default() });
    Ok(plan)
}

/// Refuses parameters that `release` does not take, whichever cluster they are for.
///
/// # Errors
/// Which of them, in a sentence.
pub fn check_values(spec: &ApplicationSpec, release: &Release) -> Result<(), String> {
    selection(spec)?.check(release).map_err(in_spec)
}

/// The hub's own rule of who is selected and how they are set.
fn selection(spec: &ApplicationSpec) -> Result<Selection, String> {
    Selection::of(spec).map_err(in_spec)
}

fn in_spec(problem: String) -> String {
    format!("spec.{problem}")
}

impl Told {
    /// Without the values that `release` does not take: they were set for another one.
    pub fn settable(&self, release: &Release) -> Self {
        let takes = |name: &String, value: &String| {
            release.resolve(&BTreeMap::from([(name.clone(), value.clone())])).is_ok()
        };
        let mut told = self.clone();
        told.values.retain(|name, value| takes(name, value));
        told
    }

    /// What `spec` says to a cluster with these labels.
    fn on(spec: &ApplicationSpec, selection: &Selection, labels: &Labels) -> Self {
        let depends_on = spec.depends_on.iter().map(|one| one.application.clone()).collect();
        let looked_at = (spec.mode != Mode::Enforce).then(|| looked_at(spec));
        Self { bundle: spec.bundle.clone(), values: selection.values(labels).clone(), depends_on, looked_at }
    }

    fn nothing() -> Self {
        Self { bundle: String::new(), values: BTreeMap::new(), depends_on: Vec::new(), looked_at: None }
    }
}

/// Such as `DryRun`, or `Observe, enforcing Deployment radio/gateway`.
fn looked_at(spec: &ApplicationSpec) -> String {
    let rule = |rule: &ObjectRule| {
        let place = rule.namespace.as_ref().map(|name| format!("{name}/")).unwrap_or_default();
        format!("{} {place}{}", rule.kind, rule.name.as_deref().unwrap_or("*"))
    };
    let rules: Vec<String> = spec.enforce.iter().map(rule).collect();
    let enforced = if rules.is_empty() { String::new() } else { format!(", enforcing {}", rules.join(", ")) };
    format!("{:?}{enforced}", spec.mode)
}

/// The bundle that each cluster was told to run, by the cluster's name.
fn bundles<'a>(app: &AppId, assignments: &'a [Assignment]) -> BTreeMap<&'a str, &'a str> {
    let of_tenant = |one: &&Assignment| one.metadata.namespace.as_deref() == Some(app.tenant.as_str());
    let statuses = assignments.iter().filter(of_tenant).filter_map(|one| one.status.as_ref());
    let of_app = |status: &&AssignmentStatus| {
        status.application == app.name.as_str() && status.state != AssignmentState::Removing
    };
    statuses.filter(of_app).map(|status| (status.cluster.as_str(), status.bundle.as_str())).collect()
}
