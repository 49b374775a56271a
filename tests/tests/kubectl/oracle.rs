//! One command, asked of the hub and of a real API server, and what of their answers has to be the same: all but
//! what no two servers share.

use std::process::Stdio;
use std::sync::LazyLock;

use anyhow::{Context, Result, ensure};
use regex::Regex;
use serde_json::{Deserializer, Value};
use tests::Kubectl;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::script::{Expected, Step, split};

/// What kubectl made of one command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    /// Refusals as the server worded them, which kubectl shows in part.
    pub(crate) statuses: Vec<Value>,
}

/// Runs a step. Of one that is to fail, the server's own words are taken down too.
pub(crate) async fn ask(kubectl: &Kubectl, step: &Step) -> Result<Answer> {
    let mut arguments = split(step.command);
    if matches!(step.expected, Expected::Fails(_)) {
        arguments.push("-v=10".to_owned());
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut command = Command::from(kubectl.command(&arguments));
    command.env("KUBE_EDITOR", step.editor);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().with_context(|| format!("kubectl {}", step.command))?;
    let mut stdin = child.stdin.take().context("kubectl has a standard input")?;
    let writing = async move {
        // A kubectl that has no use for its input closes it.
        let _ = stdin.write_all(step.input.as_bytes()).await;
    };
    let ((), output) = tokio::join!(writing, child.wait_with_output());
    let output = output?;
    let (log, said) = split_log(&String::from_utf8_lossy(&output.stderr));
    Ok(Answer {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: said,
        statuses: statuses(&log),
    })
}

/// Whether an answer is what the script expects of it.
pub(crate) fn check(step: &Step, answer: &Answer) -> Result<()> {
    let Answer { code, stdout, stderr, .. } = answer;
    let (printed, expected, absent) = match &step.expected {
        Expected::Prints(parts) => (stdout, *parts, None),
        Expected::PrintsWithout(parts, absent) => (stdout, *parts, Some(*absent)),
        Expected::Fails(parts) => (stderr, *parts, None),
    };
    let fails = matches!(step.expected, Expected::Fails(_));
    ensure!(fails == (*code != 0), "it ended with {code}:\n{stdout}{stderr}");
    for part in expected {
        ensure!(printed.contains(part), "{part:?} is not in what it printed:\n{printed}");
    }
    if let Some(absent) = absent {
        ensure!(!printed.contains(absent), "{absent:?} is in what it printed:\n{printed}");
    }
    Ok(())
}

/// Compares the hub's answer with the API server's.
pub(crate) fn compare(hub: &Answer, server: &Answer) -> Result<()> {
    ensure!(hub.code == server.code, "it ended with {}, on an API server with {}", hub.code, server.code);
    let parsed = |text: &str| {
        serde_json::from_str::<Value>(text).map_or_else(|_| text.to_owned(), |value| value.to_string())
    };
    for (what, hub, server) in
        [("stdout", &hub.stdout, &server.stdout), ("stderr", &hub.stderr, &server.stderr)]
    {
        let lines = |text: &String| text.split_inclusive('\n').map(parsed).collect::<String>();
        let (hub, server) = (comparable(&lines(hub)), comparable(&lines(server)));
        ensure!(hub == server, "{what} of the hub:\n{hub}\n{what} of an API server:\n{server}");
    }
    let (hub, server) = (comparable_statuses(hub), comparable_statuses(server));
    ensure!(hub == server, "Statuses of the hub:\n{hub}\nStatuses of an API server:\n{server}");
    Ok(())
}

/// What may differ, and what stands for it.
static DIFFERENCES: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    [
        (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "UID"),
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "TIME"),
        (r#"([Rr]esource ?[Vv]ersion\\?"?: *\\?"?)\d+"#, "${1}N"),
        (r"https://127\.0\.0\.1:\d+", "SERVER"),
        (r"\b\d+(s|m|h|d)(\d+(s|m|h))?\b", "AGE"),
        (r"/tmp/[A-Za-z0-9._/-]+", "FILE"),
        // Columns are as wide as what stands in them.
        (r" {2,}", "  "),
        (r" +\n", "\n"),
    ]
    .into_iter()
    .map(|(pattern, stands_for)| (Regex::new(pattern).expect("these patterns are well-formed"), stands_for))
    .collect()
});

fn comparable(text: &str) -> String {
    DIFFERENCES.iter().fold(text.to_owned(), |text, (pattern, stands_for)| {
        pattern.replace_all(&text, *stands_for).into_owned()
    })
}

fn comparable_statuses(answer: &Answer) -> String {
    let lines = answer.statuses.iter().map(|status| comparable(&status.to_string()));
    lines.collect::<Vec<_>>().join("\n")
}

/// kubectl's log, and what it says beside it.
fn split_log(stderr: &str) -> (String, String) {
    static ENTRY: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"^[IWEF]\d{4} ").expect("this pattern is well-formed"));
    let (mut log, mut said, mut within, mut object) = (String::new(), String::new(), false, false);
    for line in stderr.split_inclusive('\n') {
        let goes_on = within && (line.starts_with('\t') || line.starts_with(" >") || object);
        within = goes_on || ENTRY.is_match(line);
        object = within && (line.ends_with("[{\n") || object && line != "}]\n");
        if within { &mut log } else { &mut said }.push_str(line);
    }
    (log, said)
}

/// Every refusal in a log of requests and responses.
fn statuses(log: &str) -> Vec<Value> {
    let bodies = log.lines().filter_map(|line| {
        let quoted = line.split_once("body=\"").map(|(_, rest)| format!("\"{rest}"));
        let quoted = quoted.and_then(|text| Deserializer::from_str(&text).into_iter::<String>().next()?.ok());
        serde_json::from_str::<Value>(&quoted.unwrap_or_else(|| line.trim().to_owned())).ok()
    });
    let mut found: Vec<Value> =
        bodies.filter(|body| body["kind"] == "Status" && body["status"] == "Failure").collect();
    for status in &mut found {
        // In no order, as the managers of an object are.
        if let Some(causes) = status.pointer_mut("/details/causes").and_then(Value::as_array_mut) {
            causes.sort_by_key(Value::to_string);
        }
        // Nothing, said in two ways.
        if let Some(status) = status.as_object_mut() {
            status.retain(|_, value| value != &serde_json::json!({}));
        }
    }
    found
}
