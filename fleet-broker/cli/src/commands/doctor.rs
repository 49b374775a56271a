//! `edgefleet doctor`: what is wrong, and what to do.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::{ArgGroup, Args};
use edge_agent::{
    config::{Config, StateDir},
    control::{self, Reply, Request},
    logic::report::chain,
};
use http::Uri;
use kube::config::Kubeconfig;
use protocol::{renew::Validity, time::UnixSeconds};
use serde_json::{Value, json};

use super::{CommandError, Context, arguments::Format, hub_runtime};
use crate::{
    clock,
    doctor::{self, Ending, Finding, Looked, Verdict, probe},
    hub::{Hub, Place},
    keys::{self, ROOT_FILE},
    output::bytes,
};

/// What to look at. Each is looked at from where this runs.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  edgefleet doctor --kubeconfig hub.kubeconfig --keys acme-keys
  edgefleet doctor --data /var/lib/fleet-broker
  edgefleet doctor --site /var/lib/edgefleet

Exit codes: 0 nothing is wrong, 1 something is.")]
#[command(group(ArgGroup::new("where").required(true).multiple(true).args(["kubeconfig", "keys", "data", "site"])))]
pub struct Doctor {
    /// The hub: its ports, certificates, clock, version, and the clusters it knows
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// A folder of fleet keys: who may read them, whether the root knows them, how long it is good
    #[arg(long, value_name = "DIR")]
    keys: Option<PathBuf>,
    /// The hub's own folder, where the hub runs: disk, keys, certificates
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// An agent's state folder, at its site: disk, keys, certificates, API server, the way to the hub, the agent
    #[arg(long, value_name = "DIR")]
    site: Option<PathBuf>,
    #[command(flatten)]
    how: How,
}

/// How to look and to print.
#[derive(Debug, Args)]
struct How {
    /// The hub's port for clusters
    #[arg(long, value_name = "PORT", default_value_t = 8883)]
    broker_port: u16,
    /// The hub's port where clusters enrol and renew
    #[arg(long, value_name = "PORT", default_value_t = 8884)]
    enrol_port: u16,
    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

impl Doctor {
    pub(super) fn run(&self, context: &mut Context<'_>) -> Result<(), CommandError> {
        let now = context.now;
        let mut findings = Vec::new();
        if let Some(folder) = &self.keys {
            findings.extend(keys_in(folder, now));
        }
        if let Some(folder) = &self.data {
            findings.extend(hub_folder(folder, now));
        }
        hub_runtime()?.block_on(async {
            if let Some(kubeconfig) = &self.kubeconfig {
                findings.extend(self.hub(kubeconfig, now).await);
            }
            if let Some(folder) = &self.site {
                findings.extend(site(folder, now).await);
            }
        });
        self.print(&findings, context)?;
        match findings.iter().any(|finding| finding.verdict == Verdict::Wrong) {
            true => Err(CommandError::Differs),
            false => Ok(()),
        }
    }

    async fn hub(&self, kubeconfig: &Path, now: UnixSeconds) -> Vec<Finding> {
        let file = probe::private_file(kubeconfig);
        let mut findings = vec![doctor::private_file(&file)];
        if file.mode.is_err() {
            return findings;
        }
        let client = match probe::client(kubeconfig).await {
            Ok(client) => client,
            Err(why) => {
                let advice = "take the file that the hub wrote, or one of `edgefleet token create`";
                let what = kubeconfig.display().to_string();
                findings.push(doctor::wrong("keys", &what, &why, advice));
                return findings;
            }
        };
        match place(kubeconfig) {
            Ok((host, port, authority)) => {
                let ports =
                    [("API", port), ("clusters", self.how.broker_port), ("enrolment", self.how.enrol_port)];
                for (what, port) in ports {
                    let what = format!("the hub's port for {what}");
                    findings.extend(listens(&what, &host, port, authority.as_bytes(), now).await);
                }
            }
            Err(why) => {
                let advice = "take a kubeconfig that holds the hub's certificate authority";
                findings.push(doctor::wrong("ports", "hub", &why, advice));
            }
        }
        let answer = probe::version(&client).await;
        if let Ok(answer) = &answer {
            findings.extend(answer.clocks.map(|(theirs, ours)| doctor::clocks("the hub", theirs, ours)));
        }
        match (answer, known_clusters(kubeconfig).await) {
            (Ok(answer), Ok(clusters)) => {
                findings.extend(doctor::versions(edge_agent::VERSION, &answer.version, &clusters));
                findings.extend(doctor::clusters(&clusters));
            }
            (Err(why), _) | (_, Err(why)) => {
                let advice = "see that the hub runs, and that the token in the kubeconfig is good";
                findings.push(doctor::wrong("clusters", "hub", &why, advice));
            }
        }
        findings
    }

