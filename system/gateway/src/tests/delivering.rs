//! Sends, pushes, holes, credit and acks.
use chat_ports::streams::kinds::DeliverDownItem;
use chat_protocol::frame::{RejectCode, Send};
use chat_protocol::limits::UNACKED_MAX;
use chat_protocol::{Cid, close};

use super::*;
use crate::deps::AckPoint;
use crate::hub::lock;

fn send(conv: ConvId, cid: u8) -> ClientFrame {
    let cid = Cid::from_bytes(&[cid; 16]).unwrap();
    ClientFrame::Send(Send {
        cid,
        attempt: 1,
        conv,
        kind: 0,
        body: bytes::Bytes::from_static(b"sealed"),
        client_ms: 1,
    })
}

#[tokio::test]
async fn a_send_is_answered_on_its_connection() {
    let bed = Bed::start(Setup::default()).await;
    let (mut phone, _) = bed.join(device(1), None).await;
    phone.hear().await;
    phone.say(&send(conv(1, 2), 3)).await;
    let ServerFrame::Sent(sent) = phone.hear().await else { panic!() };
    assert_eq!((sent.cid, sent.cseq, sent.dup), (Cid::from_bytes(&[3; 16]).unwrap(), 1, false));
    assert_eq!(lock(&bed.services.sends)[0].device, device(1).0);
}

#[tokio::test]
async fn a_send_to_a_foreign_conversation_is_refused_without_effect() {
    let bed = Bed::start(Setup::default()).await;
    let (mut phone, _) = bed.join(device(1), None).await;
    phone.hear().await;
    phone.say(&send(conv(2, 3), 3)).await;
    let ServerFrame::Reject(reject) = phone.hear().await else { panic!() };
    assert_eq!((reject.code, reject.retryable), (RejectCode::Forbidden, false));
    assert!(lock(&bed.services.sends).is_empty());
}

#[tokio::test]
async fn pushes_are_written_in_order_and_a_hole_is_pulled() {
    let bed = Bed::start(Setup::default()).await;
    let (mut phone, _) = bed.join(device(1), None).await;
    bed.services.push(device(1), conv(1, 2), 1);
    bed.services.store(device(1), conv(1, 2), 2);
    bed.services.push(device(1), conv(1, 2), 3);
    assert_eq!(phone.positions(3).await, [1, 2, 3]);
    assert_eq!(bed.count("gateway.pushes_dropped.hole"), 1);
}

#[tokio::test]
async fn a_push_to_an_older_connection_is_dropped() {
    let bed = Bed::start(Setup::default()).await;
    let (mut phone, _) = bed.join(device(1), None).await;
    phone.hear().await;
    let (epoch, dseq, payload) = bed.services.store(device(1), conv(1, 2), 1);
    let push =
        chat_protocol::node::Push { device: device(1).0, conn: 12_345, epoch, dseq, payload };
    bed.services.tell_deliver(DeliverDownItem::Push(push));
    until(|| bed.count("gateway.pushes_dropped.no_connection") == 1).await;
}

#[tokio::test]
async fn acks_go_to_relay_with_the_highest_mark_of_each_conversation() {
    let bed = Bed::start(Setup::default()).await;
    let (mut phone, _) = bed.join(device(1), None).await;
    for cseq in 1..=3 {
        bed.services.push(device(1), conv(1, 2), cseq);
    }
    phone.positions(3).await;
    phone.ack(3).await;
    until(|| !lock(&bed.services.acks).is_empty()).await;
    let ack = lock(&bed.services.acks)[0].clone();
    assert_eq!((ack.device, ack.epoch, ack.up_to), (device(1).0, 5, 3));
    let [mark] = &ack.marks[..] else { panic!("{:?}", ack.marks) };
    assert_eq!((mark.who, mark.delivered, mark.notify), (1, 3, 2));
}

#[tokio::test]
async fn where_a_write_counts_as_an_ack_relay_hears_it_without_the_device() {
    let policies = Policies { ack: AckPoint::SocketWrite, ..Policies::default() };
    let bed = Bed::start(Setup { policies, ..Setup::default() }).await;
    let (mut phone, _) = bed.join(device(1), None).await;
    bed.services.push(device(1), conv(1, 2), 1);
    phone.positions(1).await;
    until(|| lock(&bed.services.acks).iter().any(|ack| ack.up_to == 1)).await;
}

#[tokio::test]
async fn an_ack_beyond_what_was_sent_is_a_protocol_error() {
    let bed = Bed::start(Setup::default()).await;
    let (mut phone, _) = bed.join(device(1), None).await;
    phone.ack(1).await;
    assert_eq!(phone.closed().await, close::PROTOCOL);
}

#[tokio::test]
async fn a_device_that_does_not_ack_gets_its_window_and_the_rest_after_half_is_free() {
    let bed = Bed::start(Setup::default()).await;
    let (mut phone, _) = bed.join(device(1), None).await;
    let window = u64::from(UNACKED_MAX);
    for cseq in 1..=window + 40 {
        bed.services.push(device(1), conv(1, 2), cseq);
    }
    assert_eq!(phone.positions(UNACKED_MAX as usize).await, (1..=window).collect::<Vec<_>>());
    let dropped = || {
        bed.count("gateway.pushes_dropped.credit")
            + bed.count("gateway.pushes_dropped.overflow")
            + bed.count("gateway.pushes_dropped.hole")
    };
    until(|| dropped() > 0).await;
    phone.ack(window / 2).await;
    assert_eq!(phone.positions(40).await, (window + 1..=window + 40).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_device_without_ack_progress_is_closed() {
    let timers = Timers { ack_progress: Duration::from_millis(40), ..Timers::DEFAULT };
    let bed = Bed::start(Setup { timers, ..Setup::default() }).await;
    let (mut phone, _) = bed.join(device(1), None).await;
    bed.services.push(device(1), conv(1, 2), 1);
    assert_eq!(phone.closed().await, close::SLOW);
}

#[tokio::test]
async fn a_renumbered_queue_resets_the_device_and_old_acks_mean_nothing() {
    let bed = Bed::start(Setup::default()).await;
    let (mut phone, _) = bed.join(device(1), None).await;
    for cseq in 1..=5 {
        bed.services.push(device(1), conv(1, 2), cseq);
    }
    phone.positions(5).await;
    {
        let mut queues = lock(&bed.services.queues);
        let queue = queues.get_mut(&device(1).0).unwrap();
        queue.epoch = 6;
        queue.items.truncate(1);
    }
    bed.services.push(device(1), conv(1, 2), 6);
    // The ack of the old numbering is on its way when the queue is renumbered.
    let ServerFrame::Reset(reset) = phone.hear().await else { panic!() };
    assert_eq!((reset.epoch, reset.next_dseq, reset.lost), (6, 1, false));
    phone.ack(5).await;
    assert_eq!(phone.positions(2).await, [1, 2]);
    phone.ack(2).await;
    until(|| lock(&bed.services.acks).iter().any(|ack| ack.epoch == 6 && ack.up_to == 2)).await;
    assert!(lock(&bed.services.acks).iter().all(|ack| ack.epoch != 6 || ack.up_to <= 2));
}

#[tokio::test]
async fn a_lost_route_is_registered_again() {
    let bed = Bed::start(Setup::default()).await;
    let (mut phone, _) = bed.join(device(1), None).await;
    phone.hear().await;
    bed.services.tell_deliver(DeliverDownItem::StoreReset);
    until(|| lock(&bed.services.registers).len() == 2).await;
    let registers = lock(&bed.services.registers).clone();
    assert_eq!(registers[0], registers[1]);
}
