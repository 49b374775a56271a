//! How the API server is reached and who we are to it: from a kubeconfig or a pod's service account.
//!
//! Of a kubeconfig only what a machine can use by itself is taken. Plugins that run commands, passwords and
//! unverified TLS are refused by name rather than passed over.

mod kubeconfig;

use std::{
    fs, io,
    path::{Path, PathBuf},
    str::Utf8Error,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use thiserror::Error;
use zeroize::Zeroizing;

use self::kubeconfig::{Cluster, Context, Kubeconfig, Named, User};

/// Largest file read for access. A kubeconfig of k3s is 3 KB; a CA bundle may be some hundred.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Where Kubernetes puts a pod's service account (the same path in every cluster).
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// How to reach an API server and who to be.
#[derive(Debug)]
pub struct Access {
    /// Address, such as `https://127.0.0.1:6443`.
    pub(super) server: String,
    /// Name that the server's certificate must have, where it is not the address's.
    pub(super) tls_server_name: Option<String>,
    /// Certificates of the authorities that may vouch for the server, as PEM.
    pub(super) authorities_pem: Vec<u8>,
    /// Who we are.
    pub(super) identity: Identity,
}

/// Proof of who we are. Never printed.
pub(super) enum Identity {
    /// A bearer token that does not change.
    Token(Zeroizing<String>),
    /// A file with a bearer token, replaced before the token expires.
    TokenFile(PathBuf),
    /// A client certificate chain and its key, as PEM.
    Certificate {
        /// The chain.
        chain_pem: Vec<u8>,
        /// The key.
        key_pem: Zeroizing<Vec<u8>>,
    },
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Token(_) => f.write_str("Token(..)"),
            Self::TokenFile(path) => write!(f, "TokenFile({})", path.display()),
            Self::Certificate { .. } => f.write_str("Certificate(..)"),
        }
    }
}

/// Why access cannot be had from a file. Each says which file, which part of it and what to do.
#[derive(Debug, Error)]
pub enum AccessError {
    /// A file cannot be read.
    #[error("cannot read {}: check that it exists and that the agent's user may read it", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file is larger than any of its kind.
    #[error("{} is larger than {MAX_FILE_BYTES} bytes: is it the right file?", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The file is not a kubeconfig.
    #[error("{} is not a kubeconfig: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and why.
        message: String,
    },
    /// Something the kubeconfig must have is missing or wrong.
    #[error("{}: {field}: {problem}", path.display())]
    Field {
        /// The file.
        path: PathBuf,
        /// The part of it, such as `users[edge].user.exec`.
        field: String,
        /// What is wrong and what to do.
        problem: String,
    },
}

impl Access {
    /// Access through a kubeconfig file: its context of that name, or else its current one.
    pub fn from_kubeconfig(path: &Path, context: Option<&str>) -> Result<Self, AccessError> {
        let file = File::read(path)?;
        let context = context.or(file.config.current_context.as_deref()).unwrap_or_default();
        let chosen: &Context = match file.config.contexts.iter().find(|one| one.name == context) {
            Some(found) => &found.value,
            None => return Err(file.unknown_context(context)),
        };
        let cluster = file.config.clusters.iter().find(|one| one.name == chosen.cluster);
        let cluster = cluster.ok_or_else(|| {
            file.error(
                &format!("contexts[{context}].context.cluster"),
                &format!("no cluster named {:?}", chosen.cluster),
            )
        })?;
        let user = file.config.users.iter().find(|one| one.name == chosen.user).ok_or_else(|| {
            file.error(
                &format!("contexts[{context}].context.user"),
                &format!("no user named {:?}", chosen.user),
            )
        })?;
        let identity = file.identity(user)?;
        file.access(cluster, identity)
    }

    /// Access as the service account of the pod that the agent runs in, to the address that Kubernetes puts
    /// into every pod's environment as `KUBERNETES_SERVICE_HOST` and `KUBERNETES_SERVICE_PORT`. (Its DNS name
    /// would need the cluster's DNS, which the agent may be about to install.)
    pub fn in_cluster(host: &str, port: u16) -> Result<Self, AccessError> {
        let folder = Path::new(SERVICE_ACCOUNT);
        let token = folder.join("token");
        // Read now so that a pod without an account fails at start and says why.
        read(&token)?;
        Ok(Self {
            server: if host.contains(':') {
                format!("https://[{host}]:{port}")
            } else {
                format!("https://{host}:{port}")
            },
            tls_server_name: None,
            authorities_pem: read(&folder.join("ca.crt"))?,
            identity: Identity::TokenFile(token),
        })
    }
}

