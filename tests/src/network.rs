//! Ports, and a link that fails on demand.

use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Carried at a time by a proxied connection; any size does.
const BUFFER_BYTES: usize = 16 * 1024;

/// A port of 127.0.0.1 that was free a moment ago, for programs that cannot be told port 0. Another process may
/// take it first: start again when the program says so.
///
/// # Errors
///
/// When no port is left.
pub fn free_port() -> Result<u16> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).context("find a free port")?;
    Ok(listener.local_addr()?.port())
}

/// What a link does with the bytes it is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    /// Carries them.
    Up,
    /// Closes every connection, new ones at once: both ends know that it is down.
    Cut,
    /// Accepts connections and keeps them, but carries nothing: neither end is told.
    Silent,
}

/// A TCP proxy on 127.0.0.1 that stands for the link to one server: an MQTT broker, an API server. It runs on the
/// runtime of the test and ends with it, or when dropped.
#[derive(Debug)]
pub struct CutProxy {
    address: SocketAddr,
    state: Arc<State>,
    _connections: JoinSet<()>,
}

#[derive(Debug)]
struct State {
    target: watch::Sender<SocketAddr>,
    link: watch::Sender<Link>,
    /// Connections so far.
    accepted: AtomicUsize,
    /// Bytes from the server so far, over all connections.
    downward_bytes: AtomicU64,
    /// When they are that many, the link is cut.
    cut_at: AtomicU64,
}

impl CutProxy {
    /// Starts a link to `target` that is up.
    ///
    /// # Errors
    ///
    /// When no port is left.
    pub async fn start(target: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("listen for the proxy")?;
        let address = listener.local_addr()?;
        let state = Arc::new(State {
            target: watch::Sender::new(target),
            link: watch::Sender::new(Link::Up),
            accepted: AtomicUsize::new(0),
            downward_bytes: AtomicU64::new(0),
            cut_at: AtomicU64::new(u64::MAX),
        });
        let mut connections = JoinSet::new();
        connections.spawn(serve(listener, Arc::clone(&state)));
        Ok(Self { address, state, _connections: connections })
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections that clients have made so far, those that were closed at once among them.
    pub fn connections(&self) -> usize {
        self.state.accepted.load(Ordering::Relaxed)
    }

    /// Leads to another server from now on, as when somebody takes over the name of the first: connections to that
    /// one are closed.
    pub fn lead_to(&self, target: SocketAddr) {
        self.state.target.send_replace(target);
    }

    /// Closes all connections, and every new one at once.
    pub fn cut(&self) {
        self.state.link.send_replace(Link::Cut);
    }

    /// Bytes that the server has sent so far.
    pub fn downward_bytes(&self) -> u64 {
        self.state.downward_bytes.load(Ordering::Relaxed)
    }

    /// [`CutProxy::cut`] by itself, once the server has sent so many bytes more.
    pub fn cut_after(&self, bytes: u64) {
        self.state.cut_at.store(self.downward_bytes() + bytes, Ordering::Relaxed);
    }

    /// Stops carrying bytes without a word to either end, as when a radio link fades: what is sent meanwhile
    /// arrives after [`CutProxy::restore`].
    pub fn silence(&self) {
        self.state.link.send_replace(Link::Silent);
    }

    /// Carries bytes again.
    pub fn restore(&self) {
        self.state.link.send_replace(Link::Up);
    }
}

async fn serve(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        state.accepted.fetch_add(1, Ordering::Relaxed);
        connections.spawn(connect(client, Arc::clone(&state)));
        while connections.try_join_next().is_some() {}
    }
}

/// One connection: both of its directions end together, when either end closes, or the link is cut or leads
/// elsewhere.
async fn connect(client: TcpStream, state: Arc<State>) {
    let (mut target, mut link) = (state.target.subscribe(), state.link.subscribe());
    if pass(&mut link).await.is_break() {
        return;
    }
    let address = *target.borrow_and_update();
    let Ok(server) = TcpStream::connect(address).await else { return };
    // What is sent in small pieces is not to wait for acknowledgements here, which come 40 ms later.
    if client.set_nodelay(true).and_then(|()| server.set_nodelay(true)).is_err() {
        return;
    }
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        () = carry(from_client, to_server, link.clone(), |_| {}) => {}
        () = carry(from_server, to_client, link, |bytes| state.came(bytes)) => {}
        _ = target.changed() => {}
    }
}

impl State {
    fn came(&self, bytes: usize) {
        let bytes = bytes as u64;
        let all = self.downward_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if all >= self.cut_at.load(Ordering::Relaxed) {
            self.cut_at.store(u64::MAX, Ordering::Relaxed);
            self.link.send_replace(Link::Cut);
        }
    }
}

