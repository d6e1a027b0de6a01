//! What stands in etcd under a directory's key: its owner, as text.
//!
//! ```text
//! sapwood owner 1
//! term 7
//! holder 00c0ffee00c0ffee
//! renewal 41
//! ttl_ms 10000
//! released no
//! host db-1
//! pid 4711
//! address 10.0.0.7
//! ```
//!
//! Invariants: what [`encode`](Record::encode) wrote, [`parse`](Record::parse) gives back; a key
//! that holds anything else is refused and never written over; unknown lines are skipped, an
//! unknown version is refused.
//!
//! Not here: logs, epochs, starts (the manifest holds those), what follows from a record (`claim`).

use std::fmt;
use std::time::Duration;

use crate::terms::TTL_MAX;

/// The first line.
const HEAD: &str = "sapwood owner ";

/// The version of this form.
const VERSION: u32 = 1;

/// The largest value that is looked at.
const BYTES_MAX: usize = 4096;

/// Who speaks: told to whoever is refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// The host's name.
    pub host: String,
    /// The process.
    pub pid: u32,
    /// Where it can be asked; empty: nowhere.
    pub address: String,
}

/// The owner of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Only grows, with each owner.
    pub term: u32,
    /// A random number for each taking: nobody else's record is ever mistaken for one's own.
    pub holder: u64,
    /// Counts the renewals of this owner.
    pub renewal: u64,
    /// How long a successor waits after it saw this renewal.
    pub ttl: Duration,
    /// Its owner gave it back: nobody need wait.
    pub released: bool,
    /// Its owner.
    pub node: Node,
}

/// A value that is no record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// Written by a newer version.
    Version(u32),
    /// Something else, and what is wrong with it.
    Other(&'static str),
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => write!(f, "an owner in the form of version {version}"),
            Self::Other(what) => write!(f, "no owner: {what}"),
        }
    }
}

impl Record {
    /// As text.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let Self { term, holder, renewal, ttl, released, node } = self;
        let (ttl_ms, released) = (ttl.as_millis(), if *released { "yes" } else { "no" });
        let Node { host, pid, address } = node;
        let (host, address) = (plain(host), plain(address));
        format!(
            "{HEAD}{VERSION}\nterm {term}\nholder {holder:016x}\nrenewal {renewal}\n\
             ttl_ms {ttl_ms}\nreleased {released}\nhost {host}\npid {pid}\naddress {address}\n"
        )
        .into_bytes()
    }

    /// What [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, Flaw> {
        if bytes.len() > BYTES_MAX {
            return Err(Flaw::Other("it is too long"));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| Flaw::Other("it is no text"))?;
        if !text.ends_with('\n') {
            return Err(Flaw::Other("its last line has no end"));
        }
        let (head, rest) = text.split_once('\n').unwrap_or((text, ""));
        let version = head.strip_prefix(HEAD).and_then(|version| version.parse().ok());
        match version.ok_or(Flaw::Other("it does not begin as one"))? {
            VERSION => {}
            other => return Err(Flaw::Version(other)),
        }
        let line = |key: &str| rest.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(' '));
        let (get, address) = (|key: &str| line(key).unwrap_or(""), line("address"));
        fn number<T: std::str::FromStr>(text: &str, what: &'static str) -> Result<T, Flaw> {
            text.parse().map_err(|_| Flaw::Other(what))
        }
        let holder = get("holder");
        let ttl = Duration::from_millis(number(get("ttl_ms"), "its ttl_ms is no number")?);
        if ttl.is_zero() || ttl > TTL_MAX {
            return Err(Flaw::Other("its lease is out of range"));
        }
        Ok(Self {
            term: number(get("term"), "its term is no number")?,
            holder: u64::from_str_radix(holder, 16).map_err(|_| Flaw::Other("it has no holder"))?,
            renewal: number(get("renewal"), "its renewal is no number")?,
            ttl,
            released: match get("released") {
                "yes" => true,
                "no" => false,
                _ => return Err(Flaw::Other("it does not say whether it is released")),
            },
            node: Node {
                host: get("host").to_owned(),
                pid: number(get("pid"), "its pid is no number")?,
                address: address.ok_or(Flaw::Other("it has no address"))?.to_owned(),
            },
        })
    }
}

/// Without what would end a line, and not too long.
fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(256).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            term: 7,
            holder: 0x00c0_ffee_00c0_ffee,
            renewal: 41,
            ttl: Duration::from_secs(10),
            released: false,
            node: Node { host: "db-1".into(), pid: 4711, address: "10.0.0.7".into() },
        }
    }

    #[test]
    fn a_record_comes_back() {
        let text = String::from_utf8(record().encode()).unwrap();
        assert!(text.starts_with("sapwood owner 1\nterm 7\nholder 00c0ffee00c0ffee\n"), "{text}");
        for released in [false, true] {
            let record = Record { released, ..record() };
            assert_eq!(Record::parse(&record.encode()), Ok(record));
        }
        let mut sly = record();
        sly.node.host = "a\nterm 99".into();
        assert_eq!(Record::parse(&sly.encode()).unwrap().term, 7);
    }

    #[test]
    fn anything_else_is_refused() {
        let whole = record().encode();
        for len in 0..whole.len() {
            assert!(Record::parse(&whole[..len]).is_err(), "{len} bytes");
        }
        let other = String::from_utf8(whole).unwrap().replace("owner 1", "owner 2");
        assert_eq!(Record::parse(other.as_bytes()), Err(Flaw::Version(2)));
        assert!(Record::parse(&[b'x'; 5000]).is_err());
        assert!(Record::parse(b"\xff\n").is_err());
        let long = Record { ttl: TTL_MAX + Duration::from_millis(1), ..record() };
        assert!(Record::parse(&long.encode()).is_err());
    }
}
