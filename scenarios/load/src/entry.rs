//! Where devices connect, and what goes ahead of their bytes.
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use chat_client::Dial;
use chat_protocol::DeviceId;
use futures_util::future::LocalBoxFuture;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// Bytes that a proxy reads and strips before it forwards anything.
pub type Ahead = Arc<dyn Fn(DeviceId) -> [u8; 16] + Send + Sync>;

/// Entry addresses of the system.
#[derive(Clone)]
pub struct Entries {
    /// Gateways, the balancer, or proxies in front of either; at least one.
    pub addresses: Vec<SocketAddr>,
    /// Names the device to a proxy.
    pub ahead: Option<Ahead>,
}

impl Dial for Entries {
    fn entries(&self) -> usize {
        self.addresses.len()
    }

    fn dial(
        &self,
        device: DeviceId,
        entry: usize,
    ) -> LocalBoxFuture<'static, io::Result<TcpStream>> {
        let address = self.addresses.get(entry % self.addresses.len().max(1)).copied();
        let ahead = self.ahead.as_ref().map(|ahead| ahead(device));
        Box::pin(async move {
            let address = address.ok_or(io::ErrorKind::AddrNotAvailable)?;
            let mut stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            if let Some(ahead) = ahead {
                stream.write_all(&ahead).await?;
            }
            Ok(stream)
        })
    }
}
