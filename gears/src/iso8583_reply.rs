//! `iso8583_reply`: authors the answer to a request that nobody else will answer.
//! The conductor's errors come here, so that a terminal hears of them in its own language.

use fluxrig_actors::prelude::*;

use crate::iso8583::{Answer, Code, Echo, MTI, MtiError, Mtis, Set};

/// Why there is no answer of a host: set by the conductor.
const ERROR: &str = "conductor.error";
/// Key that the runtime sets in the report of an effect whose outcome is unknown.
const OUTCOME: &str = "fluxrig.outcome";

/// Authors the answer to a decoded request: message type, echoed and set fields, and a response code in field 39.
///
/// The message type of the answer has its third digit one higher and its fourth without *repeat*: `0201` is answered
/// `0210`. A message that is an answer itself goes to the dead-letter wire.
/// Context, trace and return address of the request stay, so that the answer finds its way back.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reply {
    /// Message types of answers that differ from the rule, for example `"0400": "0430"`.
    #[serde(default)]
    mti: Mtis,
    /// Numbers of the fields that are taken from the request where it has them. Without it 2, 3, 4, 7, 11, 12, 13, 32,
    /// 37, 41, 42 and 49. Field 70 always is, in network management messages.
    #[serde(default)]
    echo: Echo,
    /// Fields with these texts, by number. They win over echoed ones.
    #[serde(default)]
    set: Set,
    /// Response code of a message that is no error of the conductor.
    #[serde(default = "approved")]
    code: Code,
    /// Response codes by the conductor's reason in `meta.conductor.error`.
    #[serde(default)]
    codes: Codes,
}

/// Response codes by reason.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct Codes {
    /// No reply in time, or nobody knows whether the request was sent.
    timeout: Code,
    /// No route takes the message.
    no_route: Code,
    /// No destination of the route has its link.
    no_destination: Code,
    /// A field that is needed is missing.
    format: Code,
    /// A request of this key is open already.
    duplicate: Code,
    /// Too many requests are open.
    overload: Code,
    /// A reply to no open request.
    unmatched_reply: Code,
    /// Any other reason.
    other: Code,
}

impl Default for Codes {
    fn default() -> Self {
        let code = |text: &'static str| Code(text.into());
        Self {
            timeout: code("91"),
            no_route: code("92"),
            no_destination: code("91"),
            format: code("30"),
            duplicate: code("94"),
            overload: code("96"),
            unmatched_reply: code("96"),
            other: code("96"),
        }
    }
}

impl Codes {
    fn of(&self, reason: &str) -> &Code {
        match reason {
            "timeout" => &self.timeout,
            "no_route" => &self.no_route,
            "no_destination" => &self.no_destination,
            "format" => &self.format,
            "duplicate" => &self.duplicate,
            "overload" => &self.overload,
            "unmatched_reply" => &self.unmatched_reply,
            _ => &self.other,
        }
    }
}

fn approved() -> Code {
    Code("00".into())
}

impl Gear for Reply {
    const TYPE: &'static str = "iso8583_reply";
    type State = ();

    fn handle(&self, msg: FluxMsg, (): &mut (), out: &mut Outlet) -> Result<(), GearError> {
        let reason = msg.meta.get(ERROR);
        // Without this, a report that comes here by a mistake in the wires would be answered as approved.
        if reason.is_none() && msg.meta.get(OUTCOME).is_some() {
            return Err(GearError::reject(
                "`meta.fluxrig.outcome`: found the report of an effect, expected a request; remedy: wire it to the conductor",
            ));
        }
        let mti = self.mti.of_answer(msg.meta.get(MTI)).map_err(rejected)?;
        let code = reason.map_or(&self.code, |reason| self.codes.of(reason));
        let answer = Answer { mti, echo: &self.echo, set: &self.set, code };
        // An error names the request already, and is itself only its messenger.
        let request = if reason.is_some() { msg.reference } else { None };
        out.emit(answer.author_for(&msg, request, out));
        Ok(())
    }
}

fn rejected(error: MtiError) -> GearError {
    GearError::reject(error.to_string())
}

#[cfg(test)]
mod tests;
