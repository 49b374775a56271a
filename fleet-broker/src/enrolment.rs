//! Joining: tokens are made for one cluster, proved once, and gone.

use std::collections::BTreeMap;

use jiff::Timestamp;
use protocol::{
    codec,
    enrol::{self, EnrolAnswer, EnrolAsk, JoinCode, JoinSecret},
    ids::{ClusterId, Digest, FleetId, TokenId},
    keys::PublicKey,
    time::UnixSeconds,
};
use serde::{Deserialize, Serialize};

use crate::{logic::fleet::Fleet, pki::CertificateAuthority, random, store::Write};

/// The kind of the documents that hold tokens.
pub(crate) const TOKEN: &str = "token";

/// Join codes that can be open at once. Each lives for a day.
const TOKENS_MAX: usize = 20_000;

/// What every join code says of this hub.
#[derive(Debug, Clone)]
pub(crate) struct Hub {
    pub(crate) fleet: FleetId,
    pub(crate) enrol: String,
    pub(crate) broker: String,
    pub(crate) ca_pin: Digest,
    pub(crate) root: Digest,
}

/// Open join codes.
#[derive(Debug, Default)]
pub(crate) struct Tokens(BTreeMap<TokenId, Token>);

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Token {
    cluster: ClusterId,
    secret: JoinSecret,
    expires: UnixSeconds,
}

/// A question that was answered yes: what must be durable before the answer goes out.
pub(crate) struct Granted {
    pub(crate) cluster: ClusterId,
    pub(crate) identity: PublicKey,
    pub(crate) writes: Vec<Write>,
    pub(crate) answer: EnrolAnswer,
}

impl Tokens {
    /// Takes up a stored token. One that does not read is dropped: its code then does not work, and says so.
    pub(crate) fn restore(&mut self, key: &str, bytes: &[u8]) {
        if let (Ok(id), Ok(token)) = (TokenId::new(key), codec::decode("token", bytes)) {
            self.0.insert(id, token);
        }
    }

    /// Makes a code for `cluster`; codes made for it before no longer work.
    pub(crate) fn make(
        &mut self,
        hub: &Hub,
        cluster: ClusterId,
        now: UnixSeconds,
    ) -> Option<(JoinCode, Vec<Write>)> {
        let mut writes = self.forget(|token| token.expires < now || token.cluster == cluster);
        if self.0.len() >= TOKENS_MAX {
            return None;
        }
        let id = TokenId::new(hex::encode(random::bytes::<8>())).ok()?;
        let secret = JoinSecret::new(random::bytes());
        let token = Token {
            cluster: cluster.clone(),
            secret: secret.clone(),
            expires: now.plus(enrol::JOIN_CODE_SECONDS),
        };
        writes.push(Write::PutDocument { kind: TOKEN, key: id.to_string(), bytes: codec::encode(&token) });
        self.0.insert(id.clone(), token);
        let Hub { fleet, enrol, broker, ca_pin, root } = hub.clone();
        Some((JoinCode { cluster, fleet, enrol, broker, ca_pin, root, token: id, secret }, writes))
    }

    /// Answers a question. A token that brought a certificate is gone, and with it every other of its cluster. One
    /// that was proved with a request no certificate can be made of stays, for another try.
    pub(crate) fn answer(
        &mut self,
        id: &TokenId,
        question: &[u8],
        authority: &CertificateAuthority,
        fleet: &Fleet,
        root: &[u8],
        now: Timestamp,
    ) -> Result<Granted, EnrolAnswer> {
        let refuse = |message: &str| Err(EnrolAnswer::Refused { message: message.to_owned() });
        let Ok(ask) = codec::decode::<EnrolAsk>("enrolment", question) else {
            return refuse("the question cannot be read; is the agent of another version?");
        };
        let time = UnixSeconds(u64::try_from(now.as_second()).unwrap_or_default());
        let known = self.0.get(id).filter(|token| time <= token.expires);
        // One answer for all that can be guessed at: unknown, expired, used or wrong.
        let Some(token) = known.filter(|token| ask.is_proved(&token.cluster, id, &token.secret)) else {
            return refuse("this join code is not valid, was used or is older than a day; ask for a new one");
        };
        if let Some(revocation) = fleet.revocation(&ask.identity.id()) {
            return refuse(&revocation.refusal());
        }
        let cluster = token.cluster.clone();
        let certificate = authority.sign_cluster(&ask.csr, &cluster, &ask.identity.id(), now);
        let certificate = certificate.map_err(|error| EnrolAnswer::Refused { message: error.to_string() })?;
        let certificates = format!("{}{}", certificate.pem, authority.certificate_pem());
        let answer = EnrolAnswer::Granted { certificates, root: root.to_vec() };
        let writes = self.forget(|token| token.cluster == cluster);
        Ok(Granted { cluster, identity: ask.identity, writes, answer })
    }

    /// Voids every code of a cluster.
    pub(crate) fn void(&mut self, cluster: &ClusterId) -> Vec<Write> {
        self.forget(|token| &token.cluster == cluster)
    }

    fn forget(&mut self, which: impl Fn(&Token) -> bool) -> Vec<Write> {
        let gone: Vec<TokenId> =
            self.0.iter().filter(|(_, token)| which(token)).map(|(id, _)| id.clone()).collect();
        gone.iter().for_each(|id| drop(self.0.remove(id)));
        gone.into_iter().map(|id| Write::DeleteDocument { kind: TOKEN, key: id.to_string() }).collect()
    }
}
