//! Stories over the shipped scenarios: what a plan promises, whoever enumerates it.

use std::sync::Arc;

use crate::catalog::SCENARIOS;
use crate::document::{Document, FileErrors, SourceText};
use crate::plan::{FaultWindows, Overrides, Plan, Window};
use crate::population::DeviceIx;
use crate::schedule::{Number, Schedule, schedule_hash, shard_hash};
use crate::units::Time;

const HEAD: &str = "format: 1\nname: t\nseed: 3\n";

fn plan_of(text: &str) -> Result<Plan, FileErrors> {
    let doc = Document::read(&SourceText::new("t.yaml", text))?;
    Ok(Plan::resolve_document(&doc, &Overrides::default(), &["log.read_past_watermark"])?.0)
}

fn small(streams: &str, phases: &str) -> Plan {
    let text = format!(
        "{HEAD}population: {{users: 60, community: 20, online: 0.9, devices: {{1: 0.5, 2: 0.5}}}}\n\
         sessions: {{churn: 50%/min, away: {{uniform: {{min: 1s, max: 4s}}}}}}\n\
         streams: {{{streams}}}\nphases: [{phases}, {{name: drain, role: drain, until: settled, limit: 10s}}]\n"
    );
    plan_of(&text).unwrap_or_else(|errors| panic!("{errors}"))
}

fn steady(streams: &str, length: &str) -> Schedule {
    Schedule::new(Arc::new(small(
        streams,
        &format!("{{name: steady, role: steady, for: {length}, load: {{hold: 1.0}}}}"),
    )))
}

fn messages(text: &str) -> String {
    plan_of(text).unwrap_err().to_string()
}

#[test]
fn shipped_scenarios_resolve_at_every_scale() {
    for name in SCENARIOS.names() {
        for scale in [None, Some("ci"), Some("0.3")] {
            let overrides =
                Overrides { scale: scale.map(|s| s.parse().unwrap()), ..Overrides::default() };
            let plan = Plan::resolve(name, &SCENARIOS, &overrides, &[])
                .unwrap_or_else(|errors| panic!("{errors}"));
            assert_eq!(plan.name, name);
            assert!(plan.summary().contains("estimates"));
        }
    }
}

#[test]
fn the_headline_scenario_plans_what_it_says() {
    let plan = Plan::resolve("messenger-18k", &SCENARIOS, &Overrides::default(), &[]).unwrap();
    assert_eq!(plan.steady().unwrap().count(), 18_000 * 60);
    assert_eq!((plan.population().users(), plan.population().devices()), (3_000, 3_900));
    assert_eq!(plan.population().online_users().len(), 2_700);
    let ci = Overrides { scale: Some("ci".parse().unwrap()), ..Overrides::default() };
    let plan = Plan::resolve("messenger-18k", &SCENARIOS, &ci, &[]).unwrap();
    assert_eq!((plan.population().users(), plan.steady().unwrap().count()), (600, 3_000));
}

#[test]
fn ten_minutes_fire_exactly_the_plan() {
    for arrival in ["uniform", "poisson"] {
        let schedule = steady(&format!("chat: {{rate: 777.7/s, arrival: {arrival}}}"), "10m");
        let mut last = 0;
        let mut count = 0;
        for (k, intent) in (0_u64..).zip(schedule.enumerate(0)) {
            assert_eq!(intent.number, Number { stream: 0, k });
            assert!(intent.due_ns >= last && intent.due_ns < 600_000_000_000);
            last = intent.due_ns;
            count += 1;
        }
        assert_eq!(count, 466_620, "{arrival}");
        assert_eq!(schedule.plan().numbers_of(0), count);
    }
}

#[test]
fn uniform_arrivals_do_not_drift() {
    let schedule = steady("chat: {rate: 1000/s, arrival: uniform}", "100s");
    for (k, intent) in (0_u64..).zip(schedule.enumerate(0)) {
        assert!(intent.due_ns.abs_diff(k * 1_000_000) <= 1, "{k}: {}", intent.due_ns);
    }
}

