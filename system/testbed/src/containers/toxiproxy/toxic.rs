//! Rules of ports in Toxiproxy's words.
use std::collections::BTreeMap;
use std::time::Duration;

use chat_control::act::PortRule;
use serde::{Deserialize, Serialize};

use super::LinkError;

/// Longest delay of a rule.
const DELAY_MAX: Duration = Duration::from_mins(10);
/// A link that holds its bytes delays them by a day, milliseconds: longer than any run, and still a number of the library.
const HELD: u32 = 86_400_000;

/// Direction of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Stream {
    /// From the node.
    Upstream,
    /// To the node.
    Downstream,
}

impl Stream {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Upstream => "upstream",
            Self::Downstream => "downstream",
        }
    }
}

/// A toxic as Toxiproxy writes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Toxic {
    pub(super) name: String,
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) stream: Stream,
    /// Share of connections that it hits.
    pub(super) toxicity: f32,
    /// Numbers by name; durations are in milliseconds.
    pub(super) attributes: BTreeMap<String, i64>,
}

impl Toxic {
    /// Hits every connection and is named as the library names its own.
    fn new(kind: &str, stream: Stream, attributes: &[(&str, u32)]) -> Self {
        Self {
            name: format!("{kind}_{}", stream.name()),
            kind: kind.to_owned(),
            stream,
            toxicity: 1.0,
            attributes: attributes
                .iter()
                .map(|(name, value)| ((*name).to_owned(), i64::from(*value)))
                .collect(),
        }
    }

    /// Bytes take so much longer, milliseconds. When the toxic goes those that wait are passed on in their order.
    fn latency(stream: Stream, delay: u32, jitter: u32) -> Self {
        Self::new("latency", stream, &[("latency", delay), ("jitter", jitter)])
    }

    /// The connection ends as the first bytes of this direction arrive: with a reset if it was made since the toxic is there, in an orderly
    /// way if it stood before.
    fn reset(stream: Stream) -> Self {
        Self::new("reset_peer", stream, &[("timeout", 0)])
    }

    /// Bytes are lost; the connection is closed when the toxic goes.
    fn lose(stream: Stream) -> Self {
        Self::new("timeout", stream, &[("timeout", 0)])
    }
}

/// The toxics that are a rule. A delay is refused below a millisecond, which is Toxiproxy's unit, and above ten minutes.
pub(super) fn toxics_of(rule: Option<&PortRule>) -> Result<Vec<Toxic>, LinkError> {
    match rule {
        None => Ok(Vec::new()),
        // One direction only: a call is slowed once.
        Some(PortRule::Slow { delay, jitter }) => {
            if *delay < Duration::from_millis(1) || delay.max(jitter) > &DELAY_MAX {
                return Err(LinkError::Rule(format!(
                    "a link cannot be slowed by {delay:?}, give or take {jitter:?}: between 1 ms and {DELAY_MAX:?} it can"
                )));
            }
            Ok(vec![Toxic::latency(Stream::Downstream, millis(*delay), millis(*jitter))])
        }
        // Of each direction 1,024 reads of a connection are held; then it takes nothing more, and TCP pushes back.
        Some(PortRule::Stall) => Ok(vec![
            Toxic::latency(Stream::Upstream, HELD, 0),
            Toxic::latency(Stream::Downstream, HELD, 0),
        ]),
        // Of the answers: a call has its effect, and its caller hears of the reset only.
        Some(PortRule::Reset) => Ok(vec![Toxic::reset(Stream::Downstream)]),
        Some(PortRule::Cut) => {
            Ok(vec![Toxic::lose(Stream::Upstream), Toxic::lose(Stream::Downstream)])
        }
    }
}

fn millis(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_rule_delays_answers_only_and_a_cut_loses_both_directions() {
        let slow =
            PortRule::Slow { delay: Duration::from_millis(200), jitter: Duration::from_millis(50) };
        let slow = toxics_of(Some(&slow)).unwrap();
        let text = serde_json::to_value(&slow).unwrap();
        assert_eq!(
            text,
            serde_json::json!([{
                "name": "latency_downstream", "type": "latency", "stream": "downstream",
                "toxicity": 1.0, "attributes": {"latency": 200, "jitter": 50},
            }])
        );
        let cut = toxics_of(Some(&PortRule::Cut)).unwrap();
        let streams: Vec<_> = cut.iter().map(|toxic| toxic.stream).collect();
        assert_eq!(streams, [Stream::Upstream, Stream::Downstream]);
        assert!(toxics_of(None).unwrap().is_empty());
    }

    #[test]
    fn reset_link_ends_with_an_answer_whose_call_had_its_effect() {
        let reset = toxics_of(Some(&PortRule::Reset)).unwrap();
        let kinds: Vec<_> = reset.iter().map(|toxic| (toxic.kind.as_str(), toxic.stream)).collect();
        assert_eq!(kinds, [("reset_peer", Stream::Downstream)]);
    }

    #[test]
    fn stalled_link_holds_both_directions_and_loses_nothing() {
        let stall = toxics_of(Some(&PortRule::Stall)).unwrap();
        let kinds: Vec<_> = stall.iter().map(|toxic| (toxic.kind.as_str(), toxic.stream)).collect();
        assert_eq!(kinds, [("latency", Stream::Upstream), ("latency", Stream::Downstream)]);
    }

    #[test]
    fn delay_that_the_proxy_cannot_keep_is_refused() {
        for (delay, jitter) in [(0, 0), (999, 0), (700_000_000, 0), (1_000, 700_000_000)] {
            let rule = PortRule::Slow {
                delay: Duration::from_micros(delay),
                jitter: Duration::from_micros(jitter),
            };
            assert!(matches!(toxics_of(Some(&rule)), Err(LinkError::Rule(_))), "{rule:?}");
        }
    }
}
