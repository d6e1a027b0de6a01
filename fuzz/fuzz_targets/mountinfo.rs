//! `/proc/self/mountinfo`, read as an open reads it.
#![no_main]

use std::path::Path;

use sapwood::io::mountinfo::Mount;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    for mount in text.lines().filter_map(Mount::parse) {
        assert!(mount.is_nfs() || mount.risks(true).is_empty());
        assert_ne!(mount.wsize(), Some(0));
    }
    if let Some(mount) = Mount::of(&text, Path::new("/a/b")) {
        assert!(Path::new("/a/b").starts_with(&mount.point));
    }
});
