//! Several fields of a message at once: their maps are sorted, so a list of fields that is sorted the same way is merged
//! with them, or found where the message before had them. One lookup per field cost more than the rest of a request.

use std::cmp::Ordering;

use fluxrig_actors::protocol::{FluxMsg, Map, SmolStr, Value};

use crate::map::place::Place;

/// A list of places, arranged for one walk over a message.
#[derive(Clone, Debug)]
pub(super) struct Fields {
    len: usize,
    /// Positions of those that a message need not have.
    optional: std::ops::Range<usize>,
    groups: Vec<Group>,
    meta: Vec<(usize, SmolStr)>,
}

/// Fields of one map: the way to it, and each key with its position in the list, shorter keys first.
#[derive(Clone, Debug)]
struct Group {
    parents: Vec<SmolStr>,
    wanted: Vec<Wanted>,
}

#[derive(Clone, Debug)]
struct Wanted {
    rank: u64,
    key: SmolStr,
    idx: usize,
}

/// Where the fields of the last message stood: messages of one kind have the same fields, so those of the next one are
/// nearly always there again, which is seen by looking at these alone. Positions by group, in the order of its keys.
#[derive(Clone, Debug, Default)]
pub(super) struct Trail(Vec<Vec<usize>>);

/// What stands at a place.
#[derive(Clone, Copy, Debug)]
pub(super) enum Seen<'a> {
    Nothing,
    /// Nothing, where something need not be.
    Absent,
    Text(&'a str),
    Value(&'a Value),
}

impl Fields {
    pub(super) fn new(places: &[Place]) -> Self {
        let mut fields = Self { len: places.len(), optional: 0..0, groups: Vec::new(), meta: Vec::new() };
        for (idx, place) in places.iter().enumerate() {
            match place {
                Place::Meta(key) => fields.meta.push((idx, key.clone())),
                Place::Data(path) => {
                    let Some((last, parents)) = path.segments().split_last() else { continue };
                    let at = fields.groups.iter().position(|group| group.parents == parents).unwrap_or_else(|| {
                        fields.groups.push(Group { parents: parents.to_vec(), wanted: Vec::new() });
                        fields.groups.len() - 1
                    });
                    fields.groups[at].wanted.push(Wanted { rank: rank(last), key: last.clone(), idx });
                }
            }
        }
        for group in &mut fields.groups {
            group.wanted.sort_by(|a, b| a.order(b.rank, &b.key));
        }
        fields
    }

    /// The places in this range of the list need not be there.
    pub(super) fn with_optional(self, optional: std::ops::Range<usize>) -> Self {
        Self { optional, ..self }
    }

    /// What stands at each place, in the order of the list. The trail is one that these fields alone have left.
    pub(super) fn look<'a>(&self, msg: &'a FluxMsg, trail: &mut Trail) -> Vec<Seen<'a>> {
        let mut seen = vec![Seen::Nothing; self.len];
        seen[self.optional.clone()].fill(Seen::Absent);
        for (idx, key) in &self.meta {
            if let Some(text) = msg.meta.get(key) {
                seen[*idx] = Seen::Text(text);
            }
        }
        trail.0.resize_with(self.groups.len(), Vec::new);
        for (group, trail) in self.groups.iter().zip(&mut trail.0) {
            if let Some(map) = group.map(msg)
                && !group.follow(map, trail, &mut seen)
            {
                group.merge(map, trail, &mut seen);
            }
        }
        seen
    }
}

impl Group {
    fn map<'a>(&self, msg: &'a FluxMsg) -> Option<&'a Map> {
        self.parents.iter().try_fold(&msg.data, |map, key| map.get_key(key)?.as_map())
    }

    /// Looks where the last message had these fields. False where one of them is not there, or is where none was: what
    /// was seen until then is right all the same.
    fn follow<'a>(&self, map: &'a Map, trail: &[usize], seen: &mut [Seen<'a>]) -> bool {
        if trail.len() != self.wanted.len() {
            return false;
        }
        let entries = map.entries();
        for (wanted, &at) in self.wanted.iter().zip(trail) {
            match entries.get(at) {
                Some((key, value)) if wanted.stands_to(key).is_eq() => seen[wanted.idx] = read(value),
                found if !wanted.is_absent(found, at, entries) => return false,
                _ => {}
            }
        }
        true
    }

    fn merge<'a>(&self, map: &'a Map, trail: &mut Vec<usize>, seen: &mut [Seen<'a>]) {
        trail.clear();
        let mut left = self.wanted.iter();
        let Some(mut wanted) = left.next() else { return };
        for (at, (key, value)) in map.iter().enumerate() {
            let rank = rank(key);
            loop {
                match wanted.order(rank, key) {
                    Ordering::Greater => break,
                    Ordering::Equal => seen[wanted.idx] = read(value),
                    Ordering::Less => {}
                }
                trail.push(at);
                let Some(next) = left.next() else { return };
                wanted = next;
            }
        }
        // What is left would stand behind all others.
        trail.resize(self.wanted.len(), map.len());
    }
}

