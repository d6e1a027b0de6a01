//! Looking at what is left: the batches of a file, and what an open makes of it.
//!
//! Not here: what must be true of it (the tests).

use std::sync::Arc;

use sapwood::format::manifest::Frame;
use sapwood::format::{BatchHeader, SegmentHeader};
use sapwood::io::sim::SimStorage;
use sapwood::{Engine, Error, From, ShardReport};

use super::judge::config;

/// The batches of a segment file: where each stands, and its sequence.
pub(crate) fn batches(world: &SimStorage, name: &str) -> Vec<(u64, u64)> {
    let bytes = world.image(name).unwrap();
    let nonce = SegmentHeader::decode(&bytes).unwrap().nonce;
    let (mut found, mut at) = (Vec::new(), 4096);
    while let Some(Ok((header, _))) = bytes.get(at..).map(|b| BatchHeader::decode(b, nonce)) {
        found.push((at as u64, header.seq));
        at += header.padded_bytes(4096);
    }
    found
}

/// Opens, reads log `a`: what recovery told, how many records came, and how reading ended.
pub(crate) fn look(world: &SimStorage) -> Result<(ShardReport, u64, Result<(), Error>), Error> {
    let (engine, drivers) = Engine::open_on(Arc::new(world.clone()), config())?;
    let _driving: Vec<_> = drivers.into_iter().map(|driver| driver.bind().unwrap()).collect();
    let mut reader = engine.log("a").unwrap().reader(From::Start).unwrap();
    let mut count = 0;
    let end = loop {
        match reader.next().wait() {
            Ok(Some(_)) => count += 1,
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
    };
    Ok((engine.recovery()[0].clone(), count, end))
}

/// Where the last frame of the manifest stands: its slot, and its offset.
pub(crate) fn last_frame(world: &SimStorage) -> (usize, u64) {
    let mut last = (0, 0, 0);
    for slot in 0..2 {
        let bytes = world.image(&format!("manifest-000-a{slot}")).unwrap();
        let mut at = 0;
        while let Some(Ok((frame, padded, _))) = bytes.get(at..).map(Frame::decode) {
            last = last.max((frame.seq, slot, at as u64));
            at += padded;
        }
    }
    (last.1, last.2)
}
