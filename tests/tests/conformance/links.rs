//! Links of endpoints: who hears of them, what is told when an endpoint ends, and starts that are only complete with one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use fluxrig_actors::prelude::*;

use crate::parts::{Func, Hand, Pass};
use crate::stage::{Stage, tireless, until_eq, until_true};

/// Passes on what comes, and writes down the links it hears of.
#[derive(Clone, Default)]
struct Listener(Arc<Mutex<Vec<(String, bool)>>>);

impl Listener {
    fn heard(&self) -> Vec<(String, bool)> {
        self.0.lock().unwrap().clone()
    }
}

impl Gear for Listener {
    const TYPE: &'static str = "listener";
    type State = ();

    fn handle(&self, msg: FluxMsg, (): &mut (), out: &mut Outlet) -> Result<(), GearError> {
        out.emit(msg);
        Ok(())
    }

    fn on_link(&self, link: &Link, (): &mut (), _: &mut Outlet) -> Result<(), GearError> {
        self.0.lock().unwrap().push((link.endpoint.to_string(), link.is_up));
        Ok(())
    }
}

/// A link is heard of through other gears, up and down the wires, and not beyond the next endpoint.
pub(crate) async fn through_gears(stage: Arc<Stage>) {
    let (source, hand, far) = (Hand::source(), Hand::new(Ports::pipe()), Hand::new(Ports::sink()));
    let (near, beyond) = (Listener::default(), Listener::default());
    let rig = stage
        .rig("links")
        .endpoint("source", source.clone())
        .gear("near", near.clone())
        .gear("between", Pass)
        .endpoint("hand", hand.clone())
        .supervised(tireless())
        .gear("beyond", beyond.clone())
        .endpoint("far", far.clone())
        .wire_with("source", "near", stage.wire())
        .wire_with("near", "between", stage.wire())
        .wire_with("between", "hand", stage.wire())
        .wire_with("hand", "beyond", stage.wire())
        .wire_with("beyond", "far", stage.wire())
        .start()
        .await
        .unwrap();
    let told = |name: &str, is_up: bool| vec![(name.to_owned(), is_up)];
    hand.io().await.link_up();
    until_eq("the gear before it hears", told("hand", true), || near.heard()).await;
    until_eq("and the gear behind it", told("hand", true), || beyond.heard()).await;
    far.io().await.link_up();
    let both = [told("hand", true), told("far", true)].concat();
    until_eq("each hears of the endpoints next to it", both, || beyond.heard()).await;
    assert_eq!(near.heard(), told("hand", true));
    // An endpoint that crashes says nothing; the node says it for it.
    hand.crash().await;
    let lost = [told("hand", true), told("hand", false)].concat();
    until_eq("a crash is a lost link", lost, || near.heard()).await;
    // A gear that starts anew is told again how things stand.
    rig.restart_gear("near").await.unwrap();
    until_eq("told again", Some(&("hand".to_owned(), false)).cloned(), || near.heard().get(2).cloned()).await;
    let links: Vec<_> = rig.links().into_iter().map(|link| (link.endpoint.to_string(), link.is_up)).collect();
    assert_eq!(links, [("hand".to_owned(), false), ("far".to_owned(), true)]);
    stage.stop(rig).await;
}

/// An endpoint whose start is complete when it says so.
#[derive(Clone)]
struct Opening(Arc<AtomicBool>);

impl Endpoint for Opening {
    const TYPE: &'static str = "opening";

    fn ports(&self) -> Ports {
        Ports::source()
    }

    fn opens(&self) -> bool {
        true
    }

    async fn run(self: Arc<Self>, io: Io) -> Result<(), GearError> {
        io.tallies().tally("starts", "all").add(1);
        if !self.0.load(Ordering::SeqCst) {
            return Err(GearError::broken("address in use"));
        }
        io.opened();
        std::future::pending().await
    }
}

/// What cannot open keeps the rig from starting, and the error says why.
pub(crate) async fn opening(stage: Arc<Stage>) {
    let is_free = Arc::new(AtomicBool::new(false));
    let build = || {
        let drops = Func::new(|_, _, _| Ok(())).ports(Ports::sink());
        stage
            .rig("opening")
            .endpoint("listener", Opening(Arc::clone(&is_free)))
            .gear("gear", drops)
            .wire_with("listener", "gear", stage.wire())
    };
    let error = build().start().await.unwrap_err().to_string();
    assert_eq!(error, "gear `listener`: address in use");
    is_free.store(true, Ordering::SeqCst);
    let rig = build().start().await.unwrap();
    let tallies = rig.tallies();
    assert_eq!(tallies, [("listener".into(), "starts", "all".to_owned(), 1)]);
    stage.stop(rig).await;
}

/// News that nobody hears does not pile up.
pub(crate) async fn flapping(stage: Arc<Stage>) {
    let (source, hand, listener) = (Hand::source(), Hand::new(Ports::sink()), Listener::default());
    let rig = stage
        .rig("flapping")
        .endpoint("source", source.clone())
        .gear("listener", listener.clone())
        .endpoint("hand", hand.clone())
        .wire_with("source", "listener", stage.wire())
        .wire_with("listener", "hand", stage.wire())
        .start()
        .await
        .unwrap();
    let io = hand.io().await;
    for _ in 0..500 {
        io.link_down("cable");
        io.link_up();
    }
    until_true("the last word counts", || listener.heard().last().is_some_and(|(_, is_up)| *is_up)).await;
    stage.stop(rig).await;
}
