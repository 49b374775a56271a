//! Who may connect, publish and subscribe. Everything else is refused.

use std::{
    future::{Future, ready},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
};

use mqtt5::{
    broker::{AuthProvider, AuthResult},
    packet::connect::ConnectPacket,
    protocol::v5::reason_codes::ReasonCode,
};
use protocol::{
    ids::TokenId,
    limits,
    topics::{self, Upward},
};
use tracing::warn;

use super::super::{Named, presence::Presence};

type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The rights of one enrolled cluster: its certificate is the only thing believed about it.
pub(super) struct ClusterAccess {
    who: Named,
    presence: Arc<Presence>,
}

impl ClusterAccess {
    pub(super) fn new(who: Named, presence: Arc<Presence>) -> Self {
        Self { who, presence }
    }

    fn refusal(&self, connect: &ConnectPacket) -> Option<&'static str> {
        let own = self.who.cluster.as_str();
        if connect.client_id != own {
            return Some("the client id is not the certificate's name");
        }
        if connect.username.as_deref().is_some_and(|name| name != own) {
            return Some("the user name is not the certificate's name");
        }
        // Refused here and not at the handshake, so that the agent's operator reads "not authorized".
        if !self.presence.accepts(&self.who) {
            return Some("the cluster or its key is revoked or unknown");
        }
        let Some(will) = &connect.will else {
            return overlong(connect);
        };
        if will.topic != Upward::Hello.topic(&self.who.cluster) || will.retain || !will.payload.is_empty() {
            return Some("the will may only be an empty, unretained message on the cluster's hello topic");
        }
        if will.properties.will_delay_interval.unwrap_or(0) != 0 {
            return Some("the will may not be delayed");
        }
        overlong(connect)
    }
}

impl AuthProvider for ClusterAccess {
    fn authenticate<'a>(
        &'a self,
        connect: &'a ConnectPacket,
        peer: SocketAddr,
    ) -> Later<'a, mqtt5::Result<AuthResult>> {
        answer(self.refusal(connect), self.who.cluster.as_str(), peer)
    }

    fn authorize_publish<'a>(&'a self, _: &str, _: Option<&'a str>, topic: &'a str) -> Later<'a, bool> {
        let own = topics::parse_upward(topic).is_ok_and(|(cluster, _)| cluster == self.who.cluster);
        Box::pin(ready(own))
    }

    fn authorize_subscribe<'a>(&'a self, _: &str, _: Option<&'a str>, filter: &'a str) -> Later<'a, bool> {
        let own = topics::parse_downward(filter).is_ok_and(|(cluster, _)| cluster == self.who.cluster);
        Box::pin(ready(own))
    }
}

/// The rights of whoever holds a token: its two topics, and nothing else.
pub(super) struct BootstrapAccess;

impl BootstrapAccess {
    fn refusal(connect: &ConnectPacket) -> Option<&'static str> {
        if TokenId::new(connect.client_id.as_str()).is_err() {
            return Some("the client id is no token id");
        }
        if connect.will.is_some() || connect.username.is_some() || connect.password.is_some() {
            return Some("neither a will nor a user name nor a password belongs here");
        }
        overlong(connect)
    }
}

impl AuthProvider for BootstrapAccess {
    fn authenticate<'a>(
        &'a self,
        connect: &'a ConnectPacket,
        peer: SocketAddr,
    ) -> Later<'a, mqtt5::Result<AuthResult>> {
        answer(Self::refusal(connect), "bootstrap", peer)
    }

    fn authorize_publish<'a>(&'a self, client: &str, _: Option<&'a str>, topic: &'a str) -> Later<'a, bool> {
        let own = TokenId::new(client).is_ok_and(|token| topic == topics::enrol_ask(&token));
        Box::pin(ready(own))
    }

    fn authorize_subscribe<'a>(
        &'a self,
        client: &str,
        _: Option<&'a str>,
        filter: &'a str,
    ) -> Later<'a, bool> {
        let own = TokenId::new(client).is_ok_and(|token| filter == topics::enrol_answer(&token));
        Box::pin(ready(own))
    }
}

fn overlong(connect: &ConnectPacket) -> Option<&'static str> {
    let bounded = (1..=limits::KEEPALIVE_MAX_SECONDS).contains(&connect.keep_alive);
    (!bounded).then_some("the keepalive is off or too long")
}

fn answer(
    refusal: Option<&'static str>,
    who: &str,
    peer: SocketAddr,
) -> Later<'static, mqtt5::Result<AuthResult>> {
    let result = match refusal {
        None => AuthResult::success(),
        Some(reason) => {
            warn!(%peer, who, reason, "refused a connection");
            AuthResult::fail_with_reason(ReasonCode::NotAuthorized, reason)
        }
    };
    Box::pin(ready(Ok(result)))
}