impl Wanted {
    #[inline]
    fn stands_to(&self, key: &str) -> Ordering {
        self.order(rank(key), key)
    }

    /// Whether this position, at which `found` stands, is where it would be.
    fn is_absent(&self, found: Option<&(SmolStr, Value)>, at: usize, entries: &[(SmolStr, Value)]) -> bool {
        let is_before = found.map_or(at == entries.len(), |(key, _)| self.stands_to(key).is_lt());
        is_before && entries[..at].last().is_none_or(|(key, _)| self.stands_to(key).is_gt())
    }

    /// How it stands to a key of this rank, in the order of a map.
    fn order(&self, rank: u64, key: &str) -> Ordering {
        self.rank.cmp(&rank).then_with(|| if key.len() <= RANKED { Ordering::Equal } else { full(&self.key, key) })
    }
}

fn read(value: &Value) -> Seen<'_> {
    match value {
        Value::Text(text) => Seen::Text(text),
        other => Seen::Value(other),
    }
}

/// Keys up to this length are told apart by their rank alone.
const RANKED: usize = 6;

/// The order of keys in a map, shorter first, as a number: length, then the first bytes. Keys are nearly always field
/// numbers, and a call that compares two bytes costs more than this.
#[inline]
fn rank(key: &str) -> u64 {
    let bytes = key.as_bytes();
    // Field numbers, without a loop.
    match *bytes {
        [a] => return 1 << 48 | u64::from(a) << 40,
        [a, b] => return 2 << 48 | u64::from(a) << 40 | u64::from(b) << 32,
        [a, b, c] => return 3 << 48 | u64::from(a) << 40 | u64::from(b) << 32 | u64::from(c) << 24,
        _ => {}
    }
    let head = &bytes[..bytes.len().min(RANKED)];
    let len = bytes.len().min(usize::from(u16::MAX)) as u64;
    head.iter().enumerate().fold(len << 48, |rank, (idx, byte)| rank | u64::from(*byte) << (40 - 8 * idx))
}

fn full(a: &str, b: &str) -> Ordering {
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_walk_finds_what_a_lookup_of_each_place_finds() {
        let long = "long enough to be told by more than a rank";
        let paths = ["data.a.11", "data.a.7", "meta.m", "data.b", "data.a.41", "data.a.x.y", "data.a.11", "data.a.128"];
        let paths =
            paths.map(str::to_owned).into_iter().chain([format!("data.a.{long} 1"), format!("data.a.{long} 2")]);
        let places: Vec<Place> = paths.map(|path| path.parse().unwrap()).collect();
        let (long_0, long_2) = (format!("{long} 0"), format!("{long} 2"));
        let all = ["2", "7", "11", "41", "128", "x", &long_0, &long_2];
        // Every subset of the keys, so that each is missed at each end. Once with the trail of another subset, once with
        // that of the same.
        let fields = Fields::new(&places);
        let mut trail = Trail::default();
        for bits in (0..256u32).flat_map(|bits| [bits.wrapping_mul(167) & 255; 2]) {
            let mut msg = crate::tests::harness::msg(1);
            for (idx, key) in all.iter().enumerate().filter(|(idx, _)| bits & (1 << idx) != 0) {
                let value = if *key == "x" { Map::from_iter([("y", "deep")]).into() } else { Value::from(idx as u64) };
                msg.data.set(&format!("a.{key}").parse().unwrap(), value).unwrap();
            }
            if bits & 1 == 1 {
                msg.meta.set("m", "text");
                msg.data.insert_key("b", true);
            }
            for (place, seen) in places.iter().zip(fields.look(&msg, &mut trail)) {
                let found = match seen {
                    Seen::Nothing | Seen::Absent => None,
                    Seen::Text(text) => Some(Value::from(text)),
                    Seen::Value(value) => Some(value.clone()),
                };
                assert_eq!(place.get(&msg), found, "{place} of {bits:b}");
            }
        }
    }
}
