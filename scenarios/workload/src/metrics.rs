//! Every series that a gate can name: its word, its unit and what kind of value it has.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};

/// What a metric's values are measured in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Nanoseconds in records, times with a unit in files.
    Time,
    /// A share of a whole.
    Share,
    /// A number of things.
    Count,
    /// A plain number.
    Index,
}

/// How values become one figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Samples of time in a histogram: percentiles, max, mean, count.
    Latency,
    /// One share a window.
    Share,
    /// A counter or gauge a window: count, max, rate.
    Count,
    /// A figure derived once a window: max only.
    Derived,
}

macro_rules! metrics {
    ($($variant:ident $name:literal $unit:ident $kind:ident $about:literal;)*) => {
        /// A series of the record.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Metric {
            $(#[doc = $about] $variant,)*
        }

        impl Metric {
            /// All metrics in report order.
            pub const ALL: &[Metric] = &[$(Metric::$variant),*];
            /// Their names, in the same order.
            pub const NAMES: &[&str] = &[$($name),*];

            /// The name in files and reports.
            pub const fn name(self) -> &'static str {
                match self { $(Metric::$variant => $name),* }
            }

            /// What its values are measured in.
            pub const fn unit(self) -> Unit {
                match self { $(Metric::$variant => Unit::$unit),* }
            }

            /// How its values become one figure.
            pub const fn kind(self) -> Kind {
                match self { $(Metric::$variant => Kind::$kind),* }
            }

            /// One sentence for `explain`.
            pub const fn about(self) -> &'static str {
                match self { $(Metric::$variant => $about),* }
            }
        }
    };
}

metrics! {
    LoadLag "load.lag" Time Latency "From the intended start of an intent to the moment the scheduler fired it.";
    LoadOutbox "load.outbox" Time Latency "From the intended start to the moment the frame was encoded for the socket.";
    MessageAccepted "message.accepted" Time Latency "From the intended start to the `sent` answer on the sender's device.";
    MessageDelivered "message.delivered" Time Latency "From the intended start to the surfacing on a recipient's device, one sample a delivery.";
    MessageDeliveredTick "message.delivered_tick" Time Latency "From the intended start to the `delivered` receipt on the sender's device.";
    MessageLate "message.late" Time Latency "True delivery times of messages that surfaced after their deadline.";
    ConnectOpen "connect.open" Time Latency "From the attempt's intended start to an open WebSocket.";
    ConnectWelcome "connect.welcome" Time Latency "From the attempt's intended start to the `welcome` frame.";
    ConnectRecovered "connect.recovered" Time Latency "From the cut of a connection to `caught_up` on the next one.";
    ConnectSynchrony "connect.synchrony" Index Derived "Synchrony index of reconnect attempts after a common cut: 0 is spread out, 9 is all at once.";
    ConnectAttempts "connect.attempts" Count Count "Connection attempts of devices.";
    RelayDrain "relay.drain" Time Latency "From a planned return to `caught_up`.";
    HeartbeatRtt "heartbeat.rtt" Time Latency "From a ping to its pong.";
    MessageGoodput "message.goodput" Share Share "Of the sends due in the window, those delivered in time to every device the schedule has online.";
    MessageOnTime "message.on_time" Share Share "Of the sends due in the window, those whose deliveries all came within one second.";
    MessageRejected "message.rejected" Count Count "Sends refused with a code.";
    MessageAttempts "message.attempts" Count Count "Times a send was written, retries included.";
    MessageRedelivered "redelivered" Count Count "Deliveries written to a device that already had the message.";
    MessageAcceptGap "message.accept_gap" Time Derived "Longest time a partition had sends waiting and answered none.";
    RouteStale "route.stale" Time Derived "Greatest age of a route whose connection is gone.";
    RouteMissing "route.missing" Count Count "Connected devices without a route for longer than the bound.";
    FaultDetected "fault.detected" Time Derived "From injection to the first reaction of the system.";
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Metric {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let ix = Self::NAMES.iter().position(|n| *n == name);
        ix.map(|ix| Self::ALL[ix]).ok_or_else(|| format!("unknown metric `{name}`"))
    }
}

impl Serialize for Metric {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Metric {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        name.parse().map_err(|_| de::Error::unknown_variant(&name, Self::NAMES))
    }
}

impl JsonSchema for Metric {
    fn schema_name() -> Cow<'static, str> {
        "Metric".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"description": "The series that is judged.", "type": "string", "enum": Self::NAMES})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_found_by_its_name() {
        for metric in Metric::ALL {
            assert_eq!(metric.name().parse::<Metric>(), Ok(*metric));
        }
    }
}
