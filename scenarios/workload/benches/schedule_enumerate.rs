//! Cost of enumerating the schedule: at most 150 ns an intent.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use storm_workload::catalog::SCENARIOS;
use storm_workload::plan::{Overrides, Plan};
use storm_workload::schedule::Schedule;

fn schedule_enumerate(c: &mut Criterion) {
    let plan = Plan::resolve("messenger-18k", &SCENARIOS, &Overrides::default(), &[])
        .expect("a shipped file resolves");
    let steady =
        plan.phases.iter().position(|p| p.name == "steady").expect("the file has a steady phase");
    let count = plan.phases[steady].count();
    let schedule = Schedule::new(Arc::new(plan));
    let mut group = c.benchmark_group("schedule_enumerate");
    group.throughput(Throughput::Elements(count)).sample_size(10);
    group.bench_function("messenger-18k steady", |b| {
        b.iter(|| {
            schedule.enumerate(steady).fold(0_u64, |sum, intent| sum ^ black_box(intent).due_ns)
        });
    });
    group.finish();
}

criterion_group!(benches, schedule_enumerate);
criterion_main!(benches);
