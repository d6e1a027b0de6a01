//! An S3 server in this process: the real protocol by `s3s`, with signatures; objects in memory.
//!
//! Invariants: what a request does, it does under one lock, conditions and all, so that of writers
//! that race one wins; what arrives is held against its checksum before it is there. (`s3s-fs`
//! checks the condition, then writes, then sums: so it is not used.) It listens on loopback, at a
//! port that was free, and ends when it is dropped.
//! Not here: what goes wrong on the way (`proxy`).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::SystemTime;

use futures_util::TryStreamExt;
use hyper::body::Bytes;
use s3s::auth::SimpleAuth;
use s3s::dto::*;
use s3s::service::S3ServiceBuilder;
use s3s::{S3, S3Request, S3Response, S3Result, s3_error};

use super::net::{Listening, listen};

pub(crate) const BUCKET: &str = "bucket";
pub(crate) const KEY_ID: &str = "sapwoodtest";
pub(crate) const SECRET: &str = "a-secret-of-this-test";

/// Parts but the last one have so many bytes at least.
const PART_BYTES_MIN: usize = 5 << 20;

/// What a server does not do that it should.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Habits {
    pub(crate) ignores_conditions: bool,
    pub(crate) ignores_checksums: bool,
}

pub(crate) struct Server {
    listening: Listening,
    store: Arc<Memory>,
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::with(Habits::default())
    }

    pub(crate) fn with(habits: Habits) -> Self {
        let store = Arc::new(Memory { habits, state: Mutex::default() });
        let mut service = S3ServiceBuilder::new(Shared(Arc::clone(&store)));
        service.set_auth(SimpleAuth::from_single(KEY_ID, SECRET));
        Self { listening: listen(service.build()), store }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.listening.address()
    }

    /// The names of its objects.
    pub(crate) fn names(&self) -> Vec<String> {
        self.store.lock().objects.keys().cloned().collect()
    }

    /// Uploads in parts that were begun and are neither complete nor aborted.
    pub(crate) fn uploads(&self) -> usize {
        self.store.lock().uploads.len()
    }
}

struct Kept {
    bytes: Bytes,
    /// As it was sent, when it is not compared; of what arrived, else.
    sum: u32,
    metadata: Option<Metadata>,
    written: SystemTime,
}

struct Upload {
    key: String,
    metadata: Option<Metadata>,
    begun: SystemTime,
    parts: BTreeMap<i32, Bytes>,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Kept>,
    uploads: BTreeMap<String, Upload>,
    begun: u64,
}

struct Memory {
    habits: Habits,
    state: Mutex<State>,
}

struct Shared(Arc<Memory>);

fn shown(sum: u32) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(sum.to_be_bytes())
}

fn tag(bytes: &[u8]) -> ETag {
    ETag::Strong(format!("{:08x}-{}", crc32c::crc32c(bytes), bytes.len()))
}

fn listed((name, kept): (&String, &Kept)) -> Object {
    Object {
        key: Some(name.clone()),
        size: Some(kept.bytes.len() as i64),
        last_modified: Some(Timestamp::from(kept.written)),
        ..Default::default()
    }
}

fn in_bucket(bucket: &str) -> S3Result<()> {
    if bucket == BUCKET { Ok(()) } else { Err(s3_error!(NoSuchBucket)) }
}

async fn whole(body: Option<StreamingBlob>) -> S3Result<Bytes> {
    let Some(body) = body else { return Ok(Bytes::new()) };
    let pieces = body.try_fold(Vec::new(), |mut all, piece| async move {
        all.extend_from_slice(&piece);
        Ok(all)
    });
    pieces.await.map(Bytes::from).map_err(|e| s3_error!(IncompleteBody, "{e}"))
}

impl Memory {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// The checksum an object gets, if what was sent of it is that of the bytes.
    fn compared(&self, sent: Option<&String>, bytes: &[u8]) -> S3Result<u32> {
        let sum = crc32c::crc32c(bytes);
        if sent.is_some_and(|sent| *sent != shown(sum)) && !self.habits.ignores_checksums {
            return Err(s3_error!(BadDigest));
        }
        Ok(sum)
    }

