//! `codec_iso8583`: bytes to fields and back, as a message specification says.
//! The specification is read when the gear is built, so a wrong one is a mistake of the configuration.

use fluxrig_actors::prelude::*;
use fluxrig_actors::protocol::SmolStr;

use crate::iso8583::{FIELDS, MTI, SENSITIVE, Spec};

/// Key that the runtime sets in the report of an effect whose outcome is unknown.
const OUTCOME: &str = "fluxrig.outcome";

/// Translates ISO 8583 messages between bytes and fields.
///
/// `decode` takes `raw` and puts the message type into `meta.iso8583.mti` and each field into `data.iso8583.<number>`:
/// a text, or bytes for a field of kind `b`. `encode` takes these and makes `raw`.
/// A message that is not as the specification says goes to the dead-letter wire; the reason names field and byte, never
/// what stands there. The report of an effect with an unknown outcome has no bytes: `decode` passes it on as it is.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(try_from = "Config")]
pub struct Codec {
    #[schemars(skip)]
    spec: Spec,
    direction: Direction,
    keep_raw: bool,
    keep_fields: bool,
}

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Bytes to fields.
    Decode,
    /// Fields to bytes.
    Encode,
}

/// The configuration as it is written.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// The message specification: `iso8583-1987-ascii`, `iso8583-1987-binary`, the path of a YAML file, or the YAML
    /// itself as a text of several lines.
    spec: String,
    /// `decode` or `encode`.
    direction: Direction,
    /// `decode` leaves the bytes in `raw`.
    #[serde(default)]
    keep_raw: bool,
    /// `encode` leaves the fields in `data.iso8583`.
    #[serde(default)]
    keep_fields: bool,
}

impl TryFrom<Config> for Codec {
    type Error = String;

    fn try_from(config: Config) -> Result<Self, String> {
        let Config { spec, direction, keep_raw, keep_fields } = config;
        match direction {
            Direction::Decode if keep_fields => {
                Err("`keep_fields`: found true with `direction: decode`, which always makes fields; remedy: remove it"
                    .into())
            }
            Direction::Encode if keep_raw => {
                Err("`keep_raw`: found true with `direction: encode`, which always makes `raw`; remedy: remove it"
                    .into())
            }
            _ => Ok(Self { spec: Spec::load(&spec)?, direction, keep_raw, keep_fields }),
        }
    }
}

impl Codec {
    /// A codec in code.
    #[must_use]
    pub fn new(spec: Spec, direction: Direction) -> Self {
        Self { spec, direction, keep_raw: false, keep_fields: false }
    }

    fn decode(&self, msg: &mut FluxMsg) -> Result<(), GearError> {
        let Some(raw) = &msg.raw else {
            // Whoever asked has to learn of it, and this gear stands between.
            if msg.meta.get(OUTCOME).is_some() {
                return Ok(());
            }
            return Err(GearError::reject(
                "`raw`: found none, expected the bytes of a message; remedy: check the wires",
            ));
        };
        let decoded = self.spec.decode(raw).map_err(|error| GearError::reject(error.to_string()))?;
        // Each of these keeps what is known of the message's size: else all fields were counted again at the emit. The
        // bytes go first, so that the copy which the first change makes is one without them.
        if !self.keep_raw {
            msg.set_raw(None);
        }
        msg.set_meta(SmolStr::new_static(MTI), decoded.mti);
        if let Some(marked) = self.spec.marked() {
            msg.set_meta(SmolStr::new_static(SENSITIVE), marked.clone());
        }
        msg.set_data(SmolStr::new_static(FIELDS), decoded.fields);
        Ok(())
    }

    fn encode(&self, msg: &mut FluxMsg) -> Result<(), GearError> {
        let Some(Value::Map(fields)) = msg.data.get_key(FIELDS) else {
            return Err(GearError::reject(
                "`data.iso8583`: found no map of fields; remedy: decode or author the message before",
            ));
        };
        let mti = msg.meta.get(MTI).unwrap_or_default();
        let raw = self.spec.encode(mti, fields).map_err(|error| GearError::reject(error.to_string()))?;
        msg.set_raw(Some(raw.into()));
        if !self.keep_fields {
            msg.data.remove_key(FIELDS);
        }
        Ok(())
    }
}

impl Gear for Codec {
    const TYPE: &'static str = "codec_iso8583";
    type State = ();

    fn handle(&self, mut msg: FluxMsg, (): &mut (), out: &mut Outlet) -> Result<(), GearError> {
        match self.direction {
            Direction::Decode => self.decode(&mut msg)?,
            Direction::Encode => self.encode(&mut msg)?,
        }
        out.emit(msg);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
