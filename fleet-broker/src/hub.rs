//! The registry and the store behind one handle: changes are decided, made durable, and only then seen.

use std::sync::{Arc, Mutex, MutexGuard};

use thiserror::Error;
use tokio::sync::{OwnedMutexGuard, watch};

use crate::boundary::{self, At};
use crate::clock;
use crate::logic::occurrence::Occurrence;
use crate::logic::registry::failure::{self, Failure};
use crate::logic::registry::{Change, Registry, RestoreError, Transaction};
use crate::store::{Store, StoreError, Write};

#[cfg(test)]
mod tests;

/// How many versions are reserved on disk at once. A restart skips what is left of them.
const VERSIONS_RESERVED: u64 = 4096;

/// A handle on the hub's objects; clones share them.
///
/// Reads see only what is durable. Writes happen one after the other: each sees all earlier ones.
#[derive(Clone, Debug)]
pub struct Hub {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Held for short computations, never across an await.
    registry: Mutex<Registry>,
    /// Held from deciding a write until it is visible.
    writer: Arc<tokio::sync::Mutex<Reservation>>,
    /// The version that is visible now.
    published: watch::Sender<u64>,
    store: Store,
}

/// Up to which version the store knows that versions may be given out.
#[derive(Debug)]
struct Reservation(u64);

/// Why the hub's objects cannot be taken up.
#[derive(Debug, Error)]
pub enum HubError {
    /// They cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// They make no sense.
    #[error(transparent)]
    Restore(#[from] RestoreError),
}

impl Hub {
    /// Takes up what is in the store.
    ///
    /// # Errors
    /// When that cannot be read, or is not this hub's.
    pub async fn open(store: Store) -> Result<Hub, HubError> {
        let loaded = store.load().await?;
        // Version 0 means "any" to clients, so it is never one.
        let version = loaded.reserved_version.max(1);
        let registry = Registry::restore(version, loaded.objects)?;
        let (published, _) = watch::channel(version);
        let writer = Arc::new(tokio::sync::Mutex::new(Reservation(version)));
        let shared = Shared { registry: Mutex::new(registry), writer, published, store };
        Ok(Hub { shared: Arc::new(shared) })
    }

    /// Looks at the objects. Keep it short: everybody waits.
    pub fn read<T>(&self, look: impl FnOnce(&Registry) -> T) -> T {
        look(&self.shared.registry())
    }

    /// The visible version, and whenever it changes. With [`Registry::changes`] a controller sees all changes in
    /// order; with [`Registry::events`] a watcher those of its selection.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.shared.published.subscribe()
    }

    /// The store behind it, for documents and blobs.
    pub fn store(&self) -> &Store {
        &self.shared.store
    }

    /// Changes objects as `decide` says, all or nothing. They are durable, and visible, when this returns.
    ///
    /// # Errors
    /// What `decide` answers, or that the store failed; then nothing has changed.
    pub async fn write<T: Send>(
        &self,
        actor: &str,
        decide: impl FnOnce(&mut Transaction<'_>) -> Result<T, Failure> + Send,
    ) -> Result<T, Failure> {
        self.write_with(actor, |transaction| Ok((decide(transaction)?, Vec::new()))).await
    }

    /// Like [`Hub::write`], with documents or blobs that must be written together with the objects, or not at all.
    ///
    /// # Errors
    /// What `decide` answers, or that the store failed; then nothing has changed.
    pub async fn write_with<T: Send>(
        &self,
        actor: &str,
        decide: impl FnOnce(&mut Transaction<'_>) -> Result<(T, Vec<Write>), Failure> + Send,
    ) -> Result<T, Failure> {
        let reservation = Arc::clone(&self.shared.writer).lock_owned().await;
        let (answer, changes, writes) = {
            let registry = self.shared.registry();
            let mut transaction = registry.begin(clock::now(), actor);
            let (answer, writes) = decide(&mut transaction)?;
            (answer, transaction.finish(), writes)
        };
        if !changes.is_empty() || !writes.is_empty() {
            // A task of its own: the client may go away, the write must be finished.
            let finish = Arc::clone(&self.shared).finish(reservation, changes, writes);
            let finished = tokio::spawn(finish).await.map_err(|error| internal(&error.to_string()))?;
            finished.map_err(|error| internal(&error.to_string()))?;
        }
        Ok(answer)
    }

    /// Writes documents, together with events of what they came of.
    ///
    /// # Errors
    /// When they are not written; then nothing has changed.
    pub async fn commit(
        &self,
        actor: &str,
        occurred: Vec<Occurrence>,
        writes: Vec<Write>,
    ) -> Result<(), StoreError> {
        if occurred.is_empty() {
            return self.shared.store.commit(writes).await;
        }
        let reservation = Arc::clone(&self.shared.writer).lock_owned().await;
        let changes = {
            let registry = self.shared.registry();
            let mut transaction = registry.begin(clock::now(), actor);
            occurred.iter().for_each(|occurrence| transaction.tell(occurrence));
            transaction.finish()
        };
        Arc::clone(&self.shared).finish(reservation, changes, writes).await
    }

    /// What `decide` would do; nothing happens.
    ///
    /// # Errors
    /// What `decide` answers.
    pub fn dry_run<T>(
        &self,
        actor: &str,
        decide: impl FnOnce(&mut Transaction<'_>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        decide(&mut self.shared.registry().begin(clock::now(), actor))
    }
}

impl Shared {
    async fn finish(
        self: Arc<Shared>,
        mut reservation: OwnedMutexGuard<Reservation>,
        changes: Vec<Change>,
        mut writes: Vec<Write>,
    ) -> Result<(), StoreError> {
        writes.extend(changes.iter().filter(|change| change.key.kind.is_stored()).map(stored));
        let last = changes.last().map_or(0, |change| change.version);
        let reserved = if last > reservation.0 { last + VERSIONS_RESERVED } else { reservation.0 };
        if reserved > reservation.0 {
            writes.push(Write::ReserveVersions(reserved));
        }
        if !writes.is_empty() {
            self.store.commit(writes).await?;
        }
        reservation.0 = reserved;
        if !changes.is_empty() {
            self.registry().apply(changes);
            self.published.send_replace(last);
            boundary::pass(At::Seen);
        }
        Ok(())
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().expect("a panic while the registry was locked has ended the hub")
    }
}

fn stored(change: &Change) -> Write {
    let (kind, namespace, name) =
        (change.key.kind.name(), change.key.namespace.clone(), change.key.name.clone());
    match &change.after {
        Some(object) => {
            let json = object.text().into_owned();
            Write::PutObject { kind, namespace, name, version: object.version(), json }
        }
        None => Write::DeleteObject { kind, namespace, name },
    }
}

fn internal(why: &str) -> Failure {
    failure::new(500, "InternalError", format!("Internal error occurred: {why}"))
}
