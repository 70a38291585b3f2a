//! The `reset_peer` toxic and the cut on command.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::kit::{World, echoes, eventually, is_reset};
use crate::{CloseCause, Latency, ResetPeer, Rules, Targets, Toxic, ToxicKind};

fn reset(timeout_ms: u64) -> Toxic {
    Toxic::new(
        "reset",
        ToxicKind::ResetPeer(ResetPeer { timeout: Duration::from_millis(timeout_ms) }),
    )
}

#[tokio::test]
async fn both_ends_of_an_idle_connection_are_reset() {
    let world = World::start(Rules::neutral()).await;
    let (mut client, mut upstream) = world.pair().await;
    echoes(&mut client, &mut upstream).await;
    world.control().put_toxic(reset(5)).unwrap();
    tokio::join!(is_reset(client), is_reset(upstream));
    let control = world.control();
    eventually(&control, |control| control.counters().closed_by(CloseCause::ResetInjected) == 1)
        .await;
    assert_eq!((control.counters().open, control.counters().resets_injected()), (0, 1));
    control.remove_toxic("reset").unwrap();
    let (mut client, mut upstream) = world.pair().await;
    echoes(&mut client, &mut upstream).await;
    world.end().await;
}

#[tokio::test]
async fn a_pending_reset_is_called_off_with_its_toxic() {
    let world = World::start(Rules::with(reset(60_000))).await;
    let (mut client, mut upstream) = world.pair().await;
    echoes(&mut client, &mut upstream).await;
    world.control().remove_toxic("reset").unwrap();
    echoes(&mut client, &mut upstream).await;
    assert_eq!(world.control().counters().open, 1);
    world.end().await;
}

#[tokio::test]
async fn a_reset_is_passed_on_and_the_proxy_lives() {
    let world = World::start(Rules::neutral()).await;
    let (mut client, mut upstream) = world.pair().await;
    echoes(&mut client, &mut upstream).await;
    client.set_zero_linger().unwrap();
    drop(client);
    is_reset(upstream).await;
    let control = world.control();
    eventually(&control, |control| control.counters().closed_by(CloseCause::ResetSeen) == 1).await;
    let (mut client, mut upstream) = world.pair().await;
    echoes(&mut client, &mut upstream).await;
    assert_eq!(control.counters().resets_injected(), 0);
    world.end().await;
}

#[tokio::test]
async fn a_cut_takes_the_chosen_devices_once() {
    let world = World::with_devices(Rules::neutral()).await;
    let mut spared = world.pair_of(1).await;
    let cut = world.pair_of(2).await;
    let (picked, generation) = world.control().cut(&Targets::devices([2, 3])).unwrap();
    assert_eq!(picked, 1);
    tokio::join!(is_reset(cut.0), is_reset(cut.1));
    world.control().applied(generation).await.unwrap();
    echoes(&mut spared.0, &mut spared.1).await;
    let mut again = world.pair_of(2).await;
    echoes(&mut again.0, &mut again.1).await;
    assert_eq!(world.control().counters().closed_by(CloseCause::Cut), 1);
    world.end().await;
}

#[tokio::test]
async fn bytes_held_in_the_line_go_with_the_connection_that_is_cut() {
    let slow = Latency::fixed(Duration::from_mins(1));
    let world = World::start(Rules::with(Toxic::new("slow", ToxicKind::Latency(slow)))).await;
    let (mut client, upstream): (TcpStream, TcpStream) = world.pair().await;
    client.write_all(b"held").await.unwrap();
    let control = world.control();
    eventually(&control, |control| control.counters().held_bytes() == 4).await;
    control.cut(&Targets::All).unwrap();
    tokio::join!(is_reset(client), is_reset(upstream));
    eventually(&control, |control| control.counters().open == 0).await;
    let up = control.counters().up;
    assert_eq!((up.bytes_in, up.bytes_out, up.held_bytes), (4, 0, 0));
    world.end().await;
}
