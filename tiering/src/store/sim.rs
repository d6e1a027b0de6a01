//! A store in memory, and the ways in which stores fail: for tests and for the simulator.
//!
//! Invariants: without faults it passes the contract; the same seed and the same calls fail in the
//! same way. A fault is declared here, not scattered over tests:
//!
//! | fault | what happens | what callers must do |
//! |---|---|---|
//! | `Refused` | nothing; `Busy` | wait, again |
//! | `LostRequest` | nothing; `Unknown` | look, again |
//! | `LostReply` | it is done; `Unknown` | look: it is there |
//! | `Full`, `Denied` | nothing | wait; tell somebody |
//! | `DamagedOnTheWay` | a put: nothing, `Damaged` | again |
//! | `Flipped`, `Short`, `WrongRange` | a get gives other bytes | see it by length and CRC |
//! | `StaleList` | a list as it was some writes ago | decide nothing by it |
//! | `Slow` | the call takes long | have others not wait for it |
//!
//! Not here: crashes of the caller: what was put stays.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Key, Listed, ObjectStore, Result, StoreError};

/// What goes wrong with a call; see the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the table of the module tells")]
pub enum Fault {
    Refused,
    LostRequest,
    LostReply,
    Full,
    Denied,
    DamagedOnTheWay,
    Flipped,
    Short,
    WrongRange,
    StaleList,
    Slow,
}

/// Faults that are drawn by chance.
const BY_CHANCE: [Fault; 9] = [
    Fault::Refused,
    Fault::Refused,
    Fault::LostRequest,
    Fault::LostReply,
    Fault::DamagedOnTheWay,
    Fault::Flipped,
    Fault::Short,
    Fault::WrongRange,
    Fault::StaleList,
];

/// A slow call takes so long.
const SLOW: Duration = Duration::from_millis(20);

/// A stale list misses so many of the last changes.
const STALE_CHANGES: usize = 3;

/// How often each call was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "one count for each call")]
pub struct Requests {
    pub puts: u64,
    pub gets: u64,
    pub looks: u64,
    pub lists: u64,
    pub deletes: u64,
}

#[derive(Clone, Debug)]
struct Kept {
    bytes: Vec<u8>,
    written_us: u64,
}

#[derive(Debug, Default)]
struct Inner {
    objects: BTreeMap<Key, Kept>,
    /// What lists showed before each of the last changes, oldest first.
    before: VecDeque<Vec<Listed>>,
    next: VecDeque<Fault>,
    /// Faults per thousand calls.
    per_mille: u64,
    seed: u64,
    down: bool,
    overwrites: bool,
    now_us: u64,
    requests: Requests,
}

/// See the module.
#[derive(Debug, Default)]
pub struct SimStore(Mutex<Inner>);

impl SimStore {
    /// An empty store of which so many of a thousand calls fail, drawn from the seed.
    #[must_use]
    pub fn new(seed: u64, per_mille: u64) -> Self {
        Self(Mutex::new(Inner { seed, per_mille, ..Inner::default() }))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next calls go wrong like this, in this order, before any by chance.
    pub fn fail(&self, faults: &[Fault]) {
        self.lock().next.extend(faults);
    }

    /// From now on so many of a thousand calls fail.
    pub fn set_per_mille(&self, per_mille: u64) {
        self.lock().per_mille = per_mille;
    }

    /// Down: every call is refused until it is up again.
    pub fn set_down(&self, down: bool) {
        self.lock().down = down;
    }

    /// From now on it ignores that a put is conditional, as some stores do.
    pub fn ignore_conditions(&self) {
        self.lock().overwrites = true;
    }

    /// Time goes by at the store.
    pub fn pass(&self, time: Duration) {
        self.lock().now_us += time.as_micros() as u64;
    }

    /// A bit of an object rots. Without effect when there is no such byte.
    pub fn rot(&self, key: &Key, at: usize) {
        if let Some(kept) = self.lock().objects.get_mut(key)
            && let Some(byte) = kept.bytes.get_mut(at)
        {
            *byte ^= 1;
        }
    }

    /// The names of all objects, without a request.
    #[must_use]
    pub fn keys(&self) -> Vec<Key> {
        self.lock().objects.keys().cloned().collect()
    }

    /// The bytes of an object, without a request.
    #[must_use]
    pub fn peek(&self, key: &Key) -> Option<Vec<u8>> {
        self.lock().objects.get(key).map(|kept| kept.bytes.clone())
    }

    /// How often it was called.
    #[must_use]
    pub fn requests(&self) -> Requests {
        self.lock().requests
    }

    /// Begins a call: draws its fault, and tells those that are over at once.
    fn begin(&self, count: fn(&mut Requests) -> &mut u64) -> Result<Option<Fault>> {
        let mut inner = self.lock();
        *count(&mut inner.requests) += 1;
        inner.now_us += 1;
        if inner.down {
            return Err(StoreError::Busy("503, simulated: the store is down".into()));
        }
        let fault = inner.draw();
        drop(inner);
        match fault {
            Some(Fault::Refused) => Err(StoreError::Busy("503 SlowDown, simulated".into())),
            Some(Fault::LostRequest) => Err(lost()),
            Some(Fault::Full) => Err(StoreError::Full("simulated".into())),
            Some(Fault::Denied) => Err(StoreError::Denied("403, simulated".into())),
            Some(Fault::Slow) => {
                std::thread::sleep(SLOW);
                Ok(None)
            }
            other => Ok(other),
        }
    }
}

fn lost() -> StoreError {
    StoreError::Unknown("the connection was reset, simulated".into())
}

impl Inner {
    fn draw(&mut self) -> Option<Fault> {
        if let Some(fault) = self.next.pop_front() {
            return Some(fault);
        }
        if self.per_mille == 0 || self.random() % 1000 >= self.per_mille {
            return None;
        }
        let which = self.random() as usize % BY_CHANCE.len();
        Some(BY_CHANCE[which])
    }

