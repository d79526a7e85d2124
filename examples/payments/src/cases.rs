//! What the terminals ask, and what each answer must be. The first digit of the card number decides.

use std::time::Duration;

use fluxrig_actors::protocol::Map;
use fluxrig_gears::iso8583::Decoded;

/// Fields that an answer takes from its request.
const ECHOED: [&str; 12] = ["2", "3", "4", "7", "11", "12", "13", "32", "37", "41", "42", "49"];
/// A bank that is silent is given up after this time.
const TIMEOUT: Duration = Duration::from_secs(2);
/// So many requests show every case once.
const CASES: [Case; 16] = {
    let mut cases = [Case::Approved; 16];
    cases[1] = Case::Declined;
    cases[2] = Case::Silent;
    cases[3] = Case::NoRoute;
    cases[4] = Case::Network;
    cases[9] = Case::Declined;
    cases
};

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Case {
    /// The bank says yes.
    Approved,
    /// The bank says no.
    Declined,
    /// The bank says nothing.
    Silent,
    /// No bank has such cards.
    NoRoute,
    /// Network management, which the switch answers itself.
    Network,
}

impl Case {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Approved => "approved by the bank",
            Self::Declined => "declined by the bank",
            Self::Silent => "bank is silent",
            Self::NoRoute => "no route",
            Self::Network => "network management",
        }
    }

    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::Approved | Self::Network => "00",
            Self::Declined => "05",
            Self::Silent => "91",
            Self::NoRoute => "92",
        }
    }

    fn first_digit(self) -> &'static str {
        match self {
            Self::Approved | Self::Network => "4",
            Self::Declined => "5",
            Self::Silent => "6",
            Self::NoRoute => "9",
        }
    }

    /// The least time that its answer takes.
    pub(crate) fn at_least(self) -> Duration {
        if self == Self::Silent { TIMEOUT } else { Duration::ZERO }
    }
}

/// A request and its one right answer.
pub(crate) struct Request {
    pub(crate) case: Case,
    /// Field 11, by which a terminal knows its answer.
    pub(crate) stan: String,
    pub(crate) mti: &'static str,
    pub(crate) fields: Map,
    pub(crate) answer: Decoded,
}

impl Request {
    /// The request of this number of a terminal. All terminals use the same numbers in field 11.
    pub(crate) fn new(terminal: usize, number: usize) -> Self {
        Self::of(CASES[number % CASES.len()], terminal, number)
    }

    pub(crate) fn of(case: Case, terminal: usize, number: usize) -> Self {
        let stan = format!("{number:06}");
        let mut fields: Map =
            [("7", "1121101112"), ("11", &stan), ("41", &format!("TERM{terminal:04}"))].into_iter().collect();
        let mut echoed = ECHOED.to_vec();
        let (mti, answer_mti) = match case {
            Case::Network => ("0800", "0810"),
            _ if number.is_multiple_of(2) => ("0100", "0110"),
            _ => ("0200", "0210"),
        };
        if case == Case::Network {
            fields.insert_key("70", "301");
            echoed.push("70");
        } else {
            pay(&mut fields, case, terminal, number);
        }
        let mut answer: Map = echoed.into_iter().filter_map(|key| Some((key, fields.get_key(key)?.clone()))).collect();
        answer.insert_key("39", case.code());
        Self { case, stan, mti, fields, answer: Decoded { mti: answer_mti.into(), fields: answer } }
    }
}

/// The fields of a payment.
fn pay(fields: &mut Map, case: Case, terminal: usize, number: usize) {
    let pan = format!("{}{terminal:05}{number:09}7", case.first_digit());
    let texts = [
        ("2", pan.as_str()),
        ("3", "000000"),
        ("4", &format!("{:012}", 100 + number)),
        ("12", "101112"),
        ("13", "1121"),
        ("22", "051"),
        ("32", "12345678"),
        // What a bank needs and a terminal is not told again.
        ("35", &format!("{pan}=2912201")),
        ("37", &format!("{terminal:04}{number:08}")),
        ("42", "MERCHANT0000001"),
        ("49", "978"),
    ];
    for (key, text) in texts {
        fields.insert_key(key, text);
    }
}
