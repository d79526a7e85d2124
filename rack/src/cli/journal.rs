//! `fluxrig journal`: the journal of a rack, looked at and put aside where it is damaged; on files, the rack must not run.
//! Nothing is deleted or written over, and nothing is renamed but by `repair --give-up`.

use std::path::Path;
use std::sync::Arc;

use fluxrig_actors::clock::{Machine, World, utc};
use fluxrig_actors::journal::{
    Damage, Disk, GivenUp, Holder, OpenError, RealDisk, Recovery, Report, owner, quarantine, verify,
};
use fluxrig_rack::{JOURNAL_DIR, exit, open_code, with_causes};
use serde_json::{Value, json};

use super::{At, JournalCommand, complain, say, say_json};

mod stream;

pub(super) fn journal(at: &At, command: &JournalCommand) -> u8 {
    let (JournalCommand::Verify { of, .. } | JournalCommand::Repair { of, .. } | JournalCommand::Stats { of, .. }) =
        command;
    let dir = at.data_dir.join(JOURNAL_DIR);
    match stream::of(of) {
        Ok(Some(rack)) => return stream::journal(&rack, of.rack.as_deref(), &at.data_dir, command),
        Ok(None) => {}
        Err(code) => return code,
    }
    let found = match look(&dir) {
        Ok(found) => found,
        Err(code) => return code,
    };
    match command {
        JournalCommand::Verify { json: true, .. } => say_json(&verified(&found.report)),
        JournalCommand::Stats { json: true, .. } => say_json(&segments(&found.report)),
        JournalCommand::Verify { .. } => report(&found.report),
        JournalCommand::Stats { .. } => stats(&found.report),
        JournalCommand::Repair { give_up, .. } => return repair(&found, &at.data_dir, *give_up),
    }
    match &found.report.outcome {
        Some(Err(OpenError::Damaged(damage))) => {
            complain(&choices(damage, found.report.given_up.as_ref(), &at.data_dir));
            exit::DAMAGED
        }
        Some(Err(error)) => refuse(error),
        _ => exit::DONE,
    }
}

/// A journal that was read.
struct Found {
    disk: Arc<dyn Disk>,
    holder: Holder,
    report: Report,
}

fn unusable(dir: &Path, error: &std::io::Error) -> u8 {
    complain(&format!(
        "journal `{}`: found it unusable ({error}), expected a rack's journal; remedy: name the data directory with `--data-dir`",
        dir.display()
    ));
    exit::DATA_DIR
}

fn look(dir: &Path) -> Result<Found, u8> {
    let unusable = |error| unusable(dir, &error);
    if !dir.is_dir() {
        return Err(unusable(std::io::ErrorKind::NotFound.into()));
    }
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(dir).map_err(unusable)?);
    let started = format!("{} by hand", utc(Machine::new().wall_ns()));
    let holder = Holder::this_process(&*disk, started).map_err(unusable)?;
    let rack = owner(&*disk).map_err(|error| refuse(&error))?.unwrap_or_default();
    match verify(&disk, rack, &holder) {
        Ok(report) => Ok(Found { disk, holder, report }),
        Err(error) => Err(refuse(&error)),
    }
}

fn refuse(error: &OpenError) -> u8 {
    complain(&with_causes(error));
    open_code(error)
}

fn report(report: &Report) {
    for damage in &report.damages {
        say(&format!("{damage}\n"));
    }
    let Some(Ok(recovery)) = &report.outcome else { return };
    say(&format!("whole up to epoch {}: {} groups, {} bytes\n", recovery.last_epoch, recovery.groups, recovery.bytes));
    if let Some(torn) = &recovery.torn {
        say(&format!(
            "{}+{}: a torn tail of {} bytes, which the next start cuts ({}); nothing says that it was flushed\n",
            torn.file, torn.offset, torn.bytes, torn.why
        ));
    }
    if !report.damages.is_empty() {
        say("what is not whole is not needed: trimmed, void or torn; nothing has to be done\n");
    }
}

/// The damage that keeps a journal from opening, what is lost with it, and what can be done.
fn choices(damage: &Damage, given_up: Option<&GivenUp>, data_dir: &Path) -> String {
    let mut text = format!(
        "journal: {damage}; remedy: one of two\n  \
         put `{}` back from a copy that was made while the rack was down, and verify again\n  \
         give up: ",
        damage.file
    );
    text.push_str(&format!("`fluxrig journal --data-dir {} repair --give-up`, which ", data_dir.display()));
    match given_up {
        Some(given_up) => text.push_str(&price(given_up)),
        None => text.push_str("puts the damaged segment and all younger ones aside"),
    }
    text
}

