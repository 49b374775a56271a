//! The hub's tokens while it runs: whose they are, what each may still take, and when each ends.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use protocol::codec;
use protocol::ids::Digest;
use protocol::time::UnixSeconds;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, timeout};

use super::auth::{Token, TokenHash};
use crate::clock;
use crate::logic::access::{ADMIN, Bucket, Failures, Rate, Record, Role, TOKENS_MAX};
use crate::logic::registry::failure::{self, Failure};
use crate::store::{Store, StoreError, Write};

/// The kind of the documents that hold tokens.
pub(crate) const TOKEN: &str = "api-token";

/// Requests of one token: kubectl itself makes at most 50 a second after 300 at once, so that two at once never wait.
const RATE: Rate = Rate { burst: 600, every: Duration::from_millis(10) };
/// Requests of one token that are being answered at once: more than any client has in flight, and few enough that
/// one token's slow uploads are not all that the hub does.
const REQUESTS_MAX: usize = 32;
/// Watches of one token: a tenth of what the hub takes, and a dozen consoles that watch every kind.
const WATCHES_MAX: usize = 100;
/// Uploads of one token at once: half of what the hub takes, so that slow ones do not keep others from theirs.
const UPLOADS_MAX: usize = 2;
/// How long a client that has too much open should wait.
const BUSY_WAIT: Duration = Duration::from_secs(1);

/// All tokens; clones share them.
#[derive(Clone, Debug)]
pub struct Access(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    store: Store,
    state: Mutex<State>,
    /// Held from deciding a change of tokens until it is visible.
    writer: tokio::sync::Mutex<()>,
    started: Instant,
}

#[derive(Debug, Default)]
struct State {
    tokens: BTreeMap<String, Entry>,
    /// Which token has which hash. Looking one up takes no constant time, and need not: who does not know a token
    /// cannot choose its hash.
    names: BTreeMap<Digest, String>,
    failures: Failures,
}

#[derive(Debug)]
struct Entry {
    record: Record,
    limits: Arc<Limits>,
    /// Dropped with the entry, which ends what the token's bearer has open.
    alive: watch::Sender<()>,
}

#[derive(Debug)]
struct Limits {
    bucket: Mutex<Bucket>,
    requests: Arc<Semaphore>,
    watches: Arc<Semaphore>,
    uploads: Arc<Semaphore>,
}

/// What a good token opens.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) name: String,
    pub(super) role: Role,
    limits: Arc<Limits>,
    expires: Option<UnixSeconds>,
    alive: watch::Receiver<()>,
}

impl Access {
    /// Takes up the tokens in the store, beside the hub's own.
    ///
    /// # Errors
    /// When the store cannot be read. A token that does not read is dropped: it then opens nothing.
    pub async fn open(store: Store, admin: &TokenHash) -> Result<Access, StoreError> {
        let mut state = State::default();
        for (name, bytes) in store.documents(TOKEN).await? {
            match codec::decode::<Record>("token", &bytes) {
                Ok(record) => state.add(name, record),
                Err(error) => tracing::error!(%error, name, "a token is dropped"),
            }
        }
        let record = Record {
            hash: admin.digest(),
            role: Role::Admin,
            created: UnixSeconds(0),
            expires: None,
            last_used: None,
        };
        state.add(ADMIN.to_owned(), record);
        let writer = tokio::sync::Mutex::new(());
        let shared = Shared { store, state: Mutex::new(state), writer, started: Instant::now() };
        Ok(Access(Arc::new(shared)))
    }

    /// What this token opens, if it is one.
    pub(super) fn session(&self, token: &str) -> Option<Session> {
        let now = clock::unix();
        let mut state = self.state();
        let name = state.names.get(&TokenHash::of(token).digest())?.clone();
        let entry = state.tokens.get_mut(&name)?;
        if entry.record.is_expired(now) {
            return None;
        }
        if entry.record.used(now) {
            tokio::spawn(self.clone().keep_use(name.clone(), entry.record.hash));
        }
        Some(Session {
            name,
            role: entry.record.role,
            limits: Arc::clone(&entry.limits),
            expires: entry.record.expires,
            alive: entry.alive.subscribe(),
        })
    }

    /// Counts a wrong token, or says how long its sender should wait.
    pub(super) fn failed(&self, address: IpAddr) -> Result<(), Duration> {
        let now = self.0.started.elapsed();
        self.state().failures.count(now, address)
    }

    /// All tokens, by name.
    pub(super) fn list(&self) -> Vec<(String, Record)> {
        let records = |(name, entry): (&String, &Entry)| (name.clone(), entry.record.clone());
        self.state().tokens.iter().map(records).collect()
    }

