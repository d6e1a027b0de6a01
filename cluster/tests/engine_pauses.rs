//! Two engines on one simulated directory under leases of one simulated etcd: the first is
//! suspended at each of its operations in turn, of the disk and of etcd, for longer than its lease;
//! the second takes over and appends; the first wakes in the middle of what it did.
//!
//! The story: the first was suspended in its recovery, having removed the file with the highest
//! number. The second gave that number to its own first segment. The first woke, found the name in
//! its list of files that no manifest of *its* knowledge names, and set the segment aside: acked
//! records of the second were missing. And: suspended just before it removed an index so as to
//! write it anew, the first took away the one that the second had written and lived on.
//!
//! What must hold at every point: whatever the first was acked, before or after, is in the second's
//! log, now, after a clean close, and after a power cut; and the second's own acks are.
// Tests may unwrap.
#![allow(clippy::unwrap_used)]

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use sapwood::io::Storage;
use sapwood::io::hooked::{Call, Fate, Hook, Hooked};
use sapwood::io::sim::{Faults, SimStorage};
use sapwood::{Components, Config, Driving, Engine, Error, From, Lsn};
use sapwood_cluster::sim::{self, SimEtcd};
use sapwood_cluster::{LeaseOwner, Terms};

const TTL: Duration = Duration::from_secs(10);

/// Every how many operations the first is suspended; `SAPWOOD_EVERY=7` asks for fewer.
const EVERY: usize = 1;

/// What happens while the first is away.
type Away = Box<dyn FnOnce()>;

