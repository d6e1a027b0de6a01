//! The latency harness: load, floor, rivals, reports.
