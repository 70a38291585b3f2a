//! Runs that do not reach their end: stopped by a signal or a condition, or killed. Neither can pass, and both can be judged again.
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::Desk;

/// A system has its ports for itself; two at once would refuse each other.
static ONE_SYSTEM: Mutex<()> = Mutex::new(());

/// Waits until no other story of this file has a system.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    ONE_SYSTEM.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Desk {
    /// Starts a run into the folder `run`, and comes back when its first phase has begun.
    fn running(&self) -> Child {
        let mut command = self.command(&["run", "smoke", "--out", "run"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut err = BufReader::new(child.stderr.take().unwrap());
        let mut said = String::new();
        while !said.lines().any(|line| line.contains("phase")) {
            assert_ne!(
                err.read_line(&mut said).unwrap(),
                0,
                "the run ended before its first phase:\n{said}"
            );
        }
        // Somebody has to read what is still said, or the pipe fills and the run stands.
        std::thread::spawn(move || std::io::copy(&mut err, &mut std::io::sink()));
        child
    }

    pub(crate) fn report(&self) -> Value {
        serde_json::from_slice(&std::fs::read(self.path().join("run/report.json")).unwrap())
            .unwrap()
    }
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

#[test]
fn interrupted_run_is_judged_and_ends_with_13() {
    let _one_system = alone();
    let desk = Desk::new();
    let child = desk.running();
    signal(&child, Signal::INT);
    let ended = crate::Ended::from(child.wait_with_output().unwrap());
    assert_eq!(ended.code, 13, "{}", ended.out);
    let report = desk.report();
    assert_eq!(report["exit_code"], 13);
    assert_ne!(report["verdict"], "pass");

    let bytes = std::fs::read(desk.path().join("run/report.json")).unwrap();
    assert_eq!(desk.chatstorm(&["report", "run"]).code, 13);
    let again = std::fs::read(desk.path().join("run/report.json")).unwrap();
    assert!(bytes == again, "a stored run gives the same report, byte for byte");

    desk.chatstorm(&["run", "smoke", "--out", "run"])
        .says(2, &["`run` holds a run already", "--out"]);
}

#[test]
fn stop_file_in_the_run_folder_ends_the_run_with_13_and_is_named() {
    let _one_system = alone();
    let desk = Desk::new();
    let child = desk.running();
    desk.file("run/stop", "");
    let ended = crate::Ended::from(child.wait_with_output().unwrap());
    assert_eq!(ended.code, 13, "{}", ended.out);
    let findings = desk.report()["findings"].to_string();
    assert!(findings.contains("the file `run/stop` asks for it"), "{findings}");
}

#[test]
fn panic_lever_refuses_every_run() {
    let desk = Desk::new();
    std::fs::create_dir_all(desk.path().join("target/chatstorm")).unwrap();
    desk.file("target/chatstorm/STOP", "");
    desk.chatstorm(&["run", "smoke"])
        .says(3, &["`target/chatstorm/STOP` is set", "remove the file"]);
    assert_eq!(desk.holds(), ["target"], "nothing was started");
}

#[test]
fn killed_run_is_inconclusive_for_want_of_an_end() {
    let _one_system = alone();
    let desk = Desk::new();
    let mut child = desk.running();
    signal(&child, Signal::KILL);
    child.wait().unwrap();
    let ended = desk.chatstorm(&["report", "run"]);
    assert_eq!(ended.code, 12, "{}{}", ended.out, ended.err);
    assert!(ended.out.contains("no-final-phase"), "{}", ended.out);
    assert_eq!(desk.report()["exit_code"], 12);
}
