//! What must be true of every picture: the contract after a crash, and that it stays true.
//!
//! Invariant: the judge knows only what callers were told. Not here: taking pictures.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use sapwood::archive::Archive;
use sapwood::io::Storage;
use sapwood::io::sim::SimStorage;
use sapwood::{Batch, Components, Config, Driving, Engine, Epoch, From, Lsn, Ticket, Writer};

use super::{Cut, Tap};

/// What callers know of one log.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Known {
    /// Its creation was answered.
    pub(crate) created: bool,
    pub(crate) acked: u64,
    pub(crate) staged: u64,
    /// The last epoch that was handed out.
    pub(crate) epoch: Epoch,
    /// The start: what callers were told, and the highest that was asked for.
    pub(crate) start: u64,
    pub(crate) start_asked: u64,
    /// Its deletion was asked for: it may be gone.
    pub(crate) doomed: bool,
    /// Its deletion was answered: it is gone, unless one of its name was asked for again.
    pub(crate) gone: bool,
    pub(crate) asked_again: bool,
    /// Where the cursor [`CURSOR`] was told to be, and was last asked to be.
    pub(crate) place: u64,
    pub(crate) place_asked: u64,
    /// The last cut that was told: below this epoch nothing is left from this LSN on.
    pub(crate) cut: Option<(u64, Epoch)>,
    /// One that is under way.
    pub(crate) cutting: Option<(u64, Epoch)>,
}

/// The durable cursor that a log may have.
pub(crate) const CURSOR: &str = "consumer";

pub(crate) type Model = BTreeMap<String, Known>;

/// What was staged as one: of each log, the first LSN and the LSN behind the last.
pub(crate) type Whole = Vec<(String, u64, u64)>;

/// An engine over a tap, driven by the test, with what callers know.
pub(crate) struct Life {
    pub(crate) tap: Tap,
    pub(crate) engine: Engine,
    pub(crate) driving: Vec<Driving>,
    pub(crate) model: Model,
    pub(crate) wholes: Vec<Whole>,
    judged: usize,
    /// Where records are that left the disk, for this engine and for those that judge.
    archive: Option<Arc<dyn Archive>>,
}

pub(crate) fn config() -> Config {
    Config {
        segment_bytes: 1 << 20,
        batch_bytes_max: 128 << 10,
        record_bytes_max: 64 << 10,
        stage_bytes: 1 << 20,
        pipeline_bytes_min: 4 << 10,
        ..Config::new("simulated")
    }
}

/// The payload of record `n` of a log: everyone can tell whether it is the right one.
pub(crate) fn payload(log: &str, n: u64) -> Vec<u8> {
    let len = [17, 900, 5000, 60_000][(n % 4) as usize];
    log.bytes().cycle().zip(0..len).map(|(byte, i)| byte ^ (n as u8) ^ (i as u8)).collect()
}

fn open(
    storage: Arc<dyn Storage>,
    mut config: Config,
    archive: Option<Arc<dyn Archive>>,
) -> (Engine, Vec<Driving>) {
    config.driven = true;
    let components = Components { storage: Some(storage), archive, ..Components::default() };
    let (engine, drivers) = Engine::open_with(config, components).unwrap();
    let driving = drivers.into_iter().map(|driver| driver.bind().unwrap()).collect();
    (engine, driving)
}

impl Life {
    /// Opens with the tap recording or not.
    pub(crate) fn open(world: &SimStorage, config: Config, model: Model, record: bool) -> Self {
        Self::open_with(world, config, model, record, None)
    }

    pub(crate) fn open_with(
        world: &SimStorage,
        config: Config,
        model: Model,
        record: bool,
        archive: Option<Arc<dyn Archive>>,
    ) -> Self {
        let tap = Tap::new(world.clone());
        tap.record(record);
        let (engine, driving) = open(Arc::new(tap.storage()), config, archive.clone());
        let life = Self { tap, engine, driving, model, wholes: Vec::new(), judged: 0, archive };
        let mut life = life;
        life.judge(&life.model.clone());
        life
    }

    /// Does something, then judges every picture that was taken meanwhile: nothing that was known
    /// before may be missing, nothing that was never staged may be there.
    pub(crate) fn step<T>(&mut self, act: impl FnOnce(&mut Self) -> T) -> T {
        let before = self.model.clone();
        let done = act(self);
        self.judge(&before);
        done
    }

    pub(crate) fn writer(&mut self, log: &str) -> Writer {
        self.model.entry(log.to_owned()).or_default();
        self.step(|life| {
            let writer = life.engine.log(log).unwrap().writer().unwrap();
            let known = life.model.get_mut(log).unwrap();
            assert_eq!(writer.first().lsn.0, known.acked, "the tail of {log}");
            assert!(writer.epoch() > known.epoch, "epochs grow");
            (known.created, known.epoch) = (true, writer.epoch());
            writer
        })
    }

