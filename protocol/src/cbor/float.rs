//! Floats in the shortest of three widths that keeps the value, RFC 8949 §4.2.2 with one NaN.
//! Sixteen-bit floats are taken apart by hand: the standard library does not have them yet.

/// The one NaN.
pub(super) const NAN: u16 = 0x7e00;

/// The shortest exact form of a float.
pub(super) enum Shortest {
    F16(u16),
    F32(u32),
    F64(u64),
}

impl Shortest {
    pub(super) fn of(value: f64) -> Self {
        let narrow = value as f32;
        if value.is_nan() {
            Self::F16(NAN)
        } else if f64::from(narrow).to_bits() != value.to_bits() {
            Self::F64(value.to_bits())
        } else if let Some(half) = to_half(narrow) {
            Self::F16(half)
        } else {
            Self::F32(narrow.to_bits())
        }
    }

    /// Width of the payload, bytes.
    pub(super) fn width(&self) -> usize {
        match self {
            Self::F16(_) => 2,
            Self::F32(_) => 4,
            Self::F64(_) => 8,
        }
    }
}

/// The value of a sixteen-bit float; exact.
pub(super) fn from_half(half: u16) -> f64 {
    let sign = if half & 0x8000 == 0 { 1.0 } else { -1.0 };
    let exponent = i32::from(half >> 10 & 0x1f);
    let mantissa = f64::from(half & 0x3ff);
    match exponent {
        0 => sign * mantissa * 2f64.powi(-24),
        31 if mantissa == 0.0 => sign * f64::INFINITY,
        31 => f64::NAN,
        _ => sign * (1024.0 + mantissa) * 2f64.powi(exponent - 25),
    }
}

/// The sixteen-bit float of the same value, if there is one. Not for NaN.
fn to_half(value: f32) -> Option<u16> {
    let bits = value.to_bits();
    let sign = (bits >> 16 & 0x8000) as u16;
    let exponent = (bits >> 23 & 0xff) as i32 - 127;
    let mantissa = bits & 0x7f_ffff;
    match exponent {
        _ if bits << 1 == 0 => Some(sign),
        128 => Some(sign | 0x7c00),
        // Normal: the lowest 13 of 23 mantissa bits do not fit and must be zero.
        -14..=15 if mantissa & 0x1fff == 0 => Some(sign | ((exponent + 15) as u16) << 10 | (mantissa >> 13) as u16),
        // Subnormal: a multiple of 2^-24, with the leading one written out.
        -24..=-15 => {
            let full = mantissa | 0x80_0000;
            let cut = -1 - exponent;
            (full & ((1 << cut) - 1) == 0).then_some(sign | (full >> cut) as u16)
        }
        _ => None,
    }
}
