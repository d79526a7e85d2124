//! How much a supervised restart costs: from the message that crashes a child to the answer of its successor.
//! A supervisor of bare ractor, which only starts the child again, runs beside it for comparison.

use std::time::Duration;

use fluxrig_supervision::{Backoff, ChildSpec, SupervisorRef, SupervisorSpec};
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::sync::mpsc;
use tokio::time::Instant;

const RESTARTS: usize = 2_000;
const WARM_UP: usize = 200;

/// Reports its own reference when it runs, and answers until it is told to fail.
struct Child;

enum Ask {
    Fail,
    Answer(tokio::sync::oneshot::Sender<()>),
}

type Births = mpsc::UnboundedSender<ActorRef<Ask>>;

impl Actor for Child {
    type Msg = Ask;
    type State = ();
    type Arguments = Births;

    async fn pre_start(&self, me: ActorRef<Ask>, births: Births) -> Result<(), ActorProcessingErr> {
        births.send(me)?;
        Ok(())
    }

    async fn handle(&self, _me: ActorRef<Ask>, ask: Ask, _: &mut ()) -> Result<(), ActorProcessingErr> {
        match ask {
            Ask::Fail => Err("told to".into()),
            Ask::Answer(reply) => {
                let _ = reply.send(());
                Ok(())
            }
        }
    }
}

/// The least that a supervisor can do.
struct Bare;

impl Actor for Bare {
    type Msg = ();
    type State = Births;
    type Arguments = Births;

    async fn pre_start(&self, me: ActorRef<()>, births: Births) -> Result<Births, ActorProcessingErr> {
        Child::spawn_linked(None, Child, births.clone(), me.get_cell()).await?;
        Ok(births)
    }

    async fn handle_supervisor_evt(
        &self,
        me: ActorRef<()>,
        event: SupervisionEvent,
        births: &mut Births,
    ) -> Result<(), ActorProcessingErr> {
        if let SupervisionEvent::ActorFailed(..) = event {
            Child::spawn_linked(None, Child, births.clone(), me.get_cell()).await?;
        }
        Ok(())
    }
}

fn main() {
    for workers in [1, 2] {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_time().build();
        let runtime = runtime.expect("a runtime starts");
        let (bare, ours) = runtime.block_on(async {
            // From a worker, as in a rack: the asker would otherwise pay a thread switch per step.
            tokio::spawn(async { (bare().await, ours().await) }).await.expect("no measurement panics")
        });
        println!("crash -> successor answers, {RESTARTS} restarts, {workers} worker thread(s), microseconds");
        report("bare ractor", bare);
        report("supervision", ours);
    }
}

async fn bare() -> Vec<Duration> {
    let (births, born) = mpsc::unbounded_channel();
    let (supervisor, _) = Bare::spawn(None, Bare, births).await.expect("the bare supervisor starts");
    let times = measure(born).await;
    supervisor.stop_and_wait(None, None).await.expect("it stops");
    times
}

async fn ours() -> Vec<Duration> {
    let (births, born) = mpsc::unbounded_channel();
    let child = ChildSpec::worker("child", move |start| {
        let births = births.clone();
        async move { start.spawn(Child, births).await }
    });
    let spec =
        SupervisorSpec::one_for_one().child(child.backoff(Backoff::NONE)).intensity(u32::MAX, Duration::from_millis(1));
    let supervisor = SupervisorRef::start_root("bench", spec).await.expect("the supervisor starts");
    let times = measure(born).await;
    supervisor.stop().await;
    times
}

async fn measure(mut born: mpsc::UnboundedReceiver<ActorRef<Ask>>) -> Vec<Duration> {
    let mut child = born.recv().await.expect("a first child");
    let mut times = Vec::with_capacity(RESTARTS);
    for turn in 0..WARM_UP + RESTARTS {
        let begin = Instant::now();
        child.cast(Ask::Fail).expect("it runs");
        child = born.recv().await.expect("a successor");
        let (reply, answer) = tokio::sync::oneshot::channel();
        child.cast(Ask::Answer(reply)).expect("it runs");
        answer.await.expect("an answer");
        if turn >= WARM_UP {
            times.push(begin.elapsed());
        }
    }
    times
}

fn report(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize].as_nanos() as f64 / 1_000.0;
    println!("  {what:<12} p50 {:6.1}  p99 {:6.1}", at(0.50), at(0.99));
}
