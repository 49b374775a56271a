//! What keeps the project in its shape, checked on the text of its files: pure logic stays pure, each outside
//! crate is known to one module, crates use each other in one direction, and nothing grows too long to read.

mod source;
mod tables;

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use source::{first_segment, functions, named_paths};
use tables::{
    FILE_LINES_MAX, FUNCTION_LINES_GOOD, FUNCTION_LINES_MAX, IMPURE, OUTSIDE, PURE, UNSAID, UNSAID_EXCEPT,
    USES,
};

/// A file of the project, by its path from the root.
struct File {
    path: String,
    text: String,
}

#[test]
fn logic_does_nothing_itself() -> Result<()> {
    passes(|file| if is_rust(file) { impurities(file) } else { vec![] })
}

#[test]
fn one_module_knows_each_outside_crate() -> Result<()> {
    passes(|file| if is_rust(file) { strangers(file) } else { vec![] })
}

#[test]
fn files_and_functions_can_be_read_at_once() -> Result<()> {
    passes(|file| if is_rust(file) { overlong(file) } else { vec![] })?;
    let files = project_files()?;
    let lengths: Vec<usize> = files
        .iter()
        .filter(|file| is_rust(file))
        .flat_map(|file| functions(&file.text))
        .map(|function| function.lines)
        .collect();
    let long = lengths.iter().filter(|lines| **lines > FUNCTION_LINES_GOOD).count();
    let share = 100.0 * long as f64 / lengths.len().max(1) as f64;
    println!("{long} of {} functions ({share:.1} %) are over {FUNCTION_LINES_GOOD} lines", lengths.len());
    Ok(())
}

#[test]
fn files_speak_of_the_project_alone() -> Result<()> {
    passes(indiscretions)
}

#[test]
fn crates_use_each_other_in_one_direction() -> Result<()> {
    let output = run("cargo", &["metadata", "--format-version", "1", "--no-deps", "--offline"])?;
    let metadata: Value = serde_json::from_str(&output)?;
    let wrong = wrong_uses(&metadata)?;
    ensure!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    Ok(())
}

/// Fails with every violation that the rule finds in the project's files.
fn passes(rule: impl Fn(&File) -> Vec<String>) -> Result<()> {
    let violations: Vec<_> = project_files()?.iter().flat_map(rule).collect();
    ensure!(violations.is_empty(), "\n{}", violations.join("\n"));
    Ok(())
}

fn impurities(file: &File) -> Vec<String> {
    if !PURE.iter().any(|module| is_in(&file.path, module)) {
        return vec![];
    }
    named_paths(&file.text)
        .iter()
        .filter(|named| IMPURE.iter().any(|impure| reaches(&named.path, impure)))
        .map(|named| format!("{}:{}: pure code names {}", file.path, named.line, named.path))
        .collect()
}

fn strangers(file: &File) -> Vec<String> {
    if file.path.ends_with("/tests.rs") {
        return vec![];
    }
    let rules = OUTSIDE.iter().filter(|rule| {
        is_in(&file.path, rule.within) && !rule.known_to.iter().any(|module| is_in(&file.path, module))
    });
    let unknown: Vec<&str> = rules.flat_map(|rule| rule.crates).copied().collect();
    named_paths(&file.text)
        .iter()
        .filter(|named| unknown.contains(&first_segment(&named.path)))
        .map(|named| format!("{}:{}: names {}, which is another module's", file.path, named.line, named.path))
        .collect()
}

fn overlong(file: &File) -> Vec<String> {
    let lines = file.text.lines().count();
    let whole =
        (lines > FILE_LINES_MAX).then(|| format!("{}: {lines} lines; at most {FILE_LINES_MAX}", file.path));
    let long = functions(&file.text).into_iter().filter(|function| function.lines > FUNCTION_LINES_MAX);
    let parts = long.map(|function| {
        let (line, name, lines) = (function.line, function.name, function.lines);
        format!("{}:{line}: fn {name}: {lines} lines; at most {FUNCTION_LINES_MAX}", file.path)
    });
    whole.into_iter().chain(parts).collect()
}

