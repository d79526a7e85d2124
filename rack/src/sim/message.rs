//! Messages of the world outside: requests that a specification allows, each with a number of its own, and what can be
//! read from whatever comes back.

use bytes::Bytes;
use fluxrig_actors::protocol::{Map, Value};
use fluxrig_gears::iso8583::{Kind, Spec, response_mti};

use super::draw;
use super::stage::Speech;
use super::traffic::Template;

/// Fields of an answer that must be those of its request, where both have them: what mixes up two shows here.
const ECHOED: [u8; 5] = [2, 4, 7, 37, 41];
/// Trace number, which names a request in a whole run.
const TRACE: u8 = 11;
/// How it went.
const CODE: u8 = 39;
/// What stands around the number of a request in a line.
const MARK: char = '#';

/// A request, ready to be sent and to be known again.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) body: Vec<u8>,
    fields: Map,
}

/// What was read from bytes.
pub(super) enum Told {
    /// An answer to a request.
    Answer { request: usize, code: String },
    /// It belongs to no request or is no message.
    Wrong(String),
}

/// Makes the request of a number.
pub(super) fn request(
    speech: &Speech,
    seed: u64,
    number: usize,
    terminal: usize,
    template: Option<&Template>,
) -> Request {
    match speech {
        Speech::Lines => {
            let filler = "x".repeat(draw(seed, "filler", number as u64) as usize % 200);
            let body = format!("terminal {terminal} {MARK}{number}{MARK} {filler}").into_bytes();
            Request { body, fields: Map::default() }
        }
        Speech::Iso8583(spec) => iso8583(spec, seed, number, terminal, template),
    }
}

fn iso8583(spec: &Spec, seed: u64, number: usize, terminal: usize, template: Option<&Template>) -> Request {
    let drawn = draw(seed, "message", number as u64);
    let mut mti = ["0100", "0100", "0100", "0100", "0200", "0200", "0200", "0200", "0200", "0800"][drawn as usize % 10];
    let mut fields = Map::default();
    let mut set = |number: u8, text: String| {
        if spec.field(number).is_some_and(|field| text.len() <= field.units_max())
            && fields.get_key(&number.to_string()).is_none()
        {
            fields.insert_key(number.to_string(), text);
        }
    };
    if let Some(template) = template {
        mti = &template.mti;
        for (field, text) in &template.set {
            set(*field, text.clone());
        }
    }
    let seconds = draw(seed, "clock", number as u64) % 86_400;
    let clock = format!("{:02}{:02}{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    set(7, format!("0615{clock}"));
    set(TRACE, format!("{:06}", number + 1));
    if mti.as_bytes().get(1) == Some(&b'8') {
        set(70, "301".to_owned());
    } else {
        let first = ["4", "4", "4", "4", "5", "5", "6", "9"][(drawn >> 8) as usize % 8];
        set(2, format!("{first}00000{:010}", drawn >> 16 & 0xffff_ffff));
        set(3, "000000".to_owned());
        set(4, format!("{:012}", 1 + (drawn >> 20) % 10_000_000));
        set(12, clock);
        set(13, "0615".to_owned());
        set(22, "051".to_owned());
        set(25, "00".to_owned());
        set(37, format!("{:012}", number + 1));
        set(41, format!("SIM{terminal:05}"));
        set(42, "FLUXRIG-SIM-001".to_owned());
        set(49, "978".to_owned());
    }
    // What a template says was checked when it was read, and the rest is of digits and letters that fit.
    let body = spec.encode(mti, &fields).unwrap_or_default();
    Request { body, fields }
}

/// What no specification allows.
pub(super) fn garbage(seed: u64, number: usize) -> Vec<u8> {
    let drawn = draw(seed, "garbage", number as u64);
    let len = drawn as usize % 60;
    let byte = |at| (draw(drawn, "byte", at as u64) % 256) as u8;
    // Where any bytes are a message, these name no request.
    (0..len).map(byte).filter(|byte| *byte != MARK as u8).collect()
}

/// What an answer says, by the requests that were made.
pub(super) fn told(
    speech: &Speech,
    body: &[u8],
    requests: &dyn Fn(usize) -> Option<Request>,
    echoed: Option<&[u8]>,
) -> Told {
    let Some((number, fields)) = number(speech, body) else {
        return Told::Wrong(format!("{} bytes that name no request", body.len()));
    };
    let Some(request) = requests(number) else {
        return Told::Wrong(format!("it names request {number}, which was never made"));
    };
    let Some(fields) = fields else { return Told::Answer { request: number, code: String::new() } };
    for field in echoed.unwrap_or(&ECHOED) {
        let key = field.to_string();
        if let (Some(asked), Some(found)) = (request.fields.get_key(&key), fields.get_key(&key))
            && asked != found
        {
            return Told::Wrong(format!("the answer to request {number} holds another field {field}"));
        }
    }
    Told::Answer { request: number, code: text(&fields, CODE).unwrap_or_default() }
}

/// Which request some bytes are of, with their fields where there are any.
pub(super) fn number(speech: &Speech, body: &[u8]) -> Option<(usize, Option<Map>)> {
    match speech {
        Speech::Lines => {
            let text = String::from_utf8_lossy(body);
            let number = text.split(MARK).nth(1)?.parse().ok()?;
            Some((number, None))
        }
        Speech::Iso8583(spec) => {
            let fields = spec.decode(body).ok()?.fields;
            Some((of_fields(&fields)?, Some(fields)))
        }
    }
}

/// Which request the fields of a message are of.
pub(super) fn of_fields(fields: &Map) -> Option<usize> {
    text(fields, TRACE)?.parse::<usize>().ok()?.checked_sub(1)
}

fn text(fields: &Map, field: u8) -> Option<String> {
    match fields.get_key(&field.to_string())? {
        Value::Text(text) => Some(text.to_string()),
        _ => None,
    }
}

/// What a host answers: a tenth is declined. Nothing where it is no request.
pub(super) fn reply(speech: &Speech, body: &Bytes, seed: u64) -> Option<Vec<u8>> {
    let Speech::Iso8583(spec) = speech else { return Some(body.to_vec()) };
    let request = spec.decode(body).ok()?;
    let mti = response_mti(&request.mti).ok()?;
    let mut fields = Map::default();
    for field in [2, 3, 4, 7, 11, 12, 13, 32, 37, 41, 42, 49, 70] {
        let key = field.to_string();
        if let Some(value) = request.fields.get_key(&key) {
            fields.insert_key(key, value.clone());
        }
    }
    let is_declined = draw(seed, "decline", of_fields(&request.fields)? as u64).is_multiple_of(10);
    if spec.field(CODE).is_some_and(|field| field.kind() != Kind::B) {
        fields.insert_key(CODE.to_string(), if is_declined { "05" } else { "00" });
    }
    spec.encode(&mti, &fields).ok()
}
