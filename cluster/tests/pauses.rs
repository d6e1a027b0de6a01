//! The shipped machines (`claim`, `tenure`, the engine's `Lease`) under pauses at every point at
//! which a node can be suspended; only the transport, the clocks and the log are simulated.
//!
//! Three nodes want one directory. Each step of a node is one of: decide, send, take an answer,
//! read the clock, act on it, submit a write, take its completion, look at the lease, ack. Before
//! any of them the node may be suspended, for up to two and a half leases; questions and answers
//! are lost, late by as much, and applied after whoever asked has given up; clocks differ in rate.
//! The log is what the engine makes of it: a file per term, a successor's recovery cuts those of
//! its predecessors where they are, and nothing beyond a cut is ever looked at again.
//!
//! What must hold: no ack of a record that is absent from a successor's log.
// Tests may unwrap.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sapwood::io::sim::Rng;
use sapwood::owner::Lease;
use sapwood_cluster::Terms;
use sapwood_cluster::claim::{self, Claim};
use sapwood_cluster::record::Node as Name;
use sapwood_cluster::tenure::{self, Tenure};
use sapwood_cluster::transport::{Answer, Ask, Failure, Revision};

const TTL: u64 = 1_000_000_000;
const NODES: usize = 3;

/// How many pauses; `SAPWOOD_PAUSES` asks for more.
const PAUSES: u64 = 1_000_000;

/// What may be done wrongly, so that the test is seen to see.
#[derive(Clone, Copy, PartialEq)]
enum Wrong {
    Nothing,
    /// The lease is not looked at before an ack.
    NoCheck,
    /// It is looked at before the write, not after it.
    CheckFirst,
    /// Clocks differ in rate by more than the margin covers.
    Clocks,
}

/// A question on its way.
struct Asked {
    at: u64,
    node: usize,
    number: u64,
    ask: Ask,
}

/// The key, the log, and what was promised of it.
#[derive(Default)]
struct World {
    revision: Revision,
    value: Option<(Revision, Vec<u8>)>,
    on_the_way: Vec<Asked>,
    answers: Vec<(u64, usize, u64, Answer)>,
    /// Writes that will land: when, in which term, which record.
    landing: Vec<(u64, u32, u64)>,
    /// Records of each term's file.
    files: BTreeMap<u32, Vec<u64>>,
    /// For each recovery, by its term: how many records of each earlier file it kept.
    cuts: BTreeMap<u32, BTreeMap<u32, usize>>,
    seen: Seen,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    pauses: u64,
    acks: u64,
    takeovers: u64,
    released: u64,
    lost: u64,
    stale: u64,
}

/// What a node does between two suspensions.
enum Phase {
    Away,
    /// A question is out; until when it is waited for.
    Asking {
        number: u64,
        until: u64,
        got: Option<Answer>,
    },
    Steady,
}

enum Role {
    None,
    Claims(Box<Claim>),
    Owns(Box<Owns>),
}

struct Owns {
    tenure: Tenure,
    lease: Arc<Lease>,
    recovered: bool,
    /// Closed: nothing is written any more, so it may be given back.
    closed: bool,
    write: Write,
}

/// A record's way.
#[derive(Clone, Copy)]
enum Write {
    None,
    /// At the disk until then.
    Out {
        record: u64,
        lands: u64,
    },
    Done {
        record: u64,
    },
    /// The clock was read.
    Checks {
        record: u64,
        local: u64,
    },
    /// The lease held.
    Acks {
        record: u64,
    },
}

struct Node {
    role: Role,
    phase: Phase,
    next: u64,
    /// Its clock's rate, in parts of a thousand.
    rate: u64,
    /// A clock reading it acts on.
    read: Option<u64>,
}

struct Life {
    rng: Rng,
    world: World,
    nodes: Vec<Node>,
    now: u64,
    asked: u64,
    records: u64,
    wrong: Wrong,
}

impl Life {
    fn new(seed: u64, wrong: Wrong) -> Self {
        let mut rng = Rng::new(seed);
        let spread = if wrong == Wrong::Clocks { 300 } else { 40 };
        let node = |rng: &mut Rng| Node {
            role: Role::None,
            phase: Phase::Away,
            next: rng.below(TTL),
            rate: 1000 - spread + rng.below(2 * spread + 1),
            read: None,
        };
        let nodes = (0..NODES).map(|_| node(&mut rng)).collect();
        let world = World::default();
        Self { rng, world, nodes, now: 0, asked: 0, records: 0, wrong }
    }

