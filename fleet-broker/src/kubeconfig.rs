//! `hub.kubeconfig`: with it, kubectl and every other Kubernetes client finds the hub and may use it.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use thiserror::Error;

use crate::api::auth::Token;
use crate::boundary::{self, At};
use crate::logic::access::ADMIN;

/// Only the owner may read it: it holds a token.
const MODE: u32 = 0o600;

/// The file could not be written.
#[derive(Debug, Error)]
#[error("cannot write the kubeconfig {path}")]
pub struct KubeconfigError {
    /// Which file.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// Writes the hub's own kubeconfig, for the hub at `server` (an https URL) whose certificate the CA in `ca_pem`
/// signed. What is at `path` is replaced at once, never half.
///
/// # Errors
/// When the file cannot be written.
pub fn write(path: &Path, server: &str, ca_pem: &str, token: &Token) -> Result<(), KubeconfigError> {
    let content = text(server, &STANDARD.encode(ca_pem), ADMIN, token.expose());
    replace(path, content.as_bytes()).map_err(|source| KubeconfigError { path: path.to_owned(), source })
}

/// A kubeconfig for the bearer of a token. `ca` is the certificate authority's PEM in base64, as kubeconfigs have it.
/// JSON, which is YAML that needs no quoting rules.
pub fn text(server: &str, ca: &str, user: &str, token: &str) -> String {
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "edgefleet", "cluster": {"server": server, "certificate-authority-data": ca}}],
        "users": [{"name": user, "user": {"token": token}}],
        "contexts": [{"name": "edgefleet", "context": {"cluster": "edgefleet", "user": user}}],
        "current-context": "edgefleet",
    });
    format!("{config:#}\n")
}

/// Writes a file that only its owner may read, all at once.
///
/// # Errors
/// When it cannot be written.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    boundary::pass(At::File);
    let temporary = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(MODE).open(&temporary)?;
    file.set_permissions(fs::Permissions::from_mode(MODE))?;
    file.write_all(content)?;
    file.sync_all()?;
    boundary::pass(At::Rename);
    fs::rename(&temporary, path)?;
    boundary::pass(At::Renamed);
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn written_for_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hub.kubeconfig");
        fs::write(&path, "old").unwrap();
        let token = Token::generate();
        write(&path, "https://127.0.0.1:7443", "-----BEGIN", &token).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let written: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(written["users"][0]["user"]["token"], token.expose());
        assert_eq!(written["clusters"][0]["cluster"]["certificate-authority-data"], "LS0tLS1CRUdJTg==");
        let error = write(&folder.path().join("none/x"), "", "", &token).unwrap_err();
        assert!(error.to_string().contains("none/x"), "{error}");
    }
}
