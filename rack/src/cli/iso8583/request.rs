//! What terminals ask, such that no two requests are the same: fields 7, 11, 37 and 41 together name one request, also
//! among those of other runs.

use std::sync::atomic::{AtomicU64, Ordering};

use fluxrig_actors::clock::{Machine, World, utc};
use fluxrig_actors::protocol::{Map, SmolStr};
use fluxrig_gears::iso8583::Spec;

/// Trace numbers have six digits; 0 is none.
const STANS: u32 = 999_999;

/// One run of the program. Two runs that begin in different microseconds have no terminal and no reference in common at
/// the same time.
pub(super) struct Run {
    world: Machine,
    started_us: u64,
    count: AtomicU64,
}

impl Run {
    pub(super) fn new() -> Self {
        let world = Machine::new();
        let started_us = u64::try_from(world.wall_ns()).unwrap_or(0) / 1000;
        Self { world, started_us, count: AtomicU64::new(0) }
    }

    /// The terminal of a connection. Its id repeats after a minute, which field 7 tells apart.
    pub(super) fn terminal(&self, connection: usize) -> Terminal {
        let id = format!("{}{}", base36(self.started_us, 5), base36(connection as u64, 3));
        Terminal { id: id.into(), stan: 0 }
    }

    /// What all references of this run begin with.
    pub(super) fn reference_head(&self) -> String {
        base36(self.started_us, 6)
    }

    /// The names of the next request of a terminal.
    pub(super) fn stamp(&self, terminal: &mut Terminal, is_taken: impl Fn(u32) -> bool) -> Stamp {
        loop {
            terminal.stan = terminal.stan % STANS + 1;
            if !is_taken(terminal.stan) {
                break;
            }
        }
        let now = utc(self.world.wall_ns());
        let digits =
            |range: std::ops::Range<usize>| now[range].chars().filter(char::is_ascii_digit).collect::<String>();
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        Stamp {
            stan: terminal.stan,
            time: digits(5..19).into(),
            reference: format!("{}{}", self.reference_head(), base36(number, 6)).into(),
            number,
        }
    }
}

/// One terminal: a connection of its own.
pub(super) struct Terminal {
    pub(super) id: SmolStr,
    stan: u32,
}

/// What names one request.
#[derive(Clone, Debug)]
pub(super) struct Stamp {
    /// Field 11.
    pub(super) stan: u32,
    /// Field 7: month, day, hour, minute, second, in UTC.
    pub(super) time: SmolStr,
    /// Field 37.
    pub(super) reference: SmolStr,
    /// Which request of the run it is.
    pub(super) number: u64,
}

impl Stamp {
    /// Fills in the fields 7, 11, 12, 13, 37 and 41 that the spec has and nobody has set.
    pub(super) fn fill(&self, terminal: &Terminal, spec: &Spec, fields: &mut Map) {
        let stan = format!("{:06}", self.stan);
        let (day, clock) = self.time.split_at(4);
        let named = [(7, &*self.time), (11, &stan), (12, clock), (13, day), (37, &self.reference), (41, &terminal.id)];
        for (number, text) in named {
            set_default(spec, fields, number, text);
        }
    }

    /// Fills in what a purchase has, too: card, processing code, amount, how the card was read, acceptor, currency.
    pub(super) fn fill_purchase(&self, spec: &Spec, fields: &mut Map) {
        let purchase = [
            (2, card(self.number)),
            (3, "000000".to_owned()),
            (4, format!("{:012}", 100 + self.number % 1_000_000)),
            (22, "051".to_owned()),
            (25, "00".to_owned()),
            (42, "FLUXRIG-LOAD-01".to_owned()),
            (49, "978".to_owned()),
        ];
        for (number, text) in purchase {
            set_default(spec, fields, number, &text);
        }
    }
}

fn set_default(spec: &Spec, fields: &mut Map, number: u8, text: &str) {
    let key = number.to_string();
    if spec.field(number).is_some() && fields.get_key(&key).is_none() {
        fields.insert_key(key, text);
    }
}

/// A card number that nobody was given, with its check digit (Luhn): a million of them, one after the other.
fn card(number: u64) -> String {
    let body = format!("400000{:09}", number % 1_000_000);
    let sum: u32 = body.bytes().rev().enumerate().fold(0, |sum, (idx, digit)| {
        let digit = u32::from(digit - b'0') * if idx % 2 == 0 { 2 } else { 1 };
        sum + digit / 10 + digit % 10
    });
    format!("{body}{}", (10 - sum % 10) % 10)
}

/// The last places of a number, in digits and capital letters.
fn base36(mut number: u64, places: usize) -> String {
    let mut text = vec![b'0'; places];
    for place in text.iter_mut().rev() {
        *place = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"[(number % 36) as usize];
        number /= 36;
    }
    text.into_iter().map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_two_requests_are_the_same() {
        let runs = [1, 2, 3].map(|started_us| Run { started_us, ..Run::new() });
        let (mut references, mut keys) = (HashSet::new(), HashSet::new());
        for run in &runs {
            for connection in 0..3 {
                let mut terminal = run.terminal(connection);
                assert_eq!(terminal.id.len(), 8);
                for _ in 0..100 {
                    let stamp = run.stamp(&mut terminal, |_| false);
                    assert_eq!((stamp.time.len(), stamp.reference.len()), (10, 12));
                    assert!(stamp.reference.starts_with(&run.reference_head()));
                    assert!(references.insert(stamp.reference.clone()));
                    assert!(keys.insert((stamp.time, stamp.stan, terminal.id.clone())));
                }
            }
        }
    }

    #[test]
    fn a_trace_number_under_way_is_not_used_again() {
        let run = Run::new();
        let mut terminal = run.terminal(0);
        terminal.stan = STANS;
        assert_eq!(run.stamp(&mut terminal, |stan| stan < 3).stan, 3);
    }

    #[test]
    fn what_was_set_stays_and_the_spec_can_write_all_of_it() {
        for name in Spec::built_in_names() {
            let spec = Spec::built_in(name).unwrap();
            let run = Run::new();
            let mut terminal = run.terminal(7);
            let stamp = run.stamp(&mut terminal, |_| false);
            let mut fields = Map::from_iter([("4", "000000000042")]);
            stamp.fill(&terminal, &spec, &mut fields);
            stamp.fill_purchase(&spec, &mut fields);
            assert_eq!(fields.get_key("4").unwrap().as_text(), Some("000000000042"));
            assert_eq!(fields.get_key("11").unwrap().as_text(), Some("000001"));
            let bytes = spec.encode("0100", &fields).unwrap();
            assert_eq!(spec.decode(&bytes).unwrap().fields, fields);
        }
        assert_eq!(card(0), "4000000000000002");
    }
}
