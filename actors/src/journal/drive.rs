//! What makes the writer go round: a thread of its own for a real disk, a task for a simulation with a paused clock.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::writer::WriterState;
use super::{JournalStats, StorageError, Usage, Writer};
use crate::node::Node;

/// Without a demand, what changed is cut after this long (HEART §4.3).
const CUT_EVERY: Duration = Duration::from_millis(5);
/// A demanded cut waits at most this long for messages that are on their way to an effect, or half as long as the last
/// group took to store if that is more, up to `RIPPLE_LONGEST`: what has arrived by then need not be written on its way.
const RIPPLE_MAX: Duration = Duration::from_micros(100);
/// See `RIPPLE_MAX`.
const RIPPLE_LONGEST: Duration = Duration::from_millis(1);
/// Quiet for this long, the writer sleeps until it is told of a change.
const QUIET: Duration = Duration::from_millis(50);
/// Groups that need no flush are flushed in the background after this long: within a second, the flush included.
const BACKGROUND_AFTER: Duration = Duration::from_millis(500);
/// Time between two attempts at a new segment, and between two looks at the disk.
const RETRY_EVERY: Duration = Duration::from_millis(250);

const RUN: u8 = 0;
const FINISH: u8 = 1;
const KILL: u8 = 2;

/// How the rest of the rig steers its writer.
#[derive(Debug)]
pub(crate) struct Control {
    order: AtomicU8,
    finished: watch::Sender<bool>,
    figures: Mutex<(JournalStats, Usage)>,
}

impl Control {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { order: AtomicU8::new(RUN), finished: watch::Sender::new(false), figures: Mutex::default() })
    }

    /// Last cut, last flush, clean mark, end.
    pub(crate) fn finish(&self, node: &Node) {
        self.order.fetch_max(FINISH, Ordering::AcqRel);
        node.writer.wake();
    }

    /// End at once, as `kill -9` would.
    pub(crate) fn kill(&self, node: &Node) {
        self.order.store(KILL, Ordering::Release);
        node.writer.wake();
    }

    pub(crate) async fn finished(&self) {
        // The sender lives in `self`, so this cannot fail.
        drop(self.finished.subscribe().wait_for(|finished| *finished).await);
    }

    pub(crate) fn figures(&self) -> (JournalStats, Usage) {
        *self.figures.lock().expect("nothing panics while it is held")
    }

    fn order(&self) -> u8 {
        self.order.load(Ordering::Acquire)
    }

    fn publish(&self, writer: &Writer) {
        *self.figures.lock().expect("nothing panics while it is held") = (writer.stats, writer.usage());
    }
}

/// Says that the writer has ended, however it ended.
struct Ending(Arc<Control>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.finished.send_replace(true);
    }
}

/// Runs the writer on a thread of its own.
pub(crate) fn spawn_thread(writer: Writer, control: Arc<Control>) -> std::io::Result<()> {
    std::thread::Builder::new().name("journal".into()).spawn(move || {
        let _ending = Ending(Arc::clone(&control));
        let node = Arc::clone(writer.node());
        drop(node.writer.thread.set(std::thread::current()));
        ThreadDriver {
            writer,
            control,
            node,
            last_cut: Instant::now(),
            last_round: Duration::ZERO,
            last_look: None,
            background: None,
            trims: Vec::new(),
        }
        .run();
    })?;
    Ok(())
}

struct ThreadDriver {
    writer: Writer,
    control: Arc<Control>,
    node: Arc<Node>,
    last_cut: Instant,
    last_round: Duration,
    last_look: Option<Instant>,
    background: Option<JoinHandle<Result<u64, StorageError>>>,
    trims: Vec<JoinHandle<()>>,
}

impl Drop for ThreadDriver {
    fn drop(&mut self) {
        // The directory is another's as soon as the writer is gone: nobody may delete in it from here on.
        for trim in self.trims.drain(..) {
            drop(trim.join());
        }
    }
}

