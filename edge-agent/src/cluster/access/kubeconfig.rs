//! What a kubeconfig says.
//!
//! Taken from the events of the YAML parser by hand: a deserializer of YAML, with its copies for every type, is a
//! tenth of the agent.

use std::{collections::BTreeMap, path::PathBuf};

use granit_parser::{Event, Parser, ScalarStyle, ScanError, StrInput};
use thiserror::Error;

/// Collections within one another. What is read of a kubeconfig is four deep; a plugin's settings are somewhat more.
const MAX_DEPTH: usize = 32;

/// A kubeconfig, of which what the agent does not use is left out.
#[derive(Default)]
pub(super) struct Kubeconfig {
    pub(super) current_context: Option<String>,
    pub(super) contexts: Vec<Named<Context>>,
    pub(super) clusters: Vec<Named<Cluster>>,
    pub(super) users: Vec<Named<User>>,
}

/// One item of its lists.
pub(super) struct Named<T> {
    pub(super) name: String,
    pub(super) value: T,
}

pub(super) struct Context {
    pub(super) cluster: String,
    pub(super) user: String,
}

pub(super) struct Cluster {
    pub(super) server: String,
    pub(super) certificate_authority: Option<PathBuf>,
    pub(super) certificate_authority_data: Option<String>,
    pub(super) insecure_skip_tls_verify: bool,
    pub(super) tls_server_name: Option<String>,
    pub(super) proxy_url: Option<String>,
}

pub(super) struct User {
    pub(super) client_certificate: Option<PathBuf>,
    pub(super) client_certificate_data: Option<String>,
    pub(super) client_key: Option<PathBuf>,
    pub(super) client_key_data: Option<String>,
    pub(super) token: Option<String>,
    pub(super) token_file: Option<PathBuf>,
    pub(super) username: Option<String>,
    pub(super) exec: bool,
    pub(super) auth_provider: bool,
    pub(super) impersonate: Option<String>,
}

/// Why a text is not a kubeconfig. None of these shows a value, which may be a secret.
#[derive(Debug, Error)]
pub(super) enum KubeconfigError {
    /// It is not YAML.
    #[error("{problem} at line {line}, column {column}")]
    Yaml { problem: String, line: usize, column: usize },
    /// Something else stands behind it.
    #[error("a second document begins at line {line}: leave one")]
    Documents { line: usize },
    /// A value that is defined elsewhere.
    #[error("an alias or merge key at line {line}: write out what it stands for")]
    Alias { line: usize },
    /// Deeper than any kubeconfig.
    #[error("more than {MAX_DEPTH} collections within one another at line {line}")]
    Deep { line: usize },
    /// A key that is no text.
    #[error("a key that is not text at line {line}")]
    Key { line: usize },
    /// A key that its mapping has already.
    #[error("a key is there for the second time at line {line}: leave one")]
    Twice { line: usize },
    /// A value of another kind.
    #[error("{at} is not {expected}")]
    Kind { at: String, expected: &'static str },
}

impl From<ScanError> for KubeconfigError {
    fn from(error: ScanError) -> Self {
        let at = error.marker();
        // The parser counts columns from zero.
        Self::Yaml { problem: error.info(), line: at.line(), column: at.col() + 1 }
    }
}

impl Kubeconfig {
    pub(super) fn parse(text: &str) -> Result<Self, KubeconfigError> {
        let mut fields = Fields::of(document(text)?, String::new())?;
        Ok(Self {
            current_context: fields.text("current-context")?,
            contexts: fields.named("contexts", "context", Context::from_fields)?,
            clusters: fields.named("clusters", "cluster", Cluster::from_fields)?,
            users: fields.named("users", "user", User::from_fields)?,
        })
    }
}

impl Context {
    fn from_fields(mut fields: Fields) -> Result<Self, KubeconfigError> {
        Ok(Self {
            cluster: fields.text("cluster")?.unwrap_or_default(),
            user: fields.text("user")?.unwrap_or_default(),
        })
    }
}

impl Cluster {
    fn from_fields(mut fields: Fields) -> Result<Self, KubeconfigError> {
        let insecure = fields.text("insecure-skip-tls-verify")?;
        Ok(Self {
            server: fields.text("server")?.unwrap_or_default(),
            certificate_authority: fields.path("certificate-authority")?,
            certificate_authority_data: fields.text("certificate-authority-data")?,
            // YAML knows many words for yes, so that all but no is one.
            insecure_skip_tls_verify: insecure.is_some_and(|text| !text.eq_ignore_ascii_case("false")),
            tls_server_name: fields.text("tls-server-name")?,
            proxy_url: fields.text("proxy-url")?,
        })
    }
}

impl User {
    fn from_fields(mut fields: Fields) -> Result<Self, KubeconfigError> {
        Ok(Self {
            client_certificate: fields.path("client-certificate")?,
            client_certificate_data: fields.text("client-certificate-data")?,
            client_key: fields.path("client-key")?,
            client_key_data: fields.text("client-key-data")?,
            token: fields.text("token")?,
            token_file: fields.path("tokenFile")?,
            username: fields.text("username")?,
            exec: fields.has("exec"),
            auth_provider: fields.has("auth-provider"),
            impersonate: fields.text("as")?,
        })
    }
}

/// Any value. All that is not null, a list or a mapping is text: nothing that is read here is a number.
enum Value {
    Null,
    Text(String),
    List(Vec<Value>),
    Mapping(BTreeMap<String, Value>),
}

/// A mapping whose fields are taken by name.
struct Fields {
    /// Where it is, with what separates it from a field's name.
    at: String,
    fields: BTreeMap<String, Value>,
}

impl Fields {
    fn of(value: Value, at: String) -> Result<Self, KubeconfigError> {
        match value {
            Value::Null => Ok(Self { at, fields: BTreeMap::new() }),
            Value::Mapping(fields) => Ok(Self { at, fields }),
            Value::Text(_) | Value::List(_) => {
                let at = at.trim_end_matches('.');
                let at = if at.is_empty() { "the whole" } else { at };
                Err(KubeconfigError::Kind { at: at.to_owned(), expected: "a mapping" })
            }
        }
    }

