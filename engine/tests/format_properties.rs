//! Properties of the format over values nobody thought of: what is written is read back, what is
//! damaged is told, what is hostile is refused.

#![allow(clippy::unwrap_used, reason = "a test may")]

mod samples;

use proptest::collection::vec;
use proptest::prelude::*;
use samples::{Input, NONCE, batch, header, record, refit_batch, refit_frame, runs_of, samples};
use sapwood::format::{
    BATCH_HEADER_BYTES, BatchHeader, BatchKind, BatchView, Chain, DamageFacts, DirectoryFacts,
    Edit, EntryBlock, Fence, Flaw, Frame, FrameView, IndexData, IndexEntry, IndexHeader, Link,
    LogFacts, LogSettings, Posting, Producer, PropertyIter, RecordHeader, RecordKind, Run,
    RunTable, SegmentHeader, UNIT_MIN, encode_packed_runs, encode_properties, encode_runs,
    packed_run_table_bytes, read_record, read_record_header_only, round_up, run_table_bytes, seed,
};
use sapwood::{Epoch, LogId, Lsn, SegmentId, ShardId};

fn a_record_header() -> impl Strategy<Value = RecordHeader> {
    let kinds = [1u8, 2, 3, 4, 5].map(|byte| RecordKind::from_byte(byte).unwrap());
    let numbers = (any::<[u64; 3]>(), any::<[u32; 2]>(), any::<(u16, u8)>());
    let producer = any::<Option<(u64, u64)>>();
    (numbers, proptest::sample::select(kinds.to_vec()), producer).prop_map(
        |(([log, lsn, time_us], [epoch, payload_bytes], (properties_bytes, flags)), kind, p)| {
            let producer = p.map(|(id, sequence)| Producer { id, sequence });
            RecordHeader {
                log: LogId(log),
                lsn: Lsn(lsn),
                epoch: Epoch(epoch),
                time_us,
                kind,
                flags: (flags & 0b0111) | (8 * u8::from(producer.is_some())),
                fragment_index: if flags & 2 != 0 { 1 + lsn as u32 % 31 } else { 0 },
                properties_bytes,
                payload_bytes,
                body_crc: epoch ^ payload_bytes,
                producer,
            }
        },
    )
}

fn a_batch_header() -> impl Strategy<Value = BatchHeader> {
    (any::<[u64; 5]>(), any::<[u32; 4]>(), any::<[u8; 16]>(), any::<u16>(), 1..=64u64).prop_map(
        |([directory, segment, durable, manifest_seq, time_us], [a, b, c, d], tag, shard, lead)| {
            let durable = durable.min(u64::MAX - 64);
            BatchHeader {
                kind: BatchKind::Mark,
                codec: 0,
                directory,
                shard: ShardId(shard),
                term: a,
                segment: SegmentId(segment),
                seq: durable + lead,
                durable,
                manifest_seq,
                time_us,
                bytes: b.max(BATCH_HEADER_BYTES as u32),
                records: 0,
                runs: 0,
                runs_offset: 0,
                prev_crc: c,
                key_id: 0,
                tag,
                compat: d,
                incompat: 0,
                part: 0,
                continues: false,
            }
        },
    )
}

/// Records of a few logs and epochs, taken in turns that nobody chose.
/// Numbers of every size, small ones as likely as large ones.
fn any_run() -> impl Strategy<Value = Run> {
    let numbers = (any::<[u64; 2]>(), any::<[u32; 4]>(), any::<[u8; 6]>(), any::<[bool; 2]>());
    numbers.prop_map(|([log, lsn], [epoch, count, bytes, at], shifts, [continued, continues])| {
        let count = (count >> (shifts[0] % 32)).max(1);
        Run {
            log: LogId(log >> (shifts[1] % 64)),
            first_lsn: Lsn((lsn >> (shifts[2] % 64)).min(u64::MAX - u64::from(count))),
            epoch: Epoch(epoch >> (shifts[3] % 32)),
            count,
            bytes: bytes >> (shifts[4] % 32),
            at: at >> (shifts[5] % 32) >> 3 << 3,
            continued,
            continues,
        }
    })
}

