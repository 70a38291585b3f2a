//! Reports made by hand for the tests of the renderers.
use std::collections::BTreeMap;

use storm_judge::finding::{Finding, Outcome, Violation};
use storm_judge::report::{
    BatchRow, Commands, CpuGroup, FaultReport, GateResult, GuardResult, Hypothesis, Identity,
    LatencyRow, LedgerReport, Quantity, RecoveryReport, Report, SCHEMA, WindowRow,
};
use storm_judge::verdict::{Reason, Verdict};

fn finding(id: &str, demands: &str, outcome: Outcome) -> Finding {
    Finding {
        id: id.into(),
        demands: demands.into(),
        outcome,
        reason: None,
        cases: 12_500,
        violations: 0,
        basis: Vec::new(),
        weak: Vec::new(),
        evidence: Vec::new(),
    }
}

fn row(metric: &str, path: &str, basis: &str, samples: u64, ms: [u64; 3]) -> LatencyRow {
    let [p50, p99, p999] = ms.map(|ms| Quantity::Ns(ms * 1_000_000));
    LatencyRow {
        window: "steady".into(),
        metric: metric.into(),
        path: path.into(),
        basis: basis.into(),
        samples,
        censored: 0,
        p50,
        p99,
        p999,
        max: p999,
    }
}

/// A gateway kill that passes.
pub(crate) fn passed() -> Report {
    let gate = GateResult {
        name: "delivered".into(),
        of: "steady-state".into(),
        metric: "message.delivered".into(),
        stat: "p99".into(),
        over: "steady".into(),
        bound: "<= 250ms".into(),
        limit: Some(Quantity::Ns(250_000_000)),
        value: Some(Quantity::Ns(61_000_000)),
        samples: 8_213,
        outcome: Outcome::Pass,
        reason: None,
        fails: true,
    };
    Report {
        schema: SCHEMA.into(),
        verdict: Verdict::Pass,
        exit_code: 0,
        reasons: Vec::new(),
        headline: "every promise held".into(),
        hypothesis: Some("Killing one of three gateways loses nothing.".into()),
        hypothesis_is: Some(Hypothesis::Held),
        identity: Identity {
            run: "20261121-063522-7f3a".into(),
            version: "0.1.0".into(),
            substrate: "embedded".into(),
            scenario: "messenger-18k".into(),
            experiment: Some("gateway-kill".into()),
            arm: None,
            seed: 42,
            scale: "ci".into(),
            plan_hash: "5f1c".into(),
            binary: "77aa".into(),
            host: "x86_64, 2 cores, 8 GiB".into(),
            variants: Vec::new(),
            settings: BTreeMap::new(),
            servers: BTreeMap::new(),
            started_ms: 1_795_242_922_000,
        },
        findings: vec![
            finding("M1", "every accepted message surfaces", Outcome::Pass),
            finding("M9", "what is owed comes through the relay", Outcome::Pass),
            finding("B2", "the synchrony index is at most 4", Outcome::NotApplicable),
        ],
        gates: vec![
            gate.clone(),
            GateResult { name: "back".into(), of: "kill-one".into(), over: "fault".into(), ..gate },
        ],
        guards: vec![GuardResult {
            name: "lag_p99".into(),
            shows: "lag p99 0.40 ms in steady, at most 5.00 ms".into(),
            tripped: false,
            reason: Reason::GeneratorSaturated,
            counts_for_generator: true,
        }],
        windows: vec![WindowRow {
            window: "steady".into(),
            kind: "steady".into(),
            ..WindowRow::default()
        }],
        latency: vec![
            row("message.accepted", "all", "response", 1_500, [4, 12, 20]),
            row("message.accepted", "all", "service", 1_500, [3, 11, 19]),
            row("message.delivered", "all", "response", 8_213, [7, 61, 90]),
            row("message.delivered", "same-node", "response", 2_700, [6, 55, 80]),
            row("message.delivered", "all", "service", 8_213, [6, 60, 88]),
        ],
        ledger: LedgerReport {
            planned: 12_500,
            submitted: 12_500,
            accepted: 12_500,
            owed: 16_250,
            delivered: 16_250,
            ..LedgerReport::default()
        },
        faults: vec![FaultReport {
            step: "kill-one".into(),
            kind: "kill".into(),
            targets: vec!["gateway-2".into()],
            injected_ms: Some(9_000),
            witnessed_ms: Some(9_200),
            detected_ms: Some(150),
            healing_ms: Some(13_000),
            healed_ms: Some(13_400),
            evidence: vec!["connections cut 0 -> 231, required >= 200".into()],
            healing: vec!["ready 0 -> 1, required 1".into()],
            trouble: None,
        }],
        recovery: Some(RecoveryReport {
            healed_ms: 13_400,
            took_ms: Some(1_200),
            within_ms: 15_000,
        }),
        cpu: vec![CpuGroup {
            group: "generator".into(),
            cpu_s: 0.9,
            cores: 0.18,
            us_a_send: 36.4,
            busiest: "storm-io-0 at 15 %".into(),
            parts: BTreeMap::from([("storm-io-0".into(), 0.15), ("storm-sched-0".into(), 0.03)]),
        }],
        batches: Vec::new(),
        control: None,
        coverage: Vec::new(),
        damaged: Vec::new(),
        commands: Commands {
            repeat: "chatstorm run gateway-kill --scale ci --seed 42".into(),
            again: "chatstorm report 20261121-063522-7f3a".into(),
        },
    }
}

