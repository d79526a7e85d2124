//! The bytes of a journal with fixed randomness: a change of the format shows here, and then needs a new version.

use super::*;

fn journal() -> SimDisk {
    let sim = SimDisk::new(2026);
    sim.put("rack.key", (0..32).collect());
    let (mut storage, ..) = reopen(&sim).unwrap();
    put(&mut storage, 3, 0, 1, b"the first group");
    storage.flush_now().unwrap();
    put(&mut storage, 4, 3, 1, &[0xab; 600]);
    storage.flush_now().unwrap();
    storage.replace_now(4).unwrap();
    put(&mut storage, 9, 4, 1, b"in another segment");
    drop(storage);
    sim
}

fn printed(sim: &SimDisk, names: &[&str]) -> String {
    let mut out = String::new();
    for name in names {
        let bytes = sim.contents(name).unwrap();
        out.push_str(&format!("{name} {} bytes\n", bytes.len()));
        for (idx, line) in bytes.chunks(32).enumerate().filter(|(_, line)| line.iter().any(|byte| *byte != 0)) {
            let hex: String = line.iter().map(|byte| format!("{byte:02x}")).collect();
            out.push_str(&format!("{:06x} {hex}\n", idx * 32));
        }
    }
    out
}

#[test]
fn the_format_does_not_change_by_itself() {
    let written = printed(&journal(), &["00000001.seg", "00000002.seg"]);
    let sim = SimDisk::new(2026);
    let (mut storage, ..) = reopen(&sim).unwrap();
    put(&mut storage, 0x1234, 0, 1, b"one");
    storage.flush_now().unwrap();
    drop(storage);
    let prepared = printed(&sim, &["00000002.seg"]);
    for (name, found) in [("format-1.txt", written), ("prepared-1.txt", prepared)] {
        let path = format!("{}/fixtures/journal/{name}", env!("CARGO_MANIFEST_DIR"));
        if std::env::var_os("UPDATE_FIXTURES").is_some() {
            std::fs::write(&path, &found).unwrap();
        }
        assert_eq!(found, std::fs::read_to_string(&path).unwrap());
    }
}

/// Segments were prepared as nothing but zeros once: such a one claims nothing and is taken over as well.
#[test]
fn a_segment_that_was_prepared_as_zeros_is_taken_over() {
    let sim = journal();
    sim.put("00000003.seg", vec![0; 65_536]);
    let (mut storage, recovery, _) = reopen(&sim).unwrap();
    assert_eq!((recovery.last_epoch, storage.current()), (9, 3));
    put(&mut storage, 10, recovery.proven_epoch, 1, b"goes on");
    storage.flush_now().unwrap();
    drop(storage);
    assert_eq!(reopen(&sim).unwrap().1.last_epoch, 10);
}

#[test]
fn the_recorded_journal_is_read() {
    // Rebuilt from the fixture alone, so that what earlier code wrote stays readable.
    let text = include_str!("../../../../fixtures/journal/format-1.txt");
    let sim = SimDisk::new(1);
    sim.put("rack.key", (0..32).collect());
    let mut file: Option<(String, Vec<u8>)> = None;
    for line in text.lines().chain([""]) {
        let words: Vec<_> = line.split(' ').collect();
        if let [name, bytes, "bytes"] = words[..] {
            if let Some((name, bytes)) = file.replace((name.to_owned(), vec![0; bytes.parse().unwrap()])) {
                sim.put(&name, bytes);
            }
        } else if let ([at, hex], Some((_, bytes))) = (&words[..], &mut file) {
            let at = usize::from_str_radix(at, 16).unwrap();
            for idx in 0..hex.len() / 2 {
                bytes[at + idx] = u8::from_str_radix(&hex[idx * 2..idx * 2 + 2], 16).unwrap();
            }
        }
    }
    let (name, bytes) = file.unwrap();
    sim.put(&name, bytes);
    let (_, recovery, seen) = reopen(&sim).unwrap();
    assert_eq!(summary(&seen), [(3, 0, 15), (4, 3, 600), (9, 4, 18)]);
    assert_eq!((recovery.proven_epoch, recovery.last_epoch), (4, 9));
    assert_eq!((&seen[0].body[..], &seen[2].body[..]), (&b"the first group"[..], &b"in another segment"[..]));
}