    fn has(&self, key: &str) -> bool {
        !matches!(self.fields.get(key), None | Some(Value::Null))
    }

    fn text(&mut self, key: &str) -> Result<Option<String>, KubeconfigError> {
        match self.fields.remove(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(Value::List(_) | Value::Mapping(_)) => Err(self.other(key, "text")),
        }
    }

    fn path(&mut self, key: &str) -> Result<Option<PathBuf>, KubeconfigError> {
        Ok(self.text(key)?.map(PathBuf::from))
    }

    /// A list of mappings that have a `name`, and what it names in the field `inner`.
    fn named<T>(
        &mut self,
        key: &str,
        inner: &str,
        read: fn(Fields) -> Result<T, KubeconfigError>,
    ) -> Result<Vec<Named<T>>, KubeconfigError> {
        let items = match self.fields.remove(key) {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::List(items)) => items,
            Some(Value::Text(_) | Value::Mapping(_)) => return Err(self.other(key, "a list")),
        };
        let item = |(index, item)| {
            let at = format!("{}{key}[{index}].", self.at);
            let mut fields = Fields::of(item, at.clone())?;
            let name = fields.text("name")?.unwrap_or_default();
            let value = fields.fields.remove(inner).unwrap_or(Value::Null);
            Ok(Named { name, value: read(Fields::of(value, format!("{at}{inner}."))?)? })
        };
        items.into_iter().enumerate().map(item).collect()
    }

    fn other(&self, key: &str, expected: &'static str) -> KubeconfigError {
        KubeconfigError::Kind { at: format!("{}{key}", self.at), expected }
    }
}

type Events<'a> = Parser<'a, StrInput<'a>>;

/// Reads a text that is one document, or empty.
fn document(text: &str) -> Result<Value, KubeconfigError> {
    let mut events = Parser::new_from_str(text);
    let Some((event, line)) = next(&mut events)? else { return Ok(Value::Null) };
    let value = value(&mut events, event, line, 0)?;
    // The document's end, then the stream's.
    next(&mut events)?;
    match next(&mut events)? {
        Some((_, line)) => Err(KubeconfigError::Documents { line }),
        None => Ok(value),
    }
}

/// The next value's event and its line; none where a collection, a document or all of it ends.
fn next<'a>(events: &mut Events<'a>) -> Result<Option<(Event<'a>, usize)>, KubeconfigError> {
    while let Some(event) = events.next_event() {
        let (event, span) = event?;
        if event.is_node() {
            return Ok(Some((event, span.start.line())));
        }
        if matches!(event, Event::MappingEnd | Event::SequenceEnd | Event::DocumentEnd | Event::StreamEnd) {
            break;
        }
    }
    Ok(None)
}

fn value<'a>(
    events: &mut Events<'a>,
    event: Event<'a>,
    line: usize,
    depth: usize,
) -> Result<Value, KubeconfigError> {
    if depth > MAX_DEPTH {
        return Err(KubeconfigError::Deep { line });
    }
    if let Event::Scalar(text, style, ..) = event {
        let null = style == ScalarStyle::Plain && matches!(&*text, "" | "~" | "null" | "Null" | "NULL");
        return Ok(if null { Value::Null } else { Value::Text(text.into_owned()) });
    }
    if let Event::SequenceStart(..) = event {
        let mut items = Vec::new();
        while let Some((event, line)) = next(events)? {
            items.push(value(events, event, line, depth + 1)?);
        }
        return Ok(Value::List(items));
    }
    if let Event::MappingStart(..) = event {
        let mut fields = BTreeMap::new();
        while let Some((event, line)) = next(events)? {
            let key = key(event, line)?;
            // A key always has a value, if only an empty one.
            let Some((event, line)) = next(events)? else { return Err(KubeconfigError::Key { line }) };
            if fields.insert(key, value(events, event, line, depth + 1)?).is_some() {
                return Err(KubeconfigError::Twice { line });
            }
        }
        return Ok(Value::Mapping(fields));
    }
    Err(KubeconfigError::Alias { line })
}

