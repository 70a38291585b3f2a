//! The harness's side of a node's door: one question at a time, a short limit for its answer.
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use chat_ports::net;
use tokio::io::BufReader;

use crate::process::wire::{self, ANSWER_MAX, Ask, Reply};

/// A node that does not answer within this is passed over.
pub(super) const ANSWER: Duration = Duration::from_millis(500);

/// A connection to one door, made when it is needed.
pub(super) struct Client {
    addr: SocketAddr,
    stream: Option<BufReader<net::Stream>>,
}

impl Client {
    pub(super) fn new(addr: SocketAddr) -> Self {
        Self { addr, stream: None }
    }

    /// Asks once. A connection on which a question was not answered is never used again.
    pub(super) async fn ask(&mut self, ask: &Ask) -> io::Result<Reply> {
        tokio::time::timeout(ANSWER, self.converse(ask))
            .await
            .unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut)))
    }

    async fn converse(&mut self, ask: &Ask) -> io::Result<Reply> {
        // Gone while it is in use, so that whatever ends this call ends the connection.
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => BufReader::new(net::dial(self.addr, ANSWER).await?),
        };
        wire::write(&mut stream, ask).await?;
        let reply = wire::read(&mut stream, ANSWER_MAX).await?;
        let reply = reply.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        self.stream = Some(stream);
        Ok(reply)
    }
}
