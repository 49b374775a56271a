//! What other projects publish: the largest bundle known to us, at the version that the tests apply.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::process::run;

/// Who publishes it, and where in the module it is: 4.2 MB, of which a definition alone takes up to 780 KB.
const MODULE: &str = "github.com/prometheus-operator/prometheus-operator";
const FILE: &str = "bundle.yaml";

/// Its manifests. Go fetches the module, unless it is there, and checks it against the tests' go.sum.
pub(crate) fn large_bundle(workspace: &Path) -> Result<String> {
    let mut download = Command::new("go");
    download.args(["mod", "download", "-json", MODULE]).current_dir(workspace.join("tests/real-input"));
    let answer: Value = serde_json::from_str(&run(&download, "", false)?)?;
    let folder =
        answer["Dir"].as_str().with_context(|| format!("go did not say where {MODULE} is: {answer}"))?;
    let path = Path::new(folder).join(FILE);
    fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
}
