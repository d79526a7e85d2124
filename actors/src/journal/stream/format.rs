//! Bytes of one message: its header, the header of a segment where one begins, and a part of a group's sealed body.
//! Encodes and checks, touches no log.

use bytes::Bytes;

use super::super::seal::{NONCE_BYTES, RackKey, SegmentKey, TAG_BYTES, WrappedKey};
use super::super::storage::SegmentId;

/// Version this code writes, and the newest it reads.
pub(super) const FORMAT_VERSION: u32 = 1;
pub(super) const MAGIC: [u8; 4] = *b"FLXS";
/// Length of a message's header.
pub(super) const HEADER_BYTES: usize = 112;
/// Length of the header behind it in the first message of a segment.
pub(super) const SEGMENT_HEADER_BYTES: usize = 104;
/// Most messages of one group.
pub(super) const PARTS_MAX: usize = 4096;
/// Longest body of a group.
pub(super) const BODY_BYTES_MAX: usize = 256 << 20;

/// A segment begins with this message.
const BEGINS: u32 = 1;
/// The group has no body: it begins a term, or renews a lease.
const EMPTY: u32 = 2;

const NONCE_AT: usize = HEADER_BYTES + 40;

/// Truncated BLAKE3 over the headers and the tag of a group.
pub(super) type Hash = [u8; 16];

/// A point in the stream: everything up to it counts, nothing behind it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Link {
    /// The segment; 0 for none.
    pub(super) segment: SegmentId,
    /// Sequence of the last message of the last group that counts.
    pub(super) seq: u64,
    /// That group's epoch.
    pub(super) epoch: u64,
}

/// What every message of a group says, but for `part`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) begins: bool,
    pub(super) is_empty: bool,
    pub(super) rack: [u8; 16],
    pub(super) segment: SegmentId,
    pub(super) oldest: SegmentId,
    pub(super) epoch: u64,
    pub(super) term: u64,
    pub(super) flushed: u64,
    pub(super) before: Hash,
    pub(super) part: u32,
    pub(super) parts: u32,
    pub(super) body_bytes: u32,
    pub(super) lease_ms: u32,
    pub(super) writer: u64,
    /// Sequence of the group's first message.
    pub(super) first: u64,
}

/// What the first message of a segment says as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) link: Link,
    pub(super) key_id: [u8; 16],
    pub(super) key: WrappedKey,
}

/// Why a message is none of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NoPart {
    Newer(u32),
    Bad { found: String, expected: &'static str },
}

/// One message, taken apart.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) header: Header,
    pub(super) segment: Option<SegmentHeader>,
    /// Its share of the sealed body and tag.
    pub(super) sealed: Bytes,
    /// The headers as they stand, from the version on: what hash and seal cover.
    pub(super) raw_headers: Bytes,
}

/// Tells one message from any other, without keeping it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    writer: u64,
    crc: u32,
    bytes: usize,
}

impl Header {
    fn encode(&self, out: &mut [u8]) {
        out[0..4].copy_from_slice(&MAGIC);
        out[4..8].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        let flags = if self.begins { BEGINS } else { 0 } | if self.is_empty { EMPTY } else { 0 };
        out[12..16].copy_from_slice(&flags.to_le_bytes());
        out[16..32].copy_from_slice(&self.rack);
        out[32..36].copy_from_slice(&self.segment.to_le_bytes());
        out[36..40].copy_from_slice(&self.oldest.to_le_bytes());
        out[40..48].copy_from_slice(&self.epoch.to_le_bytes());
        out[48..56].copy_from_slice(&self.term.to_le_bytes());
        out[56..64].copy_from_slice(&self.flushed.to_le_bytes());
        out[64..80].copy_from_slice(&self.before);
        out[80..84].copy_from_slice(&self.part.to_le_bytes());
        out[84..88].copy_from_slice(&self.parts.to_le_bytes());
        out[88..92].copy_from_slice(&self.body_bytes.to_le_bytes());
        out[92..96].copy_from_slice(&self.lease_ms.to_le_bytes());
        out[96..104].copy_from_slice(&self.writer.to_le_bytes());
        out[104..112].copy_from_slice(&self.first.to_le_bytes());
    }

    fn decode(raw: &[u8]) -> Header {
        let flags = u32_at(raw, 12);
        Header {
            begins: flags & BEGINS != 0,
            is_empty: flags & EMPTY != 0,
            rack: array_at(raw, 16),
            segment: u32_at(raw, 32),
            oldest: u32_at(raw, 36),
            epoch: u64_at(raw, 40),
            term: u64_at(raw, 48),
            flushed: u64_at(raw, 56),
            before: array_at(raw, 64),
            part: u32_at(raw, 80),
            parts: u32_at(raw, 84),
            body_bytes: u32_at(raw, 88),
            lease_ms: u32_at(raw, 92),
            writer: u64_at(raw, 96),
            first: u64_at(raw, 104),
        }
    }

