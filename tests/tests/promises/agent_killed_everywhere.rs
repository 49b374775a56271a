//! Killed at any boundary it passes, the agent reaches the end that it reaches unkilled.
//!
//! A boundary is a place where a power cut is worth trying: within and around each transaction of the journal, before
//! and after each request to the API server, before each message. Every move below is made once without a kill,
//! which says what its end is, and then once for every boundary that the agent passes while it makes that move.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::unix::process::ExitStatusExt as _,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use edge_agent::{
    journal::{Held, Journal, MAX_BYTES},
    logic::entry::Row,
};
use edgefleet::bundle::Bundle;
use fleet_broker::resources::AssignmentState;
use futures::future::try_join_all;
use protocol::ids::Digest;
use rustix::process::Signal;
use serde_json::{Value, json};
use tests::wait_for;

use crate::harness::{APPLICATION, Site, name_of};
use crate::manifests::{TWO_WEBS, WEB_SERVICE};

/// Sites that are tried at once: an agent mostly waits, for a link, an answer, or the next look.
const LANES: u64 = 4;

/// Longest wait for the end of a move, with a restart in between; reached only by a test that fails.
const END: Duration = Duration::from_secs(120);

/// Bytes of an object whose content travels in several pieces, although it compresses to half.
const LARGE_BYTES: u64 = 200_000;

/// What an agent is killed in the middle of. In this order they lead back to where they began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Move {
    Install,
    /// One object changed, one is new, one is to be pruned, the others are the same.
    Upgrade,
    /// One object was changed by hand, another deleted.
    Heal,
    Remove,
}

const MOVES: [Move; 4] = [Move::Install, Move::Upgrade, Move::Heal, Move::Remove];

/// How a move ends, as far as it must be the same each time: what is in the namespace, how often it was changed, and
/// what the journal holds, in words.
type End = BTreeSet<String>;

/// One site and what was learned of it.
struct Lane {
    site: Site,
    /// The two versions of the application.
    bundles: [Bundle; 2],
    /// How each move ends.
    ends: BTreeMap<Move, End>,
    /// Identities at the end of the last move.
    uids: BTreeMap<String, String>,
    /// Kinds of boundaries at which the agent was killed, and how often.
    kills: BTreeMap<(Move, String), u64>,
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_killed_at_any_boundary_reaches_the_same_end() -> Result<()> {
    let begin = now();
    let lanes = try_join_all((1..=LANES).map(run)).await?;
    let mut by_move = BTreeMap::<Move, u64>::new();
    let mut by_kind = BTreeMap::<&str, u64>::new();
    for ((made, kind), count) in lanes.iter().flat_map(|lane| &lane.kills) {
        *by_move.entry(*made).or_default() += count;
        *by_kind.entry(kind).or_default() += count;
    }
    let total: u64 = by_move.values().sum();
    let spent = begin.elapsed().as_secs();
    println!("{total} boundaries, killed at each, the same end each time, in {spent} s");
    println!("by move: {by_move:?}\nby kind: {by_kind:?}");
    ensure!(by_move.len() == MOVES.len(), "a move was never killed: {by_move:?}");
    for kind in ["Row", "Commit", "Committed", "Request", "Answer", "Watch", "Publish", "Acknowledge"] {
        ensure!(by_kind.contains_key(kind), "never killed at a {kind}: {by_kind:?}");
    }
    Ok(())
}

/// Every [`LANES`]th boundary, from `first` on, until no move has that many.
async fn run(first: u64) -> Result<Lane> {
    let mut lane = Lane::start(first).await?;
    for made in MOVES {
        lane.make(made, 0).await?;
    }
    let mut boundary = first;
    let mut open: BTreeSet<Move> = MOVES.into();
    while !open.is_empty() {
        for made in MOVES {
            let until = if open.contains(&made) { boundary } else { 0 };
            let killed = lane.make(made, until).await.with_context(|| format!("{made:?}, killed at {until}"));
            if !killed? {
                open.remove(&made);
            }
        }
        boundary += LANES;
    }
    Ok(lane)
}

impl Lane {
    async fn start(number: u64) -> Result<Self> {
        let mut site = Site::start(&format!("everywhere-{number}")).await?;
        site.kubectl(&["create", "namespace", &site.name]).await?;
        site.stop_agent().await?;
        let bundles = [
            site.publish(APPLICATION, &manifests(1)).await?,
            site.publish(APPLICATION, &manifests(2)).await?,
        ];
        let (ends, uids, kills) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Ok(Self { site, bundles, ends, uids, kills })
    }

