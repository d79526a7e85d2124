//! Bytes of a segment: its header and the groups behind it. Encodes and checks, touches no file.

use super::super::seal::{NONCE_BYTES, SegmentKey, TAG_BYTES, WrappedKey};
use super::super::storage::SegmentId;

/// Version this code writes, and the newest it reads.
pub const FORMAT_VERSION: u32 = 1;
/// Length of a segment's header, hence the offset of its first group.
pub(super) const HEADER_BYTES: u64 = 4096;
/// Length of a group's header.
pub(super) const GROUP_HEADER_BYTES: usize = 64;
/// Groups begin at multiples of this: a sector that was flushed is never written again, and whoever looks for groups
/// behind damage need only look here.
pub(super) const ALIGN_BYTES: u64 = 512;
/// Longest body of a group. The unit tests fill groups, which is not to take seconds.
pub(super) const BODY_BYTES_MAX: usize = if cfg!(test) { 4 << 20 } else { 256 << 20 };

pub(super) const SEGMENT_MAGIC: [u8; 8] = *b"FLUXJRNL";
pub(super) const PREPARED_MAGIC: [u8; 8] = *b"FLUXNEXT";
pub(super) const GROUP_MAGIC: [u8; 4] = *b"FLXG";

/// Truncated BLAKE3 over header and tag of a group.
pub(super) type Hash = [u8; 16];

/// A point in a segment: everything before it counts, nothing behind it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Link {
    /// The segment; 0 for none.
    pub segment: SegmentId,
    /// The end of the last group that counts.
    pub offset: u64,
    /// That group's epoch.
    pub epoch: u64,
}

/// The header of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) rack: [u8; 16],
    pub(super) id: SegmentId,
    pub(super) link: Link,
    pub(super) oldest: SegmentId,
    /// Length of the file when it was begun: zeroed, durable, and never less afterwards.
    pub(super) file_bytes: u64,
    pub(super) key_id: [u8; 16],
    pub(super) key: WrappedKey,
}

/// What stands in place of the header until a segment is begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PreparedHeader {
    pub(super) rack: [u8; 16],
    pub(super) id: SegmentId,
    /// This epoch was durable when the file was prepared.
    pub(super) epoch: u64,
}

/// Why a header is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NoHeader {
    /// Nothing but zeros, or nothing at all.
    Blank,
    /// The file was prepared and never begun.
    Prepared(PreparedHeader),
    Newer(u32),
    /// A part of a header: the file was cut.
    Short(u64),
    Bad {
        offset: u64,
        found: String,
        expected: &'static str,
    },
}

const WRAPPED_AT: usize = 96;
const USED_BYTES: usize = 160;

impl SegmentHeader {
    /// The bytes to which the wrapped key is bound: everything that identifies the segment.
    pub(super) fn context(&self) -> [u8; WRAPPED_AT - 16] {
        let mut out = [0; WRAPPED_AT - 16];
        out[0..16].copy_from_slice(&self.rack);
        out[16..20].copy_from_slice(&self.id.to_le_bytes());
        out[20..24].copy_from_slice(&self.link.segment.to_le_bytes());
        out[24..32].copy_from_slice(&self.link.offset.to_le_bytes());
        out[32..40].copy_from_slice(&self.link.epoch.to_le_bytes());
        out[40..44].copy_from_slice(&self.oldest.to_le_bytes());
        out[48..56].copy_from_slice(&self.file_bytes.to_le_bytes());
        out[64..80].copy_from_slice(&self.key_id);
        out
    }

