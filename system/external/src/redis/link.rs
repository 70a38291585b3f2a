//! The one connection of a node.
//!
//! The client library's own connection manager is not used. It keeps a connection on which calls run out of time, so a half-open
//! one is never replaced; it reconnects in a task that nobody owns; and it gives the same error for a call that was never sent and
//! for one whose answer was lost, while a [`PortError`] has to tell them apart.
//!
//! - A connection is made by whoever needs it. Callers share one attempt and wait for it within their own limit; an attempt that
//!   takes longer goes on with the next caller. Until it stands nothing has been sent, so its failure is `Refused`.
//! - From the moment a call is handed to the connection, a lost connection or a late answer is `Unknown`. An error that the server
//!   gives instead of running a script is `Refused`.
//! - A connection is given up when it breaks, and when a call ran out of time on it while nothing at all was answered.
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chat_ports::PortError;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, IntoConnectionInfo as _, Pipeline,
    ProtocolVersion, PushInfo, PushKind, RedisError, RedisResult, Value,
};
use tokio::time::{Instant, timeout, timeout_at};

use super::answer::odd;
use super::scripts::{self, Call};

/// An attempt to connect ends after this many limits of a call; it takes about four round trips.
const ATTEMPT_CALLS: u32 = 4;
/// After a failed attempt calls are refused for this long without another one, so that a store that is away is not asked at the rate
/// of calls.
const REST: Duration = Duration::from_millis(50);
/// Calls between the callers and the socket; further ones wait, within their limit.
const BUFFERED: usize = 64;
/// Errors with which the server turns a command away, or a script at its first write: nothing has happened then. It lets a script
/// that has written go on.
const TURNED_AWAY: [&str; 10] = [
    "BUSY",
    "LOADING",
    "MASTERDOWN",
    "MISCONF",
    "NOAUTH",
    "NOPERM",
    "NOREPLICAS",
    "NOSCRIPT",
    "OOM",
    "READONLY",
];

type Attempt = Shared<BoxFuture<'static, Result<Live, Arc<str>>>>;

/// A connection that stands.
#[derive(Clone)]
struct Live {
    connection: MultiplexedConnection,
    pulse: Arc<Pulse>,
}

/// What is known of a connection.
#[derive(Default)]
struct Pulse {
    /// It has ended, or was given up.
    gone: AtomicBool,
    /// Answers that came.
    answers: AtomicU64,
}

enum State {
    /// None; a new attempt is made from `since` + [`REST`] on.
    Down {
        since: Instant,
        why: Arc<str>,
    },
    /// None, and nothing was tried yet.
    New,
    Rising(Attempt),
    Up(Live),
}

/// Makes calls over the one connection there is.
pub(super) struct Link {
    client: Client,
    call: Duration,
    /// What is sent first on a connection: the scripts, and what makes the server's incarnation known.
    greeting: Arc<Pipeline>,
    state: Mutex<State>,
}

impl Link {
    /// Connects at the first call. `adopt` is made on each new connection before any other call. A call ends within `call`.
    pub(super) fn new(addr: SocketAddr, call: Duration, adopt: Call) -> Result<Self, PortError> {
        let unusable = |error: RedisError| PortError::Refused(error.to_string());
        let info = ConnectionAddr::Tcp(addr.ip().to_string(), addr.port())
            .into_connection_info()
            .map_err(unusable)?;
        // The newer protocol tells a lost connection at once, and not only to the next call.
        let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        let info = info
            .set_redis_settings(settings.set_skip_set_lib_name())
            .set_tcp_settings(TcpSettings::default().set_nodelay(true));
        let mut greeting = scripts::load();
        greeting.add_command(adopt.into_command());
        Ok(Self {
            client: Client::open(info).map_err(unusable)?,
            call,
            greeting: Arc::new(greeting),
            state: Mutex::new(State::New),
        })
    }

    /// Connects, if there is no connection.
    pub(super) async fn ready(&self) -> Result<(), PortError> {
        self.live(Instant::now() + self.call).await.map(drop)
    }

    /// Makes calls in one round trip; their answers come in order.
    ///
    /// When the server does not know a script, all of them are loaded and the calls made again, so several calls have to be ones
    /// that may be repeated.
    pub(super) async fn ask(&self, calls: Vec<Call>) -> Result<Vec<Value>, PortError> {
        let deadline = Instant::now() + self.call;
        let live = self.live(deadline).await?;
        let mut request = Pipeline::with_capacity(calls.len());
        for call in calls {
            request.add_command(call.into_command());
        }
        let values = self.send(&live, &request, deadline).await?;
        if !values.iter().any(unknown_script) {
            return checked(values);
        }
        let mut again = scripts::load();
        let loads = again.len();
        for command in request.cmd_iter() {
            again.add_command(command.clone());
        }
        let mut values = self.send(&live, &again, deadline).await?;
        checked(values.split_off(loads.min(values.len())))
    }

