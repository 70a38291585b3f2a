//! Stories of the ledger.
use chat_protocol::{ConvId, Mid, UserId};

use super::row::{ResumeOutcome, Row};
use super::*;
use crate::Device;

const ALICE: Device = 0;
const BOB: Device = 1;
const BOB_TABLET: Device = 2;

fn conv() -> ConvId {
    ConvId::direct(UserId(0), UserId(1)).unwrap()
}

fn mid(n: u64) -> Mid {
    let mut bytes = [0; 16];
    bytes[8..].copy_from_slice(&n.to_be_bytes());
    Mid::from_bytes(&bytes).unwrap()
}

fn number(k: u64) -> Number {
    Number { stream: 0, k }
}

fn ledger() -> Ledger {
    let streams = vec![StreamShape { numbers: 200_000, slots: 3 }];
    Ledger::new(LedgerConfig { shard: 0, streams, devices: 3, pairs: 16 })
}

fn sent(k: u64, cseq: u64) -> Accepted {
    let (n, mid) = (number(k), mid(cseq));
    Accepted {
        n,
        sender: ALICE,
        peer: 1,
        conv: conv(),
        cseq,
        mid,
        order_ns: k * 1_000_000,
        at_ns: k,
    }
}

fn seen(k: u64, device: Device, cseq: u64) -> Surfaced {
    Surfaced {
        n: Some(number(k)),
        intact: true,
        device,
        slot: Some(slot(true, 2, u8::try_from(device - BOB).unwrap(), 0)),
        peer: 0,
        conv: conv(),
        cseq,
        mid: mid(cseq),
        backfilled: false,
        announced: false,
        conn_epoch: 1,
        at_ns: 1_000_000 * k,
    }
}

fn clean(ledger: &mut Ledger, messages: u64) {
    for k in 0..messages {
        ledger.submitted(number(k));
        ledger.accepted(&sent(k, k + 1));
        ledger.surfaced(&seen(k, BOB, k + 1));
        ledger.surfaced(&seen(k, BOB_TABLET, k + 1));
    }
}

#[test]
fn a_clean_run_leaves_no_rows_and_equal_digests() {
    let mut ledger = ledger();
    clean(&mut ledger, 100);
    assert!(ledger.rows.is_empty());
    assert_eq!((ledger.counts().accepted, ledger.counts().delivered), (100, 200));
    let digests: Vec<_> =
        ledger.pairs().sorted().iter().map(|row| (row.pair.digest(), row.pair.low)).collect();
    assert_eq!(digests.len(), 3);
    assert!(digests.iter().all(|digest| *digest == digests[0]));
    assert!(ledger.unanswered().is_empty());
    assert_eq!(ledger.delivered(number(5)), 0b011);
}

#[test]
fn each_offence_leaves_its_row() {
    let mut ledger = ledger();
    clean(&mut ledger, 10);
    ledger.surfaced(&seen(3, BOB, 4));
    ledger.surfaced(&Surfaced { n: None, ..seen(0, BOB, 11) });
    ledger.surfaced(&Surfaced { slot: None, ..seen(5, BOB, 6) });
    ledger.accepted(&Accepted { mid: mid(99), ..sent(2, 3) });
    ledger.submitted(number(20));
    ledger.rejected(number(20), "busy", true, 0);
    ledger.surfaced(&seen(20, BOB, 11));
    ledger.accepted(&Accepted { order_ns: 0, ..sent(21, 12) });
    let kinds: Vec<&str> = ledger
        .rows
        .iter()
        .map(|row| match row {
            Row::Duplicate { .. } => "duplicate",
            Row::Phantom { .. } => "phantom",
            Row::Stranger { .. } => "stranger",
            Row::AnswerChanged { .. } => "answer",
            Row::RefusedSurfaced { .. } => "refused",
            Row::Overtaken { .. } => "overtaken",
            _ => "other",
        })
        .collect();
    assert_eq!(kinds, ["duplicate", "phantom", "stranger", "answer", "refused", "overtaken"]);
    assert_eq!(ledger.rejects["busy"], 1);
}

