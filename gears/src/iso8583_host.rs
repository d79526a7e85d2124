//! `iso8583_host`: a host that answers by rules, for trials and tests of a switch. It keeps no accounts.
//! Answers that are held back live in memory only: a restart forgets them, as a host that went down would.

mod rule;

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::time::Duration;

use fluxrig_actors::prelude::*;
use fluxrig_actors::protocol::SmolStr;

use crate::iso8583::{Answer, Code, Echo, MTI, Mtis, Set};
use rule::{Action, Rule, Timing};

/// Answers decoded requests by rules: the first rule that fits decides.
///
/// A request that no rule fits is answered with `code`. Echoed fields, message type, trace and return address are as
/// with `iso8583_reply`; a network management request (`0800`) is answered the same way, with field 70.
/// A message that is an answer itself goes to the dead-letter wire.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// What to do with which request; the first that fits, counts.
    #[serde(default)]
    rules: Vec<Rule>,
    /// Response code of requests that no rule fits.
    #[serde(default = "approved")]
    code: Code,
    /// Message types of answers that differ from the rule, for example `"0400": "0430"`.
    #[serde(default)]
    mti: Mtis,
    /// Numbers of the fields that are taken from the request where it has them. Without it 2, 3, 4, 7, 11, 12, 13, 32,
    /// 37, 41, 42 and 49. Field 70 always is, in network management messages.
    #[serde(default)]
    echo: Echo,
    /// Answers that may be held back at a time by `delay_ms` and `late_ms`. A request beyond goes to the dead letters.
    #[serde(default = "held_messages_max")]
    held_messages_max: NonZeroUsize,
}

fn approved() -> Code {
    Code("00".into())
}

fn held_messages_max() -> NonZeroUsize {
    NonZeroUsize::new(10_000).expect("it is not zero")
}

/// Answers that are held back, by the key of their timer.
#[derive(Debug, Default)]
pub struct Held(HashMap<SmolStr, (FluxMsg, u32)>);

impl Gear for Host {
    const TYPE: &'static str = "iso8583_host";
    type State = Held;

    fn handle(&self, msg: FluxMsg, held: &mut Held, out: &mut Outlet) -> Result<(), GearError> {
        let mti = self.mti.of_answer(msg.meta.get(MTI)).map_err(|error| GearError::reject(error.to_string()))?;
        let rule = self.rules.iter().find(|rule| rule.fits(&msg, out));
        let (code, set) = match rule.map(|rule| &rule.action) {
            Some(Action::Drop) => return Ok(()),
            Some(Action::Answer { code, set }) => (code, set),
            None => (&self.code, &Set::default()),
        };
        let mut answer = Answer { mti, echo: &self.echo, set, code }.author(&msg, out);
        let copies = 1 + rule.map_or(0, |rule| rule.duplicates);
        let after = match rule.map_or(Timing::Now, |rule| rule.timing) {
            Timing::Now => {
                emit(answer, copies, out);
                return Ok(());
            }
            Timing::Delay(after) => after,
            Timing::Late(after) => {
                let deadline = msg.expires.unwrap_or_else(|| out.now_ns());
                let left = u64::try_from(deadline.saturating_sub(out.now_ns())).unwrap_or_default();
                // With its deadline no endpoint would send it any more, and late is what it should be.
                answer.expires = None;
                Duration::from_nanos(left) + after
            }
        };
        self.hold(answer, copies, after, held, out)
    }

    fn on_timer(&self, key: &str, held: &mut Held, out: &mut Outlet) -> Result<(), GearError> {
        // The timer outlives a restart, what it was set for does not.
        if let Some((answer, copies)) = held.0.remove(key) {
            emit(answer, copies, out);
        }
        Ok(())
    }
}

impl Host {
    fn hold(
        &self,
        answer: FluxMsg,
        copies: u32,
        after: Duration,
        held: &mut Held,
        out: &mut Outlet,
    ) -> Result<(), GearError> {
        let max = self.held_messages_max;
        if held.0.len() >= max.get() {
            return Err(GearError::reject(format!(
                "found {max} answers held back, expected fewer; remedy: raise `held_messages_max`, or send slower"
            )));
        }
        // The request's id: no two requests have one, and a delivery that is repeated replaces what it left.
        let key = SmolStr::from(answer.id.to_string());
        out.timer(key.clone(), after);
        held.0.insert(key, (answer, copies));
        Ok(())
    }
}

fn emit(answer: FluxMsg, copies: u32, out: &mut Outlet) {
    for _ in 1..copies {
        out.emit(answer.clone());
    }
    out.emit(answer);
}

#[cfg(test)]
mod tests;
