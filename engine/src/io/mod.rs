//! The I/O seam.