fn indiscretions(file: &File) -> Vec<String> {
    if UNSAID_EXCEPT.iter().any(|name| file.path.ends_with(name)) {
        return vec![];
    }
    let unsaid = |line: &str| UNSAID.iter().find(|unsaid| line.contains(*unsaid)).copied();
    let numbered = (1..).zip(file.text.lines());
    numbered
        .filter_map(|(number, line)| Some(format!("{}:{number}: says {}", file.path, unsaid(line)?)))
        .collect()
}

/// Uses among our own crates, of whatever kind, that the table does not list.
fn wrong_uses(metadata: &Value) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    for package in metadata["packages"].as_array().context("cargo lists packages")? {
        let name = package["name"].as_str().context("a package has a name")?;
        let Some((_, allowed)) = USES.iter().find(|(user, _)| *user == name) else {
            wrong.push(format!("{name} is not in the table of what our crates may use"));
            continue;
        };
        let dependencies = package["dependencies"].as_array().context("a package has dependencies")?;
        let ours = dependencies.iter().filter(|dependency| dependency["path"].is_string());
        for used in ours.filter_map(|dependency| dependency["name"].as_str()) {
            if !allowed.contains(&used) && used != name {
                wrong.push(format!("{name} uses {used}; it may use only {allowed:?}"));
            }
        }
    }
    Ok(wrong)
}

/// Whether the path names what is forbidden, a part of it, or everything in a module that holds it.
fn reaches(path: &str, forbidden: &str) -> bool {
    let begins = |long: &str, short: &str| {
        long.strip_prefix(short).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    begins(path, forbidden) || path.strip_suffix("::*").is_some_and(|module| begins(forbidden, module))
}

/// Whether a file belongs to a module or folder; `*/NAME` is the module of that name anywhere.
fn is_in(path: &str, module: &str) -> bool {
    let within = |path: &str, module: &str| {
        path.strip_prefix(module).is_some_and(|rest| rest.starts_with('/') || rest == ".rs")
    };
    match module.strip_prefix("*/") {
        None => within(path, module),
        Some(name) => path.match_indices('/').any(|(at, _)| within(&path[at + 1..], name)),
    }
}

fn is_rust(file: &File) -> bool {
    file.path.ends_with(".rs")
}

/// Every text that is or would be committed.
fn project_files() -> Result<Vec<File>> {
    let listed = run("git", &["ls-files", "--cached", "--others", "--exclude-standard"])?;
    let mut files = Vec::new();
    for path in listed.lines() {
        // A deleted file is still listed until it is committed; one that is no text has nothing to say.
        if let Ok(text) = std::fs::read_to_string(root().join(path)) {
            files.push(File { path: path.into(), text });
        }
    }
    ensure!(files.iter().any(is_rust), "git lists no Rust file in {}", root().display());
    Ok(files)
}

fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).current_dir(root()).output();
    let output = output.with_context(|| format!("start {program}"))?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {}: {error}", arguments.join(" "));
    Ok(String::from_utf8(output.stdout)?)
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package is in a folder of the project")
}

/// Every rule fails where it must, and only there.
mod rules {
    use serde_json::json;

    use super::*;

    fn check(rule: impl Fn(&File) -> Vec<String>, rows: &[(&str, &str, &[&str])]) {
        for (path, text, expected) in rows {
            let file = File { path: (*path).into(), text: (*text).into() };
            assert_eq!(rule(&file), *expected, "{path}: {text}");
        }
    }