#[test]
fn a_ramp_sends_its_area_and_rises() {
    let plan = small(
        "chat: {rate: 1000/s}",
        "{name: up, role: warm-up, for: 10s, load: {ramp: {from: 0.0, to: 1.0}}}, {name: down, role: stress, for: 10s, \
         load: {ramp: {from: 1.0, to: 0.0}}}, {name: steady, role: steady, for: 5s, load: {hold: 2.0}}",
    );
    assert_eq!(
        plan.phases.iter().map(super::plan::Phase::count).collect::<Vec<_>>(),
        [5_000, 5_000, 10_000, 0]
    );
    let first_second: u64 = plan.phases[0].streams[0].segments[..10].iter().map(|s| s.count).sum();
    assert_eq!(first_second, 50);
    assert_eq!(plan.phases[2].streams[0].first_k, 10_000);
    assert_eq!(plan.phases[2].from_ns, Some(20_000_000_000));
}

#[test]
#[expect(clippy::cast_precision_loss, reason = "a statistic of small numbers")]
fn poisson_gaps_pass_kolmogorov_smirnov() {
    let schedule = steady("chat: {rate: 1000/s}", "30s");
    let due: Vec<u64> = schedule.enumerate(0).map(|i| i.due_ns).collect();
    let mut gaps: Vec<f64> = due.windows(2).map(|w| (w[1] - w[0]) as f64 / 1e6).collect();
    gaps.sort_by(f64::total_cmp);
    let n = gaps.len() as f64;
    let distance = gaps
        .iter()
        .enumerate()
        .map(|(i, gap)| ((1.0 - (-gap).exp()) - i as f64 / n).abs())
        .fold(0.0, f64::max);
    // The critical value at a significance of 0.1 %.
    assert!(distance < 1.95 / n.sqrt(), "{distance}");
}

#[test]
fn two_streams_are_merged_in_due_order() {
    let schedule = steady("a: {rate: 100/s}, b: {rate: 37/s, arrival: uniform}", "20s");
    let intents: Vec<_> = schedule.enumerate(0).collect();
    assert_eq!(intents.len(), 2_740);
    assert!(intents.windows(2).all(|w| w[0].due_ns <= w[1].due_ns));
    assert_eq!(intents.iter().filter(|i| i.number.stream == 1).count(), 740);
}

#[test]
fn same_seed_gives_the_same_hash_with_one_two_and_four_shards() {
    let schedule = steady("chat: {rate: 500/s}", "20s");
    let whole = schedule_hash(&schedule);
    for shards in [1, 2, 4] {
        let parts = (0..shards).map(|s| shard_hash(&schedule, s, shards));
        assert_eq!(parts.fold(0, u64::wrapping_add), whole);
    }
    assert_eq!(schedule_hash(&steady("chat: {rate: 500/s}", "20s")), whole);
    let mut other = Plan::clone(schedule.plan());
    other.seed += 1;
    let other: Plan = serde_json::from_str(&serde_json::to_string(&other).unwrap()).unwrap();
    assert_ne!(other.hash(), schedule.plan().hash());
    assert_ne!(schedule_hash(&Schedule::new(Arc::new(other))), whole);
}

#[test]
fn a_stored_plan_gives_the_same_world() {
    let schedule = steady("chat: {rate: 500/s}", "5s");
    let stored: Plan =
        serde_json::from_str(&serde_json::to_string(schedule.plan().as_ref()).unwrap()).unwrap();
    assert_eq!(stored.hash(), schedule.plan().hash());
    assert_eq!(schedule_hash(&Schedule::new(Arc::new(stored))), schedule_hash(&schedule));
}

#[test]
fn bodies_and_keys_are_pure_functions_of_the_number() {
    let schedule = steady("chat: {rate: 500/s}", "5s");
    let (one, two) = (Number { stream: 0, k: 1 }, Number { stream: 0, k: 2 });
    assert_ne!(schedule.cid(one), schedule.cid(two));
    let mut body = Vec::new();
    schedule.payload_into(one, 77, &mut body);
    assert_eq!(body.len(), 77);
    assert!(schedule.payload_matches(one, &body));
    assert!(!schedule.payload_matches(two, &body));
}

