//! Counters and gauges of a gateway, looked up once.
use chat_ports::observe::{Counter, Gauge, Observer};
use chat_ports::streams::QUEUE_ITEMS;

use crate::deps::Limits;

macro_rules! counters {
    ($($field:ident => $name:literal),+ $(,)?) => {
        /// Counters and gauges of a gateway.
        pub(crate) struct Metrics {
            $(pub(crate) $field: Counter,)+
            /// Largest count of unwritten bytes of one socket.
            pub(crate) outbound_bytes_max: Gauge,
            /// Open connections.
            pub(crate) connections: Gauge,
            /// Sends that wait for a stream.
            pub(crate) waiting_sends: Gauge,
            observer: Observer,
        }

        impl Metrics {
            /// Looks everything up.
            pub(crate) fn new(observer: &Observer, node: &str, limits: &Limits) -> Self {
                Self {
                    $($field: observer.counter(concat!("gateway.", $name)),)+
                    // The bytes of one more page may be written before the limit is looked at again.
                    outbound_bytes_max: observer.gauge(
                        format!("{node}.outbound_bytes_max"),
                        as_u64(limits.unwritten_bytes),
                    ),
                    connections: observer.gauge(format!("{node}.connections"), as_u64(limits.connections)),
                    waiting_sends: observer.gauge(format!("{node}.waiting_sends"), as_u64(QUEUE_ITEMS)),
                    observer: observer.clone(),
                }
            }
        }
    };
}

counters! {
    hello_in => "frames.in.hello",
    send_in => "frames.in.send",
    ack_in => "frames.in.ack",
    ping_in => "frames.in.ping",
    pong_in => "frames.in.pong",
    welcome_out => "frames.out.welcome",
    sent_out => "frames.out.sent",
    reject_out => "frames.out.reject",
    deliver_out => "frames.out.deliver",
    receipt_out => "frames.out.receipt",
    caught_up_out => "frames.out.caught_up",
    reset_out => "frames.out.reset",
    ping_out => "frames.out.ping",
    pong_out => "frames.out.pong",
    drain_out => "frames.out.drain",
    error_out => "frames.out.error",
    bytes_in => "bytes.in",
    bytes_out => "bytes.out",
    handshakes => "handshakes",
    handshakes_failed => "handshakes_failed",
    admission_refused => "admission_refused",
    connections_refused => "connections_refused",
    pulls => "pulls",
    pulls_repeated => "pulls_repeated",
    dropped_old => "pushes_dropped.old",
    dropped_hole => "pushes_dropped.hole",
    dropped_epoch => "pushes_dropped.epoch",
    dropped_credit => "pushes_dropped.credit",
    dropped_joining => "pushes_dropped.joining",
    dropped_overflow => "pushes_dropped.overflow",
    dropped_no_connection => "pushes_dropped.no_connection",
    dropped_fenced => "pushes_dropped.fenced",
    undecodable_items => "undecodable_items",
    answers_unclaimed => "answers_unclaimed",
    acks_delayed => "acks_delayed",
    sends_refused => "sends_refused",
    unregister_dropped => "unregister_dropped",
    rest_requests => "rest.requests",
    rest_sends => "rest.sends",
    rest_reads => "rest.reads",
    rest_tokens => "rest.tokens",
}

impl Metrics {
    /// Counts the end of a connection by its code.
    pub(crate) fn closed(&self, code: u16) {
        self.observer.counter(format!("gateway.closed.{code}")).add(1);
    }
}

fn as_u64(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
