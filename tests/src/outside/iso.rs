//! ISO 8583 as terminals and banks speak it: payments, their one right answer, and a line that reads and writes them.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::OnceLock;
use std::time::Duration;

use fluxrig_actors::protocol::Map;
use fluxrig_gears::iso8583::{Decoded, Spec, response_mti};

/// Fields that an answer takes from its request.
const ECHOED: [&str; 12] = ["2", "3", "4", "7", "11", "12", "13", "32", "37", "41", "42", "49"];
const READ_BYTES: usize = 16 << 10;

/// A request for a payment, of its own among all terminals and numbers.
#[must_use]
pub fn payment(terminal: u32, number: u32) -> Decoded {
    let texts = [
        ("2", format!("411111{terminal:04}{number:06}")),
        ("3", "000000".to_owned()),
        ("4", format!("{:012}", 100 + number)),
        ("7", "1121101112".to_owned()),
        ("11", format!("{:06}", number % 1_000_000)),
        ("12", "101112".to_owned()),
        ("13", "1121".to_owned()),
        ("22", "051".to_owned()),
        ("32", "12345678".to_owned()),
        ("37", format!("{terminal:04}{number:08}")),
        ("41", format!("TERM{terminal:04}")),
        ("42", "MERCHANT0000001".to_owned()),
        ("49", "978".to_owned()),
    ];
    Decoded { mti: "0100".into(), fields: texts.into_iter().collect() }
}

/// The answer to a request, or `None` to what is no request.
#[must_use]
pub fn answer(request: &Decoded, code: &str) -> Option<Decoded> {
    let field = |key: &&'static str| Some((*key, request.fields.get_key(key)?.clone()));
    let mut fields: Map = ECHOED.iter().filter_map(field).collect();
    fields.insert_key("39", code);
    Some(Decoded { mti: response_mti(&request.mti).ok()?, fields })
}

/// A field as text; empty when it is not there.
#[must_use]
pub fn text<'a>(message: &'a Decoded, field: &str) -> &'a str {
    message.fields.get_key(field).and_then(|value| value.as_text()).unwrap_or_default()
}

/// Which request it is, whoever asks: fields 11 and 37.
#[must_use]
pub fn name(message: &Decoded) -> String {
    format!("{} {}", text(message, "11"), text(message, "37"))
}

fn spec() -> &'static Spec {
    static SPEC: OnceLock<Spec> = OnceLock::new();
    SPEC.get_or_init(|| Spec::built_in("iso8583-1987-ascii").expect("this spec is built in"))
}

/// What came over a line.
#[derive(Debug)]
pub enum Received {
    /// A message.
    Message(Decoded),
    /// Nothing whole, for as long as was waited.
    Silence,
    /// The end of the connection.
    End,
    /// Something that is no message, where one had to be.
    Nonsense(String),
}

/// One connection, of either side: messages behind a length of two bytes.
#[derive(Debug)]
pub struct Line {
    stream: TcpStream,
    bytes: Vec<u8>,
}

impl Line {
    /// Speaks over a connection.
    #[must_use]
    pub fn new(stream: TcpStream) -> Self {
        // Without it messages only wait longer.
        drop(stream.set_nodelay(true));
        drop(stream.set_write_timeout(Some(Duration::from_secs(5))));
        Self { stream, bytes: Vec::new() }
    }

    /// A message that is not taken for so long ends the connection.
    pub fn set_patience(&self, patience: Duration) {
        // A refusal leaves the patience that it has.
        drop(self.stream.set_write_timeout(Some(patience)));
    }

    /// False when the connection has ended.
    pub fn send(&mut self, message: &Decoded) -> bool {
        self.stream.write_all(&framed(message)).is_ok()
    }

    /// Sends only the beginning of a message, and ends the connection with a reset.
    pub fn break_within(mut self, message: &Decoded, bytes: usize) {
        let framed = framed(message);
        drop(self.stream.write_all(&framed[..bytes.min(framed.len() - 1)]));
        reset(self.stream);
    }

    /// Ends the connection with a reset.
    pub fn reset(self) {
        reset(self.stream);
    }

    /// Waits for a message.
    pub fn receive(&mut self, at_most: Duration) -> Received {
        if let Some(received) = self.whole() {
            return received;
        }
        drop(self.stream.set_read_timeout(Some(at_most)));
        let mut chunk = [0; READ_BYTES];
        match self.stream.read(&mut chunk) {
            Ok(0) => Received::End,
            Ok(count) => {
                self.bytes.extend_from_slice(&chunk[..count]);
                self.whole().unwrap_or(Received::Silence)
            }
            Err(error) if is_silence(&error) => Received::Silence,
            Err(_) => Received::End,
        }
    }

    fn whole(&mut self) -> Option<Received> {
        let head = self.bytes.first_chunk::<2>()?;
        let end = 2 + usize::from(u16::from_be_bytes(*head));
        let body = self.bytes.get(2..end)?;
        let received = match spec().decode(body) {
            Ok(message) => Received::Message(message),
            Err(error) => Received::Nonsense(error.to_string()),
        };
        self.bytes.drain(..end);
        Some(received)
    }
}

fn framed(message: &Decoded) -> Vec<u8> {
    let body = spec().encode(&message.mti, &message.fields).expect("our own messages fit the spec");
    let mut bytes = u16::try_from(body.len()).expect("a payment is short").to_be_bytes().to_vec();
    bytes.extend_from_slice(&body);
    bytes
}

/// Whether a read only waited long enough.
pub(super) fn is_silence(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

/// Ends a connection so that the peer gets a reset, whatever it had still to read.
pub(super) fn reset(stream: TcpStream) {
    // A refusal leaves an ordinary end, which the ledgers bear as well.
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap_or_default();
    drop(stream);
}
