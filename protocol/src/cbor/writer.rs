//! Writes heads and values in their shortest form. Order and depth are the business of the types written.
//! Plain functions that append to a vector; nothing here can fail.

use smol_str::SmolStr;

use super::float::Shortest;
use crate::{Map, Meta, Value, value::Int};

pub(crate) const UNSIGNED: u8 = 0;
pub(crate) const NEGATIVE: u8 = 1;
pub(crate) const BYTES: u8 = 2;
pub(crate) const TEXT: u8 = 3;
pub(crate) const ARRAY: u8 = 4;
pub(crate) const MAP: u8 = 5;

/// A head: major type in the top three bits, then the number in as few bytes as it takes.
#[inline]
pub(crate) fn head(out: &mut Vec<u8>, major: u8, number: u64) {
    let major = major << 5;
    if number < 24 {
        out.push(major | number as u8);
    } else if number <= 0xff {
        out.extend_from_slice(&[major | 24, number as u8]);
    } else {
        wide_head(out, major, number);
    }
}

fn wide_head(out: &mut Vec<u8>, major: u8, number: u64) {
    let bytes = number.to_be_bytes();
    let (info, width) = match number {
        0..=0xffff => (25, 2),
        0x1_0000..=0xffff_ffff => (26, 4),
        _ => (27, 8),
    };
    out.push(major | info);
    out.extend_from_slice(&bytes[8 - width..]);
}

/// Size of a head with this number, bytes.
#[inline]
pub(crate) fn head_len(number: u64) -> usize {
    // Asked for each key and each value of a message; nearly all are as short as this.
    if number <= 23 { 1 } else { long_head_len(number) }
}

fn long_head_len(number: u64) -> usize {
    match number {
        0..=23 => 1,
        24..=0xff => 2,
        0x100..=0xffff => 3,
        0x1_0000..=0xffff_ffff => 5,
        _ => 9,
    }
}

#[inline]
pub(crate) fn int(out: &mut Vec<u8>, int: Int) {
    let (negative, argument) = int.to_cbor();
    head(out, if negative { NEGATIVE } else { UNSIGNED }, argument);
}

#[inline]
pub(crate) fn int_len(int: Int) -> usize {
    head_len(int.to_cbor().1)
}

#[inline]
fn text(out: &mut Vec<u8>, text: &str) {
    head(out, TEXT, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

pub(crate) fn meta(out: &mut Vec<u8>, meta: &Meta) {
    let entries: &[(SmolStr, SmolStr)] = meta.entries();
    head(out, MAP, entries.len() as u64);
    for (key, value) in entries {
        text(out, key);
        text(out, value);
    }
}

pub(crate) fn map(out: &mut Vec<u8>, map: &Map) {
    let entries = map.entries();
    head(out, MAP, entries.len() as u64);
    for (key, entry) in entries {
        text(out, key);
        value(out, entry);
    }
}

pub(crate) fn value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Text(t) => text(out, t),
        Value::Int(n) => int(out, *n),
        Value::Map(inner) => map(out, inner),
        Value::Bytes(bytes) => {
            head(out, BYTES, bytes.len() as u64);
            out.extend_from_slice(bytes);
        }
        Value::Array(elements) => {
            head(out, ARRAY, elements.len() as u64);
            for element in elements.iter() {
                self::value(out, element);
            }
        }
        Value::Bool(truth) => out.push(if *truth { 0xf5 } else { 0xf4 }),
        Value::Null => out.push(0xf6),
        Value::Float(float) => self::float(out, *float),
    }
}

fn float(out: &mut Vec<u8>, value: f64) {
    match Shortest::of(value) {
        Shortest::F16(bits) => {
            out.push(0xf9);
            out.extend_from_slice(&bits.to_be_bytes());
        }
        Shortest::F32(bits) => {
            out.push(0xfa);
            out.extend_from_slice(&bits.to_be_bytes());
        }
        Shortest::F64(bits) => {
            out.push(0xfb);
            out.extend_from_slice(&bits.to_be_bytes());
        }
    }
}

impl Value {
    /// Appends the value's one encoding, for state and frames that hold values outside a message.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        value(out, self);
    }
}