    /// Makes a token. It is durable when this returns.
    pub(super) async fn create(
        &self,
        name: &str,
        role: Role,
        expires: Option<UnixSeconds>,
    ) -> Result<(Token, Record), Failure> {
        let _writer = self.0.writer.lock().await;
        {
            let state = self.state();
            if state.tokens.contains_key(name) {
                let message = format!("tokens.edgefleet.dev {name:?} already exists");
                return Err(failure::new(409, "AlreadyExists", message));
            }
            if state.tokens.len() >= TOKENS_MAX {
                let why = format!("there are {TOKENS_MAX} tokens, the most the hub keeps; revoke some");
                return Err(failure::new(403, "Forbidden", why));
            }
        }
        let token = Token::generate();
        let hash = token.hash().digest();
        let record = Record { hash, role, created: clock::unix(), expires, last_used: None };
        self.commit(put(name, &record)).await?;
        self.state().add(name.to_owned(), record.clone());
        Ok((token, record))
    }

    /// Ends a token and what its bearer has open. It is gone for good when this returns.
    pub(super) async fn revoke(&self, name: &str) -> Result<(), Failure> {
        let _writer = self.0.writer.lock().await;
        if !self.state().tokens.contains_key(name) {
            return Err(failure::new(404, "NotFound", format!("tokens.edgefleet.dev {name:?} not found")));
        }
        self.commit(Write::DeleteDocument { kind: TOKEN, key: name.to_owned() }).await?;
        let mut state = self.state();
        if let Some(entry) = state.tokens.remove(name) {
            state.names.remove(&entry.record.hash);
        }
        Ok(())
    }

    /// Writes down that a token was used, unless it is gone by now. A failure costs that date alone.
    async fn keep_use(self, name: String, hash: Digest) {
        let _writer = self.0.writer.lock().await;
        let record = self.state().tokens.get(&name).map(|entry| entry.record.clone());
        if let Some(record) = record.filter(|record| record.hash == hash && name != ADMIN)
            && let Err(failure) = self.commit(put(&name, &record)).await
        {
            tracing::warn!(error = failure.message, name, "the last use of a token was not stored");
        }
    }

    async fn commit(&self, write: Write) -> Result<(), Failure> {
        let failed = |error| failure::new(500, "InternalError", format!("Internal error occurred: {error}"));
        self.0.store.commit(vec![write]).await.map_err(failed)
    }

    /// The time by which buckets fill.
    pub(super) fn elapsed(&self) -> Duration {
        self.0.started.elapsed()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().expect("nothing panics while the tokens are locked")
    }
}

impl State {
    fn add(&mut self, name: String, record: Record) {
        let limits = Limits {
            bucket: Mutex::default(),
            requests: Arc::new(Semaphore::new(REQUESTS_MAX)),
            watches: Arc::new(Semaphore::new(WATCHES_MAX)),
            uploads: Arc::new(Semaphore::new(UPLOADS_MAX)),
        };
        self.names.insert(record.hash, name.clone());
        let entry = Entry { record, limits: Arc::new(limits), alive: watch::Sender::new(()) };
        self.tokens.insert(name, entry);
    }
}

impl Session {
    /// Takes one request out of the token's bucket, and one of those it may have open.
    pub(super) fn request(&self, now: Duration) -> Result<OwnedSemaphorePermit, Duration> {
        self.limits.bucket.lock().expect("nothing panics while a bucket is locked").take(now, RATE)?;
        Arc::clone(&self.limits.requests).try_acquire_owned().map_err(|_| BUSY_WAIT)
    }

    /// Takes one of the watches it may have open.
    pub(super) fn watch(&self) -> Result<OwnedSemaphorePermit, Duration> {
        Arc::clone(&self.limits.watches).try_acquire_owned().map_err(|_| BUSY_WAIT)
    }

    /// Takes one of the uploads it may have under way.
    pub(super) fn upload(&self) -> Result<OwnedSemaphorePermit, Duration> {
        Arc::clone(&self.limits.uploads).try_acquire_owned().map_err(|_| BUSY_WAIT)
    }

    /// Waits until the token is revoked or expires.
    pub(super) async fn ended(mut self) {
        let left =
            self.expires.map_or(Duration::MAX, |expires| Duration::from_secs(expires.since(clock::unix())));
        // Nothing is ever sent: the sender goes, or the time is over.
        let _ended = timeout(left, self.alive.changed()).await;
    }
}

fn put(name: &str, record: &Record) -> Write {
    Write::PutDocument { kind: TOKEN, key: name.to_owned(), bytes: codec::encode(record) }
}
