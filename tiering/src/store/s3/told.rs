//! What the service, or the way to it, says; as a store says it.
//!
//! Invariants: a call that writes is `Unknown` unless the service itself said that it did nothing:
//! the SDK may have sent it more than once, and only the last answer is known here. No text holds a
//! secret.
//! Not here: how often a call is made (`client`).

use std::error::Error;

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};

use crate::store::StoreError;

/// What a call does, where it is not known whether it was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Read,
    Write,
}

impl Call {
    fn open(self, what: String) -> StoreError {
        match self {
            Self::Read => StoreError::Busy(what),
            Self::Write => StoreError::Unknown(what),
        }
    }
}

/// Maps what the SDK gives.
pub(super) fn told<E>(call: Call) -> impl FnOnce(SdkError<E>) -> StoreError
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    move |error| {
        if let SdkError::ServiceError(service) = &error {
            let status = service.raw().status().as_u16();
            let said = service.err();
            return answered(call, status, said.code(), said.message());
        }
        let what = chain(&error);
        if what.contains("credential") {
            let how = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE";
            return StoreError::Denied(format!("there are no credentials ({how}): {what}"));
        }
        match &error {
            SdkError::ConstructionFailure(_) => StoreError::Invalid(what),
            _ => call.open(what),
        }
    }
}

/// An error and its causes, in one line.
fn chain(error: &dyn Error) -> String {
    let (mut text, mut cause) = (error.to_string(), error.source());
    while let Some(one) = cause {
        text = format!("{text}: {one}");
        cause = one.source();
    }
    text
}

/// An answer of the service that is not what was asked for.
fn answered(call: Call, status: u16, code: Option<&str>, message: Option<&str>) -> StoreError {
    let code = code.unwrap_or_default();
    let said = format!("{status} {code} {}", message.unwrap_or_default());
    let said = said.trim_end().to_owned();
    let denied = |how: &str| StoreError::Denied(format!("{how} ({said})"));
    let invalid = |how: &str| StoreError::Invalid(format!("{how} ({said})"));
    match (code, status) {
        ("NoSuchBucket", _) => invalid("there is no such bucket: create it"),
        ("ConditionalRequestConflict" | "OperationAborted", _) | (_, 409) => StoreError::Busy(said),
        ("PreconditionFailed", _) | (_, 412) => StoreError::Exists,
        ("InvalidRange", _) | (_, 416) => invalid("the range reaches beyond the object"),
        (
            "BadDigest"
            | "InvalidDigest"
            | "IncompleteBody"
            | "XAmzContentSHA256Mismatch"
            | "XAmzContentChecksumMismatch",
            _,
        ) => StoreError::Damaged(said),
        ("RequestTimeTooSkewed" | "RequestExpired", _) => {
            denied("the clock of this host and that of the store differ: set it")
        }
        ("ExpiredToken" | "ExpiredTokenException" | "TokenRefreshRequired", _) => {
            denied("the credentials have expired: renew them")
        }
        ("InvalidAccessKeyId" | "SignatureDoesNotMatch" | "InvalidToken", _) => {
            denied("the credentials are not known there, or the secret is wrong: check them")
        }
        ("PermanentRedirect" | "AuthorizationHeaderMalformed" | "IllegalLocationConstraint", _)
        | (_, 301 | 307) => invalid("the bucket is in another region: set AWS_REGION or region="),
        ("XMinioStorageFull" | "QuotaExceeded" | "InsufficientCapacity", _) | (_, 507) => {
            StoreError::Full(said)
        }
        (_, 401 | 403) => denied(
            "these credentials may not do that: they need s3:GetObject, PutObject, DeleteObject, \
             AbortMultipartUpload, ListBucket and ListBucketMultipartUploads",
        ),
        ("NoSuchKey" | "NotFound" | "NoSuchUpload", _) | (_, 404) => StoreError::NotFound,
        ("NotImplemented", _) | (_, 501) => {
            invalid("the endpoint cannot do that: a tier needs conditional put (If-None-Match)")
        }
        ("RequestTimeout", _) | (_, 429 | 500..) => call.open(said),
        _ => StoreError::Invalid(said),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn say(status: u16, code: &str) -> [StoreError; 2] {
        [Call::Read, Call::Write].map(|call| answered(call, status, Some(code), Some("text")))
    }

    #[test]
    fn answers_are_told_by_what_to_do_next() {
        let shown = |status, code| {
            let [read, write] = say(status, code);
            assert_eq!(read, write, "{code}");
            read.to_string()
        };
        assert_eq!(say(412, "PreconditionFailed")[1], StoreError::Exists);
        assert_eq!(say(404, "NoSuchKey")[0], StoreError::NotFound);
        for (status, code, word) in [
            (404, "NoSuchBucket", "create it"),
            (403, "RequestTimeTooSkewed", "clock"),
            (400, "ExpiredToken", "renew"),
            (403, "SignatureDoesNotMatch", "secret is wrong"),
            (403, "AccessDenied", "s3:GetObject"),
            (301, "PermanentRedirect", "region"),
            (400, "BadDigest", "damaged on the way"),
            (409, "ConditionalRequestConflict", "not now"),
            (507, "XMinioStorageFull", "full"),
            (501, "NotImplemented", "conditional put"),
        ] {
            assert!(shown(status, code).contains(word), "{}", shown(status, code));
        }
    }

    /// A call that was sent twice may have taken effect the first time.
    #[test]
    fn what_may_have_been_done_is_not_said_to_have_failed() {
        for (status, code) in [(503, "SlowDown"), (500, "InternalError"), (429, ""), (504, "")] {
            let [read, write] = say(status, code);
            assert!(matches!(read, StoreError::Busy(_)), "{read}");
            assert!(matches!(write, StoreError::Unknown(_)), "{write}");
        }
    }
}
