//! Whether a store keeps its promises, asked before anything is entrusted to it.
//!
//! Invariant: it leaves nothing behind, whatever the answer, unless it is interrupted.
//! Not here: the promises in full (`contract`).

use super::{Key, ObjectStore, Result, StoreError};

/// Puts, reads, puts again and deletes a small object under a name that nobody else uses, which
/// `unique` makes so; and puts one with a wrong checksum.
///
/// # Errors
/// `Invalid`, with what the store does not do: it is not safe to use. As the store says else.
pub fn probe(store: &dyn ObjectStore, unique: u64) -> Result<()> {
    let key = Key::new(format!("probe/{unique:016x}"))?;
    let other = Key::new(format!("probe/{unique:016x}-sum"))?;
    let told = ask(store, &key).and_then(|()| compares(store, &other));
    let removed = store.delete(&key).and(store.delete(&other));
    told.and(removed)
}

/// It holds what arrives against the checksum that it is sent.
fn compares(store: &dyn ObjectStore, key: &Key) -> Result<()> {
    match store.put_new(key, b"these bytes have another checksum", 1) {
        Err(StoreError::Damaged(_)) => Ok(()),
        Ok(()) => Err(StoreError::Invalid(format!(
            "{}: it takes bytes that are not those of the checksum sent with them: what is damaged \
             on the way would be kept",
            store.url()
        ))),
        Err(other) => Err(other),
    }
}

fn ask(store: &dyn ObjectStore, key: &Key) -> Result<()> {
    let refuse = |what: &str| Err(StoreError::Invalid(format!("{}: {what}", store.url())));
    let (first, second) = (b"sapwood probes this store", b"and writes under one name twice");
    let crc = crc32c::crc32c(first);
    store.put_new(key, first, crc)?;
    match store.put_new(key, second, crc32c::crc32c(second)) {
        Err(StoreError::Exists) => {}
        Ok(()) => {
            return refuse(
                "it overwrites objects although it is told not to (no conditional put): a second \
                 writer could replace what was acknowledged",
            );
        }
        Err(other) => return Err(other),
    }
    if store.len(key)? != first.len() as u64 || store.checksum(key)? != crc {
        return refuse("its length or checksum of an object is not that of the bytes it was sent");
    }
    if store.get(key, 8..14)? != first[8..14] {
        return refuse("it does not give the range of an object that it is asked for");
    }
    Ok(())
}
