//! A terminal: one connection on which it asks without waiting for answers, and on which every answer must be right.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use fluxrig_gears::iso8583::{Decoded, Spec};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::Failure;
use crate::cases::{Case, Request};

/// Requests without an answer at a time.
const OPEN_MAX: usize = 32;
/// No answer takes longer.
const ANSWER_MAX: Duration = Duration::from_secs(20);
/// No message of ISO 8583, but a card number is in it: where this goes nobody may read it.
pub(crate) const NO_MESSAGE: &[u8] = b"0100 card 4123456789012349";

/// One answered request.
pub(crate) struct Answered {
    pub(crate) case: Case,
    pub(crate) took: Duration,
}

/// A connection to the switch.
pub(crate) struct Terminal {
    stream: BufReader<TcpStream>,
    spec: Spec,
    number: usize,
}

impl Terminal {
    pub(crate) async fn connect(address: SocketAddr, number: usize) -> Result<Self, Failure> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let spec = Spec::built_in("iso8583-1987-ascii").ok_or("the spec is built in")?;
        Ok(Self { stream: BufReader::new(stream), spec, number })
    }

    /// Asks for a payment that the bank approves.
    pub(crate) async fn is_approved(&mut self, number: usize) -> Result<bool, Failure> {
        let request = Request::of(Case::Approved, self.number, number);
        self.ask(&request).await?;
        Ok(self.receive().await? == request.answer)
    }

    /// Sends so many requests, and in the middle of them what is no message, and checks all answers.
    pub(crate) async fn drive(mut self, requests: usize) -> Result<Vec<Answered>, Failure> {
        let mut open = HashMap::new();
        let mut answered = Vec::new();
        let mut next = 0;
        while answered.len() < requests {
            while next < requests && open.len() < OPEN_MAX {
                if next == requests / 2 {
                    self.send(NO_MESSAGE).await?;
                }
                let request = Request::new(self.number, next);
                self.ask(&request).await?;
                open.insert(request.stan.clone(), (request, Instant::now()));
                next += 1;
            }
            let answer = self.receive().await?;
            answered.push(self.check(&answer, &mut open)?);
        }
        Ok(answered)
    }

    fn check(&self, answer: &Decoded, open: &mut HashMap<String, (Request, Instant)>) -> Result<Answered, Failure> {
        let at = format!("terminal {}", self.number);
        let stan = answer.fields.get_key("11").and_then(|stan| stan.as_text()).unwrap_or_default();
        let Some((request, since)) = open.remove(stan) else {
            return Err(format!("{at}: found an answer to `{stan}`, expected one to an open request").into());
        };
        let Request { case, answer: right, .. } = request;
        // Texts of a trial, so they may be shown.
        if let Some(wrong) = difference(answer, &right) {
            return Err(format!("{at}: request {stan} ({}): {wrong}", case.name()).into());
        }
        let took = since.elapsed();
        if took < case.at_least() {
            return Err(format!("{at}: request {stan} ({}): answered too early", case.name()).into());
        }
        Ok(Answered { case, took })
    }

    async fn ask(&mut self, request: &Request) -> Result<(), Failure> {
        let bytes = self.spec.encode(request.mti, &request.fields)?;
        self.send(&bytes).await
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let mut frame = u16::try_from(bytes.len())?.to_be_bytes().to_vec();
        frame.extend_from_slice(bytes);
        Ok(self.stream.write_all(&frame).await?)
    }

    async fn receive(&mut self) -> Result<Decoded, Failure> {
        let frame = async {
            let length = self.stream.read_u16().await?;
            let mut bytes = vec![0; length.into()];
            self.stream.read_exact(&mut bytes).await?;
            Ok::<_, std::io::Error>(bytes)
        };
        let number = self.number;
        let late = move |_| format!("terminal {number}: found no answer in {ANSWER_MAX:?}, expected one");
        Ok(self.spec.decode(&timeout(ANSWER_MAX, frame).await.map_err(late)??)?)
    }
}

/// What is not as it should be, in words.
fn difference(found: &Decoded, expected: &Decoded) -> Option<String> {
    if found == expected {
        return None;
    }
    if found.mti != expected.mti {
        return Some(format!("found type {}, expected {}", found.mti, expected.mti));
    }
    let mut keys = expected.fields.iter().chain(found.fields.iter()).map(|(key, _)| key);
    let differs = |key: &&str| found.fields.get_key(key) != expected.fields.get_key(key);
    let text = |fields: &fluxrig_actors::protocol::Map, key: &str| {
        fields.get_key(key).and_then(|value| value.as_text()).map_or("nothing".into(), |text| format!("`{text}`"))
    };
    let key = keys.find(differs)?;
    Some(format!("field {key}: found {}, expected {}", text(&found.fields, key), text(&expected.fields, key)))
}
