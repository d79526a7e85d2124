//! What a scenario writes about a `conductor`, and what is refused before anything starts.
//! Names of destinations become numbers here, so that no message has to look one up.

use std::time::Duration;

use fluxrig_actors::nearest;
use fluxrig_actors::prelude::*;
use fluxrig_actors::protocol::SmolStr;
use serde::Deserializer;
use serde::de::Error as _;

use super::key::{self, Mti};
use super::record::{Layouts, Places};
use super::route::{self, Choice, To, Tree};
use super::{Conductor, Destination, Repeats, Route, Way, port};
use crate::map::place::Place;
use crate::predicate::Predicate;

/// Answers the requests of terminals from hosts: sends each to one destination, matches the replies, and sees to it
/// that each request has exactly one outcome.
///
/// Requests come in by `in`. Each goes out of the port of one destination, with `expires` set to its deadline and with
/// `meta["conductor.key"]`. Replies, and reports of what may have been sent, come in by `reply`. An answer goes out of
/// `out`, with the return address and the trace of its request and with `ref` set to it. A request that gets none is told
/// on `error`, as a new message of the kept fields with `meta["conductor.error"]`: `format` (a field of the key is
/// missing), `no_route`, `no_destination` (none has its link), `overload`, `timeout` (no reply in time, or nobody knows
/// whether it was sent). Replies that nobody waits for go out of `unmatched`. Nothing is ever sent twice: after a
/// `timeout` a late reply is unmatched, and a repeat of the request gets the same error for as long as answers are
/// remembered.
///
/// A request that is open already is taken in: its answer goes to whoever asked last. A repeat of one that has ended is
/// answered from memory, with the same fields. What was refused with another error than `timeout` was never sent, and may be tried again.
///
/// A destination that names a `link` is down until that endpoint says that it is up.
///
/// It counts, as series and label of `fluxrig_gear_count_total`: `outcomes` of open requests under `answered`, `expired` and
/// `undeliverable`; `refusals` under `format`, `no_route`, `no_destination` and `overload`; `messages` under `forwarded`,
/// `duplicate`, `repeat`, `unmatched`, `forgotten_early` and `broken_record`; and `requests_sent`, `requests_answered` and
/// `requests_unanswered` under the name of each destination.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Conductor")]
pub(super) struct Config {
    /// Fields that a request and its reply have in common and no other transaction has: texts or bytes. With `mti`,
    /// its digits belong to them.
    #[serde(default = "default_key")]
    key: Vec<Place>,
    /// More such fields, which a request need not have: network management messages, for instance, have no terminal. Those
    /// that it has belong to its key, so a reply must have the same ones: a host that does not echo one of them does not
    /// answer the request, and one that adds one does not either. Default: none.
    #[serde(default)]
    key_optional: Vec<Place>,
    /// Where the message type of ISO 8583 stands, or `none`. A reply counts as its request (third digit) and a repeat as
    /// its original (fourth digit); version, class, function and origin must agree.
    #[serde(default)]
    mti: MtiPlace,
    /// Hosts that answer a type of request with a reply of another one than the next: tried where the usual one matches
    /// nothing.
    #[serde(default)]
    replies: Vec<ReplyType>,
    /// Time for each request, milliseconds, 1 to 86400000.
    #[serde(default = "default_timeout_ms")]
    timeout_ms: u64,
    /// Fields of a request that its error message has, beside the key: texts, bytes, integers and bools, up to 4096 bytes
    /// together. Sensitive authentication data is refused.
    #[serde(default)]
    keep: Vec<Place>,
    /// Requests that may be open at once, 1 to 1048576; above, the error is `overload`.
    #[serde(default = "default_open_max")]
    open_max: usize,
    /// Where requests can be sent; each is an output port.
    destinations: Vec<DestinationConfig>,
    /// Which request goes where: the first that holds. Where none does the error is `no_route`.
    routes: Vec<RouteConfig>,
    /// What is remembered of transactions that have ended.
    #[serde(default)]
    repeats: RepeatsConfig,
}

/// A peer that answers requests.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct DestinationConfig {
    /// Its name, which is also its output port.
    name: String,
    /// Name of the endpoint whose link must be up; without it the destination is always up.
    link: Option<String>,
    /// Requests that may be open there at once, 1 to 1048576.
    #[serde(default = "default_open_max")]
    open_max: usize,
}

/// Where some requests go.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RouteConfig {
    /// Which ones; without it all of them.
    when: Option<Predicate>,
    /// Time for each of these, milliseconds, in place of the gear's.
    timeout_ms: Option<u64>,
    /// Where to.
    to: To,
}

/// A reply that is not named as its request.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ReplyType {
    /// Message type of the reply, four digits.
    reply: String,
    /// Message type of the request that it answers, four digits.
    request: String,
}

