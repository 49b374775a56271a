//! A cluster without a link is updated by a file that somebody carries, and its report comes back the same way.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use edgefleet::clock;
use fleet_broker::{pki::CERTIFICATE_LIFETIME, resources::AssignmentState};
use protocol::{
    carry::{Label, Reader, Record, Writer},
    ids::{ClusterId, Digest},
    limits,
};
use serde_json::json;
use tempfile::TempDir;
use tests::wait_for;

use crate::{
    fleet_keys::make_keys,
    harness::{SOON, Site, condition, program},
    manifests::TWO_WEBS,
};

/// What does not compress, so that a transfer of it shows.
const NOISE_BYTES: u64 = 256 * 1024;

/// What hello, head, desired state, reports and acknowledgements take, TLS included: far less than the content.
const TALK_BYTES: u64 = 32 * 1024;

/// How long an import waits for its result, in seconds.
const WAIT: &str = "180";

/// A site whose agent has joined, and has no link.
async fn apart(promise: &str) -> Result<Site> {
    let name = format!("{promise}-{}", clock::now());
    let folder = TempDir::with_prefix(&name)?;
    make_keys(folder.path(), &name, &[])?;
    let site = Site::open(name, folder, CERTIFICATE_LIFETIME).await?;
    site.join().await?;
    site.link.cut();
    Ok(site)
}

/// Exports for the site's cluster. The file and how long it is.
async fn export(site: &Site, name: &str, full: bool) -> Result<(PathBuf, u64)> {
    let path = site.folder.path().join(name);
    let cluster = ClusterId::new(&*site.name)?;
    site.operator.export(&cluster, full, &mut fs::File::create(&path)?).await?;
    let len = fs::metadata(&path)?.len();
    Ok((path, len))
}

/// Runs `edge-agent import` to its end.
async fn import(site: &Site, file: &Path, more: &[&str]) -> Result<Output> {
    let mut command = Command::new(program("edge-agent")?);
    command.arg("import").arg(file).args(["--wait", WAIT]).args(more);
    command.arg("--state").arg(site.state().folder());
    Ok(tokio::task::spawn_blocking(move || command.output()).await??)
}

async fn imported(site: &Site, file: &Path, more: &[&str]) -> Result<String> {
    let output = import(site, file, more).await?;
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    ensure!(output.status.success(), "{said:?}");
    Ok(said.concat())
}

/// An import is refused, for this reason.
#[allow(clippy::print_stdout, reason = "what was seen is for whoever reads along")]
async fn refused(site: &Site, file: &Path, more: &[&str], why: &str) -> Result<()> {
    let output = import(site, file, more).await?;
    let said = String::from_utf8(output.stderr)?;
    println!("{}", said.trim());
    ensure!(!output.status.success() && said.contains(why), "{said} lacks {why}");
    Ok(())
}

/// Gives the hub the report beside a file. How many of it were news.
async fn report(site: &Site, file: &Path) -> Result<u64> {
    let bytes = fs::read(file.with_extension("carry.report"))?;
    Ok(site.operator.carried_report(&ClusterId::new(&*site.name)?, bytes).await?)
}

fn manifests(namespace: &str) -> String {
    let noise: String = (0..NOISE_BYTES / 64).map(|n| Digest::of(&n.to_be_bytes()).to_string()).collect();
    format!(
        "
apiVersion: v1
kind: Namespace
metadata: {{name: {namespace}}}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: noise}}
data: {{noise: {noise}}}
---
{TWO_WEBS}
"
    )
}