    /// Whether `other` is another message of the same group.
    pub(super) fn is_same_group(&self, other: &Header) -> bool {
        Header { part: 0, begins: false, ..*self } == Header { part: 0, begins: false, ..*other }
    }
}

impl SegmentHeader {
    fn encode(&self, out: &mut [u8]) {
        out[0..4].copy_from_slice(&self.link.segment.to_le_bytes());
        out[8..16].copy_from_slice(&self.link.seq.to_le_bytes());
        out[16..24].copy_from_slice(&self.link.epoch.to_le_bytes());
        out[24..40].copy_from_slice(&self.key_id);
        out[40..52].copy_from_slice(&self.key.nonce);
        out[52..84].copy_from_slice(&self.key.sealed);
        out[84..100].copy_from_slice(&self.key.tag);
    }

    fn decode(raw: &[u8]) -> SegmentHeader {
        SegmentHeader {
            link: Link { segment: u32_at(raw, 0), seq: u64_at(raw, 8), epoch: u64_at(raw, 16) },
            key_id: array_at(raw, 24),
            key: WrappedKey { nonce: array_at(raw, 40), sealed: array_at(raw, 52), tag: array_at(raw, 84) },
        }
    }
}

/// A group, made into messages.
pub(super) struct Sealed {
    pub(super) parts: Vec<Bytes>,
    pub(super) hash: Hash,
    pub(super) bytes: u64,
}

/// The key under which a group is sealed, and what begins with it.
pub(super) enum Under<'a> {
    /// The segment that is being written.
    Key(&'a SegmentKey),
    /// A new segment: its key and where it comes from.
    New(&'a SegmentKey, &'a SegmentHeader),
}

/// The bytes to which the wrapped key of a new segment is bound.
pub(super) fn key_context(header: &Header, link: Link, key_id: [u8; 16]) -> Vec<u8> {
    let mut raw = vec![0; HEADER_BYTES + SEGMENT_HEADER_BYTES];
    header.encode(&mut raw);
    let key = WrappedKey { nonce: [0; NONCE_BYTES], sealed: [0; 32], tag: [0; TAG_BYTES] };
    SegmentHeader { link, key_id, key }.encode(&mut raw[HEADER_BYTES..]);
    raw[12..NONCE_AT].to_vec()
}

/// Messages of a body of that length when each has at most `payload_bytes_max`; `None` when they are too many.
pub(super) fn parts_of(body_bytes: usize, begins: bool, payload_bytes_max: usize) -> Option<u32> {
    let room = payload_bytes_max.checked_sub(HEADER_BYTES).filter(|room| *room > SEGMENT_HEADER_BYTES + TAG_BYTES)?;
    let extra = if begins { SEGMENT_HEADER_BYTES } else { 0 };
    let parts = (body_bytes + TAG_BYTES + extra).div_ceil(room);
    u32::try_from(parts).ok().filter(|parts| *parts as usize <= PARTS_MAX)
}

/// Seals `body` and cuts it into the `header.parts` messages that [`parts_of`] counted.
pub(super) fn seal(header: &Header, under: &Under<'_>, body: &[u8], payload_bytes_max: usize) -> Sealed {
    let (key, segment) = match under {
        Under::Key(key) => (key, None),
        Under::New(key, segment) => (key, Some(segment)),
    };
    let lead = HEADER_BYTES + if segment.is_some() { SEGMENT_HEADER_BYTES } else { 0 };
    let room = payload_bytes_max - HEADER_BYTES;
    let first_room = payload_bytes_max - lead;
    let sealed_bytes = body.len() + TAG_BYTES;
    let mut first = vec![0; lead + sealed_bytes.min(first_room)];
    header.encode(&mut first);
    if let Some(segment) = segment {
        segment.encode(&mut first[HEADER_BYTES..]);
    }
    let (headers, rest) = first.split_at_mut(lead);
    let context = &headers[12..];
    let (tag, tail) = if sealed_bytes <= first_room {
        // The usual group is sealed where it is sent from.
        let tag = key.seal(header.first, context, body, &mut rest[..body.len()]);
        rest[body.len()..].copy_from_slice(&tag);
        (tag, Vec::new())
    } else {
        let mut whole = vec![0; sealed_bytes];
        let tag = key.seal(header.first, context, body, &mut whole[..body.len()]);
        whole[body.len()..].copy_from_slice(&tag);
        let tail = whole.split_off(first_room);
        rest.copy_from_slice(&whole);
        (tag, tail)
    };
    let hash = hash(&first[12..lead], &tag);
    let mut bytes = first.len() as u64;
    let mut parts = vec![finished(first)];
    for (idx, chunk) in tail.chunks(room).enumerate() {
        let mut payload = vec![0; HEADER_BYTES + chunk.len()];
        Header { part: idx as u32 + 1, begins: false, ..*header }.encode(&mut payload);
        payload[HEADER_BYTES..].copy_from_slice(chunk);
        bytes += payload.len() as u64;
        parts.push(finished(payload));
    }
    debug_assert_eq!(parts.len(), header.parts as usize);
    Sealed { parts, hash, bytes }
}

