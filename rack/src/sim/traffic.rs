//! What terminals say, where a user wants something else than what the specification suggests: a small file in YAML.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use super::SimError;
use super::draw;
use super::stage::{Speech, Stage};
use crate::scenario::read_yaml;

/// Messages of terminals, and what is expected of their answers.
///
/// ```yaml
/// messages:
///   - { mti: "0100", set: { "2": "4000001234562", "4": "000000001000" }, expect: ["00", "91"] }
///   - { mti: "0400", gear: terminals, weight: 2 }
/// echoed: [4, 37]    # fields of an answer that must be those of its request; default 2, 4, 7, 37 and 41
/// answers: false     # gears may leave requests without an answer
/// ```
///
/// Fields that a message does not set are filled in where the specification has them, with field 11 as the number of the
/// request: that one is always set so.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Traffic {
    pub(super) messages: Vec<Template>,
    pub(super) echoed: Option<Vec<u8>>,
    pub(super) answers: Option<bool>,
}

/// One message, which terminals send again and again with other numbers.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Template {
    /// Message type.
    pub(super) mti: String,
    /// Fields by number.
    #[serde(default)]
    pub(super) set: BTreeMap<u8, String>,
    /// The server it is for. Default: each.
    #[serde(default)]
    pub(super) gear: Option<String>,
    /// Response codes that an answer may have. Default: any.
    #[serde(default)]
    pub(super) expect: Vec<String>,
    /// How often, beside the others. Default 1.
    #[serde(default = "one")]
    pub(super) weight: u32,
}

fn one() -> u32 {
    1
}

impl Traffic {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, or says what it may not.
    pub fn load(path: &Path) -> Result<Self, SimError> {
        let refuse = |text: String| SimError::Traffic { text };
        let text = std::fs::read_to_string(path).map_err(|error| {
            refuse(format!(
                "{}: found it unreadable ({error}), expected a file; remedy: correct the path",
                path.display()
            ))
        })?;
        Self::parse(&path.display().to_string(), &text)
    }

    /// Reads a text that is called `name` in errors.
    ///
    /// # Errors
    /// As for `load`.
    pub fn parse(name: &str, text: &str) -> Result<Self, SimError> {
        read_yaml(name, text).map_err(|text| SimError::Traffic { text })
    }

    /// What a request of this number at this server is made of.
    pub(super) fn template(&self, seed: u64, number: usize, gear: &str) -> Option<&Template> {
        let fits = |template: &&Template| template.gear.as_deref().is_none_or(|of| of == gear);
        let sum: u64 = self.messages.iter().filter(fits).map(|template| u64::from(template.weight)).sum();
        let mut left = draw(seed, "template", number as u64).checked_rem(sum)?;
        self.messages.iter().filter(fits).find(|template| {
            let weight = u64::from(template.weight);
            let is_it = left < weight;
            left = left.saturating_sub(weight);
            is_it
        })
    }

    /// Refuses messages that nobody could send.
    pub(super) fn check(&self, stage: &Stage) -> Result<(), SimError> {
        for (idx, template) in self.messages.iter().enumerate() {
            let refuse = |text: String| Err(SimError::Traffic { text: format!("`messages[{idx}]`: {text}") });
            let is_mti = template.mti.len() == 4 && template.mti.bytes().all(|byte| byte.is_ascii_digit());
            if !is_mti {
                return refuse(
                    "`mti`: found no message type, expected four digits; remedy: for example \"0100\"".into(),
                );
            }
            let entrances = stage
                .entrances
                .iter()
                .filter(|entrance| template.gear.as_deref().is_none_or(|gear| gear == entrance.gear));
            let specs: Vec<_> = entrances
                .filter_map(|entrance| match &entrance.speech {
                    Speech::Iso8583(spec) => Some(spec),
                    Speech::Lines => None,
                })
                .collect();
            if specs.is_empty() {
                return refuse(
                    "found no server of terminals that speaks ISO 8583 for it, expected one; remedy: correct `gear`"
                        .into(),
                );
            }
            let fields = template.set.iter().map(|(field, text)| (field.to_string(), text.as_str()));
            let fields: fluxrig_actors::protocol::Map = fields.collect();
            if let Some(error) = specs.iter().find_map(|spec| spec.encode(&template.mti, &fields).err()) {
                return refuse(format!("`set`: {error}; remedy: see the specification"));
            }
        }
        Ok(())
    }
}
