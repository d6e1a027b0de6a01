//! The URL of a place in S3: `s3://BUCKET[/PREFIX][?endpoint=URL&region=NAME&style=path|virtual]`.
//!
//! Invariants: it holds no secrets and can be shown; printed, it is the URL that was read.
//! Not here: what the environment says where the URL does not (`client`).

use std::fmt;

use crate::store::{Key, Result, StoreError};

/// Letters of a bucket's name at least and at most.
const BUCKET_LETTERS: std::ops::RangeInclusive<usize> = 3..=63;

/// How the bucket is named to the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// In the path: `http://endpoint/bucket/key`. Every server on an address of its own knows it.
    Path,
    /// In the host's name: `http://bucket.endpoint/key`.
    Virtual,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Url {
    /// The bucket.
    pub bucket: String,
    /// Before every name, without a slash at its ends; may be empty.
    pub prefix: String,
    /// Where the service is; `None`: as the environment says, AWS else.
    pub endpoint: Option<String>,
    /// The region; `None`: as the environment says, `us-east-1` else.
    pub region: Option<String>,
    /// `None`: path at an endpoint that was named, virtual at AWS.
    pub style: Option<Style>,
}

impl S3Url {
    /// Reads a URL.
    ///
    /// # Errors
    /// `Invalid`, with what is wrong.
    pub fn parse(url: &str) -> Result<Self> {
        let wrong = |what: &str| {
            let how = "s3://BUCKET[/PREFIX][?endpoint=URL&region=NAME&style=path|virtual]";
            Err(StoreError::Invalid(format!("{url:?}: {what}; it reads {how}")))
        };
        let Some(rest) = url.strip_prefix("s3://") else { return wrong("no URL of S3") };
        let (place, options) = rest.split_once('?').unwrap_or((rest, ""));
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        let letter = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || b".-".contains(&c);
        if !BUCKET_LETTERS.contains(&bucket.len()) || !bucket.bytes().all(letter) {
            return wrong("a bucket's name has 3 to 63 lower-case letters, digits, dots, hyphens");
        }
        let prefix = prefix.trim_end_matches('/');
        if !prefix.is_empty() && Key::new(prefix).is_err() {
            return wrong("a prefix has letters, digits, '.', '_', '-' between slashes");
        }
        let mut read = Self {
            bucket: bucket.into(),
            prefix: prefix.into(),
            endpoint: None,
            region: None,
            style: None,
        };
        for option in options.split('&').filter(|option| !option.is_empty()) {
            match option.split_once('=') {
                Some(("endpoint", at)) if at.contains("://") => read.endpoint = Some(at.into()),
                Some(("region", name)) if !name.is_empty() => read.region = Some(name.into()),
                Some(("style", "path")) => read.style = Some(Style::Path),
                Some(("style", "virtual")) => read.style = Some(Style::Virtual),
                _ => return wrong(&format!("{option:?} is no option")),
            }
        }
        Ok(read)
    }

    /// The name in the bucket of what is called so here; a prefix of names gives a prefix.
    #[must_use]
    pub fn name(&self, key: &str) -> String {
        if self.prefix.is_empty() { key.into() } else { format!("{}/{key}", self.prefix) }
    }

    /// What something in the bucket is called here; `None` for what is not below the prefix.
    #[must_use]
    pub fn key(&self, name: &str) -> Option<Key> {
        let below = match &*self.prefix {
            "" => name,
            prefix => name.strip_prefix(prefix)?.strip_prefix('/')?,
        };
        Key::new(below).ok()
    }
}

impl fmt::Display for S3Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}", self.bucket)?;
        if !self.prefix.is_empty() {
            write!(f, "/{}", self.prefix)?;
        }
        let style = self.style.map(|style| match style {
            Style::Path => "path".to_owned(),
            Style::Virtual => "virtual".to_owned(),
        });
        let options = [
            ("endpoint", self.endpoint.clone()),
            ("region", self.region.clone()),
            ("style", style),
        ];
        let given = options.into_iter().filter_map(|(name, value)| Some((name, value?)));
        for (n, (name, value)) in given.enumerate() {
            write!(f, "{}{name}={value}", if n == 0 { '?' } else { '&' })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_what_is_shown() {
        for url in [
            "s3://bucket",
            "s3://my-bucket.x/a/b_c",
            "s3://bucket/p?endpoint=http://127.0.0.1:9000&region=eu-west-1&style=virtual",
            "s3://bucket?style=path",
        ] {
            assert_eq!(S3Url::parse(url).unwrap().to_string(), url);
        }
        assert_eq!(S3Url::parse("s3://bucket/a/").unwrap().prefix, "a");
        assert_eq!(S3Url::parse("s3://bucket/?").unwrap().to_string(), "s3://bucket");
    }

    #[test]
    fn what_is_no_place_is_refused() {
        for bad in [
            "s3://",
            "s3://ab",
            "s3:///x",
            "s3://Bucket",
            "s3://buc_ket",
            "s3://bucket//x",
            "s3://bucket/../x",
            "s3://bucket/ä",
            "s3://bucket?endpoint=host",
            "s3://bucket?x=y",
            "s3://bucket?style=both",
            "s3://bucket?region=",
            "http://bucket",
        ] {
            assert!(matches!(S3Url::parse(bad), Err(StoreError::Invalid(_))), "{bad}");
        }
    }

    #[test]
    fn names_and_keys_are_each_others_inverse() {
        for (url, name) in [("s3://bucket", "a/b"), ("s3://bucket/x/y", "x/y/a/b")] {
            let url = S3Url::parse(url).unwrap();
            assert_eq!(url.name("a/b"), name);
            assert_eq!(url.key(name), Some(Key::new("a/b").unwrap()));
        }
        let url = S3Url::parse("s3://bucket/x").unwrap();
        for foreign in ["a/b", "xy/a", "x", "x/", "x/a b"] {
            assert_eq!(url.key(foreign), None, "{foreign}");
        }
    }
}
