//! Pushing without storing.
use chat_protocol::DeviceId;
use chat_protocol::node::{Pull, Resume};

use super::bench::{Bench, gateway_key, route};
use crate::DeliveryRule;

const BOB: DeviceId = DeviceId(2 * 256);

fn resume(after: u64) -> Pull {
    Pull {
        device: BOB.0,
        resume: true,
        has_cursor: true,
        epoch: 1,
        after,
        limit: 64,
        ..Pull::default()
    }
}

#[tokio::test]
async fn device_with_a_route_gets_what_is_stored_nowhere() {
    let mut bench = Bench::new(DeliveryRule::PushFirst).await;
    bench.gateway.pull(Pull { device: BOB.0, resume: true, ..Pull::default() }).await;
    bench.queue.set_route(BOB, route(gateway_key(), 9));
    bench.sequencer.offer("m0", 0, BOB, &["a", "b"]).await;
    let pushes = bench.gateway.pushes().await;
    assert_eq!(pushes.iter().map(|push| push.dseq).collect::<Vec<_>>(), [1, 2]);
    assert!(bench.stored(BOB).is_empty());
}

#[tokio::test]
async fn numbers_stay_contiguous_over_an_offline_time() {
    let mut bench = Bench::new(DeliveryRule::PushFirst).await;
    bench.gateway.pull(Pull { device: BOB.0, resume: true, ..Pull::default() }).await;
    bench.queue.set_route(BOB, route(gateway_key(), 9));
    bench.sequencer.offer("m0", 0, BOB, &["a", "b"]).await;
    bench.gateway.pushes().await;
    bench.queue.clear_route(BOB);
    bench.sequencer.offer("m0", 2, BOB, &["c"]).await;
    assert_eq!(bench.stored(BOB), ["c"]);
    let page = bench.gateway.pull(resume(2)).await;
    assert_eq!((page.resume(), page.after, page.top, page.items[0].dseq), (Resume::Ok, 2, 3, 3));
}

#[tokio::test]
async fn what_was_pushed_to_a_dying_gateway_is_skipped_and_lost() {
    let mut bench = Bench::new(DeliveryRule::PushFirst).await;
    bench.gateway.pull(Pull { device: BOB.0, resume: true, ..Pull::default() }).await;
    bench.queue.set_route(BOB, route(gateway_key(), 9));
    bench.sequencer.offer("m0", 0, BOB, &["a", "b"]).await;
    bench.gateway.pushes().await;
    let page = bench.gateway.pull(resume(1)).await;
    assert_eq!((page.resume(), page.after, page.items.len()), (Resume::Ok, 2, 0));
}
