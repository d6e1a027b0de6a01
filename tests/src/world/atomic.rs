//! Atomic appends of a simulated life: some across shards, some with a fenced writer among them,
//! which must all come back, and the others all or nothing.
//!
//! Not here: what must hold after a crash (`check`).

use sapwood::{Batch, Error, Rejected, Writer};

use super::{PendingGroup, Session, World, push};
use crate::check;
use crate::ensure;
use crate::model::{Staged, Verdict};

/// One append of the group: which log, and what.
struct Part {
    log: usize,
    writer: Writer,
    batch: Batch,
    staged: Vec<Staged>,
}

impl World {
    /// Appends to some logs at once, staged as one.
    pub(super) fn atomic(
        &mut self,
        session: &mut Session,
        members: usize,
        bytes: usize,
    ) -> Verdict {
        let mut parts = Vec::new();
        for _ in 0..members {
            let log = self.rng.below(session.names.len() as u64) as usize;
            if session.writers[log].is_none() {
                self.fence(session, log)?;
            }
            let Some(writer) = session.writers[log].clone() else { return Ok(()) };
            parts.push(self.part(log, writer, bytes)?);
        }
        if self.disk.is_cut() {
            return Ok(()); // a ghost stages what never was
        }
        let mut fenced = false;
        if self.rng.below(8) == 0 {
            let at = self.rng.below(parts.len() as u64) as usize;
            if let Some(old) = session.fenced[parts[at].log].clone() {
                (parts[at].writer, fenced) = (old, true);
            }
        }
        let mut shards = Vec::new();
        for part in &parts {
            let log = session.engine.log(&session.names[part.log]).map_err(|e| e.to_string())?;
            shards.push(log.id().shard());
        }
        let one_shard = shards.iter().all(|shard| *shard == shards[0]);
        let sent: Vec<usize> = parts.iter().map(|part| part.batch.bytes()).collect();
        let given = parts.iter().map(|part| (&part.writer, part.batch.clone()));
        match session.engine.submit_atomic(given) {
            Ok(ticket) => {
                ensure!(one_shard && !fenced, "a group that must be rejected was staged");
                self.staged_group(session, &parts, ticket)
            }
            Err(Rejected { record: Some(back), error }) => {
                let back: Vec<usize> = back.iter().map(Batch::bytes).collect();
                ensure!(back == sent, "a rejected group came back changed");
                match error {
                    Error::Busy if one_shard => Ok(()),
                    Error::Invalid(_) if !one_shard => Ok(()),
                    Error::Fenced { .. } if one_shard && fenced => Ok(()),
                    other => self.excuse(session, &other),
                }
            }
            Err(Rejected { record: None, error }) => Err(format!("no record came back: {error}")),
        }
    }

    fn part(&mut self, log: usize, writer: Writer, bytes: usize) -> Verdict<Part> {
        let (mut batch, mut staged) = (Batch::new(), Vec::new());
        for _ in 0..=self.rng.below(3) {
            let len = self.rng.below(bytes as u64 + 1) as usize;
            let one = Staged { epoch: writer.epoch().0, nonce: self.rng.next_u64(), len };
            push(&mut batch, &one, &mut self.rng)?;
            staged.push(one);
        }
        Ok(Part { log, writer, batch, staged })
    }

    fn staged_group(
        &mut self,
        session: &mut Session,
        parts: &[Part],
        ticket: sapwood::AtomicTicket,
    ) -> Verdict {
        let mut whole = Vec::new();
        let positions: Vec<_> = ticket.positions().collect();
        ensure!(positions.len() == parts.len(), "{} positions", positions.len());
        for (part, first) in parts.iter().zip(positions) {
            let truth = self.truth(session, part.log);
            for (lsn, one) in (first.lsn.0..).zip(&part.staged) {
                truth.stage(lsn, *one)?;
            }
            let end = first.lsn.0 + part.staged.len() as u64;
            whole.push((session.names[part.log].clone(), first.lsn.0, end));
        }
        let ends = whole.iter().map(|(log, _, end)| (log.clone(), *end)).collect();
        self.model.wholes.push(whole);
        session.groups.push(PendingGroup { ends, ticket });
        Ok(())
    }

    /// Looks at the groups that are decided, and that none is seen in part.
    pub(super) fn collect_groups(&mut self, session: &mut Session) -> Verdict {
        if !self.disk.is_cut() {
            let infos = session.engine.logs();
            let durable = |log: &str| {
                infos.iter().find(|info| info.name == log).map_or(0, |info| info.durable.0)
            };
            check::all_or_nothing(&self.model, durable)?;
        }
        let groups = std::mem::take(&mut session.groups);
        let (done, open): (Vec<_>, Vec<_>) = groups.into_iter().partition(|g| g.ticket.is_done());
        session.groups = open;
        for PendingGroup { ends, ticket } in done {
            match ticket.wait() {
                // What a ghost acks counts for nothing.
                Ok(_) if self.disk.is_cut() => {}
                Ok(acks) => {
                    for ((log, end), ack) in ends.into_iter().zip(acks) {
                        let acked = ack.position.lsn.0 + u64::from(ack.records);
                        ensure!(acked == end, "acked up to {acked}, staged up to {end}");
                        if log.is_empty() {
                            continue; // deleted
                        }
                        let truth = self.model.logs.entry(log).or_default();
                        self.model.acks += truth.ack(end)?;
                    }
                }
                Err(error) => self.excuse(session, &error)?,
            }
        }
        Ok(())
    }
}