impl Identity {
    /// The bearer token to send now, if that is how we are known. Reading the file each time is what keeps
    /// up with its rotation; it is a page of memory in tmpfs.
    pub(super) fn bearer(&self) -> Result<Option<Zeroizing<String>>, AccessError> {
        match self {
            Self::Token(token) => Ok(Some(token.clone())),
            Self::TokenFile(path) => {
                let bytes = Zeroizing::new(read(path)?);
                let text = std::str::from_utf8(&bytes).map_err(|error| not_text(path, error))?;
                Ok(Some(Zeroizing::new(text.trim().to_owned())))
            }
            Self::Certificate { .. } => Ok(None),
        }
    }
}

/// A kubeconfig and where it came from, which relative paths and errors need.
struct File<'a> {
    path: &'a Path,
    config: Kubeconfig,
}

impl<'a> File<'a> {
    fn read(path: &'a Path) -> Result<Self, AccessError> {
        let bytes = Zeroizing::new(read(path)?);
        let text = std::str::from_utf8(&bytes).map_err(|error| not_text(path, error))?;
        let config = Kubeconfig::parse(text)
            .map_err(|error| AccessError::Syntax { path: path.into(), message: error.to_string() })?;
        Ok(Self { path, config })
    }

    fn access(&self, named: &Named<Cluster>, identity: Identity) -> Result<Access, AccessError> {
        let field = |field: &str| format!("clusters[{}].cluster.{field}", named.name);
        let cluster = &named.value;
        if cluster.insecure_skip_tls_verify {
            let problem =
                "whoever answers could read and change everything; give certificate-authority-data instead";
            return Err(self.error(&field("insecure-skip-tls-verify"), problem));
        }
        if cluster.proxy_url.is_some() {
            return Err(self.error(&field("proxy-url"), "not supported: the agent runs beside its cluster"));
        }
        if !cluster.server.starts_with("https://") {
            return Err(self.error(&field("server"), "must start with https://"));
        }
        let data = cluster.certificate_authority_data.as_deref();
        let authorities_pem = self.either(
            data,
            cluster.certificate_authority.as_deref(),
            &field("certificate-authority-data"),
        )?;
        let authorities_pem = authorities_pem.ok_or_else(|| {
            let problem = "missing: without it the API server cannot be told from an impostor";
            self.error(&field("certificate-authority-data"), problem)
        })?;
        Ok(Access {
            server: cluster.server.trim_end_matches('/').to_owned(),
            tls_server_name: cluster.tls_server_name.clone(),
            authorities_pem,
            identity,
        })
    }

    fn identity(&self, named: &Named<User>) -> Result<Identity, AccessError> {
        let field = |field: &str| format!("users[{}].user.{field}", named.name);
        let user = &named.value;
        for (present, name) in [
            (user.exec, "exec"),
            (user.auth_provider, "auth-provider"),
            (user.username.is_some(), "username"),
            (user.impersonate.is_some(), "as"),
        ] {
            if present {
                let problem = "not supported; use a client certificate, token or tokenFile";
                return Err(self.error(&field(name), problem));
            }
        }
        if let Some(path) = &user.token_file {
            return Ok(Identity::TokenFile(self.beside(path)));
        }
        if let Some(token) = &user.token {
            return Ok(Identity::Token(Zeroizing::new(token.clone())));
        }
        let chain = self.either(
            user.client_certificate_data.as_deref(),
            user.client_certificate.as_deref(),
            &field("client-certificate-data"),
        )?;
        let key = self.either(
            user.client_key_data.as_deref(),
            user.client_key.as_deref(),
            &field("client-key-data"),
        )?;
        match (chain, key) {
            (Some(chain_pem), Some(key)) => {
                Ok(Identity::Certificate { chain_pem, key_pem: Zeroizing::new(key) })
            }
            (Some(_), None) => Err(self.error(&field("client-key-data"), "missing beside the certificate")),
            (None, _) => Err(self.error(&field("token"), "no token, tokenFile or client certificate")),
        }
    }

    /// What is given in the file itself, or else in another file. As in kubectl, data goes first.
    fn either(
        &self,
        data: Option<&str>,
        path: Option<&Path>,
        field: &str,
    ) -> Result<Option<Vec<u8>>, AccessError> {
        match (data.filter(|data| !data.is_empty()), path) {
            (Some(data), _) => match STANDARD.decode(data.trim()) {
                Ok(bytes) => Ok(Some(bytes)),
                Err(error) => Err(self.error(field, &format!("is not base64 ({error})"))),
            },
            (None, Some(path)) => read(&self.beside(path)).map(Some),
            (None, None) => Ok(None),
        }
    }

    /// Paths in a kubeconfig are relative to it.
    fn beside(&self, path: &Path) -> PathBuf {
        self.path.parent().map_or_else(|| path.into(), |folder| folder.join(path))
    }