/// What giving up comes to.
fn price(GivenUp { aside, last_epoch_seen, left, .. }: &GivenUp) -> String {
    let mut text = match aside.as_slice() {
        [] => "finds nothing to put aside".to_owned(),
        aside => format!("puts aside, under other names: {}", aside.join(", ")),
    };
    match left {
        Ok(Recovery { last_epoch, .. }) => {
            let lost = match last_epoch_seen.checked_sub(*last_epoch) {
                None | Some(0) => format!("what came after epoch {last_epoch}"),
                Some(_) => format!("epochs {} to {last_epoch_seen} at least", last_epoch + 1),
            };
            text.push_str(&format!(
                "; the rack then starts as it was at epoch {last_epoch}; lost: {lost}, that is every message, state and \
                 answer noted in them, so what was sent since then may be sent again"
            ));
        }
        Err(error) => text.push_str(&format!("; even then it does not open: {}", with_causes(error))),
    }
    text
}

fn repair(found: &Found, data_dir: &Path, is_meant: bool) -> u8 {
    let damage = match &found.report.outcome {
        Some(Err(OpenError::Damaged(damage))) => damage,
        Some(Err(error)) => return refuse(error),
        _ => {
            say("nothing to repair\n");
            return exit::DONE;
        }
    };
    if !is_meant {
        complain(&choices(damage, found.report.given_up.as_ref(), data_dir));
        return exit::DAMAGED;
    }
    say(&format!("{damage}\n"));
    let from = found.report.given_up.as_ref().map_or(damage.segment, |given_up| given_up.from);
    match quarantine(&found.disk, from, &found.holder) {
        Ok(aside) => {
            aside.iter().for_each(|name| say(&format!("put aside: {name}\n")));
            after(&found.disk, &found.holder)
        }
        Err(error) => refuse(&error),
    }
}

/// What is there now: another damage, or what the next start begins with.
fn after(disk: &Arc<dyn Disk>, holder: &Holder) -> u8 {
    let again = owner(&**disk).and_then(|rack| verify(disk, rack.unwrap_or_default(), holder));
    match again.map(|report| report.outcome) {
        Ok(Some(Ok(recovery))) => {
            say(&format!("whole up to epoch {}: the rack starts with that\n", recovery.last_epoch));
            exit::DONE
        }
        Ok(Some(Err(error))) | Err(error) => refuse(&error),
        Ok(None) => exit::DONE,
    }
}

fn damage(damage: &Damage) -> Value {
    json!({
        "file": damage.file,
        "offset": damage.offset,
        "found": damage.found,
        "expected": damage.expected,
        "last_epoch": damage.last_epoch,
    })
}

fn shown_torn(recovery: &Recovery) -> Value {
    let torn = recovery.torn.as_ref();
    torn.map_or(
        Value::Null,
        |torn| json!({ "file": torn.file, "offset": torn.offset, "bytes": torn.bytes, "why": torn.why }),
    )
}

fn verified(report: &Report) -> Value {
    let mut shown = json!({
        "is_whole": matches!(report.outcome, Some(Ok(_))),
        "places": report.damages.iter().map(damage).collect::<Vec<_>>(),
    });
    match &report.outcome {
        Some(Ok(recovery)) => {
            shown["last_epoch"] = recovery.last_epoch.into();
            shown["groups"] = recovery.groups.into();
            shown["torn"] = shown_torn(recovery);
        }
        Some(Err(OpenError::Damaged(found))) => shown["damage"] = damage(found),
        Some(Err(error)) => shown["error"] = with_causes(error).into(),
        None => {}
    }
    if let Some(GivenUp { aside, last_epoch_seen, left, .. }) = &report.given_up {
        shown["give_up"] = json!({
            "aside": aside,
            "last_epoch": left.as_ref().map(|left| left.last_epoch).ok(),
            "last_epoch_seen": last_epoch_seen,
        });
    }
    shown
}

fn segments(report: &Report) -> Value {
    let rows = report.segments.iter().map(|segment| {
        json!({
            "file": segment.file,
            "bytes": segment.bytes,
            "groups": segment.groups,
            "first_epoch": segment.epochs.map(|(first, _)| first),
            "last_epoch": segment.epochs.map(|(_, last)| last),
        })
    });
    rows.collect()
}

fn stats(report: &Report) {
    for segment in &report.segments {
        let epochs = segment.epochs.map_or_else(|| "-".to_owned(), |(first, last)| format!("{first}..{last}"));
        say(&format!("{}  {:>12} bytes  {:>8} groups  epochs {epochs}\n", segment.file, segment.bytes, segment.groups));
    }
}
