//! What shards count reaches the recorder of the `metrics` facade, once and under its names.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;

use metrics::{
    Counter, CounterFn, Gauge, GaugeFn, Histogram, HistogramFn, Key, KeyName, Metadata, Recorder,
    SharedString, Unit,
};
use parking_lot::Mutex;
use sapwood::io::sim::{Faults, SimStorage};
use sapwood::{Config, Engine, Publisher};

/// Values by name and labels; a histogram is the count of its values.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    values: BTreeMap<String, f64>,
    described: Vec<String>,
}

struct One(Kept, String);

impl One {
    fn set(&self, change: impl FnOnce(f64) -> f64) {
        let mut state = self.0.0.lock();
        let value = state.values.entry(self.1.clone()).or_default();
        *value = change(*value);
    }
}

impl CounterFn for One {
    fn increment(&self, by: u64) {
        self.set(|value| value + by as f64);
    }
    fn absolute(&self, to: u64) {
        self.set(|value| value.max(to as f64));
    }
}

impl GaugeFn for One {
    fn increment(&self, by: f64) {
        self.set(|value| value + by);
    }
    fn decrement(&self, by: f64) {
        self.set(|value| value - by);
    }
    fn set(&self, to: f64) {
        self.set(|_| to);
    }
}

impl HistogramFn for One {
    fn record(&self, value: f64) {
        assert!(value >= 0.0);
        self.set(|count| count + 1.0);
    }
}

impl Kept {
    fn of(&self, key: &Key) -> Arc<One> {
        let mut name = key.name().to_owned();
        for label in key.labels() {
            name += &format!(" {}={}", label.key(), label.value());
        }
        Arc::new(One(self.clone(), name))
    }

    fn describe(&self, name: &KeyName) {
        self.0.lock().described.push(name.as_str().to_owned());
    }

    fn get(&self, name: &str) -> f64 {
        let state = self.0.lock();
        *state.values.get(&format!("{name} node=a shard=0")).unwrap()
    }
}

impl Recorder for Kept {
    fn describe_counter(&self, name: KeyName, _: Option<Unit>, _: SharedString) {
        self.describe(&name);
    }
    fn describe_gauge(&self, name: KeyName, _: Option<Unit>, _: SharedString) {
        self.describe(&name);
    }
    fn describe_histogram(&self, name: KeyName, _: Option<Unit>, _: SharedString) {
        self.describe(&name);
    }
    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.of(key))
    }
    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.of(key))
    }
    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.of(key))
    }
}

#[test]
fn what_was_counted_is_handed_over_once() {
    let disk = SimStorage::new(1, Faults::default());
    let config = Config { segment_bytes: 1 << 20, ..Config::new("simulated") };
    let config = Config { batch_bytes_max: 64 << 10, record_bytes_max: 32 << 10, ..config };
    let (engine, drivers) = Engine::open_on(Arc::new(disk), config).unwrap();
    let _driving: Vec<_> = drivers.into_iter().map(|driver| driver.bind().unwrap()).collect();
    let writer = engine.log("orders").unwrap().writer().unwrap();
    let recorder = Kept::default();
    let mut publisher = Publisher::new(&[("node", "a")]);
    metrics::with_local_recorder(&recorder, || {
        publisher.describe();
        for round in 1..=3 {
            for _ in 0..10 {
                writer.append(b"x").wait().unwrap();
            }
            publisher.publish(&engine);
            publisher.publish(&engine);
            let shard = engine.metrics().remove(0);
            assert_eq!(shard.records, round * 10);
            assert_eq!(recorder.get("sapwood_records_total"), shard.records as f64);
            assert_eq!(recorder.get("sapwood_batches_total"), shard.batches as f64);
            assert_eq!(recorder.get("sapwood_ack_seconds"), shard.batches as f64);
            assert_eq!(recorder.get("sapwood_device_seconds"), shard.device_ns.count() as f64);
            assert_eq!(recorder.get("sapwood_records_per_batch"), shard.batches as f64);
            assert_eq!(recorder.get("sapwood_stage_bytes"), shard.stage_bytes as f64);
        }
    });
    // Each name that is published was described.
    let state = recorder.0.lock();
    let names: Vec<_> = state.values.keys().map(|key| key.split(' ').next().unwrap()).collect();
    assert!(names.len() > 20);
    for name in names {
        assert!(state.described.iter().any(|described| described == name), "{name}");
    }
    drop(state);
    engine.close().unwrap();
}
