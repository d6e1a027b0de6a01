//! A place to keep objects for one test, with a proxy before it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use sapwood_tiering::store::{Key, Keys, ObjectStore, Result, S3Settings, S3Store, S3Url};

use super::proxy::Proxy;
use super::server::{BUCKET, KEY_ID, SECRET, Server};

/// A server, its proxy, and names that no other test has.
pub(crate) struct Place {
    bucket: String,
    prefix: String,
    keys: Keys,
    /// Of the server itself; before it, the proxy speaks without TLS.
    direct: String,
    pub(crate) proxy: Proxy,
    own: Option<Server>,
}

impl Place {
    /// At the server of the lab, if there is one.
    pub(crate) fn new() -> Self {
        match std::env::var("SAPWOOD_S3_URL") {
            Ok(url) => Self::at_lab(&url),
            Err(_) => Self::at(Server::start()),
        }
    }

    pub(crate) fn at(server: Server) -> Self {
        let keys = Keys { id: KEY_ID.into(), secret: SECRET.into(), session: None };
        let (bucket, prefix) = (BUCKET.into(), "tier".into());
        let (direct, proxy) =
            (format!("http://{}", server.address()), Proxy::before(server.address()));
        Self { bucket, prefix, keys, direct, proxy, own: Some(server) }
    }

    fn at_lab(url: &str) -> Self {
        let url = S3Url::parse(url).unwrap();
        let env = |name| std::env::var(name).unwrap();
        let (id, secret) = (env("AWS_ACCESS_KEY_ID"), env("AWS_SECRET_ACCESS_KEY"));
        let direct = url.endpoint.unwrap();
        let address = direct.split_once("://").unwrap().1.parse().unwrap();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let keys = Keys { id, secret, session: None };
        let prefix = format!("{}-{}", now.as_nanos(), next());
        Self { bucket: url.bucket, prefix, keys, direct, proxy: Proxy::before(address), own: None }
    }

    /// The server of this process. Only where the test made it.
    pub(crate) fn server(&self) -> &Server {
        self.own.as_ref().unwrap()
    }

    pub(crate) fn keys(&self) -> Keys {
        self.keys.clone()
    }

    fn url_at(&self, endpoint: &str, below: &str) -> S3Url {
        let (bucket, prefix) = (&self.bucket, &self.prefix);
        let url = format!("s3://{bucket}/{prefix}{below}?endpoint={endpoint}&region=eu-x-1");
        S3Url::parse(&url).unwrap()
    }

    /// Through the proxy.
    pub(crate) fn url(&self) -> S3Url {
        self.url_at(&format!("http://{}", self.proxy.address()), "")
    }

    /// As it is written where the environment says the rest.
    pub(crate) fn short_url(&self) -> String {
        format!("s3://{}/{}", self.bucket, self.prefix)
    }

    pub(crate) fn settings(&self) -> S3Settings {
        S3Settings { keys: Some(self.keys()), ..S3Settings::default() }
    }

    /// Through the proxy.
    pub(crate) fn store(&self) -> S3Store {
        S3Store::open(self.url(), self.settings()).unwrap()
    }

    /// An empty one, with no proxy before it.
    pub(crate) fn fresh(&self, settings: S3Settings) -> S3Store {
        let url = self.url_at(&self.direct, &format!("/fresh-{}", next()));
        S3Store::open(url, S3Settings { keys: Some(self.keys()), ..settings }).unwrap()
    }
}

fn next() -> u64 {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    COUNT.fetch_add(1, Ordering::Relaxed)
}

/// Objects above one byte go in parts: of the smallest size that services take.
pub(crate) fn in_parts() -> S3Settings {
    S3Settings { one_put_bytes_max: 1, part_bytes: 5 << 20, ..S3Settings::default() }
}

/// Gives up soon.
pub(crate) fn impatient() -> S3Settings {
    let attempt_max = Duration::from_millis(500);
    S3Settings { attempts: 2, attempt_max, ..S3Settings::default() }
}

pub(crate) fn key(name: &str) -> Key {
    Key::new(name).unwrap()
}

pub(crate) fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n * 7 % 251) as u8).collect()
}

pub(crate) fn put(store: &dyn ObjectStore, name: &str, bytes: &[u8]) -> Result<()> {
    store.put_new(&key(name), bytes, crc32c::crc32c(bytes))
}

pub(crate) fn whole(store: &dyn ObjectStore, name: &str) -> Result<Vec<u8>> {
    store.get(&key(name), 0..store.len(&key(name))?)
}
