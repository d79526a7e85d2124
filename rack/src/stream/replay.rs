//! What a wire retains, delivered once more.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use fluxrig_actors::Replayed;
use serde_json::json;
use tokio::time::timeout;

use crate::control::{Answer, Lines};
use crate::operate::{drains, durable, refuse, wall_ns};
use crate::rack::Shared;

/// How often it is said that it waits for room.
const SAY_EVERY: Duration = Duration::from_secs(1);

/// Delivers what a wire retains once more. Whoever asked may leave: then what was delivered is all.
pub(super) async fn replay(
    shared: &Arc<Shared>,
    (wire, from): (&str, Replayed),
    lines: &mut Lines,
    left: impl Future<Output = ()>,
) -> io::Result<Answer> {
    // A number that no replay before had: the same number twice would make the same ids.
    let number = u64::try_from(wall_ns()).unwrap_or(0);
    let begun = shared.rig.read().await.as_ref().map(|rig| rig.replay(wire, from, number));
    let mut replay = match begun {
        Some(Ok(replay)) => replay,
        Some(Err(error)) => return Ok(refuse(&error)),
        None => return Ok(drains()),
    };
    tokio::pin!(left);
    let is_whole = loop {
        let room = tokio::select! {
            biased;
            () = &mut left => break false,
            room = timeout(SAY_EVERY, replay.room()) => room,
        };
        match room {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Ok(refuse(&error)),
            Err(_) => {
                lines.say(&Answer::Item(json!({ "wire": wire, "waits_after": replay.delivered() }))).await?;
                continue;
            }
        }
        // What is on the disk is read back there, which may take its time.
        let step = tokio::task::spawn_blocking(move || {
            let count = replay.deliver();
            (replay, count)
        });
        let Ok((stepped, count)) = step.await else { return Ok(drains()) };
        replay = stepped;
        match count {
            Ok(0) => break true,
            Ok(_) => {}
            Err(error) => return Ok(refuse(&error)),
        }
    };
    let count = replay.delivered();
    drop(replay);
    if let Err(refused) = durable(shared).await {
        return Ok(refused);
    }
    Ok(Answer::Done(json!({ "wire": wire, "replayed": count, "replay": number, "is_whole": is_whole })))
}
