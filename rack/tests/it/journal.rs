//! `fluxrig journal` over every kind of damage: each has its exit code and says the file, what is lost and what can be
//! done; whoever only looks changes nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;

use crate::harness::{Daemon, TempDir, done, passed, text};

/// Files of a journal, by name.
type Files = BTreeMap<String, Vec<u8>>;

/// A scenario that fills a handful of small segments and keeps them.
fn scenario(dir: &TempDir, rack: &str) -> PathBuf {
    let text = format!(
        "meta: {{ name: keeper, version: 0.1.0 }}\n\
         racks: [{{ name: {rack} }}]\n\
         journal: {{ file: {{ segment_bytes: 65536 }} }}\n\
         gears:\n  \
         - {{ name: source, type: generator, config: {{ count: 6000, data: {{ text: {} }} }} }}\n  \
         - {{ name: sink, type: file, config: {{ path: {}/{rack}.jsonl }} }}\n\
         wires:\n  - {{ from: source, to: sink, retention: 1h }}\n",
        "x".repeat(100),
        dir.0.display()
    );
    dir.file(&format!("{rack}.yaml"), &text)
}

/// The journal of a rack that ran and was drained.
fn filled(dir: &TempDir, rack: &str) -> Files {
    let (scenario, data_dir) = (scenario(dir, rack), dir.0.join(rack));
    let daemon = Daemon::start(&scenario, &data_dir);
    daemon.until(|top| passed(top, "source.out->sink.in") == 6000);
    let (code, log) = daemon.terminate();
    assert_eq!(code, Some(0), "{log}");
    load(&data_dir.join("journal"))
}

fn load(journal: &Path) -> Files {
    let entries = std::fs::read_dir(journal).unwrap().map(|entry| entry.unwrap());
    entries.map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap())).collect()
}

fn store(journal: &Path, files: &Files) {
    drop(std::fs::remove_dir_all(journal));
    std::fs::create_dir_all(journal).unwrap();
    files.iter().for_each(|(name, bytes)| std::fs::write(journal.join(name), bytes).unwrap());
}

fn but_lock(mut files: Files) -> Files {
    files.remove("lock");
    files
}

fn ask(data_dir: &Path, arguments: &[&str]) -> (Option<i32>, String, Output) {
    let mut all = vec!["journal", "--data-dir", data_dir.to_str().unwrap()];
    all.extend(arguments);
    let output = done(&all);
    (output.status.code(), text(&output.stdout) + &text(&output.stderr), output)
}

/// What a case works with: the journal, another rack's, and names that every case uses.
struct Ground {
    ours: Files,
    theirs: Files,
    oldest: String,
    middle: String,
    newest: String,
    prepared: String,
}

impl Ground {
    fn new(dir: &TempDir) -> Self {
        let (ours, theirs) = (filled(dir, "north"), filled(dir, "south"));
        let mut begun: Vec<&String> = ours.keys().filter(|name| ours[*name].starts_with(b"FLUXJRNL")).collect();
        // The first group of the newest one says from which on segments count.
        let oldest = &ours[begun[begun.len() - 1]][4096 + 40..4096 + 44];
        let oldest = format!("{:08x}.seg", u32::from_le_bytes(oldest.try_into().unwrap()));
        begun.retain(|name| **name >= oldest);
        assert!(begun.len() >= 3, "{begun:?} of {:?}", ours.keys());
        let prepared = ours.keys().find(|name| ours[*name].starts_with(b"FLUXNEXT")).unwrap();
        // On a slow machine a segment may hold little, and what is behind that counts for nothing.
        let first_group = |name: &str| u32::from_le_bytes(ours[name][4096 + 8..4096 + 12].try_into().unwrap());
        let between = &begun[1..begun.len() - 1];
        let middle = between.iter().find(|name| first_group(name) >= 8192).expect("a group of two chunks or more");
        let [oldest, middle, newest, prepared] =
            [begun[0], middle, begun[begun.len() - 1], prepared].map(String::clone);
        Self { ours, theirs, oldest, middle, newest, prepared }
    }
}

/// One damage: what is done, the exit code, and words that have to be said. `{middle}` and so on stand for names.
struct Case {
    name: &'static str,
    damage: fn(&mut Files, &Ground),
    code: i32,
    words: &'static [&'static str],
}

const CHOICES: &[&str] =
    &["put `", "back from a copy", "repair --give-up", "the rack then starts as it was at epoch", "lost: "];