#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::print_stdout, reason = "what was seen is for whoever reads along")]
async fn a_cluster_that_never_had_a_link_is_updated_by_hand_and_reports_back() -> Result<()> {
    let mut site = apart("carried").await?;
    site.start_agent()?;
    answers(&site).await?;
    let bundle = site.deliver(&manifests(&site.name)).await?;
    site.assigned(&bundle, AssignmentState::Deferred).await?;
    let (file, len) = export(&site, "one.carry", false).await?;

    // Nobody knows what time it is at the site, before somebody looks.
    refused(&site, &file, &[], "import again with --confirm-clock").await?;
    ensure!(site.agent_status().await?.desired.is_none(), "it changed something");
    println!("{}", imported(&site, &file, &["--confirm-clock"]).await?);
    let scaled =
        |replicas: u32| move |found: &serde_json::Value| found["spec"]["replicas"] == json!(replicas);
    site.object("deployment", "web", scaled(2)).await?;
    site.kubectl(&["scale", "deployment/web", "--replicas=5"]).await?;
    site.object("deployment", "web", scaled(2)).await?;

    // The hub knows nothing of it, until the report comes back; and then it counts once.
    site.assigned(&bundle, AssignmentState::Deferred).await?;
    ensure!(report(&site, &file).await? == 1, "the report is news");
    site.assigned(&bundle, AssignmentState::Updated).await?;
    site.is_offline().await?;
    println!("{}", site.told("Carried").await?);
    ensure!(report(&site, &file).await? == 0, "the report is counted twice");
    // Importing again changes nothing, and a smaller file is enough: the hub knows what the cluster has.
    imported(&site, &file, &[]).await?;
    let (small, small_len) = export(&site, "two.carry", false).await?;
    imported(&site, &small, &[]).await?;
    let (_, full_len) = export(&site, "three.carry", true).await?;
    println!("files of {len}, {small_len} and {full_len} bytes");
    ensure!(small_len < TALK_BYTES && full_len > NOISE_BYTES / 2, "{small_len} and {full_len} bytes");

    let before = site.link.downward_bytes();
    site.link.restore();
    site.condition("Connected").await?;
    site.condition_gone("Carried").await?;
    site.assigned(&bundle, AssignmentState::Updated).await?;
    let carried = site.link.downward_bytes() - before;
    println!("{carried} bytes over the link that came later");
    ensure!(carried < TALK_BYTES, "{carried} bytes");
    let cluster = site.cluster("the cluster", |_| true).await?;
    let synced = condition(&cluster, "Synced").context("it has reported")?;
    ensure!(synced[0] == "True", "{synced:?}");
    let status = site.agent_status().await?;
    ensure!(!status.conditions.iter().any(|one| one.kind.starts_with("Refused")), "{status}");
    Ok(())
}

/// A file of these records, whole and undamaged, whoever made it.
fn made(path: &Path, label: Label, records: &[Record]) -> Result<()> {
    let (mut writer, mut bytes) = Writer::begin(label);
    records.iter().for_each(|record| bytes.extend(writer.put(record)));
    bytes.extend(writer.end());
    Ok(fs::write(path, bytes)?)
}

fn parts(path: &Path) -> Result<(Label, Vec<Record>)> {
    let bytes = fs::read(path)?;
    let (mut reader, label) = Reader::open(bytes.as_slice())?;
    let mut records = Vec::new();
    while let Some(record) = reader.read()? {
        records.push(record);
    }
    Ok((label, records))
}

