//! One rule of the host: which requests it takes, and what becomes of them.

use std::time::Duration;

use fluxrig_actors::prelude::*;

use crate::iso8583::{Code, Set};
use crate::predicate::Predicate;

/// An hour: what is held longer, no switch waits for.
const HELD_MS_MAX: u64 = 3_600_000;
/// Copies of one answer: the bound of what one message may cause.
const DUPLICATES_MAX: u32 = 100;

/// A checked rule.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "Config")]
pub(super) struct Rule {
    when: Option<Predicate>,
    chance: f64,
    pub(super) action: Action,
    pub(super) timing: Timing,
    pub(super) duplicates: u32,
}

#[derive(Clone, Debug)]
pub(super) enum Action {
    Answer { code: Code, set: Set },
    Drop,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Timing {
    Now,
    Delay(Duration),
    /// Counted from the request's deadline.
    Late(Duration),
}

/// What is done with some requests. Without `answer`, `decline` and `drop` they are answered with code `00`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Rule")]
struct Config {
    /// Which requests; without it every one.
    #[serde(default)]
    when: Option<Predicate>,
    /// How many of these requests, by chance, from 0 to 1. The others go on to the next rule.
    #[serde(default)]
    chance: Option<f64>,
    /// Answer.
    #[serde(default)]
    answer: Option<AnswerConfig>,
    /// Decline: answer with a code other than `00`.
    #[serde(default)]
    decline: Option<DeclineConfig>,
    /// Do not answer.
    #[serde(default)]
    drop: Option<bool>,
    /// Answer after this time; milliseconds.
    #[serde(default)]
    delay_ms: Option<u64>,
    /// Answer so long after the request's deadline, or after its arrival when it has none; milliseconds.
    #[serde(default)]
    late_ms: Option<u64>,
    /// Send the answer more than once.
    #[serde(default)]
    duplicate: Option<DuplicateConfig>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct AnswerConfig {
    /// Response code; `00` without it.
    #[serde(default)]
    code: Option<Code>,
    /// Fields with these texts, by number. They win over echoed ones.
    #[serde(default)]
    set: Set,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct DeclineConfig {
    /// Response code.
    code: Code,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct DuplicateConfig {
    /// Copies beside the answer, 1 to 100.
    count: u32,
}

/// A rule that cannot be what it says.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
enum RuleError {
    #[error("found {found} of `answer`, `decline` and `drop`, expected one at most; remedy: make two rules of it")]
    Actions { found: usize },
    #[error("`chance`: found {found}, expected 0 to 1; remedy: write for example 0.25 for every fourth")]
    Chance { found: f64 },
    #[error("`decline.code`: found `00`, which approves, expected another; remedy: use `answer`")]
    Approved,
    #[error("`{key}`: found it beside `drop`, expected none, since nothing is sent; remedy: remove one of them")]
    Dropped { key: &'static str },
    #[error("found both `delay_ms` and `late_ms`, expected one at most; remedy: remove one")]
    Times,
    #[error("`{key}`: found {found} ms, expected at most {HELD_MS_MAX}; remedy: lower it")]
    Held { key: &'static str, found: u64 },
    #[error("`duplicate.count`: found {found}, expected 1 to {DUPLICATES_MAX}; remedy: correct it")]
    Duplicates { found: u32 },
}

impl Rule {
    /// Whether it decides about this request.
    pub(super) fn fits(&self, msg: &FluxMsg, out: &mut Outlet) -> bool {
        let is_meant = self.when.as_ref().is_none_or(|when| when.holds(msg));
        // 53 bits are what a float can tell apart between 0 and 1.
        is_meant && (self.chance >= 1.0 || ((out.random() >> 11) as f64) < self.chance * (1_u64 << 53) as f64)
    }
}

impl TryFrom<Config> for Rule {
    type Error = RuleError;

    fn try_from(config: Config) -> Result<Self, RuleError> {
        let is_dropped = config.drop == Some(true);
        let found =
            usize::from(config.answer.is_some()) + usize::from(config.decline.is_some()) + usize::from(is_dropped);
        if found > 1 {
            return Err(RuleError::Actions { found });
        }
        if is_dropped {
            for (key, is_there) in [
                ("delay_ms", config.delay_ms.is_some()),
                ("late_ms", config.late_ms.is_some()),
                ("duplicate", config.duplicate.is_some()),
            ] {
                if is_there {
                    return Err(RuleError::Dropped { key });
                }
            }
        }
        let chance = config.chance.unwrap_or(1.0);
        if !(0.0..=1.0).contains(&chance) {
            return Err(RuleError::Chance { found: chance });
        }
        let duplicates = config.duplicate.map(|duplicate| duplicate.count);
        if let Some(found) = duplicates.filter(|count| !(1..=DUPLICATES_MAX).contains(count)) {
            return Err(RuleError::Duplicates { found });
        }
        let timing = timing(config.delay_ms, config.late_ms)?;
        let action = if is_dropped { Action::Drop } else { action(config.answer, config.decline)? };
        Ok(Self { when: config.when, chance, action, timing, duplicates: duplicates.unwrap_or_default() })
    }
}

fn action(answer: Option<AnswerConfig>, decline: Option<DeclineConfig>) -> Result<Action, RuleError> {
    if let Some(DeclineConfig { code }) = decline {
        return match code.0.bytes().all(|c| c == b'0') {
            true => Err(RuleError::Approved),
            false => Ok(Action::Answer { code, set: Set::default() }),
        };
    }
    let (code, set) = answer.map_or_else(Default::default, |answer| (answer.code, answer.set));
    Ok(Action::Answer { code: code.unwrap_or_else(super::approved), set })
}

fn timing(delay_ms: Option<u64>, late_ms: Option<u64>) -> Result<Timing, RuleError> {
    let checked = |key, ms: u64| match ms {
        found if found > HELD_MS_MAX => Err(RuleError::Held { key, found }),
        ms => Ok(Duration::from_millis(ms)),
    };
    match (delay_ms, late_ms) {
        (Some(_), Some(_)) => Err(RuleError::Times),
        (Some(ms), None) => checked("delay_ms", ms).map(Timing::Delay),
        (None, Some(ms)) => checked("late_ms", ms).map(Timing::Late),
        (None, None) => Ok(Timing::Now),
    }
}

impl JsonSchema for Rule {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Rule".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        Config::json_schema(generator)
    }
}
