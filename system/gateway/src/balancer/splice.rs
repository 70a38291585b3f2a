//! Copies bytes between a client and its gateway, and gives up a connection on which nothing moves.
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use chat_ports::net::Stream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional_with_sizes};
use tokio::time::Instant;

/// Bytes of the buffer of one direction.
const BUFFER: usize = 16 * 1024;

/// Why copying ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Both sides are done, or one broke.
    Done,
    /// Nothing moved for too long.
    Idle,
}

/// Copies both ways until both sides are done, one breaks, or nothing moves for `idle`.
pub(super) async fn copy(client: Stream, gateway: Stream, idle: Duration) -> End {
    let moves = Arc::new(AtomicU64::new(0));
    let mut client = Watched { inner: client, moves: Arc::clone(&moves) };
    let mut gateway = Watched { inner: gateway, moves: Arc::clone(&moves) };
    let quiet = async {
        let mut seen = moves.load(Relaxed);
        let mut since = Instant::now();
        loop {
            tokio::time::sleep_until(since + idle).await;
            let now = moves.load(Relaxed);
            if now == seen {
                return;
            }
            // Something moved in the meantime; when exactly does not matter, it only delays the end by one period.
            seen = now;
            since = Instant::now();
        }
    };
    tokio::select! {
        ended = copy_bidirectional_with_sizes(&mut client, &mut gateway, BUFFER, BUFFER) => {
            if let Err(error) = ended {
                tracing::debug!(%error, "A balanced connection broke.");
            }
            End::Done
        }
        () = quiet => End::Idle,
    }
}

/// A stream that notes when something is read from it.
struct Watched {
    inner: Stream,
    moves: Arc<AtomicU64>,
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let done = Pin::new(&mut self.inner).poll_read(cx, buf);
        if done.is_ready() {
            self.moves.fetch_add(1, Relaxed);
        }
        done
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
