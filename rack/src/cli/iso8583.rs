//! `fluxrig iso8583`: a terminal on the command line, which sends one message, or many and counts what came of them.
//! What reaches the screen goes through the masking view of the codec; what fails says its exit code.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use fluxrig_actors::protocol::{Map, Value};
use fluxrig_gears::LengthPrefix;
use fluxrig_gears::iso8583::{Kind, Spec};
use fluxrig_rack::exit;
use tokio::net::TcpStream;

use super::{complain, say, say_json};

mod frame;
mod line;
mod load;
mod report;
mod request;
mod send;

/// Longest time for an answer, milliseconds: one hour.
const TIMEOUT_MS_MAX: u64 = 3_600_000;

#[derive(Debug, Subcommand)]
pub(super) enum Iso8583Command {
    /// Sends requests from many terminals and says how fast and how they were answered.
    ///
    /// A terminal whose connection is lost makes it again, after 50 ms at first and at most 1 s; what was due meanwhile
    /// counts as unsent. Ctrl-C ends the load early, with its report; a second one ends it at once. The exit code is 0
    /// only when every request was sent and had its own answer, once, and no connection was lost.
    Load(load::LoadArgs),
    /// Sends one message and shows the answer, masked.
    Send(send::SendArgs),
}

/// Whom to talk to, and what to say.
#[derive(Debug, Args)]
struct Peer {
    /// Where it listens, for instance 127.0.0.1:8583.
    #[arg(long, value_name = "HOST:PORT")]
    target: String,
    /// Message specification: the name of a built-in one, or the path of a YAML file.
    #[arg(long, value_name = "NAME|FILE", default_value = "iso8583-1987-ascii")]
    spec: String,
    /// How the length of a message stands in front of it.
    #[arg(long, value_enum, default_value_t = Framing::Be16)]
    framing: Framing,
    /// The length counts itself, too.
    #[arg(long)]
    inclusive: bool,
    /// Message type of the request: four digits.
    #[arg(long, default_value = "0100", value_name = "MTI", value_parser = mti)]
    mti: String,
    /// A field, for instance `4=000000001000`; of bytes it is written in hex. May be said often.
    #[arg(long = "set", value_name = "FIELD=VALUE", value_parser = field)]
    fields: Vec<(u8, String)>,
    /// How long an answer may take, milliseconds.
    #[arg(long, default_value_t = 5000, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=TIMEOUT_MS_MAX))]
    timeout_ms: u64,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Framing {
    /// Two bytes, big-endian.
    Be16,
    /// Four bytes, big-endian.
    Be32,
    /// Four ASCII digits.
    Ascii4,
    /// Two bytes of two decimal digits each.
    Bcd2,
}

/// Why a command failed, and with which code.
#[derive(Debug)]
struct Failure {
    code: u8,
    text: String,
}

impl Failure {
    fn usage(text: impl Into<String>) -> Self {
        Self { code: exit::USAGE, text: text.into() }
    }
}

pub(super) fn iso8583(command: &Iso8583Command) -> u8 {
    let done = match command {
        Iso8583Command::Load(args) => load::load(args),
        Iso8583Command::Send(args) => send::send(args),
    };
    done.unwrap_or_else(|Failure { code, text }| {
        complain(&text);
        code
    })
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|error| Failure {
        code: exit::TRY_AGAIN,
        text: format!("runtime: found no threads ({error}), expected some; remedy: raise the limits of the process"),
    })
}

fn mti(text: &str) -> Result<String, String> {
    if text.len() == 4 && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(text.to_owned());
    }
    Err("found no message type, expected four digits; remedy: write for example `0100`".to_owned())
}

// What was given for a field stands in no error: it may be a card number.
fn field(text: &str) -> Result<(u8, String), String> {
    let (number, value) = text.split_once('=').ok_or("found no `=`, expected a field number, `=` and a value")?;
    let number = number.parse().ok().filter(|number| (2..=128).contains(number));
    let number = number.ok_or("found no field number before `=`, expected 2 to 128")?;
    Ok((number, value.to_owned()))
}

impl Peer {
    fn spec(&self) -> Result<Spec, Failure> {
        Spec::load(&self.spec).map_err(|error| Failure::usage(format!("--spec: {error}")))
    }

    fn frames(&self) -> frame::Frames {
        let prefix = match self.framing {
            Framing::Be16 => LengthPrefix::Be16,
            Framing::Be32 => LengthPrefix::Be32,
            Framing::Ascii4 => LengthPrefix::Ascii4,
            Framing::Bcd2 => LengthPrefix::Bcd2,
        };
        frame::Frames { prefix, is_inclusive: self.inclusive }
    }

    fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }

    /// The fields that were set, as the spec holds them.
    fn set_fields(&self, spec: &Spec) -> Result<Map, Failure> {
        let mut fields = Map::default();
        for (number, text) in &self.fields {
            let Some(field) = spec.field(*number) else {
                return Err(Failure::usage(format!(
                    "--set {number}: found a field that `{}` does not have, expected one that it has; remedy: correct the number, or choose another `--spec`",
                    self.spec
                )));
            };
            let value = match field.kind() {
                Kind::B => Value::from(bytes(text).ok_or_else(|| {
                    Failure::usage(format!(
                        "--set {number}: found no bytes in hex, expected two hex digits for each byte; remedy: correct it"
                    ))
                })?),
                _ => Value::from(text.as_str()),
            };
            if fields.insert_key(number.to_string(), value).is_some() {
                return Err(Failure::usage(format!(
                    "--set {number}: found it twice, expected it once; remedy: remove one"
                )));
            }
        }
        Ok(fields)
    }

    async fn connect(&self) -> Result<TcpStream, Failure> {
        connect(&self.target, self.timeout()).await
    }
}

async fn connect(target: &str, timeout: Duration) -> Result<TcpStream, Failure> {
    let failed = |reason: String| Failure {
        code: exit::UNAVAILABLE,
        text: format!(
            "--target {target}: found no listener ({reason}), expected one; remedy: start it, or correct host and port"
        ),
    };
    let connected = tokio::time::timeout(timeout, TcpStream::connect(target)).await;
    let stream = connected
        .map_err(|_| failed(format!("not connected after {} ms", timeout.as_millis())))?
        .map_err(|error| failed(error.to_string()))?;
    stream.set_nodelay(true).map_err(|error| failed(error.to_string()))?;
    Ok(stream)
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    if !hex.len().is_multiple_of(2) || !hex.is_ascii() {
        return None;
    }
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).ok()).collect()
}

/// A count with its thousands apart.
fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (idx, digit) in digits.chars().enumerate() {
        if idx > 0 && (digits.len() - idx).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