    fn may_put(&self, state: &State, key: &str, condition: Option<&IfNoneMatch>) -> S3Result<()> {
        let refused = condition.is_some() && !self.habits.ignores_conditions;
        if refused && state.objects.contains_key(key) {
            return Err(s3_error!(PreconditionFailed));
        }
        Ok(())
    }
}

#[async_trait::async_trait]
impl S3 for Shared {
    async fn put_object(
        &self,
        request: S3Request<PutObjectInput>,
    ) -> S3Result<S3Response<PutObjectOutput>> {
        let input = request.input;
        in_bucket(&input.bucket)?;
        let bytes = whole(input.body).await?;
        let sum = self.0.compared(input.checksum_crc32c.as_ref(), &bytes)?;
        let e_tag = Some(tag(&bytes));
        let mut state = self.0.lock();
        self.0.may_put(&state, &input.key, input.if_none_match.as_ref())?;
        let object = Kept { bytes, sum, metadata: input.metadata, written: SystemTime::now() };
        state.objects.insert(input.key, object);
        let checksum_crc32c = Some(shown(sum));
        Ok(S3Response::new(PutObjectOutput { e_tag, checksum_crc32c, ..Default::default() }))
    }

    async fn get_object(
        &self,
        request: S3Request<GetObjectInput>,
    ) -> S3Result<S3Response<GetObjectOutput>> {
        let input = request.input;
        in_bucket(&input.bucket)?;
        let state = self.0.lock();
        let object = state.objects.get(&input.key).ok_or_else(|| s3_error!(NoSuchKey))?;
        let len = object.bytes.len() as u64;
        let part = match &input.range {
            Some(range) => range.check(len)?,
            None => 0..len,
        };
        let bytes = object.bytes.slice(part.start as usize..part.end as usize);
        let shown = format!("bytes {}-{}/{len}", part.start, part.end.saturating_sub(1));
        Ok(S3Response::new(GetObjectOutput {
            content_length: Some(bytes.len() as i64),
            content_range: input.range.map(|_| shown),
            body: Some(StreamingBlob::wrap(futures_util::stream::once(async move {
                Ok::<_, std::io::Error>(bytes)
            }))),
            e_tag: Some(tag(&object.bytes)),
            ..Default::default()
        }))
    }

    async fn head_object(
        &self,
        request: S3Request<HeadObjectInput>,
    ) -> S3Result<S3Response<HeadObjectOutput>> {
        let input = request.input;
        in_bucket(&input.bucket)?;
        let state = self.0.lock();
        let object = state.objects.get(&input.key).ok_or_else(|| s3_error!(NoSuchKey))?;
        let sum = input.checksum_mode.map(|_| shown(object.sum));
        Ok(S3Response::new(HeadObjectOutput {
            content_length: Some(object.bytes.len() as i64),
            checksum_type: sum
                .as_ref()
                .map(|_| ChecksumType::from_static(ChecksumType::FULL_OBJECT)),
            checksum_crc32c: sum,
            metadata: object.metadata.clone(),
            last_modified: Some(Timestamp::from(object.written)),
            e_tag: Some(tag(&object.bytes)),
            ..Default::default()
        }))
    }

    async fn delete_object(
        &self,
        request: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        in_bucket(&request.input.bucket)?;
        self.0.lock().objects.remove(&request.input.key);
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = request.input;
        in_bucket(&input.bucket)?;
        let prefix = input.prefix.clone().unwrap_or_default();
        let after = input.continuation_token.or(input.start_after).unwrap_or_default();
        let max = usize::try_from(input.max_keys.unwrap_or(1000)).unwrap_or(0);
        let state = self.0.lock();
        let behind = |name: &str| name.starts_with(&prefix) && *name > *after;
        let mut found = state.objects.iter().filter(|(name, _)| behind(name));
        let contents: Vec<_> = found.by_ref().take(max).map(listed).collect();
        let more = found.next().is_some();
        let last = contents.last().and_then(|object| object.key.clone());
        Ok(S3Response::new(ListObjectsV2Output {
            name: Some(input.bucket),
            prefix: input.prefix,
            max_keys: input.max_keys,
            key_count: Some(contents.len() as i32),
            is_truncated: Some(more),
            next_continuation_token: last.filter(|_| more),
            contents: Some(contents),
            ..Default::default()
        }))
    }

