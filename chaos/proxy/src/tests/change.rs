//! Changes of rules under traffic, ends of streams, down and up.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::kit::{World, echoes, eventually, is_reset, read_exactly, soon};
use crate::{CloseCause, ControlError, Latency, Rules, Stream, Toxic, ToxicKind};

fn latency(ms: u64) -> Rules {
    let latency =
        Latency { latency: Duration::from_millis(ms), jitter: Duration::from_millis(ms / 4) };
    Rules::with(Toxic::new("slow", ToxicKind::Latency(latency)))
}

#[tokio::test]
async fn nothing_is_lost_or_moved_when_rules_change_in_flight() {
    let world = World::start(latency(30)).await;
    let (mut client, mut upstream) = world.pair().await;
    let control = world.control();
    let writing = async {
        for number in 0..1_500_u32 {
            client.write_all(&number.to_be_bytes()).await.unwrap();
            match number {
                300 => assert_eq!(control.set_rules(Rules::neutral()), Ok(2)),
                600 => assert_eq!(control.set_rules(latency(20)), Ok(3)),
                900 => assert_eq!(control.remove_toxic("slow"), Ok(4)),
                _ => {}
            }
            if number % 20 == 0 {
                sleep(Duration::from_millis(1)).await;
            }
        }
    };
    let reading = async {
        for number in 0..1_500_u32 {
            assert_eq!(upstream.read_u32().await.unwrap(), number);
        }
    };
    soon(async { tokio::join!(writing, reading) }).await;
    let counters = world.control().counters();
    assert_eq!(
        (counters.up.bytes_in, counters.up.bytes_out, counters.held_bytes()),
        (6_000, 6_000, 0)
    );
    assert_eq!(counters.generation, 4);
    world.end().await;
}

#[tokio::test]
async fn a_flood_passes_whole_with_the_line_at_its_limit() {
    let world = World::start(latency(5)).await;
    let (mut client, mut upstream) = world.pair().await;
    let sent: Vec<u8> =
        (0..6_000_000_u32).map(|k| k.to_le_bytes()[0] ^ k.to_le_bytes()[2]).collect();
    let expected = sent.clone();
    let writing = async move {
        client.write_all(&sent).await.unwrap();
        client.shutdown().await.unwrap();
        client
    };
    let mut got = Vec::new();
    let (client, read) =
        soon(async { tokio::join!(writing, upstream.read_to_end(&mut got)) }).await;
    read.unwrap();
    assert!(got == expected, "{} of {} bytes, or others", got.len(), expected.len());
    drop(client);
    world.end().await;
}

#[tokio::test]
async fn half_close_travels_and_the_other_direction_lives_on() {
    let world = World::start(latency(10)).await;
    let (mut client, mut upstream) = world.pair().await;
    client.write_all(b"last words").await.unwrap();
    client.shutdown().await.unwrap();
    let mut heard = Vec::new();
    soon(upstream.read_to_end(&mut heard)).await.unwrap();
    assert_eq!(heard, b"last words");
    upstream.write_all(b"answer").await.unwrap();
    assert_eq!(read_exactly(&mut client, 6).await, b"answer");
    drop(upstream);
    let mut rest = Vec::new();
    assert_eq!(soon(client.read_to_end(&mut rest)).await.unwrap(), 0);
    eventually(&world.control(), |control| {
        control.counters().closed_by(CloseCause::EndOfFile) == 1
    })
    .await;
    world.end().await;
}

#[tokio::test]
async fn down_refuses_and_cuts_and_up_accepts_again_on_the_same_port() {
    let world = World::start(Rules::neutral()).await;
    let (mut client, mut upstream) = world.pair().await;
    echoes(&mut client, &mut upstream).await;
    let control = world.control();
    control.down().await.unwrap();
    tokio::join!(is_reset(client), is_reset(upstream));
    let refused = TcpStream::connect(control.listen_addr()).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    control.up().await.unwrap();
    let (mut client, mut upstream) = world.pair().await;
    echoes(&mut client, &mut upstream).await;
    let counters = control.counters();
    assert_eq!(
        (counters.closed_by(CloseCause::Down), counters.reopened, counters.listening),
        (1, 1, true)
    );
    world.end().await;
}

#[tokio::test]
async fn a_port_taken_while_down_is_told_when_coming_up() {
    let world = World::start(Rules::down()).await;
    let control = world.control();
    let thief = std::net::TcpListener::bind(control.listen_addr()).unwrap();
    let told = soon(control.up()).await.unwrap_err();
    assert!(matches!(told, ControlError::NotApplied { .. }), "{told}");
    drop(thief);
    control.up().await.unwrap();
    world.end().await;
}

#[tokio::test]
async fn a_change_is_obeyed_by_idle_connections_too() {
    let world = World::start(Rules::neutral()).await;
    let _pairs = [world.pair().await, world.pair().await];
    let control = world.control();
    let generation = control.set_rules(latency(1)).unwrap();
    control.applied(generation).await.unwrap();
    let obeyed: Vec<u64> =
        control.connections().iter().map(|connection| connection.generation).collect();
    assert_eq!(obeyed, [generation, generation]);
    world.end().await;
}

#[tokio::test]
async fn refused_rules_leave_those_in_force() {
    let world = World::start(latency(3)).await;
    let before = world.control().rules();
    let refused = world.control().edit_rules(|rules| rules.toxics.push(rules.toxics[0].clone()));
    assert!(matches!(refused, Err(ControlError::Rules { .. })), "{refused:?}");
    assert_eq!(world.control().rules(), before);
    world.end().await;
}

#[tokio::test]
async fn a_control_that_outlives_its_proxy_is_told_so() {
    let world = World::start(Rules::neutral()).await;
    let (client, upstream) = world.pair().await;
    let control = world.control();
    world.end().await;
    tokio::join!(is_reset(client), is_reset(upstream));
    assert!(matches!(control.set_rules(Rules::neutral()), Err(ControlError::Stopped { .. })));
    assert!(matches!(control.up().await, Err(ControlError::Stopped { .. })));
}

#[tokio::test]
async fn an_upstream_that_is_gone_resets_the_client() {
    let world = World::start(Rules::with(
        Toxic::new("x", ToxicKind::Latency(Latency::default())).on(Stream::Up),
    ))
    .await;
    let control = world.control();
    let World { proxy, upstream } = world;
    drop(upstream);
    is_reset(TcpStream::connect(control.listen_addr()).await.unwrap()).await;
    eventually(&control, |control| control.counters().closed_by(CloseCause::NoUpstream) == 1).await;
    assert!(proxy.shutdown().await);
}
