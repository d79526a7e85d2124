//! The simulator on our own examples, which must be clean, and on scenarios that are broken on purpose, which it must
//! catch, and shrink to a plan that still fails.

use std::path::Path;

use fluxrig_actors::prelude::*;
use fluxrig_actors::{About, Category, Maturity};

use super::*;
use crate::scenario::{check_file, check_text};

/// Seeds that every change must pass; `fluxrig sim` runs as many as are wanted.
const SEEDS: u64 = 8;

/// Loses or doubles what passes, as its configuration says.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Leaky {
    /// One of so many is lost; 0 for none.
    #[serde(default)]
    loses_one_of: u64,
    /// One of so many is passed on twice; 0 for none.
    #[serde(default)]
    doubles_one_of: u64,
    /// Answers go to the terminal that asked last.
    #[serde(default)]
    mixes_up: bool,
}

#[derive(Debug, Default)]
struct Seen {
    count: u64,
    last: Option<bytes::Bytes>,
}

impl Gear for Leaky {
    const TYPE: &'static str = "leaky";
    type State = Seen;

    fn handle(&self, mut msg: FluxMsg, seen: &mut Seen, out: &mut Outlet) -> Result<(), GearError> {
        seen.count += 1;
        let is_nth = |one_of: u64| one_of > 0 && seen.count.is_multiple_of(one_of);
        if is_nth(self.loses_one_of) {
            return Ok(());
        }
        if is_nth(self.doubles_one_of) {
            out.emit(msg.clone());
        }
        if self.mixes_up {
            let own = msg.return_to.clone();
            if let Some(other) = seen.last.take() {
                msg.return_to = Some(other);
            }
            seen.last = own;
        }
        out.emit(msg);
        Ok(())
    }
}

fn catalog() -> Catalog {
    fluxrig_gears::standard().with::<Leaky>(About { category: Category::Logic, maturity: Maturity::Preview })
}

fn example(name: &str) -> Subject {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/payments").join(name);
    let checked = check_file(&path, &catalog(), &|_| None).unwrap();
    Subject::new(&checked, &catalog(), None, Traffic::default()).unwrap()
}

fn parsed(text: &str) -> Result<Subject, SimError> {
    let checked = check_text("f", text, &catalog(), &|_| None).unwrap_or_else(|error| panic!("{error}"));
    Subject::new(&checked, &catalog(), None, Traffic::default())
}

/// A switch in front of one host, with `leaky` on the way in, on the way to the host and on the way out.
fn leaky(inward: &str, onward: &str, outward: &str) -> Subject {
    let iso = "type: io_iso8583, config: { framing: { length: be16 }";
    let codec = "type: codec_iso8583, config: { spec: iso8583-1987-ascii, direction";
    let text = format!(
        "meta: {{ name: leaky, version: 0.1.0 }}
gears:
  - {{ name: terminals, {iso}, mode: server, bind: \"127.0.0.1:8583\" }} }}
  - {{ name: read, {codec}: decode }} }}
  - {{ name: inward, type: leaky, config: {{ {inward} }} }}
  - name: switch
    type: conductor
    config: {{ timeout_ms: 2000, key: [data.iso8583.7, data.iso8583.11], destinations: [{{ name: host, link: line }}], routes: [{{ to: host }}] }}
  - {{ name: decline, type: iso8583_reply, config: {{}} }}
  - {{ name: strays, type: log, config: {{ level: debug }} }}
  - {{ name: outward, type: leaky, config: {{ {outward} }} }}
  - {{ name: write, {codec}: encode }} }}
  - {{ name: onward, type: leaky, config: {{ {onward} }} }}
  - {{ name: write_host, {codec}: encode }} }}
  - {{ name: line, {iso}, mode: client, connect: \"127.0.0.1:8584\", backoff_ms: {{ first: 20, max: 1000 }} }} }}
  - {{ name: read_host, {codec}: decode }} }}
wires:
  - {{ from: terminals.out, to: read.in }}
  - {{ from: read.out, to: inward.in }}
  - {{ from: inward.out, to: switch.in }}
  - {{ from: switch.host, to: onward.in }}
  - {{ from: onward.out, to: write_host.in }}
  - {{ from: write_host.out, to: line.in }}
  - {{ from: line.out, to: read_host.in }}
  - {{ from: read_host.out, to: switch.reply }}
  - {{ from: switch.out, to: outward.in }}
  - {{ from: switch.error, to: decline.in }}
  - {{ from: decline.out, to: outward.in }}
  - {{ from: outward.out, to: write.in }}
  - {{ from: switch.unmatched, to: strays.in }}
  - {{ from: write.out, to: terminals.in }}
"
    );
    parsed(&text).unwrap()
}