fn altered(record: &Record) -> Record {
    let flip = |bytes: &Vec<u8>| {
        let mut bytes = bytes.clone();
        bytes.iter_mut().rev().take(1).for_each(|last| *last ^= 1);
        bytes
    };
    match record {
        Record::Head(bytes) => Record::Head(flip(bytes)),
        Record::Desired(bytes) => Record::Desired(flip(bytes)),
        Record::Piece(bytes) => Record::Piece(flip(bytes)),
        other @ (Record::Report(_) | Record::Label(_) | Record::End(_)) => other.clone(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_carried_file_is_told_and_changes_nothing() -> Result<()> {
    let mut site = apart("stick").await?;
    site.start_agent()?;
    answers(&site).await?;
    let bundle = site.deliver(&manifests(&site.name)).await?;
    site.assigned(&bundle, AssignmentState::Deferred).await?;
    let (first, _) = export(&site, "first.carry", false).await?;
    let (label, records) = parts(&first)?;
    let bad = site.folder.path().join("bad.carry");
    let clock = ["--confirm-clock"];

    let other = Label { cluster: ClusterId::new("tower-9")?, ..label.clone() };
    made(&bad, other, &records)?;
    refused(&site, &bad, &clock, "is for cluster tower-9 of fleet").await?;
    let bytes = fs::read(&first)?;
    for len in [0, 16, 17, 100, bytes.len() / 2, bytes.len() - 1] {
        fs::write(&bad, &bytes[..len])?;
        let why = if len < 17 { "it is not a file of `edgefleet export`" } else { "before its own end" };
        refused(&site, &bad, &clock, why).await?;
    }
    fs::File::create(&bad)?.set_len(limits::CARRY_BYTES + 1)?;
    refused(&site, &bad, &clock, "it is larger than").await?;
    refused(&site, &site.folder.path().join("none.carry"), &clock, "cannot use").await?;
    let mut command = Command::new(program("edge-agent")?);
    command.args(["report", "--state"]).arg(site.state().folder()).arg("--output").arg(&bad);
    ensure!(command.status()?.success(), "no report");
    refused(&site, &bad, &clock, "carries reports for the hub").await?;
    for (index, why) in [(0, "its head is not believed"), (1, "its desired state is refused")] {
        let mut records = records.clone();
        records[index] = altered(&records[index]);
        made(&bad, label.clone(), &records)?;
        refused(&site, &bad, &clock, why).await?;
    }
    ensure!(site.agent_status().await?.desired.is_none(), "it changed something");
    // The last piece of the last content: all else is right, and is kept.
    let mut forged = records.clone();
    let last = forged.last_mut().context("it has records")?;
    *last = altered(last);
    made(&bad, label.clone(), &forged)?;
    let output = import(&site, &bad, &["--confirm-clock", "--wait", "5"]).await?;
    ensure!(!output.status.success(), "forged content runs");
    ensure!(
        site.kubectl(&["get", "configmaps", "-o", "name"]).await?.find("noise").is_none(),
        "it was applied"
    );
    imported(&site, &first, &[]).await?;

    let second = site.deliver(&manifests(&site.name).replace("name: noise", "name: sound")).await?;
    site.assigned(&second, AssignmentState::Deferred).await?;
    let (newer, _) = export(&site, "second.carry", false).await?;
    imported(&site, &newer, &[]).await?;
    refused(&site, &first, &[], "export it anew").await?;
    site.get("configmap", "sound").await?;
    site.gone("configmap", "noise").await
}

/// How long an agent that may have ended already is waited for.
const GRACE: Duration = Duration::from_secs(5);

/// Waits until the agent answers.
async fn answers(site: &Site) -> Result<()> {
    wait_for("the agent", SOON, async || site.agent_status().await).await.map(drop)
}

/// Where an agent is ended while it imports: after so many boundaries, by a new process each time.
const ENDED_AFTER: [u64; 6] = [2, 4, 7, 11, 16, 24];

#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::print_stdout, reason = "what was seen is for whoever reads along")]
async fn an_import_that_is_ended_anywhere_ends_the_same_when_it_is_made_again() -> Result<()> {
    let mut site = apart("stick-cut").await?;
    let bundle = site.deliver(&manifests(&site.name)).await?;
    site.assigned(&bundle, AssignmentState::Deferred).await?;
    let (file, _) = export(&site, "one.carry", false).await?;
    for boundary in ENDED_AFTER {
        site.start_agent_until(boundary)?;
        // It may have ended before it said a word: then nobody is there to import.
        if tokio::time::timeout(GRACE, answers(&site)).await.is_err() {
            println!("ended after {boundary}, before it answered");
            site.kill_agent()?;
            continue;
        }
        let output = import(&site, &file, &["--confirm-clock"]).await?;
        println!("ended after {boundary}: {}", String::from_utf8_lossy(&output.stderr).trim());
        site.kill_agent()?;
    }
    // Where no agent runs, the import is one, until the end.
    println!("{}", imported(&site, &file, &["--confirm-clock"]).await?);
    site.get("configmap", "noise").await?;
    site.get("deployment", "web").await?;
    ensure!(!site.state().control().exists(), "it left its socket behind");
    site.start_agent()?;
    answers(&site).await?;
    let status = site.agent_status().await?;
    ensure!(status.applications.len() == 1 && status.reports_waiting == 1, "{status}");
    ensure!(report(&site, &file).await? == 1, "the report is news");
    site.assigned(&bundle, AssignmentState::Updated).await.map(drop)
}
