//! Lists: selection and paging.

use std::ops::Bound;
use std::sync::Arc;

use apimachinery::selector::{FieldSelector, Selector};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::failure::{self, Failure};
use super::{Object, Registry};
use crate::resources::Kind;

/// Longest `continue` token, in bytes: a version and the longest namespace and name.
const TOKEN_MAX_LEN: usize = 1024;

/// Which objects of a kind a client wants to see.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only those in this namespace.
    pub namespace: Option<String>,
    /// Only those with such labels.
    pub labels: Selector,
    /// Only those with such fields.
    pub fields: FieldSelector,
}

/// One page of a list.
#[derive(Clone, Debug)]
pub struct Page {
    /// The objects, by namespace and name.
    pub items: Vec<Arc<Object>>,
    /// From which version to watch for what changed since: for later pages, still that of the first.
    pub version: u64,
    /// What to ask for the next page with, if there is one.
    pub next: Option<String>,
    /// How many objects follow, unless selectors make that unknown.
    pub remaining: Option<usize>,
}

/// What a `continue` token says. A later page is read at a later version than the first; whoever then watches from
/// the first's version sees what changed in between once more, and misses nothing.
#[derive(Serialize, Deserialize)]
struct Token {
    version: u64,
    namespace: String,
    name: String,
}

impl Filter {
    /// Whether an object is wanted.
    pub fn matches(&self, object: &Object) -> bool {
        self.namespace.as_ref().is_none_or(|namespace| object.namespace() == namespace)
            && self.fields.matches_with(|field| object.field(field))
            && self.labels.matches_with(|key| object.label(key))
    }

    fn selects(&self) -> bool {
        !self.labels.is_everything() || self.fields != FieldSelector::default()
    }
}

impl Registry {
    /// The selected objects of a kind: at most `limit` (0 for all), beginning where `token` says.
    ///
    /// # Errors
    /// 400 when the token is none of ours, `Expired` when it is too old to watch from.
    pub fn list(&self, kind: Kind, filter: &Filter, limit: usize, token: &str) -> Result<Page, Failure> {
        let token = if token.is_empty() { None } else { Some(Token::parse(token)?) };
        let version = token.as_ref().map_or(self.version, |token| token.version);
        self.check_watchable(kind, version)?;
        let start = token.as_ref().map_or(Bound::Unbounded, |token| Bound::Excluded(token.names()));
        let mut rest = self.shelf(kind).range(start).filter(|object| filter.matches(object));
        let items: Vec<_> =
            rest.by_ref().take(if limit == 0 { usize::MAX } else { limit }).cloned().collect();
        let following = rest.count();
        let next = items.last().filter(|_| following > 0).map(|last| Token::after(version, last).text());
        let remaining = (following > 0 && !filter.selects()).then_some(following);
        Ok(Page { items, version, next, remaining })
    }
}

impl Token {
    fn after(version: u64, object: &Object) -> Token {
        Token { version, namespace: object.namespace().to_owned(), name: object.name().to_owned() }
    }

    fn names(&self) -> (&str, &str) {
        (&self.namespace, &self.name)
    }

    fn text(&self) -> String {
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).expect("a number and two strings are JSON"))
    }

    fn parse(text: &str) -> Result<Token, Failure> {
        let bytes = if text.len() > TOKEN_MAX_LEN { None } else { URL_SAFE_NO_PAD.decode(text).ok() };
        bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).ok_or_else(|| {
            failure::bad_request(format!("invalid continue token: continue key is not valid: {text:?}"))
        })
    }
}