#[test]
fn a_message_that_surfaced_without_an_answer_stays_known() {
    let mut ledger = ledger();
    ledger.submitted(number(0));
    ledger.surfaced(&seen(0, BOB, 1));
    ledger.unknown(number(0));
    assert_eq!(ledger.unanswered()[&number(0)].cseq, 1);
    ledger.accepted(&sent(0, 1));
    assert!(ledger.unanswered().is_empty());
    assert_eq!((ledger.counts().unknown, ledger.counts().accepted), (0, 1));
    assert_eq!(ledger.outcome(number(0)), Outcome::Accepted);
}

#[test]
fn order_is_demanded_of_live_deliveries_only() {
    let mut ledger = ledger();
    ledger.surfaced(&seen(2, BOB, 3));
    ledger.surfaced(&Surfaced { backfilled: true, announced: true, ..seen(0, BOB, 1) });
    assert!(ledger.rows.is_empty());
    ledger.surfaced(&seen(1, BOB, 2));
    assert!(matches!(ledger.rows[..], [Row::Disorder { cseq: 2, highest: 3, .. }]));
}

#[test]
fn what_the_relay_brings_after_history_did_is_late_and_not_doubled() {
    let mut ledger = ledger();
    ledger.surfaced(&Surfaced { backfilled: true, ..seen(0, BOB, 1) });
    ledger.wire_duplicate(BOB, conv(), 1, false, 9);
    assert!(matches!(ledger.rows[..], [Row::Backfill { .. }, Row::Brought { cseq: 1, .. }]));
    assert_eq!(ledger.counts().wire_duplicates_same_epoch, 0);
    ledger.wire_duplicate(BOB, conv(), 1, false, 9);
    assert_eq!(ledger.counts().wire_duplicates_same_epoch, 1, "the relay brought it twice");
    assert_eq!((ledger.counts().unannounced, ledger.counts().brought), (1, 1));
}

#[test]
fn checkpoints_bring_everything_back() {
    let mut ledger = ledger();
    clean(&mut ledger, 70_000);
    let first = ledger.checkpoint(false);
    ledger.opened(Opened {
        device: BOB,
        node: "gateway-1".into(),
        conn_epoch: 7,
        offered: Some((1, 2)),
        resume: ResumeOutcome::Ok,
        window_ns: 5,
        at_ns: 9,
    });
    ledger.surfaced(&Surfaced { conn_epoch: 7, ..seen(80_000, BOB, 70_040) });
    ledger.surfaced(&seen(80_001, BOB, 70_041));
    let last = ledger.checkpoint(true);
    assert!(last.bytes.len() < first.bytes.len() * 2);
    let mut damaged = Vec::new();
    let bytes = [first.bytes.clone(), last.bytes].concat();
    let back = Ledger::restore(&bytes, &mut damaged).unwrap();
    assert!(damaged.is_empty(), "{damaged:?}");
    assert_eq!(back.counts(), ledger.counts());
    assert_eq!(back.rows, ledger.rows);
    assert_eq!(back.opened, ledger.opened);
    assert_eq!(back.nodes(), ledger.nodes());
    assert_eq!(back.unanswered(), ledger.unanswered());
    assert_eq!(back.pairs().sorted(), ledger.pairs().sorted());
    assert_eq!(back.pairs().beyond(BOB, 0), ledger.pairs().beyond(BOB, 0));
    for k in [0, 1, 65_535, 65_536, 69_999, 80_000] {
        assert_eq!(back.outcome(number(k)), ledger.outcome(number(k)));
        assert_eq!(back.delivered(number(k)), ledger.delivered(number(k)));
    }
    let torn = Ledger::restore(&first.bytes[..first.bytes.len() - 3], &mut damaged).unwrap();
    assert_eq!(torn.outcome(number(69_999)), Outcome::Accepted);
    assert_eq!(damaged.len(), 1);
}

#[test]
fn shards_merge_whatever_half_they_saw() {
    let (mut senders, mut recipients) = (ledger(), ledger());
    for k in 0..50 {
        senders.submitted(number(k));
        senders.accepted(&sent(k, k + 1));
        recipients.surfaced(&seen(k, BOB, k + 1));
    }
    senders.merge(recipients);
    assert!(senders.unanswered().is_empty());
    assert_eq!(senders.counts().delivered, 50);
    let pairs = senders.pairs().sorted();
    assert_eq!(pairs.len(), 2);
    assert_eq!(pairs[0].pair.digest(), pairs[1].pair.digest());
    assert_eq!(senders.delivered(number(7)), 1);
}
