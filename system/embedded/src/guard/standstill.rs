//! Time in which a node's thread stood still by command. It is not the time of the calls that were under way.
//!
//! A node that is frozen sees all its calls end late, although every backend answered at once. Whoever blocks a node's thread
//! says so here, and the guard leaves that time out of what it measures. The calls of a node are made and awaited on its one
//! thread, so the total of a thread is all that is needed. Only standing still by command is known: a thread that the machine
//! does not run is late, and shows.
use std::cell::Cell;
use std::time::Duration;

use tokio::time::Instant;

thread_local! {
    static STOOD: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// Blocks this thread by `block` and notes for how long.
pub fn blocked<T>(block: impl FnOnce() -> T) -> T {
    let began = Instant::now();
    let result = block();
    stood(began.elapsed());
    result
}

/// Notes that this thread stood still.
pub(super) fn stood(time: Duration) {
    STOOD.set(STOOD.get() + time);
}

/// How long this thread has stood still since it began.
pub(super) fn total() -> Duration {
    STOOD.get()
}
