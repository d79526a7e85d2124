//! The message of the rows about payments: a 0200 of twenty fields in ASCII, and the 0210 that approves it.
//! Built by hand and not by our codec, so that both sides of a comparison start from the same bytes.

/// Number, digits of the length in front, content.
const FIELDS: [(u8, usize, &str); 20] = [
    (2, 2, "5413330089010012"),
    (3, 0, "003000"),
    (4, 0, "000000004250"),
    (7, 0, "0614101530"),
    (11, 0, "000001"),
    (12, 0, "121530"),
    (13, 0, "0614"),
    (14, 0, "3112"),
    (18, 0, "5541"),
    (22, 0, "071"),
    (25, 0, "00"),
    (32, 2, "402971"),
    (35, 2, "5413330089010012=31122210000001234"),
    (37, 0, "616512000001"),
    (41, 0, "PUMP0007"),
    (42, 0, "DEPOT-NORTH-001"),
    (43, 0, "NORTHERN DEPOT 7         TURKU        FI"),
    (48, 3, "FUEL 95 LITRES 21.17"),
    (49, 0, "978"),
    (60, 3, "SHIFT0000017"),
];
/// Response code: absent in a request, `00` in an approval.
const CODE: u8 = 39;
const STAN: u8 = 11;
const STAN_DIGITS: usize = 6;
const RRN: u8 = 37;
const RRN_DIGITS: usize = 12;
/// Type and first bitmap in hex.
const HEAD_BYTES: usize = 20;

/// The request as bytes, and where in it stands what differs from one to the next.
pub(crate) struct Purchase {
    bytes: Vec<u8>,
    stan_at: usize,
    rrn_at: usize,
    code_at: usize,
}

impl Purchase {
    pub(crate) fn new() -> Self {
        let mut purchase =
            Self { bytes: format!("0200{:016X}", bitmap()).into_bytes(), stan_at: 0, rrn_at: 0, code_at: 0 };
        for (number, prefix, content) in FIELDS {
            if number > CODE && purchase.code_at == 0 {
                purchase.code_at = purchase.bytes.len();
            }
            if prefix > 0 {
                purchase.bytes.extend(format!("{:0prefix$}", content.len()).bytes());
            }
            match number {
                STAN => purchase.stan_at = purchase.bytes.len(),
                RRN => purchase.rrn_at = purchase.bytes.len(),
                _ => {}
            }
            purchase.bytes.extend(content.bytes());
        }
        purchase
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The request of this number: fields 11 and 37 are its own.
    pub(crate) fn numbered(&self, number: u64) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        put(&mut bytes[self.stan_at..][..STAN_DIGITS], number);
        put(&mut bytes[self.rrn_at..][..RRN_DIGITS], number);
        bytes
    }

    /// What a host answers: the same fields, a response code, approved.
    pub(crate) fn approval(&self, request: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(request.len() + 2);
        bytes.extend(b"0210");
        bytes.extend(format!("{:016X}", bitmap() | bit(CODE)).bytes());
        bytes.extend(&request[HEAD_BYTES..self.code_at]);
        bytes.extend(b"00");
        bytes.extend(&request[self.code_at..]);
        bytes
    }

    pub(crate) fn is_approval(&self, answer: &[u8]) -> bool {
        answer.starts_with(b"0210") && answer.get(self.code_at..self.code_at + 2) == Some(b"00")
    }
}

fn bitmap() -> u64 {
    FIELDS.iter().fold(0, |bits, (number, ..)| bits | bit(*number))
}

fn bit(number: u8) -> u64 {
    1 << (64 - u32::from(number))
}

/// Decimal digits, with zeros in front.
fn put(digits: &mut [u8], mut number: u64) {
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}
