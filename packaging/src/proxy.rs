//! A TCP proxy that writes down what it carries, and when.

use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

use anyhow::{Context as _, Result};

use crate::{
    logic::wire::{Carried, Way},
    wait::Stopwatch,
};

/// Read at once: more than any one write of either end.
const BUFFER_BYTES: usize = 64 * 1024;

/// A running proxy on 127.0.0.1. Its threads end with this program.
#[derive(Debug)]
pub(crate) struct Proxy {
    address: SocketAddr,
    watch: Stopwatch,
    book: Arc<Book>,
}

/// What is written down.
#[derive(Debug, Default)]
struct Book {
    carried: Mutex<Vec<Carried>>,
    /// The newest connection's end at the agent.
    client: Mutex<Option<TcpStream>>,
}

impl Proxy {
    /// Starts a proxy to `target`.
    pub(crate) fn start(target: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("listen for the agent")?;
        let address = listener.local_addr()?;
        let (watch, book) = (Stopwatch::start(), Arc::<Book>::default());
        let shared = Arc::clone(&book);
        spawn(move || {
            for client in listener.incoming().flatten() {
                // An agent that is not carried connects again, and the measurement says what it misses.
                let _carrying = carry(client, target, watch, &shared);
            }
        });
        Ok(Self { address, watch, book })
    }

    /// The port to connect to.
    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// The time by which it writes down.
    pub(crate) fn watch(&self) -> Stopwatch {
        self.watch
    }

    /// All that was carried, in the order of time.
    pub(crate) fn carried(&self) -> Vec<Carried> {
        lock(&self.book.carried).clone()
    }

    /// Forgets what was carried.
    pub(crate) fn forget(&self) {
        lock(&self.book.carried).clear();
    }

    /// Ends the connection, as a link that is lost does.
    pub(crate) fn cut(&self) {
        if let Some(client) = lock(&self.book.client).take() {
            // One that has ended by itself is cut already.
            let _cut = client.shutdown(Shutdown::Both);
        }
    }
}

fn carry(client: TcpStream, target: SocketAddr, watch: Stopwatch, book: &Arc<Book>) -> io::Result<()> {
    let server = TcpStream::connect(target)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    *lock(&book.client) = Some(client.try_clone()?);
    let ways = [(Way::Up, client.try_clone()?, server.try_clone()?), (Way::Down, server, client)];
    for (way, from, to) in ways {
        let book = Arc::clone(book);
        spawn(move || {
            // Either end has closed or broken it; both then learn that it is over.
            let _ended = pump(way, &from, &to, watch, &book);
            let _closed = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
        });
    }
    Ok(())
}

fn pump(way: Way, mut from: &TcpStream, mut to: &TcpStream, watch: Stopwatch, book: &Book) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let length = from.read(&mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        // Before it is passed on, so that an answer is never written down first.
        let mut carried = lock(&book.carried);
        carried.push(Carried { at: watch.elapsed(), way, bytes: length as u64 });
        drop(carried);
        to.write_all(&buffer[..length])?;
    }
}

#[allow(clippy::disallowed_methods, reason = "this program has no runtime, and these threads only wait")]
fn spawn(work: impl FnOnce() + Send + 'static) {
    thread::spawn(work);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
