//! Reading one segment from its bytes: the whole groups in front, and what claims stand behind a hole.

use std::ops::Range;

use super::super::seal::SegmentKey;
use super::format::{self, ALIGN_BYTES, GROUP_HEADER_BYTES, GroupHeader, HEADER_BYTES, Hash, NoGroup, group_bytes};

/// A whole group.
#[derive(Clone, Debug)]
pub(super) struct Parsed {
    pub(super) header: GroupHeader,
    pub(super) hash: Hash,
    pub(super) offset: u64,
    pub(super) body: Range<usize>,
}

/// The group before, as far as it is known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Before {
    pub(super) epoch: u64,
    /// `None` when the predecessor is trimmed.
    pub(super) hash: Option<Hash>,
}

/// Why the groups in front end where they end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// No whole group here; a torn tail unless something claims more.
    Hole(NoGroup),
    /// A whole group that does not follow the one before, or none of this key: nothing tears like that.
    Broken { found: String, expected: String },
}

/// The groups in front.
#[derive(Debug)]
pub(super) struct Scan {
    pub(super) groups: Vec<Parsed>,
    pub(super) end: u64,
    pub(super) stop: Stop,
}

/// Opens, in place, the groups of segment `id` from the first one to the first that is not whole.
pub(super) fn scan(raw: &mut [u8], id: u32, key: &SegmentKey, before: Before) -> Scan {
    let mut groups: Vec<Parsed> = Vec::new();
    let mut before = before;
    let mut end = HEADER_BYTES;
    let stop = loop {
        let Some(rest) = raw.get_mut(end as usize..) else { break Stop::Hole(NoGroup::End) };
        let (header, hash) = match format::open_group(rest, id, key, end) {
            Ok(opened) => opened,
            Err(NoGroup::Forged) => {
                break Stop::Broken {
                    found: "a group with a whole checksum that this segment's key did not seal for this place"
                        .to_owned(),
                    expected: "a group sealed there".to_owned(),
                };
            }
            Err(no_group) => break Stop::Hole(no_group),
        };
        if let Some((found, expected)) = out_of_order(&header, id, before) {
            break Stop::Broken { found, expected };
        }
        let body_at = end as usize + GROUP_HEADER_BYTES;
        let body = body_at..body_at + header.body_bytes as usize;
        before = Before { epoch: header.epoch, hash: Some(hash) };
        groups.push(Parsed { header, hash, offset: end, body });
        end += group_bytes(header.body_bytes as usize);
    };
    Scan { groups, end, stop }
}

fn out_of_order(header: &GroupHeader, id: u32, before: Before) -> Option<(String, String)> {
    if header.segment != id {
        return Some((format!("a group of segment {:08x}", header.segment), format!("one of segment {id:08x}")));
    }
    if before.hash.is_some_and(|hash| hash != header.before) {
        return Some((
            format!("a group of epoch {} that follows another group", header.epoch),
            format!("the one that follows epoch {}", before.epoch),
        ));
    }
    if header.epoch <= before.epoch {
        return Some((format!("epoch {}", header.epoch), format!("an epoch above {}", before.epoch)));
    }
    if header.flushed > before.epoch {
        return Some((format!("flushed mark {}", header.flushed), format!("at most {}", before.epoch)));
    }
    None
}

/// What stands behind a hole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Behind {
    /// The largest flushed mark of a group with a whole checksum.
    pub(super) claim: u64,
    /// Number of groups with a whole checksum.
    pub(super) groups: u64,
    /// Bytes from the hole to the end of what was torn or stands whole behind it; 0 when nothing does.
    pub(super) bytes: u64,
}

/// Looks for groups of segment `id` at every place where one may begin. What an older segment left in the file is
/// nothing: its epochs are lower than any here, so it claims nothing that is not there.
pub(super) fn behind(raw: &[u8], id: u32, from: u64) -> Behind {
    let mut found = Behind::default();
    let Some(rest) = raw.get(from as usize..) else { return found };
    // Each write ends with zeros, so what it left of itself is not at an end before the first place of zeros.
    let mut is_torn = true;
    let mut at = 0;
    while let Some(left) = rest.get(at as usize..).filter(|left| !left.is_empty()) {
        let sector = &left[..left.len().min(ALIGN_BYTES as usize)];
        let used = sector.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1);
        match format::peek(left) {
            Ok(header) => {
                let bytes = group_bytes(header.body_bytes as usize);
                is_torn = false;
                if header.segment >= id {
                    found.claim = found.claim.max(header.flushed);
                    found.groups += 1;
                    found.bytes = at + bytes;
                }
                at += bytes;
            }
            Err(_) => {
                is_torn &= used > 0;
                if is_torn {
                    found.bytes = at + used;
                }
                at += ALIGN_BYTES;
            }
        }
    }
    found.bytes = found.bytes.min(rest.len() as u64);
    found
}
