//! Accept rules over sockets.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::kit::{World, echoes, eventually, is_reset, soon};
use crate::{AcceptAct, AcceptRule, CloseCause, Preamble, Rules, Targets, When};

fn ruled(rule: AcceptRule) -> Rules {
    Rules { accept: vec![rule], ..Rules::neutral() }
}

#[tokio::test]
async fn the_first_two_are_refused_and_the_third_is_carried() {
    let rules = ruled(AcceptRule::new("drop", AcceptAct::Refuse).when(When::First(2)));
    let world = World::start(rules).await;
    is_reset(world.dial().await).await;
    is_reset(world.dial().await).await;
    let (mut client, mut upstream) = world.pair().await;
    echoes(&mut client, &mut upstream).await;
    assert_eq!(world.control().counters().closed_by(CloseCause::Refused), 2);
    world.end().await;
}

#[tokio::test]
async fn accepted_then_closed_ends_without_a_word() {
    let act = AcceptAct::AcceptThenClose { after: Duration::from_millis(1) };
    let world = World::start(ruled(AcceptRule::new("bad", act))).await;
    let mut client = world.dial().await;
    let mut heard = Vec::new();
    assert_eq!(soon(client.read_to_end(&mut heard)).await.unwrap(), 0);
    eventually(&world.control(), |control| {
        control.counters().closed_by(CloseCause::AcceptedThenClosed) == 1
    })
    .await;
    world.end().await;
}

#[tokio::test]
async fn a_silenced_device_hears_nothing_until_the_rule_goes() {
    let rule = AcceptRule::new("hush", AcceptAct::Silent).aimed_at(Targets::devices([4]));
    let world = World::with_devices(ruled(rule)).await;
    let mut hushed = world.dial().await;
    hushed.write_all(&Preamble { device: 4 }.encode()).await.unwrap();
    hushed.write_all(b"GET /").await.unwrap();
    let (mut client, mut upstream) = world.pair_of(5).await;
    echoes(&mut client, &mut upstream).await;
    assert_eq!(world.control().counters().open, 2);
    world.control().edit_rules(|rules| assert!(rules.remove_accept("hush"))).unwrap();
    let mut heard = Vec::new();
    assert_eq!(soon(hushed.read_to_end(&mut heard)).await.unwrap(), 0);
    eventually(&world.control(), |control| control.counters().closed_by(CloseCause::Silenced) == 1)
        .await;
    world.end().await;
}