#[test]
fn senders_are_planned_online_and_recipients_are_their_contacts() {
    let schedule = steady("chat: {rate: 200/s}", "2m");
    let people = schedule.population();
    let mut away = 0;
    for intent in schedule.enumerate(0) {
        assert!(people.planned_online(intent.sender, intent.due_ns));
        let (user, place) = people.split(intent.sender);
        assert_eq!(people.device(user, place), Some(intent.sender));
        assert!(people.contacts_of(user).contains(&intent.to_user));
        assert_ne!(user, intent.to_user);
        assert_eq!(people.community_of(user), people.community_of(intent.to_user));
        away += u32::from(people.planned_offline(intent.to_user));
    }
    assert!(away > 0, "messages for absent users are part of the load");
}

#[test]
fn population_has_its_shares_and_everybody_returns_for_the_drain() {
    let plan =
        small("chat: {rate: 10/s}", "{name: steady, role: steady, for: 2m, load: {hold: 1.0}}");
    let people = plan.population();
    assert_eq!((people.users(), people.devices(), people.communities()), (60, 90, 3));
    assert_eq!(people.online_users().len(), 54);
    let mut absences = 0;
    for device in (0..people.devices()).map(DeviceIx) {
        let own = people.absences(device);
        absences += own.len();
        assert!(own.iter().all(|(leave, back)| leave < back && *back <= plan.load_end_ns()));
        assert!(own.windows(2).all(|w| w[0].1 <= w[1].0));
        assert!(people.planned_online(device, plan.load_end_ns()));
        if let Some((leave, _)) = own.first() {
            assert!(!people.planned_online(device, *leave));
        }
    }
    // Half of about 81 devices leave each minute for two minutes.
    assert!((50..115).contains(&absences), "{absences}");
    let shards: Vec<u32> = (0..60).map(|user| plan.shard_of(user, 3)).collect();
    assert!(shards.windows(2).all(|w| w[0] <= w[1]));
    assert_eq!(shards.iter().filter(|s| **s == 1).count(), 20);
}

#[test]
fn experiment_windows_hold_the_steady_load_before_the_drain() {
    let plan =
        small("chat: {rate: 100/s}", "{name: steady, role: steady, for: 10s, load: {hold: 1.0}}");
    let plan = plan.with_windows(FaultWindows {
        fault: Time::seconds(6),
        heal: Time::seconds(3),
        recovery: Time::seconds(6),
    });
    let windows: Vec<Window> = plan.phases.iter().map(|p| p.window).collect();
    assert_eq!(
        windows,
        [Window::Steady, Window::Fault, Window::Heal, Window::Recovery, Window::Drain]
    );
    assert_eq!(
        plan.phases.iter().map(super::plan::Phase::count).collect::<Vec<_>>(),
        [1_000, 600, 300, 600, 0]
    );
    assert_eq!(plan.phases[3].streams[0].first_k, 1_900);
    assert_eq!(plan.load_end_ns(), 25_000_000_000);
}

#[test]
fn impossible_scenarios_are_refused_with_every_reason() {
    let text = format!(
        "{HEAD}system: {{gateways: 0, variants: [log.read_past_watermrak], nodes: [{{name: a, roles: [relay]}}]}}\n\
         population: {{users: 60, devices: {{1: 0.5}}}}\n\
         streams: {{chat: {{rate: 10/s, deadline: 2s}}}}\n\
         phases: [{{name: steady, role: steady, for: 10s, until: settled, load: {{hold: 1}}}}]\n\
         slo:\n\
         - {{name: a, metric: message.delivered, stat: p99, max: 3s}}\n\
         - {{name: a, metric: message.accepted, stat: p99, max: 10ms}}\n\
         - {{name: c, metric: message.goodput, stat: p99, min: 0.9}}\n\
         - {{name: d, metric: message.delivered, stat: p99, max: 0.5, over: stedy}}\n\
         - {{name: e, metric: message.accepted, stat: p99, max_factor: 1.2, baseline: contrl}}\n"
    );
    let found = messages(&text);
    for part in [
        "0 gateways cannot run",
        "did you mean `log.read_past_watermark`?",
        "no node hosts the role `sessions`",
        "the shares sum to 0.5, not to 1",
        "`for` and `until` exclude each other",
        "the last phase must drain",
        "t.yaml:9:56: this bound lies above the deadline of 2s",
        "two gates are named `a`",
        "under the floor of 100ms",
        "`message.goodput` has no `p99`",
        "is a time",
        "did you mean `steady`?",
        "unknown baseline `contrl`",
    ] {
        assert!(found.contains(part), "{part} in\n{found}");
    }
}

