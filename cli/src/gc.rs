//! `gc`: takes the space of segments back that no log needs.
//!
//! Not here: what is needed (the engine).

use anyhow::Result;
use bytesize::ByteSize;
use sapwood::{GcReport, KeptSegment, SegmentState, Why};
use serde_json::{Value, json};

use crate::directory::{Backend, ReadDir, open_to_change};
use crate::exit::Exit;
use crate::output::Output;

/// Take space back now, and say what pins the rest
///
/// Segments are shared by logs: one comes back when every log in it was truncated, or has dropped
/// it by its retention. Of one that is mostly dead, what is kept moves into a smaller file.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sapwood gc --dir wal
  sapwood gc --dir wal --json | jq '.kept[].pins[].log'")]
pub(crate) struct Args {
    #[command(flatten)]
    dir: ReadDir,
    /// An object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args, backend: Backend) -> Result<Exit> {
    let engine = open_to_change(&args.dir.dir, backend)?;
    let report = engine.gc()?;
    engine.close()?;
    let mut out = Output::stdout()?;
    if args.json {
        out.line(object(&report))?;
    } else {
        text(&mut out, &report)?;
    }
    out.flush()?;
    Ok(Exit::Ok)
}

fn state(kept: &KeptSegment) -> &'static str {
    match kept.state {
        SegmentState::Sealed => "sealed",
        SegmentState::Open => "open",
        SegmentState::Held => "held",
        SegmentState::End => "end",
        SegmentState::Damaged => "damaged",
        _ => "unreadable",
    }
}

fn why(why: Why) -> &'static str {
    match why {
        Why::Kept => "kept",
        Why::Cursor => "cursor",
        Why::Hold => "hold",
        _ => "checkpoint",
    }
}

fn text(out: &mut Output, report: &GcReport) -> Result<()> {
    out.line(format_args!(
        "freed {} segments, {}",
        report.freed_segments,
        ByteSize(report.freed_bytes)
    ))?;
    if report.relocated_segments > 0 {
        out.line(format_args!(
            "relocated what {} mostly dead segments keep, {} now",
            report.relocated_segments,
            ByteSize(report.relocated_bytes)
        ))?;
    }
    for kept in &report.kept {
        out.line(format_args!("{} stays ({}, {})", kept.file, ByteSize(kept.bytes), state(kept)))?;
        for pin in &kept.pins {
            out.line(format_args!(
                "  {:?}: LSN {} to {}, {} ({})",
                pin.name,
                pin.first,
                pin.last,
                ByteSize(pin.bytes),
                why(pin.why)
            ))?;
        }
        if kept.more_pins > 0 {
            out.line(format_args!("  and {} more logs", kept.more_pins))?;
        }
    }
    Ok(())
}

fn object(report: &GcReport) -> Value {
    let kept = report.kept.iter().map(|kept| {
        let pins = kept.pins.iter().map(|pin| {
            json!({
                "log": pin.name,
                "why": why(pin.why),
                "first_lsn": pin.first.0,
                "last_lsn": pin.last.0,
                "records": pin.records,
                "bytes": pin.bytes,
            })
        });
        json!({
            "file": kept.file,
            "shard": kept.shard.0,
            "segment": kept.segment.0,
            "bytes": kept.bytes,
            "state": state(kept),
            "pins": pins.collect::<Vec<_>>(),
            "more_pins": kept.more_pins,
        })
    });
    json!({
        "freed_segments": report.freed_segments,
        "freed_bytes": report.freed_bytes,
        "relocated_segments": report.relocated_segments,
        "relocated_bytes": report.relocated_bytes,
        "kept": kept.collect::<Vec<_>>(),
    })
}