    #[test]
    fn impurities_are_found() {
        let agent = "edge-agent/src/logic/plan.rs";
        check(
            impurities,
            &[
                (agent, "use std::time::Duration;", &[]),
                (agent, "use std::fs;", &["edge-agent/src/logic/plan.rs:1: pure code names std::fs"]),
                (
                    "fleet-broker/src/logic.rs",
                    "use std::{fmt, time::{self, Duration}};\nfn f() { time::Instant::now(); }",
                    &["fleet-broker/src/logic.rs:2: pure code names std::time::Instant::now"],
                ),
                (
                    "protocol/src/keys.rs",
                    "fn f() { std::time::SystemTime::now(); }",
                    &["protocol/src/keys.rs:1: pure code names std::time::SystemTime::now"],
                ),
                (
                    "protocol/apimachinery/src/lib.rs",
                    "use tokio as t;",
                    &["protocol/apimachinery/src/lib.rs:1: pure code names tokio"],
                ),
                (
                    agent,
                    "use std::time::*;",
                    &["edge-agent/src/logic/plan.rs:1: pure code names std::time::*"],
                ),
                ("edge-agent/src/main.rs", "use std::fs;", &[]),
                ("edge-agent/src/logician.rs", "use std::fs;", &[]),
            ],
        );
    }

    #[test]
    fn strangers_are_found() {
        check(
            strangers,
            &[
                ("edge-agent/src/cluster/kube.rs", "use kube::Client;", &[]),
                ("edge-agent/src/cluster/kube/watch.rs", "use hyper_util::rt;", &[]),
                ("edge-agent/src/cluster.rs", "mod kube; pub use kube::KubeCluster;", &[]),
                (
                    "edge-agent/src/driver.rs",
                    "use kube::Client;",
                    &["edge-agent/src/driver.rs:1: names kube::Client, which is another module's"],
                ),
                (
                    "fleet-broker/src/hub.rs",
                    "\nfn f(c: &rusqlite::Connection) {}",
                    &["fleet-broker/src/hub.rs:2: names rusqlite::Connection, which is another module's"],
                ),
                (
                    "protocol/src/verify.rs",
                    "use serde_cbor::Value;",
                    &["protocol/src/verify.rs:1: names serde_cbor::Value, which is another module's"],
                ),
                ("edge-agent/src/driver/tests.rs", "use kube::Client;", &[]),
                ("tests/tests/join.rs", "use kube::Client;", &[]),
            ],
        );
    }

    #[test]
    fn overlong_files_and_functions_are_found() {
        let long_function = format!("fn long() {{\n{}}}\n", "a();\n".repeat(FUNCTION_LINES_MAX));
        check(
            overlong,
            &[
                ("a.rs", &"\n".repeat(FILE_LINES_MAX), &[]),
                ("a.rs", &"\n".repeat(FILE_LINES_MAX + 1), &["a.rs: 601 lines; at most 600"]),
                ("a.rs", &long_function, &["a.rs:1: fn long: 102 lines; at most 100"]),
            ],
        );
    }

    #[test]
    fn indiscretions_are_found() {
        let [folder, registry] = [UNSAID[0], UNSAID[1]];
        let expected = format!("README.md:2: says {registry}");
        check(
            indiscretions,
            &[
                ("README.md", "It works/ends.", &[]),
                ("README.md", &format!("\nfrom https://{registry}/"), &[&expected]),
                ("a/go.sum", &format!("{folder} {registry}"), &[]),
            ],
        );
    }

    #[test]
    fn uses_against_the_direction_are_found() -> Result<()> {
        let ours = |name: &str| json!({ "name": name, "path": "/somewhere" });
        for (package, dependencies, expected) in [
            ("protocol", json!([{ "name": "serde" }]), vec![]),
            ("fleet-broker", json!([ours("protocol")]), vec![]),
            (
                "protocol",
                json!([ours("apimachinery")]),
                vec!["protocol uses apimachinery; it may use only []"],
            ),
            ("novelty", json!([]), vec!["novelty is not in the table of what our crates may use"]),
        ] {
            let metadata = json!({ "packages": [{ "name": package, "dependencies": dependencies }] });
            assert_eq!(wrong_uses(&metadata)?, expected);
        }
        Ok(())
    }
}
