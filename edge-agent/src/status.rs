//! What somebody at the site is told: as JSON for programs, as a table for people.

use std::fmt::{self, Write as _};

use protocol::{
    documents::{AppReport, AppState, Condition, ConditionStatus, Preview},
    ids::AppId,
    time::UnixSeconds,
};
use serde::{Deserialize, Serialize};

use crate::logic::{
    agent::{Agent, Identity},
    app::App,
    entry::Hold,
    report::instant,
};

/// An agent and what it keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Which cluster.
    pub cluster: String,
    /// Which fleet.
    pub fleet: String,
    /// Version of the agent.
    pub agent: String,
    /// The connection to the hub.
    pub hub: HubStatus,
    /// The newest desired state that is held, as `epoch.sequence`.
    pub desired: Option<String>,
    /// Why nobody changes this site, if somebody holds it.
    pub hold: Option<HoldStatus>,
    /// The applications, by name.
    pub applications: Vec<AppStatus>,
    /// The cluster's own conditions.
    pub conditions: Vec<ConditionText>,
    /// Reports that the hub does not have yet.
    pub reports_waiting: usize,
    /// Bytes of the journal on disk.
    pub journal_bytes: u64,
}

/// The connection to the hub.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HubStatus {
    /// Whether it is up.
    pub connected: bool,
    /// Why it is not.
    pub reason: String,
    /// Since when, by the system's clock, in seconds since 1970 (UTC).
    #[serde(with = "seconds")]
    pub since: UnixSeconds,
}

/// Why nobody changes this site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldStatus {
    /// Why.
    pub reason: String,
    /// Since when, in seconds since 1970 (UTC).
    #[serde(with = "seconds")]
    pub since: UnixSeconds,
}

/// One application.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppStatus {
    /// Its tenant and name, as `tenant/name`.
    pub app: String,
    /// How it is, in one word.
    pub state: String,
    /// Whether all of it was looked at since the agent started; until then, the state is that of the time before.
    pub observed: bool,
    /// The version that is enforced.
    pub version: Option<String>,
    /// Objects of it.
    pub desired: u32,
    /// How many are applied.
    pub applied: u32,
    /// How many are healthy.
    pub healthy: u32,
    /// How many failed.
    pub failed: u32,
    /// What is worst, what it waits for, or what applying it would do.
    pub message: String,
    /// What applying it would do to the first objects, where it is only looked at.
    #[serde(default)]
    pub preview: Vec<String>,
}

/// One condition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConditionText {
    /// What about.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// Why, in one word.
    pub reason: String,
    /// Why, in a sentence.
    pub message: String,
}

impl Status {
    /// What is to be told of an agent, and of the shell around it.
    pub fn new(identity: &Identity, agent: &Agent, hub: HubStatus, journal_bytes: u64) -> Self {
        Self {
            cluster: identity.cluster.to_string(),
            fleet: identity.fleet.to_string(),
            agent: identity.version.to_owned(),
            hub,
            desired: agent.desired().map(|desired| desired.order.to_string()),
            hold: agent.hold().map(HoldStatus::new),
            applications: agent.apps().iter().map(|(id, app)| AppStatus::new(id, app)).collect(),
            reports_waiting: agent.reports_waiting(),
            conditions: agent.conditions().into_iter().map(ConditionText::new).collect(),
            journal_bytes,
        }
    }
}

impl HoldStatus {
    fn new(hold: &Hold) -> Self {
        Self { reason: hold.reason.clone(), since: hold.since }
    }
}

