//! What stands in etcd under a directory's key: whatever is accepted is written and read again, and
//! is the same.
#![no_main]

use sapwood_cluster::record::Record;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(record) = Record::parse(data) {
        let again = Record::parse(&record.encode()).expect("what was written is read");
        assert_eq!((record.term, record.holder, record.ttl), (again.term, again.holder, again.ttl));
        assert_eq!(Record::parse(&again.encode()), Ok(again));
    }
});
