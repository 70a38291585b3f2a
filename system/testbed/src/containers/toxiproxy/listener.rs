//! One listener: toxics put on it, read back, and taken away.
//!
//! Healing has three steps. The toxics are removed one by one, the listener is read back, and a call goes through it; that is tried
//! again for ten seconds. Then the listener is closed and opened again, which ends all of its connections and is counted. What does
//! not answer then is not healed, and said to be so.
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use chat_ports::observe::Counter;
use tokio::time::Instant;

use super::api::{Api, Seen};
use super::driver::Driver;
use super::plan::Planned;
use super::toxic::Toxic;
use super::{Backend, LinkError, probe};

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// One call of the HTTP interface.
    pub(super) call: Duration,
    /// After this long of removing in vain the listener is closed and opened again.
    pub(super) forced_after: Duration,
    /// Rest between two tries.
    pub(super) pause: Duration,
    /// One call through a listener.
    pub(super) probe: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            call: Duration::from_secs(2),
            forced_after: Duration::from_secs(10),
            pause: Duration::from_millis(250),
            probe: Duration::from_secs(1),
        }
    }
}

/// What all listeners share.
pub(super) struct Tools {
    pub(super) api: Api,
    pub(super) driver: Driver,
    pub(super) limits: Limits,
    /// Changes that were read back as asked.
    pub(super) changed: Counter,
    /// Listeners that had to be closed and opened again.
    pub(super) forced: Counter,
}

/// One listener of a node.
pub(super) struct Listener {
    pub(super) node: String,
    pub(super) backend: Backend,
    name: String,
    port: u16,
    /// Host and port of the backend, as containers reach it.
    upstream: String,
    /// The backend without Toxiproxy.
    direct: SocketAddr,
}

impl Listener {
    pub(super) fn new(planned: &Planned, upstream: String, direct: SocketAddr) -> Self {
        Self {
            node: planned.node.clone(),
            backend: planned.backend,
            name: planned.name(),
            port: planned.port,
            upstream,
            direct,
        }
    }