impl AppStatus {
    fn new(id: &AppId, app: &App) -> Self {
        let version = app.current.as_ref().map(|current| current.release.version.clone());
        let empty = Self {
            app: id.to_string(),
            state: "Unknown".to_owned(),
            observed: app.is_observed(),
            version,
            desired: 0,
            applied: 0,
            healthy: 0,
            failed: 0,
            message: String::new(),
            preview: Vec::new(),
        };
        let waits = app.waits_for.as_ref().map(|(_, text)| text.clone());
        let Some(report) = app.report.as_ref().map(|row| &row.report) else {
            return Self { message: waits.unwrap_or_default(), ..empty };
        };
        Self {
            state: report.state.to_string(),
            desired: report.counts.desired,
            applied: report.counts.applied,
            healthy: report.counts.healthy,
            failed: report.counts.failed,
            message: problem(report).or(waits).or_else(|| looked_at(report)).unwrap_or_default(),
            preview: report.preview.as_ref().map(previewed).unwrap_or_default(),
            ..empty
        }
    }
}

impl ConditionText {
    fn new(condition: Condition) -> Self {
        let Condition { kind, status, reason, message } = condition;
        let status = match status {
            ConditionStatus::True => "True",
            ConditionStatus::False => "False",
            ConditionStatus::Unknown => "Unknown",
        };
        Self { kind: kind.into(), status: status.to_owned(), reason: reason.into(), message }
    }
}

/// What is wrong, as the hub words it too: why a release is refused comes before what ails the one that runs.
fn problem(report: &AppReport) -> Option<String> {
    let rejected = report.rejected.as_ref();
    let rejected = rejected.map(|rejected| format!("{}: {}", rejected.reason, rejected.message));
    let worst = report.worst.as_ref();
    let worst = worst.map(|worst| format!("{}: {}: {}", worst.object, worst.reason, worst.message));
    if report.state == AppState::Rejected { rejected.or(worst) } else { worst.or(rejected) }
}

fn looked_at(report: &AppReport) -> Option<String> {
    report.preview.as_ref().map(Preview::to_string)
}

/// What would become of single objects, and of how many more.
fn previewed(preview: &Preview) -> Vec<String> {
    let mut lines: Vec<String> = preview
        .objects
        .iter()
        .map(|one| format!("{}: {}: {}", one.object, one.reason, one.message))
        .collect();
    let more = (preview.differing() as usize).saturating_sub(lines.len());
    if more > 0 {
        lines.push(format!("and {more} more"));
    }
    lines
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "cluster    {} (fleet {})", self.cluster, self.fleet)?;
        let since = instant(self.hub.since);
        match (self.hub.connected, self.hub.reason.as_str()) {
            (true, _) => writeln!(f, "hub        connected since {since}")?,
            (false, "") => writeln!(f, "hub        not connected yet")?,
            (false, reason) => writeln!(f, "hub        not connected since {since}: {reason}")?,
        }
        let desired = self.desired.as_deref().unwrap_or("nothing received yet");
        writeln!(f, "desired    {desired}")?;
        if let Some(HoldStatus { reason, since }) = &self.hold {
            writeln!(f, "hold       since {}: {reason}", instant(*since))?;
        }
        let waiting = match self.reports_waiting {
            0 => String::new(),
            1 => ", 1 report waits for the hub".to_owned(),
            many => format!(", {many} reports wait for the hub"),
        };
        writeln!(f, "journal    {} KiB{waiting}", self.journal_bytes / 1024)?;
        writeln!(f, "agent      {}", self.agent)?;
        if !self.applications.is_empty() {
            writeln!(f, "\n{}", self.table())?;
        }
        for AppStatus { app, preview, .. } in self.applications.iter().filter(|app| !app.preview.is_empty()) {
            writeln!(f, "{app} differs in:")?;
            preview.iter().try_for_each(|line| writeln!(f, "  {line}"))?;
            writeln!(f)?;
        }
        let troubles = self.conditions.iter().filter(|condition| condition.is_trouble());
        for ConditionText { kind, reason, message, .. } in troubles {
            writeln!(f, "! {kind}: {reason}: {message}")?;
        }
        Ok(())
    }
}

