//! What is wrong with a fleet, and what to do about it: facts in, findings out. [`probe`] finds the facts.

use std::fmt;

use fleet_broker::resources::Cluster;
use protocol::{limits::CLOCK_SKEW_SECONDS, renew::Validity, time::UnixSeconds};

use crate::{clock, output::bytes};

pub mod probe;
#[cfg(test)]
mod tests;

/// The oldest Kubernetes whose API server can do what agents need: it applies on the server's side (KEP-555).
const KUBERNETES_MIN: (u64, u64) = (1, 22);
/// Agents this many minor versions behind their hub are served, and those one ahead.
const BEHIND_MAX: u64 = 2;
const AHEAD_MAX: u64 = 1;
/// Room on a disk below which something must be done, and below which the next release may not fit.
const ROOM_LOW: u64 = 1024 * 1024 * 1024;
const ROOM_MIN: u64 = 64 * 1024 * 1024;
/// Signed documents are renewed by people, who need time for it.
const RENEW_AHEAD_SECONDS: u64 = 30 * DAY;
const DAY: u64 = 24 * 60 * 60;
/// Clusters that one finding names.
const NAMES_MAX: usize = 10;

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It works, and will not go on so for long, or not everywhere.
    Warning,
    /// It does not work.
    Wrong,
}

/// What was looked at, how it is, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The kind of thing.
    pub about: &'static str,
    /// Which one.
    pub what: String,
    /// How it is.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What to do; empty where there is nothing to do.
    pub advice: String,
}

/// Something looked for: a fact, or why there is none.
pub type Looked<T> = Result<T, String>;

/// A file that only its owner may read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrivateFile {
    /// Where it is.
    pub path: String,
    /// Its permissions, the lowest nine bits of the mode.
    pub mode: Looked<u32>,
}

/// A signed document or certificate that ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// Which one.
    pub what: String,
    /// From when until when it is good.
    pub validity: Looked<Validity>,
    /// Whether it renews by itself.
    pub renews: bool,
}

/// Room in a file system, in bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Room {
    /// The folder in it that is written to.
    pub folder: String,
    /// What may still be written, or why nothing can be.
    pub free: Looked<u64>,
}

/// Something that listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// What should listen there.
    pub what: String,
    /// Whether it does, with a certificate that proves it.
    pub answers: Looked<()>,
}

/// An API server as an agent needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiServer {
    /// Its version, such as `v1.36.3`.
    pub version: String,
    /// Whether the agent may do whatever releases ask for.
    pub is_allowed: Looked<bool>,
}

/// A private file.
pub fn private_file(file: &PrivateFile) -> Finding {
    let about = |verdict, found, advice| finding("keys", &file.path, verdict, found, advice);
    match &file.mode {
        Ok(mode) if mode & 0o077 == 0 => about(Verdict::Ok, format!("mode {mode:04o}"), String::new()),
        Ok(mode) => {
            let found = format!("mode {mode:04o}: others may read it");
            let advice = format!(
                "run `chmod 600 {}`; if others use this machine, replace what is in it as well",
                file.path
            );
            about(Verdict::Wrong, found, advice)
        }
        Err(why) => {
            about(Verdict::Wrong, why.clone(), "restore it from a backup, or make it anew".to_owned())
        }
    }
}

/// Something that ends, at `now`.
pub fn ending(ending: &Ending, now: UnixSeconds) -> Finding {
    let about = |verdict, found, advice: &str| {
        finding("certificates", &ending.what, verdict, found, advice.to_owned())
    };
    let validity = match &ending.validity {
        Ok(validity) => validity,
        Err(why) => {
            return about(
                Verdict::Wrong,
                why.clone(),
                "restore it, or have it made anew: a site by joining again",
            );
        }
    };
    let (begin, end) = (clock::rfc3339(validity.not_before), clock::rfc3339(validity.not_after));
    let left = validity.not_after.since(now);
    let (days, is_late) = (left / DAY, left < validity.lifetime() / 2);
    let renew = match ending.renews {
        true => "it renews by itself when hub and clock are right: see the other findings, then the log",
        false => "have its successor signed before it ends",
    };
    if now < validity.not_before {
        about(Verdict::Wrong, format!("good only from {begin} on"), "set this machine's clock")
    } else if left == 0 {
        about(Verdict::Wrong, format!("it ended at {end}"), renew)
    } else if (ending.renews && is_late) || (!ending.renews && left < RENEW_AHEAD_SECONDS) {
        about(Verdict::Warning, format!("it ends at {end}, in {days} days"), renew)
    } else {
        about(Verdict::Ok, format!("good for {days} days, until {end}"), "")
    }
}