    /// Where the node dials.
    pub(super) fn addr(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// Name, where it listens and where it leads, as Toxiproxy is told.
    pub(super) fn as_told(&self) -> (String, String, String) {
        (self.name.clone(), format!("0.0.0.0:{}", self.port), self.upstream.clone())
    }

    /// Makes these the toxics of the listener, and reads back whether they are.
    pub(super) async fn put(&self, tools: &Tools, wanted: &[Toxic]) -> Result<(), LinkError> {
        // First of all something that is asked without the library: a server that is away makes the library panic.
        let present = tools.api.listener(&self.name).await?;
        let mut changes = 0;
        if !present.enabled {
            tools.api.enable(&self.name, true).await?;
            changes += 1;
        }
        let same =
            |a: &Toxic, b: &Toxic| (&a.name, &a.kind, a.stream) == (&b.name, &b.kind, b.stream);
        // It lists those of the node's direction first, and they go last: answers that were let loose before have nowhere to go while
        // their own direction is held, and a connection that its node has given up would hold up the removal.
        for toxic in present.toxics.iter().rev() {
            if !wanted.iter().any(|one| same(one, toxic)) {
                tools.api.remove(&self.name, &toxic.name).await?;
                changes += 1;
            }
        }
        for toxic in wanted {
            match present.toxics.iter().find(|one| same(one, toxic)) {
                Some(one) if one == toxic => continue,
                Some(_) => tools.api.change(&self.name, toxic).await?,
                None if Driver::knows(toxic) => tools.driver.add(&self.name, toxic).await?,
                None => tools.api.add(&self.name, toxic).await?,
            }
            changes += 1;
        }
        let seen = if changes > 0 { tools.api.listener(&self.name).await? } else { present };
        self.compare(&seen, true, wanted)?;
        tools.changed.add(changes);
        Ok(())
    }

    /// Takes away what is not wanted any more, however long it takes within the limits.
    pub(super) async fn heal(&self, tools: &Tools, wanted: &[Toxic]) -> Result<(), LinkError> {
        let began = Instant::now();
        loop {
            let Err(error) = self.settle(tools, wanted).await else { return Ok(()) };
            if began.elapsed() >= tools.limits.forced_after {
                let listener = &self.name;
                tracing::warn!(listener, %error, "A link does not heal: its listener is closed and opened again.");
                break;
            }
            tokio::time::sleep(tools.limits.pause).await;
        }
        tools.forced.add(1);
        let closed = self.close(tools).await;
        let Err(error) = self.settle(tools, wanted).await else { return Ok(()) };
        let why = match closed {
            Ok(()) => error.to_string(),
            Err(first) => format!("{first}; then {error}"),
        };
        Err(LinkError::NotHealed { listener: self.name.clone(), why })
    }

    /// Brings the toxics to what is wanted; a listener without any has to let a call through.
    async fn settle(&self, tools: &Tools, wanted: &[Toxic]) -> Result<(), LinkError> {
        self.put(tools, wanted).await?;
        if !wanted.is_empty() {
            return Ok(());
        }
        let limit = tools.limits.probe;
        let Err(why) = probe::answers(self.backend, self.addr(), limit).await else {
            return Ok(());
        };
        // A backend that is down by another fault answers nobody: then the read-back is all there can be.
        if let Err(direct) = probe::answers(self.backend, self.direct, limit).await {
            let listener = &self.name;
            tracing::info!(
                listener,
                why,
                direct,
                "A link is neutral, and its backend answers nobody."
            );
            return Ok(());
        }
        Err(LinkError::NoAnswer { listener: self.name.clone(), why })
    }

    async fn close(&self, tools: &Tools) -> Result<(), LinkError> {
        tools.api.enable(&self.name, false).await?;
        let seen = tools.api.listener(&self.name).await?;
        self.expect("enabled", &false, &seen.enabled)
    }

    fn compare(&self, seen: &Seen, enabled: bool, wanted: &[Toxic]) -> Result<(), LinkError> {
        self.expect("name", &self.name, &seen.name)?;
        self.expect("upstream", &self.upstream, &seen.upstream)?;
        self.expect("enabled", &enabled, &seen.enabled)?;
        // It says which wildcard address it took, that of either version of IP.
        let listen = seen.listen.parse::<SocketAddr>().ok();
        let listen = listen.filter(|addr| addr.ip().is_unspecified()).map(|addr| addr.port());
        self.expect("a listening port", &Some(self.port), &listen)?;
        self.expect("toxics", &wanted.len(), &seen.toxics.len())?;
        for toxic in wanted {
            let found = seen.toxics.iter().find(|one| one.name == toxic.name);
            let of = |field: &str| format!("{field} of toxic `{}`", toxic.name);
            let found = found.ok_or_else(|| self.differs("toxics", &toxic.name, &"none of it"))?;
            self.expect(&of("type"), &toxic.kind, &found.kind)?;
            self.expect(&of("stream"), &toxic.stream, &found.stream)?;
            self.expect(&of("toxicity"), &toxic.toxicity, &found.toxicity)?;
            self.expect(&of("attributes"), &toxic.attributes, &found.attributes)?;
        }
        Ok(())
    }

    fn expect<T: PartialEq + std::fmt::Debug>(
        &self,
        field: &str,
        wanted: &T,
        found: &T,
    ) -> Result<(), LinkError> {
        if wanted == found { Ok(()) } else { Err(self.differs(field, wanted, found)) }
    }

    fn differs(
        &self,
        field: &str,
        wanted: &dyn std::fmt::Debug,
        found: &dyn std::fmt::Debug,
    ) -> LinkError {
        LinkError::ReadBack {
            listener: self.name.clone(),
            field: field.to_owned(),
            wanted: format!("{wanted:?}"),
            found: format!("{found:?}"),
        }
    }
}
