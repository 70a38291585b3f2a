//! One ledger from those of all shards.
use super::{Ledger, Outcome};

impl Ledger {
    /// Adds the evidence of another shard.
    pub fn merge(&mut self, other: Self) {
        for (at, theirs) in other.streams.iter().enumerate() {
            let Some(mine) = self.streams.get_mut(at) else { continue };
            mine.merge(theirs);
        }
        for row in other.pairs.sorted() {
            self.pairs.merge(
                row.device,
                row.peer,
                row.pair,
                other.pairs.beyond(row.device, row.peer),
            );
        }
        let unanswered = other.unanswered();
        for (n, at) in self.recent.not_accepted().chain(unanswered).collect::<Vec<_>>() {
            self.early.entry(n).or_insert(at);
        }
        let early = std::mem::take(&mut self.early);
        self.early =
            early.into_iter().filter(|(n, _)| self.outcome(*n) != Outcome::Accepted).collect();
        for node in other.nodes {
            match self.nodes.iter_mut().find(|known| known.node == node.node) {
                Some(known) => {
                    known.surfaced.resize(known.surfaced.len().max(node.surfaced.len()), 0);
                    for (mine, theirs) in known.surfaced.iter_mut().zip(&node.surfaced) {
                        *mine = mine.saturating_add(*theirs);
                    }
                }
                None => self.nodes.push(node),
            }
        }
        self.counts.add(&other.counts);
        self.rows.extend(other.rows);
        self.attempts.extend(other.attempts);
        self.opened.extend(other.opened);
        self.closed.extend(other.closed);
        for (code, count) in other.rejects {
            *self.rejects.entry(code).or_default() += count;
        }
    }
}