thread_local! {
    /// Operations of the first so far, and what happens at which.
    static COUNT: Cell<usize> = const { Cell::new(0) };
    static AWAY: RefCell<Option<(usize, Away)>> = const { RefCell::new(None) };
    /// What the first was about when it was suspended.
    static WHERE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// One point at which the first can be suspended: `what` it is about.
fn point(what: impl FnOnce() -> String) {
    let count = COUNT.get() + 1;
    COUNT.set(count);
    let due = AWAY.with_borrow_mut(|away| away.take_if(|(at, _)| *at == count));
    if let Some((_, away)) = due {
        WHERE.set(what());
        away();
    }
}

struct Points;

impl Hook for Points {
    fn before(&self, call: &Call) -> Fate {
        point(|| format!("before {:?} of {:?}", call.what, call.name));
        Fate::Goes
    }

    fn after(&self, call: &Call) {
        point(|| format!("after {:?} of {:?}", call.what, call.name));
    }
}

type Way = Arc<LeaseOwner<SimEtcd>>;

fn owner(etcd: &SimEtcd) -> Way {
    Arc::new(LeaseOwner::new(etcd.clone(), "wal", Terms::of(TTL).unwrap()).driven())
}

fn open(storage: Arc<dyn Storage>, owner: &Way) -> sapwood::Result<(Engine, Driving)> {
    let components = Components {
        storage: Some(storage),
        owner: Some(Arc::clone(owner) as _),
        ..Components::default()
    };
    let config = Config {
        driven: true,
        segment_bytes: 1 << 20,
        batch_bytes_max: 128 << 10,
        record_bytes_max: 64 << 10,
        stage_bytes: 1 << 20,
        ..Config::new("simulated")
    };
    let (engine, mut drivers) = Engine::open_with(config, components)?;
    Ok((engine, drivers.pop().unwrap().bind()?))
}

/// Acked records: where, and who wrote what.
type Acked = Vec<(Lsn, [u8; 2])>;

/// Appends so many records of this node, large ones, so that segments roll; what was acked.
fn append(
    engine: &Engine,
    owner: &Way,
    who: u8,
    count: u8,
    acked: &mut Acked,
) -> Result<(), Error> {
    let writer = engine.log("a")?.writer()?;
    for n in 0..count {
        owner.renew();
        let mut payload = vec![0; 50 << 10];
        payload[..2].copy_from_slice(&[who, n]);
        let ticket = writer.submit(payload).map_err(|rejected| rejected.error)?;
        acked.push((ticket.wait()?.position.lsn, [who, n]));
    }
    Ok(())
}

fn place() -> String {
    format!(
        "operation {} of the first, suspended {}",
        COUNT.get(),
        WHERE.with_borrow(String::clone)
    )
}

fn read(engine: &Engine) -> Acked {
    let mut reader = engine.log("a").unwrap().reader(From::Start).unwrap();
    let mut found = Vec::new();
    while let Some(record) = reader.next().wait().unwrap_or_else(|e| panic!("{}: {e}", place())) {
        found.push((record.position().lsn, [record.payload()[0], record.payload()[1]]));
    }
    found
}

/// The second node, while and after the first was away.
struct Second {
    engine: Engine,
    /// Turned whenever this thread waits for the engine.
    _driving: Driving,
    owner: Way,
    term: u32,
    acked: Acked,
}

fn term(engine: &Engine) -> u32 {
    engine.recovery()[0].term
}

impl Second {
    fn take_over(disk: &SimStorage, etcd: &SimEtcd) -> Self {
        let owner = owner(&etcd.another());
        let (engine, _driving) = open(Arc::new(disk.clone()), &owner).unwrap();
        let term = term(&engine);
        let mut second = Self { engine, _driving, owner, term, acked: Acked::new() };
        append(&second.engine, &second.owner, 2, 3, &mut second.acked).unwrap();
        second
    }
}

/// What a life with one suspension came to.
#[derive(Default)]
struct Life {
    suspended: bool,
    /// Of the first: acked before it was suspended, and all in all.
    before: usize,
    acks: usize,
}

/// The first opens a directory (that was used and not closed before), appends, closes; suspended at
/// operation `at`.
fn live(at: usize, seed: u64) -> Life {
    let (disk, etcd) = (SimStorage::new(seed, Faults::default()), SimEtcd::default());
    let mut acked = Acked::new();
    // A term before it, killed with its lease: what it had is there, unsealed.
    let zeroth = owner(&etcd.another());
    let (engine, driving) = open(Arc::new(disk.clone()), &zeroth).unwrap();
    append(&engine, &zeroth, 0, 3, &mut acked).unwrap();
    drop((engine, driving));

    let first_acks = Rc::new(Cell::new(0));
    let second: Rc<RefCell<Option<Second>>> = Rc::default();
    let (theirs, world, way, seen) =
        (Rc::clone(&second), disk.clone(), etcd.clone(), Rc::clone(&first_acks));
    let before = Rc::new(Cell::new(0));
    let at_pause = Rc::clone(&before);
    let away = move || {
        at_pause.set(seen.get());
        world.clock().sleep(TTL * 2);
        *theirs.borrow_mut() = Some(Second::take_over(&world, &way));
    };
    COUNT.set(0);
    AWAY.set(Some((at, Box::new(away))));
    let ours = etcd.another();
    ours.hook(|moment: sim::Moment, put| {
        point(|| format!("etcd, {moment:?}, put {put}"));
        sim::Fate::Goes
    });
    let first = owner(&ours);
    let hooked = Hooked::with(disk.clone(), Arc::new(Points));
    let mut first_term = 0;
    if let Ok((engine, mut driving)) = open(Arc::new(hooked), &first) {
        first_term = term(&engine);
        let mut mine = Acked::new();
        for part in 0..4 {
            let done = append(&engine, &first, 10 + part, 6, &mut mine);
            first_acks.set(mine.len());
            if done.is_err() {
                break;
            }
            first.renew();
            driving.turn(Duration::from_millis(20));
        }
        acked.extend(mine);
        let _ = engine.close();
    }
    let suspended = AWAY.take().is_none();
    let life = Life { suspended, before: before.get(), acks: first_acks.get() };
    let second = second.borrow_mut().take();
    judge(at, disk, &etcd, (first_term, acked), second);
    life
}

/// Everything acked is in the successor's log, in that of a crash, and after a close.
fn judge(
    at: usize,
    disk: SimStorage,
    etcd: &SimEtcd,
    (first_term, mut acked): (u32, Acked),
    mut second: Option<Second>,
) {
    let judge = |when: &str, log: &Acked, acked: &Acked| {
        for ack in acked {
            assert!(log.contains(ack), "{}, at {at}: {when}: {ack:?} is absent", place());
        }
    };
    if let Some(second) = &mut second {
        let log = read(&second.engine);
        // Suspended before it had taken anything, the first comes after the second.
        if first_term < second.term {
            judge("in the successor's log", &log, &acked);
            second.owner.renew();
            append(&second.engine, &second.owner, 3, 2, &mut second.acked).unwrap();
            second.owner.renew();
        }
        acked.append(&mut second.acked);
        let crashed = disk.crash();
        let (engine, _driving) = open(Arc::new(crashed), &owner(&etcd.another())).unwrap();
        judge("after a power cut", &read(&engine), &acked);
    }
    if let Some(second) = second {
        let _ = second.engine.close();
    }
    let (engine, _driving) = open(Arc::new(disk), &owner(&etcd.another())).unwrap();
    judge("after a close", &read(&engine), &acked);
}

#[test]
fn whatever_an_owner_was_acked_is_in_its_successors_log() {
    let every = std::env::var("SAPWOOD_EVERY").ok().and_then(|n| n.parse().ok()).unwrap_or(EVERY);
    let (mut suspended, mut acks, mut after) = (0, 0, 0);
    for at in (1..).step_by(every) {
        let life = live(at, at as u64);
        acks += life.acks;
        after += usize::from(life.suspended && life.acks > life.before);
        if !life.suspended {
            break;
        }
        suspended += 1;
    }
    println!("{suspended} suspensions, {acks} acks, in {after} lives some after it");
    assert!(suspended > 250 / every && acks > suspended, "{suspended} suspensions, {acks} acks");
}
