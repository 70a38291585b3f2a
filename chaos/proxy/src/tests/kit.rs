//! A proxy in front of an upstream that hands its sockets to the test.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};

use crate::{Preamble, Proxy, ProxyConfig, ProxyControl, Rules};

/// How long a story waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) struct World {
    pub(crate) proxy: Proxy,
    pub(crate) upstream: TcpListener,
}

impl World {
    pub(crate) async fn start(rules: Rules) -> World {
        World::with(rules, false, 7).await
    }

    /// A world whose diallers name their device.
    pub(crate) async fn with_devices(rules: Rules) -> World {
        World::with(rules, true, 7).await
    }

    pub(crate) async fn with(rules: Rules, preamble: bool, seed: u64) -> World {
        let upstream = TcpListener::bind(any_port()).await.unwrap();
        let address = upstream.local_addr().unwrap();
        let proxy =
            Proxy::start(config("gateway-1", address, rules, preamble, seed)).await.unwrap();
        World { proxy, upstream }
    }

    pub(crate) fn control(&self) -> ProxyControl {
        self.proxy.control()
    }

    pub(crate) async fn dial(&self) -> TcpStream {
        TcpStream::connect(self.control().listen_addr()).await.unwrap()
    }

    /// A carried connection: the client's end and the upstream's end.
    pub(crate) async fn pair(&self) -> (TcpStream, TcpStream) {
        let client = self.dial().await;
        (client, self.accept().await)
    }

    pub(crate) async fn pair_of(&self, device: u64) -> (TcpStream, TcpStream) {
        let mut client = self.dial().await;
        client.write_all(&Preamble { device }.encode()).await.unwrap();
        (client, self.accept().await)
    }

    pub(crate) async fn accept(&self) -> TcpStream {
        soon(self.upstream.accept()).await.unwrap().0
    }

    pub(crate) async fn end(self) {
        assert!(self.proxy.shutdown().await, "every task has ended");
    }
}

pub(crate) fn config(
    name: &str,
    upstream: SocketAddr,
    rules: Rules,
    preamble: bool,
    seed: u64,
) -> ProxyConfig {
    ProxyConfig { name: String::from(name), listen: any_port(), upstream, rules, seed, preamble }
}

pub(crate) fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// Fails the story where something that must happen does not.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what).await.expect("it happens in time")
}

/// Waits until the proxy's own figures say so.
pub(crate) async fn eventually(control: &ProxyControl, holds: impl Fn(&ProxyControl) -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds(control) {
        assert!(Instant::now() < until, "{:#?} {:#?}", control.counters(), control.connections());
        sleep(Duration::from_millis(1)).await;
    }
}

pub(crate) async fn read_exactly(socket: &mut TcpStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    soon(socket.read_exact(&mut bytes)).await.unwrap();
    bytes
}

/// Reads until the reset comes; other endings fail the story.
pub(crate) async fn is_reset(mut socket: TcpStream) {
    let mut rest = Vec::new();
    let error = soon(socket.read_to_end(&mut rest)).await.expect_err("a reset, not an end of file");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

/// `PING` reaches the upstream and `PONG` the client.
pub(crate) async fn echoes(client: &mut TcpStream, upstream: &mut TcpStream) {
    client.write_all(b"PING").await.unwrap();
    assert_eq!(read_exactly(upstream, 4).await, b"PING");
    upstream.write_all(b"PONG").await.unwrap();
    assert_eq!(read_exactly(client, 4).await, b"PONG");
}
