//! A set on its own thread, steered from here.

use tokio::net::{TcpListener, TcpStream};

use super::kit::{any_port, config, echoes, is_reset, soon};
use crate::{ControlError, ProxySet, Rules, StartError};

#[tokio::test]
async fn a_set_runs_its_proxies_on_its_own_thread_and_joins_everything() {
    let upstream = TcpListener::bind(any_port()).await.unwrap();
    let address = upstream.local_addr().unwrap();
    let set = ProxySet::start().unwrap();
    let handle = set.handle();
    let started =
        handle.add(config("gateway-1", address, Rules::neutral(), false, 1)).await.unwrap();
    handle.add(config("gateway-2", address, Rules::down(), false, 1)).await.unwrap();
    let twice = handle.add(config("gateway-1", address, Rules::neutral(), false, 1)).await;
    assert!(matches!(twice, Err(StartError::NameTaken { .. })), "{twice:?}");
    assert!(matches!(handle.proxy("gateway-3"), Err(ControlError::Unknown { .. })));
    assert_eq!(handle.proxies().iter().map(|proxy| proxy.name().len()).collect::<Vec<_>>(), [9, 9]);

    let mut client = TcpStream::connect(started.listen_addr()).await.unwrap();
    let mut served = soon(upstream.accept()).await.unwrap().0;
    echoes(&mut client, &mut served).await;
    handle.proxy("gateway-2").unwrap().up().await.unwrap();

    handle.shutdown().await;
    tokio::join!(is_reset(client), is_reset(served));
    let late = handle.add(config("gateway-4", address, Rules::neutral(), false, 1)).await;
    assert!(matches!(late, Err(StartError::Stopped)), "{late:?}");
    set.shutdown();
}

#[test]
fn a_set_can_be_driven_without_a_runtime() {
    let upstream = std::net::TcpListener::bind(any_port()).unwrap();
    let address = upstream.local_addr().unwrap();
    let set = ProxySet::start().unwrap();
    let control = set
        .handle()
        .add_blocking(config("gateway-1", address, Rules::neutral(), false, 1))
        .unwrap();
    let generation = control.set_rules(Rules::neutral()).unwrap();
    assert_eq!((generation, control.counters().listening), (2, true));
    set.shutdown();
    assert!(matches!(control.set_rules(Rules::neutral()), Err(ControlError::Stopped { .. })));
}

#[tokio::test]
async fn a_taken_port_is_told_with_the_name_of_the_proxy() {
    let taken = std::net::TcpListener::bind(any_port()).unwrap();
    let set = ProxySet::start().unwrap();
    let mut wanted = config("gateway-1", any_port(), Rules::neutral(), false, 1);
    wanted.listen = taken.local_addr().unwrap();
    let told = soon(set.handle().add(wanted)).await.unwrap_err();
    assert!(told.to_string().contains("gateway-1"), "{told}");
    set.handle().shutdown().await;
}