fn a_batch() -> impl Strategy<Value = Vec<Input>> {
    let payload = vec(any::<u8>(), 0..80);
    vec((0..9u64, 1..3u32, payload), 1..60).prop_map(|mut picks| {
        let mut next = std::collections::BTreeMap::new();
        let mut lsn = |log, epoch| {
            let next = next.entry((log, epoch)).or_insert(1000 * u64::from(epoch));
            *next += 1;
            *next - 1
        };
        picks
            .drain(..)
            .map(|(log, epoch, payload)| (log, epoch, lsn(log, epoch), payload))
            .collect()
    })
}

fn a_link() -> impl Strategy<Value = Link> {
    any::<(u64, u32, u64)>().prop_map(|(segment, ordinal, lsn)| Link {
        segment: SegmentId(segment),
        ordinal,
        first_lsn: Lsn(lsn),
    })
}

fn a_log() -> impl Strategy<Value = LogFacts> {
    let settings = any::<([Option<u64>; 3], u8)>();
    let epochs = vec(any::<(u32, u64)>(), 0..5);
    let names = (".{0,12}", proptest::option::of(".{0,12}"));
    (any::<[u64; 5]>(), any::<[u32; 2]>(), names, settings, epochs, vec(a_link(), 0..32)).prop_map(
        |([id, start, tail, time, created_us], [epoch, flags], (name, group), s, epochs, links)| {
            let ([retention_bytes, retention_secs, local_retention_bytes], durability) = s;
            LogFacts {
                id: LogId(id),
                name: name.into(),
                group: group.map(Into::into),
                settings: LogSettings {
                    retention_bytes,
                    retention_secs,
                    local_retention_bytes,
                    durability,
                },
                start: Lsn(start),
                tail: Lsn(tail),
                tail_epoch: Epoch(epoch),
                tail_time_us: time,
                epochs: epochs.into_iter().map(|(epoch, lsn)| (Epoch(epoch), Lsn(lsn))).collect(),
                chain: Chain { links },
                created_us,
                flags,
            }
        },
    )
}

type Numbers = ([u64; 8], [u32; 2], bool, u16);

fn a_large_edit(pick: u8, (n, m, flag, word): Numbers) -> Edit {
    let segment = SegmentId(n[1]);
    match pick {
        0 => Edit::Directory(DirectoryFacts {
            directory: n[0],
            lineage: n[1],
            shards: word,
            unit: m[0],
            segment_bytes: n[2],
            record_bytes_max: m[1],
            batch_bytes_max: m[0] ^ m[1],
            created_us: n[3],
        }),
        1 => Edit::Sealed {
            segment,
            first_seq: n[0],
            last_seq: n[2],
            end_offset: n[3],
            last_crc: m[0],
            records: n[4],
            first_time_us: n[5],
            last_time_us: n[6],
            index_bytes: n[7],
            index_crc: m[1],
        },
        _ => Edit::Damage(DamageFacts {
            log: flag.then_some(LogId(n[0] >> 1)),
            first_lsn: Lsn(n[2]),
            last_lsn: flag.then_some(Lsn(n[3] >> 1)),
            segment,
            offset: n[4],
            bytes: n[5],
            reason: word,
            lost: flag,
        }),
    }
}

