//! What has to be there before anything is started; nothing is started or touched.
use std::net::{Ipv4Addr, SocketAddr};

use super::engine::{Engine, EngineError};
use super::images::Images;
use super::recipe::Layout;
use crate::port::expect_port;

/// The oldest API that the recipes were run on, that of Docker 20.10.
const API_MIN: (u32, u32) = (1, 41);
/// Memory that has to be free: backends and nodes took 1,430 MiB under the load of `redis-slow --scale ci` (`docker stats`, one look),
/// and the virtual machines may take more.
const FREE_MIB: u64 = 2_048;
/// Says of the engine's own bridge whether published ports lead through the kernel alone: an engine without a port proxy has to allow
/// loopback addresses on it.
const ROUTE: &str = "/proc/sys/net/ipv4/conf/docker0/route_localnet";

/// Refuses a start for which something is missing: engine, memory, images, room beside leftovers of other runs, ports above `base_port`.
pub async fn preflight(images: &Images, base_port: u16) -> Result<(), EngineError> {
    let engine = Engine::connect().await?;
    let (version, api) = engine.version().await?;
    expect_api(version, api)?;
    // An engine whose bridge is out of sight says nothing about its ports.
    expect_no_proxy(std::fs::read_to_string(ROUTE).ok().as_deref())?;
    expect_memory(std::fs::read_to_string("/proc/meminfo").ok().as_deref())?;
    engine.expect_images(images).await?;
    engine.expect_no_leftovers().await?;
    let layout = Layout { run: String::new(), base_port };
    for port in layout.ports() {
        expect_port(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    }
    Ok(())
}

/// A version that is not two numbers is let be: what it lacks shows when it is asked for it.
fn expect_api(version: String, api: String) -> Result<(), EngineError> {
    let number = |part: Option<&str>| part.and_then(|part| part.parse::<u32>().ok());
    let mut parts = api.split('.');
    match (number(parts.next()), number(parts.next())) {
        (Some(major), Some(minor)) if (major, minor) < API_MIN => {
            Err(EngineError::OldApi { version, api })
        }
        _ => Ok(()),
    }
}

fn expect_no_proxy(route: Option<&str>) -> Result<(), EngineError> {
    if route.is_some_and(|route| route.trim() == "0") {
        return Err(EngineError::PortProxy);
    }
    Ok(())
}

fn expect_memory(meminfo: Option<&str>) -> Result<(), EngineError> {
    let line =
        meminfo.and_then(|text| text.lines().find_map(|line| line.strip_prefix("MemAvailable:")));
    let free_kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    match free_kib.map(|kib| kib / 1_024) {
        Some(free_mib) if free_mib < FREE_MIB => {
            Err(EngineError::NoMemory { free_mib, wanted_mib: FREE_MIB })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engine_older_than_any_that_was_tried_is_refused() {
        for api in ["1.40", "1.9", "0.99"] {
            let refused = expect_api("19.03".to_owned(), api.to_owned());
            assert!(matches!(refused, Err(EngineError::OldApi { .. })), "{api}");
        }
        for api in ["1.41", "1.52", "2.0", "unknown"] {
            assert!(expect_api("20.10".to_owned(), api.to_owned()).is_ok(), "{api}");
        }
    }

    #[test]
    fn engine_with_a_port_proxy_is_refused_where_that_can_be_seen() {
        assert!(matches!(expect_no_proxy(Some("0\n")), Err(EngineError::PortProxy)));
        assert!(expect_no_proxy(Some("1\n")).is_ok());
        assert!(expect_no_proxy(None).is_ok());
    }

    #[test]
    fn too_little_memory_is_refused_in_figures() {
        let free =
            |kib: u64| expect_memory(Some(&format!("MemTotal: 1 kB\nMemAvailable:  {kib} kB\n")));
        assert!(free(2_048 * 1_024).is_ok());
        let refused = free(1_500 * 1_024).unwrap_err().to_string();
        assert_eq!(refused, "1500 MiB of memory are free, and 2048 MiB have to be");
        assert!(expect_memory(None).is_ok());
    }
}
