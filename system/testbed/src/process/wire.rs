//! What is said through a node's door: one line of JSON each way, one answer to each question.
use std::collections::BTreeMap;
use std::io;

use chat_control::act::PortRule;
use chat_control::inspect::{FoldView, GaugeReading, SystemEvent};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{
    AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _,
};

/// Bytes of a question; a longer one ends the connection.
pub(crate) const ASK_MAX: u64 = 64 * 1024;
/// Bytes of an answer; a longer one ends the connection.
pub(crate) const ANSWER_MAX: u64 = 32 * 1024 * 1024;
/// Events of one answer.
pub(crate) const EVENTS_MAX: usize = 4_096;

/// A question, or an act.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ask {
    /// Epoch, connections, CPU time of the process, whether it serves.
    Signs,
    /// All counters.
    Counters,
    /// All gauges: the highest values since the reading of that number, which the asker has. 0: none.
    Gauges { confirmed: u64 },
    /// Events since a cursor, at most [`EVENTS_MAX`].
    Events { cursor: u64 },
    /// All folds.
    Folds,
    /// Put a rule on a port, or take it away. `own`: for this node alone, which goes before one for all nodes.
    Rule { port: String, own: bool, rule: Option<PortRule> },
    /// Stop or resume the members of a group here.
    Consumer { group: String, paused: bool },
    /// The asker has everything of a node that has ended.
    Goodbye,
}

/// An answer, and whether the node behind the door has ended in order and its process waits for the last readings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reply {
    pub(crate) ended: bool,
    pub(crate) answer: Answer,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    Signs { epoch: u64, connections: u64, cpu_ns: u64, ready: bool },
    Counters(BTreeMap<String, u64>),
    Gauges { reading: u64, gauges: Vec<GaugeReading> },
    Events { events: Vec<SystemEvent>, next: u64 },
    Folds(Vec<FoldView>),
    Done,
    Refused(String),
}

/// Reads one line of at most `max` bytes; `None` at the end of the stream.
pub(crate) async fn read<T: DeserializeOwned>(
    from: &mut (impl AsyncBufRead + Unpin),
    max: u64,
) -> io::Result<Option<T>> {
    let mut line = Vec::new();
    from.take(max).read_until(b'\n', &mut line).await?;
    match line.last() {
        None => Ok(None),
        Some(b'\n') => Ok(Some(serde_json::from_slice(&line)?)),
        Some(_) => {
            Err(io::Error::new(io::ErrorKind::InvalidData, "a line without end, or too long"))
        }
    }
}

/// Writes one line.
pub(crate) async fn write(
    to: &mut (impl AsyncWrite + Unpin),
    value: &impl Serialize,
) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    to.write_all(&line).await?;
    to.flush().await
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn what_is_written_is_read_back_and_the_end_is_the_end() {
        let asks = [
            Ask::Signs,
            Ask::Gauges { confirmed: 3 },
            Ask::Rule {
                port: "log".to_owned(),
                own: true,
                rule: Some(PortRule::Slow {
                    delay: Duration::from_millis(200),
                    jitter: Duration::from_millis(50),
                }),
            },
            Ask::Rule { port: "blobs".to_owned(), own: false, rule: Some(PortRule::Cut) },
        ];
        let mut wire = Vec::new();
        for ask in &asks {
            write(&mut wire, ask).await.unwrap();
        }
        let mut reader = &wire[..];
        for ask in &asks {
            assert_eq!(read::<Ask>(&mut reader, ASK_MAX).await.unwrap().as_ref(), Some(ask));
        }
        assert_eq!(read::<Ask>(&mut reader, ASK_MAX).await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_line_too_long_or_without_end_is_refused() {
        for wire in [&b"\"signs\""[..], &b"\"xxxxxxxxxxxxxxxxxxxxxxxxx\"\n"[..], &b"no json\n"[..]]
        {
            assert!(read::<Ask>(&mut &wire[..], 16).await.is_err());
        }
    }
}