impl ThreadDriver {
    fn run(mut self) {
        let mut quiet_since = Instant::now();
        loop {
            self.look_at_disk();
            match self.control.order() {
                KILL => return,
                FINISH => return self.finish(),
                _ => {}
            }
            if self.writer.state() == WriterState::Degraded {
                std::thread::park_timeout(RETRY_EVERY);
                if let Err(error) = block_on(self.writer.recover()) {
                    self.writer.fail(&error);
                }
                continue;
            }
            self.reap_background();
            if self.node.is_demanded() {
                self.wait_for_ripple();
            } else if !self.wait_for_work(&mut quiet_since) {
                continue;
            }
            self.round();
        }
    }

    /// Waits for something to do without a demand. True when a cut is due.
    fn wait_for_work(&mut self, quiet_since: &mut Instant) -> bool {
        if self.node.is_dirty() || self.writer.is_carrying() {
            *quiet_since = Instant::now();
            let due = self.last_cut + CUT_EVERY;
            let now = Instant::now();
            if now >= due {
                return true;
            }
            std::thread::park_timeout(due - now);
            return false;
        }
        if self.writer.has_unflushed() || quiet_since.elapsed() < QUIET {
            self.flush_in_background();
            std::thread::park_timeout(CUT_EVERY);
            return false;
        }
        self.node.is_writer_asleep.store(true, Ordering::SeqCst);
        if !self.node.is_dirty() && !self.node.is_demanded() && self.control.order() == RUN {
            // The bound is for the look at the disk; whoever changes something wakes the writer.
            std::thread::park_timeout(RETRY_EVERY);
        }
        self.node.is_writer_asleep.store(false, Ordering::SeqCst);
        false
    }

    /// Messages that will reach an effect in a moment need not be written at all (HEART §4.3).
    fn wait_for_ripple(&self) {
        let until = Instant::now() + (self.last_round / 2).clamp(RIPPLE_MAX, RIPPLE_LONGEST);
        self.node.is_writer_waiting.store(true, Ordering::SeqCst);
        while !self.node.is_still() {
            let now = Instant::now();
            if now >= until || self.control.order() == KILL {
                break;
            }
            std::thread::park_timeout(until - now);
        }
        self.node.is_writer_waiting.store(false, Ordering::SeqCst);
    }

    fn round(&mut self) {
        self.last_cut = Instant::now();
        self.writer.cut();
        let result = block_on(async {
            self.writer.write().await?;
            if self.writer.must_flush() { self.writer.flush().await } else { Ok(()) }
        });
        match result {
            Ok(()) => self.trim(),
            Err(error) => self.writer.fail(&error),
        }
        if let Err(error) = block_on(self.writer.rotate_by_age()) {
            self.writer.fail(&error);
        }
        self.last_round = self.last_cut.elapsed();
        self.flush_in_background();
        self.control.publish(&self.writer);
    }

    fn trim(&mut self) {
        if let Some(trim) = self.writer.trim() {
            // Destroying a key waits for the disk several times, which the next group need not.
            let spawned = std::thread::Builder::new().name("journal-trim".into()).spawn(move || {
                if let Err(error) = trim() {
                    tracing::warn!(%error, "journal: an old segment could not be deleted, tried again with the next");
                }
            });
            self.trims.retain(|trim| !trim.is_finished());
            match spawned {
                Ok(handle) => self.trims.push(handle),
                Err(error) => tracing::warn!(%error, "journal: no thread to delete an old segment with"),
            }
        }
    }

    fn flush_in_background(&mut self) {
        if self.background.is_some() || !self.writer.has_unflushed() || !self.writer.is_flush_due(BACKGROUND_AFTER) {
            return;
        }
        let flush = self.writer.flusher();
        let writer: Thread = std::thread::current();
        let spawned = std::thread::Builder::new().name("journal-flush".into()).spawn(move || {
            let result = flush();
            writer.unpark();
            result
        });
        match spawned {
            Ok(handle) => self.background = Some(handle),
            Err(error) => tracing::warn!(%error, "journal: no thread to flush with"),
        }
    }

