//! What an operator is shown of a message: ISO 8583 through the masking view of the codec, all else by keys and lengths.

use std::sync::OnceLock;

use fluxrig_actors::protocol::{FluxMsg, Value};
use fluxrig_gears::iso8583::{FIELDS, MTI, SENSITIVE, Spec, mask};
use fluxrig_rack::keys_and_lengths;

/// The mask of `fluxrig run`.
pub(super) fn shown(msg: &FluxMsg) -> String {
    let Some(Value::Map(fields)) = msg.data.get_key(FIELDS) else { return keys_and_lengths(msg) };
    let marked = msg.meta.get(SENSITIVE).unwrap_or_default();
    let mut text = format!("message type {}", msg.meta.get(MTI).filter(|mti| is_type(mti)).unwrap_or("-"));
    for row in mask(msg, spec()) {
        // Which spec decoded it, a message does not say; it does say which other fields that one calls sensitive.
        let is_marked = row.field != "2" && marked.split(',').any(|field| field == row.field);
        let shown = match fields.get_key(&row.field).filter(|_| is_marked) {
            Some(value) => value.to_string(),
            None => row.text,
        };
        text.push_str(&format!("\n{:>4}  {}  {shown}", row.field.escape_debug().to_string(), row.name));
    }
    let mut rest = msg.clone();
    rest.data.remove_key(FIELDS);
    text.push('\n');
    text.push_str(&keys_and_lengths(&rest));
    text
}

fn is_type(mti: &str) -> bool {
    mti.len() == 4 && mti.bytes().all(|byte| byte.is_ascii_digit())
}

/// Field names: those of the standard.
fn spec() -> &'static Spec {
    static SPEC: OnceLock<Spec> = OnceLock::new();
    SPEC.get_or_init(|| Spec::built_in("iso8583-1987-ascii").expect("it is built in"))
}

#[cfg(test)]
mod tests {
    use fluxrig_actors::protocol::{EntityId, FluxId, Map, Trace};

    use super::*;

    #[test]
    fn fields_are_shown_masked_and_nothing_else_is() {
        let mut msg = FluxMsg::new(FluxId::NIL, Trace::default(), EntityId::NIL, 0);
        msg.meta.set(MTI, "0100");
        msg.meta.set(SENSITIVE, "48,2");
        msg.meta.set("site", "secret-site");
        msg.data.insert_key("card", "4111111111111111");
        let fields = [
            ("2", "4111111111111111"),
            ("3", "000000"),
            ("35", "4111111111111111=2512"),
            ("48", "4111111111111111"),
            ("200", "4111111111111111"),
        ];
        msg.data.insert_key(FIELDS, Map::from_iter(fields));
        let text = shown(&msg);
        assert!(text.starts_with("message type 0100\n"), "{text}");
        assert!(text.contains("\n   2  primary account number  411111******1111"), "{text}");
        assert!(text.contains("\n   3  processing code  000000"), "{text}");
        assert!(text.contains("card") && text.contains("site"), "{text}");
        assert!(!text.contains("41111111") && !text.contains("secret"), "{text}");
        msg.data.remove_key(FIELDS);
        assert_eq!(shown(&msg), keys_and_lengths(&msg));
    }
}