    /// Goes on until so many pauses were made.
    fn run(&mut self, pauses: u64) {
        while self.world.seen.pauses < pauses {
            let node = (0..NODES).min_by_key(|n| self.nodes[*n].next).unwrap();
            self.now = self.now.max(self.nodes[node].next);
            self.deliver();
            if self.rng.chance(200_000) {
                // Suspended here, mostly shortly, sometimes far beyond its lease.
                let long = if self.rng.chance(40_000) { 5 * TTL / 2 } else { TTL / 40 };
                self.nodes[node].next = self.now + self.rng.below(long);
                self.world.seen.pauses += 1;
                continue;
            }
            self.step(node);
        }
    }

    /// What etcd and the disk have done by now.
    fn deliver(&mut self) {
        let now = self.now;
        let mut due: Vec<Asked> = self.world.on_the_way.extract_if(.., |a| a.at <= now).collect();
        due.sort_by_key(|asked| asked.at);
        for Asked { at, node, number, ask } in due {
            let world = &mut self.world;
            let answer = match ask {
                Ask::Get => Answer::Found(world.value.clone()),
                Ask::Put { revision, value } => {
                    let has = world.value.as_ref().map_or(0, |(revision, _)| *revision);
                    if has == revision {
                        world.revision += 1;
                        world.value = Some((world.revision, value));
                        Answer::Put(world.revision)
                    } else {
                        Answer::Differs
                    }
                }
            };
            if !self.rng.chance(50_000) {
                let back = at + self.rng.below(TTL / 50);
                self.world.answers.push((back, node, number, answer));
            }
        }
        for (_, node, number, answer) in self.world.answers.extract_if(.., |a| a.0 <= now) {
            if let Phase::Asking { number: mine, got, .. } = &mut self.nodes[node].phase
                && *mine == number
            {
                *got = Some(answer);
            }
        }
        let mut landed: Vec<_> = self.world.landing.extract_if(.., |w| w.0 <= now).collect();
        landed.sort_unstable();
        for (_, term, record) in landed {
            self.world.files.entry(term).or_default().push(record);
        }
    }

    fn local(&self, node: usize) -> u64 {
        self.now / 1000 * self.nodes[node].rate
    }

    fn rest(&mut self, node: usize, most: u64) {
        self.nodes[node].next = self.now + 1 + self.rng.below(most);
    }

    fn step(&mut self, node: usize) {
        match &mut self.nodes[node].phase {
            Phase::Asking { until, got, .. } => {
                let answer = match got.take() {
                    Some(answer) => Ok(answer),
                    None if self.now >= *until => Err(Failure::Unknown("no answer".into())),
                    None => return self.meanwhile(node),
                };
                self.nodes[node].phase = Phase::Steady;
                // Another step reads the clock, another takes the answer.
                self.take_answer(node, answer);
            }
            Phase::Away => {
                let (holder, name) = (self.rng.next_u64(), Name::default());
                let terms = Terms::of(Duration::from_nanos(TTL)).unwrap();
                let claim = Claim::new(terms, name, holder, true);
                let one = &mut self.nodes[node];
                (one.role, one.phase) = (Role::Claims(Box::new(claim)), Phase::Steady);
                self.rest(node, TTL / 10);
            }
            Phase::Steady => self.steady(node),
        }
    }

    /// While the thread that renews waits for etcd, the shard goes on.
    fn meanwhile(&mut self, node: usize) {
        let local = self.local(node);
        self.rest(node, TTL / 100);
        match std::mem::replace(&mut self.nodes[node].role, Role::None) {
            Role::Owns(mut owns) => {
                if self.shard(&mut owns, local) {
                    self.nodes[node].phase = Phase::Away;
                    return self.rest(node, TTL);
                }
                self.nodes[node].role = Role::Owns(owns);
            }
            other => self.nodes[node].role = other,
        }
    }