fn an_edit() -> impl Strategy<Value = Edit> {
    let bytes = vec(any::<u8>(), 0..40);
    (0..19u8, any::<Numbers>(), a_log(), bytes).prop_map(|(pick, numbers, facts, bytes)| {
        let (n, m, _, word) = numbers;
        let (log, segment, lsn) = (LogId(n[0]), SegmentId(n[1]), Lsn(n[2]));
        match pick {
            0..=2 => a_large_edit(pick, numbers),
            3 => Edit::Epoch { log, epoch: Epoch(m[0]), first_lsn: lsn },
            4 => Edit::Settings { log, settings: facts.settings },
            5 => Edit::Start { log, start: lsn },
            6 => Edit::Deleted { log },
            7 => Edit::NextLog { counter: n[0] },
            8 => Edit::Spare { segment, file: n[0], nonce: n[2], bytes: n[3], term: m[0] },
            9 => Edit::Retired { segment },
            10 => Edit::Term { term: m[0], cut_seq: n[0], cut_crc: m[1] },
            11 => Edit::Closed { last_seq: n[0] },
            12 => Edit::Checkpoint { seq: n[0] },
            13 => Edit::Tiered { segment },
            14 => Edit::Cursor { log, name: facts.name.to_string(), lsn },
            17 => Edit::Relocated {
                segment,
                file: n[0],
                nonce: n[2],
                end_offset: n[3],
                records: n[0] ^ n[2],
                index_bytes: n[2] ^ n[3],
                term: m[0],
                index_crc: m[1],
            },
            16 => Edit::Cut { log, epoch: Epoch(m[0]), first_lsn: lsn },
            15 => Edit::Unknown { kind: word.max(1000), flags: word & !1, bytes },
            _ => Edit::Log(facts),
        }
    })
}

fn a_frame() -> impl Strategy<Value = Frame> {
    let numbers = any::<([u64; 5], u32, u32, u16, bool)>();
    (numbers, vec(an_edit(), 0..12)).prop_map(|((n, term, prev_crc, shard, snapshot), edits)| {
        Frame {
            flags: u16::from(snapshot),
            directory: n[0],
            lineage: n[1],
            shard: ShardId(shard),
            term,
            seq: n[2],
            durable: n[3],
            time_us: n[4],
            prev_crc,
            edits,
        }
    })
}

fn an_index() -> impl Strategy<Value = IndexData> {
    let entry = (any::<[u64; 8]>(), any::<[u32; 4]>(), a_link(), any::<[bool; 2]>());
    let entries = proptest::collection::btree_map(any::<u64>(), entry, 0..70);
    let postings = vec(any::<([u64; 2], [u32; 2])>(), 0..50);
    let names = vec((any::<u64>(), ".{0,12}"), 0..20);
    (any::<[u64; 6]>(), any::<(u16, u32)>(), entries, postings, names).prop_map(
        |(n, (shard, term), entries, postings, names)| {
            let reach = postings.len() as u32;
            IndexData {
                directory: n[0],
                shard: ShardId(shard),
                segment: SegmentId(n[1]),
                file: n[2],
                term,
                first_seq: n[3],
                last_seq: n[4],
                end_offset: n[5],
                entries: entries
                    .into_iter()
                    .map(|(log, (n, m, link, [has_prev, has_jump]))| IndexEntry {
                        log: LogId(log),
                        first_lsn: Lsn(n[0]),
                        last_lsn: Lsn(n[1]),
                        first_epoch: Epoch(m[0]),
                        last_epoch: Epoch(m[1]),
                        records: n[2],
                        bytes: n[3],
                        first_time_us: n[4],
                        last_time_us: n[5],
                        first_offset: n[6],
                        posting_start: m[2] % (reach + 1),
                        posting_count: reach - m[2] % (reach + 1),
                        ordinal: m[3],
                        prev: has_prev.then_some(link),
                        jump: has_jump.then_some(Link { ordinal: m[0], ..link }),
                    })
                    .collect(),
                postings: postings
                    .into_iter()
                    .map(|([lsn, time_us], [offset, at])| Posting {
                        lsn: Lsn(lsn),
                        offset,
                        at,
                        time_us,
                    })
                    .collect(),
                names: names.into_iter().map(|(log, name)| (LogId(log), name)).collect(),
            }
        },
    )
}