    /// Makes a move with an agent that aborts at `boundary`, and then with one that does not. Whether it aborted.
    async fn make(&mut self, made: Move, boundary: u64) -> Result<bool> {
        self.prepare(made).await?;
        self.site.start_agent_until(boundary)?;
        let killed = self.ended(made).await?;
        let is_killed = killed.is_some();
        if let Some(kind) = killed {
            *self.kills.entry((made, kind)).or_default() += 1;
            self.site.start_agent()?;
            ensure!(self.ended(made).await?.is_none(), "the agent aborted although it was not asked to");
        }
        self.compare(made).await?;
        Ok(is_killed)
    }

    /// What happens to the site, while its agent does not run.
    async fn prepare(&self, made: Move) -> Result<()> {
        let [first, second] = &self.bundles;
        match made {
            Move::Install => self.site.place(first).await.map(drop),
            Move::Upgrade => self.site.place(second).await.map(drop),
            Move::Heal => {
                self.site.kubectl(&["scale", "deployment/web", "--replicas=5"]).await?;
                self.site.kubectl(&["delete", "configmap", "same"]).await.map(drop)
            }
            Move::Remove => self.site.remove(second).await,
        }
    }

    /// Waits for the end of a move, or of the agent: then, at what kind of boundary it aborted.
    async fn ended(&mut self, made: Move) -> Result<Option<String>> {
        let what = format!("end of {made:?}");
        wait_for(&what, END, async || {
            let agent = self.site.agent()?;
            if let Some(status) = agent.ended()? {
                let log = agent.log()?;
                let kind = log.lines().find_map(|line| line.split_once("aborted at boundary "));
                let kind = kind.and_then(|(_, at)| at.split_once(": ")).map(|(_, kind)| kind.to_owned());
                ensure!(status.signal() == Some(Signal::ABORT.as_raw()), "{status}");
                return Ok(Some(kind.context("an agent that aborts says where")?));
            }
            self.is_reached(made).await.map(|()| None)
        })
        .await
    }

    async fn is_reached(&self, made: Move) -> Result<()> {
        self.is_shown(made).await?;
        // What was shown came of a report; another may have followed it.
        let status = self.site.agent_status().await?;
        ensure!(status.reports_waiting == 0, "{status}");
        Ok(())
    }

    async fn is_shown(&self, made: Move) -> Result<()> {
        let status = self.site.agent_status().await?;
        ensure!(status.reports_waiting == 0, "{status}");
        if made == Move::Remove {
            ensure!(status.applications.is_empty(), "{status}");
            return Ok(());
        }
        let bundle = &self.bundles[usize::from(made != Move::Install)];
        let shown = self.site.operator.assignments().await?;
        let shown = shown.into_iter().find_map(|one| one.status).context("an assignment")?;
        let is = shown.bundle == name_of(bundle) && shown.state == AssignmentState::Updated;
        ensure!(is, "{shown:#?}");
        if made == Move::Heal {
            let drifted = shown.conditions.iter().find(|one| one.type_ == "Drifted");
            let told = |text: &str| drifted.is_some_and(|one| one.message.contains(text));
            let named =
                told("/web was changed by kubectl") && told("/same was changed by somebody who deleted");
            ensure!(drifted.is_some_and(|one| one.status == "False") && named, "{drifted:#?}");
        }
        Ok(())
    }

    /// Compares the end of a move with how it ended the first time.
    async fn compare(&mut self, made: Move) -> Result<()> {
        self.site.stop_agent().await?;
        let live = self.live().await?;
        let uids: BTreeMap<String, String> =
            live.iter().map(|(name, object)| (name.clone(), uid(object))).collect();
        let journal = words(&Journal::open(&self.site.state().journal(), MAX_BYTES)?.1, &uids);
        let objects = live.iter().map(|(name, object)| {
            let kept = self.uids.get(name) == uids.get(name);
            format!("{name}: {}", digest(object, kept))
        });
        let end: End = objects.chain(journal).collect();
        self.uids = uids;
        let expected = self.ends.entry(made).or_insert_with(|| end.clone());
        let (more, less): (Vec<_>, Vec<_>) =
            (end.difference(expected).collect(), expected.difference(&end).collect());
        ensure!(end == *expected, "in the end there is {more:#?}\nwhere there was {less:#?}");
        Ok(())
    }

