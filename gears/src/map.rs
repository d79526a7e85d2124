//! `map`: sets, copies, renames and drops fields of a message, in the order its configuration lists.
//! It decides nothing: a gear that has to choose is another gear.

pub(crate) mod place;

use fluxrig_actors::prelude::*;
use fluxrig_actors::protocol::FieldError;
use serde::Deserializer;
use serde::de::Error as _;

use crate::literal::Literal;
use place::Place;

pub use place::PlaceError;

/// Sets, copies, renames and drops fields, one step after the other.
///
/// A field is named by its path: `data.tank.level` is inside the business fields, `meta.iso8583.mti` is the context
/// text under the key `iso8583.mti`. `raw` and the ids of a message cannot be changed.
/// When a step cannot be done, the message goes to the dead-letter wire as it came, with the step's number.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mapping {
    /// What to do, in this order; a step sees what the steps before it did. Each is exactly one of `set`, `copy`,
    /// `rename` and `drop`.
    #[serde(deserialize_with = "checked")]
    steps: Vec<Step>,
}

/// One step.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Step {
    /// Puts a value at a path, with the maps that are missing on the way; what stood there is gone.
    Set(Set),
    /// Puts the value of one path at another as well.
    Copy(Move),
    /// Puts the value of one path at another instead.
    Rename(Move),
    /// Takes out what is at a path; nothing there is well, too.
    Drop(Removal),
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Set {
    /// Where to.
    path: Place,
    /// Any value; for a path in `meta` a text, an integer or a bool.
    value: Literal,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Move {
    /// Where from.
    from: Place,
    /// Where to. In `meta` an integer or a bool becomes its text.
    to: Place,
    /// What happens to a message that has nothing at `from`.
    #[serde(default)]
    missing: Missing,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Removal {
    /// What to take out.
    path: Place,
}

/// What a step does when its source is not there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Missing {
    /// The message is rejected.
    #[default]
    Reject,
    /// The step is left out.
    Skip,
}

/// A step that cannot be what it says, or cannot be done with a message. Never holds a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MappingError {
    /// Not a path.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// Nothing at the source.
    #[error("`{from}` is missing; remedy: let an earlier gear set it, or give the step `missing: skip`")]
    Missing {
        /// The source.
        from: String,
    },
    /// A value that `meta` cannot hold.
    #[error("`{to}` would be of type {found}, expected text, int or bool in `meta`; remedy: put it into `data`")]
    MetaType {
        /// The target.
        to: String,
        /// The type of the value.
        found: &'static str,
    },
    /// Source and target are one place.
    #[error("found `{path}` as both `from` and `to`, expected two places; remedy: remove the step, or change one")]
    Same {
        /// The place.
        path: String,
    },
    /// Something that is no map stands on the way.
    #[error("in `data`, {0}")]
    Field(#[from] FieldError),
}

impl Gear for Mapping {
    const TYPE: &'static str = "map";
    type State = ();

    fn handle(&self, mut msg: FluxMsg, (): &mut (), out: &mut Outlet) -> Result<(), GearError> {
        for (idx, step) in self.steps.iter().enumerate() {
            step.apply(&mut msg).map_err(|error| GearError::reject(format!("steps[{idx}]: {error}")))?;
        }
        out.emit(msg);
        Ok(())
    }
}

/// In code the steps are added one by one.
///
/// ```
/// # use fluxrig_gears::Mapping;
/// let mapping = Mapping::default().set("meta.site", "N1")?.rename("data.seq", "data.number")?.drop("data.scratch")?;
/// let error = mapping.copy("tank.level", "data.level").unwrap_err();
/// assert!(error.to_string().contains("remedy: write `data.tank.level`"));
/// # Ok::<(), fluxrig_gears::MappingError>(())
/// ```
impl Mapping {
    /// Adds a step that puts a value at a path.
    ///
    /// # Errors
    /// When the path is none, or in `meta` and the value neither text, integer nor bool.
    pub fn set(self, path: &str, value: impl Into<Value>) -> Result<Self, MappingError> {
        self.step(Step::Set(Set { path: path.parse()?, value: Literal(value.into()) }))
    }

    /// Adds a step that copies; a message without the source is rejected.
    ///
    /// # Errors
    /// When one of the paths is none, or both are the same.
    pub fn copy(self, from: &str, to: &str) -> Result<Self, MappingError> {
        self.step(Step::Copy(Move { from: from.parse()?, to: to.parse()?, missing: Missing::Reject }))
    }

    /// Adds a step that renames; a message without the source is rejected.
    ///
    /// # Errors
    /// When one of the paths is none, or both are the same.
    pub fn rename(self, from: &str, to: &str) -> Result<Self, MappingError> {
        self.step(Step::Rename(Move { from: from.parse()?, to: to.parse()?, missing: Missing::Reject }))
    }

    /// Adds a step that takes out what is at a path.
    ///
    /// # Errors
    /// When the path is none.
    pub fn drop(self, path: &str) -> Result<Self, MappingError> {
        self.step(Step::Drop(Removal { path: path.parse()? }))
    }

    fn step(mut self, step: Step) -> Result<Self, MappingError> {
        step.check()?;
        self.steps.push(step);
        Ok(self)
    }
}

/// Steps that can never be done are refused when they are read, and not message by message.
fn checked<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Step>, D::Error> {
    let steps = Vec::<Step>::deserialize(deserializer)?;
    for (idx, step) in steps.iter().enumerate() {
        step.check().map_err(|error| D::Error::custom(format_args!("steps[{idx}]: {error}")))?;
    }
    Ok(steps)
}

impl Step {
    fn check(&self) -> Result<(), MappingError> {
        match self {
            Self::Set(set) => set.path.check(&set.value.0),
            Self::Copy(step) | Self::Rename(step) if step.from == step.to => {
                Err(MappingError::Same { path: step.from.to_string() })
            }
            Self::Copy(_) | Self::Rename(_) | Self::Drop(_) => Ok(()),
        }
    }

    fn apply(&self, msg: &mut FluxMsg) -> Result<(), MappingError> {
        match self {
            Self::Set(set) => set.path.put(msg, set.value.0.clone()),
            Self::Copy(step) => match step.from.get(msg) {
                Some(value) => step.to.put(msg, value),
                None => step.without_source(),
            },
            Self::Rename(step) => match step.from.take(msg) {
                Some(value) => step.to.put(msg, value),
                None => step.without_source(),
            },
            Self::Drop(step) => {
                step.path.take(msg);
                Ok(())
            }
        }
    }
}

impl Move {
    fn without_source(&self) -> Result<(), MappingError> {
        match self.missing {
            Missing::Skip => Ok(()),
            Missing::Reject => Err(MappingError::Missing { from: self.from.to_string() }),
        }
    }
}

#[cfg(test)]
mod tests;