fn config() -> ProptestConfig {
    ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn record_headers_come_back(header in a_record_header()) {
        let mut out = [0xff; 64];
        header.encode(&mut out);
        prop_assert_eq!(RecordHeader::decode(&out), Ok(header));
        prop_assert!(out[header.header_bytes()..].iter().all(|byte| *byte == 0xff));
        let body = usize::from(header.properties_bytes) + header.payload_bytes as usize;
        let framed = header.framed_bytes();
        prop_assert!(framed % 8 == 0 && framed - header.header_bytes() - body < 8);
    }

    #[test]
    fn records_come_back(
        pairs in vec((".{0,8}", vec(any::<u8>(), 0..20)), 0..5),
        payload in vec(any::<u8>(), 0..300),
        flip in any::<proptest::sample::Index>(),
    ) {
        let pairs: Vec<(&str, &[u8])> =
            pairs.iter().map(|(key, value)| (key.as_str(), value.as_slice())).collect();
        let properties = encode_properties(&pairs).unwrap();
        let header = header(7, 3, 41, &properties, &payload);
        let mut bytes = record(&header, &properties, &payload);
        let (found, framed) = read_record(&bytes).unwrap();
        prop_assert_eq!((found.header, found.payload, framed), (header, &payload[..], bytes.len()));
        let back: Result<Vec<_>, _> = found.iter_properties().collect();
        prop_assert_eq!(back.unwrap(), pairs);
        // Any bit of header or body, wherever the body ends.
        let body_end = header.header_bytes() + properties.len() + payload.len();
        let bit = flip.index(8 * body_end);
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(read_record(&bytes).is_err());
        prop_assert_eq!(read_record_header_only(&bytes).is_ok(), bit >= 8 * header.header_bytes());
    }

    #[test]
    fn properties_of_any_bytes_end(bytes in vec(any::<u8>(), 0..200)) {
        let steps = PropertyIter::new(&bytes).count();
        prop_assert!(steps <= bytes.len() / 4 + 1);
    }

    #[test]
    fn batch_headers_come_back(header in a_batch_header(), nonce in any::<u64>()) {
        let mut out = [0; 128];
        let crc = header.encode(nonce, &mut out);
        prop_assert_eq!(BatchHeader::decode(&out, nonce), Ok((header, crc)));
        prop_assert_eq!(BatchHeader::decode(&out, nonce ^ 1), Err(Flaw::Crc));
    }

    #[test]
    fn batches_come_back(inputs in a_batch(), log in 0..9u64) {
        let bytes = batch(&inputs);
        let view = BatchView::parse(&bytes, NONCE).unwrap();
        prop_assert_eq!(view.verify(), Ok(()));
        prop_assert_eq!(view.runs.iter().collect::<Vec<_>>(), runs_of(&inputs));
        let told = |(_, record): (usize, sapwood::format::RecordRef<'_>)| {
            let header = record.header;
            (header.log.counter(), header.epoch.0, header.lsn.0, record.payload.to_vec())
        };
        let all: Vec<_> = view.records().map(|record| told(record.unwrap())).collect();
        prop_assert_eq!(&all, &inputs);
        let log_id = LogId::new(ShardId(1), log);
        let of: Vec<_> = view.records_of(log_id).map(|record| told(record.unwrap())).collect();
        let wanted: Vec<_> = inputs.into_iter().filter(|input| input.0 == log).collect();
        prop_assert_eq!(of, wanted);
    }

    /// Damage anywhere is told, and only by those logs that it hits, as long as headers stand.
    #[test]
    fn a_flip_in_a_batch_is_told(inputs in a_batch(), flip in any::<proptest::sample::Index>()) {
        let mut bytes = batch(&inputs);
        let before = samples::read_batch(&bytes).unwrap();
        let bit = flip.index(8 * bytes.len());
        bytes[bit / 8] ^= 1 << (bit % 8);
        match samples::read_batch(&bytes) {
            Ok(after) => prop_assert_eq!(after, before),
            Err(_) => {
                let Ok(view) = BatchView::parse(&bytes, NONCE) else { return Ok(()) };
                let mut records = view.records();
                let mut good = 0;
                let mut bad = 0;
                while let Some(next) = records.next() {
                    good += u32::from(next.is_ok());
                    bad += u32::from(next.is_err() && records.header().is_some());
                }
                let unread: u32 = records.unread().map(|run| run.count).sum();
                prop_assert_eq!(good + bad + unread, view.header.records);
            }
        }
    }

    /// A rotten record header costs its own record and no other, of its log or of another.
    #[test]
    fn a_rotten_record_header_costs_one_record(
        inputs in a_batch(),
        pick in any::<proptest::sample::Index>(),
        bit in 0..8 * 48usize,
    ) {
        let mut bytes = batch(&inputs);
        let hit = pick.index(inputs.len());
        let framed = |(log, epoch, lsn, payload): &Input| {
            header(*log, *epoch, *lsn, b"", payload).framed_bytes()
        };
        let at = 272 + inputs[..hit].iter().map(framed).sum::<usize>();
        bytes[at + bit / 8] ^= 1 << (bit % 8);
        let view = BatchView::parse(&bytes, NONCE).unwrap();
        prop_assert!(view.verify().is_err());
        let mut records = view.records();
        let items: Vec<_> = records.by_ref().collect();
        prop_assert_eq!(items.iter().filter(|item| item.is_err()).count(), 1);
        prop_assert_eq!(items.len(), inputs.len());
        let name = |run: sapwood::format::Run| (run.log.counter(), run.first_lsn.0, run.count);
        let lost: Vec<_> = records.unread().map(name).collect();
        prop_assert_eq!(lost, vec![(inputs[hit].0, inputs[hit].2, 1)]);
        for log in 0..9 {
            let items: Vec<_> = view.records_of(LogId::new(ShardId(1), log)).collect();
            let wanted = inputs.iter().filter(|input| input.0 == log).count();
            let bad = items.iter().filter(|item| item.is_err()).count();
            prop_assert_eq!((items.len(), bad), (wanted, usize::from(log == inputs[hit].0)));
        }
    }

    /// Records carry no seed: it is the run table that keeps those of another place out.
    #[test]
    fn a_record_of_another_place_is_foreign(inputs in a_batch(), other in a_record_header()) {
        let mut bytes = batch(&inputs);
        let stranger = header(other.log.0 % 9, other.epoch.0 % 4, other.lsn.0, b"", &inputs[0].3);
        let (log, epoch, lsn, _) = &inputs[0];
        let first = (LogId::new(ShardId(1), *log), Epoch(*epoch), Lsn(*lsn));
        prop_assume!((stranger.log, stranger.epoch, stranger.lsn) != first);
        stranger.encode(&mut bytes[272..]);
        let view = BatchView::parse(&bytes, NONCE).unwrap();
        let flaw = Flaw::Field("record does not belong to its run");
        prop_assert_eq!(view.records().next(), Some(Err(flaw)));
        prop_assert_eq!(view.verify(), Err(flaw));
    }

    #[test]
    fn run_tables_come_back(inputs in a_batch(), seq in any::<u64>(), nonce in any::<u64>()) {
        let mut runs = runs_of(&inputs);
        runs.iter_mut().for_each(|run| run.at = (seq as u32 ^ run.count) >> 8 << 3);
        let mut out = vec![0xff; run_table_bytes(runs.len())];
        prop_assert_eq!(encode_runs(&runs, seq, nonce, &mut out), out.len());
        let table = RunTable::decode(&out, seq, nonce).unwrap();
        prop_assert_eq!(table.iter().collect::<Vec<_>>(), runs);
        prop_assert_eq!(RunTable::decode(&out, seq, nonce ^ 1).err(), Some(Flaw::Crc));
        prop_assert!(RunTable::decode(&out, seq ^ 1, nonce).is_err());
        prop_assert_eq!(RunTable::decode_any(&out, nonce).unwrap().seq(), seq);
    }

    /// Numbers of every size, near each other or not: packed runs are what they were, in the bytes
    /// that were told before; a table cut short, or of another life, is refused.
    #[test]
    fn packed_run_tables_come_back(
        runs in vec(any_run(), 0..40),
        seq in any::<u64>(),
        nonce in any::<u64>(),
    ) {
        let mut out = vec![0xff; packed_run_table_bytes(&runs)];
        encode_packed_runs(&runs, seq, nonce, &mut out);
        let table = RunTable::decode(&out, seq, nonce).unwrap();
        prop_assert!(table.is_packed());
        prop_assert_eq!((table.len(), table.iter().len()), (runs.len(), runs.len()));
        prop_assert_eq!(table.iter().collect::<Vec<_>>(), runs);
        prop_assert_eq!(RunTable::decode(&out, seq, nonce ^ 1).err(), Some(Flaw::Crc));
        prop_assert!(RunTable::decode(&out, seq ^ 1, nonce).is_err());
        prop_assert!(RunTable::decode(&out[..out.len() - 1], seq, nonce).is_err());
    }

    #[test]
    fn segment_headers_come_back(
        n in any::<[u64; 6]>(),
        m in any::<[u32; 3]>(),
        s in any::<u16>(),
    ) {
        let header = SegmentHeader {
            compat: m[0],
            ro_compat: m[1],
            incompat: 0,
            directory: n[0],
            lineage: n[1],
            shard: ShardId(s),
            unit: 4096 << (s % 5),
            segment: SegmentId(n[2]),
            file: n[3],
            nonce: n[4],
            bytes: n[5],
            term: m[2],
            created_us: n[0] ^ n[1],
        };
        let mut out = vec![0; UNIT_MIN];
        header.encode(&mut out);
        prop_assert_eq!(SegmentHeader::decode(&out), Ok(header));
        prop_assert_eq!(header.writable().is_ok(), m[1] == 0);
    }

    #[test]
    fn frames_come_back(frame in a_frame(), big in any::<bool>()) {
        let unit = if big { 16_384 } else { UNIT_MIN };
        let (bytes, crc) = frame.encode(unit).unwrap();
        prop_assert_eq!(bytes.len() % unit, 0);
        let (back, padded, back_crc) = Frame::decode(&bytes).unwrap();
        prop_assert_eq!((&back, padded, back_crc), (&frame, bytes.len(), crc));
        // One value, one encoding.
        prop_assert_eq!(back.encode(unit).unwrap().0, bytes);
    }

    #[test]
    fn a_flip_in_a_frame_is_told(frame in a_frame(), flip in any::<proptest::sample::Index>()) {
        let (mut bytes, _) = frame.encode(UNIT_MIN).unwrap();
        let bit = flip.index(8 * bytes.len());
        bytes[bit / 8] ^= 1 << (bit % 8);
        if let Ok((after, _, _)) = Frame::decode(&bytes) {
            prop_assert_eq!(after, frame);
        }
    }

    #[test]
    fn indexes_come_back(index in an_index(), probe in any::<u64>()) {
        let bytes = index.encode();
        prop_assert_eq!(bytes.len() % 4096, 0);
        let back = IndexData::decode(&bytes);
        prop_assert_eq!(back.as_ref(), Ok(&index));
        // The way a reader goes: header, fence, one block.
        let header = IndexHeader::decode(&bytes).unwrap();
        prop_assert_eq!(header.file_bytes(), bytes.len());
        let fence = Fence::decode(&bytes[header.fence_range()], &header).unwrap();
        let find = |log: LogId| {
            let block = fence.find_block(log)?;
            let at = header.block_offset(block);
            EntryBlock::decode_at(&bytes[at..], header.segment, block).unwrap().find(log)
        };
        for entry in &index.entries {
            prop_assert_eq!(find(entry.log), Some(*entry));
            let range = header.posting_range(entry.posting_start, entry.posting_count);
            let postings: Vec<_> = Posting::decode_slice(&bytes[range]).collect();
            prop_assert_eq!(&postings, index.postings_of(entry));
        }
        prop_assert_eq!(find(LogId(probe)), index.find(LogId(probe)).copied());
    }

    /// Bytes of no origin, behind a good magic or not, with the CRC made to fit or not.
    #[test]
    fn any_bytes_are_read_without_panic(
        which in 0..9usize,
        changes in vec((any::<proptest::sample::Index>(), any::<u8>()), 0..40),
        len in any::<proptest::sample::Index>(),
        fit in any::<bool>(),
    ) {
        let sample = &samples()[which];
        let mut bytes = sample.bytes.clone();
        // Headers are where lengths stand: most changes go there.
        let front = bytes.len().min(288);
        for (n, (at, byte)) in changes.iter().enumerate() {
            let reach = if n % 4 == 0 { bytes.len() } else { front };
            bytes[at.index(reach)] = *byte;
        }
        if fit {
            samples::refit_all(sample, &mut bytes);
        }
        let _ = (sample.read)(&bytes);
        let _ = (sample.read)(&bytes[..len.index(bytes.len() + 1)]);
    }

    #[test]
    fn a_claim_is_bounded(durable in any::<u64>(), seq in any::<u64>()) {
        let mut bytes = samples()[2].bytes.clone();
        bytes[32..40].copy_from_slice(&seq.to_le_bytes());
        bytes[40..48].copy_from_slice(&durable.to_le_bytes());
        refit_batch(&mut bytes);
        let good = durable < seq && seq - durable <= 64;
        prop_assert_eq!(BatchHeader::decode(&bytes, NONCE).is_ok(), good);
    }

    #[test]
    fn round_up_is_the_next_multiple(n in 0..usize::MAX - 65_536, shift in 0..16u32) {
        let align = 1usize << shift;
        let up = round_up(n, align);
        prop_assert!(up >= n && up - n < align && up.is_multiple_of(align));
    }
}