    pub(super) fn encode(&self, out: &mut [u8]) {
        debug_assert_eq!(out.len() as u64, HEADER_BYTES);
        out.fill(0);
        out[0..8].copy_from_slice(&SEGMENT_MAGIC);
        out[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        out[16..WRAPPED_AT].copy_from_slice(&self.context());
        out[96..108].copy_from_slice(&self.key.nonce);
        out[112..144].copy_from_slice(&self.key.sealed);
        out[144..USED_BYTES].copy_from_slice(&self.key.tag);
        let crc = crc32c::crc32c(&out[16..]);
        out[12..16].copy_from_slice(&crc.to_le_bytes());
    }

    pub(super) fn decode(raw: &[u8]) -> Result<SegmentHeader, NoHeader> {
        let raw = &raw[..raw.len().min(HEADER_BYTES as usize)];
        if raw.iter().all(|byte| *byte == 0) {
            return Err(NoHeader::Blank);
        }
        let bad = |offset, found, expected| Err(NoHeader::Bad { offset, found, expected });
        // A header is only ever written into a file that is longer, durably: this is no crash.
        if (raw.len() as u64) < HEADER_BYTES {
            return Err(NoHeader::Short(raw.len() as u64));
        }
        let is_prepared = raw[0..8] == PREPARED_MAGIC;
        if raw[0..8] != SEGMENT_MAGIC && !is_prepared {
            return bad(0, format!("`{}`", raw[0..8].escape_ascii()), "`FLUXJRNL`");
        }
        // Before anything else is looked at: only magic and version keep their place in every format.
        let version = u32_at(raw, 8);
        if version > FORMAT_VERSION {
            return Err(NoHeader::Newer(version));
        }
        if version != FORMAT_VERSION {
            return bad(8, format!("format version {version}"), "format version 1");
        }
        let stored = u32_at(raw, 12);
        let computed = if is_prepared { PreparedHeader::checksum(raw) } else { crc32c::crc32c(&raw[16..]) };
        if stored != computed {
            return bad(12, format!("a header with checksum {computed:08x}"), "the checksum it carries");
        }
        let (rack, id) = (array_at(raw, 16), u32_at(raw, 32));
        if is_prepared {
            return Err(NoHeader::Prepared(PreparedHeader { rack, id, epoch: u64_at(raw, 40) }));
        }
        Ok(SegmentHeader {
            rack,
            id,
            link: Link { segment: u32_at(raw, 36), offset: u64_at(raw, 40), epoch: u64_at(raw, 48) },
            oldest: u32_at(raw, 56),
            file_bytes: u64_at(raw, 64),
            key_id: array_at(raw, 80),
            key: WrappedKey { nonce: array_at(raw, 96), sealed: array_at(raw, 112), tag: array_at(raw, 144) },
        })
    }
}

impl PreparedHeader {
    // Over the magic too: a segment's header that was torn behind its magic must not make this one its own.
    fn checksum(raw: &[u8]) -> u32 {
        crc32c::crc32c_append(crc32c::crc32c(&raw[0..8]), &raw[16..])
    }

    /// All of it stands within the first sector, as the header that takes its place does.
    pub(super) fn encode(&self, out: &mut [u8]) {
        debug_assert_eq!(out.len() as u64, HEADER_BYTES);
        out.fill(0);
        out[0..8].copy_from_slice(&PREPARED_MAGIC);
        out[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        out[16..32].copy_from_slice(&self.rack);
        out[32..36].copy_from_slice(&self.id.to_le_bytes());
        out[40..48].copy_from_slice(&self.epoch.to_le_bytes());
        let crc = Self::checksum(out);
        out[12..16].copy_from_slice(&crc.to_le_bytes());
    }
}

/// The header of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GroupHeader {
    pub(super) body_bytes: u32,
    pub(super) segment: SegmentId,
    pub(super) epoch: u64,
    pub(super) term: u64,
    pub(super) flushed: u64,
    pub(super) oldest: SegmentId,
    pub(super) before: Hash,
}

/// Bytes a group takes in its file.
pub(super) fn group_bytes(body_bytes: usize) -> u64 {
    ((GROUP_HEADER_BYTES + body_bytes + TAG_BYTES) as u64).next_multiple_of(ALIGN_BYTES)
}

impl GroupHeader {
    /// Seals `body` behind this header into `out`, which has [`group_bytes`] bytes, and returns the group's hash.
    pub(super) fn seal(&self, key: &SegmentKey, offset: u64, body: &[u8], out: &mut [u8]) -> Hash {
        let end = GROUP_HEADER_BYTES + body.len();
        out[0..4].copy_from_slice(&GROUP_MAGIC);
        out[8..12].copy_from_slice(&self.body_bytes.to_le_bytes());
        out[12..16].copy_from_slice(&self.segment.to_le_bytes());
        out[16..24].copy_from_slice(&self.epoch.to_le_bytes());
        out[24..32].copy_from_slice(&self.term.to_le_bytes());
        out[32..40].copy_from_slice(&self.flushed.to_le_bytes());
        out[40..44].copy_from_slice(&self.oldest.to_le_bytes());
        out[44..48].fill(0);
        out[48..64].copy_from_slice(&self.before);
        let (header, rest) = out.split_at_mut(GROUP_HEADER_BYTES);
        let tag = key.seal(offset, &header[8..], body, &mut rest[..body.len()]);
        out[end..end + TAG_BYTES].copy_from_slice(&tag);
        out[end + TAG_BYTES..].fill(0);
        let crc = crc32c::crc32c(&out[8..end + TAG_BYTES]);
        out[4..8].copy_from_slice(&crc.to_le_bytes());
        hash(out, end)
    }

