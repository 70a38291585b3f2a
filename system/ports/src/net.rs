//! The only place where services open or accept sockets, so that another network can be put below them.
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

/// A connected stream.
pub type Stream = tokio::net::TcpStream;
/// A listening socket.
pub type Listener = tokio::net::TcpListener;

/// How long a listener waits for its fixed port to become free.
pub const BIND_LIMIT: Duration = Duration::from_secs(5);

/// Opens a stream with `TCP_NODELAY`, giving up after `limit`.
pub async fn dial(addr: SocketAddr, limit: Duration) -> io::Result<Stream> {
    let stream = tokio::time::timeout(limit, Stream::connect(addr))
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Listens on a fixed port; a port still taken by a predecessor is retried for [`BIND_LIMIT`].
pub async fn listen(addr: SocketAddr) -> io::Result<Listener> {
    let deadline = tokio::time::Instant::now() + BIND_LIMIT;
    loop {
        let socket = tokio::net::TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        match socket.bind(addr).and_then(|()| socket.listen(4_096)) {
            Err(e)
                if e.kind() == io::ErrorKind::AddrInUse
                    && tokio::time::Instant::now() < deadline =>
            {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            done => return done,
        }
    }
}

/// Accepts one stream with `TCP_NODELAY`.
pub async fn accept(listener: &Listener) -> io::Result<(Stream, SocketAddr)> {
    let (stream, peer) = listener.accept().await?;
    stream.set_nodelay(true)?;
    Ok((stream, peer))
}