const CASES: &[Case] = &[
    Case { name: "nothing", damage: |_, _| {}, code: 0, words: &["whole up to epoch "] },
    Case {
        name: "a flipped bit in a group",
        damage: |files, at| files.get_mut(&at.middle).unwrap()[4096 + 200] ^= 1,
        code: 65,
        words: &["{middle}+4096: found a group with checksum", "whole up to epoch", "put `{middle}`"],
    },
    Case {
        name: "a flipped bit in a header",
        damage: |files, at| files.get_mut(&at.middle).unwrap()[50] ^= 1,
        code: 65,
        words: &["{middle}+12: found a header with checksum", "puts aside, under other names: "],
    },
    Case {
        name: "a flipped bit in the rack that the oldest header names",
        damage: |files, at| files.get_mut(&at.oldest).unwrap()[20] ^= 1,
        code: 65,
        words: &["{oldest}+12: found a header with checksum"],
    },
    Case {
        name: "a flipped bit in the last group, which nothing says was flushed",
        damage: |files, at| {
            *files.get_mut(&at.newest).unwrap().iter_mut().rfind(|byte| **byte != 0).unwrap() ^= 0x55;
            // It would say so if that group was the first of its segment.
            drop(files.remove(&at.prepared));
        },
        code: 0,
        words: &["{newest}+", "a torn tail of", "nothing says that it was flushed"],
    },
    Case {
        name: "a cut file",
        damage: |files, at| files.get_mut(&at.middle).unwrap().truncate(30_000),
        code: 65,
        words: &["{middle}+30000: found a file of 30000 bytes", "as it was when the segment was begun"],
    },
    Case {
        name: "an old chunk",
        damage: |files, at| files.get_mut(&at.middle).unwrap()[8192..12_288].fill(0),
        code: 65,
        words: &["{middle}+", "found "],
    },
    Case {
        name: "a missing file",
        damage: |files, at| drop(files.remove(&at.middle)),
        code: 65,
        words: &["{middle}+0: found no file"],
    },
    Case {
        name: "the newest segment missing",
        damage: |files, at| drop(files.remove(&at.newest)),
        code: 65,
        words: &["{newest}+0: found no file", "{prepared} says were flushed", "lost: epochs "],
    },
    Case {
        name: "the newest segment blank",
        damage: |files, at| files.get_mut(&at.newest).unwrap().fill(0),
        code: 65,
        words: &["{newest}+0: found nothing but zeros"],
    },
    Case {
        name: "nothing but the prepared segment",
        damage: |files, at| files.retain(|name, _| !name.ends_with(".seg") || *name == at.prepared),
        code: 65,
        words: &["00000001.seg+0: found no file", "{prepared} says were flushed", "at epoch 0"],
    },
    Case {
        name: "the prepared segment missing",
        damage: |files, at| drop(files.remove(&at.prepared)),
        code: 0,
        words: &["whole up to epoch "],
    },
    Case {
        name: "two files swapped",
        damage: |files, at| {
            let middle = files.insert(at.middle.clone(), at.ours[&at.newest].clone()).unwrap();
            files.insert(at.newest.clone(), middle);
        },
        code: 65,
        words: &["found the header of segment"],
    },
    Case {
        // As in the file of a deleted segment, which is another's by now.
        name: "an older group where no segment was begun",
        damage: |files, at| {
            let group = at.ours[&at.newest][4096..].to_vec();
            let prepared = files.get_mut(&at.prepared).unwrap();
            prepared.truncate(4096);
            prepared.extend(group);
        },
        code: 0,
        words: &["whole up to epoch "],
    },
];

/// Refusals that are no damage: giving up would not mend them.
const REFUSALS: &[Case] = &[
    Case {
        name: "no key",
        damage: |files, _| drop(files.remove("rack.key")),
        code: 65,
        words: &["rack.key: absent although there are", "put the key file back"],
    },
    Case {
        name: "half a key",
        damage: |files, _| files.get_mut("rack.key").unwrap().truncate(16),
        code: 65,
        words: &["rack.key: found 16 bytes, expected 32 bytes", "put the right key file back"],
    },
    Case {
        name: "another key",
        damage: |files, at| drop(files.insert("rack.key".to_owned(), at.theirs["rack.key"].clone())),
        code: 65,
        words: &["found it sealed under key", "put the right key file back"],
    },
    Case {
        name: "a newer format",
        damage: |files, at| files.get_mut(&at.newest).unwrap()[8] = 2,
        code: 65,
        words: &["{newest}: found format version 2, expected at most 1", "start the newer `fluxrig`"],
    },
    Case {
        name: "a segment of another rack",
        damage: |files, at| drop(files.insert("00000fff.seg".to_owned(), at.theirs["00000001.seg"].clone())),
        code: 73,
        words: &["00000fff.seg: found a journal of rack", "expected one of rack `north`", "--data-dir"],
    },
];

fn check(data_dir: &Path, case: &Case, ground: &Ground) -> Output {
    let journal = data_dir.join("journal");
    let mut files = ground.ours.clone();
    (case.damage)(&mut files, ground);
    store(&journal, &files);
    let (code, said, output) = ask(data_dir, &["verify"]);
    assert_eq!(code, Some(case.code), "{}: {said}", case.name);
    for word in case.words {
        let word = [("{oldest}", &ground.oldest), ("{middle}", &ground.middle), ("{newest}", &ground.newest)]
            .iter()
            .fold(word.replace("{prepared}", &ground.prepared), |word, (key, name)| word.replace(key, name));
        assert!(said.contains(&word), "{}: `{word}` is not in: {said}", case.name);
    }
    for other in [&["verify", "--json"][..], &["stats"], &["stats", "--json"]] {
        assert_eq!(ask(data_dir, other).0, Some(case.code), "{}: {other:?}", case.name);
    }
    assert_eq!(but_lock(load(&journal)), but_lock(files), "{}: who only looks changes nothing", case.name);
    output
}

