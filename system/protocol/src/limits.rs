//! Sizes, timers and limits of `chatstorm.v1`, and what happens at each.
use std::time::Duration;

/// Largest sealed body of a message, bytes; a larger one is refused with `too-large`.
pub const BODY_MAX: usize = 96 * 1024;
/// Largest WebSocket message in either direction, bytes; a larger one closes the connection with 1009.
pub const FRAME_MAX: usize = 128 * 1024;
/// Unacknowledged items a device may have on its socket; beyond it the gateway pulls pages instead of pushing.
pub const UNACKED_MAX: u32 = 256;
/// Items of one page of a relay queue.
pub const PAGE_ITEMS: u32 = 64;
/// Largest page of history, rows; a larger `limit` is cut to it.
pub const HISTORY_PAGE_MAX: u32 = 200;
/// A gateway answers the read of a page within this, with 503 when it is not readable by then.
pub const PAGE_WAIT: Duration = Duration::from_secs(4);
/// A client acknowledges after this many items.
pub const ACK_ITEMS: u32 = 8;
/// A send is refused as stale when its `client_ms` is further ahead of the log's clock than this.
pub const AHEAD_MAX_MS: u64 = 60_000;
/// A send is refused as stale when its `client_ms` is older than this.
pub const AGE_MAX_MS: u64 = 180_000;
/// Messages a device keeps for sending; a further one is a dropped arrival, reported as `not_sent`.
pub const OUTBOX_MAX: usize = 1_000;
/// Relay queue of a device: the oldest item is trimmed beyond this many, with a raised floor, so that the device learns of it as `gap`.
pub const RELAY_QUEUE_MAX: u64 = 10_000;
/// Items of a node-to-node batch.
pub const BATCH_ITEMS: usize = 64;
/// Unconfirmed batches of a node stream; beyond it the sender stops reading its own source.
pub const BATCHES_UNCONFIRMED: usize = 8;

/// Every timer of the system and its client, so that a short set can be used for quick runs.
///
/// All parts get the same value from the testbed; bounds of invariants derive from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Timers {
    /// Node lease: renewed each.
    pub lease_renew: Duration,
    /// Node lease: ends after this long without renewal.
    pub lease_ttl: Duration,
    /// A gateway that could not renew for this long asks whether it is alone with that, and stops serving if so.
    pub self_fence: Duration,
    /// Sweeper of dead nodes' routes.
    pub sweep: Duration,
    /// Member of a log group: heartbeat each.
    pub log_heartbeat: Duration,
    /// Member of a log group: loses its partitions after this long without heartbeat.
    pub log_session: Duration,
    /// A partition without leader gets one after this long.
    pub log_election: Duration,
    /// How long an append may wait for replication before its outcome is unknown.
    pub log_append: Duration,
    /// Group positions are committed each.
    pub commit: Duration,
    /// Fold snapshots are written each.
    pub snapshot: Duration,
    /// Server heartbeat period, jittered by a fifth.
    pub ping: Duration,
    /// A connection without `pong` for this long after a ping is closed with 4408.
    pub pong: Duration,
    /// A client gives up a connection this long after the last frame.
    pub patience: Duration,
    /// No `hello` within this long closes with 4401.
    pub hello: Duration,
    /// A client that has no answer to its handshake and `hello` after this long tries again.
    pub connect: Duration,
    /// Lower clamp of the first reconnect window dictated by the server.
    pub window_min: Duration,
    /// Upper clamp of the first reconnect window dictated by the server.
    pub window_max: Duration,
    /// Base of the full-jitter backoff.
    pub backoff_base: Duration,
    /// Cap of the full-jitter backoff, before jitter.
    pub backoff_cap: Duration,
    /// A session this long resets the backoff.
    pub stable: Duration,
    /// A send without answer is retried after this long.
    pub send_ack: Duration,
    /// A send without answer for this long is unknown.
    pub send_deadline: Duration,
    /// The outbox of a conversation rests this long after an unknown send.
    pub send_rest: Duration,
    /// Age limit of a send, enforced by the fold. Never shortened: it is part of the log's meaning.
    pub send_age: Duration,
    /// A client acknowledges with its next frame, and at the latest after this long.
    pub ack_delay: Duration,
    /// No ack progress for this long closes with 4440.
    pub ack_progress: Duration,
    /// Receipts are coalesced for this long.
    pub receipt_coalesce: Duration,
    /// A `cseq` hole holds back what follows for this long.
    pub hole_wait: Duration,
    /// `drain` frames are spread over this long.
    pub drain_spread: Duration,
    /// A draining node exits after this long, whatever is still open.
    pub drain_deadline: Duration,
    /// Registry and relay store: one call.
    pub store_call: Duration,
    /// Tables and history: one call.
    pub table_call: Duration,
    /// Lists of devices are cached this long.
    pub directory_cache: Duration,
    /// Live node table and route checks are cached this long.
    pub node_table: Duration,
    /// HTTP/2 keepalive of node streams: interval and timeout together find a black-holed peer.
    pub stream_keepalive: Duration,
}

