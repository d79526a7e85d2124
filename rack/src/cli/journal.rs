//! `fluxrig journal`: the journal of a rack that does not run, looked at and put aside where it is damaged.

use std::path::Path;
use std::sync::Arc;

use fluxrig_actors::journal::{Disk, Holder, OpenError, RealDisk, Report, quarantine, verify};
use fluxrig_rack::{JOURNAL_DIR, exit, open_code, with_causes};
use serde_json::json;

use super::{At, JournalCommand, complain, say, say_json};

pub(super) fn journal(at: &At, command: &JournalCommand) -> u8 {
    let dir = at.data_dir.join(JOURNAL_DIR);
    let found = match look(&dir) {
        Ok(found) => found,
        Err(code) => return code,
    };
    match command {
        JournalCommand::Verify => {
            report(&found.report);
            outcome(&found.report)
        }
        JournalCommand::Repair { give_up } => repair(&found, *give_up),
        JournalCommand::Stats { json } => stats(&found.report, *json),
    }
}

/// A journal that was read.
struct Found {
    disk: Arc<dyn Disk>,
    holder: Holder,
    report: Report,
}

fn look(dir: &Path) -> Result<Found, u8> {
    let unusable = |error: std::io::Error| {
        complain(&format!(
            "journal `{}`: found it unusable ({error}), expected a rack's journal; remedy: name the data directory with `--data-dir`",
            dir.display()
        ));
        exit::DATA_DIR
    };
    if !dir.is_dir() {
        return Err(unusable(std::io::ErrorKind::NotFound.into()));
    }
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(dir).map_err(unusable)?);
    let holder = Holder::this_process(&*disk, "by hand").map_err(unusable)?;
    let rack = rack_of(dir).map_err(unusable)?;
    match verify(&disk, rack, &holder) {
        Ok(report) => Ok(Found { disk, holder, report }),
        Err(error) => Err(refuse(&error)),
    }
}

fn refuse(error: &OpenError) -> u8 {
    complain(&with_causes(error));
    open_code(error)
}

/// The rack that the oldest segment with a header names: whose journal this is stands in it.
fn rack_of(dir: &Path) -> std::io::Result<[u8; 16]> {
    use std::io::Read;
    // Bytes 16 to 31 of a segment's header, which is documented where segments are written.
    let mut names: Vec<_> = std::fs::read_dir(dir)?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    names.retain(|path| path.extension().is_some_and(|extension| extension == "seg"));
    names.sort();
    for path in names {
        let mut head = [0; 32];
        if std::fs::File::open(path)?.read_exact(&mut head).is_ok() && head.starts_with(b"FLUXJRNL") {
            let mut rack = [0; 16];
            rack.copy_from_slice(&head[16..]);
            return Ok(rack);
        }
    }
    Ok([0; 16])
}

fn report(report: &Report) {
    for damage in &report.damages {
        say(&format!("{damage}\n"));
    }
    match &report.outcome {
        Some(Ok(recovery)) => {
            say(&format!(
                "whole up to epoch {}: {} groups, {} bytes\n",
                recovery.last_epoch, recovery.groups, recovery.bytes
            ));
            if let Some(torn) = &recovery.torn {
                say(&format!(
                    "{}+{}: a torn tail of {} bytes, which the next start cuts ({})\n",
                    torn.file, torn.offset, torn.bytes, torn.why
                ));
            }
        }
        Some(Err(error)) => complain(&with_causes(error)),
        None => {}
    }
}

fn outcome(report: &Report) -> u8 {
    match &report.outcome {
        Some(Err(error)) => open_code(error),
        _ => exit::DONE,
    }
}

fn repair(found: &Found, is_meant: bool) -> u8 {
    let damage = match &found.report.outcome {
        Some(Err(OpenError::Damaged(damage))) => damage,
        Some(Err(error)) => return refuse(error),
        _ => {
            say("nothing to repair\n");
            return exit::DONE;
        }
    };
    say(&format!("{damage}\n"));
    if !is_meant {
        complain(&format!(
            "journal: found damage in segment {0:08x}, expected a copy of it to put back; remedy: put it back, or say \
             `--give-up`: segment {0:08x} and all younger ones are put aside, and what only they hold is lost",
            damage.segment
        ));
        return exit::DAMAGED;
    }
    match quarantine(&found.disk, damage.segment, &found.holder) {
        Ok(aside) => {
            aside.iter().for_each(|name| say(&format!("put aside: {name}\n")));
            exit::DONE
        }
        Err(error) => refuse(&error),
    }
}

fn stats(report: &Report, is_json: bool) -> u8 {
    if is_json {
        let rows = report.segments.iter().map(|segment| {
            json!({
                "file": segment.file,
                "bytes": segment.bytes,
                "groups": segment.groups,
                "first_epoch": segment.epochs.map(|(first, _)| first),
                "last_epoch": segment.epochs.map(|(_, last)| last),
            })
        });
        say_json(&rows.collect());
        return outcome(report);
    }
    for segment in &report.segments {
        let epochs = segment.epochs.map_or_else(|| "-".to_owned(), |(first, last)| format!("{first}..{last}"));
        say(&format!("{}  {:>12} bytes  {:>8} groups  epochs {epochs}\n", segment.file, segment.bytes, segment.groups));
    }
    outcome(report)
}
