//! Stories of a wipe.
use std::pin::pin;

use chat_control::inspect::{RouteChange, RouteView};
use chat_ports::PortError;
use chat_protocol::DeviceId;
use futures_util::FutureExt as _;

use super::link::{INCARNATION, LONG, Reply, Says, Server};

/// A wipe at 20 that took one route of 10.
const WIPED: Reply = Says(concat!(
    "*3\r\n$2\r\n20\r\n*0\r\n",
    "*3\r\n$14\r\np:dv:{r:0}:256\r\n$15\r\n5/1/1/gateway-1\r\n$2\r\n10\r\n"
));
/// One change: the device is back at 30.
const BACK: Reply = Says(concat!(
    "*2\r\n:1\r\n",
    "*2\r\n$4\r\n30-0\r\n*2\r\n$3\r\n256\r\n$15\r\n6/2/2/gateway-1\r\n"
));

fn change(at_ms: u64, epochs: Option<(u64, u64)>) -> RouteChange {
    let view = |(conn_epoch, node_epoch)| RouteView {
        node: "gateway-1".to_owned(),
        node_epoch,
        conn_epoch,
    };
    RouteChange { device: DeviceId(256), route: epochs.map(view), at_ms }
}

#[tokio::test]
async fn look_amid_a_wipe_asks_only_when_it_is_known_what_the_wipe_took() {
    let server = Server::start(true, &[WIPED, INCARNATION, BACK]).await;
    let store = server.connect(LONG).await.unwrap();
    let admin = store.admin();
    let mut wipe = pin!(admin.wipe());
    let mut look = pin!(admin.routes_since(1));
    // Both begin. The server has answered the wipe, and nobody has read it, when a call that began later has its own answer.
    assert!(wipe.as_mut().now_or_never().is_none());
    assert!(look.as_mut().now_or_never().is_none());
    assert_eq!(store.relay_queue().incarnation().await, Ok(7));
    let (looked, wiped) = tokio::join!(look, wipe);
    wiped.unwrap();
    let (changes, _) = looked.unwrap();
    assert_eq!(changes, [change(10, Some((5, 1))), change(20, None), change(30, Some((6, 2)))]);
}

#[tokio::test]
async fn wipe_of_too_many_keys_is_refused_and_takes_nothing() {
    let server = Server::start(true, &[Says("$-1\r\n"), BACK]).await;
    let admin = server.connect(LONG).await.unwrap().admin();
    assert!(matches!(admin.wipe().await, Err(PortError::Refused(_))));
    assert_eq!(admin.routes_since(1).await.unwrap().0, [change(30, Some((6, 2)))]);
}
