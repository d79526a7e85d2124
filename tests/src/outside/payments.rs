//! Terminals and a bank around the relay of the payments example: each request has exactly one outcome.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use super::bank::Bank;
use super::chance::Chance;
use super::daemon::RackAt;
use super::iso::{self, Line, Received};
use super::place::{self, Place};
use super::tally::Tally;
use super::terminals::{Asked, Manner, Terminals};
use super::{Outcome, World, wait};

const TERMINALS: u32 = 4;
/// So many ask one after the other, with time between.
const CROWD: u32 = 499;
const CROWD_MANNER: Manner = Manner { open_max: 1, stroke: Duration::from_millis(250) };
/// A terminal whose answers nobody waits for.
pub const FLOODING: u32 = 9999;
/// Longer than the switch's own deadline and a terminal's patience together.
const SETTLE_MAX: Duration = Duration::from_secs(40);
/// Of each terminal, when all is quiet: their repeats must be answered as they were.
const ASKED_AGAIN: usize = 20;
const ANSWER_MAX: Duration = Duration::from_secs(15);

/// The example.
pub const SCENARIO: &str = include_str!("../../../examples/payments/relay.yaml");
/// A shorter deadline than the example's, so that what times out does not hold up a run.
pub const TIMEOUT: Duration = Duration::from_secs(3);
const TIMEOUTS: (&str, &str) = ("timeout_ms: 10000", "timeout_ms: 3000");
/// Small segments, so that a run has many, and trims them.
const SMALL: &str = "\njournal: { file: { segment_bytes: 262144, max_bytes: 1073741824 } }\n";

/// The payments topology.
#[derive(Debug)]
pub struct Payments {
    terminals: Terminals,
    bank: Bank,
    rack: RackAt,
    address: SocketAddr,
    _place: Place,
}

impl Payments {
    /// With a data directory of its own, below `data` where it must be there.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn new(binary: &Path, data: Option<&Path>, chance: &mut Chance) -> Outcome<Self> {
        Self::with(SCENARIO, binary, data, chance)
    }

    /// With a changed scenario.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn with(scenario: &str, binary: &Path, data: Option<&Path>, chance: &mut Chance) -> Outcome<Self> {
        Self::with_journal(SMALL, scenario, binary, data, chance)
    }

    /// With more sections of a scenario: where its journal is, for instance.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn with_journal(
        journal: &str,
        scenario: &str,
        binary: &Path,
        data: Option<&Path>,
        chance: &mut Chance,
    ) -> Outcome<Self> {
        let place = Place::new()?;
        let bank = Bank::open(Chance::new(chance.number()))?;
        let address = place::address()?;
        let scenario = scenario.replace(TIMEOUTS.0, TIMEOUTS.1);
        let scenario = place.file("relay.yaml", &format!("{scenario}{journal}"))?;
        let data_dir = data.unwrap_or(place.path()).join("payments");
        let variables = [("TERMINALS", address), ("HOST", bank.address())];
        let variables = variables.map(|(name, address)| (name.to_owned(), address.to_string())).to_vec();
        let rack = RackAt { binary: binary.to_owned(), runner: None, scenario, data_dir, variables };
        let terminals = Terminals::start(TERMINALS, Manner::default(), address, chance);
        Ok(Self { terminals, bank, rack, address, _place: place })
    }

    /// With many terminals that have time, in place of a few that have none.
    #[must_use]
    pub fn with_a_crowd(self, chance: &mut Chance) -> Self {
        let terminals = Terminals::start(CROWD, CROWD_MANNER, self.address, chance);
        Self { terminals, ..self }
    }

    /// Its rack, to start it in another way.
    pub fn rack_mut(&mut self) -> &mut RackAt {
        &mut self.rack
    }

    /// Its bank.
    #[must_use]
    pub fn bank(&self) -> &Bank {
        &self.bank
    }

    /// Where its terminals dial.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its terminals.
    #[must_use]
    pub fn terminals(&self) -> &Terminals {
        &self.terminals
    }

    /// One outcome code, and the bank agrees.
    fn judge(&self, tally: &mut Tally, name: &str, asked: &Asked) {
        let (times, codes) = (self.bank.times(name), asked.codes.as_slice());
        let what =
            || format!("{name}: asked {} times, answered {codes:?}, and the bank saw it {times} times", asked.times);
        match (codes, times) {
            ([], _) => tally.lost(what()),
            (_, 2..) | ([_, _, ..], _) => tally.duplicate(what()),
            ([code], 0) if code == "00" => tally.lost(what()),
            ([code], 1) if code == "00" => tally.ok += 1,
            // Declined before it was sent.
            ([code], 0) if code == "91" => tally.ok += 1,
            ([code], 1) if code == "91" => tally.unknown += 1,
            _ => tally.foreign(what()),
        }
    }

    /// The newest requests of each terminal again: what has an outcome keeps it, and the bank hears nothing. What was
    /// declined before it was sent may be sent now, once.
    fn ask_again(&self, tally: &mut Tally, newest: &[(String, Asked)]) {
        let Ok(stream) = TcpStream::connect(self.address) else {
            return tally.lost("a connection for repeats".to_owned());
        };
        let mut line = Line::new(stream);
        for (name, asked) in newest {
            let before = self.bank.times(name);
            let request = iso::payment(asked.terminal, asked.number);
            let Some(again) = line.send(&request).then(|| answer(&mut line)).flatten() else {
                return tally.lost(format!("{name}: no answer to its repeat"));
            };
            let (had, code, after) = (asked.codes.first(), iso::text(&again, "39"), self.bank.times(name));
            let is_same = had.is_some_and(|had| had == code) && before == after;
            let is_sent_now = had.is_some_and(|had| had == "91") && before == 0 && after == 1;
            if iso::name(&again) != *name || !(is_same || is_sent_now) {
                let saw = format!("the bank saw it {before} and then {after} times");
                tally.duplicate(format!("{name}: its outcome was {had:?} and is {code:?}, {saw}"));
            }
        }
    }
}

