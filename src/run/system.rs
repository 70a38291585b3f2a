//! The system of a plan: nodes, timers, limits, and its variants as policies.
use std::path::Path;
use std::time::Duration;

use chat_client::{Backoff, Hints, Policies as ClientPolicies, Seal};
use chat_protocol::limits::{RELAY_QUEUE_MAX, Timers};
use chat_testbed::{BASE_PORT, BackendsKind, Config, Policies, Role, ServiceNode};
use storm_workload::Plan;
use storm_workload::system::{E2ee, Role as RoleName, Timers as TimersName};

use crate::exit::Edge;

/// Bytes of appends without answer, unless the plan says otherwise.
const LOG_BUFFER: u64 = 32 << 20;
/// The delay of the variant that knows no jitter.
const FIXED_BACKOFF: Duration = Duration::from_secs(1);

/// The timers a plan asks for.
pub(super) fn timers(plan: &Plan) -> Timers {
    match plan.system.timers {
        TimersName::Default => Timers::DEFAULT,
        TimersName::Short => Timers::short(),
    }
}

/// The system of a plan, with its files below `data`.
pub(super) fn config(plan: &Plan, data: &Path, start_ms: u64) -> Result<Config, Edge> {
    let spec = &plan.system;
    let services = spec
        .service_nodes()
        .into_iter()
        .map(|node| ServiceNode {
            name: node.name,
            roles: node.roles.into_iter().map(role).collect(),
        })
        .collect();
    let mut policies = Policies::default();
    for variant in spec.variants.iter().filter(|variant| !variant.starts_with("client.")) {
        if !policies.plant(variant, plan.seed) {
            return Err(Edge::internal(format!(
                "the variant `{variant}` is listed and nothing plants it"
            )));
        }
    }
    let few = |n: u32| u16::try_from(n).unwrap_or(u16::MAX);
    Ok(Config {
        gateways: few(spec.gateways),
        services,
        balancers: few(spec.balancers),
        timers: timers(plan),
        partitions: spec.log.partitions,
        relay_queue: spec.limits.relay_queue.map_or(RELAY_QUEUE_MAX, u64::from),
        log_buffer: spec.limits.log_buffer.map_or(LOG_BUFFER, |size| size.0),
        base_port: BASE_PORT,
        data: data.to_owned(),
        seed: plan.seed,
        start_ms,
        secret: secret(plan.seed, 1),
        policies,
        backends: BackendsKind::Embedded,
    })
}

/// How the devices of a plan behave.
pub(super) fn client(plan: &Plan) -> Result<ClientPolicies, Edge> {
    let seal = match plan.system.e2ee {
        E2ee::Off => Seal::Off,
        E2ee::Envelope => Seal::Envelope(secret(plan.seed, 2)),
    };
    let mut policies = ClientPolicies { seal, ..ClientPolicies::default() };
    for variant in plan.system.variants.iter().filter(|variant| variant.starts_with("client.")) {
        match variant.as_str() {
            "client.backoff_fixed" => {
                // Neither the server's window nor jitter: every device waits the same time.
                policies.backoff = Backoff::Fixed(fixed(plan));
                policies.hints = Hints::Ignore;
            }
            "client.ignore_hints" => policies.hints = Hints::Ignore,
            _ => {
                return Err(Edge::internal(format!(
                    "the variant `{variant}` is listed and nothing plants it"
                )));
            }
        }
    }
    Ok(policies)
}

fn fixed(plan: &Plan) -> Duration {
    match plan.system.timers {
        TimersName::Default => FIXED_BACKOFF,
        TimersName::Short => FIXED_BACKOFF / 10,
    }
}

fn role(name: RoleName) -> Role {
    match name {
        RoleName::Sessions => Role::Sessions,
        RoleName::Messaging => Role::Messaging,
        RoleName::Relay => Role::Relay,
        RoleName::History => Role::History,
    }
}

/// Secrets of a simulated system derive from its seed, so that a run can be repeated byte for byte.
fn secret(seed: u64, purpose: u64) -> [u8; 32] {
    let mut secret = [0; 32];
    for (at, part) in (0_u64..).zip(secret.chunks_mut(8)) {
        part.copy_from_slice(&chat_protocol::digest::mix(&[seed, purpose, at]).to_le_bytes());
    }
    secret
}
