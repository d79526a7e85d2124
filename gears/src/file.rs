//! `file`: a sink that appends one line of JSON per message, and acknowledges only what is in the file.

mod append;
mod line;
mod mend;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use fluxrig_actors::prelude::*;
use fluxrig_actors::protocol::Flags;
use tokio::time::Instant;

use append::{Appender, OpenError};

#[cfg(test)]
pub(crate) use line::write_map;

/// Appends each message to a file, as one line of JSON.
///
/// `{"id":…,"ts":…,"meta":{…},"data":{…}}` in this order, with `"ref"` behind `ts` and `"raw"` at the end where a
/// message has them. `ts` is in nanoseconds since the Unix epoch. Keys inside `meta` and `data` stand in the order in
/// which they travel, shorter ones first, so that equal messages make equal lines. Integers have all their digits,
/// bytes are lowercase hex, floats that JSON cannot say are the texts `NaN`, `Infinity` and `-Infinity`.
///
/// A message is acknowledged when its line is in the file, so none is lost; after a crash a line may stand there twice,
/// and the `id` tells. When the file cannot be written (a full disk), nothing is acknowledged, the link is down, and the
/// sink tries again until it can. A last line that a crash cut short is taken out at the start, or completed where only
/// its line end is missing. The file is made when absent, readable by its owner only; its folder must be there. It is
/// locked while the sink runs: one file, one sink. Probes are not written.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileSink {
    /// The file. It may also be a pipe or a device.
    path: PathBuf,
    /// What a line survives before its message is acknowledged. Default `sync`.
    #[serde(default)]
    flush: Flush,
    /// What is done with a message whose line may be in the file already, since the process or the sink ended before it
    /// was acknowledged. `resend`: it is written again, as it is. `repeat`: it is written with `"repeat":true` at the
    /// end. `report`: it is not written, and an unknown outcome leaves by the port `reports`, which is there only then.
    /// Default `resend`.
    #[serde(default = "resend")]
    on_maybe_sent: OnMaybeSent,
}

fn resend() -> OnMaybeSent {
    OnMaybeSent::Resend
}

/// What a line survives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Flush {
    /// The end of the process: the system has it.
    Os,
    /// A power cut: the disk has it, with one `fdatasync` for many lines.
    #[default]
    Sync,
}

/// Messages taken at once.
const BATCH_MAX: usize = 1024;
/// Text written at once; one more line than that at most.
const CHUNK_BYTES: usize = 1 << 20;
/// Waits between attempts to write.
const RETRY_MS: (u64, u64) = (50, 5_000);
/// How long another holder of the file may keep it. The one that this sink waits for is its own predecessor, whose last
/// write still runs.
const LOCK_WAIT: Duration = Duration::from_secs(5);
const LOCK_LOOK_EVERY: Duration = Duration::from_millis(5);

impl FileSink {
    /// A sink to this file, with defaults.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), flush: Flush::default(), on_maybe_sent: resend() }
    }

    /// What a line survives before its message is acknowledged.
    #[must_use]
    pub fn flush(self, flush: Flush) -> Self {
        Self { flush, ..self }
    }

    /// What is done with a message whose line may be in the file already.
    #[must_use]
    pub fn on_maybe_sent(self, on_maybe_sent: OnMaybeSent) -> Self {
        Self { on_maybe_sent, ..self }
    }

    /// Adds the line of a message; `None` takes it back, since there is nothing to write for it.
    fn line_of(&self, effect: Effect, lines: &mut Vec<u8>) -> Option<Effect> {
        if effect.msg.flags.contains(Flags::PROBE) {
            effect.done();
            return None;
        }
        let is_repeat = match (effect.is_maybe_sent(), self.on_maybe_sent) {
            (true, OnMaybeSent::Report) => {
                effect.unknown("the sink ended before it knew whether the line is in the file");
                return None;
            }
            (is_maybe_sent, on_maybe_sent) => is_maybe_sent && on_maybe_sent == OnMaybeSent::Repeat,
        };
        line::write(lines, &effect.msg, is_repeat);
        Some(effect)
    }
}

impl Endpoint for FileSink {
    const TYPE: &'static str = "file";

