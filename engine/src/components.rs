//! Components: what an engine is given besides its settings.
//!
//! Not here: settings (`config`), what the engine does with them (`open`).

use std::fmt;
use std::sync::Arc;

use crate::archive::Archive;
use crate::io::Storage;
use crate::owner::Owner;

/// Parts of an engine that others implement. The default is an engine alone on a local disk.
#[derive(Clone, Default)]
pub struct Components {
    /// Who may write the directory; `None`: its lock decides
    /// ([`DirectoryLock`](crate::owner::DirectoryLock)).
    pub owner: Option<Arc<dyn Owner>>,
    /// Where records are that the directory no longer holds; `None`: nowhere, so that what is kept
    /// stays.
    pub archive: Option<Arc<dyn Archive>>,
    /// The directory itself, in place of `Config::dir`: how the simulator opens an engine.
    pub storage: Option<Arc<dyn Storage>>,
}

impl fmt::Debug for Components {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { owner, archive, storage } = self;
        let owner = owner.as_ref().map(|owner| owner.kind());
        let (archive, storage) = (archive.is_some(), storage.is_some());
        write!(f, "Components(owner {owner:?}, archive {archive}, storage {storage})")
    }
}
