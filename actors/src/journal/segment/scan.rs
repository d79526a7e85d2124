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
        let (header, hash) = match format::open_group(rest, key, end) {
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
    /// Bytes from the hole to the last one that is not zero.
    pub(super) bytes: u64,
}

/// Looks for groups at every place where one may begin.
pub(super) fn behind(raw: &[u8], from: u64) -> Behind {
    let mut found = Behind::default();
    let Some(rest) = raw.get(from as usize..) else { return found };
    found.bytes = rest.chunks(4096).rposition(|chunk| chunk.iter().any(|byte| *byte != 0)).map_or(0, |idx| {
        let chunk = &rest[idx * 4096..rest.len().min(idx * 4096 + 4096)];
        (idx * 4096 + chunk.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1)) as u64
    });
    let mut at = 0;
    while at < found.bytes {
        match format::peek(&rest[at as usize..]) {
            Ok(header) => {
                found.claim = found.claim.max(header.flushed);
                found.groups += 1;
                at += group_bytes(header.body_bytes as usize);
            }
            Err(_) => at += ALIGN_BYTES,
        }
    }
    found
}