async fn carry(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut link: watch::Receiver<Link>,
    carried: impl Fn(usize),
) {
    let mut cut = link.clone();
    let carrying = async {
        let mut buffer = [0; BUFFER_BYTES];
        while let Ok(length @ 1..) = from.read(&mut buffer).await {
            if pass(&mut link).await.is_break() || to.write_all(&buffer[..length]).await.is_err() {
                break;
            }
            carried(length);
        }
    };
    tokio::select! {
        () = carrying => {}
        _ = cut.wait_for(|link| *link == Link::Cut) => {}
    }
}

/// Waits while the link is silent; breaks when it is cut or its proxy is gone.
async fn pass(link: &mut watch::Receiver<Link>) -> ControlFlow<()> {
    match link.wait_for(|link| *link != Link::Silent).await.as_deref() {
        Ok(Link::Up) => ControlFlow::Continue(()),
        Ok(Link::Cut | Link::Silent) | Err(_) => ControlFlow::Break(()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    const SOON: Duration = Duration::from_secs(10);
    /// Long enough for bytes to cross loopback, were they carried.
    const A_MOMENT: Duration = Duration::from_millis(200);

    /// A server that sends back what it gets, behind a proxy.
    async fn proxied_echo() -> Result<(CutProxy, JoinSet<()>)> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let proxy = CutProxy::start(listener.local_addr()?).await?;
        let mut server = JoinSet::new();
        server.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                connections.spawn(async move {
                    let (mut from, mut to) = stream.split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        Ok((proxy, server))
    }

    async fn echo(stream: &mut TcpStream, text: &str) -> Result<String> {
        stream.write_all(text.as_bytes()).await?;
        read(stream, text.len()).await
    }

    async fn read(stream: &mut TcpStream, length: usize) -> Result<String> {
        let mut answer = vec![0; length];
        timeout(SOON, stream.read_exact(&mut answer)).await??;
        Ok(String::from_utf8(answer)?)
    }

    #[tokio::test]
    async fn carries_both_ways() -> Result<()> {
        let (proxy, _server) = proxied_echo().await?;
        let mut stream = TcpStream::connect(proxy.address()).await?;
        assert_eq!(echo(&mut stream, "hello").await?, "hello");
        Ok(())
    }

    #[tokio::test]
    async fn cut_closes_old_and_new_connections_until_restored() -> Result<()> {
        let (proxy, _server) = proxied_echo().await?;
        let mut old = TcpStream::connect(proxy.address()).await?;
        echo(&mut old, "hello").await?;
        proxy.cut();
        assert!(echo(&mut old, "there?").await.is_err());
        let mut new = TcpStream::connect(proxy.address()).await?;
        assert!(echo(&mut new, "there?").await.is_err());
        proxy.restore();
        let mut restored = TcpStream::connect(proxy.address()).await?;
        assert_eq!(echo(&mut restored, "again").await?, "again");
        Ok(())
    }

    #[tokio::test]
    async fn leads_elsewhere_and_closes_what_led_to_the_first() -> Result<()> {
        let (proxy, _server) = proxied_echo().await?;
        let mut old = TcpStream::connect(proxy.address()).await?;
        echo(&mut old, "hello").await?;
        let (second, _second_server) = proxied_echo().await?;
        proxy.lead_to(second.address());
        assert!(echo(&mut old, "there?").await.is_err());
        let mut new = TcpStream::connect(proxy.address()).await?;
        assert_eq!(echo(&mut new, "again").await?, "again");
        assert_eq!((proxy.connections(), second.connections()), (2, 1));
        Ok(())
    }

    #[tokio::test]
    async fn is_cut_after_so_many_bytes_from_the_server() -> Result<()> {
        let (proxy, _server) = proxied_echo().await?;
        let mut stream = TcpStream::connect(proxy.address()).await?;
        proxy.cut_after(7);
        echo(&mut stream, "hello").await?;
        echo(&mut stream, "hello").await?;
        assert!(echo(&mut stream, "there?").await.is_err());
        assert_eq!(proxy.downward_bytes(), 10);
        Ok(())
    }

    #[tokio::test]
    async fn silence_holds_bytes_back_until_restored() -> Result<()> {
        let (proxy, _server) = proxied_echo().await?;
        let mut stream = TcpStream::connect(proxy.address()).await?;
        echo(&mut stream, "hello").await?;
        proxy.silence();
        stream.write_all(b"late").await?;
        assert!(timeout(A_MOMENT, stream.read_u8()).await.is_err(), "a byte crossed a silent link");
        proxy.restore();
        assert_eq!(read(&mut stream, 4).await?, "late");
        Ok(())
    }

    #[test]
    fn a_free_port_can_be_bound() -> Result<()> {
        std::net::TcpListener::bind(("127.0.0.1", free_port()?))?;
        Ok(())
    }
}