fn answer(line: &mut Line) -> Option<fluxrig_gears::iso8583::Decoded> {
    let mut answer = None;
    wait::until(ANSWER_MAX, || match line.receive(ANSWER_MAX) {
        Received::Message(message) => {
            answer = Some(message);
            true
        }
        Received::Silence => false,
        Received::End | Received::Nonsense(_) => true,
    });
    answer
}

impl World for Payments {
    fn name(&self) -> &'static str {
        "payments"
    }

    fn rack(&self) -> &RackAt {
        &self.rack
    }

    fn progress(&self) -> u64 {
        self.terminals.answered()
    }

    fn set_quiet(&self, is_quiet: bool) {
        self.terminals.set_quiet(is_quiet);
    }

    fn set_rude(&self, is_rude: bool) {
        self.terminals.set_rude(is_rude);
        self.bank.set_rude(is_rude);
    }

    fn rudeness(&self) -> u64 {
        self.terminals.broken() + self.bank.broken()
    }

    fn settle(&mut self) -> Tally {
        self.set_quiet(true);
        wait::until(SETTLE_MAX, || self.terminals.open() == 0);
        let mut tally = Tally::default();
        let asked = self.terminals.with_asked(std::mem::take);
        for (name, asked) in &asked {
            self.judge(&mut tally, name, asked);
        }
        let is_flood = |name: &str| name.contains(&format!(" {FLOODING:04}")) && self.bank.times(name) == 1;
        let strangers = self.bank.names().into_iter().filter(|name| !asked.contains_key(name) && !is_flood(name));
        strangers.for_each(|name| tally.duplicate(format!("{name}: the bank saw it again long after its outcome")));
        self.terminals.wrongs().into_iter().for_each(|what| tally.foreign(what));
        self.bank.nonsense().into_iter().for_each(|what| tally.foreign(format!("the bank got {what}")));
        let mut newest: Vec<(String, Asked)> = asked.into_iter().filter(|(_, asked)| !asked.codes.is_empty()).collect();
        newest.sort_by_key(|(_, asked)| std::cmp::Reverse(asked.number));
        newest.truncate(ASKED_AGAIN * TERMINALS as usize);
        self.ask_again(&mut tally, &newest);
        self.bank.forget(|_| true);
        tally
    }
}