    /// Stages `count` records and turns until all are acked, judging after every turn.
    pub(crate) fn append(&mut self, writer: &Writer, log: &str, count: u64) {
        let from = self.model[log].staged;
        let mut tickets: Vec<Ticket> = Vec::new();
        let mut next = from;
        while self.model[log].acked < from + count {
            self.step(|life| {
                while next < from + count {
                    let Ok(ticket) = writer.submit(payload(log, next)) else { break };
                    tickets.push(ticket);
                    next += 1;
                    life.model.get_mut(log).unwrap().staged = next;
                }
                life.turn();
                let done = tickets.iter().take_while(|ticket| ticket.is_done()).count();
                life.model.get_mut(log).unwrap().acked = from + done as u64;
            });
        }
        for ticket in tickets {
            ticket.wait().unwrap();
        }
    }

    pub(crate) fn truncate(&mut self, log: &str, lsn: u64) {
        self.model.get_mut(log).unwrap().start_asked = lsn;
        self.step(|life| {
            life.engine.log(log).unwrap().truncate(Lsn(lsn)).unwrap();
            life.model.get_mut(log).unwrap().start = lsn;
        });
    }

    /// Stages a group of records, one or more of each log, and turns until it is acked.
    pub(crate) fn append_atomic(&mut self, members: &[(&Writer, &str, u64)]) {
        let mut whole = Whole::new();
        let mut given = Vec::new();
        for (writer, log, count) in members {
            let first = self.model[*log].staged;
            let mut batch = Batch::new();
            (first..first + count).for_each(|n| {
                batch.push(&payload(log, n));
            });
            given.push((*writer, batch));
            whole.push(((*log).to_owned(), first, first + count));
            self.model.get_mut(*log).unwrap().staged = first + count;
        }
        self.wholes.push(whole.clone());
        let ticket = self.engine.submit_atomic(given).unwrap();
        while !ticket.is_done() {
            self.step(|life| {
                life.turn();
                if ticket.is_done() {
                    for (log, _, end) in &whole {
                        life.model.get_mut(log).unwrap().acked = *end;
                    }
                }
            });
        }
        ticket.wait().unwrap();
    }

    /// Cuts with this many appends staged and not acked, judging after every turn.
    pub(crate) fn cut(&mut self, writer: &Writer, log: &str, staged: u64, lsn: u64) {
        let mut tickets = Vec::new();
        let from = self.model[log].staged;
        let known = self.model.get_mut(log).unwrap();
        known.cutting = Some((lsn, Epoch(writer.epoch().0 + 1)));
        known.staged += staged;
        self.step(|life| {
            tickets.extend((from..from + staged).map(|n| writer.submit(payload(log, n)).unwrap()));
            let mut cut = writer.cut_to(Lsn(lsn));
            let mut context = Context::from_waker(Waker::noop());
            let first = loop {
                match Pin::new(&mut cut).poll(&mut context) {
                    Poll::Ready(first) => break first.unwrap(),
                    Poll::Pending => life.turn(),
                }
            };
            assert_eq!((first.lsn.0, first.epoch), life.model[log].cutting.unwrap());
        });
        assert!(tickets.into_iter().all(|ticket| ticket.is_done() && ticket.wait().is_ok()));
        let known = self.model.get_mut(log).unwrap();
        (known.acked, known.staged, known.epoch) = (lsn, lsn, writer.epoch());
        known.cut = known.cutting.take();
        self.step(|_| ());
    }

    pub(crate) fn turn(&mut self) {
        for driving in &mut self.driving {
            driving.turn(Duration::from_millis(1));
        }
    }

    /// Turns for so long, judging.
    pub(crate) fn idle(&mut self, turns: usize) {
        for _ in 0..turns {
            self.step(Self::turn);
        }
    }

    /// Moves the log's durable cursor to its end.
    pub(crate) fn move_cursor(&mut self, log: &str) {
        let known = self.model.get_mut(log).unwrap();
        known.place_asked = known.acked;
        self.step(|life| {
            let cursor = life.engine.log(log).unwrap().cursor(CURSOR).unwrap();
            let known = life.model.get_mut(log).unwrap();
            cursor.set(Lsn(known.place_asked)).unwrap();
            assert_eq!(cursor.get().unwrap(), Some(Lsn(known.place_asked)));
            known.place = known.place_asked;
        });
    }

    /// Deletes a log.
    pub(crate) fn delete(&mut self, log: &str) {
        self.model.get_mut(log).unwrap().doomed = true;
        self.step(|life| life.engine.delete_log(log).unwrap());
        let gone = Known { gone: true, ..Known::default() };
        self.model.insert(log.to_owned(), gone);
    }

    pub(crate) fn close(&mut self) {
        self.step(|life| life.engine.close().unwrap());
    }

    /// Demands steps, and that pictures of them were judged.
    pub(crate) fn demand(&self, steps: &[&str]) {
        self.tap.demand(steps);
        assert!(self.judged >= steps.len());
    }

    fn judge(&mut self, before: &Model) {
        for cut in self.tap.cuts() {
            judge(&cut, before, &self.model, &self.wholes, self.archive.as_ref());
            self.judged += 1;
        }
    }
}

