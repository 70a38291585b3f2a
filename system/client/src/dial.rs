//! How a connection to an entry address is made.
use std::io;

use chat_protocol::DeviceId;
use futures_util::future::LocalBoxFuture;
use tokio::net::TcpStream;

/// Opens connections. The caller implements it, to choose addresses, source addresses, and what goes ahead of the bytes.
pub trait Dial {
    /// How many entry addresses there are, at least one. A device starts at a seeded one and takes another after a failure.
    fn entries(&self) -> usize;

    /// Connects the device to an entry, counted from 0. The stream has `TCP_NODELAY` set by the client afterwards.
    fn dial(
        &self,
        device: DeviceId,
        entry: usize,
    ) -> LocalBoxFuture<'static, io::Result<TcpStream>>;
}

/// Plain TCP to a list of addresses.
pub struct Plain(pub Vec<std::net::SocketAddr>);

impl Dial for Plain {
    fn entries(&self) -> usize {
        self.0.len()
    }

    fn dial(
        &self,
        _device: DeviceId,
        entry: usize,
    ) -> LocalBoxFuture<'static, io::Result<TcpStream>> {
        let address = self.0[entry % self.0.len()];
        Box::pin(TcpStream::connect(address))
    }
}
