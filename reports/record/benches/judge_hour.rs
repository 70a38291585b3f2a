//! What evidence costs: memory of the planes of an hour at 18,000 sends a second, and time an event, a sample and a slice.
//!
//! Limits: 50 ns an event of the ledger, 10 ns a sample, 270 MB for the hour. A line that breaks its limit says so.
//!
//! `cargo bench -p storm-record --bench judge_hour` runs a tenth of the hour; `-- full` all of it (64.8 million sends to three
//! devices each, 200,000 devices, 5 million pairs). Figures are CPU time of the one thread.
#![expect(clippy::cast_precision_loss, reason = "figures for people")]
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
use chat_protocol::{ConvId, Mid, UserId};
use storm_record::ledger::{Accepted, LedgerConfig, StreamShape, Surfaced};
use storm_record::series::SeriesKey;
use storm_record::sink::Sink;
use storm_record::{Ledger, Number, Recorder};
use storm_workload::gate::Path;
use storm_workload::metrics::Metric;

const SENDS_FULL: u64 = 64_800_000;
const DEVICES: u32 = 200_000;
/// Two devices a user, ten conversations each: one million conversations, four pairs in each, and some more.
const USERS: u32 = DEVICES / 2;
const CONTACTS: u64 = 10;

/// Most nanoseconds an event of the ledger.
const EVENT_NS: f64 = 50.0;
/// Most nanoseconds a sample.
const SAMPLE_NS: f64 = 10.0;
/// Most megabytes of planes, pairs and ring for the hour.
const HOUR_MB: f64 = 270.0;

/// What stands behind a figure that has a limit.
fn limit(figure: f64, most: f64) -> String {
    let word = if figure <= most { "within" } else { "ABOVE" };
    format!("({word} the limit of {most})")
}

fn cpu_ns() -> u64 {
    let stamp = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    u64::try_from(stamp.tv_sec).unwrap_or(0) * 1_000_000_000
        + u64::try_from(stamp.tv_nsec).unwrap_or(0)
}

fn mix(k: u64) -> u64 {
    let z = (k ^ k >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb)
}

fn main() {
    let full = std::env::args().any(|arg| arg == "full");
    let sends = if full { SENDS_FULL } else { SENDS_FULL / 10 };
    events(sends);
    samples();
}

fn events(sends: u64) {
    let streams = vec![StreamShape { numbers: SENDS_FULL, slots: 3 }];
    let pairs = 4_300_000;
    let mut ledger = Ledger::new(LedgerConfig { shard: 0, streams, devices: DEVICES, pairs });
    let mut tops = vec![0_u16; usize::try_from(u64::from(USERS) * CONTACTS).unwrap_or(0)];
    // Messages of one second are drawn first, so that drawing is not measured; sends come back after a fixed delay.
    let mut batch = Vec::with_capacity(18_000);
    let (mut spent, mut events) = (0, 0_u64);
    let mut k = 0;
    while k < sends {
        batch.clear();
        for _ in 0..18_000.min(sends - k) {
            let draw = mix(k);
            let user = u32::try_from(draw % u64::from(USERS)).unwrap_or(0);
            // The nearest contacts are written to most, as people do.
            let near = (draw >> 40) % CONTACTS * ((draw >> 20) % CONTACTS) / CONTACTS;
            let peer = (user + 1 + u32::try_from(near).unwrap_or(0)) % USERS;
            let (low, high) = (user.min(peer), user.max(peer));
            let top = &mut tops[usize::try_from(u64::from(user) * CONTACTS + near).unwrap_or(0)];
            *top = top.saturating_add(1);
            let Some(conv) = ConvId::direct(UserId(u64::from(low)), UserId(u64::from(high))) else {
                continue;
            };
            batch.push((k, user, peer, conv, u64::from(*top)));
            k += 1;
        }
        let start = cpu_ns();
        for (k, user, peer, conv, cseq) in &batch {
            let n = Number { stream: 0, k: *k };
            let mid = Mid::from_bytes(&[(k % 251).to_le_bytes(), k.to_le_bytes()].concat())
                .unwrap_or(Mid::from_bytes(&[0; 16]).expect("16 bytes"));
            let at_ns = k * 55_555;
            ledger.submitted(n);
            ledger.accepted(&Accepted {
                n,
                sender: user * 2,
                peer: *peer,
                conv: *conv,
                cseq: *cseq,
                mid,
                order_ns: at_ns,
                at_ns,
            });
            for (slot, device, peer) in
                [(0, peer * 2, *user), (1, peer * 2 + 1, *user), (2, user * 2 + 1, *peer)]
            {
                ledger.surfaced(&Surfaced {
                    n: Some(n),
                    intact: true,
                    device,
                    slot: Some(slot),
                    peer,
                    conv: *conv,
                    cseq: *cseq,
                    mid,
                    backfilled: false,
                    announced: false,
                    conn_epoch: 0,
                    at_ns,
                });
            }
        }
        spent += cpu_ns() - start;
        events += batch.len() as u64 * 5;
    }
    let each = spent as f64 / events as f64;
    println!(
        "judge_hour      {each:>8.1} ns an event {} over {events} events, {} pairs, {} rows",
        limit(each, EVENT_NS),
        ledger.pairs().len(),
        ledger.rows.len()
    );
    let planes = ledger.bytes() as f64 / 1e6;
    let whole = planes + (SENDS_FULL - sends) as f64 * 6.0 / 8.0 / 1e6;
    let allowed = limit(whole, HOUR_MB);
    println!("judge_memory    {planes:>8.1} MB now, {whole:.1} MB for the hour {allowed}");
    let start = cpu_ns();
    let checkpoint = ledger.checkpoint(false);
    println!("checkpoint      {:>8.2} ms for all blocks at once", (cpu_ns() - start) as f64 / 1e6);
    drop(checkpoint);
}

fn samples() {
    let (mut recorder, feed) = Recorder::new();
    let mut sink = Sink::new(vec![feed]);
    let paths = [Path::SameNode, Path::CrossNode, Path::Relay];
    let series: Vec<_> = Metric::ALL
        .iter()
        .flat_map(|metric| paths.map(|path| SeriesKey::of(*metric).on(path)))
        .take(24)
        .map(|key| recorder.series(key))
        .collect();
    let count = 20_000_000_u64;
    let start = cpu_ns();
    for k in 0..count {
        recorder.record_due(
            series[usize::try_from(k % 24).unwrap_or(0)],
            k,
            1_000_000 + (mix(k) & 0xff_ffff),
        );
    }
    let each = (cpu_ns() - start) as f64 / count as f64;
    println!("record_sample   {each:>8.2} ns {}", limit(each, SAMPLE_NS));
    let start = cpu_ns();
    recorder.tick(1_000_000_000);
    println!("slice_hand_over {:>8.3} ms", (cpu_ns() - start) as f64 / 1e6);
    let start = cpu_ns();
    recorder.finish(2_000_000_000);
    let slices = sink.poll();
    println!(
        "slice_close     {:>8.3} ms for {} series in the sink",
        (cpu_ns() - start) as f64 / 1e6,
        slices[0].series.len()
    );
}
