//! The gear: what it is told, and what it does with one message.

use fluxrig_actors::prelude::*;

/// Multiplies one number in each message by a constant.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scale {
    /// Dotted path of the number inside `data`, for example `tank.level`.
    field: FieldPath,
    /// Multiplier, dimensionless. `1.0` leaves the number as it is.
    factor: f64,
}

impl Gear for Scale {
    const TYPE: &'static str = "scale";
    type State = ();

    fn handle(&self, mut msg: FluxMsg, (): &mut (), out: &mut Outlet) -> Result<(), GearError> {
        let value = msg.data.number(&self.field)?;
        msg.data.set(&self.field, value * self.factor)?;
        out.emit(msg);
        Ok(())
    }
}
