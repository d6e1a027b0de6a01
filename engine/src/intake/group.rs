//! Staging an atomic group: appends to several logs of one shard, under one hold of the lock.
//!
//! Invariants: either all members are staged, in the order given, or none is. They stand in one
//! batch, which is whole or absent after a crash; a group that is larger is a span, which is too.
//!
//! Crash story: a group spread over two batches that nothing ties together, of which one lands and
//! the power goes: an account is debited and the other one never credited.
//!
//! Not here: who waits for the group (`atomic`), one append alone (`intake`), spans (`span`).

use std::sync::Arc;

use super::{Intake, RUNS_MAX, RoomWait, Staged, Staging, deleted, fill, framed, trailer_bytes};
use crate::error::{Error, Result};
use crate::format::{BATCH_FRONT_BYTES, FLAG_GROUP};
use crate::lsn::{Epoch, LogId};
use crate::record::Records;

/// One append of a group.
pub(crate) struct Member<R> {
    pub id: LogId,
    pub epoch: Epoch,
    pub records: R,
}

impl<R: Records> Member<R> {
    fn bytes(&self) -> usize {
        (0..self.records.count()).map(|i| framed(self.records.part_lens(i))).sum()
    }
}

impl Intake {
    /// Stages all members, or nothing.
    pub(crate) fn stage_group<R: Records>(
        &self,
        members: &[Member<R>],
        waiter: Option<&Arc<RoomWait>>,
    ) -> Result<Vec<Staged>> {
        if members.len() > RUNS_MAX {
            return Err(Error::Invalid(format!(
                "{} appends in one group; at most {RUNS_MAX}",
                members.len()
            )));
        }
        // Allocated before the lock is taken.
        let bytes: Vec<usize> = members.iter().map(Member::bytes).collect();
        let total: usize = bytes.iter().sum();
        let most = self.ring.batch_max() - BATCH_FRONT_BYTES;
        if total + trailer_bytes(members.len()) > most {
            return self.stage_span(members, FLAG_GROUP, waiter);
        }
        let mut staged = Vec::with_capacity(members.len());
        let mut guard = self.ring.lock();
        self.in_line(&guard, waiter)?;
        if let Some(error) = guard.refused(self) {
            return Err(error);
        }
        for (member, bytes) in members.iter().zip(&bytes) {
            let may = self.may(&guard, member.id.counter() as usize, member.epoch, *bytes);
            if let Err(error) = may {
                drop(guard);
                return Err(deleted(member.id, error));
            }
        }
        let fresh = |staging: &Staging, seq, at: usize| {
            let index = |member: &Member<R>| member.id.counter() as usize;
            members.iter().filter(|m| staging.begins_run(index(m), seq, at + total)).count()
        };
        let mut slot = self.place(&mut guard, total, fresh)?;
        let mut at = guard.open_bytes() - total;
        for (member, bytes) in members.iter().zip(&bytes) {
            let count = member.records.count();
            staged.push(self.assign(&mut guard, member.id, member.epoch, count, at..at + bytes));
            at += bytes;
        }
        let next = self.leave_line(&mut guard, waiter);
        let open_bytes = guard.open_bytes();
        drop(guard);
        let mut out = slot.bytes();
        for ((member, staged), bytes) in members.iter().zip(&staged).zip(&bytes) {
            let (own, rest) = out.split_at_mut(*bytes);
            fill(own, member.id, staged, &member.records, FLAG_GROUP);
            out = rest;
        }
        self.hand_over(slot, open_bytes);
        if let Some(next) = next {
            next.wake();
        }
        Ok(staged)
    }
}
