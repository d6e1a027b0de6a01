//! The store over S3: the contract of stores, what goes wrong on the way, and the commands.
//!
//! All that links the client of AWS is this one test binary (and `sapwood` itself): it is large.
//! The server is one of this process. With `SAPWOOD_S3_URL` (and `AWS_ACCESS_KEY_ID`,
//! `AWS_SECRET_ACCESS_KEY`) the same tests run against another one, which `tests/lab/s3.sh` starts;
//! what only the own server can be made to do is tested on the own one always.

#![allow(clippy::unwrap_used)]

mod commands;
#[path = "../common/mod.rs"]
mod common;
mod faults;
mod net;
mod place;
mod proxy;
mod server;
mod store;
