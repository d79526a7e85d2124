//! The other side of the sockets: a terminal that asks, and a bank that does what the test says.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use fluxrig_actors::protocol::Map;
use fluxrig_gears::iso8583::{Decoded, Spec, response_mti};

/// A test that hangs says where.
const READ_MAX: Duration = Duration::from_secs(60);
/// Fields that an answer takes from its request.
pub(crate) const ECHOED: [&str; 12] = ["2", "3", "4", "7", "11", "12", "13", "32", "37", "41", "42", "49"];

/// A request for a payment. The first digit of the card number decides what becomes of it.
pub(crate) fn payment(first: char, terminal: usize, number: usize) -> Decoded {
    let texts = [
        ("2", format!("{first}11111{terminal:04}{number:06}")),
        ("3", "000000".to_owned()),
        ("4", format!("{:012}", 100 + number)),
        ("7", "1121101112".to_owned()),
        ("11", format!("{number:06}")),
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

/// The one right answer to a request.
pub(crate) fn answer(request: &Decoded, code: &str) -> Decoded {
    let field = |key: &&'static str| Some((*key, request.fields.get_key(key)?.clone()));
    let mut fields: Map =
        ECHOED.iter().chain(request.mti.starts_with("08").then_some(&"70")).filter_map(field).collect();
    fields.insert_key("39", code);
    Decoded { mti: response_mti(&request.mti).unwrap(), fields }
}

pub(crate) fn text<'a>(message: &'a Decoded, field: &str) -> &'a str {
    message.fields.get_key(field).and_then(|value| value.as_text()).unwrap_or_default()
}

pub(crate) fn spec() -> Spec {
    Spec::built_in("iso8583-1987-ascii").unwrap()
}

/// One connection, of either side.
pub(crate) struct Line {
    pub(crate) stream: TcpStream,
    spec: Spec,
}

impl Line {
    pub(crate) fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(READ_MAX)).unwrap();
        Self { stream, spec: spec() }
    }

    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::new(TcpStream::connect(address).unwrap())
    }

    pub(crate) fn accept(listener: &TcpListener) -> Self {
        Self::new(listener.accept().unwrap().0)
    }

    pub(crate) fn try_clone(&self) -> Self {
        Self::new(self.stream.try_clone().unwrap())
    }

    /// False when the connection has ended.
    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) -> bool {
        let mut frame = u16::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
        frame.extend_from_slice(bytes);
        self.stream.write_all(&frame).is_ok()
    }

    pub(crate) fn try_send(&mut self, message: &Decoded) -> bool {
        let bytes = self.spec.encode(&message.mti, &message.fields).unwrap();
        self.send_bytes(&bytes)
    }

    pub(crate) fn send(&mut self, message: &Decoded) {
        assert!(self.try_send(message), "the connection has ended");
    }

    /// None when the connection has ended.
    pub(crate) fn try_receive(&mut self) -> Option<Decoded> {
        let mut length = [0; 2];
        self.stream.read_exact(&mut length).ok()?;
        let mut bytes = vec![0; u16::from_be_bytes(length).into()];
        self.stream.read_exact(&mut bytes).ok()?;
        Some(self.spec.decode(&bytes).unwrap())
    }

    pub(crate) fn receive(&mut self) -> Decoded {
        self.try_receive().expect("an answer")
    }

    pub(crate) fn asked(&mut self, request: &Decoded) -> Decoded {
        self.send(request);
        self.receive()
    }
}