/// What is remembered of transactions that have ended.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct RepeatsConfig {
    /// For how long, milliseconds, 1 to 86400000: by the monotonic clock, over restarts by the time that has passed. A wall
    /// clock that is set changes nothing. Time in which the process stands still counts: choose it longer than the longest
    /// pause and the patience of whoever asks together.
    window_ms: u64,
    /// Of how many, 1 to 1048576; the oldest go first. Choose as many as end within the window: what is forgotten before is
    /// counted as `forgotten_early` and told in the log, and a repeat of it is sent again.
    max: usize,
    /// Whether it outlives the gear and the process.
    durable: bool,
    /// Fields of an answer that are said again, beside its key and its type, up to 4096 bytes together. Without this all
    /// of `data` is, but for sensitive authentication data (fields 35, 36, 45, 52, 55) and, where there was some, the MAC.
    keep: Option<Vec<Place>>,
}

impl Default for RepeatsConfig {
    fn default() -> Self {
        Self { window_ms: 60_000, max: 65_536, durable: true, keep: None }
    }
}

/// A place, or the word `none`.
#[derive(Clone, Debug)]
struct MtiPlace(Option<Place>);

impl Default for MtiPlace {
    fn default() -> Self {
        Self(Some(Place::Meta(SmolStr::new_static("iso8583.mti"))))
    }
}

impl<'de> Deserialize<'de> for MtiPlace {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == "none" {
            Ok(Self(None))
        } else {
            text.parse().map(|place| Self(Some(place))).map_err(D::Error::custom)
        }
    }
}

impl JsonSchema for MtiPlace {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "MtiPlace".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": r"^(none|data(\.[^.]+)+|meta\..+)$" })
    }
}

fn default_key() -> Vec<Place> {
    places(&["7", "11", "41"])
}

fn default_timeout_ms() -> u64 {
    30_000
}

fn default_open_max() -> usize {
    65_536
}

fn places(fields: &[&str]) -> Vec<Place> {
    let place = |field: &&str| format!("data.iso8583.{field}").parse().expect("a number is a path");
    fields.iter().map(place).collect()
}

/// Fields that are never kept nor said again: tracks, PIN block, chip data (sensitive authentication data).
const SENSITIVE: [&str; 5] = ["35", "36", "45", "52", "55"];
/// Fields that vouch for a whole message. They come after the others in a map.
const MACS: [&str; 2] = ["64", "128"];

/// Whether a field of an answer is not remembered: sensitive authentication data, and the MACs of a message that lacks it.
pub(super) fn is_secret(field: &str, has_left_out: bool) -> bool {
    SENSITIVE.contains(&field) || has_left_out && MACS.contains(&field)
}

/// A configuration that cannot be what it says. Holds names and numbers of the configuration only.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConductorError {
    /// A list of nothing.
    #[error("`{key}`: found an empty list, expected at least one entry; remedy: add one")]
    Empty {
        /// The key.
        key: String,
    },
    /// A number outside its range, or a list too long.
    #[error("`{key}`: found {found}, expected 1 to {max}; remedy: choose one of these")]
    Range {
        /// The key.
        key: String,
        /// What was found.
        found: u64,
        /// The most.
        max: u64,
    },
    /// A field of the key that must be there and need not be.
    #[error("`key_optional`: found `{place}`, which `key` has too, expected it once; remedy: remove one of them")]
    Optional {
        /// The field.
        place: String,
    },
    /// A field that must not be kept.
    #[error(
        "`{key}`: found `{place}`, which is or holds sensitive authentication data (fields 35, 36, 45, 52, 55), expected no such field; remedy: leave it out"
    )]
    Sensitive {
        /// The key.
        key: &'static str,
        /// The field.
        place: String,
    },
    /// A name that cannot be that of a port.
    #[error(
        "`{key}`: found `{name}`, expected a name of 1 to 64 letters, digits, `_` and `-` that is not `in`, `reply`, `out`, `error` or `unmatched`; remedy: choose another name"
    )]
    Name {
        /// The key.
        key: String,
        /// The name.
        name: String,
    },
    /// One name for two things.
    #[error(
        "`{key}`: found `{name}`, which is the name of a destination already, expected another; remedy: rename one of them"
    )]
    Taken {
        /// The key.
        key: String,
        /// The name.
        name: String,
    },
    /// A route to a destination that there is not.
    #[error("`{key}`: found `{name}`, which no destination is called; remedy: {remedy}")]
    Unknown {
        /// The key.
        key: String,
        /// The name.
        name: String,
        /// What to do.
        remedy: String,
    },
    /// `forward` inside a choice.
    #[error("`{key}`: found `forward` inside a choice, expected it alone; remedy: give it a route of its own")]
    Forward {
        /// The key.
        key: String,
    },
    /// A tree with too many levels.
    #[error("`{key}`: found more than {max} levels, expected fewer; remedy: flatten it", max = route::DEPTH_MAX)]
    Depth {
        /// The key.
        key: String,
    },
    /// A time limit for what is not waited for.
    #[error(
        "`{key}`: found `timeout_ms` on a route that forwards, expected none: nothing waits for an answer there; remedy: leave it out"
    )]
    Untimed {
        /// The key.
        key: String,
    },
    /// Not a pair of message types.
    #[error(
        "`replies[{idx}]`: found no pair of message types, expected four digits each, the third odd in `reply` and even in `request`; remedy: for example `0430` and `0400`"
    )]
    ReplyType {
        /// Position in the list.
        idx: usize,
    },
    /// Message types without a place for them.
    #[error(
        "`replies`: found pairs of message types with `mti: none`, expected none; remedy: say where the message type stands, or leave them out"
    )]
    NoMti,
}

