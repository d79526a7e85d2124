//! How a message is shown to an operator. The one place through which anything of a message leaves for a person's eyes.

use fluxrig_actors::protocol::FluxMsg;
use serde::{Deserialize, Serialize};

use crate::scenario::Checked;

/// How much room there is to show a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// As many lines as it takes.
    Page,
    /// One line, with what matters first.
    Line,
}

/// Where a message was when it became a dead letter, or where it goes when it is looked at on its way.
#[derive(Clone, Copy, Debug)]
pub struct Whence<'a> {
    /// The scenario, which says how messages are read there.
    pub checked: &'a Checked,
    /// The gear that could not handle it, or that will get it.
    pub gear: &'a str,
    /// How it is to be shown.
    pub form: Form,
}

/// Shows what a person may see of a message's `data`.
///
/// This is the seam for views that know a protocol and mask what is sensitive in it; whoever embeds a rack sets one in
/// [`RackOptions`](crate::RackOptions).
pub type Mask = fn(&FluxMsg, &Whence<'_>) -> String;

/// Keys, types and lengths, never a value: what is shown unless somebody knows better.
#[must_use]
pub fn keys_and_lengths(msg: &FluxMsg, _: &Whence<'_>) -> String {
    // `Debug` of a message's parts prints no values; that is tested where it is written.
    format!("meta {:?} data {:?}", msg.meta, msg.data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::check_text;
    use fluxrig_actors::protocol::{EntityId, FluxId, Trace};

    #[test]
    fn no_value_is_shown() {
        let mut msg = FluxMsg::new(FluxId::NIL, Trace::default(), EntityId::NIL, 0);
        msg.meta.set("route", "secret-route");
        msg.data.insert_key("pan", "4111111111111111");
        let text = "meta: { name: x, version: 0.1.0 }\ngears: [{ name: a, type: generator }]";
        let checked = check_text("x", text, &fluxrig_gears::standard(), &|_| None).unwrap();
        let shown = keys_and_lengths(&msg, &Whence { checked: &checked, gear: "a", form: Form::Page });
        assert!(shown.contains("pan") && shown.contains("route"), "{shown}");
        assert!(!shown.contains("4111") && !shown.contains("secret"), "{shown}");
    }
}
