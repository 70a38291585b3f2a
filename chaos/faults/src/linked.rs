//! Four devices whose links run through a real proxy, for the stories about links.

use std::sync::Arc;
use std::time::Duration;

use storm_proxy::{Preamble, ProxyConfig, ProxyControl, ProxySet, Rules};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::bed::{Bed, BedParts, DevicePlace, Devices};
use crate::planted::Planted;

/// Four devices whose links run through a real proxy.
pub(crate) struct Linked {
    pub(crate) planted: Planted,
    set: ProxySet,
    proxy: ProxyControl,
    upstream: TcpListener,
    links: tokio::sync::Mutex<Vec<(TcpStream, TcpStream)>>,
}

struct FourDevices;

impl Devices for FourDevices {
    fn list(&self) -> Vec<DevicePlace> {
        (1..=4).map(|device| DevicePlace { device, node: None, connected: true }).collect()
    }
}

impl Linked {
    /// These devices have dialled.
    pub(crate) async fn start(devices: impl IntoIterator<Item = u64>) -> Linked {
        let upstream = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let set = ProxySet::start().unwrap();
        let config = ProxyConfig {
            name: String::from("entry-1"),
            listen: ([127, 0, 0, 1], 0).into(),
            upstream: upstream.local_addr().unwrap(),
            rules: Rules::neutral(),
            seed: 7,
            preamble: true,
        };
        let proxy = set.handle().add(config).await.unwrap();
        let linked = Linked {
            planted: Planted::new(),
            set,
            proxy,
            upstream,
            links: tokio::sync::Mutex::default(),
        };
        for device in devices {
            linked.dial(device).await;
        }
        linked
    }

    pub(crate) fn bed(&self) -> Bed {
        let parts = BedParts {
            proxies: Some(self.set.handle()),
            devices: Arc::new(FourDevices),
            ..self.planted.parts()
        };
        Bed::start(parts).unwrap()
    }

    pub(crate) async fn dial(&self, device: u64) {
        let mut client = TcpStream::connect(self.proxy.listen_addr()).await.unwrap();
        client.write_all(&Preamble { device }.encode()).await.unwrap();
        let (node, _) = self.upstream.accept().await.unwrap();
        self.links.lock().await.push((client, node));
    }

    pub(crate) async fn everybody_writes(&self) {
        for (client, _) in self.links.lock().await.iter_mut() {
            client.write_all(b"hello").await.unwrap();
        }
    }

    pub(crate) async fn nodes_write(&self) {
        for (_, node) in self.links.lock().await.iter_mut() {
            node.write_all(b"hello").await.unwrap();
        }
    }

    pub(crate) async fn everything_arrived(&self) {
        for (_, node) in self.links.lock().await.iter_mut() {
            let mut bytes = [0; 5];
            node.read_exact(&mut bytes).await.unwrap();
            assert_eq!(&bytes, b"hello");
        }
    }

    /// The link dialled last carries bytes.
    pub(crate) async fn newest_carries(&self) {
        let mut links = self.links.lock().await;
        let (client, node) = links.last_mut().unwrap();
        client.write_all(b"again").await.unwrap();
        let mut bytes = [0; 5];
        node.read_exact(&mut bytes).await.unwrap();
        assert_eq!(&bytes, b"again");
    }

    /// The link dialled last ends, and with it the last one open.
    pub(crate) async fn newest_is_cut(&self) {
        let mut links = self.links.lock().await;
        let (client, _) = links.last_mut().unwrap();
        // A reset is an error and a close is no byte: either way nothing comes.
        assert_eq!(client.read(&mut [0; 1]).await.unwrap_or(0), 0);
        // The proxy counts an end once its sockets are gone, which the client saw first.
        let counted = async {
            while self.open_links() != 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(5), counted).await.unwrap();
    }

    pub(crate) fn open_links(&self) -> u64 {
        self.proxy.counters().open
    }

    pub(crate) async fn end(&self, bed: Bed) {
        assert!(bed.finish(Duration::from_secs(5)).await.is_clean());
        self.set.handle().shutdown().await;
    }
}
