//! What makes the writer go round: a thread of its own for a real disk, a task for a simulation with a paused clock.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{JoinHandle, Thread};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::desk::{Desk, Rounds};
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

/// How often the last group is tried, at that distance: a disk that refuses for five seconds will go on doing so.
const FINISH_TRIES: u32 = 20;

const RUN: u8 = 0;
const FINISH: u8 = 1;
const KILL: u8 = 2;

/// How the rest of the rig steers its writer.
#[derive(Debug)]
pub(crate) struct Control {
    order: AtomicU8,
    finished: watch::Sender<bool>,
    /// The last group is on disk: nothing that was promised hangs on what the page cache keeps.
    is_kept: AtomicBool,
    figures: Mutex<(JournalStats, Usage)>,
}

impl Control {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            order: AtomicU8::new(RUN),
            finished: watch::Sender::new(false),
            is_kept: AtomicBool::new(false),
            figures: Mutex::default(),
        })
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

    /// After the end: whether the last group is on disk.
    pub(crate) fn is_kept(&self) -> bool {
        self.is_kept.load(Ordering::Acquire)
    }

    pub(crate) fn figures(&self) -> (JournalStats, Usage) {
        *self.figures.lock().expect("nothing panics while it is held")
    }

    fn order(&self) -> u8 {
        self.order.load(Ordering::Acquire)
    }

    /// It was told neither to finish nor to end at once.
    pub(crate) fn is_running(&self) -> bool {
        self.order() == RUN
    }

    fn publish(&self, writer: &Writer) {
        *self.figures.lock().expect("nothing panics while it is held") = (writer.stats, writer.usage());
    }

    /// What is on the disk is not asked of the system after each group.
    pub(crate) fn note_stats(&self, writer: &Writer) {
        self.figures.lock().expect("nothing panics while it is held").0 = writer.stats;
    }
}

/// Says that the writer has ended, however it ended.
struct Ending {
    control: Arc<Control>,
    desk: Arc<Desk>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.desk.clear();
        self.control.finished.send_replace(true);
    }
}

/// Runs the writer on a thread of its own.
pub(crate) fn spawn_thread(writer: Writer, control: Arc<Control>) -> std::io::Result<()> {
    std::thread::Builder::new().name("journal".into()).spawn(move || {
        let node = Arc::clone(writer.node());
        let desk = Desk::new(Rounds::new(writer), Arc::clone(&control), None);
        let _ending = Ending { control: Arc::clone(&control), desk: Arc::clone(&desk) };
        drop(node.writer.thread.set(std::thread::current()));
        drop(node.writer.desk.set(Arc::clone(&desk)));
        ThreadDriver { desk, control, node, groups_tended: 0, last_look: None, background: None, trims: Vec::new() }
            .run();
    })?;
    Ok(())
}

struct ThreadDriver {
    desk: Arc<Desk>,
    control: Arc<Control>,
    node: Arc<Node>,
    /// Groups written when what follows a group was done last.
    groups_tended: u64,
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

/// Until when the writer's thread has nothing to do.
enum Rest {
    /// There is a cut to make.
    Due,
    For(Duration),
    /// Until it is told of a change, and at most so long.
    Asleep(Duration),
}

impl ThreadDriver {
    fn run(mut self) {
        let mut quiet_since = Instant::now();
        loop {
            let mut rounds = self.desk.take();
            let order = self.control.order();
            let rest = match order {
                _ if rounds.writer.state() == WriterState::Fenced => None,
                RUN => Some(self.turn(&mut rounds, &mut quiet_since)),
                FINISH => {
                    let rest = async || std::thread::park_timeout(RETRY_EVERY);
                    block_on(finish(&mut rounds.writer, &self.control, rest));
                    None
                }
                _ => None,
            };
            // At the end as well: it goes after the threads that delete beside it.
            self.desk.put_back(rounds);
            let Some(rest) = rest else { return };
            self.rest(rest);
        }
    }

