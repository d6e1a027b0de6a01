//! Sealed segments to object storage and back. Thin until its own release; see ARCHITECTURE.md.