impl Status {
    fn table(&self) -> String {
        let heads = ["APPLICATION", "STATE", "VERSION", "APPLIED", "HEALTHY", "FAILED", "MESSAGE"];
        let mut rows = vec![heads.map(str::to_owned)];
        rows.extend(self.applications.iter().map(|app| {
            let of = |count: u32| format!("{count}/{}", app.desired);
            let state = if app.observed { app.state.clone() } else { format!("{} (before)", app.state) };
            let version = app.version.clone().unwrap_or_else(|| "-".to_owned());
            let failed = app.failed.to_string();
            let (applied, healthy) = (of(app.applied), of(app.healthy));
            [app.app.clone(), state, version, applied, healthy, failed, app.message.clone()]
        }));
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..heads.len()).map(width).collect();
        let mut out = String::new();
        for row in &rows {
            let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
            // Writing to text does not fail.
            let _written = writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end());
        }
        out
    }
}

impl ConditionText {
    /// Conditions that say `Ready` are good when true; all others name something that is wrong.
    fn is_trouble(&self) -> bool {
        self.kind != "Held" && (self.status == "True") != self.kind.ends_with("Ready")
    }
}

mod seconds {
    use protocol::time::UnixSeconds;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(time: &UnixSeconds, serializer: S) -> Result<S::Ok, S::Error> {
        time.0.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<UnixSeconds, D::Error> {
        u64::deserialize(deserializer).map(UnixSeconds)
    }
}

#[cfg(test)]
mod tests {
    use protocol::documents::ObjectMessage;

    use super::*;

    #[test]
    fn a_stranger_can_read_it() {
        let app = |name: &str, state: &str, message: &str| AppStatus {
            app: name.into(),
            state: state.into(),
            observed: name != "radio/db",
            version: Some("1.4.2".into()),
            desired: 3,
            applied: 3,
            healthy: 2,
            failed: 1,
            message: message.into(),
            preview: Vec::new(),
        };
        let preview = Preview {
            create: 1,
            change: 1,
            objects: vec![ObjectMessage {
                object: "Service radio/web".into(),
                reason: "WouldChange".into(),
                message: ".spec.ports".into(),
            }],
            ..Preview::default()
        };
        let condition = |kind: &str, status: &str| ConditionText {
            kind: kind.into(),
            status: status.into(),
            reason: "Why".into(),
            message: "in a sentence".into(),
        };
        let status = Status {
            cluster: "tower-1".into(),
            fleet: "north".into(),
            agent: "0.1.0".into(),
            hub: HubStatus { connected: true, reason: String::new(), since: UnixSeconds(0) },
            desired: Some("1.7".into()),
            hold: Some(HoldStatus { reason: "crane on site".into(), since: UnixSeconds(60) }),
            applications: vec![
                app("radio/gateway", "Degraded", "Deployment radio/gateway: Why"),
                app("radio/db", "Available", ""),
                AppStatus {
                    preview: previewed(&preview),
                    ..app("radio/web", "Observed", &preview.to_string())
                },
            ],
            conditions: vec![
                condition("KubernetesReady", "True"),
                condition("Held", "True"),
                condition("DiskFull", "True"),
            ],
            reports_waiting: 2,
            journal_bytes: 81_920,
        };
        let expected = "\
cluster    tower-1 (fleet north)
hub        connected since 1970-01-01T00:00:00Z
desired    1.7
hold       since 1970-01-01T00:01:00Z: crane on site
journal    80 KiB, 2 reports wait for the hub
agent      0.1.0

APPLICATION    STATE               VERSION  APPLIED  HEALTHY  FAILED  MESSAGE
radio/gateway  Degraded            1.4.2    3/3      2/3      1       Deployment radio/gateway: Why
radio/db       Available (before)  1.4.2    3/3      2/3      1
radio/web      Observed            1.4.2    3/3      2/3      1       1 to create, 1 to change

radio/web differs in:
  Service radio/web: WouldChange: .spec.ports
  and 1 more

! DiskFull: Why: in a sentence
";
        assert_eq!(status.to_string(), expected);
        let json = serde_json::to_string(&status).unwrap();
        assert_eq!(serde_json::from_str::<Status>(&json).unwrap(), status);
    }
}
