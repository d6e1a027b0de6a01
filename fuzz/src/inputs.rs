//! The judge of what the command line takes as text: places, sizes, ages, sizes that go together,
//! names of objects.
//!
//! Invariant: the parsers are the command line's own files.
//!
//! Not here: options, which `clap` takes apart.

#[path = "../../cli/src/amount.rs"]
mod amount;
#[path = "../../cli/src/place.rs"]
mod place;
#[path = "../../cli/src/sizes.rs"]
mod sizes;

use sapwood::{Config, From};
use sapwood_tiering::layout;
use sapwood_tiering::store::Key;

use amount::{Age, Bytes, Limit, age_text};
use place::{Place, time_text};
use sizes::Sizes;

/// The first byte, halved, chooses what the text is taken for.
pub fn cli_inputs(data: &[u8]) -> bool {
    let Some((kind, bytes)) = data.split_first() else { return false };
    if kind / 2 % 8 == 5 {
        return sizes(bytes);
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    match kind / 2 % 8 {
        0 => text.parse().is_ok_and(|place| a_place(text, place)),
        1 => text.parse().is_ok_and(|limit: Limit<Bytes>| limit.0.is_none_or(|size| size.0 > 0)),
        2 => text.parse().is_ok_and(|Limit(age): Limit<Age>| age.is_none_or(|age| an_age(age.0))),
        3 => Key::new(text).is_ok_and(|key| a_name(&key)),
        4 => text.parse().is_ok_and(|micros| !time_text(micros).is_empty()),
        _ => text.parse().is_ok_and(|secs| !age_text(secs).is_empty()),
    }
}

fn a_place(text: &str, Place(place): Place) -> bool {
    match place {
        From::Start | From::Tail => assert!(text == "start" || text == "tail"),
        From::Lsn(lsn) => assert_eq!(lsn.0.to_string().parse(), Ok(lsn.0)),
        From::Time(micros) => {
            let again: Place = time_text(micros).parse().expect("a time that was shown");
            assert_eq!(again.0, From::Time(micros), "{text:?}");
        }
        _ => assert!(text.contains(':')),
    }
    true
}

fn an_age(secs: u64) -> bool {
    let again: Limit<Age> = age_text(secs).parse().expect("an age that was shown");
    assert_eq!(again, Limit(Some(Age(secs))));
    true
}

fn a_name(key: &Key) -> bool {
    let outside = |part: &str| part.is_empty() || part.starts_with('.');
    assert!(!key.as_str().split('/').any(outside), "{key} leaves its folder");
    layout::parse(key).is_none_or(|named| named.again == 0 || key.as_str().contains('.'))
}

/// Three numbers, as options give them: it ends, and what is taken is valid.
fn sizes(bytes: &[u8]) -> bool {
    let number = |at: usize| -> Option<u64> {
        let number = u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?);
        (number != 0).then_some(number)
    };
    let mut config = Config::new("x");
    let asked = Sizes { segment: number(0), record: number(8), stage: number(16) };
    if let Err(advice) = asked.set(&mut config) {
        assert!(advice.contains("--segment-size"));
        return false;
    }
    let valid = config.validate();
    // What was given is for the engine to refuse; what was derived must be good.
    let given = !config.segment_bytes.is_multiple_of(1 << 20)
        || !(1 << 20..=4 << 30).contains(&config.segment_bytes)
        || asked.stage.is_some()
        || config.stage_bytes > 4 << 30;
    assert!(valid.is_ok() || given, "{asked:?}: {valid:?}");
    valid.is_ok()
}
