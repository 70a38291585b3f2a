//! Everything that runs leave behind when they cannot clean up: found by label, removed by whoever is asked to.
use std::collections::HashMap;
use std::time::Duration;

use bollard::query_parameters::{
    ListContainersOptionsBuilder, ListNetworksOptionsBuilder, RemoveContainerOptionsBuilder,
};
use futures_util::future;

use super::engine::{Engine, EngineError, gone, refused};

/// Label of everything that a run starts; its value is the run.
pub const RUN: &str = "chatstorm.run";
/// Label with the process that started it: process id and start time, as [`Owner`] writes it.
pub const OWNER: &str = "chatstorm.owner";
/// A network can only go once its containers have gone; so often it is tried.
const TRIES: u32 = 20;
/// Pause between two tries.
const PAUSE: Duration = Duration::from_millis(100);

/// A process that cannot be mistaken for another one of the same id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    pid: u32,
    /// Ticks since the host started.
    started: u64,
}

impl Owner {
    /// This process.
    pub fn this_process() -> Self {
        let pid = std::process::id();
        Self { pid, started: started(pid).unwrap_or(0) }
    }

    /// As it stands in a label.
    pub fn label(&self) -> String {
        format!("{}/{}", self.pid, self.started)
    }

    fn read(label: &str) -> Option<Self> {
        let (pid, started) = label.split_once('/')?;
        Some(Self { pid: pid.parse().ok()?, started: started.parse().ok()? })
    }

    fn lives(&self) -> bool {
        started(self.pid) == Some(self.started)
    }
}

/// When a process started; `None` when it is gone.
fn started(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything, so fields are counted from its end: this is field 22 of proc_pid_stat(5).
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// What kind of thing is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A container, running or not.
    Container,
    /// A network.
    Network,
}

/// One thing with our label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftover {
    /// What it is.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// The run it belongs to.
    pub run: String,
    /// Whether the process that started it still runs: then it is no leftover, and nobody else removes it.
    pub owned: bool,
}

impl Engine {
    /// Everything that carries our label, containers first.
    pub async fn labelled(&self) -> Result<Vec<Leftover>, EngineError> {
        let filters = HashMap::from([("label", vec![RUN])]);
        let containers = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
        let networks = ListNetworksOptionsBuilder::new().filters(&filters).build();
        let containers = self
            .docker
            .list_containers(Some(containers))
            .await
            .map_err(refused("list its containers"))?;
        let networks = self
            .docker
            .list_networks(Some(networks))
            .await
            .map_err(refused("list its networks"))?;
        let mut all = Vec::new();
        for container in containers {
            let name = container.names.and_then(|names| names.into_iter().next());
            let name = name.unwrap_or_default().trim_start_matches('/').to_owned();
            all.push(leftover(Kind::Container, name, container.labels));
        }
        for network in networks {
            let name = network.name.unwrap_or_default();
            all.push(leftover(Kind::Network, name, network.labels));
        }
        all.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
        Ok(all)
    }

    /// Removes what is listed, containers beside each other and then the networks; the first refusal is told when all was tried.
    pub async fn remove(&self, listed: &[Leftover]) -> Result<(), EngineError> {
        let of = |kind| listed.iter().filter(move |one: &&Leftover| one.kind == kind);
        let containers = of(Kind::Container).map(|one| self.remove_container(&one.name));
        let mut done: Vec<_> = future::join_all(containers).await;
        for network in of(Kind::Network) {
            done.push(self.remove_network(&network.name).await);
        }
        done.into_iter().collect()
    }

    async fn remove_container(&self, name: &str) -> Result<(), EngineError> {
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        gone(self.docker.remove_container(name, Some(options)).await, "remove a container")
    }

    /// Removes a network; one that is gone is no error.
    pub async fn remove_network(&self, name: &str) -> Result<(), EngineError> {
        let mut last = Ok(());
        for _ in 0..TRIES {
            last = gone(self.docker.remove_network(name).await, "remove a network");
            if last.is_ok() {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        last
    }
}

fn leftover(kind: Kind, name: String, labels: Option<HashMap<String, String>>) -> Leftover {
    let labels = labels.unwrap_or_default();
    let owned = labels.get(OWNER).and_then(|label| Owner::read(label)).is_some_and(|o| o.lives());
    Leftover { kind, name, run: labels.get(RUN).cloned().unwrap_or_default(), owned }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_known_by_its_label_and_another_start_of_the_same_id_is_not() {
        let this = Owner::this_process();
        assert_eq!(Owner::read(&this.label()), Some(this.clone()));
        assert!(this.lives());
        assert!(!Owner { started: this.started + 1, ..this }.lives());
    }

    #[test]
    fn label_that_is_none_of_ours_has_no_owner() {
        assert_eq!(Owner::read("somebody"), None);
        let labels = HashMap::from([(OWNER.to_owned(), "1/x".to_owned())]);
        assert!(!leftover(Kind::Network, "n".to_owned(), Some(labels)).owned);
    }
}
