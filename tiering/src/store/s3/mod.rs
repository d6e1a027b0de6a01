//! Objects in S3, at any endpoint that keeps conditions (`If-None-Match: *`) and checksums.
//!
//! The SDK is asynchronous, the trait is blocking and its callers are threads of the tier: so the
//! store owns a small runtime, and a call waits on it on the thread that makes it. Connections and
//! parts of an upload are driven by [`WORKERS`] threads; nothing of the runtime is seen outside.
//!
//! Invariants:
//! - Each put carries a name of its own as metadata ([`PUT_ID`]). Where the service says that an
//!   object of this name exists, that name tells whether it is what this very call wrote before,
//!   when its answer was lost: then it is a success. Two writers of the same bytes are still two.
//! - The checksum of the whole is sent with every put, and compared by the service before the
//!   object is there. A service that does not compare is refused by the probe.
//! - Calls are repeated by the SDK only (`client`); what it gives up is told, not tried again.
//!
//! Not here: what the answers mean (`told`), uploads in parts (`parts`), the place (`url`).

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumMode, ChecksumType};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::runtime::Runtime;

use self::parts::Upload;
use self::told::{Call, told};
use super::{Key, Listed, ObjectStore, Result, StoreError};

mod client;
mod parts;
mod told;
mod url;

pub use url::{S3Url, Style};

/// Threads that drive connections.
const WORKERS: usize = 2;

/// The metadata by which a put knows its own object again.
const PUT_ID: &str = "sapwood-put";

/// Names of one page of a list at most, as the protocol has it.
const PAGE_MAX: usize = 1000;

/// Bytes of one get, where a whole object is read for its checksum.
const GET_BYTES: u64 = 8 << 20;

/// Who we are. Shown without its secrets.
#[derive(Clone)]
pub struct Keys {
    /// The access key's id.
    pub id: String,
    /// Its secret.
    pub secret: String,
    /// The token of a session, for keys that end.
    pub session: Option<String>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({})", self.id)
    }
}

/// How a store uses its service.
#[derive(Clone, Debug)]
pub struct S3Settings {
    /// Objects of more bytes go in parts. Default 16 MiB.
    pub one_put_bytes_max: usize,
    /// Bytes of a part; the service takes 5 MiB or more. Default 8 MiB.
    pub part_bytes: usize,
    /// How often a call is made at most, the first time too. Default 4.
    pub attempts: u32,
    /// How long one attempt may take. Default 60 s.
    pub attempt_max: Duration,
    /// `None`: credentials as the environment, profiles and the host give them.
    pub keys: Option<Keys>,
}

impl Default for S3Settings {
    fn default() -> Self {
        Self {
            one_put_bytes_max: 16 << 20,
            part_bytes: 8 << 20,
            attempts: 4,
            attempt_max: Duration::from_secs(60),
            keys: None,
        }
    }
}

/// See the module.
pub struct S3Store {
    url: S3Url,
    settings: S3Settings,
    client: Client,
    /// Some until it is dropped.
    runtime: Option<Runtime>,
    /// With the count of its puts: what each put calls itself. No other store has this number.
    own: u64,
    puts: AtomicU64,
}

impl fmt::Debug for S3Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "S3Store({})", self.url)
    }
}

