//! Whole-system stories on the embedded substrate: real nodes, real sockets, short timers.
#![expect(clippy::unwrap_used, reason = "a story that cannot go on fails")]

mod kit;

use kit::{Bed, Phone, story};

#[test]
fn message_reaches_its_recipient_and_the_receipt_its_sender() {
    story(async {
        let bed = Bed::start(|_| {}).await;
        let (ann, bob) = (bed.device(1).await, bed.device(2).await);
        ann.send(&bob, "hello");
        bob.surfaces("hello").await;
        ann.learns_delivery(&bob).await;
        bed.owes_nothing(&[&ann, &bob]).await;
        bed.stop().await;
    });
}

#[test]
fn message_survives_the_death_of_the_senders_gateway() {
    story(async {
        let bed = Bed::start(|_| {}).await;
        let (ann, bob) = (bed.device(1).await, bed.device(2).await);
        bed.kill(&ann.node()).await;
        ann.send(&bob, "hello");
        bob.surfaces("hello").await;
        bed.owes_nothing(&[&ann, &bob]).await;
        bed.stop().await;
    });
}

#[test]
fn absent_device_gets_in_order_what_it_is_owed() {
    story(async {
        let bed = Bed::start(|_| {}).await;
        let (ann, bob) = (bed.device(1).await, bed.device(2).await);
        bob.leaves().await;
        let texts: Vec<_> = (0..200).map(|i| format!("message {i}")).collect();
        for text in &texts {
            ann.send(&bob, text);
        }
        bob.returns();
        bob.surfaces("message 199").await;
        assert_eq!(bob.seen(), texts);
        bed.owes_nothing(&[&ann, &bob]).await;
        bed.stop().await;
    });
}

#[test]
fn stale_route_is_swept_after_node_kill() {
    story(async {
        let bed = Bed::start(|_| {}).await;
        let ann = bed.device(1).await;
        let node = ann.node();
        ann.leaves_without_goodbye_of(&bed, &node).await;
        bed.has_no_route_to(&node).await;
        bed.stop().await;
    });
}

#[test]
fn service_node_dies_and_the_other_goes_on_where_it_stopped() {
    story(async {
        let bed = Bed::start(|_| {}).await;
        let (ann, bob) = (bed.device(1).await, bed.device(2).await);
        ann.send(&bob, "before");
        bob.surfaces("before").await;
        bed.kill("services-1").await;
        ann.send(&bob, "after");
        bob.surfaces("after").await;
        assert_eq!(bob.seen(), ["before", "after"]);
        bed.stop().await;
    });
}

/// Sends one text to each peer, and every one is accepted.
async fn all_are_told(ann: &Phone, peers: &[Phone], text: &str) {
    for peer in peers {
        ann.send(peer, text);
    }
    ann.is_told_sent().await;
}

/// Everybody has both texts, once and in order, and nothing is owed.
async fn both_came_once(bed: &Bed, peers: &[Phone]) {
    for peer in peers {
        peer.surfaces("after").await;
        assert_eq!(peer.seen(), ["before", "after"]);
    }
    bed.owes_nothing(&peers.iter().collect::<Vec<_>>()).await;
}

#[test]
fn node_frozen_past_its_lease_serves_again_although_its_successor_dies() {
    story(async {
        let bed = Bed::start(|_| {}).await;
        let ann = bed.device(1).await;
        let peers = bed.peers_on_all_partitions(&ann).await;
        all_are_told(&ann, &peers, "before").await;

        bed.freeze("services-1").await;
        bed.has_swept("services-1").await;
        bed.is_sequenced_by("services-2").await;
        bed.wake("services-1").await;
        bed.kill("services-2").await;
        bed.start_again("services-2").await;

        all_are_told(&ann, &peers, "after").await;
        bed.has_admitted("services-1").await;
        both_came_once(&bed, &peers).await;
        bed.stop().await;
    });
}

#[test]
fn sequencer_frozen_past_its_session_takes_over_from_its_successor() {
    story(async {
        let bed = Bed::start(|_| {}).await;
        let ann = bed.device(1).await;
        let peers = bed.peers_on_all_partitions(&ann).await;
        all_are_told(&ann, &peers, "before").await;

        bed.freeze("services-1").await;
        bed.is_sequenced_by("services-2").await;
        bed.wake("services-1").await;
        bed.kill("services-2").await;

        all_are_told(&ann, &peers, "after").await;
        both_came_once(&bed, &peers).await;
        bed.stop().await;
    });
}