#[test]
fn a_seed_is_never_that_of_no_seed() {
    let mut seen = std::collections::HashSet::new();
    for nonce in (0..20_000u64).chain((0..64).map(|bit| 1 << bit)).chain([u64::MAX]) {
        assert_ne!(seed(nonce), 0);
        seen.insert(seed(nonce));
    }
    assert!(seen.len() > 20_040, "{} seeds of 20,000 nonces", seen.len());
    assert_ne!(seed(0x0123_4567_0123_4567), seed(0x89ab_cdef_89ab_cdef));
}

#[test]
fn an_entry_that_must_be_known_is_refused() {
    let mut frame = samples::edits_frame();
    frame.edits = vec![Edit::Unknown { kind: 999, flags: 1, bytes: vec![1, 2, 3] }];
    let (bytes, _) = frame.encode(UNIT_MIN).unwrap();
    let flaw = Frame::decode(&bytes).unwrap_err();
    assert_eq!(flaw, Flaw::Unknown { what: "manifest entry", found: 999 });
    assert!(flaw.is_unsupported());
}

#[test]
fn lengths_that_lie_are_refused() {
    let (mut bytes, _) = samples::edits_frame().encode(UNIT_MIN).unwrap();
    bytes[56..64].copy_from_slice(&u64::MAX.to_le_bytes());
    refit_frame(&mut bytes);
    assert!(matches!(FrameView::parse(&bytes), Err(Flaw::Short { .. })));
    bytes[56..64].copy_from_slice(&8u64.to_le_bytes());
    refit_frame(&mut bytes);
    assert!(matches!(Frame::decode(&bytes), Err(Flaw::Field(_))));

    let mut header = header(1, 1, 1, b"", b"");
    header.payload_bytes = u32::MAX;
    let mut bytes = [0; 64];
    header.encode(&mut bytes);
    let need = (48 + u32::MAX as usize).next_multiple_of(8);
    assert_eq!(read_record(&bytes).unwrap_err(), Flaw::Short { need, have: 64 });

    for (at, lie) in [(64, 127), (64, u32::MAX), (68, u32::MAX), (72, u32::MAX), (76, u32::MAX)] {
        let mut bytes = samples()[2].bytes.clone();
        bytes[at..at + 4].copy_from_slice(&u32::to_le_bytes(lie));
        refit_batch(&mut bytes);
        assert!(BatchView::parse(&bytes, NONCE).is_err(), "{lie} at {at}");
    }
}