/// This machine's clock beside another's: `theirs` was read at `ours`.
pub fn clocks(whose: &str, theirs: UnixSeconds, ours: UnixSeconds) -> Finding {
    let apart = theirs.since(ours).max(ours.since(theirs));
    let found = match apart {
        0..=1 => format!("as {whose}'s"),
        _ if theirs > ours => format!("{apart} s behind {whose}'s"),
        _ => format!("{apart} s ahead of {whose}'s"),
    };
    // What is signed or issued now is already good so long before.
    let verdict = match apart {
        _ if apart >= CLOCK_SKEW_SECONDS => Verdict::Wrong,
        _ if apart >= CLOCK_SKEW_SECONDS / 10 => Verdict::Warning,
        _ => Verdict::Ok,
    };
    let advice = match verdict {
        Verdict::Ok => String::new(),
        Verdict::Warning | Verdict::Wrong => {
            format!(
                "find out which of the two is wrong and have it follow a time server; \
                 {CLOCK_SKEW_SECONDS} s are allowed"
            )
        }
    };
    finding("clock", "this machine", verdict, found, advice)
}

/// Room on a disk.
pub fn room(room: &Room) -> Finding {
    let (verdict, found) = match &room.free {
        Ok(free) if *free < ROOM_MIN => (Verdict::Wrong, format!("{} are left", bytes(*free))),
        Ok(free) if *free < ROOM_LOW => (Verdict::Warning, format!("{} are left", bytes(*free))),
        Ok(free) => (Verdict::Ok, format!("{} are left", bytes(*free))),
        Err(why) => (Verdict::Wrong, why.clone()),
    };
    let advice = match (verdict, &room.free) {
        (Verdict::Ok, _) => String::new(),
        (_, Ok(_)) => "make room: nothing new can be kept on a full disk".to_owned(),
        (_, Err(_)) => {
            "see that it is mounted for writing and belongs to whoever runs the program".to_owned()
        }
    };
    finding("disk", &room.folder, verdict, found, advice)
}

/// Something that should listen.
pub fn port(port: &Port) -> Finding {
    match &port.answers {
        Ok(()) => finding("ports", &port.what, Verdict::Ok, "answers".to_owned(), String::new()),
        Err(why) => {
            let advice =
                "see that the hub runs, that this is its address, and that no firewall stands between";
            finding("ports", &port.what, Verdict::Wrong, why.clone(), advice.to_owned())
        }
    }
}

/// A site's API server.
pub fn api_server(what: &str, server: &Looked<ApiServer>) -> Vec<Finding> {
    let about = |verdict, found, advice: &str| finding("API server", what, verdict, found, advice.to_owned());
    let server = match server {
        Ok(server) => server,
        Err(why) => {
            let advice = "see that Kubernetes runs, and that the agent's kubeconfig leads to it";
            return vec![about(Verdict::Wrong, why.clone(), advice)];
        }
    };
    let version = match minor(&server.version) {
        Some(version) if version >= KUBERNETES_MIN => about(Verdict::Ok, server.version.clone(), ""),
        Some(_) | None => {
            let (major, minor) = KUBERNETES_MIN;
            let advice = format!("the agent needs Kubernetes {major}.{minor} or newer");
            about(Verdict::Wrong, format!("is of version {}", server.version), &advice)
        }
    };
    let rights = match &server.is_allowed {
        Ok(true) => about(Verdict::Ok, "the agent may do what releases ask for".to_owned(), ""),
        Ok(false) => {
            let advice =
                "bind cluster-admin to it, or such rights as your releases need: what it may not do fails";
            about(Verdict::Warning, "the agent may not do everything".to_owned(), advice)
        }
        Err(why) => {
            about(Verdict::Wrong, why.clone(), "give the agent credentials that the API server takes")
        }
    };
    vec![version, rights]
}