/// The rules that some seeds of a scenario break, and the shortest replay of the first of them, run once more.
fn caught(subject: &Subject) -> (Vec<&'static str>, Report) {
    let options = Options { requests: 24, span: Duration::from_secs(8), ..Options::default() };
    let failed = (0..20).map(|seed| subject.run(seed, &options)).find(|report| !report.is_clean());
    let report = failed.expect("one of twenty seeds notices it");
    let checks = report.violations.iter().map(|violation| violation.check).collect();
    let shrunk = shrink(subject, &report, &options).unwrap();
    let again = subject.run(report.seed, &shrunk.options);
    assert_eq!(again, shrunk.report);
    assert!(again.violations.iter().any(|violation| violation.check == report.violations[0].check), "{again}");
    assert!(
        again.plan.len() <= report.plan.len() && again.plan.len() <= 12,
        "{} of {}",
        again.plan.len(),
        report.plan.len()
    );
    (checks, again)
}

#[test]
fn our_examples_break_no_rule_and_meet_every_fault() {
    for name in ["scenario.yaml", "relay.yaml"] {
        let (subject, options, mut totals) = (example(name), Options::default(), Totals::default());
        for seed in 0..SEEDS {
            let report = subject.run(seed, &options);
            assert!(report.is_clean(), "{name}: {report}");
            totals.add(&report);
        }
        assert_eq!(totals.vacuous(&options), []);
    }
}

#[test]
fn lines_arrive_in_order_and_echoes_come_back() {
    let door = "{ name: door, type: io_tcp, config: { mode: server, bind: \"127.0.0.1:7000\", framing: { delimiter: \"\\n\" } } }";
    let line = "{ name: line, type: io_tcp, config: { mode: client, connect: \"127.0.0.1:7001\", framing: { length: be16 } } }";
    let head = "meta: { name: lines, version: 0.1.0 }";
    let relay = format!(
        "{head}\ngears: [{door}, {line}, {{ name: seen, type: log }}]\nwires: [{{ from: door, to: line }}, {{ from: line, to: seen }}]\n"
    );
    let echo = format!("{head}\ngears: [{door}]\nwires: [{{ from: door, to: door }}]\n");
    for text in [relay, echo] {
        let subject = parsed(&text).unwrap();
        for seed in 0..SEEDS {
            let report = subject.run(seed, &Options::default());
            assert!(report.is_clean(), "{report}");
        }
    }
}

#[test]
fn a_seed_repeats_itself_byte_by_byte() {
    for name in ["scenario.yaml", "relay.yaml"] {
        let subject = example(name);
        for seed in [2, 5] {
            let [first, second] = [(), ()].map(|()| subject.run(seed, &Options::default()));
            assert_eq!(first, second);
            assert_eq!(first.json().to_string(), second.json().to_string());
            assert_ne!(first.log, subject.run(seed + 1, &Options::default()).log);
        }
    }
}

#[test]
fn a_switch_as_it_should_be_is_clean() {
    let subject = leaky("", "", "");
    for seed in 0..SEEDS {
        let report = subject.run(seed, &Options::default());
        assert!(report.is_clean(), "{report}");
    }
}

#[test]
fn a_lost_request_is_caught() {
    let (checks, replay) = caught(&leaky("loses_one_of: 6", "", ""));
    assert!(checks.contains(&"no outcome"), "{checks:?}");
    assert!(replay.requests <= 6, "{replay}");
}

#[test]
fn a_lost_answer_is_caught() {
    let (checks, _) = caught(&leaky("", "", "loses_one_of: 6"));
    assert!(checks.contains(&"no outcome"), "{checks:?}");
}

#[test]
fn a_request_that_is_sent_twice_is_caught() {
    let (checks, _) = caught(&leaky("", "doubles_one_of: 5", ""));
    assert!(checks.contains(&"sent twice"), "{checks:?}");
}

#[test]
fn an_answer_that_is_given_twice_is_caught() {
    let (checks, _) = caught(&leaky("", "", "doubles_one_of: 7"));
    assert!(checks.contains(&"answered more often than asked"), "{checks:?}");
}

#[test]
fn an_answer_to_another_terminal_is_caught() {
    let (checks, _) = caught(&leaky("", "", "mixes_up: true"));
    assert!(checks.contains(&"answer to the wrong connection"), "{checks:?}");
}

#[test]
fn a_fault_that_was_asked_for_and_had_no_effect_is_told() {
    let options =
        Options { faults: vec![Fault::Kill, Fault::Disk], only_faults: Some(Vec::new()), ..Options::default() };
    let mut totals = Totals::default();
    totals.add(&example("relay.yaml").run(0, &options));
    assert_eq!(totals.vacuous(&options), [Fault::Kill, Fault::Disk]);
    assert!(totals.failed.is_empty());
}