    fn decode(raw: &[u8]) -> GroupHeader {
        GroupHeader {
            body_bytes: u32_at(raw, 8),
            segment: u32_at(raw, 12),
            epoch: u64_at(raw, 16),
            term: u64_at(raw, 24),
            flushed: u64_at(raw, 32),
            oldest: u32_at(raw, 40),
            before: array_at(raw, 48),
        }
    }
}

fn hash(group: &[u8], end: usize) -> Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&group[..GROUP_HEADER_BYTES]);
    hasher.update(&group[end..end + TAG_BYTES]);
    array_at(hasher.finalize().as_bytes(), 0)
}

/// Why there is no whole group at an offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NoGroup {
    /// The file ends here, or a header of zeros stands here.
    End,
    Torn(String),
    /// Checksum whole, but not sealed by this segment's key for this place.
    Forged,
    /// One of the older segment whose file this was, out of use together with its key.
    Older(SegmentId),
}

/// The length of the group whose header stands at the front of `raw`, header, body and tag, if that can be one.
pub(super) fn group_len(raw: &[u8]) -> Result<usize, NoGroup> {
    if raw.len() < GROUP_HEADER_BYTES + TAG_BYTES || raw[..GROUP_HEADER_BYTES].iter().all(|byte| *byte == 0) {
        return Err(NoGroup::End);
    }
    if raw[0..4] != GROUP_MAGIC {
        return Err(NoGroup::Torn(format!("`{}` where a group begins", raw[0..4].escape_ascii())));
    }
    let body_bytes = u32_at(raw, 8) as usize;
    if body_bytes > BODY_BYTES_MAX {
        return Err(NoGroup::Torn(format!("a group of {body_bytes} bytes")));
    }
    Ok(GROUP_HEADER_BYTES + body_bytes + TAG_BYTES)
}

/// The header of the group at the front of `raw` if its checksum is whole.
pub(super) fn peek(raw: &[u8]) -> Result<GroupHeader, NoGroup> {
    let len = group_len(raw)?;
    if len > raw.len() {
        return Err(NoGroup::Torn(format!("a group of {len} bytes where {} are left", raw.len())));
    }
    let (stored, computed) = (u32_at(raw, 4), crc32c::crc32c(&raw[8..len]));
    if stored != computed {
        return Err(NoGroup::Torn(format!("a group with checksum {computed:08x} that carries {stored:08x}")));
    }
    Ok(GroupHeader::decode(raw))
}

/// Checks the group at the front of `raw`, which stands at `offset` of segment `id`, and opens its body in place.
pub(super) fn open_group(
    raw: &mut [u8],
    id: SegmentId,
    key: &SegmentKey,
    offset: u64,
) -> Result<(GroupHeader, Hash), NoGroup> {
    let header = peek(raw)?;
    if header.segment < id {
        return Err(NoGroup::Older(header.segment));
    }
    let end = GROUP_HEADER_BYTES + header.body_bytes as usize;
    let hash = hash(raw, end);
    let (head, rest) = raw.split_at_mut(GROUP_HEADER_BYTES);
    let (body, tail) = rest.split_at_mut(header.body_bytes as usize);
    key.open(offset, &head[8..], body, &array_at(tail, 0)).map_err(|_| NoGroup::Forged)?;
    Ok((header, hash))
}

fn u32_at(raw: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array_at(raw, at))
}

fn u64_at(raw: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array_at(raw, at))
}

fn array_at<const N: usize>(raw: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&raw[at..at + N]);
    out
}

// The wrapped key's nonce fills its slot with four bytes to spare.
const _: () = assert!(WRAPPED_AT + NONCE_BYTES + 4 == 112);