/// The same run on real backends.
pub(crate) fn on_containers() -> Report {
    let mut report = passed();
    report.identity.substrate = "containers".into();
    report.identity.servers = BTreeMap::from([("kafka-1".into(), "4.1.0".into())]);
    report.cpu.push(CpuGroup {
        group: "backends".into(),
        cpu_s: 1.6,
        cores: 0.32,
        us_a_send: 1_066.0,
        busiest: "chat-kafka-1 26 %".into(),
        parts: BTreeMap::from([("chat-kafka-1".into(), 0.26), ("chat-redis".into(), 0.06)]),
    });
    report.cpu.push(CpuGroup {
        group: "gateways".into(),
        cpu_s: 0.5,
        cores: 0.1,
        us_a_send: 333.0,
        busiest: "gw-gateway-1 10 %".into(),
        parts: BTreeMap::from([("gw-gateway-1".into(), 0.1)]),
    });
    report.batches.push(BatchRow {
        backend: "kafka".into(),
        unit: "records a batch".into(),
        mean: 2.64,
        a_second: 113.7,
    });
    report
}

/// The same run with a broken promise, an open check, a missed gate and a tripped guard.
pub(crate) fn failed() -> Report {
    let mut report = passed();
    report.verdict = Verdict::Fail;
    report.exit_code = 11;
    report.headline = "M9 is broken".into();
    report.hypothesis_is = Some(Hypothesis::Deviated);
    report.reasons = vec![Reason::NoControl];
    report.identity.variants = vec!["resume.node_local".into()];
    let relay = &mut report.findings[1];
    relay.outcome = Outcome::Fail;
    relay.violations = 12;
    relay.evidence = vec![Violation {
        what: "a message was skipped at a resume that said `ok`".into(),
        number: Some("chat/1234".into()),
        sender: Some("u17.0".into()),
        recipient: Some("u21.1".into()),
        route: Some("gateway-1, connection epoch 1795242922101".into()),
        at_ms: Some(10_250),
        window: Some("fault".into()),
        faults: vec!["kill-one (kill gateway-2)".into()],
        observed: vec![
            "accepted at 9.870 s as mid 01930000, cseq 7".into(),
            "offered cursor 41, resumed at 44".into(),
        ],
    }];
    let mut open = finding("A2", "the system is back in time", Outcome::Inconclusive);
    open.reason = Some(Reason::NoControl);
    open.basis = vec!["there is no control run".into()];
    report.findings.push(open);
    let gate = &mut report.gates[1];
    gate.outcome = Outcome::Fail;
    gate.value = Some(Quantity::AtLeast(30_000_000_000));
    report.guards[0].tripped = true;
    report.guards[0].shows = "lag p99 7.10 ms in fault, at most 5.00 ms".into();
    report.ledger.lost = 12;
    report.recovery = Some(RecoveryReport { took_ms: None, ..report.recovery.unwrap() });
    report
}
