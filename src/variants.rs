//! The known-bad variants: each plants one bug that was seen in the field, so that a checker can be seen failing.
//!
//! A variant replaces one policy where the system is wired; no service asks whether it is one. This table is the only list
//! of them: files are checked against it, `list variants` prints it and `docs/variants.md` is generated from it.
use serde::Serialize;

/// One known-bad variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Variant {
    /// Its name in `system.variants`.
    pub name: &'static str,
    /// What it does wrong.
    pub does: &'static str,
    /// Where the bug was seen.
    pub seen_in: &'static str,
    /// The shipped experiment that shows it.
    pub experiment: &'static str,
    /// The arm of it, where the experiment as it stands gives the bug too little time.
    pub arm: Option<&'static str>,
    /// The invariant that must break.
    pub convicted_by: &'static str,
}

const fn variant(
    name: &'static str,
    does: &'static str,
    seen_in: &'static str,
    [experiment, convicted_by]: [&'static str; 2],
) -> Variant {
    Variant { name, does, seen_in, experiment, arm: None, convicted_by }
}

impl Variant {
    const fn in_arm(self, arm: &'static str) -> Self {
        Self { arm: Some(arm), ..self }
    }

    /// The experiment as it is written behind `run`.
    pub fn place(&self) -> String {
        self.arm.map_or_else(
            || self.experiment.to_owned(),
            |arm| format!("{} --arm {arm}", self.experiment),
        )
    }
}

/// All variants, by name.
pub const VARIANTS: &[Variant] = &[
    variant(
        "client.backoff_fixed",
        "retries a connection after a fixed delay, without window and without jitter",
        "rails#40229, phoenix#4045, mattermost-webapp#10960",
        ["reconnect-storm", "B2"],
    ),
    variant(
        "client.ignore_hints",
        "ignores drain windows, `retry_after` and the meaning of close codes",
        "no public report known",
        ["rolling-restart", "B4"],
    ),
    variant(
        "delivery.direct_then_relay",
        "pushes to the socket first and stores only what has no live route",
        "the reference system's literal flow",
        ["gateway-kill", "M9"],
    )
    .in_arm("silent"),
    variant(
        "delivery.trim_on_write",
        "deletes a queue item when it is written to the socket, before the device acknowledged it",
        "ejabberd#417, #1160, #3228",
        ["half-open-clients", "M9"],
    ),
    variant(
        "gateway.no_heartbeat",
        "sends no pings and never closes a silent connection",
        "no public report known",
        ["half-open-clients", "H1"],
    ),
    variant(
        "log.read_past_watermark",
        "shows readers records that are not replicated yet",
        "no public report known",
        ["kafka-broker-kill", "M10"],
    ),
    variant(
        "messaging.ack_before_append",
        "answers `sent` when the send arrives, before it is durable",
        "no public report known",
        ["kafka-below-min-isr", "M1"],
    ),
    variant(
        "messaging.cold_start",
        "a new owner of a partition starts with an empty fold",
        "no public report known",
        ["service-kill", "M6"],
    ),
    variant(
        "messaging.random_mid",
        "draws a new `mid` each time a record is folded",
        "no public report known",
        ["sequencer-freeze", "M10"],
    ),
    variant(
        "relay.no_pull_on_break",
        "trusts live pushes: no pull after a broken stream or at a `dseq` hole",
        "no public report known",
        ["service-kill", "M9"],
    ),
    variant(
        "resume.node_local",
        "honours a resume cursor only on the node that gave it out",
        "mattermost#29489, MongooseIM#4280",
        ["gateway-kill", "M9"],
    ),
    variant(
        "sessions.compare_node_only",
        "a late close removes the newer route of the same device on the same node",
        "Signal-Server 8c7975d8, 830a0701",
        ["half-open-clients", "S3"],
    ),
    variant(
        "sessions.delete_unconditional",
        "a late close removes whatever route the device has by then",
        "Signal-Server 8c7975d8, 830a0701",
        ["half-open-clients", "S3"],
    ),
    variant(
        "sessions.no_lease",
        "routes outlive their node: no lease, no sweep",
        "MongooseIM#406, #428, #4463, Rocket.Chat#27145, phoenix#2306",
        ["gateway-kill", "S2"],
    )
    .in_arm("silent"),
    variant(
        "sessions.no_self_fence",
        "a gateway that cannot renew its lease goes on serving",
        "Rocket.Chat#27145",
        ["registry-cut", "S1"],
    ),
];

/// The names, for checking files.
pub fn names() -> Vec<&'static str> {
    VARIANTS.iter().map(|variant| variant.name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_are_sorted_and_have_one_row_each() {
        assert!(VARIANTS.windows(2).all(|pair| pair[0].name < pair[1].name));
    }
}