    fn unknown_context(&self, context: &str) -> AccessError {
        let names: Vec<&str> = self.config.contexts.iter().map(|one| one.name.as_str()).collect();
        match context {
            "" if names.is_empty() => self.error("contexts", "there are none: is it the right file?"),
            "" => self.error("current-context", &format!("not set; choose one of {names:?}")),
            _ => self.error("contexts", &format!("no context named {context:?}; it has {names:?}")),
        }
    }

    fn error(&self, field: &str, problem: &str) -> AccessError {
        AccessError::Field { path: self.path.into(), field: field.into(), problem: problem.into() }
    }
}

fn read(path: &Path) -> Result<Vec<u8>, AccessError> {
    let failed = |source| AccessError::Read { path: path.into(), source };
    if fs::metadata(path).map_err(failed)?.len() > MAX_FILE_BYTES {
        return Err(AccessError::TooLarge { path: path.into() });
    }
    fs::read(path).map_err(failed)
}

fn not_text(path: &Path, error: Utf8Error) -> AccessError {
    AccessError::Syntax { path: path.into(), message: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: &str = "server: https://127.0.0.1:6443/, certificate-authority-data: UEVN";

    fn load(cluster: &str, user: &str, context: Option<&str>) -> Result<Access, String> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ca.pem"), "from a file").unwrap();
        fs::write(folder.path().join("token"), " abc\n").unwrap();
        let path = folder.path().join("config");
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: tower\npreferences: {{}}\n\
             contexts: [{{name: tower, context: {{cluster: c, user: u}}}}]\n\
             clusters: [{{name: c, cluster: {{{cluster}}}}}]\nusers: [{{name: u, user: {{{user}}}}}]\n"
        );
        fs::write(&path, text).unwrap();
        let access = Access::from_kubeconfig(&path, context);
        if let Ok(Access { identity: identity @ Identity::TokenFile(_), .. }) = &access {
            assert_eq!(identity.bearer().unwrap().unwrap().as_str(), "abc");
        }
        access.map_err(|error| error.to_string().replace(&format!("{}/", folder.path().display()), ""))
    }

    #[test]
    fn a_machine_can_use_these() {
        let access = load(CLUSTER, "token: abc", None).unwrap();
        assert_eq!(
            (access.server.as_str(), access.authorities_pem.as_slice()),
            ("https://127.0.0.1:6443", &b"PEM"[..])
        );
        assert!(matches!(access.identity, Identity::Token(_)));
        assert!(!format!("{access:?}").contains("abc"));

        let access = load(
            "server: https://x, certificate-authority: ca.pem, tls-server-name: y",
            "tokenFile: token",
            None,
        );
        let access = access.unwrap();
        assert_eq!(access.authorities_pem, b"from a file");
        assert_eq!(access.tls_server_name.as_deref(), Some("y"));
        assert!(matches!(access.identity, Identity::TokenFile(_)));

        let access =
            load(CLUSTER, "client-certificate-data: UEVN, client-key-data: UEVN", Some("tower")).unwrap();
        assert!(matches!(access.identity, Identity::Certificate { .. }));
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let check = |cluster: &str, user: &str, context: Option<&str>, expected: &str| {
            let error = load(cluster, user, context).expect_err(expected);
            assert!(error.contains(expected), "{error}");
        };
        let skip = format!("{CLUSTER}, insecure-skip-tls-verify: true");
        check(&skip, "token: a", None, "config: clusters[c].cluster.insecure-skip-tls-verify: ");
        check(
            "server: https://x",
            "token: a",
            None,
            "clusters[c].cluster.certificate-authority-data: missing",
        );
        check("server: 'http://x'", "token: a", None, "clusters[c].cluster.server: must start with https://");
        check("server: https://x, certificate-authority: no.pem", "token: a", None, "read no.pem");
        check("server: https://x, certificate-authority-data: '*'", "token: a", None, "is not base64");
        check(&format!("{CLUSTER}, proxy-url: 'http://p'"), "token: a", None, "proxy-url: not supported");
        check(CLUSTER, "exec: {command: aws}", None, "users[u].user.exec: not supported");
        check(CLUSTER, "auth-provider: {name: gcp}", None, "users[u].user.auth-provider: not supported");
        check(CLUSTER, "username: a, password: b", None, "users[u].user.username: not supported");
        check(CLUSTER, "", None, "no token, tokenFile or client certificate");
        check(CLUSTER, "client-certificate-data: UEVN", None, "client-key-data: missing");
        check(CLUSTER, "token: a", Some("other"), "no context named \"other\"; it has [\"tower\"]");
        check("server: [", "token: a", None, "config is not a kubeconfig");
    }

    #[test]
    fn an_error_shows_no_secret() {
        for user in ["token: s3cret, tokenFile: [", "token: [s3cret]", "token: s3cret, username: {a: b}"] {
            let error = load(CLUSTER, user, None).expect_err(user);
            assert!(error.contains("config is not a kubeconfig"), "{error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
    }
}
