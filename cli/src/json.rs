//! A record as a line of JSON.
//!
//! Invariant: bytes that are text are a string; bytes that are not are `{"base64": "…"}`, so that
//! neither can be taken for the other.

use anyhow::{Result, anyhow};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sapwood::ReadRecord;
use serde_json::{Map, Value, json};

use crate::place::time_text;

/// One record.
///
/// # Errors
/// When its properties do not decode.
pub(crate) fn record(record: &ReadRecord<'_>) -> Result<Value> {
    let mut object = Map::new();
    object.insert("epoch".into(), record.epoch().0.into());
    object.insert("lsn".into(), record.lsn().0.into());
    object.insert("time".into(), time_text(record.timestamp_us()).into());
    object.insert("payload".into(), bytes(record.payload()));
    let mut properties = Map::new();
    for property in record.properties() {
        let (key, value) = property.map_err(|flaw| {
            anyhow!("the properties of the record at {}: {flaw}", record.position())
        })?;
        properties.insert(key.to_owned(), bytes(value));
    }
    if !properties.is_empty() {
        object.insert("properties".into(), properties.into());
    }
    Ok(object.into())
}

fn bytes(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => json!({ "base64": STANDARD.encode(bytes) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_a_string_and_the_rest_is_base64() {
        assert_eq!(bytes(b"plain"), json!("plain"));
        assert_eq!(bytes(b""), json!(""));
        assert_eq!(bytes(b"\xff\x00"), json!({ "base64": "/wA=" }));
    }
}