const DAY_MS: u64 = 86_400_000;
const COUNT_MAX: usize = 1 << 20;
const PLACES_MAX: usize = 64;
const DESTINATIONS_MAX: usize = 64;
const ROUTES_MAX: usize = 1024;
const REPLIES_MAX: usize = 64;

fn range(key: impl Into<String>, found: u64, max: u64) -> Result<u64, ConductorError> {
    if (1..=max).contains(&found) { Ok(found) } else { Err(ConductorError::Range { key: key.into(), found, max }) }
}

fn count(key: impl Into<String>, found: usize, max: usize) -> Result<usize, ConductorError> {
    range(key, found as u64, max as u64).map(|_| found)
}

/// A list with at least one entry and not too many.
fn list<T>(key: &str, list: &[T], max: usize) -> Result<(), ConductorError> {
    if list.is_empty() {
        return Err(ConductorError::Empty { key: key.to_owned() });
    }
    count(key, list.len(), max).map(drop)
}

fn timeout(key: impl Into<String>, timeout_ms: u64) -> Result<Duration, ConductorError> {
    range(key, timeout_ms, DAY_MS).map(Duration::from_millis)
}

impl TryFrom<Config> for Conductor {
    type Error = ConductorError;

    fn try_from(config: Config) -> Result<Self, ConductorError> {
        let Config { mut key, key_optional, mti, replies, timeout_ms, keep, open_max, destinations, routes, repeats } =
            config;
        list("key", &key, PLACES_MAX)?;
        list("destinations", &destinations, DESTINATIONS_MAX)?;
        list("routes", &routes, ROUTES_MAX)?;
        let said = repeats.keep.as_deref().unwrap_or_default();
        let keeps = [("keep", keep.as_slice()), ("repeats.keep", said)];
        for (name, places) in [("key", key.as_slice()), ("key_optional", &key_optional)].into_iter().chain(keeps) {
            harmless(name, places)?;
        }
        if let Some(twice) = key_optional.iter().find(|place| key.contains(place)) {
            return Err(ConductorError::Optional { place: twice.to_string() });
        }
        let optional = key_optional.len();
        key.extend(key_optional);
        let kept = keep.into_iter().filter(|place| !key.contains(place)).collect();
        let destinations = named(destinations)?;
        let mut resolver = Resolver { destinations: &destinations, cursors: 0 };
        let default = timeout("timeout_ms", timeout_ms)?;
        let routes: Result<Vec<Route>, _> =
            routes.into_iter().enumerate().map(|(idx, route)| resolver.route(idx, route, default)).collect();
        let (routes, cursors) = (routes?, resolver.cursors);
        let replies = reply_types(&replies, mti.0.is_some())?;
        let (window_ms, max) = (range("repeats.window_ms", repeats.window_ms, DAY_MS)?, repeats.max);
        Ok(Self {
            mti: mti.0,
            replies,
            layouts: Layouts {
                request: Places::new(&key, kept).with_optional(optional),
                answer: Places::new(&key, said.to_vec()).with_optional(optional),
            },
            open_max: count("open_max", open_max, COUNT_MAX)?,
            destinations,
            routes,
            cursors,
            repeats: Repeats {
                window_ns: i64::try_from(window_ms * 1_000_000).unwrap_or(i64::MAX),
                max: count("repeats.max", max, COUNT_MAX)?,
                is_durable: repeats.durable,
                is_whole: repeats.keep.is_none(),
            },
        })
    }
}

/// Refuses places that are, hold or stand inside sensitive authentication data.
fn harmless(key: &'static str, places: &[Place]) -> Result<(), ConductorError> {
    if !places.is_empty() {
        count(key, places.len(), PLACES_MAX)?;
    }
    for place in places {
        let Place::Data(path) = place else { continue };
        let mut segments = path.segments().iter().map(SmolStr::as_str);
        let is_sensitive = match (segments.next(), segments.next()) {
            (Some("iso8583"), Some(field)) => SENSITIVE.contains(&field),
            (Some("iso8583"), None) => true,
            _ => false,
        };
        if is_sensitive {
            return Err(ConductorError::Sensitive { key, place: place.to_string() });
        }
    }
    Ok(())
}