impl Timers {
    /// The timers of the reference system.
    pub const DEFAULT: Self = Self {
        lease_renew: Duration::from_secs(2),
        lease_ttl: Duration::from_secs(7),
        self_fence: Duration::from_secs(5),
        sweep: Duration::from_secs(1),
        log_heartbeat: Duration::from_millis(500),
        log_session: Duration::from_secs(3),
        log_election: Duration::from_secs(1),
        log_append: Duration::from_secs(3),
        commit: Duration::from_secs(1),
        snapshot: Duration::from_secs(30),
        ping: Duration::from_secs(25),
        pong: Duration::from_secs(10),
        patience: Duration::from_secs(40),
        hello: Duration::from_secs(10),
        connect: Duration::from_secs(5),
        window_min: Duration::from_secs(1),
        window_max: Duration::from_mins(1),
        backoff_base: Duration::from_millis(500),
        backoff_cap: Duration::from_secs(30),
        stable: Duration::from_mins(1),
        send_ack: Duration::from_secs(5),
        send_deadline: Duration::from_mins(2),
        send_rest: Duration::from_secs(75),
        send_age: Duration::from_millis(AGE_MAX_MS),
        ack_delay: Duration::from_millis(200),
        ack_progress: Duration::from_secs(30),
        receipt_coalesce: Duration::from_millis(200),
        hole_wait: Duration::from_secs(2),
        drain_spread: Duration::from_secs(2),
        drain_deadline: Duration::from_secs(30),
        store_call: Duration::from_millis(500),
        table_call: Duration::from_secs(2),
        directory_cache: Duration::from_secs(5),
        node_table: Duration::from_secs(1),
        stream_keepalive: Duration::from_secs(2),
    };

    /// A tenth of every timer; leases and log sessions a fifth, so that a busy two-core machine keeps them.
    ///
    /// The acknowledgement delay, receipt coalescing and the age limit stay: they are no failure timers.
    pub const fn short() -> Self {
        let d = Self::DEFAULT;
        Self {
            lease_renew: fraction(d.lease_renew, 5),
            lease_ttl: fraction(d.lease_ttl, 5),
            self_fence: fraction(d.self_fence, 5),
            sweep: fraction(d.sweep, 5),
            log_heartbeat: fraction(d.log_heartbeat, 5),
            log_session: fraction(d.log_session, 5),
            log_election: fraction(d.log_election, 5),
            log_append: fraction(d.log_append, 5),
            commit: fraction(d.commit, 5),
            snapshot: fraction(d.snapshot, 10),
            ping: fraction(d.ping, 10),
            pong: fraction(d.pong, 10),
            patience: fraction(d.patience, 10),
            hello: fraction(d.hello, 10),
            connect: fraction(d.connect, 5),
            window_min: fraction(d.window_min, 2),
            window_max: fraction(d.window_max, 10),
            backoff_base: fraction(d.backoff_base, 10),
            backoff_cap: fraction(d.backoff_cap, 10),
            stable: fraction(d.stable, 10),
            send_ack: fraction(d.send_ack, 5),
            send_deadline: fraction(d.send_deadline, 10),
            send_rest: fraction(d.send_rest, 10),
            send_age: d.send_age,
            ack_delay: d.ack_delay,
            ack_progress: fraction(d.ack_progress, 10),
            receipt_coalesce: d.receipt_coalesce,
            hole_wait: fraction(d.hole_wait, 5),
            drain_spread: fraction(d.drain_spread, 10),
            drain_deadline: fraction(d.drain_deadline, 10),
            store_call: fraction(d.store_call, 2),
            table_call: fraction(d.table_call, 4),
            directory_cache: fraction(d.directory_cache, 2),
            node_table: fraction(d.node_table, 5),
            stream_keepalive: fraction(d.stream_keepalive, 5),
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "timers are far below 2^64 ns; From is not const"
)]
const fn fraction(whole: Duration, part: u32) -> Duration {
    Duration::from_nanos(whole.as_nanos() as u64 / part as u64)
}
