//! `--etcd`, `--single-node`: who may write a directory that several hosts can reach.
//!
//! Invariants: without a word here the directory's lock decides, which is all that a local disk
//! needs; a password comes from the environment, never from the command line.
//! Not here: leases (`sapwood_cluster`), what a mount is refused for (the engine).

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use anyhow::Result;
use sapwood::io::mountinfo::Risk;
use sapwood::owner::{Owner, SingleNode};
use sapwood::{Components, Config};

use crate::exit::{Exit, Failure};

/// Options of a command that writes where others might.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "On files that several hosts reach")]
pub(crate) struct OwnerArgs {
    /// Own the directory by a lease in this etcd (http://HOST:PORT; several members: commas)
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    pub etcd: Vec<String>,
    /// The name by which all nodes know the directory in etcd [default: its path]
    #[arg(long, value_name = "NAME", requires = "etcd")]
    pub etcd_name: Option<String>,
    /// How long the lease is; a successor of a node that is gone waits as long
    #[arg(long, value_name = "SECS", requires = "etcd", default_value = "10")]
    pub lease: f64,
    /// The authority (PEM) that vouches for an https etcd
    #[arg(long, value_name = "FILE", requires = "etcd")]
    pub etcd_ca: Option<PathBuf>,
    /// Our certificate (PEM)
    #[arg(long, value_name = "FILE", requires_all = ["etcd", "etcd_key"])]
    pub etcd_cert: Option<PathBuf>,
    /// The key of our certificate (PEM)
    #[arg(long, value_name = "FILE", requires_all = ["etcd", "etcd_cert"])]
    pub etcd_key: Option<PathBuf>,
    /// Our user in etcd; the password is SAPWOOD_ETCD_PASSWORD in the environment
    #[arg(long, value_name = "NAME", requires = "etcd")]
    pub etcd_user: Option<String>,
}

/// What is said of a directory on NFS, to any command that writes.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "On NFS")]
pub(crate) struct NfsArgs {
    /// Write a directory on NFS under its lock alone: no other host writes it
    #[arg(long, global = true)]
    pub single_node: bool,
    /// Write on a mount in spite of this: soft, version, local-locks, recover-lost-locks
    #[arg(long, global = true, value_name = "RISK")]
    pub accept_risk: Vec<Risk>,
}

/// As it was said; once, by `main`.
static NFS: OnceLock<NfsArgs> = OnceLock::new();

impl NfsArgs {
    /// From here on every command goes by it.
    pub(crate) fn apply(self) {
        let _ = NFS.set(self);
    }

    /// Completes what a directory is opened with for writing.
    pub(crate) fn complete(config: &mut Config, components: &mut Components) {
        let Some(said) = NFS.get() else { return };
        config.accept_risks.clone_from(&said.accept_risk);
        if said.single_node && components.owner.is_none() {
            components.owner = Some(Arc::new(SingleNode));
        }
    }
}

impl OwnerArgs {
    /// Who decides; `None`: the directory's lock.
    pub(crate) fn owner(&self, dir: &Path) -> Result<Option<Arc<dyn Owner>>> {
        if self.etcd.is_empty() { Ok(None) } else { self.lease(dir).map(Some) }
    }

    #[cfg(feature = "etcd")]
    fn lease(&self, dir: &Path) -> Result<Arc<dyn Owner>> {
        use std::time::Duration;

        use sapwood_cluster::etcd::{Access, Etcd};
        use sapwood_cluster::{EtcdOwner, Terms};

        let ttl = Duration::try_from_secs_f64(self.lease)
            .map_err(|e| Failure::new(Exit::Usage, format!("--lease {}: {e}", self.lease)))?;
        let terms = Terms::of(ttl)?;
        let password = std::env::var("SAPWOOD_ETCD_PASSWORD").unwrap_or_default();
        let access = Access {
            endpoints: self.etcd.clone(),
            ca: self.etcd_ca.clone(),
            identity: self.etcd_cert.clone().zip(self.etcd_key.clone()),
            user: self.etcd_user.clone().map(|name| (name, password)),
            patience: terms.patience(),
        };
        let name = match &self.etcd_name {
            Some(name) => name.clone(),
            None => whole(dir)?.to_string_lossy().into_owned(),
        };
        Ok(Arc::new(EtcdOwner::new(Etcd::new(access)?, &name, terms)))
    }

    #[cfg(not(feature = "etcd"))]
    fn lease(&self, _: &Path) -> Result<Arc<dyn Owner>> {
        let message = "this build has no etcd: build it with `--features etcd` (it wants protoc)";
        Err(Failure::new(Exit::Usage, message).into())
    }
}

/// The path of a directory from the root, without links; it may be missing.
#[cfg(feature = "etcd")]
fn whole(dir: &Path) -> Result<PathBuf> {
    let absolute = std::path::absolute(dir)?;
    let there = absolute.ancestors().find_map(|at| Some((at, at.canonicalize().ok()?)));
    let Some((there, real)) = there else { return Ok(absolute) };
    Ok(real.join(absolute.strip_prefix(there)?).components().collect())
}

#[cfg(all(test, feature = "etcd"))]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_a_directory_gives_one_name() {
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().canonicalize().unwrap();
        std::fs::create_dir(real.join("a")).unwrap();
        std::os::unix::fs::symlink(real.join("a"), real.join("link")).unwrap();
        assert_eq!(whole(&real.join("a/wal")).unwrap(), real.join("a/wal"));
        assert_eq!(whole(&real.join("link/wal")).unwrap(), real.join("a/wal"));
        assert_eq!(whole(&real.join("link")).unwrap(), real.join("a"));
    }
}
