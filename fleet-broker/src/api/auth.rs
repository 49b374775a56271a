//! Who may use the API: whoever bears the admin token, of which the hub keeps only the hash.

use std::fmt;

use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::http::HeaderValue;
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::digest::{SHA256, digest};
use zeroize::Zeroizing;

use super::Api;
use super::reply::Refusal;
use crate::logic::registry::failure;
use crate::random;

/// Length of the secret in a token, in bytes: beyond guessing.
const SECRET_LEN: usize = 32;
/// What every token begins with, so that secret scanners find it.
const PREFIX: &str = "efadmin_";

/// A bearer token. It is shown once and forgotten.
pub struct Token(Zeroizing<String>);

/// The SHA-256 of a token, enough to recognise it. The token is random, so that no salt is needed.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenHash([u8; 32]);

/// Who makes a request.
#[derive(Clone, Debug)]
pub(super) struct Actor(&'static str);

impl Token {
    /// A new random token.
    pub fn generate() -> Token {
        let secret = Zeroizing::new(random::bytes::<SECRET_LEN>());
        Token(Zeroizing::new(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(*secret))))
    }

    /// The token as it goes into a kubeconfig.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What the hub keeps of it.
    pub fn hash(&self) -> TokenHash {
        TokenHash::of(&self.0)
    }
}

impl TokenHash {
    /// The hash that [`TokenHash::as_bytes`] gave.
    pub fn from_bytes(bytes: [u8; 32]) -> TokenHash {
        TokenHash(bytes)
    }

    /// The hash, to be kept.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    fn of(token: &str) -> TokenHash {
        TokenHash(
            digest(&SHA256, token.as_bytes()).as_ref().try_into().expect("a SHA-256 digest has 32 bytes"),
        )
    }

    /// Looks at every byte, whatever it has seen.
    fn matches(&self, token: &str) -> bool {
        let other = TokenHash::of(token);
        self.0.iter().zip(other.0).fold(0, |difference, (mine, theirs)| difference | (mine ^ theirs)) == 0
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(..)")
    }
}

impl Actor {
    /// Who [`require`] found to make a request.
    pub(super) fn of(request: &Request) -> Actor {
        request.extensions().get().cloned().unwrap_or(Actor("anonymous"))
    }

    pub(super) fn name(&self) -> &str {
        self.0
    }
}

/// Lets only requests with the admin token pass.
pub(super) async fn require(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    if !bearer(request.headers()).is_some_and(|token| api.admin.matches(token)) {
        let failure = failure::new(401, "Unauthorized", "Unauthorized".to_owned());
        let mut response = Refusal::from(failure).into_response();
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        return response;
    }
    request.extensions_mut().insert(Actor("admin"));
    next.run(request).await
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_recognises_its_token_only() {
        let (token, other) = (Token::generate(), Token::generate());
        let kept = TokenHash::from_bytes(*token.hash().as_bytes());
        assert!(kept.matches(token.expose()));
        for wrong in [other.expose(), "", PREFIX, &token.expose()[..token.expose().len() - 1]] {
            assert!(!kept.matches(wrong), "{wrong}");
        }
        assert_eq!(format!("{kept:?}"), "TokenHash(..)");
    }
}