    async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let input = request.input;
        in_bucket(&input.bucket)?;
        let mut state = self.0.lock();
        state.begun += 1;
        let id = format!("upload-{:08}", state.begun);
        let upload = Upload {
            key: input.key.clone(),
            metadata: input.metadata,
            begun: SystemTime::now(),
            parts: BTreeMap::new(),
        };
        state.uploads.insert(id.clone(), upload);
        Ok(S3Response::new(CreateMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(id),
            ..Default::default()
        }))
    }

    async fn upload_part(
        &self,
        request: S3Request<UploadPartInput>,
    ) -> S3Result<S3Response<UploadPartOutput>> {
        let input = request.input;
        in_bucket(&input.bucket)?;
        let bytes = whole(input.body).await?;
        let sum = self.0.compared(input.checksum_crc32c.as_ref(), &bytes)?;
        let e_tag = Some(tag(&bytes));
        let mut state = self.0.lock();
        let upload = state.uploads.get_mut(&input.upload_id);
        let upload = upload.ok_or_else(|| s3_error!(NoSuchUpload))?;
        upload.parts.insert(input.part_number, bytes);
        let checksum_crc32c = Some(shown(sum));
        Ok(S3Response::new(UploadPartOutput { e_tag, checksum_crc32c, ..Default::default() }))
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let input = request.input;
        in_bucket(&input.bucket)?;
        let named = input.multipart_upload.and_then(|all| all.parts).unwrap_or_default();
        let mut state = self.0.lock();
        let upload = state.uploads.get(&input.upload_id).ok_or_else(|| s3_error!(NoSuchUpload))?;
        let mut bytes = Vec::new();
        for (n, part) in named.iter().enumerate() {
            let number = part.part_number.unwrap_or_default();
            let there = upload.parts.get(&number).ok_or_else(|| s3_error!(InvalidPart))?;
            if part.e_tag.as_ref() != Some(&tag(there)) || number != n as i32 + 1 {
                return Err(s3_error!(InvalidPart));
            }
            if n + 1 < named.len() && there.len() < PART_BYTES_MIN {
                return Err(s3_error!(EntityTooSmall));
            }
            bytes.extend_from_slice(there);
        }
        let sum = self.0.compared(input.checksum_crc32c.as_ref(), &bytes)?;
        self.0.may_put(&state, &input.key, input.if_none_match.as_ref())?;
        let Some(upload) = state.uploads.remove(&input.upload_id) else {
            return Err(s3_error!(NoSuchUpload));
        };
        let bytes = Bytes::from(bytes);
        let e_tag = Some(tag(&bytes));
        let written = SystemTime::now();
        let object = Kept { bytes, sum, metadata: upload.metadata, written };
        state.objects.insert(input.key.clone(), object);
        Ok(S3Response::new(CompleteMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            e_tag,
            ..Default::default()
        }))
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        in_bucket(&request.input.bucket)?;
        let gone = self.0.lock().uploads.remove(&request.input.upload_id);
        gone.ok_or_else(|| s3_error!(NoSuchUpload))?;
        Ok(S3Response::new(AbortMultipartUploadOutput::default()))
    }

    async fn list_multipart_uploads(
        &self,
        request: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        let input = request.input;
        in_bucket(&input.bucket)?;
        let prefix = input.prefix.unwrap_or_default();
        let state = self.0.lock();
        let below = state.uploads.iter().filter(|(_, upload)| upload.key.starts_with(&prefix));
        let uploads = below.map(|(id, upload)| MultipartUpload {
            key: Some(upload.key.clone()),
            upload_id: Some(id.clone()),
            initiated: Some(Timestamp::from(upload.begun)),
            ..Default::default()
        });
        Ok(S3Response::new(ListMultipartUploadsOutput {
            bucket: Some(input.bucket),
            is_truncated: Some(false),
            uploads: Some(uploads.collect()),
            ..Default::default()
        }))
    }
}
