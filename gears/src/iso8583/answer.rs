//! What the gears that author answers share: which fields are echoed, set and coded, and how an answer is put together.

use std::collections::BTreeMap;

use fluxrig_actors::Outlet;
use fluxrig_actors::protocol::{FluxId, FluxMsg, MapBuilder, SmolStr, Value};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de::Error as _};

use super::mti::FieldNumber;
use super::{FIELDS, MTI};

/// The field that says how it went.
const CODE: &str = "39";
/// Class 8 of message types: network management.
const NETWORK: &str = "8";
/// What a network management message is about.
const NETWORK_CODE: &str = "70";

/// Fields that an answer takes from the request.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[schemars(transparent)]
#[serde(transparent)]
pub(crate) struct Echo(Vec<FieldNumber>);

impl Default for Echo {
    fn default() -> Self {
        let usual = ["2", "3", "4", "7", "11", "12", "13", "32", "37", "41", "42", "49"];
        Self(usual.map(|number| FieldNumber(SmolStr::new_static(number))).into())
    }
}

/// Fields with texts of their own.
#[derive(Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[schemars(transparent)]
pub(crate) struct Set(BTreeMap<FieldNumber, String>);

impl<'de> Deserialize<'de> for Set {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let fields = BTreeMap::<FieldNumber, String>::deserialize(deserializer)?;
        if fields.keys().any(|number| number.0 == CODE) {
            return Err(D::Error::custom("`set`: found field 39, expected others; remedy: write it as `code`"));
        }
        Ok(Self(fields))
    }
}

/// A response code, for field 39.
#[derive(Clone, Debug, PartialEq, Eq, JsonSchema)]
#[schemars(transparent)]
pub(crate) struct Code(#[schemars(with = "String")] pub(crate) SmolStr);

impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let code = String::deserialize(deserializer)?;
        if !(2..=4).contains(&code.len()) || !code.bytes().all(|c| c.is_ascii_alphanumeric()) {
            let found: String = code.chars().take(48).collect();
            return Err(D::Error::custom(format_args!(
                "found response code `{found}`, expected 2 to 4 letters or digits; remedy: write it in quotes, as in `\"00\"`"
            )));
        }
        Ok(Self(code.into()))
    }
}

/// What an answer is made of.
pub(crate) struct Answer<'a> {
    pub(crate) mti: SmolStr,
    pub(crate) echo: &'a Echo,
    /// The later wins, and wins over what is echoed.
    pub(crate) set: &'a Set,
    pub(crate) code: &'a Code,
}

impl Answer<'_> {
    /// The answer to a request: its trace, return address and context, and `ref` set to it.
    pub(crate) fn author(&self, request: &FluxMsg, out: &Outlet) -> FluxMsg {
        let mut answer = out.answer(request);
        let body = &mut *answer;
        for (key, text) in request.meta.iter().filter(|(key, _)| !is_report(key)) {
            body.meta.set(key, text);
        }
        body.meta.set(SmolStr::new_static(MTI), self.mti.clone());
        let asked = request.data.get_key(FIELDS).and_then(Value::as_map);
        let network = (self.mti.get(1..2) == Some(NETWORK)).then_some(NETWORK_CODE);
        let echoed = self.echo.0.iter().map(|number| number.0.as_str()).chain(network);
        let mut fields = MapBuilder::default();
        for number in echoed {
            if let Some(value) = asked.and_then(|asked| asked.get_key(number)) {
                fields.push(number, value.clone());
            }
        }
        for (number, text) in &self.set.0 {
            fields.push(number.0.clone(), text.as_str());
        }
        fields.push(SmolStr::new_static(CODE), self.code.0.clone());
        body.data.insert_key(SmolStr::new_static(FIELDS), fields.build());
        answer
    }

    /// The same for what reports of another message, which is then what is answered.
    pub(crate) fn author_for(&self, report: &FluxMsg, request: Option<FluxId>, out: &Outlet) -> FluxMsg {
        let mut answer = self.author(report, out);
        answer.reference = request.or(answer.reference);
        answer
    }
}

/// Context that speaks of the request's way, and would be wrong about its answer.
fn is_report(key: &str) -> bool {
    key.starts_with("conductor.") || key.starts_with("fluxrig.")
}