/// Behind a good CRC: another count than there are runs, bytes behind them, and a number in more
/// bytes than it needs, which a second encoding of the same runs would be.
#[test]
fn packed_runs_have_one_encoding() {
    let runs = runs_of(&[(1, 1, 5, b"a".to_vec()), (2, 1, 6, b"b".to_vec())]);
    let mut good = vec![0; packed_run_table_bytes(&runs)];
    encode_packed_runs(&runs, 7, NONCE, &mut good);
    let judge = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = good.clone();
        change(&mut bytes);
        let entries = (bytes.len() - 20) as u32;
        bytes[16..20].copy_from_slice(&entries.to_le_bytes());
        let crc = crc32c::crc32c_append(seed(NONCE), &bytes[4..]);
        bytes[..4].copy_from_slice(&crc.to_le_bytes());
        RunTable::decode(&bytes, 7, NONCE).map(|table| table.iter().count())
    };
    assert_eq!(judge(&|_| ()), Ok(2));
    assert!(matches!(judge(&|bytes| bytes[4] = 1), Err(Flaw::Field(_))));
    assert!(matches!(judge(&|bytes| bytes[4] = 3), Err(Flaw::Field(_))));
    assert!(matches!(judge(&|bytes| bytes.push(0)), Err(Flaw::Field(_))));
    let longer = |bytes: &mut Vec<u8>| {
        *bytes.last_mut().unwrap() |= 0x80;
        bytes.push(0);
    };
    assert!(matches!(judge(&longer), Err(Flaw::Field(_))));
    let endless = |bytes: &mut Vec<u8>| bytes.extend([0xff; 12]);
    assert!(matches!(judge(&endless), Err(Flaw::Field(_))));
}