fn finished(mut payload: Vec<u8>) -> Bytes {
    let crc = crc32c::crc32c(&payload[12..]);
    payload[8..12].copy_from_slice(&crc.to_le_bytes());
    Bytes::from(payload)
}

/// Takes a message apart and checks it whole.
pub(super) fn part(payload: &Bytes) -> Result<Part, NoPart> {
    let bad = |found, expected| Err(NoPart::Bad { found, expected });
    if payload.len() < 8 || payload[0..4] != MAGIC {
        // Whoever wrote it, its bytes are not ours to show.
        return bad(format!("a message of {} bytes without our mark", payload.len()), "a message of a journal");
    }
    let version = u32_at(payload, 4);
    if version > FORMAT_VERSION {
        return Err(NoPart::Newer(version));
    }
    if version != FORMAT_VERSION || payload.len() < HEADER_BYTES {
        return bad(format!("a message of {} bytes, format version {version}", payload.len()), "format version 1");
    }
    let (stored, computed) = (u32_at(payload, 8), crc32c::crc32c(&payload[12..]));
    if stored != computed {
        let found = format!("a message with checksum {computed:08x} that carries {stored:08x}");
        return bad(found, "the checksum it carries");
    }
    let header = Header::decode(payload);
    let lead = HEADER_BYTES + if header.begins { SEGMENT_HEADER_BYTES } else { 0 };
    let is_sound = payload.len() >= lead
        && header.part < header.parts
        && header.parts as usize <= PARTS_MAX
        && header.body_bytes as usize <= BODY_BYTES_MAX
        && header.begins <= (header.part == 0);
    if !is_sound {
        return bad("numbers that do not fit each other".into(), "a message of a group");
    }
    let segment = header.begins.then(|| SegmentHeader::decode(&payload[HEADER_BYTES..]));
    Ok(Part { header, segment, sealed: payload.slice(lead..), raw_headers: payload.slice(12..lead) })
}

impl Part {
    /// The key of the segment that begins with this message.
    pub(super) fn new_key(&self, rack_key: &RackKey) -> Option<SegmentKey> {
        let context = &self.raw_headers[..NONCE_AT - 12];
        self.segment.and_then(|segment| rack_key.unwrap_segment_key(&segment.key, context).ok())
    }
}

/// Opens a whole group from its messages, in order; `None` when this key did not seal it for this place.
pub(super) fn open(parts: &[Part], key: &SegmentKey) -> Option<(Vec<u8>, Hash)> {
    let first = parts.first()?;
    let sealed_bytes: usize = parts.iter().map(|part| part.sealed.len()).sum();
    let body_bytes = first.header.body_bytes as usize;
    if sealed_bytes != body_bytes + TAG_BYTES || parts.len() != first.header.parts as usize {
        return None;
    }
    let mut body = Vec::with_capacity(sealed_bytes);
    for part in parts {
        body.extend_from_slice(&part.sealed);
    }
    let tag: [u8; TAG_BYTES] = array_at(&body, body_bytes);
    body.truncate(body_bytes);
    key.open(first.header.first, &first.raw_headers, &mut body, &tag).ok()?;
    Some((body, hash(&first.raw_headers, &tag)))
}

fn hash(headers: &[u8], tag: &[u8]) -> Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(headers);
    hasher.update(tag);
    array_at(hasher.finalize().as_bytes(), 0)
}

impl Identity {
    /// Of a message of ours, or of anything else.
    pub(super) fn of(payload: &[u8]) -> Identity {
        match payload.len() {
            HEADER_BYTES.. => Identity { writer: u64_at(payload, 96), crc: u32_at(payload, 8), bytes: payload.len() },
            bytes => Identity { writer: 0, crc: crc32c::crc32c(payload), bytes },
        }
    }
}

pub(super) fn u32_at(raw: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array_at(raw, at))
}

pub(super) fn u64_at(raw: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array_at(raw, at))
}

fn array_at<const N: usize>(raw: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&raw[at..at + N]);
    out
}