    /// Does what there is to do, and says for how long there is no more.
    fn turn(&mut self, rounds: &mut Rounds, quiet_since: &mut Instant) -> Rest {
        self.look_at_disk(&mut rounds.writer);
        if rounds.writer.state() == WriterState::Degraded {
            std::thread::park_timeout(RETRY_EVERY);
            if self.control.is_running()
                && let Err(error) = block_on(rounds.writer.recover())
            {
                rounds.writer.fail(&error);
            }
            return Rest::Due;
        }
        self.reap_background(&mut rounds.writer);
        if let Err(error) = block_on(rounds.writer.renew()) {
            rounds.writer.fail(&error);
            return Rest::Due;
        }
        // What those who served themselves have left to this thread.
        self.tend(&mut rounds.writer);
        if self.node.is_demanded() {
            self.wait_for_ripple(rounds.last_round);
        } else {
            match self.rest_now(rounds, quiet_since) {
                Rest::Due => {}
                rest => return rest,
            }
        }
        rounds.round();
        self.tend(&mut rounds.writer);
        Rest::Due
    }

    /// What there is to do without a demand.
    fn rest_now(&mut self, rounds: &Rounds, quiet_since: &mut Instant) -> Rest {
        if self.node.is_dirty() || rounds.writer.is_carrying() {
            *quiet_since = Instant::now();
            let left = (rounds.last_cut + CUT_EVERY).saturating_duration_since(*quiet_since);
            return if left.is_zero() { Rest::Due } else { Rest::For(left) };
        }
        if rounds.writer.has_unflushed() || quiet_since.elapsed() < QUIET {
            self.flush_in_background(&rounds.writer);
            return Rest::For(CUT_EVERY);
        }
        // The bound is for the look at the disk; whoever changes something wakes the writer.
        Rest::Asleep(RETRY_EVERY)
    }

    fn rest(&self, rest: Rest) {
        match rest {
            Rest::Due => {}
            Rest::For(time) => std::thread::park_timeout(time),
            Rest::Asleep(time) => {
                self.node.is_writer_asleep.store(true, Ordering::SeqCst);
                if !self.node.is_dirty() && !self.node.is_demanded() && self.control.is_running() {
                    std::thread::park_timeout(time);
                }
                self.node.is_writer_asleep.store(false, Ordering::SeqCst);
            }
        }
    }

