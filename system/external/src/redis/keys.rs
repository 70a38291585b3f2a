//! Names of keys, and nodes and routes as text.
use chat_ports::registry::{NodeKey, Route};
use chat_protocol::DeviceId;
use chat_protocol::ids::{SLOTS, slot_of};

/// Longest prefix, in bytes.
const PREFIX_MAX: usize = 64;

/// What all keys of one system begin with.
#[derive(Debug)]
pub(super) struct Keys {
    prefix: String,
}

impl Keys {
    /// `None` when the prefix is empty, too long, or has characters that mean something in a pattern or a tag.
    pub(super) fn new(prefix: &str) -> Option<Self> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let usable = (1..=PREFIX_MAX).contains(&prefix.len()) && prefix.bytes().all(plain);
        usable.then(|| Self { prefix: prefix.to_owned() })
    }

    /// The store's incarnation.
    pub(super) fn incarnation(&self) -> String {
        format!("{}:re", self.prefix)
    }

    /// What keys of queues begin with; [`device`] follows.
    pub(super) fn queues(&self) -> String {
        format!("{}:rq:", self.prefix)
    }

    /// What keys of devices begin with; [`device`] follows.
    pub(super) fn devices(&self) -> String {
        format!("{}:dv:", self.prefix)
    }

    /// What keys of the devices of a node begin with; the slot's tag and the node follow.
    pub(super) fn routed(&self) -> String {
        format!("{}:gx:", self.prefix)
    }

    /// Watermarks of a slot.
    pub(super) fn watermarks(&self, slot: u32) -> String {
        format!("{}:rw:{}", self.prefix, tag(slot))
    }

    /// Devices routed to a node, one key a slot.
    pub(super) fn routed_to(&self, node: &str) -> impl Iterator<Item = String> {
        (0..SLOTS).map(move |slot| format!("{}{}:{node}", self.routed(), tag(slot)))
    }

    /// Leases: ends, address and roles, newest epochs, claims.
    pub(super) fn leases(&self) -> [String; 4] {
        ["nodes", "meta", "epochs", "claims"].map(|part| format!("{}:gw:{part}", self.prefix))
    }

    /// Changes of routes.
    pub(super) fn changes(&self) -> String {
        format!("{}:rc", self.prefix)
    }
}

/// Tag of a slot: keys with the same tag are kept together.
pub(super) fn tag(slot: u32) -> String {
    format!("{{r:{slot}}}")
}

/// A device in keys: the tag of its slot and its id.
pub(super) fn device(device: DeviceId) -> String {
    format!("{}:{}", tag(slot_of(device.user())), device.0)
}

/// A node as text.
pub(super) fn node(node: &NodeKey) -> String {
    format!("{}/{}", node.epoch, node.name)
}

/// Reads [`node`].
pub(super) fn parse_node(text: &str) -> Option<NodeKey> {
    let (epoch, name) = text.split_once('/')?;
    Some(NodeKey { name: name.into(), epoch: epoch.parse().ok()? })
}

/// A route as text. Two routes are equal when, and only when, their texts are.
pub(super) fn route(route: &Route) -> String {
    format!("{}/{}/{}", route.conn_epoch, route.conn, node(&route.node))
}

/// Reads [`route`].
pub(super) fn parse_route(text: &str) -> Option<Route> {
    let (conn_epoch, rest) = text.split_once('/')?;
    let (conn, rest) = rest.split_once('/')?;
    Some(Route {
        node: parse_node(rest)?,
        conn_epoch: conn_epoch.parse().ok()?,
        conn: conn.parse().ok()?,
    })
}