fn named(configs: Vec<DestinationConfig>) -> Result<Vec<Destination>, ConductorError> {
    let mut destinations: Vec<Destination> = Vec::new();
    for (idx, DestinationConfig { name, link, open_max }) in configs.into_iter().enumerate() {
        let key = format!("destinations[{idx}]");
        check_name(&format!("{key}.name"), &name)?;
        if destinations.iter().any(|other| other.name == name) {
            return Err(ConductorError::Taken { key: format!("{key}.name"), name });
        }
        let open_max = count(format!("{key}.open_max"), open_max, COUNT_MAX)?;
        destinations.push(Destination { name: name.into(), link: link.map(SmolStr::from), open_max });
    }
    Ok(destinations)
}

fn check_name(key: &str, name: &str) -> Result<(), ConductorError> {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    let is_name = (1..=64).contains(&name.len()) && name.bytes().all(is_word);
    if is_name && !port::FIXED.contains(&name) {
        return Ok(());
    }
    Err(ConductorError::Name { key: key.to_owned(), name: name.chars().take(64).collect() })
}

fn reply_types(replies: &[ReplyType], has_mti: bool) -> Result<Vec<(Mti, Mti)>, ConductorError> {
    if replies.is_empty() {
        return Ok(Vec::new());
    }
    if !has_mti {
        return Err(ConductorError::NoMti);
    }
    count("replies", replies.len(), REPLIES_MAX)?;
    let pair = |(idx, pair): (usize, &ReplyType)| {
        let types = (key::mti(&pair.reply), key::mti(&pair.request));
        match types {
            (Some(reply), Some(request)) if key::is_reply(reply) && !key::is_reply(request) => Ok((reply, request)),
            _ => Err(ConductorError::ReplyType { idx }),
        }
    };
    replies.iter().enumerate().map(pair).collect()
}

/// Turns names into numbers, and counts the cursors of `round_robin`.
struct Resolver<'a> {
    destinations: &'a [Destination],
    cursors: usize,
}

impl Resolver<'_> {
    fn route(&mut self, idx: usize, route: RouteConfig, default: Duration) -> Result<Route, ConductorError> {
        let RouteConfig { when, timeout_ms, to } = route;
        let key = format!("routes[{idx}]");
        let way = match to {
            To::Forward(name) => {
                let key = format!("{key}.to.forward");
                check_name(&key, &name)?;
                if self.destinations.iter().any(|destination| destination.name == name) {
                    return Err(ConductorError::Taken { key, name });
                }
                Way::Forward(name.into())
            }
            to => Way::Send(self.tree(&format!("{key}.to"), to, 0)?),
        };
        if timeout_ms.is_some() && matches!(way, Way::Forward(_)) {
            return Err(ConductorError::Untimed { key });
        }
        let timeout = timeout_ms.map_or(Ok(default), |ms| timeout(format!("{key}.timeout_ms"), ms))?;
        Ok(Route { when, timeout, way })
    }

    fn tree(&mut self, key: &str, to: To, depth: usize) -> Result<Tree, ConductorError> {
        if depth > route::DEPTH_MAX {
            return Err(ConductorError::Depth { key: key.to_owned() });
        }
        let (choice, parts) = match to {
            To::Destination(name) => return self.find(key, name).map(Tree::One),
            To::Forward(_) => return Err(ConductorError::Forward { key: key.to_owned() }),
            To::Choice(choice, parts) => (choice, parts),
        };
        let key = format!("{key}.{}", choice.key());
        list(&key, &parts, DESTINATIONS_MAX)?;
        let trees: Result<Vec<Tree>, _> =
            parts.into_iter().enumerate().map(|(idx, to)| self.tree(&format!("{key}[{idx}]"), to, depth + 1)).collect();
        let trees = trees?;
        Ok(match choice {
            Choice::Failover => Tree::Failover(trees),
            Choice::LeastLoaded => Tree::LeastLoaded(trees),
            Choice::RoundRobin => {
                self.cursors += 1;
                Tree::RoundRobin(self.cursors - 1, trees)
            }
        })
    }

    fn find(&self, key: &str, name: String) -> Result<usize, ConductorError> {
        if let Some(idx) = self.destinations.iter().position(|destination| destination.name == name) {
            return Ok(idx);
        }
        let names = self.destinations.iter().map(|destination| destination.name.as_str());
        let remedy = nearest(&name, names).map_or_else(
            || "add it to `destinations`".to_owned(),
            |name| format!("use `{name}`, or add it to `destinations`"),
        );
        Err(ConductorError::Unknown { key: key.to_owned(), name, remedy })
    }
}
