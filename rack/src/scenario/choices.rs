//! Keys that choose one of few words. A word that is planned and not there yet is refused as such, with what to use.

use fluxrig_actors::nearest;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, Visitor};

use super::{FileJournal, StreamJournal};

macro_rules! choices {
    ($($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)* } later [$($later:literal)*];)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub enum $name { $($(#[$variant_doc])* $variant,)* }

        impl $name {
            /// The word in a scenario.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let found = String::deserialize(deserializer)?;
                match found.as_str() {
                    $($word => Ok(Self::$variant),)*
                    other => Err(D::Error::custom(refusal(other, &[$($word),*], &[$($later),*]))),
                }
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn inline_schema() -> bool {
                true
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "enum": [$($word),*] })
            }
        }
    )*};
}

choices! {
    /// What a wire promises.
    LaneChoice {
        /// In the journal.
        #[default]
        Standard = "standard",
        /// In memory.
        Turbo = "turbo",
    } later [];

    /// What a standard wire survives.
    Durability {
        /// A power cut.
        #[default]
        Flush = "flush",
        /// The end of the process.
        Os = "os",
        /// The loss of a minority of the servers of the bus.
        Replicated = "replicated",
    } later [];

    /// What the ack of a stream's servers stands for.
    StreamDurability {
        /// Each write is synced.
        #[default]
        Flush = "flush",
        /// Three servers or more have it.
        Replicated = "replicated",
    } later [];

    /// What keeps a standard wire.
    Backend {
        /// The rack's journal.
        #[default]
        Journal = "journal",
        /// A stream of the bus.
        Jetstream = "jetstream",
    } later [];

    /// What a failed gear means for the rack.
    FailedChoice {
        /// The others go on.
        #[default]
        Hold = "hold",
        /// The rack stops.
        Stop = "stop",
    } later [];

    /// When a gear is started again.
    RestartChoice {
        /// Whenever it ended; an endpoint whose source is exhausted has ended well and stays so.
        #[default]
        Permanent = "permanent",
        /// When it failed.
        Transient = "transient",
        /// Never.
        Temporary = "temporary",
    } later [];

    /// Whether state is kept without a standard wire.
    StateChoice {
        /// It is.
        #[default]
        Durable = "durable",
    } later [];
}

fn refusal(found: &str, words: &[&str], later: &[&str]) -> String {
    let listed = words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(" or ");
    if later.contains(&found) {
        return format!("found `{found}`, which is not there yet, expected {listed}; remedy: use {listed} until then");
    }
    let remedy =
        nearest(found, words.iter().copied()).map_or_else(|| format!("use {listed}"), |word| format!("use `{word}`"));
    format!("found `{}`, expected {listed}; remedy: {remedy}", super::tree::clipped(found))
}

/// What makes standard wires and state durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Journal {
    /// Segment files in the data directory.
    File(FileJournal),
    /// A stream of the bus, which a stand-by can follow.
    Jetstream(StreamJournal),
}

impl Journal {
    /// Whether it is durable by its copies, and not by flushes.
    #[must_use]
    pub fn is_replicated(&self) -> bool {
        matches!(self, Self::Jetstream(StreamJournal { durability: StreamDurability::Replicated, .. }))
    }
}

impl Default for Journal {
    fn default() -> Self {
        Self::File(FileJournal::default())
    }
}

struct JournalVisitor;

impl<'de> Visitor<'de> for JournalVisitor {
    type Value = Journal;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("`file` or `jetstream`, or a map with one of them and its options")
    }

    fn visit_str<E: Error>(self, found: &str) -> Result<Journal, E> {
        match found {
            "file" => Ok(Journal::default()),
            "jetstream" => Ok(Journal::Jetstream(StreamJournal::default())),
            other => Err(E::custom(refusal(other, &["file", "jetstream"], &[]))),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Journal, A::Error> {
        let mut journal = None;
        while let Some(key) = entries.next_key::<String>()? {
            let found = match key.as_str() {
                "file" => Journal::File(entries.next_value()?),
                "jetstream" => Journal::Jetstream(entries.next_value()?),
                other => return Err(A::Error::custom(refusal(other, &["file", "jetstream"], &[]))),
            };
            if journal.replace(found).is_some() {
                let text = "found `file` and `jetstream`, expected one of them; remedy: leave one out";
                return Err(A::Error::custom(text));
            }
        }
        journal.ok_or_else(|| A::Error::missing_field("file"))
    }
}

impl<'de> Deserialize<'de> for Journal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JournalVisitor)
    }
}

impl JsonSchema for Journal {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Journal".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let file = generator.subschema_for::<FileJournal>();
        let stream = generator.subschema_for::<StreamJournal>();
        let only = |key: &str, schema| json_schema!({ "type": "object", "properties": { key: schema }, "required": [key], "additionalProperties": false });
        json_schema!({
            "oneOf": [
                { "type": "string", "enum": ["file", "jetstream"] },
                only("file", file),
                only("jetstream", stream),
            ],
        })
    }
}

/// A map that somebody else reads.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Unread;

impl<'de> Deserialize<'de> for Unread {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

impl JsonSchema for Unread {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Config".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object" })
    }
}