#[test]
fn taking_something_from_a_plan_leaves_the_rest_as_it_was() {
    let stage = &example("relay.yaml").stage;
    let whole = plan::Plan::draw(7, stage, &Options::default());
    let options = Options { faults: vec![Fault::Link], only_requests: Some(vec![3, 17]), ..Options::default() };
    let part = plan::Plan::draw(7, stage, &options);
    assert!(!part.faults.is_empty() && part.requests.len() == 2);
    let told = |of: &plan::Plan| shrink::told(of);
    assert!(told(&part).iter().all(|line| told(&whole).contains(line)));
    assert_eq!(options.arguments(), " --faults link --only-requests 3,17");
    assert_eq!(Options::default().arguments(), "");
}

#[test]
fn traffic_says_what_terminals_send_and_what_they_expect() {
    let with = |yaml: &str| {
        let checked = check_text("f", &std::fs::read_to_string(relay()).unwrap(), &catalog(), &|_| None).unwrap();
        Subject::new(&checked, &catalog(), None, Traffic::parse("t.yaml", yaml)?)
    };
    let calm = Options { faults: Vec::new(), ..Options::default() };
    let unrouted = with("messages: [{ mti: \"0400\", set: { 3: \"000000\" }, expect: [\"92\"] }]").unwrap();
    let report = unrouted.run(0, &calm);
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.answered.keys().collect::<Vec<_>>(), ["92"]);
    let wrong = with("messages: [{ mti: \"0400\", expect: [\"00\"] }]").unwrap().run(0, &calm);
    assert_eq!(wrong.violations[0].check, "unexpected answer");
    for (yaml, text) in [
        ("messages: [{ mti: \"04\" }]", "traffic: `messages[0]`: `mti`: found no message type"),
        ("messages: [{ mti: \"0400\", gear: other }]", "traffic: `messages[0]`: found no server"),
        ("messages: [{ mti: \"0400\", set: { 3: \"letters\" } }]", "traffic: `messages[0]`: `set`: "),
        ("mesages: []", "traffic: t.yaml:1:1"),
    ] {
        let error = with(yaml).unwrap_err().to_string();
        assert!(error.starts_with(text) && error.contains("remedy: "), "{error}");
    }
}

fn relay() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/payments/relay.yaml")
}

#[test]
fn what_cannot_be_simulated_is_refused() {
    let head = "meta: { name: f, version: 0.1.0 }\n";
    let server = |port: u16| {
        format!(
            "{{ name: door, type: io_tcp, config: {{ mode: server, bind: \"127.0.0.1:{port}\", framing: {{ delimiter: \"\\n\" }} }} }}"
        )
    };
    let refused =
        |gears: &str, to: &str| parsed(&format!("{head}gears: [{gears}]\nwires: [{{ from: {to} }}]\n")).unwrap_err();
    let file = format!("{}, {{ name: kept, type: file, config: {{ path: absent }} }}", server(7000));
    assert_eq!(refused(&file, "door, to: kept"), SimError::File { gear: "kept".into() });
    let log = "{ name: seen, type: log }";
    assert_eq!(refused(&format!("{}, {log}", server(0)), "door, to: seen"), SimError::Port { gear: "door".into() });
    let generator = format!("{{ name: source, type: generator, config: {{ count: 1 }} }}, {log}");
    assert_eq!(refused(&generator, "source, to: seen"), SimError::NoEntrance);
    let head = format!("{head}bus: {{ managed: true }}\n");
    let on_bus =
        parsed(&format!("{head}gears: [{generator}]\nwires: [{{ from: source, to: seen, backend: jetstream }}]\n"));
    assert_eq!(on_bus.unwrap_err(), SimError::Bus { wire: "source.out->seen.in".into() });
}

/// Rules of the runtime that are broken on purpose, one after the other in the whole process: run it alone, with
/// `cargo test -p fluxrig-rack --lib --features mutants -- broken_rules`.
#[cfg(feature = "mutants")]
#[test]
fn broken_rules_of_the_runtime_are_caught() {
    use fluxrig_actors::mutants::{Mutation, set};

    // Those that a terminal or a host can see: the others need failing gears, changed scenarios, or threads.
    let visible = [
        Mutation::DeleteAnyDeadSegment,
        Mutation::NoTaken,
        Mutation::EffectBeforeMark,
        Mutation::WrittenMarkForFlush,
        Mutation::FailedGroupDropped,
        Mutation::HeaderVoidsNothing,
        Mutation::NextBeforeFlush,
    ];
    let (subject, options) = (example("relay.yaml"), Options { requests: 120, ..Options::default() });
    for mutation in visible {
        set(Some(mutation));
        let caught = (0..60).map(|seed| subject.run(seed, &options)).find(|report| !report.is_clean());
        set(None);
        let report = caught.unwrap_or_else(|| panic!("{mutation:?} survived"));
        println!("{mutation:?}: seed {}, {:?}", report.seed, report.violations[0]);
    }
}
