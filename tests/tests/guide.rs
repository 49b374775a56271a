//! The operator's guide is run as it is read: every block of commands, in order, in one shell.

use std::{env, fs, path::Path, process::Command, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use tempfile::TempDir;
use tests::{Process, free_port, kubeconfig, program, tool};

const GUIDE: &str = include_str!("../../docs/operators-guide.md");
/// Longer than all its waits for things that happen.
const WITHIN: Duration = Duration::from_secs(600);
/// Comes before what a block prints.
const MARK: &str = "=== block ";

/// A fenced block: where it begins, what it is, and its lines.
struct Block {
    line: usize,
    kind: String,
    text: String,
}

#[tokio::test(flavor = "multi_thread")]
async fn every_command_of_the_operators_guide_does_what_the_guide_says() -> Result<()> {
    let folder = TempDir::with_prefix("guide-")?;
    let blocks = blocks(GUIDE)?;
    let mut script = String::from("set -euo pipefail\n");
    for block in blocks.iter().filter(|block| block.kind == "sh") {
        script += &format!("echo '{MARK}{}'\n{}", block.line, block.text);
    }
    fs::write(folder.path().join("guide.sh"), script)?;
    let mut shell = Process::spawn("guide", &shell(folder.path())?)?;
    let ended = shell.wait(WITHIN).await?;
    let log = shell.log()?;
    let printed = |line: usize| -> Option<&str> {
        let (_, rest) = log.split_once(&format!("{MARK}{line}\n"))?;
        Some(rest.split(MARK).next().unwrap_or(rest))
    };
    let last = log.lines().rev().find_map(|line| line.strip_prefix(MARK)).unwrap_or("none");
    ensure!(ended.success(), "the block at line {last} failed:\n{log}");
    for pair in blocks.windows(2).filter(|pair| pair[1].kind == "text") {
        let said = printed(pair[0].line).context("a shown text follows the commands that print it")?;
        for line in pair[1].text.lines() {
            ensure!(
                said.contains(line),
                "the block at line {} did not print {line:?} but\n{said}",
                pair[0].line
            );
        }
    }
    Ok(())
}

/// The shell of somebody who has installed everything, with the names that the guide lets its reader choose.
fn shell(folder: &Path) -> Result<Command> {
    let programs = program("edgefleet")?.parent().context("a program is in a folder")?.to_owned();
    let tools = tool("kubectl")?.parent().context("a tool is in a folder")?.to_owned();
    let path = env::var_os("PATH").unwrap_or_default();
    let paths = [programs, tools].into_iter().chain(env::split_paths(&path));
    let local = || Ok::<_, anyhow::Error>(format!("127.0.0.1:{}", free_port()?));
    let mut command = Command::new("bash");
    command.arg("guide.sh").current_dir(folder).env("PATH", env::join_paths(paths)?);
    command
        .env("HUB", "127.0.0.1")
        .env("SITE_KUBECONFIG", kubeconfig()?)
        .env("KUBECACHEDIR", folder.join("cache"));
    command.env("API", local()?).env("BROKER", local()?).env("ENROL", local()?);
    Ok(command)
}

fn blocks(text: &str) -> Result<Vec<Block>> {
    let mut blocks = Vec::new();
    let mut lines = text.lines().zip(1..);
    while let Some((fence, line)) = lines.next() {
        let Some(kind) = fence.strip_prefix("```") else { continue };
        let body: Vec<&str> =
            lines.by_ref().map(|(text, _)| text).take_while(|text| *text != "```").collect();
        match kind {
            "sh" | "text" | "sh yours" => {}
            _ => bail!("line {line}: blocks are sh, text or sh yours, not {kind:?}"),
        }
        blocks.push(Block { line, kind: kind.to_owned(), text: body.join("\n") + "\n" });
    }
    ensure!(blocks.iter().filter(|block| block.kind == "sh").count() > 10, "the guide has lost its commands");
    Ok(blocks)
}
