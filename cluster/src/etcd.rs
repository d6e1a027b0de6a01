//! A real etcd, by `etcd-client`: connected when it is first asked, connected anew after a failure.
//!
//! Invariants:
//! - Every question ends within the patience it was made with, whatever etcd does, and then it is
//!   unknown what became of it: only a refusal that cannot have changed anything is one.
//! - Certificates, keys and the password are read anew with each connection, and told to nobody.
//! - The runtime is its own: callers may be threads of another one, or of none.
//!
//! Not here: what is asked and why (`claim`, `tenure`).

use std::fmt;
use std::fs;
use std::future::Future;
use std::path::PathBuf;
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use etcd_client::{
    Certificate, Client, Compare, CompareOp, ConnectOptions, Error, Identity, TlsOptions, Txn,
    TxnOp,
};
use parking_lot::Mutex;
use tokio::runtime::{Builder, Runtime};

use crate::transport::{Failure, Revision, Transport};

/// Where etcd is, and who we are to it.
#[derive(Clone, Default)]
pub struct Access {
    /// `http://HOST:PORT` or `https://HOST:PORT` of one or more members.
    pub endpoints: Vec<String>,
    /// The authority (PEM) that vouches for the members; needed for `https`.
    pub ca: Option<PathBuf>,
    /// Our certificate and its key (PEM).
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Our user and its password.
    pub user: Option<(String, String)>,
    /// How long one question may take ([`Terms::patience`](crate::Terms::patience)).
    pub patience: Duration,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { endpoints, ca, identity, user, patience } = self;
        let (user, cert) = (user.as_ref().map(|(name, _)| name), identity.as_ref().map(|i| &i.0));
        write!(f, "Access({endpoints:?}, user {user:?}, ca {ca:?}, {cert:?}, {patience:?})")
    }
}

/// The way to a real etcd.
pub struct Etcd {
    access: Access,
    client: Mutex<Option<Client>>,
    /// `None` only while it is dropped.
    runtime: Option<Runtime>,
}

impl Etcd {
    /// A way to that etcd; nobody is asked yet.
    ///
    /// # Errors
    /// `Invalid` without an endpoint, or for one that is neither http nor https; `Io` when no
    /// thread can be had.
    pub fn new(access: Access) -> sapwood::Result<Self> {
        let known = |url: &String| url.starts_with("http://") || url.starts_with("https://");
        if access.endpoints.is_empty() || !access.endpoints.iter().all(known) {
            let what = "an etcd is given as http://HOST:PORT or https://HOST:PORT";
            return Err(sapwood::Error::Invalid(what.into()));
        }
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(1).thread_name("sapwood-etcd").enable_all();
        let runtime = builder.build();
        let runtime =
            runtime.map_err(|e| sapwood::Error::io("starting the thread that asks etcd", e))?;
        Ok(Self { access, client: Mutex::default(), runtime: Some(runtime) })
    }

    /// Asks on the runtime, from whatever thread; gives up after the patience.
    fn ask<T, F, Fut>(&self, question: F) -> Result<T, Failure>
    where
        T: Send + 'static,
        F: FnOnce(Client) -> Fut + Send + 'static,
        Fut: Future<Output = Result<T, Error>> + Send,
    {
        let Some(runtime) = &self.runtime else { return Err(Failure::Unknown("closed".into())) };
        let (access, known) = (self.access.clone(), self.client.lock().clone());
        let (tell, told) = sync_channel(1);
        let task = runtime.spawn(async move {
            let answer = match known {
                Some(client) => Ok(client),
                None => connect(&access).await,
            };
            let answer = match answer {
                Ok(client) => question(client.clone())
                    .await
                    .map(|answer| (client, answer))
                    .map_err(|error| failed(&error)),
                Err(failure) => Err(failure),
            };
            let _ = tell.send(answer);
        });
        let answer = told.recv_timeout(self.access.patience).unwrap_or_else(|_| {
            task.abort();
            Err(Failure::Unknown(format!("none within {:?}", self.access.patience)))
        });
        match answer {
            Ok((client, answer)) => {
                *self.client.lock() = Some(client);
                Ok(answer)
            }
            Err(failure) => {
                // Whatever it was, it may be gone with the connection.
                *self.client.lock() = None;
                Err(failure)
            }
        }
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn connect(access: &Access) -> Result<Client, Failure> {
    let read = |path: &PathBuf| {
        fs::read(path).map_err(|e| Failure::Refused(format!("reading {}: {e}", path.display())))
    };
    let mut options = ConnectOptions::new()
        .with_require_leader(true)
        .with_connect_timeout(access.patience)
        .with_timeout(access.patience);
    if access.endpoints.iter().any(|url| url.starts_with("https://")) {
        let mut tls = TlsOptions::new();
        if let Some(ca) = &access.ca {
            tls = tls.ca_certificate(Certificate::from_pem(read(ca)?));
        }
        if let Some((cert, key)) = &access.identity {
            tls = tls.identity(Identity::from_pem(read(cert)?, read(key)?));
        }
        options = options.with_tls(tls);
    }
    if let Some((name, password)) = &access.user {
        options = options.with_user(name, password);
    }
    let connected = Client::connect(&access.endpoints, Some(options)).await;
    connected.map_err(|error| match failed(&error) {
        // Nothing but a log-in was asked: whoever is refused here is not who they say.
        Failure::Unknown(why) if is_refusal(&error) => Failure::Refused(why),
        failure => failure,
    })
}

/// Codes of gRPC (the numbers are its own) for: invalid argument, failed precondition.
fn is_refusal(error: &Error) -> bool {
    matches!(error, Error::GRpcStatus(status) if matches!(status.code() as i32, 3 | 9))
}

fn failed(error: &Error) -> Failure {
    match error {
        // Permission denied. (A token that is no longer known is code 16: connecting anew helps.)
        Error::GRpcStatus(status) if status.code() as i32 == 7 => {
            Failure::Refused(status.message().to_owned())
        }
        Error::GRpcStatus(status) => {
            Failure::Unknown(format!("{:?}: {}", status.code(), status.message()))
        }
        Error::InvalidArgs(_) | Error::InvalidUri(_) => Failure::Refused(error.to_string()),
        other => Failure::Unknown(other.to_string()),
    }
}

impl Transport for Etcd {
    fn get(&self, key: &str) -> Result<Option<(Revision, Vec<u8>)>, Failure> {
        let key = key.to_owned();
        self.ask(move |mut client| async move {
            let found = client.get(key, None).await?;
            Ok(found.kvs().first().map(|kv| (kv.mod_revision(), kv.value().to_vec())))
        })
    }

    fn put_if(
        &self,
        key: &str,
        revision: Revision,
        value: &[u8],
    ) -> Result<Option<Revision>, Failure> {
        let (key, value) = (key.to_owned(), value.to_vec());
        self.ask(move |mut client| async move {
            let still = Compare::mod_revision(key.clone(), CompareOp::Equal, revision);
            let put = TxnOp::put(key, value, None);
            let done = client.txn(Txn::new().when([still]).and_then([put])).await?;
            let revision = done.header().map_or(0, |header| header.revision());
            Ok(done.succeeded().then_some(revision))
        })
    }
}