    /// Messages that will reach an effect in a moment need not be written at all (HEART §4.3).
    fn wait_for_ripple(&self, last_round: Duration) {
        let until = Instant::now() + (last_round / 2).clamp(RIPPLE_MAX, RIPPLE_LONGEST);
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

    /// What follows a group, whoever made it.
    fn tend(&mut self, writer: &mut Writer) {
        if self.groups_tended == writer.stats.groups || writer.state() != WriterState::Running {
            return;
        }
        self.groups_tended = writer.stats.groups;
        self.trim(writer);
        if let Err(error) = block_on(writer.rotate_by_age()) {
            writer.fail(&error);
        }
        self.flush_in_background(writer);
        self.control.note_stats(writer);
    }

    fn trim(&mut self, writer: &mut Writer) {
        if let Some(trim) = writer.trim() {
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

    fn flush_in_background(&mut self, writer: &Writer) {
        if self.background.is_some() || !writer.has_unflushed() || !writer.is_flush_due(BACKGROUND_AFTER) {
            return;
        }
        let flush = writer.flusher();
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

    fn reap_background(&mut self, writer: &mut Writer) {
        let Some(handle) = self.background.take_if(|handle| handle.is_finished()) else { return };
        match handle.join() {
            Ok(Ok(epoch)) => writer.flushed(epoch),
            Ok(Err(error)) => writer.fail(&error),
            Err(_) => tracing::error!("journal: the flushing thread panicked"),
        }
    }

    fn look_at_disk(&mut self, writer: &mut Writer) {
        if self.last_look.is_none_or(|last| last.elapsed() >= RETRY_EVERY) {
            self.last_look = Some(Instant::now());
            writer.gauge();
            self.control.publish(writer);
        }
    }
}

/// The last cut. A flush that fails takes with it what was only written and may be promised already, so that is written
/// anew as long as there is hope.
async fn finish(writer: &mut Writer, control: &Control, rest: impl AsyncFn()) {
    for left in (0..FINISH_TRIES).rev() {
        match last_group(writer).await {
            Ok(()) => {
                control.is_kept.store(true, Ordering::Release);
                // Everything before this one in the tree has stopped.
                if let Err(error) = writer.leave().await {
                    tracing::warn!(%error, "journal: a stand-by was not told that this rack stops, and waits for its lease");
                }
                break;
            }
            Err(error) => {
                writer.fail(&error);
                if error.is_fenced() {
                    break;
                }
                if left == 0 || control.order() == KILL {
                    tracing::error!(
                        %error,
                        "journal: the last group was not written, what `durability: os` promised may be gone; remedy: mend the disk, the next start recovers as after a crash"
                    );
                    break;
                }
                rest().await;
            }
        }
    }
    control.publish(writer);
}

async fn last_group(writer: &mut Writer) -> Result<(), StorageError> {
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
pub(super) fn block_on<F: Future>(future: F) -> F::Output {
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
    let node = Arc::clone(writer.node());
    let desk = Desk::new(Rounds::new(writer), Arc::clone(&control), Some(pace));
    drop(node.writer.desk.set(Arc::clone(&desk)));
    tokio::spawn(async move {
        // Dropped last: the end is told when the directory is another's.
        let _ending = Ending { control: Arc::clone(&control), desk: Arc::clone(&desk) };
        let mut pacer = Pacer { pace, state: pace.seed };
        while control.is_running() {
            let is_round = task_rest(&node, &desk, &control).await;
            let mut rounds = desk.take();
            let mut done = rounds.writer.renew().await;
            if is_round && done.is_ok() {
                done = task_round(&mut rounds.writer, &control, &mut pacer).await;
            }
            if let Err(error) = done {
                rounds.writer.fail(&error);
            }
            control.publish(&rounds.writer);
            let is_fenced = rounds.writer.state() == WriterState::Fenced;
            desk.put_back(rounds);
            if is_fenced {
                return;
            }
        }
        let mut rounds = desk.take();
        if control.order() == FINISH {
            finish(&mut rounds.writer, &control, async || tokio::time::sleep(RETRY_EVERY).await).await;
        }
    });
}

/// Leaves the writer on its desk until there may be something to do. True when there is.
async fn task_rest(node: &Node, desk: &Desk, control: &Control) -> bool {
    let mut rounds = desk.take();
    rounds.writer.gauge();
    control.publish(&rounds.writer);
    let is_due = rounds.writer.state() == WriterState::Degraded || node.is_demanded();
    let is_busy = node.is_dirty() || rounds.writer.is_carrying() || rounds.writer.has_unflushed();
    desk.put_back(rounds);
    if is_due {
        return true;
    }
    node.is_writer_asleep.store(true, Ordering::SeqCst);
    // As on a thread, the longer bound is for the look at the disk: doors that a full one closed open again by it.
    let wait = if is_busy { CUT_EVERY } else { RETRY_EVERY };
    drop(tokio::time::timeout(wait, node.writer.notify.notified()).await);
    node.is_writer_asleep.store(false, Ordering::SeqCst);
    node.is_demanded() || is_busy
}

async fn task_round(writer: &mut Writer, control: &Control, pacer: &mut Pacer) -> Result<(), StorageError> {
    if writer.state() == WriterState::Degraded {
        tokio::time::sleep(RETRY_EVERY).await;
        return if control.is_running() { writer.recover().await } else { Ok(()) };
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
