//! Stories of the proxy over real sockets: a client, a proxy, an upstream.

mod accept;
mod change;
mod kit;
mod latency;
mod preamble;
mod reset;
mod set;
mod stall;