    /// Everything that could be ours, by kind and name.
    async fn live(&self) -> Result<BTreeMap<String, Value>> {
        let arguments = ["get", "configmaps,services,deployments", "--show-managed-fields", "-o", "json"];
        let list: Value = serde_json::from_str(&self.site.kubectl(&arguments).await?)?;
        let items = list["items"].as_array().context("a list has items")?;
        let named = items.iter().filter(|object| object["metadata"]["name"] != "kube-root-ca.crt");
        let name = |object: &Value| {
            let text = |pointer| object.pointer(pointer).and_then(Value::as_str);
            Some((format!("{} {}", text("/kind")?, text("/metadata/name")?), object.clone()))
        };
        named.map(|object| name(object).ok_or_else(|| anyhow!("{object:#}"))).collect()
    }
}

/// What of an object must be the same each time: a change too many shows in its generation or its identity.
fn digest(object: &Value, kept: bool) -> Value {
    let managers = object["metadata"]["managedFields"].as_array().into_iter().flatten();
    let applied = managers.filter(|entry| entry["operation"] == "Apply");
    let large = object["data"]["noise"].as_str().map(|noise| Digest::of(noise.as_bytes()).to_string());
    let data = large.map_or_else(|| object["data"].clone(), Value::from);
    json!({
        "generation": object["metadata"]["generation"],
        "labels": object["metadata"]["labels"],
        "kept": kept,
        "data": data,
        "replicas": object["spec"]["replicas"],
        "managers": applied.map(|entry| &entry["manager"]).collect::<Vec<_>>(),
    })
}

/// The journal's rows without what differs from one time to the next.
fn words(held: &Held, uids: &BTreeMap<String, String>) -> Vec<String> {
    let seq = |row: &Row| if let Row::Report(_, report) = row { Some(report.seq) } else { None };
    let newest = held.rows.iter().filter_map(seq).max();
    let word = |row: &Row| match row {
        Row::Life(_) | Row::Clock(_) | Row::Root(_) => None,
        Row::Desired(_) => Some("desired state".to_owned()),
        Row::Hold(hold) => Some(format!("{hold:?}")),
        Row::Acked(seq) => Some(format!("all acknowledged: {}", newest.is_none_or(|newest| newest <= *seq))),
        Row::App(app, row) => Some(format!("{app} {row:?}").replace(&app.tenant.to_string(), "TENANT")),
        Row::Release(digest, _) => Some(format!("release {digest}")),
        Row::Object(_, object, owned) => {
            let name = format!("{} {}", object.gvk.kind, object.name);
            let is = owned.uid.as_ref() == uids.get(&name);
            let healed = owned.healed.as_ref().map(|healed| (&healed.manager, healed.count));
            Some(format!("{name}: is the live one: {is}, {:?}, {healed:?}", owned.drifted_by))
        }
        Row::Report(app, row) => Some(format!("report of {}: {}", app.name, row.report.state)),
    };
    let whole = |have, total| if have == total { "whole" } else { "in part" };
    let content = held.content.iter().map(|c| format!("content {} {}", c.target, whole(c.have, c.total)));
    held.rows.iter().filter_map(word).chain(content).collect()
}

fn uid(object: &Value) -> String {
    object["metadata"]["uid"].as_str().unwrap_or_default().to_owned()
}

#[allow(clippy::disallowed_methods, reason = "how long it took is what is printed")]
fn now() -> Instant {
    Instant::now()
}

fn manifests(version: u64) -> String {
    let digests = (0..LARGE_BYTES / 64).map(|n| Digest::of(&n.to_be_bytes()).to_string());
    let noise: String = digests.collect();
    format!(
        "
apiVersion: v1
kind: ConfigMap
metadata: {{name: same}}
data: {{a: b}}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: changed}}
data: {{version: \"{version}\"}}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: only-in-{version}}}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: large}}
data: {{noise: {noise}}}
---
{WEB_SERVICE}
---
{TWO_WEBS}
"
    )
}
