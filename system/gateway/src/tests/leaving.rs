//! Heartbeats, displaced connections, drain and fence.
use chat_ports::observe::Event;
use chat_ports::streams::kinds::SessionsDownItem;
use chat_protocol::{close, node};

use super::*;
use crate::deps::FenceRule;
use crate::hub::lock;
use crate::node::Ended;

#[tokio::test]
async fn a_device_without_pong_is_closed_and_unregistered() {
    let (ping, pong) = (Duration::from_millis(30), Duration::from_millis(30));
    let bed =
        Bed::start(Setup { timers: Timers { ping, pong, ..Timers::DEFAULT }, ..Setup::default() })
            .await;
    let (mut phone, welcome) = bed.join(device(1), None).await;
    assert_eq!(phone.closed().await, close::HEARTBEAT);
    until(|| lock(&bed.services.unregisters).len() == 1).await;
    assert_eq!(lock(&bed.services.unregisters)[0].conn_epoch, welcome.conn_epoch);
    let (events, _, _) = bed.observer.events(0);
    let closed = |event: &Event| matches!(event, Event::ConnectionClosed(d, _, close::HEARTBEAT, _) if *d == device(1));
    assert!(events.iter().any(|noted| closed(&noted.event)), "{events:?}");
}

#[tokio::test]
async fn a_displaced_connection_is_closed_for_good() {
    let bed = Bed::start(Setup::default()).await;
    let (mut phone, welcome) = bed.join(device(1), None).await;
    let conn = lock(&bed.services.registers)[0].conn;
    let displaced = node::Displaced { device: device(1).0, conn, conn_epoch: welcome.conn_epoch };
    bed.services.tell_sessions(SessionsDownItem::Displaced(displaced));
    assert_eq!(phone.closed().await, close::DISPLACED);
}

#[tokio::test]
async fn a_second_connection_of_a_device_displaces_the_first_on_the_node() {
    let bed = Bed::start(Setup::default()).await;
    let (mut first, _) = bed.join(device(1), None).await;
    let (_second, _) = bed.join(device(1), None).await;
    assert_eq!(first.closed().await, close::DISPLACED);
    until(|| bed.gateway.connections() == 1).await;
}

#[tokio::test]
async fn a_drain_sends_everybody_away_and_ends() {
    let bed = Bed::start(Setup { timers: Timers::short(), ..Setup::default() }).await;
    let (mut phone, _) = bed.join(device(1), None).await;
    phone.hear().await;
    bed.gateway.drain();
    assert!(matches!(phone.hear().await, ServerFrame::Drain(_)));
    assert_eq!(phone.closed().await, close::RESTART);
    assert_eq!(timeout(LIMIT, bed.gateway.ended()).await.unwrap(), Ended::Drained);
    assert_eq!(lock(&bed.services.unregisters).len(), 1);
    bed.tracker.close();
    timeout(LIMIT, bed.tracker.wait()).await.expect("every task of the node ends");
    assert!(net::dial(bed.addr, LIMIT).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn a_swept_lease_ends_the_node() {
    let bed = Bed::start(Setup::default()).await;
    let (mut phone, _) = bed.join(device(1), None).await;
    bed.lease.send_modify(|lease| lease.lost = true);
    assert_eq!(phone.closed().await, close::FENCED);
    assert_eq!(timeout(LIMIT, bed.gateway.ended()).await.unwrap(), Ended::Fenced);
}

fn quick() -> Timers {
    Timers {
        lease_renew: Duration::from_millis(20),
        self_fence: Duration::from_millis(60),
        store_call: Duration::from_millis(200),
        lease_ttl: Duration::from_mins(1),
        ..Timers::DEFAULT
    }
}

#[tokio::test]
async fn a_node_that_alone_cannot_renew_fences_itself() {
    let bed = Bed::start(Setup { timers: quick(), ..Setup::default() }).await;
    *lock(&bed.services.seen) = Some(true);
    assert_eq!(timeout(LIMIT, bed.gateway.ended()).await.unwrap(), Ended::Fenced);
    assert!(bed.observer.events(0).0.iter().any(|noted| noted.event == Event::Fenced));
}

#[tokio::test]
async fn a_node_that_renews_a_little_behind_the_others_keeps_its_connections() {
    let timers = Timers { lease_renew: LIMIT, ..quick() };
    let bed = Bed::start(Setup { timers, ..Setup::default() }).await;
    let (mut phone, _) = bed.join(device(1), None).await;
    *lock(&bed.services.seen) = Some(true);
    // Asked, since it could not renew for too long, and told that others could.
    until(|| *lock(&bed.services.checks) > 0).await;
    bed.services.push(device(1), conv(1, 2), 1);
    assert_eq!(phone.positions(1).await, [1], "it serves while its renewal may be on its way");
    bed.lease.send_modify(|lease| lease.renewed = Instant::now() + LIMIT);
    bed.services.push(device(1), conv(1, 2), 2);
    assert_eq!(phone.positions(1).await, [2]);
}

#[tokio::test]
async fn a_store_outage_keeps_connections_and_sheds_new_ones() {
    let setup = Setup {
        timers: Timers { self_fence: Duration::from_millis(500), ..quick() },
        ..Setup::default()
    };
    let bed = Bed::start(setup).await;
    *lock(&bed.services.seen) = Some(false);
    let (mut old, _) = bed.join(device(1), None).await;
    until(|| bed.count("sometimes.store-outage-told-from-node-fault") == 1).await;
    bed.services.push(device(1), conv(1, 2), 1);
    assert_eq!(old.positions(1).await, [1]);
    let mut new = bed.connect(Codec::MessagePack).await;
    new.say(&bed.hello(device(2), None)).await;
    assert_eq!(new.closed().await, close::SHED);
    bed.lease.send_modify(|lease| lease.renewed = Instant::now() + LIMIT);
    until(|| bed.gateway.is_ready()).await;
}

#[tokio::test]
async fn a_node_that_never_fences_goes_on_without_lease() {
    let policies = Policies { fence: FenceRule::Never, ..Policies::default() };
    let bed = Bed::start(Setup { timers: quick(), policies, ..Setup::default() }).await;
    bed.lease.send_modify(|lease| lease.lost = true);
    let (mut phone, _) = bed.join(device(1), None).await;
    bed.services.push(device(1), conv(1, 2), 1);
    assert_eq!(phone.positions(1).await, [1]);
}
