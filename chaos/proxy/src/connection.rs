//! One connection: preamble, accept rule, dial, then two pipes in one task until it ends.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch::Receiver;
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout};

use crate::accept::{AcceptAct, AcceptRule};
use crate::bell::Bell;
use crate::counters::{CloseCause, ConnectionState, locked};
use crate::dice::DiceKey;
use crate::pipe::{Pipe, StallEndsInReset};
use crate::preamble::{PREAMBLE_LEN, Preamble};
use crate::proxy::{Published, Shared};
use crate::toxic::{ResetPeer, Stream, Verdicts};

/// Longest wait for a whole preamble; then the client gets a reset.
const PREAMBLE_WAIT_MAX: Duration = Duration::from_secs(5);

/// Longest wait for the upstream to take a connection; then the client gets a reset.
const DIAL_WAIT_MAX: Duration = Duration::from_secs(5);

/// Serves one accepted connection to its end and says why it ended.
pub(crate) async fn serve(
    shared: &Shared,
    state: &Arc<ConnectionState>,
    mut client: TcpStream,
) -> CloseCause {
    let mut rules = shared.rules.subscribe();
    let opened = tokio::select! {
        biased;
        cause = ended_by_rules(rules.clone(), state) => Err(cause),
        opened = open(shared, state, &mut client) => opened,
    };
    let (upstream, key) = match opened {
        Ok(opened) => opened,
        Err(cause) => {
            end(cause, [&client]);
            return cause;
        }
    };
    let (client, upstream) = (Arc::new(client), Arc::new(upstream));
    state.carries(&client, &upstream);
    let mut carrying = Carrying::new(Arc::clone(state), key, client, upstream);
    let cause = carrying.run(&mut rules).await;
    let client = carrying.client.as_deref();
    end(cause, client.into_iter().chain([&*carrying.upstream]));
    cause
}

/// Makes the sockets, which are dropped next, end the way the cause wants it.
fn end<'a>(cause: CloseCause, sockets: impl IntoIterator<Item = &'a TcpStream>) {
    if !cause.resets() {
        return;
    }
    for socket in sockets {
        // Fails on a socket that is already dead, which then needs no reset.
        drop(socket.set_zero_linger());
    }
}

/// Resolves once the rules end every connection, or a command ended this one. Follows the generation meanwhile.
async fn ended_by_rules(
    mut rules: Receiver<Arc<Published>>,
    state: &ConnectionState,
) -> CloseCause {
    loop {
        let published = Arc::clone(&rules.borrow_and_update());
        if let Some(cause) = published.ends(state) {
            return cause;
        }
        state.obeys(published.generation, Vec::new());
        if rules.changed().await.is_err() {
            return CloseCause::Stopped;
        }
    }
}

/// Everything before the first carried byte: the upstream socket, and the key of the connection's dice.
async fn open(
    shared: &Shared,
    state: &ConnectionState,
    client: &mut TcpStream,
) -> Result<(TcpStream, DiceKey), CloseCause> {
    client.set_nodelay(true).map_err(|_| CloseCause::ResetSeen)?;
    let key = if shared.preamble {
        let device = read_preamble(client).await?.device;
        let dial = locked(&shared.gate).number_dial(device);
        state.device.get_or_init(|| device);
        DiceKey::of_device(shared.seed, &shared.name, device, dial)
    } else {
        DiceKey::of_ordinal(shared.seed, &shared.name, state.ordinal)
    };
    if let Some(rule) = accept_rule(shared, state, &key) {
        match rule.act {
            AcceptAct::Open => {}
            AcceptAct::Refuse => return Err(CloseCause::Refused),
            AcceptAct::Silent => {
                keep_silent(shared, &rule, client).await;
                return Err(CloseCause::Silenced);
            }
            AcceptAct::AcceptThenClose { after } => {
                sleep(after).await;
                return Err(CloseCause::AcceptedThenClosed);
            }
        }
    }
    match timeout(DIAL_WAIT_MAX, dial(shared.upstream)).await {
        Ok(Ok(upstream)) => Ok((upstream, key)),
        Ok(Err(_)) | Err(_) => Err(CloseCause::NoUpstream),
    }
}

/// Dials with zero linger until it is done, so that a connection cut in between ends with a reset like any other.
async fn dial(upstream: SocketAddr) -> io::Result<TcpStream> {
    let socket = if upstream.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_nodelay(true)?;
    socket.set_zero_linger()?;
    let connected = socket.connect(upstream).await?;
    set_socket_linger(&connected, None)?;
    Ok(connected)
}

async fn read_preamble(client: &mut TcpStream) -> Result<Preamble, CloseCause> {
    let mut bytes = [0; PREAMBLE_LEN];
    match timeout(PREAMBLE_WAIT_MAX, client.read_exact(&mut bytes)).await {
        Ok(Ok(_)) => Preamble::decode(&bytes).ok_or(CloseCause::BadPreamble),
        Ok(Err(_)) | Err(_) => Err(CloseCause::BadPreamble),
    }
}

fn accept_rule(shared: &Shared, state: &ConnectionState, key: &DiceKey) -> Option<AcceptRule> {
    let published = Arc::clone(&shared.rules.borrow());
    if published.rules.accept.is_empty() {
        return None;
    }
    let device = state.device.get().copied();
    locked(&shared.gate)
        .decide(&published.rules.accept, state.ordinal, device, key, Instant::now())
        .cloned()
}

