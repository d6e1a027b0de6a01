//! A large object, in parts: several at a time, and one call that makes them an object.
//!
//! Invariants:
//! - The condition and the checksum of the whole stand in the last call: until then nothing is
//!   there by name, and after it the object is whole.
//! - An upload that ends without an object is aborted; one whose process died is left to `sweep`.
//! - Memory: [`PARTS_AT_ONCE`] parts beside the object itself.
//!
//! Not here: objects of one put (`mod`).

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, ChecksumType, CompletedMultipartUpload, CompletedPart};
use crc32c::{crc32c, crc32c_combine};
use tokio::task::JoinSet;

use super::told::{Call, told};
use super::{PUT_ID, shown};
use crate::store::{Result, StoreError};

/// Parts under way at a time.
const PARTS_AT_ONCE: usize = 4;

/// One object on its way.
pub(super) struct Upload<'a> {
    pub(super) client: &'a Client,
    pub(super) bucket: &'a str,
    pub(super) name: &'a str,
    /// Tells this put from any other.
    pub(super) id: &'a str,
    pub(super) part_bytes: usize,
}

impl Upload<'_> {
    /// Puts the object, if there is none of its name.
    pub(super) async fn put_new(&self, bytes: &[u8], crc: u32) -> Result<()> {
        let begun = self
            .client
            .create_multipart_upload()
            .bucket(self.bucket)
            .key(self.name)
            .metadata(PUT_ID, self.id)
            .checksum_algorithm(ChecksumAlgorithm::Crc32C)
            .checksum_type(ChecksumType::FullObject)
            .send()
            .await
            .map_err(told(Call::Write))?;
        let Some(upload) = begun.upload_id() else {
            return Err(StoreError::Unknown("an upload in parts was begun without a name".into()));
        };
        let ended = match self.send_parts(upload, bytes, crc).await {
            Ok(parts) => self.complete(upload, parts, crc).await,
            Err(error) => Err(error),
        };
        if ended.is_err() {
            self.abort(upload).await;
        }
        ended
    }

    async fn send_parts(&self, upload: &str, bytes: &[u8], crc: u32) -> Result<Vec<CompletedPart>> {
        let mut under_way = JoinSet::new();
        let (mut done, mut whole) = (Vec::new(), 0);
        for (n, part) in bytes.chunks(self.part_bytes).enumerate() {
            if under_way.len() == PARTS_AT_ONCE {
                done.push(joined(under_way.join_next().await)?);
            }
            let sum = crc32c(part);
            whole = crc32c_combine(whole, sum, part.len());
            let number = i32::try_from(n + 1).unwrap_or(i32::MAX);
            let call = self
                .client
                .upload_part()
                .bucket(self.bucket)
                .key(self.name)
                .upload_id(upload)
                .part_number(number)
                .checksum_crc32_c(shown(sum))
                .body(ByteStream::from(part.to_vec()));
            under_way.spawn(async move {
                let sent = call.send().await.map_err(told(Call::Write))?;
                let part = CompletedPart::builder()
                    .part_number(number)
                    .checksum_crc32_c(shown(sum))
                    .set_e_tag(sent.e_tag);
                Ok(part.build())
            });
        }
        while !under_way.is_empty() {
            done.push(joined(under_way.join_next().await)?);
        }
        if whole != crc {
            let what = "the bytes are not those of their checksum";
            return Err(StoreError::Damaged(what.into()));
        }
        done.sort_by_key(CompletedPart::part_number);
        Ok(done)
    }

    async fn complete(&self, upload: &str, parts: Vec<CompletedPart>, crc: u32) -> Result<()> {
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let call = self
            .client
            .complete_multipart_upload()
            .bucket(self.bucket)
            .key(self.name)
            .upload_id(upload)
            .if_none_match("*")
            .checksum_crc32_c(shown(crc))
            .checksum_type(ChecksumType::FullObject)
            .multipart_upload(parts);
        match call.send().await.map_err(told(Call::Write)) {
            Ok(_) => Ok(()),
            // The upload is gone: made into an object by a call whose answer was lost, or aborted
            // by somebody's sweep. What is there by name tells.
            Err(StoreError::NotFound) => Err(StoreError::Exists),
            Err(other) => Err(other),
        }
    }

    /// As far as it goes: what stays is left to `sweep`.
    async fn abort(&self, upload: &str) {
        let call = self.client.abort_multipart_upload().bucket(self.bucket).key(self.name);
        let _ = call.upload_id(upload).send().await;
    }
}

fn joined(
    ended: Option<Result<Result<CompletedPart>, tokio::task::JoinError>>,
) -> Result<CompletedPart> {
    let lost = || StoreError::Unknown("the sending of a part broke off".into());
    ended.and_then(Result::ok).ok_or_else(lost)?
}
