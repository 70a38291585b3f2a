//! Membership of a consumer group: one heartbeat, one task a partition.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::log::{Assignment, EventLog, Topic};
use crate::observe::{Event, Observer};

/// The newest generation of the group this member has seen; commits carry it.
#[derive(Clone, Debug, Default)]
pub struct Generation(Arc<AtomicU64>);

impl Generation {
    /// Present value.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A partition this member has got.
pub struct Owned {
    /// Which.
    pub partition: u32,
    /// For commits.
    pub generation: Generation,
    /// Fires when the partition is taken away or the node stops; the task must end soon then.
    pub lost: CancellationToken,
}

/// A member of a consumer group.
pub struct Member {
    /// The log, as the group sees it.
    pub log: Arc<dyn EventLog>,
    /// Group.
    pub group: &'static str,
    /// Topic.
    pub topic: Topic,
    /// Name of the member; one a node incarnation.
    pub name: String,
    /// Beats each.
    pub heartbeat: Duration,
    /// Where assignments are noted.
    pub observer: Observer,
}

impl Member {
    /// Beats until `shutdown`, runs `start` as a task of `tracker` for every partition it owns, and ends the tasks of those it
    /// lost. A member whose session had ended starts everything anew, because others may have gone on with it meanwhile. In
    /// the end waits for all of them and leaves the group. A task that ends by itself is not started again while the
    /// partition stays here. A heartbeat that fails changes nothing: a second owner does no harm.
    pub async fn run<F, T>(self, tracker: TaskTracker, shutdown: CancellationToken, start: F)
    where
        F: Fn(Owned) -> T + Send,
        T: Future<Output = ()> + Send + 'static,
    {
        let generation = Generation::default();
        let mut tasks = Tasks { running: BTreeMap::new(), ending: BTreeMap::new() };
        let mut beats = interval(self.heartbeat);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                _ = beats.tick() => {}
            }
            let beat = tokio::select! {
                () = shutdown.cancelled() => break,
                beat = self.log.beat(self.group, self.topic, &self.name) => beat,
            };
            match beat {
                Ok(assignment) => {
                    generation.0.store(assignment.generation, Relaxed);
                    for partition in tasks.turn_to(&assignment) {
                        self.observer.note(Event::PartitionAssigned(self.group, partition));
                        let lost = shutdown.child_token();
                        let owned =
                            Owned { partition, generation: generation.clone(), lost: lost.clone() };
                        tasks.running.insert(partition, (lost, tracker.spawn(start(owned))));
                    }
                }
                Err(error) => {
                    tracing::debug!(group = self.group, %error, "The heartbeat of the group was not answered.");
                }
            }
        }
        for (_, (lost, task)) in tasks.running {
            lost.cancel();
            joined(task).await;
        }
        for (_, task) in tasks.ending {
            joined(task).await;
        }
        if let Err(error) = self.log.leave(self.group, self.topic, &self.name).await {
            tracing::debug!(group = self.group, %error, "The group was not left; the session ends by itself.");
        }
    }
}

async fn joined(task: JoinHandle<()>) {
    if let Err(error) = task.await {
        tracing::warn!(%error, "The task of a partition ended early.");
    }
}

struct Tasks {
    running: BTreeMap<u32, (CancellationToken, JoinHandle<()>)>,
    /// Told to end, but not seen to end yet: such a partition is not started again before.
    ending: BTreeMap<u32, JoinHandle<()>>,
}

impl Tasks {
    /// Ends what is not assigned any more, or is assigned anew; answers what is to be started.
    fn turn_to(&mut self, assignment: &Assignment) -> Vec<u32> {
        let stays = |p: &u32| !assignment.joined && assignment.partitions.contains(p);
        let gone: Vec<u32> = self.running.keys().copied().filter(|p| !stays(p)).collect();
        for partition in gone {
            if let Some((lost, task)) = self.running.remove(&partition) {
                lost.cancel();
                self.ending.insert(partition, task);
            }
        }
        self.ending.retain(|_, task| !task.is_finished());
        let fresh = |p: &&u32| !self.running.contains_key(p) && !self.ending.contains_key(p);
        assignment.partitions.iter().filter(fresh).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::clock::SteadyClock;
    use crate::twins::{TwinLog, eventually};

    #[tokio::test(start_paused = true)]
    async fn partition_is_started_anew_after_the_session_had_ended() {
        let clock = Arc::new(SteadyClock::new(1));
        let log = TwinLog::new(Arc::<SteadyClock>::clone(&clock), 2);
        let member = Member {
            log: Arc::<TwinLog>::clone(&log),
            group: "group",
            topic: Topic::Messages,
            name: "a".into(),
            heartbeat: Duration::from_millis(100),
            observer: Observer::new(clock),
        };
        let (tracker, shutdown) = (TaskTracker::new(), CancellationToken::new());
        let (started, running) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicU64::new(0)));
        let run = {
            let (started, running) = (Arc::clone(&started), Arc::clone(&running));
            move |owned: Owned| {
                started.lock().unwrap().push(owned.partition);
                assert!(running.fetch_add(1, Relaxed) < 2, "an old task still runs");
                let running = Arc::clone(&running);
                async move {
                    owned.lost.cancelled().await;
                    running.fetch_sub(1, Relaxed);
                }
            }
        };
        tracker.spawn(member.run(tracker.clone(), shutdown.clone(), run));
        eventually("the first start", || *started.lock().unwrap() == [0, 1]).await;
        // The session ends without the member's doing, and nobody else takes the partitions.
        log.leave("group", Topic::Messages, "a").await.unwrap();
        eventually("the second start", || *started.lock().unwrap() == [0, 1, 0, 1]).await;
        shutdown.cancel();
        tracker.close();
        tracker.wait().await;
        assert_eq!(running.load(Relaxed), 0);
    }
}
