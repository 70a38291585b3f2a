//! Panics of any thread are remembered, since nothing that this process says after one can be trusted.
//!
//! A runtime catches the panic of a task, and the system may well recover: without this a run could pass although a node crashed.
use std::panic::PanicHookInfo;
use std::sync::{Mutex, PoisonError};

/// Panics whose words are kept; of further ones only the last place is overwritten.
const KEPT: usize = 16;

static SEEN: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Begins to remember. What was done at a panic before is done still.
pub fn remember() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        note(info);
        before(info);
    }));
}

fn note(info: &PanicHookInfo<'_>) {
    let thread = std::thread::current();
    let place = info.location().map_or_else(String::new, |at| format!(" at {at}"));
    let words = info.payload_as_str().unwrap_or("without words");
    let line = format!("thread `{}` panicked{place}: {words}", thread.name().unwrap_or("?"));
    let mut seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
    if seen.len() >= KEPT {
        seen.pop();
    }
    seen.push(line);
}

/// What was remembered so far. It is never forgotten: a panic of the control run leaves the run itself in doubt as well.
pub fn seen() -> Vec<String> {
    SEEN.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panic_of_a_thread_is_remembered_for_good_with_its_words() {
        remember();
        let crashed = std::thread::Builder::new().name("gw-gateway-1".to_owned());
        assert!(crashed.spawn(|| panic!("a route is gone")).unwrap().join().is_err());
        let seen = seen();
        assert!(seen.iter().any(|line| line.starts_with("thread `gw-gateway-1` panicked at ")));
        assert!(seen.iter().any(|line| line.ends_with(": a route is gone")), "{seen:?}");
        assert_eq!(super::seen(), seen);
    }
}