/// Opens what a power cut left. Between what was known `before` and what was staged `after`, every
/// log is dense, intact and writable, stays so when closed, and no file is left over.
pub(crate) fn judge(
    cut: &Cut,
    before: &Model,
    after: &Model,
    wholes: &[Whole],
    archive: Option<&Arc<dyn Archive>>,
) {
    let step = &cut.step;
    cut.world.fill(None); // appends are asked for below
    let (engine, driving) = open(Arc::new(cut.world.clone()), config(), archive.cloned());
    for report in engine.recovery() {
        assert!(report.damages.is_empty(), "{step}: {:?}", report.damages);
    }
    let mut counts = BTreeMap::new();
    for (name, most) in after {
        let least = before.get(name).copied().unwrap_or_default();
        let Some(log) = engine.find(name).unwrap() else {
            assert!(!least.created || most.doomed, "{step}: {name} was created");
            continue;
        };
        assert!(!least.gone || most.asked_again, "{step}: {name} was deleted");
        let start = log.start().unwrap().0;
        let starts = least.start..=most.start_asked;
        assert!(starts.contains(&start), "{step}: {name} starts at {start}, not in {starts:?}");
        let found = read(&engine, name, step);
        let (count, epoch) = (found.end, found.last_epoch());
        let place = log.cursor(CURSOR).unwrap().get().unwrap().unwrap_or_default().0;
        assert!((least.place..=most.place_asked).contains(&place), "{step}: cursor at {place}");
        assert!(place <= count, "{step}: cursor at {place} of {count}");
        if let Some(cut) = least.cut {
            assert!(found.is_cut(cut), "{step}: what was cut from {name} at {cut:?} is back");
        }
        match most.cutting {
            Some(cut) if count < least.acked => {
                assert_eq!(count, cut.0, "{step}: {name} is neither cut nor whole");
                assert!(found.is_cut(cut));
            }
            _ => assert!(least.acked <= count, "{step}: {count} of {} acked", least.acked),
        }
        assert!(count <= most.staged, "{step}: {name} has {count} of {} staged", most.staged);
        let writer = engine.log(name).unwrap().writer().unwrap();
        assert!(writer.epoch() > epoch && writer.epoch() > least.epoch, "{step}: epoch of {name}");
        assert_eq!(writer.first().lsn.0, count, "{step}: tail of {name}");
        writer.submit(payload(name, count)).unwrap().wait().unwrap();
        counts.insert(name, count + 1);
    }
    for whole in wholes {
        let had = |log: &String| counts[log] - 1;
        let all = whole.iter().all(|(log, _, end)| had(log) >= *end);
        let nothing = whole.iter().all(|(log, first, _)| had(log) <= *first);
        assert!(all || nothing, "{step}: a part of {whole:?}, {counts:?}");
    }
    engine.close().unwrap();
    drop((engine, driving));
    reopen(&cut.world.crash(), &counts, step, archive);
}

fn reopen(
    world: &SimStorage,
    counts: &BTreeMap<&String, u64>,
    step: &str,
    archive: Option<&Arc<dyn Archive>>,
) {
    let (engine, _driving) = open(Arc::new(world.clone()), config(), archive.cloned());
    assert!(engine.recovery().iter().all(|report| report.clean), "{step}: closed, and not clean");
    for (name, count) in counts {
        assert_eq!(
            read(&engine, name, step).end,
            *count,
            "{step}: {name}, closed and opened again"
        );
    }
    let names = world.list().unwrap();
    let of = |kind: &str| names.iter().filter(|name| name.starts_with(kind)).count();
    assert_eq!(of("aside"), 0, "{step}: {names:?}");
    // Sealed ones, at most eight spares, and one that was begun.
    assert!(of("segment") <= of("index") + 9, "{step}: {names:?}");
}

/// What stands in a log.
struct Found {
    end: u64,
    /// Where records of another epoch begin.
    epochs: Vec<(u64, Epoch)>,
}

impl Found {
    fn last_epoch(&self) -> Epoch {
        self.epochs.last().map_or(Epoch(0), |(_, epoch)| *epoch)
    }

    /// Whether everything from that LSN on is of that epoch or a newer one.
    fn is_cut(&self, (lsn, epoch): (u64, Epoch)) -> bool {
        let ends = self.epochs.iter().skip(1).map(|(begin, _)| *begin).chain([self.end]);
        self.epochs.iter().zip(ends).all(|((_, found), end)| end <= lsn || *found >= epoch)
    }
}

/// Reads a log from its start.
fn read(engine: &Engine, name: &str, step: &str) -> Found {
    let log = engine.log(name).unwrap();
    let mut reader = log.reader(From::Start).unwrap();
    let (mut count, mut epoch) = (log.start().unwrap().0, Epoch(0));
    let mut epochs = Vec::new();
    while let Some(record) = reader.next().wait().unwrap_or_else(|e| panic!("{step}: {name}: {e}"))
    {
        assert_eq!(record.lsn().0, count, "{step}: {name} is dense");
        assert!(record.payload() == payload(name, count), "{step}: {name} at {count}");
        assert!(record.epoch() >= epoch, "{step}: epochs of {name}");
        if record.epoch() != epoch {
            epochs.push((count, record.epoch()));
        }
        (count, epoch) = (count + 1, record.epoch());
    }
    Found { end: count, epochs }
}
