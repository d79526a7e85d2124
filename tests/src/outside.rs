//! The world around a rack: peers that ask and answer, ledgers that note every effect, and the binary as a child process.
//! Nothing here knows what goes on inside a rack; `judge` only compares what was promised with what was seen.

pub mod bank;
pub mod chance;
pub mod daemon;
pub mod front;
pub mod iso;
pub mod judge;
pub mod ledger;
pub mod lines;
pub mod links;
pub mod nats;
pub mod payments;
pub mod pipeline;
pub mod place;
pub mod proxy;
pub mod racks;
pub mod session;
pub mod tally;
pub mod terminals;
pub mod wait;

/// What went, or why it did not, in words for a person.
pub type Outcome<T = ()> = Result<T, String>;

/// Puts in front of an error what was tried.
pub fn tried<E: std::fmt::Display>(what: &str) -> impl FnOnce(E) -> String {
    move |error| format!("{what}: {error}")
}

/// Something that asks a rack, and knows what became of it.
pub trait World: Send {
    /// Its name on the command line.
    fn name(&self) -> &'static str;
    /// The rack that it asks.
    fn rack(&self) -> &daemon::RackAt;
    /// Answers and acknowledgements so far: what the rack has promised.
    fn progress(&self) -> u64;
    /// Asks nothing new while it is true.
    fn set_quiet(&self, is_quiet: bool);
    /// Breaks its own connections now and then while it is true, mid-message where it can.
    fn set_rude(&self, is_rude: bool);
    /// How many connections it has broken.
    fn rudeness(&self) -> u64;
    /// With a rack that runs: waits until all that was promised has been seen, and counts it. What was counted is not
    /// counted again.
    fn settle(&mut self) -> tally::Tally;
}