#[test]
fn every_damage_has_its_code_its_place_its_price_and_its_choices() {
    let dir = TempDir::new();
    let ground = Ground::new(&dir);
    let data_dir = dir.0.join("damaged");
    let journal = data_dir.join("journal");
    for case in CASES {
        check(&data_dir, case, &ground);
        let json: Value = serde_json::from_slice(&ask(&data_dir, &["verify", "--json"]).2.stdout).unwrap();
        assert_eq!(json["is_whole"], case.code == 0, "{}: {json}", case.name);
        let before = load(&journal);
        let (code, said, _) = ask(&data_dir, &["repair"]);
        assert_eq!(code, Some(case.code), "{}: {said}", case.name);
        assert_eq!(but_lock(load(&journal)), but_lock(before.clone()), "{}", case.name);
        if case.code == 0 {
            assert_eq!(said, "nothing to repair\n", "{}", case.name);
            continue;
        }
        for word in CHOICES {
            assert!(said.contains(word), "{}: `{word}` is not in: {said}", case.name);
        }
        // Given up on demand, what is left is what was said, and no byte is gone.
        let (code, said, _) = ask(&data_dir, &["repair", "--give-up"]);
        assert_eq!(code, Some(0), "{}: {said}", case.name);
        let left = format!("whole up to epoch {}:", json["give_up"]["last_epoch"]);
        assert!(said.contains("put aside: ") && said.contains(&left), "{}: `{left}` is not in: {said}", case.name);
        let named = |(name, bytes): (String, Vec<u8>)| (name.trim_end_matches(".quarantined").to_owned(), bytes);
        let after: Files = load(&journal).into_iter().map(named).collect();
        assert_eq!(but_lock(after), but_lock(before), "{}", case.name);
        assert_eq!(ask(&data_dir, &["verify"]).0, Some(0), "{}", case.name);
    }
}

#[test]
fn what_giving_up_does_not_mend_is_not_given_up() {
    let dir = TempDir::new();
    let ground = Ground::new(&dir);
    let data_dir = dir.0.join("refused");
    for case in REFUSALS {
        let output = check(&data_dir, case, &ground);
        assert!(text(&output.stderr).contains("; remedy: "), "{}", text(&output.stderr));
        let before = load(&data_dir.join("journal"));
        let (code, said, _) = ask(&data_dir, &["repair", "--give-up"]);
        assert_eq!(code, Some(case.code), "{}: {said}", case.name);
        assert_eq!(but_lock(load(&data_dir.join("journal"))), but_lock(before), "{}", case.name);
    }
    // Nor does a start change anything.
    let before = load(&dir.0.join("south/journal"));
    let north = scenario(&dir, "north");
    let output = done(&["run", north.to_str().unwrap(), "--data-dir", dir.0.join("south").to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(73), "{}", text(&output.stderr));
    let said = text(&output.stderr);
    assert!(said.contains("found a journal of rack `south`, expected one of rack `north`"), "{said}");
    assert_eq!(but_lock(load(&dir.0.join("south/journal"))), but_lock(before));
}

#[test]
fn a_directory_that_is_no_journal_is_left_alone() {
    let dir = TempDir::new();
    let data_dir = dir.0.join("letters");
    let (code, said, _) = ask(&data_dir, &["verify"]);
    assert!(code == Some(73) && said.contains("name the data directory with `--data-dir`"), "{said}");
    let files: Files = [("letter.txt", "dear all"), ("lock", "keep out")]
        .map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec()))
        .into();
    store(&data_dir.join("journal"), &files);
    let north = scenario(&dir, "north");
    let run = ["run", north.to_str().unwrap(), "--data-dir", data_dir.to_str().unwrap()];
    for (code, said) in [
        (ask(&data_dir, &["verify"]).0, ask(&data_dir, &["verify"]).1),
        (ask(&data_dir, &["repair", "--give-up"]).0, ask(&data_dir, &["repair", "--give-up"]).1),
        (done(&run).status.code(), text(&done(&run).stderr)),
    ] {
        assert_eq!(code, Some(73), "{said}");
        assert!(said.contains("found no journal but other files (`letter.txt`)"), "{said}");
    }
    assert_eq!(load(&data_dir.join("journal")), files);
    // An empty one is a journal in which nothing was ever written.
    store(&data_dir.join("journal"), &Files::new());
    let (code, said, _) = ask(&data_dir, &["verify"]);
    assert!(code == Some(0) && said.contains("whole up to epoch 0"), "{said}");
    assert!(load(&data_dir.join("journal")).is_empty());
}