#[test]
fn an_unknown_metric_names_the_nearest_one() {
    let text = format!(
        "{HEAD}population: {{users: 60}}\nstreams: {{chat: {{rate: 10/s}}}}\nphases: []\n\
         slo: [{{name: a, metric: mesage.deliverd, stat: p99, max: 3s}}]\n"
    );
    assert!(messages(&text).contains("did you mean `message.delivered`?"), "{}", messages(&text));
}

#[test]
fn names_and_paths_are_told_apart() {
    let overrides = Overrides::default();
    let error = Plan::resolve("smoek", &SCENARIOS, &overrides, &[]).unwrap_err().to_string();
    assert!(error.contains("did you mean `smoke`?"), "{error}");
    let error =
        Plan::resolve("./nowhere.yaml", &SCENARIOS, &overrides, &[]).unwrap_err().to_string();
    assert!(error.contains("cannot be read"), "{error}");
}

#[test]
fn overrides_of_the_command_line_change_the_plan() {
    let overrides = Overrides {
        sets: vec!["streams.chat.rate=5.4k/s".to_owned()],
        steady_for: Some(Time::seconds(20)),
        seed: Some(9),
        ..Overrides::default()
    };
    let plan = Plan::resolve("messenger-18k", &SCENARIOS, &overrides, &[]).unwrap();
    assert_eq!((plan.steady().unwrap().count(), plan.seed), (108_000, 9));
    let wrong =
        Overrides { sets: vec!["streams.chat.raet=5.4k/s".to_owned()], ..Overrides::default() };
    let error = Plan::resolve("messenger-18k", &SCENARIOS, &wrong, &[]).unwrap_err().to_string();
    assert!(error.contains("--set:1:") && error.contains("did you mean `rate`?"), "{error}");
}

#[test]
fn a_file_inherits_from_the_catalog_and_may_not_take_its_names() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let overrides = Overrides::default();
    let resolve = |path: &str| {
        Plan::resolve(path, &SCENARIOS, &overrides, &[]).map_err(|errors| errors.to_string())
    };

    let child = write(
        "child.yaml",
        "name: child\nextends: smoke\nstreams: {chat: {rate: 50/s}}\nslo: []\n",
    );
    let plan = resolve(&child).unwrap();
    assert_eq!((plan.name.as_str(), plan.seed, plan.gates.len()), ("child", 7, 0));
    assert_eq!(plan.steady().unwrap().count(), 750);

    let grandchild =
        write("grandchild.yaml", &format!("name: grandchild\nextends: {child}\nseed: 8\n"));
    assert_eq!(resolve(&grandchild).unwrap().seed, 8);

    let circle = write("circle.yaml", "placeholder: 1\n");
    std::fs::write(&circle, format!("name: circle\nextends: {circle}\n")).unwrap();
    assert!(resolve(&circle).unwrap_err().contains("inherits from itself"));

    let same = write("same.yaml", "name: smoke\nextends: smoke\n");
    assert!(resolve(&same).unwrap_err().contains("the catalog has another scenario of this name"));
    let copy = write("copy.yaml", SCENARIOS.get("smoke").unwrap());
    assert_eq!(resolve(&copy).unwrap().name, "smoke");

    let wrong = write("wrong.yaml", "name: wrong\nextends: smoke\npopulation: {users: 1}\n");
    let error = resolve(&wrong).unwrap_err();
    assert!(error.contains("wrong.yaml:3:") && error.contains("a chat needs two users"), "{error}");
}