impl Drop for S3Store {
    fn drop(&mut self) {
        // Waits for nothing: a store may be dropped anywhere, in a runtime of somebody else too.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A checksum as S3 writes it.
fn shown(crc: u32) -> String {
    STANDARD.encode(crc.to_be_bytes())
}

fn read_sum(text: &str) -> Option<u32> {
    Some(u32::from_be_bytes(STANDARD.decode(text).ok()?.try_into().ok()?))
}

impl S3Store {
    /// A store at a place. Sends nothing; reads the environment. Call it from a thread, not from a
    /// task of a runtime, as all of this store.
    ///
    /// # Errors
    /// `Invalid` for settings that cannot work, or when the system gives no threads.
    pub fn open(url: S3Url, settings: S3Settings) -> Result<Self> {
        if settings.part_bytes == 0 || settings.attempts == 0 {
            return Err(StoreError::Invalid("parts of no bytes, or no attempts".into()));
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .thread_name("sapwood-s3")
            .enable_all()
            .build()
            .map_err(|e| StoreError::Invalid(format!("no threads for S3: {e}")))?;
        let client = runtime.block_on(client::connect(&url, &settings))?;
        let own = getrandom::u64().map_err(|e| StoreError::Invalid(e.to_string()))?;
        Ok(Self { url, settings, client, runtime: Some(runtime), own, puts: AtomicU64::new(0) })
    }

    /// Waits for a call, on the calling thread.
    fn wait<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        match &self.runtime {
            Some(runtime) => runtime.block_on(call),
            None => Err(StoreError::Invalid("the store is closed".into())),
        }
    }

    async fn put_whole(&self, name: &str, id: &str, bytes: &[u8], crc: u32) -> Result<()> {
        let call = self.client.put_object().bucket(&self.url.bucket).key(name);
        let call = call.metadata(PUT_ID, id).if_none_match("*").checksum_crc32_c(shown(crc));
        let call = call.body(ByteStream::from(bytes.to_vec()));
        call.send().await.map_err(told(Call::Write))?;
        Ok(())
    }

    async fn put_in_parts(&self, name: &str, id: &str, bytes: &[u8], crc: u32) -> Result<()> {
        // What exists is found before it is sent, not by the last of many calls.
        match self.head(name).await {
            Ok(_) => return Err(StoreError::Exists),
            Err(StoreError::NotFound) => {}
            Err(other) => return Err(other),
        }
        let (client, bucket) = (&self.client, &*self.url.bucket);
        let part_bytes = self.settings.part_bytes;
        Upload { client, bucket, name, id, part_bytes }.put_new(bytes, crc).await
    }

    /// Whether what exists was written by the put that calls itself so.
    async fn is_own(&self, name: &str, id: &str) -> Result<()> {
        match self.head(name).await {
            Ok(head)
                if head.metadata().and_then(|all| all.get(PUT_ID)).is_some_and(|at| at == id) =>
            {
                Ok(())
            }
            Ok(_) => Err(StoreError::Exists),
            Err(StoreError::NotFound) => {
                Err(StoreError::Unknown("it was said to exist, and does not".into()))
            }
            Err(other) => Err(StoreError::Unknown(format!("it exists; whose it is: {other}"))),
        }
    }

    async fn head(
        &self,
        name: &str,
    ) -> Result<aws_sdk_s3::operation::head_object::HeadObjectOutput> {
        let call = self.client.head_object().bucket(&self.url.bucket).key(name);
        call.checksum_mode(ChecksumMode::Enabled).send().await.map_err(told(Call::Read))
    }

    async fn len_of(&self, name: &str) -> Result<u64> {
        let told = self.head(name).await?.content_length();
        told.and_then(|len| u64::try_from(len).ok())
            .ok_or_else(|| StoreError::Invalid("it does not tell the length of an object".into()))
    }

    async fn get_range(&self, name: &str, range: Range<u64>) -> Result<Vec<u8>> {
        let call = self.client.get_object().bucket(&self.url.bucket).key(name);
        let call = call.range(format!("bytes={}-{}", range.start, range.end - 1));
        let got = call.send().await.map_err(told(Call::Read))?;
        let Some((from, to)) = got.content_range().and_then(given) else {
            return Err(StoreError::Invalid("it does not give the range it is asked for".into()));
        };
        if from == range.start && to < range.end {
            let what = format!("{range:?} reaches beyond the object, which ends at {to}");
            return Err(StoreError::Invalid(what));
        }
        let broke = |what: String| StoreError::Busy(format!("the answer broke off: {what}"));
        let body = got.body.collect().await.map_err(|e| broke(e.to_string()))?.into_bytes();
        if (from, to) != (range.start, range.end) || body.len() as u64 != to - from {
            let what = format!("{} bytes of {from}..{to} came for {range:?}", body.len());
            return Err(StoreError::Damaged(what));
        }
        Ok(body.into())
    }

    /// The checksum of an object for which the service keeps none of the whole: from its bytes.
    async fn sum_bytes(&self, name: &str, len: u64) -> Result<u32> {
        let (mut sum, mut at) = (0, 0);
        while at < len {
            let to = len.min(at + GET_BYTES);
            sum = crc32c::crc32c_append(sum, &self.get_range(name, at..to).await?);
            at = to;
        }
        Ok(sum)
    }

    async fn page(&self, prefix: &str, after: Option<String>, max: usize) -> Result<Page> {
        let max = i32::try_from(max.min(PAGE_MAX)).unwrap_or(i32::MAX);
        let call = self.client.list_objects_v2().bucket(&self.url.bucket).max_keys(max);
        let call = call.prefix(self.url.name(prefix)).set_start_after(after);
        let page = call.send().await.map_err(told(Call::Read))?;
        let more = page.is_truncated() == Some(true);
        let mut last = None;
        let mut keys = Vec::new();
        for one in page.contents.unwrap_or_default() {
            let Some(name) = one.key else { continue };
            let key = self.url.key(&name);
            last = Some(name);
            // Somebody else's, or a name that nobody here gives.
            let Some(key) = key else { continue };
            let bytes = one.size.and_then(|size| u64::try_from(size).ok()).unwrap_or_default();
            let written = one.last_modified.map_or(0, |at| at.as_nanos() / 1000);
            keys.push(Listed { key, bytes, written_us: u64::try_from(written).unwrap_or(0) });
        }
        Ok(Page { keys, next: last.filter(|_| more) })
    }

    async fn abort_older(&self, before: SystemTime) -> Result<u64> {
        let prefix = self.url.name("");
        let (bucket, before) = (&*self.url.bucket, since_1970(before));
        let (mut aborted, mut marker) = (0, None);
        loop {
            let call = self.client.list_multipart_uploads().bucket(bucket).prefix(&prefix);
            let call =
                call.set_key_marker(marker.as_ref().map(|(key, _): &(String, _)| key.clone()));
            let call = call.set_upload_id_marker(marker.and_then(|(_, id)| id));
            let page = call.send().await.map_err(told(Call::Read))?;
            let more = page.is_truncated() == Some(true);
            let next =
                page.next_key_marker.clone().map(|key| (key, page.next_upload_id_marker.clone()));
            for upload in page.uploads() {
                let (Some(name), Some(id)) = (upload.key(), upload.upload_id()) else { continue };
                let young = upload.initiated().is_none_or(|at| at.secs() > before);
                if young || self.url.key(name).is_none() {
                    continue;
                }
                let call = self.client.abort_multipart_upload().bucket(bucket).key(name);
                match call.upload_id(id).send().await.map_err(told(Call::Write)) {
                    Ok(_) => aborted += 1,
                    Err(StoreError::NotFound) => {}
                    Err(other) => return Err(other),
                }
            }
            marker = next;
            if !more || marker.is_none() {
                return Ok(aborted);
            }
        }
    }
}

/// A part of a list, and the name behind which the next one begins, if there is one.
struct Page {
    keys: Vec<Listed>,
    next: Option<String>,
}

/// Whole seconds.
fn since_1970(time: SystemTime) -> i64 {
    let passed = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    i64::try_from(passed).unwrap_or(i64::MAX)
}

/// From and to, of `bytes FROM-LAST/WHOLE`.
fn given(content_range: &str) -> Option<(u64, u64)> {
    let (range, _) = content_range.strip_prefix("bytes ")?.split_once('/')?;
    let (from, last) = range.split_once('-')?;
    Some((from.parse().ok()?, last.parse::<u64>().ok()?.checked_add(1)?))
}

impl ObjectStore for S3Store {
    fn url(&self) -> String {
        self.url.to_string()
    }

    fn put_new(&self, key: &Key, bytes: &[u8], crc: u32) -> Result<()> {
        let name = self.url.name(key.as_str());
        let id = format!("{:016x}-{}", self.own, self.puts.fetch_add(1, Ordering::Relaxed));
        self.wait(async {
            let put = match bytes.len() > self.settings.one_put_bytes_max {
                true => self.put_in_parts(&name, &id, bytes, crc).await,
                false => self.put_whole(&name, &id, bytes, crc).await,
            };
            match put {
                Err(StoreError::Exists) => self.is_own(&name, &id).await,
                other => other,
            }
        })
    }

    fn get(&self, key: &Key, range: Range<u64>) -> Result<Vec<u8>> {
        let name = self.url.name(key.as_str());
        self.wait(async {
            if !range.is_empty() {
                return self.get_range(&name, range).await;
            }
            let len = self.len_of(&name).await?;
            if range.start == range.end && range.end <= len {
                return Ok(Vec::new());
            }
            Err(StoreError::Invalid(format!("{range:?} of an object of {len} bytes")))
        })
    }

    fn len(&self, key: &Key) -> Result<u64> {
        self.wait(self.len_of(&self.url.name(key.as_str())))
    }

    fn checksum(&self, key: &Key) -> Result<u32> {
        let name = self.url.name(key.as_str());
        self.wait(async {
            let head = self.head(&name).await?;
            let of_parts = head.checksum_type() == Some(&ChecksumType::Composite);
            match head.checksum_crc32_c().and_then(read_sum) {
                Some(sum) if !of_parts => Ok(sum),
                _ => {
                    let len = head.content_length().and_then(|len| u64::try_from(len).ok());
                    self.sum_bytes(&name, len.unwrap_or_default()).await
                }
            }
        })
    }

    fn list(&self, prefix: &str, after: Option<&Key>, max: usize) -> Result<Vec<Listed>> {
        self.wait(async {
            let mut after = after.map(|key| self.url.name(key.as_str()));
            let mut listed = Vec::new();
            while listed.len() < max {
                let page = self.page(prefix, after, max - listed.len()).await?;
                listed.extend(page.keys);
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
            Ok(listed)
        })
    }

    fn delete(&self, key: &Key) -> Result<()> {
        let name = self.url.name(key.as_str());
        self.wait(async {
            let call = self.client.delete_object().bucket(&self.url.bucket).key(name);
            match call.send().await.map_err(told(Call::Write)) {
                Ok(_) | Err(StoreError::NotFound) => Ok(()),
                Err(other) => Err(other),
            }
        })
    }

    fn sweep(&self, older_than: Duration) -> Result<u64> {
        let before = SystemTime::now().checked_sub(older_than).unwrap_or(UNIX_EPOCH);
        self.wait(self.abort_older(before))
    }
}
