//! What comes onto wires, as it comes.

use std::io;
use std::num::NonZeroU64;

use fluxrig_actors::{Tap, TapError, Tapped};
use serde_json::{Value, json};

use crate::control::{Answer, Lines, refused};
use crate::error::exit;
use crate::mask::{Form, Whence};
use crate::operate::{drains, wall_ns};
use crate::rack::Shared;

pub(super) async fn tap(
    shared: &Shared,
    (pattern, every, form): (&str, NonZeroU64, Form),
    lines: &mut Lines,
    left: impl Future<Output = ()>,
) -> io::Result<Answer> {
    // Held for no longer than this: a rack that stops must not wait for who looks on.
    let opened = match shared.rig.read().await.as_ref() {
        Some(rig) => rig.tap(pattern, every).map_err(|error| {
            let code = if matches!(error, TapError::NoWire { .. }) { exit::USAGE } else { exit::TRY_AGAIN };
            refused(code, &error.to_string())
        }),
        None => Err(drains()),
    };
    let mut tap: Tap = match opened {
        Ok(tap) => tap,
        Err(refused) => return Ok(refused),
    };
    let wires: Vec<&str> = tap.wires().iter().map(|wire| wire.as_str()).collect();
    lines.say(&Answer::Begun(json!({ "wires": wires }))).await?;
    tokio::pin!(left);
    let mut shown = 0_u64;
    let has_rack_ended = loop {
        tokio::select! {
            biased;
            () = &mut left => break false,
            tapped = tap.next() => {
                let Some(tapped) = tapped else { break true };
                lines.say(&Answer::Item(view(shared, &tapped, form, tap.missed()))).await?;
                shown += 1;
            }
        }
    };
    Ok(Answer::Done(json!({ "shown": shown, "missed": tap.missed(), "has_rack_ended": has_rack_ended })))
}

fn view(shared: &Shared, tapped: &Tapped, form: Form, missed: u64) -> Value {
    // The gear that it goes to, as for a dead letter.
    let gear = tapped.wire.rsplit_once("->").map_or("", |(_, to)| to.split('.').next().unwrap_or(to));
    let whence = Whence { checked: &shared.checked, gear, form };
    json!({
        "at_ns": wall_ns(),
        "wire": tapped.wire.as_str(),
        "seq": tapped.seq,
        "id": tapped.msg.id.to_string(),
        "content": (shared.mask)(&tapped.msg, &whence),
        "missed": missed,
    })
}
