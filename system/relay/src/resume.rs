//! How a device goes on from its cursor: `new`, `ok`, `rebased` or `gap`. Pure.
use chat_ports::relay_queue::QueueState;
use chat_protocol::node::{Pull, Resume};

/// Judges a pull against the state of the queue: the outcome, and the position the page continues.
///
/// A pull of a gateway (no `resume`) is `Continued` in its own queue epoch and judged like a cursor in another one; epoch 0 means
/// that the gateway takes the present one.
pub(crate) fn judge(pull: &Pull, state: &QueueState) -> (Resume, u64) {
    let start = state.base.saturating_sub(1);
    if pull.resume && !pull.has_cursor {
        return (Resume::New, start);
    }
    let same_epoch = pull.epoch == state.epoch || (!pull.resume && pull.epoch == 0);
    if same_epoch {
        return match (pull.resume, (start..=state.top).contains(&pull.after)) {
            (true, true) => (Resume::Ok, pull.after),
            (true, false) => (Resume::Lost, start),
            (false, _) => (Resume::Continued, pull.after.clamp(start, state.top.max(start))),
        };
    }
    // A cursor from the future saw a state that the store has lost.
    if pull.epoch >= state.floor && pull.epoch < state.epoch {
        (Resume::Rebased, start)
    } else {
        (Resume::Lost, start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUEUE: QueueState = QueueState { epoch: 20, floor: 10, base: 5, top: 9 };

    fn resume(epoch: u64, after: u64) -> Pull {
        Pull { resume: true, has_cursor: true, epoch, after, ..Pull::default() }
    }

    #[test]
    fn every_cursor_gets_the_outcome_of_the_resume_table() {
        let without = Pull { resume: true, ..Pull::default() };
        for (pull, expect) in [
            (without, (Resume::New, 4)),
            (resume(20, 4), (Resume::Ok, 4)),
            (resume(20, 7), (Resume::Ok, 7)),
            (resume(20, 9), (Resume::Ok, 9)),
            (resume(20, 3), (Resume::Lost, 4)),
            (resume(20, 10), (Resume::Lost, 4)),
            (resume(19, 99), (Resume::Rebased, 4)),
            (resume(10, 1), (Resume::Rebased, 4)),
            (resume(9, 7), (Resume::Lost, 4)),
            (resume(21, 7), (Resume::Lost, 4)),
        ] {
            assert_eq!(judge(&pull, &QUEUE), expect, "{pull:?}");
        }
    }

    #[test]
    fn empty_queue_continues_at_its_top() {
        let state = QueueState { epoch: 20, floor: 20, base: 10, top: 9 };
        assert_eq!(judge(&resume(20, 9), &state), (Resume::Ok, 9));
        assert_eq!(judge(&resume(20, 8), &state), (Resume::Lost, 9));
        assert_eq!(judge(&Pull { resume: true, ..Pull::default() }, &state), (Resume::New, 9));
    }

    #[test]
    fn gateway_that_pulls_in_another_epoch_learns_of_it() {
        let pull = |epoch, after| Pull { epoch, after, ..Pull::default() };
        assert_eq!(judge(&pull(20, 7), &QUEUE), (Resume::Continued, 7));
        assert_eq!(judge(&pull(0, 0), &QUEUE), (Resume::Continued, 4));
        assert_eq!(judge(&pull(15, 7), &QUEUE), (Resume::Rebased, 4));
        assert_eq!(judge(&pull(5, 7), &QUEUE), (Resume::Lost, 4));
    }
}
