//! Connections that are not TLS are told so, in the words of Go's servers, and closed.

use std::io;
use std::pin::Pin;
use std::time::Duration;

use axum_server::accept::Accept;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How a record of a TLS handshake begins (RFC 8446, section 5.1).
const HANDSHAKE: u8 = 0x16;
/// How long a client may take to send its first byte: as long as for its whole handshake.
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(10);
const ANSWER: &[u8] = b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";

/// Lets through what begins as TLS does.
#[derive(Clone, Copy, Debug)]
pub(super) struct TlsOnly;

impl<S: Send + 'static> Accept<TcpStream, S> for TlsOnly {
    type Stream = TcpStream;
    type Service = S;
    type Future = Pin<Box<dyn Future<Output = io::Result<(TcpStream, S)>> + Send>>;

    fn accept(&self, mut stream: TcpStream, service: S) -> Self::Future {
        Box::pin(async move {
            // An event of a watch goes out when it is written, not when the one before was acknowledged.
            stream.set_nodelay(true)?;
            let mut first = [0];
            let read = timeout(FIRST_BYTE_TIMEOUT, stream.peek(&mut first)).await??;
            if read == 1 && first != [HANDSHAKE] {
                stream.write_all(ANSWER).await?;
                // What the client sent is read no further: a connection closed over unread bytes is reset, which
                // may take the answer with it.
                let _ = stream.try_read(&mut [0; 4096]);
                stream.shutdown().await?;
                return Err(io::Error::new(io::ErrorKind::InvalidData, "not TLS"));
            }
            Ok((stream, service))
        })
    }
}