    fn reap_background(&mut self) {
        let Some(handle) = self.background.take_if(|handle| handle.is_finished()) else { return };
        match handle.join() {
            Ok(Ok(epoch)) => self.writer.flushed(epoch),
            Ok(Err(error)) => self.writer.fail(&error),
            Err(_) => tracing::error!("journal: the flushing thread panicked"),
        }
    }

    fn look_at_disk(&mut self) {
        if self.last_look.is_none_or(|last| last.elapsed() >= RETRY_EVERY) {
            self.last_look = Some(Instant::now());
            self.writer.gauge();
            self.control.publish(&self.writer);
        }
    }

    fn finish(&mut self) {
        if let Err(error) = block_on(finish(&mut self.writer)) {
            self.writer.fail(&error);
            tracing::error!(%error, "journal: the last group was not written; the next start recovers as after a crash");
        }
        self.control.publish(&self.writer);
    }
}

async fn finish(writer: &mut Writer) -> Result<(), StorageError> {
    if writer.state() == WriterState::Degraded {
        writer.recover().await?;
    }
    writer.note_unclean_starts(0);
    writer.cut();
    writer.write().await?;
    writer.flush().await
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for a future on this thread. A file's are ready at once; a stream's park the thread.
fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut context = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::thread::park(),
        }
    }
}

/// Pauses of a simulated writer between its steps, drawn from a seed: what happens meanwhile is the test.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Seed of the pauses.
    pub seed: u64,
    /// Longest pause.
    pub max: Duration,
}

struct Pacer {
    pace: Pace,
    state: u64,
}

impl Pacer {
    async fn pause(&mut self) {
        let word = crate::clock::splitmix(&mut self.state);
        let max = u64::try_from(self.pace.max.as_micros()).unwrap_or(u64::MAX);
        // Half of the steps follow each other at once, as they mostly do on a real machine.
        if max > 0 && word & 1 == 0 {
            tokio::time::sleep(Duration::from_micros((word >> 1) % (max + 1))).await;
        } else {
            tokio::task::yield_now().await;
        }
    }
}

/// Runs the writer as a task of the current runtime.
pub(crate) fn spawn_task(writer: Writer, control: Arc<Control>, pace: Pace) {
    tokio::spawn(async move {
        let _ending = Ending(Arc::clone(&control));
        let mut writer = writer;
        let mut pacer = Pacer { pace, state: pace.seed };
        while control.order() == RUN {
            let result = task_round(&mut writer, &control, &mut pacer).await;
            if let Err(error) = result {
                writer.fail(&error);
            }
            control.publish(&writer);
        }
        if control.order() == FINISH {
            if let Err(error) = finish(&mut writer).await {
                tracing::error!(%error, "journal: the last group was not written");
            }
            control.publish(&writer);
        }
    });
}

async fn task_round(writer: &mut Writer, control: &Control, pacer: &mut Pacer) -> Result<(), StorageError> {
    let node = Arc::clone(writer.node());
    writer.gauge();
    if writer.state() == WriterState::Degraded {
        tokio::time::sleep(RETRY_EVERY).await;
        return if control.order() == RUN { writer.recover().await } else { Ok(()) };
    }
    if !node.is_demanded() {
        node.is_writer_asleep.store(true, Ordering::SeqCst);
        let is_busy = node.is_dirty() || writer.is_carrying() || writer.has_unflushed();
        let wait = if is_busy { CUT_EVERY } else { Duration::from_secs(60) };
        drop(tokio::time::timeout(wait, node.writer.notify.notified()).await);
        node.is_writer_asleep.store(false, Ordering::SeqCst);
        if !node.is_demanded() && !is_busy {
            return Ok(());
        }
    }
    pacer.pause().await;
    if control.order() == KILL {
        return Ok(());
    }
    writer.cut();
    pacer.pause().await;
    if control.order() == KILL {
        return Ok(());
    }
    writer.write().await?;
    pacer.pause().await;
    if control.order() == KILL {
        return Ok(());
    }
    if writer.must_flush() || writer.is_flush_due(BACKGROUND_AFTER) {
        writer.flush().await?;
    }
    if let Some(trim) = writer.trim() {
        trim()?;
    }
    writer.rotate_by_age().await
}
