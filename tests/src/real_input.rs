//! What other projects publish, as they publish it.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// The Go modules whose go.mod and go.sum fix the versions and content of everything that is fetched.
const MODULES: [&str; 2] = ["real-input", "control-plane"];

/// The module that requires what came before.
const OLDER: &str = "real-input/older";

/// The folder of a published Go module, `sigs.k8s.io/gateway-api` for example, at the version that
/// `tests/real-input` (or `tests/control-plane`) requires. It is fetched when it is not there yet. Files in it
/// are read-only and shared: copy what a test changes.
///
/// # Errors
///
/// When neither requires the module, Go is missing, or the module cannot be fetched.
pub fn module_dir(module: &str) -> Result<PathBuf> {
    module_dir_of(&MODULES, module)
}

/// The folder of the same module at the older version from which tests upgrade, which `tests/real-input/older`
/// requires.
///
/// # Errors
///
/// Those of [`module_dir`].
pub fn older_module_dir(module: &str) -> Result<PathBuf> {
    module_dir_of(&[OLDER], module)
}

fn module_dir_of(requiring: &[&str], module: &str) -> Result<PathBuf> {
    for requiring in requiring {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(requiring);
        if requires(&folder, module)? {
            return download(&folder, module);
        }
    }
    bail!("no go.mod under tests/ requires {module}: add it to tests/{}/go.mod", requiring[0])
}

fn requires(folder: &Path, module: &str) -> Result<bool> {
    let path = folder.join("go.mod");
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    Ok(text.lines().any(|line| {
        let mut words = line.split_whitespace().skip_while(|word| *word == "require");
        words.next() == Some(module) && words.next().is_some_and(|word| word.starts_with('v'))
    }))
}

fn download(folder: &Path, module: &str) -> Result<PathBuf> {
    let output = Command::new("go")
        .args(["mod", "download", "-json", module])
        .current_dir(folder)
        .output()
        .context("start go: install Go 1.26 or newer")?;
    let answer: Value = serde_json::from_slice(&output.stdout).with_context(|| {
        format!("go mod download {module}: {}", String::from_utf8_lossy(&output.stderr).trim())
    })?;
    match answer["Dir"].as_str() {
        Some(dir) => Ok(dir.into()),
        None => bail!("go mod download {module}: {}", answer["Error"]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_published_manifests() -> Result<()> {
        for (module, file) in [
            ("github.com/cert-manager/cert-manager", "deploy/charts/cert-manager/values.yaml"),
            ("github.com/prometheus-operator/prometheus-operator", "bundle.yaml"),
            ("k8s.io/kubernetes", "cluster/addons/metrics-server/metrics-server-deployment.yaml"),
            ("k8s.io/kubernetes", "cluster/addons/node-problem-detector/npd.yaml"),
            ("sigs.k8s.io/gateway-api", "config/crd/kustomization.yaml"),
        ] {
            let path = module_dir(module)?.join(file);
            assert!(path.is_file(), "{} is missing", path.display());
        }
        Ok(())
    }

    #[test]
    fn finds_what_came_before() -> Result<()> {
        for module in [
            "github.com/cert-manager/cert-manager",
            "github.com/prometheus-operator/prometheus-operator",
            "k8s.io/kubernetes",
            "sigs.k8s.io/gateway-api",
        ] {
            let (older, newer) = (older_module_dir(module)?, module_dir(module)?);
            assert!(older.is_dir() && older != newer, "{} and {}", older.display(), newer.display());
        }
        Ok(())
    }

    #[test]
    fn names_the_file_to_change_for_another_module() {
        let error = older_module_dir("example.org/none").unwrap_err();
        assert!(error.to_string().ends_with("add it to tests/real-input/older/go.mod"), "{error}");
    }
}
