//! A bucket without a directory: which histories it holds, and reading one of them as it is.
//!
//! Invariants: nothing is written into the bucket; what is made to look into it, the facts of its
//! logs and no record, lies in a folder of its own and goes with it. Of several histories none is
//! taken by itself.
//! Not here: what a bucket holds (`sapwood_tiering`).

use std::path::Path;

use anyhow::{Result, anyhow};
use sapwood::{Config, Engine};
use sapwood_tiering::store::{ObjectStore, StoreError};
use sapwood_tiering::{History, Survey, histories, look_into};
use tempfile::TempDir;

use crate::directory::Backend;
use crate::exit::{Exit, Failure};
use crate::output::tell;
use crate::tier::Tiering;

/// Which of several histories.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Which {
    /// Of several directories in the store, this one (DIRECTORY-LINEAGE, as they are listed)
    #[arg(long, value_name = "ID")]
    pub history: Option<String>,
}

impl Which {
    /// The history that is meant.
    pub(crate) fn choose(&self, store: &dyn ObjectStore) -> Result<History> {
        let found = histories(store).map_err(|e| failed(store, &e))?;
        if let Some(wanted) = &self.history {
            let known = History::parse(wanted).filter(|history| found.contains(history));
            let missing = || format!("{} has no history {wanted}", store.url());
            return known.ok_or_else(|| Failure::new(Exit::Missing, missing()).into());
        }
        match found[..] {
            [] => {
                let message = format!("there is nothing of a directory in {}", store.url());
                Err(Failure::new(Exit::Missing, message).into())
            }
            [one] => Ok(one),
            _ => {
                let names: Vec<String> = found.iter().map(ToString::to_string).collect();
                let message = format!(
                    "{} holds several directories; choose with --history: {}",
                    store.url(),
                    names.join(", ")
                );
                Err(Failure::new(Exit::Usage, message).into())
            }
        }
    }
}

/// A store that does not answer.
pub(crate) fn failed(store: &dyn ObjectStore, error: &StoreError) -> anyhow::Error {
    anyhow!("{}: {error}", store.url())
}

/// What a bucket holds of a history.
pub(crate) fn survey(
    store: &dyn ObjectStore,
    history: History,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Survey> {
    use sapwood_tiering::NotSurveyed::{Nothing, Unsupported};
    Survey::of(store, history, progress).map_err(|error| match error {
        Unsupported(_) => Failure::new(Exit::NotOurs, error.to_string()).into(),
        Nothing => {
            let message = format!("{history} in {}: {error}", store.url());
            Failure::new(Exit::Missing, message).into()
        }
        _ => anyhow!("{}: {error}", store.url()),
    })
}

/// A bucket that is read like a directory.
pub(crate) struct Bucket {
    pub engine: Engine,
    _place: TempDir,
}

impl Bucket {
    /// Looks into the bucket of a URL. What is missing in it is told on stderr.
    pub(crate) fn open(url: &str, which: &Which, backend: Backend) -> Result<Self> {
        let tiering = Tiering::open(url)?;
        let store = tiering.store();
        let survey = survey(store, which.choose(store)?, &mut |_, _| ())?;
        for trouble in &survey.troubles {
            tell(format_args!("sapwood: {trouble}"));
        }
        let place = TempDir::new()?;
        let dir = place.path().join("bucket");
        look_into(&survey, &Config { direct: false, ..Config::new(&dir) })?;
        let engine = open_look(&dir, backend, &tiering)?;
        Ok(Self { engine, _place: place })
    }
}

fn open_look(dir: &Path, backend: Backend, tiering: &Tiering) -> Result<Engine> {
    let config = Config { read_only: true, backend: backend.into(), ..Config::new(dir) };
    Ok(Engine::open_with(config, tiering.components())?.0)
}