    /// Sends commands over a connection that stands.
    async fn send(
        &self,
        live: &Live,
        commands: &Pipeline,
        deadline: Instant,
    ) -> Result<Vec<Value>, PortError> {
        let mut waiting = Waiting {
            link: self,
            live,
            began: Instant::now(),
            answers: live.pulse.answers.load(Relaxed),
            ended: false,
        };
        let mut connection = live.connection.clone();
        let sent = connection.send_packed_commands(commands, 0, commands.len());
        match timeout_at(deadline, sent).await {
            Ok(Ok(values)) => {
                waiting.ended = true;
                live.pulse.answers.fetch_add(1, Relaxed);
                if values.len() == commands.len() { Ok(values) } else { Err(odd()) }
            }
            Ok(Err(error)) => {
                waiting.ended = true;
                self.give_up(live, &error.to_string());
                Err(PortError::Unknown(error.to_string()))
            }
            Err(_) => Err(PortError::Unknown(format!("nothing within {:?}", self.call))),
        }
    }

    /// The connection that stands, or a new one.
    async fn live(&self, deadline: Instant) -> Result<Live, PortError> {
        let attempt = {
            let mut state = self.lock();
            match &*state {
                State::Up(live) if !live.pulse.gone.load(Relaxed) => return Ok(live.clone()),
                State::Rising(attempt) => attempt.clone(),
                State::Down { since, why } if since.elapsed() < REST => {
                    return Err(PortError::Refused(format!("no connection: {why}")));
                }
                State::Up(_) | State::Down { .. } | State::New => {
                    let attempt = self.attempt();
                    *state = State::Rising(attempt.clone());
                    attempt
                }
            }
        };
        let Ok(outcome) = timeout_at(deadline, attempt.clone()).await else {
            return Err(PortError::Refused(format!("no connection within {:?}", self.call)));
        };
        // An attempt may end between two callers, and its connection with it.
        let outcome = outcome.and_then(|live| {
            let gone = live.pulse.gone.load(Relaxed);
            if gone { Err("the new connection ended at once".into()) } else { Ok(live) }
        });
        let mut state = self.lock();
        if matches!(&*state, State::Rising(present) if present.ptr_eq(&attempt)) {
            *state = match &outcome {
                Ok(live) => State::Up(live.clone()),
                Err(why) => State::Down { since: Instant::now(), why: Arc::clone(why) },
            };
        }
        outcome.map_err(|why| PortError::Refused(format!("no connection: {why}")))
    }

    fn attempt(&self) -> Attempt {
        let (client, greeting) = (self.client.clone(), Arc::clone(&self.greeting));
        let limit = self.call.saturating_mul(ATTEMPT_CALLS);
        let attempt = async move {
            let connected = timeout(limit, connect(&client, &greeting)).await;
            let outcome = connected.map_err(|_| format!("nothing within {limit:?}"));
            outcome.and_then(|live| live.map_err(|error| error.to_string())).map_err(Arc::from)
        };
        attempt.boxed().shared()
    }

    /// Leaves a connection to the calls that still wait on it; the next call makes another one.
    fn give_up(&self, live: &Live, why: &str) {
        live.pulse.gone.store(true, Relaxed);
        let mut state = self.lock();
        if matches!(&*state, State::Up(present) if Arc::ptr_eq(&present.pulse, &live.pulse)) {
            tracing::debug!(why, "The connection to the store is given up.");
            *state = State::New;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call that waits for its answer. One that ends without it, be it that its caller went away, after at least half of its limit, in
/// which nothing at all was answered, gives the connection up: it may be open on this side only.
struct Waiting<'a> {
    link: &'a Link,
    live: &'a Live,
    began: Instant,
    answers: u64,
    ended: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let silent = self.live.pulse.answers.load(Relaxed) == self.answers;
        if !self.ended && silent && self.began.elapsed() >= self.link.call / 2 {
            self.link.give_up(self.live, "silence");
        }
    }
}

async fn connect(client: &Client, greeting: &Pipeline) -> RedisResult<Live> {
    let pulse = Arc::<Pulse>::default();
    let seen = Arc::clone(&pulse);
    let watch = move |push: PushInfo| {
        if push.kind == PushKind::Disconnection {
            seen.gone.store(true, Relaxed);
        }
        RedisResult::Ok(())
    };
    // Limits of time are this module's.
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(None)
        .set_response_timeout(None)
        .set_pipeline_buffer_size(BUFFERED)
        .set_push_sender(watch);
    let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
    for value in connection.send_packed_commands(greeting, 0, greeting.len()).await? {
        value.extract_error()?;
    }
    Ok(Live { connection, pulse })
}

fn unknown_script(value: &Value) -> bool {
    matches!(value, Value::ServerError(error) if error.code() == "NOSCRIPT")
}

/// Answers without errors. Of several calls that were refused in part, some have happened.
fn checked(values: Vec<Value>) -> Result<Vec<Value>, PortError> {
    let errors = || {
        values.iter().filter_map(|value| match value {
            Value::ServerError(error) => Some(error),
            _ => None,
        })
    };
    let Some(first) = errors().next() else { return Ok(values) };
    let nothing_happened = errors().count() == values.len()
        && errors().all(|error| TURNED_AWAY.contains(&error.code()));
    let why = format!("{} {}", first.code(), first.details().unwrap_or_default());
    Err(if nothing_happened { PortError::Refused(why) } else { PortError::Unknown(why) })
}
