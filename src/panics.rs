//! Panics of any thread are remembered, since nothing that this process says after one can be trusted.
//!
//! A runtime catches the panic of a task, and the system may well recover: without this a run could pass although a node crashed. Nodes
//! in processes of their own say so in their logs.
#[cfg(feature = "containers")]
use std::io::{self, BufRead, BufReader, Read as _};
use std::panic::PanicHookInfo;
#[cfg(feature = "containers")]
use std::path::Path;
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
    keep(format!("thread `{}` panicked{place}: {words}", thread.name().unwrap_or("?")));
}

fn keep(line: String) {
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

/// Bytes of a log that are read: what a saved one has at most, and the line that says so.
#[cfg(feature = "containers")]
const LOG_MAX: u64 = 17 << 20;
/// What stands in the line with which a process says that a thread panicked; its words are in the next one.
#[cfg(feature = "containers")]
const MARK: &str = " panicked at ";

/// Remembers the panics of nodes as those of this process: each has its log in the folder, named as the node. A log that is missing or
/// not whole is remembered too, since nobody knows what it does not say.
#[cfg(feature = "containers")]
pub fn remember_logs(folder: &Path, nodes: &[String]) {
    for node in nodes {
        let file = std::fs::File::open(folder.join(format!("{node}.log")));
        match file.and_then(|file| in_log(BufReader::new(file.take(LOG_MAX)))) {
            Ok(lines) => lines.iter().for_each(|line| keep(format!("node `{node}`: {line}"))),
            Err(error) => keep(format!("the log of node `{node}` cannot be read: {error}")),
        }
    }
}

/// The panics in a log, at most as many as are kept, and whether it is not whole.
#[cfg(feature = "containers")]
fn in_log(mut log: impl BufRead) -> io::Result<Vec<String>> {
    let (mut found, mut line) = (Vec::<String>::new(), Vec::new());
    let mut words = false;
    while log.read_until(b'\n', &mut line)? > 0 {
        let text = String::from_utf8_lossy(&line);
        let text = text.trim();
        if let Some(last) = found.last_mut().filter(|_| std::mem::take(&mut words)) {
            last.push(' ');
            last.push_str(text);
        } else if text.contains(MARK) && found.len() < KEPT {
            found.push(text.to_owned());
            words = true;
        } else if text.starts_with(chat_testbed::containers::LOG_CUT) {
            found.push(format!("its log is not whole: {text}"));
        }
        line.clear();
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "containers")]
    #[test]
    fn panic_in_the_log_of_a_node_is_remembered_and_so_is_a_log_that_is_missing_or_cut() {
        let folder = tempfile::tempdir().unwrap();
        let log = |name: &str, text: &str| {
            std::fs::write(folder.path().join(format!("{name}.log")), text).unwrap();
        };
        let crashed = "INFO serves\nthread 'main' (7) panicked at system/relay/src/queue.rs:7:9:\na slot has no owner\nnote: run\n";
        log("services-1", crashed);
        log("gateway-1", "a call failed: the route is gone\n");
        log("gateway-2", "serves\n(cut here, after 16 MiB)\n");
        log("kafka-1", "java panicked at noon\n");
        let nodes = ["services-1", "services-2", "gateway-1", "gateway-2"].map(str::to_owned);
        remember_logs(folder.path(), &nodes);
        let seen = seen();
        let has = |words: &str| seen.iter().filter(|line| line.contains(words)).count();
        let words = "node `services-1`: thread 'main' (7) panicked at system/relay/src/queue.rs:7:9: a slot has no owner";
        assert!(seen.iter().any(|line| line == words), "{seen:?}");
        assert_eq!(
            (has("log of node `services-2`"), has("`gateway-2`: its log is not whole")),
            (1, 1)
        );
        assert_eq!((has("node `gateway-1`"), has("noon")), (0, 0), "{seen:?}");
    }

    #[test]
    fn panic_of_a_thread_is_remembered_for_good_with_its_words() {
        remember();
        let crashed = std::thread::Builder::new().name("gw-gateway-1".to_owned());
        assert!(crashed.spawn(|| panic!("a route is gone")).unwrap().join().is_err());
        let seen = seen();
        assert!(seen.iter().any(|line| line.starts_with("thread `gw-gateway-1` panicked at ")));
        assert!(seen.iter().any(|line| line.ends_with(": a route is gone")), "{seen:?}");
        assert!(super::seen().starts_with(&seen));
    }
}