/// Two runs of one log and epoch that overlap would let a record stand in either; those that go on
/// from each other are one, told in parts.
#[test]
fn runs_that_overlap_are_refused_and_runs_that_adjoin_are_one() {
    let inputs: Vec<Input> = vec![(1, 1, 5, b"a".to_vec()), (1, 1, 6, b"b".to_vec())];
    let mut bytes = batch(&inputs);
    let run = runs_of(&inputs)[0];
    let (half, other) = (run.bytes / 2, Lsn(run.first_lsn.0 + 1));
    let first = sapwood::format::Run { count: 1, bytes: half, ..run };
    let second = sapwood::format::Run { first_lsn: other, ..first };
    bytes[72] = 2;
    let mut judge = |runs: [sapwood::format::Run; 2]| {
        encode_runs(&runs, 1000, NONCE, &mut bytes[128..]);
        refit_batch(&mut bytes);
        let batch = BatchView::parse(&bytes, NONCE).unwrap();
        batch.verify().map(|()| batch.records_of(run.log).filter(|item| item.is_ok()).count())
    };
    assert!(judge([first, first]).is_err());
    assert!(judge([second, second]).is_err());
    assert_eq!(judge([first, second]), Ok(2));
    assert_eq!(judge([second, first]), Ok(2), "in whatever order");
}

