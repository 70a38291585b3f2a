//! One direction of a connection: reads, delays, writes. Polled by the connection's task; owns no socket and no task.

use std::cell::RefCell;
use std::io::{self, ErrorKind, IoSlice};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rustix::io::retry_on_intr;
use rustix::net::{RecvFlags, Shutdown};
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::counters::{ConnectionState, PipeCounters};
use crate::dice::DiceKey;
use crate::line::{CHUNK_BYTES_MAX, Line};
use crate::toxic::{Effects, OnHeal, Stream};

/// Most chunks of one gathered write.
const GATHER_MAX: usize = 32;

thread_local! {
    /// What a read lands in; shared by all pipes of a thread, so that an idle connection owns no buffer.
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; CHUNK_BYTES_MAX]);
}

/// State of one direction.
#[derive(Debug)]
pub(crate) struct Pipe {
    stream: Stream,
    state: Arc<ConnectionState>,
    key: DiceKey,
    /// Made at the first draw: most pipes never draw.
    dice: Option<Box<ChaCha8Rng>>,
    effects: Effects,
    line: Line,
    /// End of file has been read.
    ended: bool,
    /// End of file has been passed on.
    finished: bool,
    /// The receiver's window is full; its socket wakes the task.
    blocked: bool,
    full_since: Option<Instant>,
}

impl Pipe {
    pub(crate) fn new(stream: Stream, state: Arc<ConnectionState>, key: DiceKey) -> Pipe {
        Pipe {
            stream,
            state,
            key,
            dice: None,
            effects: Effects::default(),
            line: Line::default(),
            ended: false,
            finished: false,
            blocked: false,
            full_since: None,
        }
    }

    /// Obeys new effects from the next chunk on; `Err` where a stall ended that had to end with a reset.
    pub(crate) fn obey(&mut self, effects: Effects) -> Result<(), StallEndsInReset> {
        let ends_in_reset = self.effects.stall == Some(OnHeal::Reset) && effects.stall.is_none();
        self.effects = effects;
        self.counters().is_stalled(self.effects.stall.is_some());
        if ends_in_reset { Err(StallEndsInReset) } else { Ok(()) }
    }

    /// Whether the end of file has been passed on.
    pub(crate) fn is_finished(&self) -> bool {
        self.finished
    }

    /// When it wants to be polled next, if time is what it waits for.
    pub(crate) fn wakes_at(&self) -> Option<Instant> {
        if self.blocked || self.finished || self.effects.stall.is_some() {
            None
        } else {
            self.line.next_due()
        }
    }

    /// Moves what can be moved, until only a socket or time can help; the sockets then wake the task.
    pub(crate) fn pump(
        &mut self,
        cx: &mut Context<'_>,
        from: &TcpStream,
        to: &TcpStream,
    ) -> io::Result<()> {
        self.blocked = false;
        if self.finished || self.effects.stall.is_some() {
            return Ok(());
        }
        loop {
            if !self.blocked && self.line.next_due().is_some() {
                self.flush(cx, to)?;
            }
            if self.ended {
                if self.line.end_is_due(Instant::now()) {
                    rustix::net::shutdown(to, Shutdown::Write)?;
                    self.finished = true;
                }
                return Ok(());
            }
            if !self.line.has_room() {
                self.full_since.get_or_insert_with(Instant::now);
                return Ok(());
            }
            if let Some(since) = self.full_since.take() {
                self.counters().was_full(since.elapsed());
            }
            match from.poll_read_ready(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(ready) => ready?,
            }
            self.take_in(from, to)?;
        }
    }

    /// One read. Straight through to the receiver where nothing is in the way, else into the line.
    fn take_in(&mut self, from: &TcpStream, to: &TcpStream) -> io::Result<()> {
        SCRATCH.with_borrow_mut(|scratch| {
            let Some(read) = read_once(from, scratch)? else { return Ok(()) };
            let now = Instant::now();
            let since_opened = now.saturating_duration_since(self.state.opened);
            if read == 0 {
                let delay = self.delay();
                self.line.push_end(now, delay);
                self.ended = true;
                return Ok(());
            }
            self.counters().came_in(read, since_opened);
            let mut rest = &scratch[..read];
            if self.line.is_empty() && self.effects.delays.is_empty() {
                match to.try_write(rest) {
                    Ok(written) => {
                        self.counters().went_out(written, since_opened);
                        rest = &rest[written..];
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
            if !rest.is_empty() {
                let delay = self.delay();
                self.line.push(now, delay, rest);
                self.counters().holds(self.line.bytes());
            }
            Ok(())
        })
    }

    /// Writes what is due; notes it where the receiver's window is full.
    fn flush(&mut self, cx: &mut Context<'_>, to: &TcpStream) -> io::Result<()> {
        loop {
            let now = Instant::now();
            let mut slices = [IoSlice::new(&[]); GATHER_MAX];
            let filled = self.line.gather(now, &mut slices);
            if filled == 0 {
                return Ok(());
            }
            match to.try_write_vectored(&slices[..filled]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => {
                    let counters = counters_of(&self.state, self.stream);
                    self.line.advance(now, written, |chunk| counters.passed(chunk));
                    counters.went_out(written, now.saturating_duration_since(self.state.opened));
                    counters.holds(self.line.bytes());
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    match to.poll_write_ready(cx) {
                        Poll::Ready(ready) => ready?,
                        Poll::Pending => {
                            self.blocked = true;
                            return Ok(());
                        }
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The delay of the next chunk: latencies that hit the same pipe add up.
    fn delay(&mut self) -> Duration {
        if self.effects.delays.is_empty() {
            return Duration::ZERO;
        }
        let purpose = if self.stream == Stream::Up { "up" } else { "down" };
        let dice = self.dice.get_or_insert_with(|| Box::new(self.key.generator(purpose)));
        self.effects.delays.iter().map(|latency| latency.draw(dice)).sum()
    }

    fn counters(&self) -> &PipeCounters {
        counters_of(&self.state, self.stream)
    }
}

/// A stall ended whose connection has to be reset with it.
#[derive(Debug)]
pub(crate) struct StallEndsInReset;

fn counters_of(state: &ConnectionState, stream: Stream) -> &PipeCounters {
    if stream == Stream::Up { &state.up } else { &state.down }
}

/// One read; `None` where nothing was there after all. A read that does not fill the buffer has emptied the socket, so its readiness is
/// cleared at once (epoll is edge-triggered here) and the read that would only say so is saved.
fn read_once(from: &TcpStream, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    let mut read = None;
    let outcome = from.try_io(Interest::READABLE, || {
        let (bytes, _) =
            retry_on_intr(|| rustix::net::recv(from, &mut *buffer, RecvFlags::empty()))?;
        read = Some(bytes);
        if 0 < bytes && bytes < buffer.len() { Err(ErrorKind::WouldBlock.into()) } else { Ok(()) }
    });
    match outcome {
        Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
        Ok(()) | Err(_) => Ok(read),
    }
}