fn key(event: Event<'_>, line: usize) -> Result<String, KubeconfigError> {
    match event.scalar() {
        Some(("<<", ScalarStyle::Plain)) => Err(KubeconfigError::Alias { line }),
        Some((text, _)) => Ok(text.to_owned()),
        None => Err(KubeconfigError::Key { line }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_of_writing_it_is_read() {
        // As k3s writes it, as `kubectl config view --flatten -o json` does, and as people do.
        let texts = [
            "apiVersion: v1\nclusters:\n- cluster:\n    certificate-authority-data: UEVN\n    server: https://h:6443\n  \
             name: default\ncontexts:\n- context:\n    cluster: default\n    user: default\n  name: default\n\
             current-context: default\nkind: Config\npreferences: {}\nusers:\n- name: default\n  user:\n    \
             client-certificate-data: QQ==\n    client-key-data: Qg==\n",
            r#"{"clusters": [{"name": "default", "cluster": {"server": "https://h:6443",
             "certificate-authority-data": "UEVN"}}], "contexts": [{"name": "default", "context":
             {"cluster": "default", "user": "default"}}], "current-context": "default", "users":
             [{"name": "default", "user": {"client-certificate-data": "QQ==", "client-key-data": "Qg=="}}]}"#,
            "---\n# ours\ncurrent-context: 'default' # the only one\ncontexts: [{name: default, context: {cluster: \
             default, user: default}}]\nclusters:\n  - name: \"default\"\n    cluster:\n      server: >-\n        \
             https://h:6443\n      certificate-authority-data: |\n        UEVN\n      proxy-url:\nusers:\n  - user: \
             {client-certificate-data: !!str QQ==, client-key-data: Qg==, exec: ~}\n    name: default\n...\n",
        ];
        for text in texts {
            let config = Kubeconfig::parse(text).unwrap_or_else(|error| panic!("{error}: {text}"));
            assert_eq!(config.current_context.as_deref(), Some("default"), "{text}");
            let (context, cluster, user) = (&config.contexts[0], &config.clusters[0], &config.users[0]);
            assert_eq!([&context.name, &cluster.name, &user.name], ["default"; 3], "{text}");
            assert_eq!([&context.value.cluster, &context.value.user], ["default"; 2], "{text}");
            assert_eq!(cluster.value.server, "https://h:6443", "{text}");
            assert_eq!(
                cluster.value.certificate_authority_data.as_deref().map(str::trim),
                Some("UEVN"),
                "{text}"
            );
            assert!(cluster.value.proxy_url.is_none() && !user.value.exec, "{text}");
            assert_eq!(user.value.client_certificate_data.as_deref(), Some("QQ=="), "{text}");
            assert_eq!(user.value.client_key_data.as_deref(), Some("Qg=="), "{text}");
        }
    }

    #[test]
    fn what_is_not_there_is_left_out() {
        for text in
            ["", "# nothing\n", "---\n", "contexts: null\nclusters: []\nusers:\ncurrent-context: \"\"\n"]
        {
            let config = Kubeconfig::parse(text).unwrap_or_else(|error| panic!("{error}: {text}"));
            assert_eq!(config.current_context.unwrap_or_default(), "", "{text}");
            assert!(config.contexts.is_empty() && config.clusters.is_empty() && config.users.is_empty());
        }
    }

    #[test]
    fn all_but_no_skips_verification() {
        let check = |word: &str, expected: bool| {
            let text = format!("clusters: [{{name: c, cluster: {{insecure-skip-tls-verify: {word}}}}}]");
            let config = Kubeconfig::parse(&text).unwrap();
            assert_eq!(config.clusters[0].value.insecure_skip_tls_verify, expected, "{word}");
        };
        ["true", "True", "yes", "on", "\"true\"", "1", "''"].into_iter().for_each(|word| check(word, true));
        ["false", "False", "null", ""].into_iter().for_each(|word| check(word, false));
    }

    #[test]
    fn what_is_wrong_is_placed_and_not_shown() {
        let deep = format!("users: {}s3cret{}", "[".repeat(40), "]".repeat(40));
        for (text, expected) in [
            ("users: [", " line "),
            ("s3cret", "the whole is not a mapping"),
            ("users: s3cret", "users is not a list"),
            ("users: [s3cret]", "users[0] is not a mapping"),
            ("users: [{name: u, user: {token: [s3cret]}}]", "users[0].user.token is not text"),
            ("a: 1\n---\nb: s3cret", "a second document begins at line 3"),
            ("a: &x s3cret\nb: *x", "an alias or merge key at line 2"),
            ("a: &x {b: s3cret}\nc:\n  <<: *x", "an alias or merge key at line 3"),
            ("[s3cret]: 1", "a key that is not text at line 1"),
            ("token: a\ntoken: s3cret", "a key is there for the second time at line 2"),
            (&deep, "more than 32 collections"),
        ] {
            let error = Kubeconfig::parse(text).err().unwrap_or_else(|| panic!("{text} is read")).to_string();
            assert!(error.contains(expected), "{text}: {error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
    }
}
