//! Where a request goes: a tree of choices over destinations, as it is written and as it is followed.
//! A choice leaves out what is down or full; which of the two it was is said when nothing is left.

use std::fmt;

use fluxrig_actors::prelude::*;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde::Deserializer;
use serde::de::{Error as _, MapAccess, Visitor};

/// Levels of a tree of destinations.
pub(super) const DEPTH_MAX: usize = 8;

/// Where to, as a configuration writes it: by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum To {
    Destination(String),
    Forward(String),
    Choice(Choice, Vec<To>),
}

/// How one of several is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    Failover,
    RoundRobin,
    LeastLoaded,
}

/// Keys of a choice, and the key that hands a request on.
const CHOICES: [(&str, Choice); 3] =
    [("failover", Choice::Failover), ("round_robin", Choice::RoundRobin), ("least_loaded", Choice::LeastLoaded)];
const FORWARD: &str = "forward";

impl Choice {
    pub(super) fn key(self) -> &'static str {
        CHOICES.iter().find(|(_, choice)| *choice == self).map_or("", |(key, _)| key)
    }
}

impl<'de> Deserialize<'de> for To {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ToVisitor)
    }
}

struct ToVisitor;

impl<'de> Visitor<'de> for ToVisitor {
    type Value = To;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "the name of a destination, or a map with one key: `failover`, `round_robin`, `least_loaded` or `forward`",
        )
    }

    fn visit_str<E>(self, name: &str) -> Result<To, E> {
        Ok(To::Destination(name.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<To, A::Error> {
        const REMEDY: &str = "remedy: write one of `failover`, `round_robin`, `least_loaded` and `forward`";
        let Some(key) = entries.next_key::<String>()? else {
            return Err(A::Error::custom(format_args!("`to`: found an empty map, expected one key; {REMEDY}")));
        };
        let to = match CHOICES.iter().find(|(name, _)| *name == key) {
            Some((_, choice)) => To::Choice(*choice, entries.next_value()?),
            None if key == FORWARD => To::Forward(entries.next_value()?),
            None => return Err(A::Error::custom(format_args!("`to`: found key `{key}`, expected another; {REMEDY}"))),
        };
        match entries.next_key::<String>()? {
            None => Ok(to),
            Some(more) => {
                Err(A::Error::custom(format_args!("`to`: found `{more}` beside `{key}`, expected one key; {REMEDY}")))
            }
        }
    }
}

impl JsonSchema for To {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "To".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let list = json_schema!({ "type": "array", "minItems": 1, "items": generator.subschema_for::<To>() });
        let one = |key: &str, value: &Schema| {
            json_schema!({
                "type": "object",
                "properties": { (key): value },
                "required": [key],
                "additionalProperties": false,
            })
        };
        let name = json_schema!({ "type": "string" });
        let mut shapes = vec![name.clone(), one(FORWARD, &name)];
        shapes.extend(CHOICES.iter().map(|(key, _)| one(key, &list)));
        json_schema!({
            "description": "A destination by its name; or one of several: the first that can take it (`failover`), \
                each in turn (`round_robin`), the one with the fewest open requests (`least_loaded`), each of which may be \
                a choice again; or `forward`, the name of a port of its own through which the message is handed on as it \
                is, with nothing kept.",
            "anyOf": shapes,
        })
    }
}

/// A tree of destinations by number.
#[derive(Clone, Debug)]
pub(super) enum Tree {
    One(usize),
    Failover(Vec<Tree>),
    /// With the number of its cursor.
    RoundRobin(usize, Vec<Tree>),
    LeastLoaded(Vec<Tree>),
}

/// One destination, as it is now.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Peer {
    pub(super) is_up: bool,
    pub(super) open: usize,
    pub(super) open_max: usize,
}

/// Why no destination can take a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unavailable {
    /// None has its link.
    Down,
    /// At least one has its link, and as many open requests as it may have.
    Full,
}

impl Unavailable {
    fn or(self, other: Self) -> Self {
        if self == Self::Full { self } else { other }
    }
}

impl Tree {
    /// The destination for the next request. A turn of `round_robin` is taken whether or not a choice above it takes
    /// what it named.
    pub(super) fn pick(&self, peers: &[Peer], cursors: &mut [usize]) -> Result<usize, Unavailable> {
        match self {
            Self::One(idx) => match peers[*idx] {
                Peer { is_up: false, .. } => Err(Unavailable::Down),
                Peer { open, open_max, .. } if open >= open_max => Err(Unavailable::Full),
                Peer { .. } => Ok(*idx),
            },
            Self::Failover(trees) => first(trees.iter(), peers, cursors),
            Self::RoundRobin(cursor, trees) => {
                let at = cursors[*cursor] % trees.len();
                cursors[*cursor] = at + 1;
                let (before, from) = trees.split_at(at);
                first(from.iter().chain(before), peers, cursors)
            }
            Self::LeastLoaded(trees) => {
                let mut best: Result<usize, _> = Err(Unavailable::Down);
                for tree in trees {
                    best = match (best, tree.pick(peers, cursors)) {
                        (Ok(best), Ok(idx)) if peers[idx].open < peers[best].open => Ok(idx),
                        (Ok(best), _) => Ok(best),
                        (Err(_), Ok(idx)) => Ok(idx),
                        (Err(why), Err(also)) => Err(why.or(also)),
                    };
                }
                best
            }
        }
    }
}

fn first<'a>(
    trees: impl Iterator<Item = &'a Tree>,
    peers: &[Peer],
    cursors: &mut [usize],
) -> Result<usize, Unavailable> {
    let mut why = Unavailable::Down;
    for tree in trees {
        match tree.pick(peers, cursors) {
            Ok(idx) => return Ok(idx),
            Err(also) => why = why.or(also),
        }
    }
    Err(why)
}
