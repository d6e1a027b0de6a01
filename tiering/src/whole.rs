//! An object fetched whole, with the patience that stores ask for.
//!
//! Invariant: what is given is as long as the store says; whether it is good is for who knows its
//! checksums. A call that may pass is made a few times.
//! Not here: parts of objects for readers (`archive`).

use crate::pace::Backoff;
use crate::store::{Key, ObjectStore, Result, StoreError};

/// Bytes of one get.
const PIECE_BYTES: u64 = 8 << 20;

/// A call is made so often.
const TRIES: u32 = 5;

/// Calls the store, again when that may help.
pub(crate) fn ask<T>(call: impl Fn() -> Result<T>) -> Result<T> {
    let mut backoff = Backoff::new(0);
    let mut tries = 1;
    loop {
        match call() {
            Err(error) if error.may_pass() && tries < TRIES => {
                std::thread::sleep(backoff.failed());
                tries += 1;
            }
            other => return other,
        }
    }
}

/// All bytes of an object of this length.
pub(crate) fn get_all(store: &dyn ObjectStore, key: &Key, bytes: u64) -> Result<Vec<u8>> {
    let mut out = Vec::new();
    while (out.len() as u64) < bytes {
        let at = out.len() as u64;
        let to = bytes.min(at + PIECE_BYTES);
        let piece = ask(|| {
            let piece = store.get(key, at..to)?;
            if piece.len() as u64 == to - at {
                Ok(piece)
            } else {
                Err(StoreError::Damaged(format!("{key}: a part came short")))
            }
        })?;
        out.extend_from_slice(&piece);
    }
    Ok(out)
}

/// An object that passes `check`; what does not is fetched again. `Ok(Err)`: it never passed.
pub(crate) fn get_checked<T, E>(
    store: &dyn ObjectStore,
    key: &Key,
    bytes: u64,
    check: impl Fn(&[u8]) -> Result<T, E>,
) -> Result<Result<T, E>> {
    let mut tries = 1;
    loop {
        match check(&get_all(store, key, bytes)?) {
            Err(_) if tries < TRIES => tries += 1,
            checked => return Ok(checked),
        }
    }
}

/// Every object whose name begins so, by pages.
pub(crate) fn list_all(
    store: &dyn ObjectStore,
    prefix: &str,
    each: &mut dyn FnMut(&crate::store::Listed),
) -> Result<()> {
    const PAGE: usize = 1000;
    let mut after: Option<Key> = None;
    loop {
        let page = ask(|| store.list(prefix, after.as_ref(), PAGE))?;
        page.iter().for_each(&mut *each);
        match page.last() {
            Some(last) if page.len() == PAGE => after = Some(last.key.clone()),
            _ => return Ok(()),
        }
    }
}
