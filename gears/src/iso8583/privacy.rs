//! What no output may show: taking it out of a message that is kept, and the view that listings print.
//! After PCI DSS 3.3.1 (never kept: tracks, PIN, chip data) and 3.4.1 (card number: first six and last four at most).

use fluxrig_actors::protocol::{FluxMsg, Map, SmolStr, Value};

use super::spec::Spec;
use super::{CONTENT, FIELDS, MTI, SENSITIVE};

/// Fields that are sensitive whatever a spec says: card number, expiry, tracks, PIN, its security data, chip, accounts.
pub const ALWAYS_SENSITIVE: [u8; 11] = [2, 14, 34, 35, 36, 45, 52, 53, 55, 102, 103];

/// The card number, which is shortened and not taken out.
const PAN: &str = "2";

/// One field of the view that listings print.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Masked {
    /// Its number, as the key in `data.iso8583`.
    pub field: SmolStr,
    /// What the spec calls it; empty when the spec does not have it.
    pub name: SmolStr,
    /// What may be shown.
    pub text: String,
}

/// A card number as it may be shown: the first six and the last four digits, stars between them; one that is shown so
/// already stays. All of it is stars when fewer than three digits would be hidden, or it is not made of digits.
#[must_use]
pub fn masked_pan(pan: &str) -> String {
    let is_end = |(idx, _): &(usize, u8)| *idx < 6 || *idx + 4 >= pan.len();
    let (ends, middle): (Vec<_>, Vec<_>) = pan.bytes().enumerate().partition(is_end);
    let is_digits = ends.iter().all(|(_, c)| c.is_ascii_digit());
    let is_middle = middle.iter().all(|(_, c)| c.is_ascii_digit()) || middle.iter().all(|(_, c)| *c == b'*');
    if pan.len() < 13 || !is_digits || !is_middle {
        return "*".repeat(pan.chars().count());
    }
    format!("{}{}{}", &pan[..6], "*".repeat(pan.len() - 10), &pan[pan.len() - 4..])
}

/// Takes out of a message what must not be kept: sensitive fields, but for the ends of the card number, and `raw`.
///
/// A message is taken for ISO 8583 when it has a message type or fields, or `meta.content` is `iso8583`, which a
/// listener sets before anything was decoded. Fields that only the spec calls sensitive stand in
/// `meta["iso8583.sensitive"]`, where the decoding gear puts them.
pub fn redact(msg: &mut FluxMsg) {
    if is_iso8583(msg) {
        let marked: Vec<SmolStr> =
            msg.meta.get(SENSITIVE).map_or_else(Vec::new, |marked| marked.split(',').map(SmolStr::from).collect());
        msg.raw = None;
        match msg.data.get_key_mut(FIELDS) {
            Some(Value::Map(fields)) => redact_fields(fields, &marked),
            Some(_) => drop(msg.data.remove_key(FIELDS)),
            None => {}
        }
    }
}

/// The same as a rig's `Redactor`: a copy without sensitive data, or `None` where there is none.
#[must_use]
pub fn redacted(msg: &FluxMsg) -> Option<FluxMsg> {
    is_iso8583(msg).then(|| {
        let mut copy = msg.clone();
        redact(&mut copy);
        copy
    })
}

fn is_iso8583(msg: &FluxMsg) -> bool {
    msg.meta.get(MTI).is_some() || msg.meta.get(CONTENT) == Some(FIELDS) || msg.data.get_key(FIELDS).is_some()
}

fn redact_fields(fields: &mut Map, marked: &[SmolStr]) {
    if let Some(Value::Text(pan)) = fields.get_key(PAN) {
        let masked = masked_pan(pan);
        fields.insert_key(SmolStr::new_static(PAN), masked);
    } else {
        fields.remove_key(PAN);
    }
    for number in ALWAYS_SENSITIVE.iter().filter(|number| **number != 2) {
        fields.remove_key(&number.to_string());
    }
    for number in marked.iter().filter(|number| *number != PAN) {
        fields.remove_key(number);
    }
}

/// The fields of a message as listings print them: the ends of the card number, only the length of what is sensitive
/// or made of bytes, and of fields that the spec does not have.
#[must_use]
pub fn mask(msg: &FluxMsg, spec: &Spec) -> Vec<Masked> {
    let fields = msg.data.get_key(FIELDS).and_then(Value::as_map);
    fields.map_or_else(Vec::new, |fields| fields.iter().map(|(key, value)| masked(key, value, spec)).collect())
}

fn masked(key: &str, value: &Value, spec: &Spec) -> Masked {
    let field = key.parse().ok().and_then(|number| spec.field(number)).filter(|field| field.key == key);
    let is_shown = field.is_some_and(|field| !field.is_sensitive());
    let text = match value {
        Value::Text(pan) if key == PAN => masked_pan(pan),
        Value::Text(text) if is_shown => text.escape_debug().to_string(),
        // The extent, as every message prints it.
        other => other.to_string(),
    };
    Masked { field: key.into(), name: field.map(|field| field.name.clone()).unwrap_or_default(), text }
}
