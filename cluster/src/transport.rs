//! The way to etcd: one read and one conditional put of one key.
//!
//! Invariants that each implementation upholds: both are linearizable; an error says whether asking
//! again can help, and *never* that a put did not happen: after any error it may have happened, or
//! may yet. Each returns within the patience that it was made with.
//!
//! Not here: what is asked and why (`claim`, `tenure`).

use std::fmt;
use std::sync::Arc;

/// The moment of a key's last change, as etcd counts; 0: there is no such key.
pub type Revision = i64;

/// Why a question has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nobody knows what became of it; ask again.
    Unknown(String),
    /// It will not get better by itself: no permission, no such user, a certificate.
    Refused(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(why) => write!(f, "no answer from etcd: {why}"),
            Self::Refused(why) => write!(f, "etcd refuses: {why}"),
        }
    }
}

/// See the module.
pub trait Transport: Send + Sync {
    /// The key's value and revision.
    ///
    /// # Errors
    /// See [`Failure`].
    fn get(&self, key: &str) -> Result<Option<(Revision, Vec<u8>)>, Failure>;

    /// Puts the value if the key still has this revision (0: if there is none); gives its new one.
    /// `Ok(None)`: it has another, and nothing was put.
    ///
    /// # Errors
    /// See [`Failure`].
    fn put_if(
        &self,
        key: &str,
        revision: Revision,
        value: &[u8],
    ) -> Result<Option<Revision>, Failure>;
}

impl<T: Transport + ?Sized> Transport for Arc<T> {
    fn get(&self, key: &str) -> Result<Option<(Revision, Vec<u8>)>, Failure> {
        (**self).get(key)
    }

    fn put_if(
        &self,
        key: &str,
        revision: Revision,
        value: &[u8],
    ) -> Result<Option<Revision>, Failure> {
        (**self).put_if(key, revision, value)
    }
}

/// What `claim` and `tenure` want asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// [`Transport::get`].
    Get,
    /// [`Transport::put_if`].
    Put {
        /// The revision that the key must still have.
        revision: Revision,
        /// What to put.
        value: Vec<u8>,
    },
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The key's revision and value.
    Found(Option<(Revision, Vec<u8>)>),
    /// It was put, and this is the key's revision now.
    Put(Revision),
    /// The key has another revision; nothing was put.
    Differs,
}

impl Ask {
    /// Asks.
    ///
    /// # Errors
    /// Of the transport.
    pub fn over(
        &self,
        transport: &(impl Transport + ?Sized),
        key: &str,
    ) -> Result<Answer, Failure> {
        match self {
            Self::Get => transport.get(key).map(Answer::Found),
            Self::Put { revision, value } => {
                let put = transport.put_if(key, *revision, value)?;
                Ok(put.map_or(Answer::Differs, Answer::Put))
            }
        }
    }
}
