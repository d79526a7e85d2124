//! The same for a journal on a stream: it is only looked at, whether its rack runs or not, since nothing of a stream can be
//! put aside.

use std::path::Path;

use fluxrig_actors::RigError;
use fluxrig_actors::journal::stream::{StreamOpenError, StreamReport};
use fluxrig_rack::scenario::Journal;
use fluxrig_rack::{JOURNAL_DIR, Rack, RackError, exit, inspect_stream, stream_code, with_causes};
use serde_json::{Value, json};

use super::super::run::refuse;
use super::super::{JournalCommand, Scenario, complain, say, say_json};
use super::{damage, shown_torn, unusable};

/// The rack whose journal is on a stream; `None` for one on files.
pub(super) fn of(scenario: &Scenario) -> Result<Option<Rack>, u8> {
    let Some(file) = &scenario.file else { return Ok(None) };
    let rack = Rack::load(file, &fluxrig_gears::standard()).map_err(|error| refuse(file, &error))?;
    let is_on_stream = matches!(rack.checked().scenario.journal, Journal::Jetstream(_));
    Ok(is_on_stream.then_some(rack))
}

pub(super) fn journal(rack: &Rack, name: Option<&str>, data_dir: &Path, command: &JournalCommand) -> u8 {
    let dir = data_dir.join(JOURNAL_DIR);
    if !dir.is_dir() {
        return unusable(&dir, &std::io::ErrorKind::NotFound.into());
    }
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return unusable(&dir, &error),
    };
    // The running binary, also where its file was replaced meanwhile.
    let guard = Some("/proc/self/exe".into());
    let report = match runtime.block_on(inspect_stream(rack.checked(), name, data_dir, guard)) {
        Ok(report) => report,
        Err(error) => {
            complain(&with_causes(&error));
            if let (JournalCommand::Repair { .. }, RackError::Rig(RigError::Stream(found))) = (command, &error)
                && matches!(found, StreamOpenError::Shorter { .. })
            {
                complain(choice(found));
            }
            return error.exit_code();
        }
    };
    match command {
        JournalCommand::Verify { json: true, .. } => say_json(&verified(&report)),
        JournalCommand::Stats { json: true, .. } => say_json(&segments(&report)),
        JournalCommand::Verify { .. } => say(&told(&report)),
        JournalCommand::Stats { .. } => say(&stats(&report)),
        JournalCommand::Repair { .. } if report.outcome.is_ok() => say("nothing to repair\n"),
        JournalCommand::Repair { .. } => {}
    }
    let Err(error) = &report.outcome else { return exit::DONE };
    complain(&with_causes(error));
    if matches!(command, JournalCommand::Repair { .. }) {
        complain(choice(error));
    }
    stream_code(error)
}

/// What an operator can do about it.
fn choice(error: &StreamOpenError) -> &'static str {
    match error {
        StreamOpenError::Shorter { .. } => {
            "repair: found nothing that can be put aside on a stream, expected its end back, or your word that it is lost; \
             remedy: write `journal: { jetstream: { accept_lost_tail: true } }` for one start of the rack"
        }
        _ => {
            "repair: found nothing that can be put aside on a stream, expected it as it was written; remedy: bring the \
             stream back from a backup or another replica; where there is none, give the rack another name and data \
             directory and begin anew: every message and state in this stream is given up then"
        }
    }
}

fn told(report: &StreamReport) -> String {
    let StreamReport { stream, first_seq, last_seq, bytes, term, mark, skipped, .. } = report;
    let mut text: String = report.places.iter().map(|place| format!("{place}\n")).collect();
    text.push_str(&format!("{stream}: sequences {first_seq} to {last_seq}, {bytes} bytes, term {term}\n"));
    match mark {
        Some(mark) => text
            .push_str(&format!("acked up to sequence {} and epoch {} as this directory knows\n", mark.seq, mark.epoch)),
        None => {
            text.push_str("this directory has not written the stream yet, so it does not know how far it was acked\n")
        }
    }
    if *skipped > 0 {
        text.push_str(&format!("{skipped} messages count for nothing: their groups were not completed, or given up\n"));
    }
    let Ok(recovery) = &report.outcome else { return text };
    text.push_str(&format!(
        "whole up to epoch {}: {} groups, {} bytes\n",
        recovery.last_epoch, recovery.groups, recovery.bytes
    ));
    if let Some(torn) = &recovery.torn {
        text.push_str(&format!(
            "{}+{}: {} of {} bytes at the end: it is being written, or the next start skips it\n",
            torn.file, torn.offset, torn.why, torn.bytes
        ));
    }
    if !report.places.is_empty() {
        text.push_str("what is not whole is not needed: it is older than what is alive; nothing has to be done\n");
    }
    text
}

fn verified(report: &StreamReport) -> Value {
    let mut shown = json!({
        "is_whole": report.outcome.is_ok(),
        "places": report.places.iter().map(damage).collect::<Vec<_>>(),
        "stream": report.stream,
        "first_seq": report.first_seq,
        "last_seq": report.last_seq,
        "bytes": report.bytes,
        "term": report.term,
        "skipped": report.skipped,
        "mark": report.mark.map(|mark| json!({ "seq": mark.seq, "epoch": mark.epoch })),
    });
    match &report.outcome {
        Ok(recovery) => {
            shown["last_epoch"] = recovery.last_epoch.into();
            shown["groups"] = recovery.groups.into();
            shown["torn"] = shown_torn(recovery);
        }
        Err(StreamOpenError::Damaged { stream, seq, found, expected, last_epoch }) => {
            shown["damage"] = json!({
                "file": stream, "offset": seq, "found": found, "expected": expected, "last_epoch": last_epoch,
            });
        }
        Err(error) => shown["error"] = with_causes(error).into(),
    }
    shown
}

fn segments(report: &StreamReport) -> Value {
    let rows = report.segments.iter().map(|row| {
        json!({
            "segment": row.segment,
            "first_seq": row.first_seq,
            "messages": row.messages,
            "bytes": row.bytes,
            "groups": row.groups,
            "first_epoch": row.epochs.map(|(first, _)| first),
            "last_epoch": row.epochs.map(|(_, last)| last),
            "is_alive": row.is_alive,
        })
    });
    rows.collect()
}

fn stats(report: &StreamReport) -> String {
    let mut text = String::new();
    if report.segments_left_out > 0 {
        text.push_str(&format!("{} older segments are left out\n", report.segments_left_out));
    }
    for row in &report.segments {
        let epochs = row.epochs.map_or_else(|| "-".to_owned(), |(first, last)| format!("{first}..{last}"));
        let note = if row.is_alive { "" } else { "  older than what is alive" };
        text.push_str(&format!(
            "{:08x}  from sequence {}  {:>8} messages  {:>12} bytes  {:>8} groups  epochs {epochs}{note}\n",
            row.segment, row.first_seq, row.messages, row.bytes, row.groups
        ));
    }
    text
}
