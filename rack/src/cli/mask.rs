//! What an operator is shown of a message: ISO 8583 through the masking view of the codec, all else by keys and lengths.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};

use fluxrig_actors::protocol::{FluxMsg, Value};
use fluxrig_gears::iso8583::{FIELDS, MTI, SENSITIVE, Spec, mask};
use fluxrig_rack::{Form, Whence, keys_and_lengths};

/// The gear type that says what fields are called.
const CODEC: &str = "codec_iso8583";
/// The spec where no codec names one.
const STANDARD: &str = "iso8583-1987-ascii";

/// Specs that are kept once they were read: a tap shows many messages.
const SPECS_MAX: usize = 64;
/// Longest line.
const LINE_CHARS_MAX: usize = 200;

/// The mask of `fluxrig run`.
pub(super) fn shown(msg: &FluxMsg, whence: &Whence<'_>) -> String {
    let Some(Value::Map(fields)) = msg.data.get_key(FIELDS) else { return cut(keys_and_lengths(msg, whence), whence) };
    let marked = msg.meta.get(SENSITIVE).unwrap_or_default();
    let mti = msg.meta.get(MTI).filter(|mti| is_type(mti)).unwrap_or("-");
    let mut text = match whence.form {
        Form::Page => format!("message type {mti}"),
        Form::Line => mti.to_owned(),
    };
    for row in mask(msg, &spec(whence)) {
        // It may have been decoded by another spec; it says itself which other fields that one calls sensitive.
        let is_marked = row.field != "2" && marked.split(',').any(|field| field == row.field);
        let shown = match fields.get_key(&row.field).filter(|_| is_marked) {
            Some(value) => value.to_string(),
            None => row.text,
        };
        let field = row.field.escape_debug().to_string();
        match whence.form {
            Form::Page => text.push_str(&format!("\n{field:>4}  {}  {shown}", row.name)),
            Form::Line => text.push_str(&format!(" {field}={}", shown.trim_end())),
        }
    }
    if whence.form == Form::Line {
        return cut(text, whence);
    }
    let mut rest = msg.clone();
    rest.data.remove_key(FIELDS);
    text.push('\n');
    text.push_str(&keys_and_lengths(&rest, whence));
    text
}

/// A line that is too long ends with a mark.
fn cut(mut text: String, whence: &Whence<'_>) -> String {
    let end = text.char_indices().nth(LINE_CHARS_MAX).map(|(at, _)| at);
    if let (Form::Line, Some(end)) = (whence.form, end) {
        text.truncate(end);
        text.push('…');
    }
    text
}

fn is_type(mti: &str) -> bool {
    mti.len() == 4 && mti.bytes().all(|byte| byte.is_ascii_digit())
}

/// Field names: those of the codec that it failed in, else of the nearest one before that decodes, else of the standard.
fn spec(whence: &Whence<'_>) -> Arc<Spec> {
    static READ: Mutex<BTreeMap<String, Arc<Spec>>> = Mutex::new(BTreeMap::new());
    let named = codec(whence).and_then(|codec| whence.checked.setting(codec, "spec")).unwrap_or(STANDARD);
    let mut read = READ.lock().expect("nothing panics while it is held");
    if let Some(spec) = read.get(named) {
        return Arc::clone(spec);
    }
    // It was read when the scenario was checked; what it reads besides may be gone by now.
    let spec = Spec::load(named).ok().or_else(|| Spec::built_in(STANDARD)).expect("it is built in");
    let spec = Arc::new(spec);
    if read.len() < SPECS_MAX {
        read.insert(named.to_owned(), Arc::clone(&spec));
    }
    spec
}

