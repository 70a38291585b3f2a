//! The `x_stall` toxic: a half-open link.

use tokio::io::AsyncWriteExt;

use super::kit::{World, echoes, eventually, is_reset, read_exactly};
use crate::{CloseCause, OnHeal, Rules, Stall, Stream, Targets, Told, Toxic, ToxicKind};

fn stall(on_heal: OnHeal) -> Toxic {
    Toxic::new("hole", ToxicKind::Stall(Stall { on_heal, told: Told::Nobody }))
}

async fn stalled(world: &World, toxic: Toxic) {
    let generation = world.control().put_toxic(toxic).unwrap();
    world.control().applied(generation).await.unwrap();
}

#[tokio::test]
async fn a_stall_holds_every_byte_and_resumes() {
    let world = World::start(Rules::neutral()).await;
    let (mut client, mut upstream) = world.pair().await;
    echoes(&mut client, &mut upstream).await;
    stalled(&world, stall(OnHeal::Resume)).await;
    client.write_all(b"into the hole").await.unwrap();
    upstream.write_all(b"and back").await.unwrap();
    let control = world.control();
    eventually(&control, |control| control.counters().held_bytes() == 21).await;
    let seen = control.counters();
    assert_eq!(
        (seen.up.bytes_in, seen.up.held_bytes_kernel, seen.up.stalled, seen.open),
        (4, 13, 1, 1)
    );
    assert_eq!(&*control.connections()[0].toxics_hit[0], "hole");
    control.remove_toxic("hole").unwrap();
    assert_eq!(read_exactly(&mut upstream, 13).await, b"into the hole");
    assert_eq!(read_exactly(&mut client, 8).await, b"and back");
    assert_eq!((control.counters().held_bytes(), control.counters().up.stalled), (0, 0));
    world.end().await;
}

#[tokio::test]
async fn a_stall_that_heals_by_reset_resets_both_ends() {
    let world = World::start(Rules::neutral()).await;
    let (mut client, mut upstream) = world.pair().await;
    echoes(&mut client, &mut upstream).await;
    stalled(&world, stall(OnHeal::Reset)).await;
    client.write_all(b"never arrives").await.unwrap();
    world.control().remove_toxic("hole").unwrap();
    is_reset(upstream).await;
    is_reset(client).await;
    let control = world.control();
    eventually(&control, |control| control.counters().closed_by(CloseCause::StallReset) == 1).await;
    assert_eq!(control.counters().resets_injected(), 1);
    world.end().await;
}

#[tokio::test]
async fn a_stall_of_one_direction_lets_the_other_through() {
    let world = World::start(Rules::neutral()).await;
    let (mut client, mut upstream) = world.pair().await;
    stalled(&world, stall(OnHeal::Resume).on(Stream::Down)).await;
    client.write_all(b"request").await.unwrap();
    assert_eq!(read_exactly(&mut upstream, 7).await, b"request");
    upstream.write_all(b"response").await.unwrap();
    eventually(&world.control(), |control| control.counters().down.held_bytes_kernel == 8).await;
    world.end().await;
}

#[tokio::test]
async fn a_stall_of_chosen_connections_spares_what_the_device_dials_next() {
    let world = World::with_devices(Rules::neutral()).await;
    let (_client, _upstream) = world.pair_of(5).await;
    let ordinal = world.control().connections()[0].ordinal;
    stalled(&world, stall(OnHeal::Reset).aimed_at(Targets::connections([ordinal]))).await;
    let (mut again, mut upstream) = world.pair_of(5).await;
    echoes(&mut again, &mut upstream).await;
    let seen: Vec<u64> = world.control().connections().iter().map(|seen| seen.up.stalled).collect();
    assert_eq!(seen, [1, 0]);
    world.end().await;
}

#[tokio::test]
async fn an_end_of_file_in_a_stalled_link_is_not_seen_before_the_heal() {
    let world = World::start(Rules::neutral()).await;
    let (mut client, mut upstream) = world.pair().await;
    echoes(&mut client, &mut upstream).await;
    stalled(&world, stall(OnHeal::Resume)).await;
    client.write_all(b"bye").await.unwrap();
    drop(client);
    eventually(&world.control(), |control| control.counters().up.held_bytes_kernel == 3).await;
    assert_eq!(world.control().counters().open, 1);
    world.control().remove_toxic("hole").unwrap();
    assert_eq!(read_exactly(&mut upstream, 3).await, b"bye");
    drop(upstream);
    eventually(&world.control(), |control| control.counters().open == 0).await;
    world.end().await;
}

#[tokio::test]
async fn a_stall_that_tells_the_client_resets_its_end_and_keeps_the_other() {
    let world = World::start(Rules::neutral()).await;
    let (mut client, mut upstream) = world.pair().await;
    echoes(&mut client, &mut upstream).await;
    let roams = Stall { on_heal: OnHeal::Resume, told: Told::Client };
    // A stream of one way plays no part: nobody is left to speak the other.
    let first = Targets::connections([world.control().connections()[0].ordinal]);
    let toxic = Toxic::new("roam", ToxicKind::Stall(roams)).on(Stream::Up).aimed_at(first);
    stalled(&world, toxic).await;
    is_reset(client).await;
    upstream.write_all(b"are you there?").await.unwrap();
    let control = world.control();
    eventually(&control, |control| control.counters().down.held_bytes_kernel == 14).await;
    let link = control.connections().remove(0);
    assert_eq!((link.client_told, link.up.stalled, link.down.stalled), (true, 1, 1));
    let (mut again, mut node) = world.pair().await;
    echoes(&mut again, &mut node).await;
    control.remove_toxic("roam").unwrap();
    is_reset(upstream).await;
    eventually(&control, |control| control.counters().closed_by(CloseCause::StallReset) == 1).await;
    assert_eq!(control.counters().open, 1);
    world.end().await;
}
