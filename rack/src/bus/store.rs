//! The store of a managed server before it starts: what a server that was killed while it made a stream or a consumer
//! has left. The server never recovers that by itself and is not healthy with it; nobody was ever told that it was made.

use std::io;
use std::path::{Path, PathBuf};

/// What a stream and a consumer are known by; without both the server leaves them out.
const NEEDED: [&str; 2] = ["meta.inf", "meta.sum"];
/// So many may be put aside under one name.
const ASIDE_MAX: u32 = 10_000;

/// Puts aside, and says so, what was never finished: streams without a message and consumers without a place that lack
/// what they are known by. What holds anything stays where it is, and the server says that it cannot be recovered.
pub(crate) fn put_aside_unfinished(store: &Path, aside: &Path) -> io::Result<Vec<PathBuf>> {
    let mut moved = Vec::new();
    for account in folders(&store.join("jetstream"))? {
        for stream in folders(&account.join("streams"))? {
            if is_unfinished(&stream) && is_empty(&stream.join("msgs"))? {
                moved.push(put_aside(&stream, aside)?);
                continue;
            }
            for consumer in folders(&stream.join("obs"))? {
                if is_unfinished(&consumer) && !consumer.join("o.dat").exists() {
                    moved.push(put_aside(&consumer, aside)?);
                }
            }
        }
    }
    for path in &moved {
        tracing::warn!(
            path = %path.display(),
            "bus: found a stream or consumer that nats-server was killed in the middle of making; it is put aside"
        );
    }
    Ok(moved)
}

fn folders(path: &Path) -> io::Result<Vec<PathBuf>> {
    match std::fs::read_dir(path) {
        Ok(entries) => {
            let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
            paths.retain(|path| path.is_dir());
            Ok(paths)
        }
        // What is no folder is for the server to complain about.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn is_unfinished(folder: &Path) -> bool {
    NEEDED.iter().any(|file| !folder.join(file).exists())
}

/// Whether no block of messages holds a byte.
fn is_empty(messages: &Path) -> io::Result<bool> {
    match std::fs::read_dir(messages) {
        Ok(entries) => {
            for entry in entries {
                let entry = entry?;
                if entry.path().extension().is_some_and(|extension| extension == "blk") && entry.metadata()?.len() > 0 {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

fn put_aside(folder: &Path, aside: &Path) -> io::Result<PathBuf> {
    std::fs::create_dir_all(aside)?;
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut free = (1..ASIDE_MAX).map(|number| aside.join(format!("{name}.{number}"))).filter(|path| !path.exists());
    let to = free.next().ok_or_else(|| io::Error::other("too much was put aside already"))?;
    std::fs::rename(folder, &to)?;
    Ok(to)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &Path, text: &str) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    #[test]
    fn only_what_was_never_finished_and_holds_nothing_is_put_aside() {
        let dir = std::env::temp_dir().join(format!("fluxrig-rack-store-{}", std::process::id()));
        let (store, aside) = (dir.join("store"), dir.join("aside"));
        assert_eq!(put_aside_unfinished(&store, &aside).unwrap(), Vec::<PathBuf>::new());
        let streams = store.join("jetstream/$G/streams");
        for name in ["whole", "unfinished", "no_sum", "damaged"] {
            let text = if matches!(name, "whole" | "damaged") { "message" } else { "" };
            file(&streams.join(name).join("msgs/1.blk"), text);
        }
        for path in ["whole/meta.inf", "whole/meta.sum", "no_sum/meta.inf", "unfinished/meta.inf.tmp"] {
            file(&streams.join(path), "meta");
        }
        for path in [
            "whole/obs/made/meta.inf",
            "whole/obs/made/meta.sum",
            "whole/obs/half/meta.inf.tmp",
            "whole/obs/placed/o.dat",
        ] {
            file(&streams.join(path), "meta");
        }
        let mut moved = put_aside_unfinished(&store, &aside).unwrap();
        moved.sort();
        assert_eq!(moved, ["half.1", "no_sum.1", "unfinished.1"].map(|name| aside.join(name)));
        let left = |path: &str| streams.join(path).exists();
        assert!(left("whole/obs/made") && left("whole/obs/placed") && left("damaged") && !left("no_sum"));
        // A second one of the same name has a place as well.
        file(&streams.join("no_sum/meta.inf"), "meta");
        assert_eq!(put_aside_unfinished(&store, &aside).unwrap(), [aside.join("no_sum.2")]);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
