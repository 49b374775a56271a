//! Who may use the API: whoever bears a token, of which the hub keeps only the hash, as far as its role goes.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::HeaderMap;
use axum::http::HeaderValue;
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::StreamExt;
use protocol::ids::Digest;
use tokio::sync::OwnedSemaphorePermit;
use zeroize::Zeroizing;

use super::Api;
use super::access::Session;
use super::metrics::Refused;
use super::params;
use super::reply::Refusal;
use crate::logic::access::{Asked, Role};
use crate::logic::registry::failure;
use crate::random;

/// Length of the secret in a token, in bytes: beyond guessing.
const SECRET_LEN: usize = 32;
/// What every token begins with, so that secret scanners find it.
const PREFIX: &str = "edgefleet_";

/// A bearer token. It is shown once and forgotten.
pub struct Token(Zeroizing<String>);

/// The SHA-256 of a token, enough to recognise it. The token is random, so that no salt is needed.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenHash([u8; 32]);

/// Who makes a request.
#[derive(Clone, Debug)]
pub(super) struct Actor {
    name: String,
    role: Role,
}

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

    pub(super) fn of(token: &str) -> TokenHash {
        TokenHash(*Digest::of(token.as_bytes()).as_bytes())
    }

    pub(super) fn digest(&self) -> Digest {
        Digest::new(self.0)
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
        let anonymous = || Actor { name: "anonymous".to_owned(), role: Role::Viewer };
        request.extensions().get().cloned().unwrap_or_else(anonymous)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn role(&self) -> Role {
        self.role
    }
}

/// Lets a request pass if its token is one, has not used up what it may have, and has a role that allows it. Every
/// route is behind this but those that say nothing of the fleet.
pub(super) async fn require(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    let Some(session) = bearer(request.headers()).and_then(|token| api.access.session(token)) else {
        return unauthenticated(&api, &request);
    };
    let refuse = |refused, failure| {
        api.metrics.refused(refused);
        Refusal::from(failure).into_response()
    };
    let _open = match session.request(api.access.elapsed()) {
        Ok(permit) => permit,
        Err(wait) => return refuse(Refused::Rate, failure::retry_later("requests", wait)),
    };
    let asked = asked(&request);
    if !session.role.allows(&asked) {
        return refuse(Refused::Forbidden, failure::denied(&session.name, &asked));
    }
    request.extensions_mut().insert(Actor { name: session.name.clone(), role: session.role });
    if asked.is_upload() {
        let _under_way = match session.upload() {
            Ok(permit) => permit,
            Err(wait) => return refuse(Refused::Uploads, failure::retry_later("uploads", wait)),
        };
        return next.run(request).await;
    }
    if !asked.is_watch() {
        return next.run(request).await;
    }
    match session.watch() {
        Ok(permit) => while_valid(next.run(request).await, session, permit),
        Err(wait) => refuse(Refused::Watches, failure::retry_later("watches", wait)),
    }
}

fn asked(request: &Request) -> Asked {
    let uri = request.uri();
    // A query that does not read is refused by whoever serves the path.
    let watch = params::asks_for_watch(uri.query().unwrap_or_default());
    Asked::of(request.method().as_str(), uri.path(), watch)
}

/// The answer, which ends when the token does. It holds the permit until then.
fn while_valid(response: Response, session: Session, permit: OwnedSemaphorePermit) -> Response {
    response.map(|body| {
        let lines = body.into_data_stream().take_until(session.ended());
        Body::from_stream(lines.inspect(move |_| {
            let _held = &permit;
        }))
    })
}

/// Refuses a request without a good token. One that is good always passes: nobody guesses 256 bits, and an old
/// kubeconfig in a loop must not lock out everybody who has the same address.
fn unauthenticated(api: &Api, request: &Request) -> Response {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
    // Only tests ask without a connection.
    let address = peer.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |ConnectInfo(peer)| peer.ip());
    if let Err(wait) = api.access.failed(address) {
        api.metrics.refused(Refused::Guesses);
        return Refusal::from(failure::retry_later("wrong tokens", wait)).into_response();
    }
    api.metrics.refused(Refused::Unauthenticated);
    let failure = failure::new(401, "Unauthorized", "Unauthorized".to_owned());
    let mut response = Refusal::from(failure).into_response();
    response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
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
        assert!(kept == TokenHash::of(token.expose()));
        for wrong in [other.expose(), "", PREFIX, &token.expose()[..token.expose().len() - 1]] {
            assert!(kept != TokenHash::of(wrong), "{wrong}");
        }
        assert_eq!(format!("{kept:?}"), "TokenHash(..)");
    }
}
