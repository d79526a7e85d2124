//! The same code on the real disk, in a directory of its own.

use std::{fs, path::PathBuf};

use super::*;
use crate::journal::{disk::real::RealDisk, lock::Holder};

struct TempDir(PathBuf);

impl TempDir {
    fn new(name: &str) -> TempDir {
        let dir = std::env::temp_dir().join(format!("fluxrig-journal-{name}-{}", std::process::id()));
        drop(fs::remove_dir_all(&dir));
        TempDir(dir)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

#[test]
fn groups_survive_on_the_real_disk() {
    let dir = TempDir::new("groups");
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(dir.0.join("deep/data")).unwrap());
    let holder = Holder::this_process(&*disk, "test").unwrap();
    let options = OpenOptions { segment_bytes: 1 << 20, holder: holder.clone(), ..options() };
    let (mut storage, ..) = open_with(disk.clone(), options.clone()).unwrap();
    let reader = storage.reader();
    let mut places = Vec::new();
    for epoch in 1..=200u64 {
        let body = vec![epoch as u8; 20_000];
        let before = storage.current();
        let at = put(&mut storage, epoch, epoch - 1, 1, &body);
        assert_eq!(at.segment, before);
        storage.flusher()().unwrap();
        places.push(at);
    }
    for (idx, at) in places.iter().enumerate() {
        assert_eq!(reader.read(*at).unwrap()[..], vec![idx as u8 + 1; 20_000][..]);
    }
    assert!(storage.usage().segments >= 4);
    match open_with(disk.clone(), options.clone()) {
        Err(OpenError::Locked { holder: found, .. }) => assert_eq!(found, holder),
        other => panic!("{:?}", other.map(|(_, recovery, _)| recovery)),
    }
    drop(storage);
    let (mut storage, recovery, seen) = open_with(disk.clone(), options.clone()).unwrap();
    assert_eq!((recovery.groups, recovery.last_epoch, recovery.proven_epoch), (200, 200, 199));
    assert!(seen.iter().zip(1..).all(|(group, epoch)| group.body[..] == vec![epoch as u8; 20_000][..]));
    drop(seen);
    let current = storage.current();
    put(&mut storage, 201, 199, current, b"carried");
    storage.flush_now().unwrap();
    assert!(storage.trim(current).unwrap() >= 4);
    drop(storage);
    let (_, recovery, seen) = open_with(disk, options).unwrap();
    assert_eq!((recovery.groups, recovery.oldest), (1, current));
    assert_eq!(seen[0].body[..], b"carried"[..]);
}

#[test]
fn the_key_file_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let dir = TempDir::new("key");
    let disk: Arc<dyn Disk> = Arc::new(RealDisk::open(&dir.0).unwrap());
    drop(open_with(disk, options()).unwrap());
    let mode = fs::metadata(dir.0.join("rack.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}