/// Versions of `edgefleet`, the hub and its agents; a hub writes `v1.36.0+edgefleet.0.2.0`.
pub fn versions(own: &str, hub: &str, clusters: &[Cluster]) -> Vec<Finding> {
    let said = hub;
    let hub = hub.rsplit_once("edgefleet.").map_or("", |(_, version)| version);
    let about = |what: &str, verdict, found, advice: &str| {
        finding("versions", what, verdict, found, advice.to_owned())
    };
    let Some(of_hub) = minor(hub) else {
        let advice = "see that the kubeconfig leads to a hub, and not to a Kubernetes API server";
        return vec![about("hub", Verdict::Wrong, format!("{said:?} is no version of ours"), advice)];
    };
    let here = match minor(own) {
        Some(own) if own == of_hub => about("hub", Verdict::Ok, hub.to_owned(), ""),
        Some(_) | None => {
            let found = format!("the hub is {hub}, this program {own}");
            about("hub", Verdict::Warning, found, "use the version of the hub for the hub")
        }
    };
    let agent = |cluster: &Cluster| cluster.status.as_ref().and_then(|status| status.agent.clone());
    let is_served = |version: &str| {
        minor(version).is_some_and(|(major, of_agent)| {
            let range = of_hub.1.saturating_sub(BEHIND_MAX)..=of_hub.1 + AHEAD_MAX;
            major == of_hub.0 && range.contains(&of_agent)
        })
    };
    let others = named(clusters, |cluster| agent(cluster).is_some_and(|version| !is_served(&version)));
    let agents = match others {
        None => about("agents", Verdict::Ok, "all within what this hub serves".to_owned(), ""),
        Some(names) => {
            let advice = format!("have them run {hub}: {BEHIND_MAX} minor versions behind are served");
            about("agents", Verdict::Warning, format!("too far from {hub}: {names}"), &advice)
        }
    };
    vec![here, agents]
}

/// Clusters as the hub sees them.
pub fn clusters(clusters: &[Cluster]) -> Vec<Finding> {
    let rows = [
        (
            "Joined",
            "have never joined",
            "run `edgefleet cluster add NAME` for a new code, and join with it at the site",
        ),
        (
            "Connected",
            "are not connected",
            "see what their condition Connected says; they go on by themselves",
        ),
    ];
    let is = |cluster: &Cluster, kind: &str, wanted: bool| {
        let conditions = cluster.status.as_ref().map(|status| &status.conditions);
        conditions.into_iter().flatten().any(|one| one.type_ == kind && (one.status == "True") == wanted)
    };
    let mut findings = Vec::new();
    for (kind, words, advice) in rows {
        let expected = |cluster: &Cluster| kind == "Joined" || is(cluster, "Joined", true);
        let found = named(clusters, |cluster| {
            expected(cluster) && is(cluster, kind, false) && !is(cluster, "Revoked", true)
        });
        if let Some(names) = found {
            let found = format!("{words}: {names}");
            findings.push(finding("clusters", kind, Verdict::Warning, found, advice.to_owned()));
        }
    }
    if findings.is_empty() {
        let found = format!("{0} of {0} are", clusters.len());
        findings.push(finding("clusters", "Connected", Verdict::Ok, found, String::new()));
    }
    findings
}

/// What does not work.
pub fn wrong(about: &'static str, what: &str, why: &str, advice: &str) -> Finding {
    finding(about, what, Verdict::Wrong, why.to_owned(), advice.to_owned())
}

/// What is as it should be.
pub fn fine(about: &'static str, what: &str, found: &str) -> Finding {
    finding(about, what, Verdict::Ok, found.to_owned(), String::new())
}

fn finding(about: &'static str, what: &str, verdict: Verdict, found: String, advice: String) -> Finding {
    Finding { about, what: what.to_owned(), verdict, found, advice }
}

/// Names of those that are so: how many, and the first of them.
fn named(clusters: &[Cluster], is_so: impl Fn(&Cluster) -> bool) -> Option<String> {
    let names: Vec<&str> = clusters
        .iter()
        .filter(|cluster| is_so(cluster))
        .filter_map(|cluster| cluster.metadata.name.as_deref())
        .collect();
    let more = names.len().saturating_sub(NAMES_MAX);
    let shown = names.iter().take(NAMES_MAX).copied().collect::<Vec<_>>().join(", ");
    match (names.is_empty(), more) {
        (true, _) => None,
        (false, 0) => Some(shown),
        (false, more) => Some(format!("{shown} and {more} more")),
    }
}

/// Major and minor number of a version, with or without `v`.
fn minor(version: &str) -> Option<(u64, u64)> {
    let mut numbers = version.trim_start_matches('v').split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Wrong => "wrong",
        })
    }
}
