//! The `latency` toxic over sockets. Delays are read from the proxy's own figures: how long a machine takes is not what is tested.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::time::sleep;

use super::kit::{World, eventually, read_exactly};
use crate::{Latency, Rules, Stream, Targets, Toxic, ToxicKind};

fn slow(latency: u64, jitter: u64) -> Toxic {
    let (latency, jitter) = (Duration::from_millis(latency), Duration::from_millis(jitter));
    Toxic::new("slow", ToxicKind::Latency(Latency { latency, jitter }))
}

#[tokio::test]
async fn latency_adds_once_and_not_per_chunk() {
    let world = World::start(Rules::with(slow(60, 0).on(Stream::Up))).await;
    let (mut client, mut upstream) = world.pair().await;
    for _ in 0..20 {
        client.write_all(b"x").await.unwrap();
        sleep(Duration::from_millis(1)).await;
    }
    read_exactly(&mut upstream, 20).await;
    let up = world.control().counters().up;
    // Twenty delays one behind the other would ask for more than a second of the last chunk.
    assert_eq!(
        (up.bytes_out, up.delay_asked_max < Duration::from_millis(70)),
        (20, true),
        "{up:?}"
    );
    assert!(Duration::from_millis(60) <= up.delay_given_mean().unwrap(), "{up:?}");
    assert!(up.delay_asked <= up.delay_given);
    assert_eq!(world.control().counters().down.delayed, 0);
    world.end().await;
}

#[tokio::test]
async fn latencies_on_one_pipe_add_up_and_held_bytes_are_seen() {
    let second = Toxic { name: "slower".into(), ..slow(300, 0) };
    let world =
        World::start(Rules { toxics: vec![slow(300, 0), second], ..Rules::neutral() }).await;
    let (mut client, mut upstream) = world.pair().await;
    client.write_all(b"held").await.unwrap();
    eventually(&world.control(), |control| control.counters().held_bytes() == 4).await;
    assert_eq!(read_exactly(&mut upstream, 4).await, b"held");
    let counters = world.control().counters();
    assert_eq!(
        (counters.up.delay_asked_max, counters.held_bytes()),
        (Duration::from_millis(600), 0)
    );
    world.end().await;
}

#[tokio::test]
async fn same_seed_draws_the_same_jitter_and_another_seed_another() {
    let mut drawn = Vec::new();
    for seed in [7, 7, 8] {
        let world = World::with(Rules::with(slow(5, 5)), true, seed).await;
        let (mut client, mut upstream) = world.pair_of(41).await;
        client.write_all(b"x").await.unwrap();
        read_exactly(&mut upstream, 1).await;
        drawn.push(world.control().counters().up.delay_asked);
        world.end().await;
    }
    assert_eq!(drawn[0], drawn[1]);
    assert_ne!(drawn[0], drawn[2]);
}

#[tokio::test]
async fn toxicity_spares_the_same_devices_each_time_and_leaves_them_untouched() {
    let mut hit = Vec::new();
    for _ in 0..2 {
        let world = World::with_devices(Rules::with(slow(1, 0).toxicity(500))).await;
        let mut pairs = Vec::new();
        for device in 0..24 {
            pairs.push(world.pair_of(device).await);
        }
        let generation = world.control().edit_rules(|_| ()).unwrap();
        world.control().applied(generation).await.unwrap();
        let connections = world.control().connections();
        let devices = connections.iter().filter(|connection| !connection.toxics_hit.is_empty());
        hit.push(devices.map(|connection| connection.device.unwrap()).collect::<Vec<u64>>());
        world.end().await;
    }
    assert_eq!(hit[0], hit[1]);
    assert!((4..=20).contains(&hit[0].len()), "{hit:?}");
}

#[tokio::test]
async fn a_toxic_on_some_devices_leaves_the_others_alone() {
    let aimed = slow(20, 0).aimed_at(Targets::devices([2]));
    let world = World::with_devices(Rules::with(aimed)).await;
    let mut pairs = [world.pair_of(1).await, world.pair_of(2).await, world.pair_of(3).await];
    for (client, upstream) in &mut pairs {
        client.write_all(b"hello").await.unwrap();
        assert_eq!(read_exactly(upstream, 5).await, b"hello");
    }
    let delayed: Vec<(Option<u64>, u64)> =
        world.control().connections().iter().map(|seen| (seen.device, seen.up.delayed)).collect();
    assert_eq!(delayed, [(Some(1), 0), (Some(2), 1), (Some(3), 0)]);
    world.end().await;
}
