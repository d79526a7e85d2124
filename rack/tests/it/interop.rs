//! A program by others, pyiso8583, against ours: as a second opinion on the codec, and as terminals of the switch.
//! `cargo xtask setup` fetches it; where it is not there, this is said loudly, and nothing is tested.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use fluxrig_actors::protocol::{Map, Value as Field};
use fluxrig_gears::iso8583::Spec;
use serde_json::Value;

use crate::harness::TempDir;
use crate::payments::Payments;

/// Every run says the same; another number says something else.
const SEED: &str = "8583";
const MESSAGES: usize = 2000;
const REQUESTS: usize = 300;

/// The script, run by the Python that has the package.
fn script(name: &str) -> Option<Command> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python: PathBuf = here.join("../.cache/interop/bin/python");
    if !here.join("../.cache/interop/done").exists() {
        // Not `println`, which nobody sees of a test that passes.
        let skipped = format!("SKIPPED: {name} needs pyiso8583, which is not here; `cargo xtask setup` fetches it\n");
        std::io::stderr().write_all(skipped.as_bytes()).unwrap();
        return None;
    }
    let mut command = Command::new(python);
    command.arg(here.join("tests/interop").join(name));
    Some(command)
}

fn unhex(text: &str) -> Vec<u8> {
    let byte = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(byte).collect()
}

#[test]
fn both_codecs_read_and_write_the_same_bytes() {
    let Some(mut oracle) = script("oracle.py") else { return };
    let mut child = oracle.args([SEED, &MESSAGES.to_string()]).stdout(Stdio::piped()).spawn().unwrap();
    let mut count = 0;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let told: Value = serde_json::from_str(&line.unwrap()).unwrap();
        let field = |text: &str| match text.strip_prefix("b:") {
            Some(hex) => Field::from(unhex(hex)),
            None => Field::from(text),
        };
        let fields = told["fields"].as_object().unwrap();
        let fields: Map = fields.iter().map(|(key, text)| (key.as_str(), field(text.as_str().unwrap()))).collect();
        let (bytes, mti) = (unhex(told["hex"].as_str().unwrap()), told["mti"].as_str().unwrap());
        let spec = Spec::built_in(told["spec"].as_str().unwrap()).unwrap();
        let decoded = spec.decode(&bytes).unwrap_or_else(|error| panic!("{error}: {told}"));
        assert_eq!((&*decoded.mti, &decoded.fields), (mti, &fields), "{told}");
        assert_eq!(spec.encode(mti, &fields).unwrap(), bytes, "{told}");
        count += 1;
    }
    assert!(child.wait().unwrap().success());
    assert_eq!(count, MESSAGES);
}

#[test]
fn terminals_by_others_are_answered_as_they_should_be() {
    let Some(mut client) = script("client.py") else { return };
    let dir = TempDir::new();
    let payments = Payments::start(&dir);
    let status = client.args([&payments.address.to_string(), SEED, &REQUESTS.to_string()]).status().unwrap();
    assert!(status.success(), "client.py ended with {status}");
    assert_eq!(payments.daemon.until(|top| top["dead_letters"] != 0)["dead_letters"], 1);
    let (code, log) = payments.daemon.terminate();
    assert_eq!(code, Some(0), "{log}");
}
