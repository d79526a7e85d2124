//! Messages put together byte by byte, right or wrong on purpose, without the encoder under test.
//! Heads are written in their shortest form; a case that needs another form writes it out.

use fluxrig_protocol::{EntityId, EntityKind, FluxId, FluxMsg, Trace};

/// A message of fixed identity, to be filled.
pub(crate) fn message() -> FluxMsg {
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse::<Trace>().unwrap();
    let id = FluxId::v7(1_700_000_000_000, [0x11; 10]);
    FluxMsg::new(id, trace, gear("pumps"), 1_700_000_000_123_456_789)
}

pub(crate) fn gear(name: &str) -> EntityId {
    EntityId::from_names(EntityKind::Gear, 7, "depot-fuel-cards", name)
}

/// Head of a major type.
pub(crate) fn head(major: u8, number: u64) -> Vec<u8> {
    let width = [0, 1, 2, 4, 8][[24, 1 << 8, 1 << 16, 1 << 32].iter().filter(|&&limit| number >= limit).count()];
    if width == 0 {
        return vec![major << 5 | number as u8];
    }
    let info = 24 + [1, 2, 4, 8].iter().position(|&w| w == width).unwrap() as u8;
    [&[major << 5 | info], &number.to_be_bytes()[8 - width..]].concat()
}

pub(crate) fn bytes(len: usize) -> Vec<u8> {
    [head(2, len as u64), vec![0xab; len]].concat()
}

pub(crate) fn text(text: &str) -> Vec<u8> {
    [head(3, text.len() as u64), text.as_bytes().to_vec()].concat()
}

/// The required fields of an otherwise empty message.
pub(crate) fn fields() -> Vec<(Vec<u8>, Vec<u8>)> {
    [
        (0, bytes(16)),
        (2, bytes(25)),
        (3, head(0, 4 << 56)),
        (4, head(0, 1_700_000_000_000_000_000)),
        (5, head(5, 0)),
        (6, head(5, 0)),
        (8, head(4, 0)),
        (9, head(0, 0)),
    ]
    .map(|(key, value)| (vec![key], value))
    .to_vec()
}

/// A message of these fields, in this order.
pub(crate) fn whole(fields: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut out = head(5, fields.len() as u64);
    for (key, value) in fields {
        out.extend_from_slice(key);
        out.extend_from_slice(value);
    }
    out
}

/// The required fields with one of them replaced, or one more put where its key sorts.
pub(crate) fn with(key: u8, value: impl Into<Vec<u8>>) -> Vec<u8> {
    let mut fields = fields();
    fields.retain(|(found, _)| found != &[key]);
    fields.push((vec![key], value.into()));
    fields.sort();
    whole(&fields)
}

/// The required fields but one.
pub(crate) fn without(key: u8) -> Vec<u8> {
    let mut fields = fields();
    fields.retain(|(found, _)| found != &[key]);
    whole(&fields)
}

/// The required fields with `data` = `{"a": value}`.
pub(crate) fn with_value(value: impl AsRef<[u8]>) -> Vec<u8> {
    with(6, [&head(5, 1), &text("a"), value.as_ref()].concat())
}
