//! Bytes on disk, pure.
