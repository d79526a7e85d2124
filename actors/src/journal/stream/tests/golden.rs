//! The bytes of a stream with fixed randomness: a change of the format shows here, and then needs a new version.

use super::*;

fn stream() -> Ground {
    let ground = Ground::new(2026);
    ground.disk.put("rack.key", (0..32).collect());
    ground.stream.set_payload_bytes_max(500);
    let (mut storage, ..) = ground.open().unwrap();
    put(&mut storage, 3, 0, 1, b"the first group");
    put(&mut storage, 4, 3, 1, &[0xab; 600]);
    replace(&mut storage, 4).unwrap();
    put(&mut storage, 9, 4, 1, b"in another segment");
    ground
}

#[test]
fn the_format_does_not_change_by_itself() {
    let ground = stream();
    let mut found = String::new();
    let (first, messages) = ground.stream.messages();
    for (seq, payload) in (first..).zip(&messages) {
        found.push_str(&format!("message {seq} {} bytes\n", payload.len()));
        for (idx, line) in payload.chunks(32).enumerate() {
            let hex: String = line.iter().map(|byte| format!("{byte:02x}")).collect();
            found.push_str(&format!("{:06x} {hex}\n", idx * 32));
        }
    }
    let path = format!("{}/fixtures/journal/stream-1.txt", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        std::fs::write(&path, &found).unwrap();
    }
    assert_eq!(found, std::fs::read_to_string(&path).unwrap());
    ground.kill();
    assert_eq!(epochs(&ground.open().unwrap().2), [(3, 15), (4, 600), (9, 18)]);
}