    fn print(&self, findings: &[Finding], context: &mut Context<'_>) -> Result<(), CommandError> {
        if self.how.format == Format::Json {
            let findings: Vec<Value> = findings.iter().map(to_json).collect();
            return Ok(context.output.json(&json!({"findings": findings}))?);
        }
        let row = |finding: &Finding| {
            let about = finding.about.to_owned();
            vec![finding.verdict.to_string(), about, finding.what.clone(), finding.found.clone()]
        };
        context.output.table(&["", "ABOUT", "WHAT", "FOUND"], findings.iter().map(row).collect())?;
        let mut worst: Vec<&Finding> = findings.iter().filter(|one| one.verdict != Verdict::Ok).collect();
        worst.sort_by_key(|finding| std::cmp::Reverse(finding.verdict));
        for finding in &worst {
            let Finding { what, found, advice, verdict, .. } = finding;
            context.output.line(&format!("\n{verdict}: {what}: {found}\n  {advice}"))?;
        }
        if worst.is_empty() {
            context.output.line("\nNothing is wrong.")?;
        }
        Ok(())
    }
}

fn keys_in(folder: &Path, now: UnixSeconds) -> Vec<Finding> {
    if let Some(missing) = no_folder("keys", folder) {
        return vec![missing];
    }
    let root_file = folder.join(ROOT_FILE);
    let root = keys::load_root(&root_file);
    let validity = root.as_ref().map(|trust| {
        let root = trust.root();
        Validity { not_before: root.issued, not_after: root.not_after }
    });
    let validity = validity.map_err(|error| chain(error));
    let mut findings =
        vec![doctor::ending(&Ending { what: root_file.display().to_string(), validity, renews: false }, now)];
    let paths = match probe::keys_in(folder) {
        Ok(paths) => paths,
        Err(why) => {
            let what = folder.display().to_string();
            findings.push(doctor::wrong("keys", &what, &why, "name the folder that `keys init` made"));
            return findings;
        }
    };
    for path in paths {
        findings.push(doctor::private_file(&probe::private_file(&path)));
        let what = path.display().to_string();
        let known = keys::load_signing_key(&path).map(|file| {
            let id = file.key.public().id();
            root.as_ref().is_ok_and(|trust| trust.root().keys.iter().any(|key| key.id() == id))
        });
        match known {
            Ok(true) => {}
            Ok(false) => {
                let advice =
                    "it signs nothing that a cluster believes: keep it where it belongs, or remove it";
                findings.push(doctor::wrong("keys", &what, "the root does not know this key", advice));
            }
            Err(error) => {
                findings.push(doctor::wrong("keys", &what, &chain(&error), "restore it from its backup"));
            }
        }
    }
    findings
}

/// The folder of a hub, on the machine where it runs.
fn hub_folder(folder: &Path, now: UnixSeconds) -> Vec<Finding> {
    use fleet_broker::{
        pki::{CERTIFICATE_FILE, KEY_FILE},
        serve::KUBECONFIG,
    };
    if let Some(missing) = no_folder("disk", folder) {
        return vec![missing];
    }
    let mut findings = vec![doctor::room(&probe::room(folder))];
    let private = [KEY_FILE, KUBECONFIG].map(|file| probe::private_file(&folder.join(file)));
    findings.extend(private.iter().map(doctor::private_file));
    findings.push(doctor::ending(&probe::certificate(&folder.join(CERTIFICATE_FILE), false), now));
    findings
}

/// The state folder of an agent, on the machine where it runs.
async fn site(folder: &Path, now: UnixSeconds) -> Vec<Finding> {
    if let Some(missing) = no_folder("disk", folder) {
        return vec![missing];
    }
    let state = StateDir::new(folder);
    let mut findings = vec![doctor::room(&probe::room(folder))];
    let private = [state.identity_key(), state.connection()].map(|file| probe::private_file(&file));
    findings.extend(private.iter().map(doctor::private_file));
    findings.push(doctor::ending(&probe::certificate(&state.connection(), true), now));
    findings.extend(agent(&state));
    let config = match Config::load(&state.config()) {
        Ok(config) => config,
        Err(error) => {
            let what = state.config().display().to_string();
            findings.push(doctor::wrong("agent", &what, &chain(&error), "join again, or mend the file"));
            return findings;
        }
    };
    match probe::api_server(&config.kubernetes).await {
        None => findings.push(doctor::fine("API server", "simulated", "it is part of the agent")),
        Some((server, answer)) => {
            let what = String::from(config.kubernetes.clone());
            findings.extend(doctor::api_server(&what, &server));
            let clocks = answer.and_then(|answer| answer.clocks);
            findings.extend(clocks.map(|(theirs, ours)| doctor::clocks("the API server", theirs, ours)));
        }
    }
    match fs::read(state.ca()) {
        Ok(authority) => {
            for (what, address) in [("clusters", config.broker.clone()), ("enrolment", config.enrol())] {
                let what = format!("the hub's port for {what}");
                findings.extend(listens(&what, &address.host, address.port, &authority, now).await);
            }
        }
        Err(error) => {
            let what = state.ca().display().to_string();
            findings.push(doctor::wrong("certificates", &what, &chain(&error), "join again"));
        }
    }
    findings
}

fn no_folder(about: &'static str, folder: &Path) -> Option<Finding> {
    let what = folder.display().to_string();
    let finding = || doctor::wrong(about, &what, "there is no such folder", "name the folder that is in use");
    (!folder.is_dir()).then(finding)
}

/// What the agent itself says.
fn agent(state: &StateDir) -> Vec<Finding> {
    let status = match control::ask(&state.control(), &Request::Status) {
        Ok(Reply::Status(status)) => status,
        Ok(Reply::Done | Reply::Failed { .. } | Reply::Report { .. }) | Err(_) => {
            let why = format!("does not answer at {}", state.control().display());
            let advice = "start it with `edge-agent run`, as the user who owns the folder";
            return vec![doctor::wrong("agent", "agent", &why, advice)];
        }
    };
    let size = format!("runs {}, its journal takes {}", status.agent, bytes(status.journal_bytes));
    let mut findings = vec![doctor::fine("agent", &status.cluster, &size)];
    if !status.hub.connected {
        let advice = "it goes on keeping what it has; see the ports and certificates";
        findings.push(doctor::wrong("agent", "link to the hub", &status.hub.reason, advice));
    }
    if let Some(hold) = &status.hold {
        let found = format!("holds since {}: {}", clock::rfc3339(hold.since), hold.reason);
        findings.push(doctor::fine("agent", "hold", &found));
    }
    findings
}

async fn listens(what: &str, host: &str, port: u16, authority: &[u8], now: UnixSeconds) -> Vec<Finding> {
    let (port, shown) = probe::listens(what, host, port, authority).await;
    let port_finding = doctor::port(&port);
    match port.answers {
        Ok(()) => vec![port_finding, doctor::ending(&shown, now)],
        Err(_) => vec![port_finding],
    }
}

async fn known_clusters(kubeconfig: &Path) -> Looked<Vec<fleet_broker::resources::Cluster>> {
    let hub = Hub::open(kubeconfig).await.map_err(|error| chain(&error))?;
    hub.clusters().await.map_err(|error| chain(&error))
}

/// Host and port of the hub's API, and the certificate authority by which it is known.
fn place(kubeconfig: &Path) -> Looked<(String, u16, String)> {
    let file = Kubeconfig::read_from(kubeconfig).map_err(|error| chain(&error))?;
    let Place { server, ca } =
        Place::of(&file).ok_or("its current context names no server with a certificate authority")?;
    let uri: Uri = server.parse().map_err(|_| format!("{server:?} is no address"))?;
    let host = uri.host().ok_or_else(|| format!("{server:?} names no host"))?;
    let authority = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, ca);
    let authority =
        authority.ok().and_then(|bytes| String::from_utf8(bytes).ok()).filter(|pem| !pem.is_empty());
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    Ok((host, uri.port_u16().unwrap_or(443), authority.ok_or("it holds no certificate authority")?))
}

fn to_json(finding: &Finding) -> Value {
    let Finding { about, what, verdict, found, advice } = finding;
    json!({
        "about": about, "what": what, "verdict": verdict.to_string(), "found": found, "advice": advice,
    })
}
