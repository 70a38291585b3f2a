//! One call in a backend's own protocol, to see whether bytes pass in both directions. A connection alone proves nothing: Toxiproxy
//! accepts whatever stands behind it.
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::Backend;

/// `OPTIONS` of version 4 of the native protocol: the one request that is answered before a connection is set up.
const CASSANDRA_OPTIONS: [u8; 9] = [4, 0, 0, 0, 5, 0, 0, 0, 0];

/// Makes a call on a connection of its own and waits for the first bytes of an answer, whichever it is.
pub(super) async fn answers(
    backend: Backend,
    addr: SocketAddr,
    limit: Duration,
) -> Result<(), String> {
    let call: &[u8] = match backend {
        Backend::Redis => b"PING\r\n",
        Backend::Cassandra => &CASSANDRA_OPTIONS,
    };
    let asked = async {
        let mut stream = TcpStream::connect(addr).await?;
        stream.write_all(call).await?;
        stream.read(&mut [0; 64]).await
    };
    match tokio::time::timeout(limit, asked).await {
        Ok(Ok(0)) => Err("the connection was closed".to_owned()),
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {limit:?}")),
    }
}