    fn ports(&self) -> Ports {
        match self.on_maybe_sent {
            OnMaybeSent::Report => Ports::sink().output("reports"),
            OnMaybeSent::Resend | OnMaybeSent::Repeat => Ports::sink(),
        }
    }

    async fn run(self: Arc<Self>, io: Io) -> Result<(), GearError> {
        let mut effects = io.effects();
        let mut out = Out::open(&self.path, self.flush).await?;
        io.link_up();
        loop {
            let batch = effects.take_many(BATCH_MAX).await;
            if batch.is_empty() {
                return Ok(());
            }
            let mut batch = batch.into_iter();
            while batch.len() > 0 {
                let (mut lines, mut written) = (Vec::new(), Vec::new());
                while lines.len() < CHUNK_BYTES
                    && let Some(effect) = batch.next()
                {
                    written.extend(self.line_of(effect, &mut lines));
                }
                if let Err(error) = out.append(&mut lines).await {
                    // Nothing more is taken that could not be written now (HEART §5.1).
                    effects.set_window(0);
                    io.link_down(&error.to_string());
                    out.append_at_last(&mut lines, &io, error).await?;
                    io.link_up();
                    effects.set_window(usize::MAX);
                }
                Effect::done_all(written);
            }
        }
    }
}

/// The open file, and what opens it again.
struct Out<'a> {
    path: &'a Path,
    flush: Flush,
    /// Absent after a failure: the next attempt opens the file anew, whatever stands at the path by then.
    appender: Option<Appender>,
}

impl<'a> Out<'a> {
    async fn open(path: &'a Path, flush: Flush) -> Result<Self, GearError> {
        let began = Instant::now();
        loop {
            match Self::try_open(path, flush).await {
                Ok(appender) => return Ok(Self { path, flush, appender: Some(appender) }),
                Err(OpenError::Held { .. }) if began.elapsed() < LOCK_WAIT => tokio::time::sleep(LOCK_LOOK_EVERY).await,
                Err(error) => return Err(GearError::broken(error.to_string())),
            }
        }
    }

    async fn try_open(path: &Path, flush: Flush) -> Result<Appender, OpenError> {
        let path = path.to_owned();
        blocking(move || Appender::open(&path, flush)).await
    }

    /// Appends `lines` whole, and empties it. After a failure it is as it was, and so is the file as far as possible.
    async fn append(&mut self, lines: &mut Vec<u8>) -> Result<(), OpenError> {
        if lines.is_empty() {
            return Ok(());
        }
        let mut appender = match self.appender.take() {
            Some(appender) => appender,
            None => Self::try_open(self.path, self.flush).await?,
        };
        let text = std::mem::take(lines);
        let (appender, text, result) = blocking(move || {
            let result = appender.append(&text);
            (appender, text, result)
        })
        .await;
        match result {
            Ok(()) => self.appender = Some(appender),
            Err(source) => {
                *lines = text;
                return Err(OpenError::Write { path: self.path.to_owned(), source });
            }
        }
        Ok(())
    }

    /// Tries until the lines are in the file, however long it takes: a full disk is no reason to give up.
    async fn append_at_last(&mut self, lines: &mut Vec<u8>, io: &Io, mut error: OpenError) -> Result<(), GearError> {
        let (mut wait_ms, wait_ms_max) = RETRY_MS;
        loop {
            if let OpenError::Foreign { .. } = error {
                return Err(GearError::broken(error.to_string()));
            }
            tracing::error!(sink = io.name(), %error, retry_ms = wait_ms, "file sink stands: nothing is acknowledged");
            tokio::time::sleep(Duration::from_millis(wait_ms)).await;
            wait_ms = (wait_ms * 2).min(wait_ms_max);
            match self.append(lines).await {
                Ok(()) => break,
                Err(next) => error = next,
            }
        }
        tracing::info!(sink = io.name(), "file sink goes on");
        Ok(())
    }
}

/// Runs file work where it may wait, and takes its panic along.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Only a runtime that shuts down cancels it, and then this is not polled again either.
            Err(_) => std::future::pending().await,
        },
    }
}

#[cfg(test)]
mod tests;
