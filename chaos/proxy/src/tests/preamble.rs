//! The preamble: stripped, kept as label, refused where it is none.

use tokio::io::AsyncWriteExt;

use super::kit::{World, eventually, is_reset, read_exactly};
use crate::{CloseCause, Preamble, Rules};

#[tokio::test]
async fn the_preamble_is_stripped_and_names_the_device() {
    let world = World::with_devices(Rules::neutral()).await;
    let mut client = world.dial().await;
    let mut first = Preamble { device: 770 }.encode().to_vec();
    first.extend_from_slice(b"hello");
    client.write_all(&first).await.unwrap();
    let mut upstream = world.accept().await;
    assert_eq!(read_exactly(&mut upstream, 5).await, b"hello");
    let seen = &world.control().connections()[0];
    assert_eq!((seen.device, seen.up.bytes_in), (Some(770), 5));
    world.end().await;
}

#[tokio::test]
async fn a_connection_without_a_preamble_is_reset_where_one_is_due() {
    let world = World::with_devices(Rules::neutral()).await;
    let mut client = world.dial().await;
    client.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    is_reset(client).await;
    eventually(&world.control(), |control| {
        control.counters().closed_by(CloseCause::BadPreamble) == 1
    })
    .await;
    world.end().await;
}