/// Answers nothing until the rule goes or the client does; what the client writes is discarded with the connection.
async fn keep_silent(shared: &Shared, rule: &AcceptRule, client: &mut TcpStream) {
    let mut rules = shared.rules.subscribe();
    let mut discarded = [0; 1024];
    loop {
        let stands =
            rules.borrow_and_update().rules.accept.iter().any(|other| other.name == rule.name);
        if !stands {
            break;
        }
        tokio::select! {
            biased;
            changed = rules.changed() => if changed.is_err() { break },
            read = client.read(&mut discarded) => if !matches!(read, Ok(1..)) { break },
        }
    }
    // The client may be gone already, and there is nothing left to say to it.
    drop(client.shutdown().await);
}

/// A connection whose bytes are carried.
struct Carrying {
    state: Arc<ConnectionState>,
    key: DiceKey,
    /// Gone where a stall told the client.
    client: Option<Arc<TcpStream>>,
    upstream: Arc<TcpStream>,
    up: Pipe,
    down: Pipe,
    reset: Option<PendingReset>,
    /// Made at the first delay: most connections have none.
    timer: Option<Pin<Box<Sleep>>>,
}

/// A reset that is going to strike, unless its toxic goes first.
struct PendingReset {
    toxic: Arc<str>,
    attributes: ResetPeer,
    at: Instant,
}

impl Carrying {
    fn new(
        state: Arc<ConnectionState>,
        key: DiceKey,
        client: Arc<TcpStream>,
        upstream: Arc<TcpStream>,
    ) -> Carrying {
        let up = Pipe::new(Stream::Up, Arc::clone(&state), key.clone());
        let down = Pipe::new(Stream::Down, Arc::clone(&state), key.clone());
        Carrying { state, key, client: Some(client), upstream, up, down, reset: None, timer: None }
    }

    async fn run(&mut self, rules: &mut Receiver<Arc<Published>>) -> CloseCause {
        let bells = poll_fn(|cx| Poll::Ready(Bells::of(cx.waker()))).await;
        loop {
            let published = Arc::clone(&rules.borrow_and_update());
            if let Err(cause) = self.obey(&published) {
                return cause;
            }
            [&bells.rules, &bells.up, &bells.down].into_iter().for_each(Bell::mark);
            let mut changed = pin!(rules.changed());
            let next = poll_fn(|cx| {
                // Rules first: bytes that come after a change has been published never escape it.
                if bells.rules.rang()
                    && let Poll::Ready(outcome) = changed.as_mut().poll(&mut bells.rules.context())
                {
                    return Poll::Ready(outcome.err().map(|_| CloseCause::Stopped));
                }
                self.poll(cx, &bells).map(Some)
            });
            if let Some(cause) = next.await {
                return cause;
            }
        }
    }

    fn obey(&mut self, published: &Published) -> Result<(), CloseCause> {
        if let Some(cause) = published.ends(&self.state) {
            return Err(cause);
        }
        let device = self.state.device.get().copied();
        let verdicts = Verdicts::of(&published.rules.toxics, self.state.ordinal, device, &self.key);
        if verdicts.tells_client {
            if let Some(client) = self.client.take() {
                // Fails on a socket that is already dead, which then needs no reset.
                drop(client.set_zero_linger());
                self.state.client_told.store(true, Relaxed);
            }
        } else if self.client.is_none() {
            return Err(CloseCause::StallReset);
        }
        let stall_over = |_: StallEndsInReset| CloseCause::StallReset;
        self.up.obey(verdicts.up).map_err(stall_over)?;
        self.down.obey(verdicts.down).map_err(stall_over)?;
        // The clock of a reset runs on while its toxic stands unchanged.
        self.reset = verdicts.reset.map(|(toxic, attributes)| match self.reset.take() {
            Some(pending) if pending.toxic == toxic && pending.attributes == attributes => pending,
            Some(_) | None => {
                PendingReset { at: Instant::now() + attributes.timeout, toxic, attributes }
            }
        });
        self.state.obeys(published.generation, verdicts.hit);
        Ok(())
    }

    fn poll(&mut self, cx: &mut Context<'_>, bells: &Bells) -> Poll<CloseCause> {
        let mut timer_fired = false;
        loop {
            if self.reset.as_ref().is_some_and(|reset| reset.at <= Instant::now()) {
                return Poll::Ready(CloseCause::ResetInjected);
            }
            if let Err(cause) = self.pump(bells, timer_fired) {
                return Poll::Ready(cause);
            }
            if self.up.is_finished() && self.down.is_finished() {
                return Poll::Ready(CloseCause::EndOfFile);
            }
            let reset_at = self.reset.as_ref().map(|reset| reset.at);
            let Some(at) =
                [reset_at, self.up.wakes_at(), self.down.wakes_at()].into_iter().flatten().min()
            else {
                return Poll::Pending;
            };
            let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(at)));
            if timer.deadline() != at {
                timer.as_mut().reset(at);
            }
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            timer_fired = true;
        }
    }

    /// Moves bytes in the directions whose sockets, rules or delay line gave a reason to look.
    fn pump(&mut self, bells: &Bells, timer_fired: bool) -> Result<(), CloseCause> {
        let Some(client) = &self.client else { return Ok(()) };
        // Whatever a socket reports, this connection cannot go on, and the other end learns it by a reset.
        let broken = |_: io::Error| CloseCause::ResetSeen;
        if bells.up.rang() || timer_fired {
            self.up.pump(&mut bells.up.context(), client, &self.upstream).map_err(broken)?;
        }
        if bells.down.rang() || timer_fired {
            self.down.pump(&mut bells.down.context(), &self.upstream, client).map_err(broken)?;
        }
        Ok(())
    }
}

/// What the task of a connection can be woken for.
struct Bells {
    rules: Bell,
    up: Bell,
    down: Bell,
}

impl Bells {
    fn of(task: &Waker) -> Bells {
        Bells { rules: Bell::of(task), up: Bell::of(task), down: Bell::of(task) }
    }
}