/// A record of log 1 carries, as its payload, what looks like the next record of log 2. Its header
/// rots. What log 2 is given is still its own.
#[test]
fn a_record_in_a_payload_is_not_taken_for_one() {
    let forged = header(2, 1, 11, b"", b"forged");
    let forged = record(&forged, b"", b"forged");
    let inputs: Vec<Input> = vec![
        (2, 1, 10, b"mine 10".to_vec()),
        (1, 1, 5, forged),
        (2, 1, 11, b"mine 11".to_vec()),
        (1, 1, 6, b"theirs".to_vec()),
    ];
    let mut bytes = batch(&inputs);
    let second = 272 + header(2, 1, 10, b"", b"mine 10").framed_bytes();
    bytes[second + 10] ^= 4;
    let view = BatchView::parse(&bytes, NONCE).unwrap();
    let told = |log| -> Vec<Result<Vec<u8>, Flaw>> {
        let records = view.records_of(LogId::new(ShardId(1), log));
        records.map(|item| item.map(|(_, record)| record.payload.to_vec())).collect()
    };
    assert_eq!(told(2), [Ok(b"mine 10".to_vec()), Ok(b"mine 11".to_vec())]);
    assert_eq!(told(1), [Err(Flaw::Crc), Ok(b"theirs".to_vec())]);
}