fn codec<'a>(whence: &Whence<'a>) -> Option<&'a str> {
    let scenario = &whence.checked.scenario;
    let gear_of = |end: &'a str| end.split('.').next().unwrap_or(end);
    let is_codec = |name: &str| scenario.gears.iter().any(|gear| gear.name.as_str() == name && gear.type_name == CODEC);
    let decodes = |name: &str| whence.checked.setting(name, "direction") == Some("decode");
    let (mut seen, mut next) = (BTreeSet::from([whence.gear]), VecDeque::from([whence.gear]));
    while let Some(name) = next.pop_front() {
        if is_codec(name) && (name == whence.gear || decodes(name)) {
            return Some(name);
        }
        let before = scenario.wires.iter().filter(|wire| gear_of(&wire.to) == name).map(|wire| gear_of(&wire.from));
        next.extend(before.filter(|name| seen.insert(name)));
    }
    None
}

#[cfg(test)]
mod tests {
    use fluxrig_actors::protocol::{EntityId, FluxId, Map, Trace};
    use fluxrig_rack::scenario::{Checked, check_text};

    use super::*;

    /// Two codecs with specs that call field 3 by other names.
    fn checked() -> Checked {
        let spec = |name: &str| {
            let text = Spec::built_in_text("iso8583-1987-ascii").unwrap().replace("processing code", name);
            text.lines().map(|line| format!("        {line}\n")).collect::<String>()
        };
        let codec = |name: &str, direction: &str| {
            format!(
                "  - name: {name}\n    type: codec_iso8583\n    config:\n      direction: {direction}\n      spec: |\n{}",
                spec(&format!("what {name} calls it"))
            )
        };
        let text = format!(
            "meta: {{ name: masks, version: 0.1.0 }}\ngears:\n  - {{ name: source, type: generator }}\n  \
             - {{ name: middle, type: log }}\n  - {{ name: sink, type: log }}\n{}{}wires:\n  - {{ from: source, to: read }}\n  \
             - {{ from: read, to: middle }}\n  - {{ from: middle, to: write }}\n  - {{ from: write, to: sink }}\n",
            codec("read", "decode"),
            codec("write", "encode")
        );
        check_text("masks", &text, &fluxrig_gears::standard(), &|_| None).unwrap_or_else(|errors| panic!("{errors}"))
    }

    #[test]
    fn fields_are_called_as_the_scenario_calls_them() {
        let checked = checked();
        let mut msg = FluxMsg::new(FluxId::NIL, Trace::default(), EntityId::NIL, 0);
        msg.data.insert_key(FIELDS, Map::from_iter([("3", "000000")]));
        for (gear, name) in [
            ("write", "what write calls it"),
            ("middle", "what read calls it"),
            ("sink", "what read calls it"),
            ("source", "processing code"),
        ] {
            let text = shown(&msg, &Whence { checked: &checked, gear, form: Form::Page });
            assert!(text.contains(&format!("   3  {name}  000000")), "{gear}: {text}");
        }
    }

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
        let (checked, gear) = (checked(), "middle");
        let whence = Whence { checked: &checked, gear, form: Form::Page };
        let text = shown(&msg, &whence);
        assert!(text.starts_with("message type 0100\n"), "{text}");
        assert!(text.contains("\n   2  primary account number  411111******1111"), "{text}");
        assert!(text.contains("\n   3  what read calls it  000000"), "{text}");
        assert!(text.contains("card") && text.contains("site"), "{text}");
        assert!(!text.contains("41111111") && !text.contains("secret"), "{text}");
        let line = Whence { form: Form::Line, ..whence };
        assert_eq!(shown(&msg, &line), "0100 2=411111******1111 3=000000 35=text(21) 48=text(16) 200=text(16)");
        msg.data.insert_key(FIELDS, Map::from_iter([("3", "0".repeat(500))]));
        let text = shown(&msg, &line);
        assert!(text.chars().count() == LINE_CHARS_MAX + 1 && text.ends_with("0…"), "{text}");
        msg.data.remove_key(FIELDS);
        assert_eq!(shown(&msg, &line), shown(&msg, &whence));
        assert_eq!(shown(&msg, &whence), keys_and_lengths(&msg, &whence));
    }
}