    fn take_answer(&mut self, node: usize, answer: Result<Answer, Failure>) {
        let local = self.local(node);
        match &mut self.nodes[node].role {
            Role::Claims(claim) => claim.answer(local, answer),
            Role::Owns(owns) => {
                owns.tenure.answer(local, answer);
                owns.lease.renew(owns.tenure.until_ns());
            }
            Role::None => {}
        }
        self.rest(node, TTL / 200);
    }

    fn steady(&mut self, node: usize) {
        // A reading of the clock and what is done with it are two steps.
        let Some(local) = self.nodes[node].read.take() else {
            self.nodes[node].read = Some(self.local(node));
            return self.rest(node, TTL / 500);
        };
        if self.rng.chance(4_000) {
            // Killed; what is on its way stays so.
            let one = &mut self.nodes[node];
            (one.role, one.phase) = (Role::None, Phase::Away);
            return self.rest(node, 2 * TTL);
        }
        match std::mem::replace(&mut self.nodes[node].role, Role::None) {
            Role::None => self.nodes[node].phase = Phase::Away,
            Role::Claims(claim) => self.claims(node, claim, local),
            Role::Owns(owns) => self.owns(node, owns, local),
        }
    }

    fn claims(&mut self, node: usize, mut claim: Box<Claim>, local: u64) {
        match claim.next(local) {
            claim::Step::Ask(ask) => self.send(node, ask),
            claim::Step::Wait(_) => self.rest(node, TTL / 20),
            claim::Step::Lock => {
                // Nobody has a directory that never was.
                claim.locked(true);
                self.rest(node, TTL / 100);
            }
            claim::Step::Taken(tenure) => {
                let lease = Arc::new(Lease::new(tenure.until_ns()));
                let (recovered, closed, write) = (false, false, Write::None);
                let owns = Owns { tenure: *tenure, lease, recovered, closed, write };
                self.nodes[node].role = Role::Owns(Box::new(owns));
                return self.rest(node, TTL / 50);
            }
            other => panic!("{other:?}"),
        }
        self.nodes[node].role = Role::Claims(claim);
    }

    fn send(&mut self, node: usize, ask: Ask) {
        self.asked += 1;
        let number = self.asked;
        // Mostly at once, sometimes far too late, sometimes never.
        let late = if self.rng.chance(50_000) { 3 * TTL } else { TTL / 50 };
        let at = self.now + self.rng.below(late);
        if !self.rng.chance(30_000) {
            self.world.on_the_way.push(Asked { at, node, number, ask });
        }
        let until = self.now + TTL / 4;
        self.nodes[node].phase = Phase::Asking { number, until, got: None };
        self.rest(node, TTL / 100);
    }

    /// The thread that renews and the shard take turns, as they are scheduled.
    fn owns(&mut self, node: usize, mut owns: Box<Owns>, local: u64) {
        let shard = self.rng.chance(600_000);
        let over = if shard { self.shard(&mut owns, local) } else { false };
        if over {
            self.nodes[node].phase = Phase::Away;
            return self.rest(node, TTL);
        }
        let mut most = TTL / 100;
        if !shard {
            if self.rng.chance(60_000) && matches!(owns.write, Write::None) {
                owns.closed = true;
                owns.tenure.release();
            }
            match owns.tenure.next(local) {
                tenure::Step::Ask(ask) => {
                    self.nodes[node].role = Role::Owns(owns);
                    return self.send(node, ask);
                }
                tenure::Step::Wait(_) => most = TTL / 20,
                tenure::Step::Released => {
                    self.world.seen.released += 1;
                    self.nodes[node].phase = Phase::Away;
                    return self.rest(node, TTL);
                }
                tenure::Step::Lost(why) => {
                    self.world.seen.lost += 1;
                    owns.lease.lose(why);
                    // Its shard may still be at work: it looks at the lease by itself.
                    if matches!(owns.write, Write::None) {
                        self.nodes[node].phase = Phase::Away;
                        return self.rest(node, TTL);
                    }
                }
            }
        }
        self.nodes[node].role = Role::Owns(owns);
        self.rest(node, most);
    }