    /// splitmix64.
    fn random(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut x = self.seed;
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ (x >> 31)
    }

    fn listed(&self) -> Vec<Listed> {
        let listed = |(key, kept): (&Key, &Kept)| Listed {
            key: key.clone(),
            bytes: kept.bytes.len() as u64,
            written_us: kept.written_us,
        };
        self.objects.iter().map(listed).collect()
    }

    fn remember(&mut self) {
        let listed = self.listed();
        self.before.push_back(listed);
        if self.before.len() > STALE_CHANGES {
            self.before.pop_front();
        }
    }

    fn get(&self, key: &Key) -> Result<&Kept> {
        self.objects.get(key).ok_or(StoreError::NotFound)
    }
}

impl ObjectStore for SimStore {
    fn url(&self) -> String {
        "sim://".into()
    }

    fn put_new(&self, key: &Key, bytes: &[u8], crc: u32) -> Result<()> {
        let fault = self.begin(|requests| &mut requests.puts)?;
        if fault == Some(Fault::DamagedOnTheWay) || crc32c::crc32c(bytes) != crc {
            return Err(StoreError::Damaged("the checksum does not fit".into()));
        }
        let mut inner = self.lock();
        if inner.objects.contains_key(key) && !inner.overwrites {
            return Err(StoreError::Exists);
        }
        inner.remember();
        let kept = Kept { bytes: bytes.to_vec(), written_us: inner.now_us };
        inner.objects.insert(key.clone(), kept);
        if fault == Some(Fault::LostReply) { Err(lost()) } else { Ok(()) }
    }

    fn get(&self, key: &Key, range: Range<u64>) -> Result<Vec<u8>> {
        let fault = self.begin(|requests| &mut requests.gets)?;
        let inner = self.lock();
        let kept = inner.get(key)?;
        let all = &kept.bytes;
        let (start, end) = (range.start as usize, range.end as usize);
        let beyond = || StoreError::Invalid(format!("a range beyond the object: {range:?}"));
        let mut given = all.get(start..end).ok_or_else(beyond)?.to_vec();
        match fault {
            Some(Fault::Flipped) => {
                let middle = given.len() / 2;
                given.get_mut(middle).into_iter().for_each(|byte| *byte ^= 0x10);
            }
            Some(Fault::Short) => given.truncate(given.len() / 2),
            Some(Fault::WrongRange) => {
                let len = given.len();
                given.rotate_left(len.min(1));
            }
            Some(Fault::LostReply) => return Err(lost()),
            _ => {}
        }
        Ok(given)
    }

    fn len(&self, key: &Key) -> Result<u64> {
        self.begin(|requests| &mut requests.looks)?;
        Ok(self.lock().get(key)?.bytes.len() as u64)
    }

    fn checksum(&self, key: &Key) -> Result<u32> {
        self.begin(|requests| &mut requests.looks)?;
        Ok(crc32c::crc32c(&self.lock().get(key)?.bytes))
    }

    fn list(&self, prefix: &str, after: Option<&Key>, max: usize) -> Result<Vec<Listed>> {
        let fault = self.begin(|requests| &mut requests.lists)?;
        let inner = self.lock();
        let stale = inner.before.front().filter(|_| fault == Some(Fault::StaleList));
        let mut listed = stale.cloned().unwrap_or_else(|| inner.listed());
        listed.retain(|one| one.key.as_str().starts_with(prefix));
        listed.retain(|one| after.is_none_or(|after| one.key > *after));
        listed.truncate(max);
        Ok(listed)
    }

    fn delete(&self, key: &Key) -> Result<()> {
        let fault = self.begin(|requests| &mut requests.deletes)?;
        let mut inner = self.lock();
        inner.remember();
        inner.objects.remove(key);
        if fault == Some(Fault::LostReply) { Err(lost()) } else { Ok(()) }
    }

    fn sweep(&self, _: Duration) -> Result<u64> {
        Ok(0)
    }
}