    /// A turn of a shard, in small; true: it has halted.
    fn shard(&mut self, owns: &mut Owns, local: u64) -> bool {
        let term = owns.tenure.term();
        if !owns.recovered {
            if !owns.lease.holds(local) {
                return true;
            }
            // What landed by now is kept, where no earlier recovery has cut it.
            let known = self.world.cuts.range(..term).next_back().map(|(_, cuts)| cuts.clone());
            let mut cuts = known.unwrap_or_default();
            for (file, records) in self.world.files.range(..term) {
                cuts.entry(*file).or_insert(records.len());
            }
            self.world.cuts.insert(term, cuts);
            self.world.seen.takeovers += 1;
            owns.recovered = true;
            return false;
        }
        let unchecked = matches!(self.wrong, Wrong::NoCheck | Wrong::CheckFirst);
        owns.write = match owns.write {
            Write::None if !owns.lease.holds(local) && self.wrong != Wrong::NoCheck => return true,
            Write::None if owns.closed => Write::None,
            Write::None => {
                self.records += 1;
                let late = if self.rng.chance(30_000) { 2 * TTL } else { TTL / 100 };
                let (record, lands) = (self.records, self.now + self.rng.below(late));
                self.world.landing.push((lands, term, record));
                Write::Out { record, lands }
            }
            Write::Out { record, lands } if self.now >= lands => Write::Done { record },
            out @ Write::Out { .. } => out,
            // This step begins with a reading that was made before: it reads anew.
            Write::Done { record } => Write::Checks { record, local: u64::MAX },
            Write::Checks { record, local: u64::MAX } => Write::Checks { record, local },
            Write::Checks { record, local } => {
                if !owns.lease.holds(local) && !unchecked {
                    return true;
                }
                Write::Acks { record }
            }
            Write::Acks { record } => {
                self.ack(term, record);
                Write::None
            }
        };
        false
    }

    fn ack(&mut self, term: u32, record: u64) {
        let world = &mut self.world;
        world.seen.acks += 1;
        let at = world.files[&term].iter().position(|r| *r == record).unwrap();
        let later = world.cuts.range(term + 1..);
        let absent = |cuts: &BTreeMap<u32, usize>| cuts.get(&term).is_none_or(|kept| *kept <= at);
        if later.into_iter().any(|(_, cuts)| absent(cuts)) {
            world.seen.stale += 1;
        }
    }
}

/// Lives of a thousand pauses each, from as many seeds.
fn lives(wrong: Wrong, pauses: u64) -> Seen {
    let mut all = Seen::default();
    for seed in 0..pauses.div_ceil(1000) {
        let mut life = Life::new(seed, wrong);
        life.run(1000);
        let Seen { pauses, acks, takeovers, released, lost, stale } = life.world.seen;
        assert!(stale == 0 || wrong != Wrong::Nothing, "seed {seed}: {stale} stale acks");
        all.pauses += pauses;
        all.acks += acks;
        all.takeovers += takeovers;
        all.released += released;
        all.lost += lost;
        all.stale += stale;
    }
    all
}

#[test]
fn no_pause_makes_an_ack_stale() {
    let wanted = std::env::var("SAPWOOD_PAUSES").ok().and_then(|n| n.parse().ok());
    let seen = lives(Wrong::Nothing, wanted.unwrap_or(PAUSES));
    println!("{seen:?}");
    assert_eq!(seen.stale, 0);
    // It is about something: owners change, by every way there is, and acks go on.
    let least = seen.pauses / 1000;
    assert!(seen.takeovers > least && seen.acks > 10 * least, "{seen:?}");
    assert!(seen.lost > least && seen.released > least, "{seen:?}");
}

/// The test sees: each of these is wrong in one thing, and is found.
#[test]
fn what_is_done_wrongly_makes_stale_acks() {
    for wrong in [Wrong::NoCheck, Wrong::CheckFirst, Wrong::Clocks] {
        assert!(lives(wrong, 200_000).stale > 0, "{} went unseen", wrong as u8);
    }
}

/// The same seed is the same life.
#[test]
fn a_life_can_be_lived_again() {
    let life = |seed| {
        let mut life = Life::new(seed, Wrong::Nothing);
        life.run(1000);
        (life.now, life.asked, life.world.seen)
    };
    assert_eq!(life(7), life(7));
    assert_ne!(life(7), life(8));
}
