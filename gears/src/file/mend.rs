//! The end of a file that a crash may have torn: cut back to the last whole line, or completed.
//! What this sink has not written is never touched.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};

/// How every line of the sink begins.
const OPENING: &[u8] = br#"{"id":""#;
/// Read first when the last line end is looked for; then twice as much, and so on.
const STEP_BYTES: u64 = 64 * 1024;
/// No line of ours is longer: a message has at most 2 MiB, and a byte of it at most six in JSON.
const LINE_BYTES_MAX: u64 = 16 << 20;

/// What was done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Mended {
    /// Nothing: the last line has its end.
    Whole,
    /// Only the line end was missing.
    Completed,
    /// The last line was not whole.
    Cut { bytes: u64 },
    /// Nothing: the last line has no end, and is not ours.
    Foreign,
}

/// Makes sure that the file ends with a whole line, or is empty.
pub(super) fn mend(file: &mut File) -> io::Result<Mended> {
    let len = file.metadata()?.len();
    let (start, tail) = last_line(file, len)?;
    if tail.is_empty() {
        return Ok(Mended::Whole);
    }
    // After a power cut a file may be longer than what was written: the rest reads as zeros.
    let text_len = tail.iter().rposition(|&byte| byte != 0).map_or(0, |idx| idx + 1);
    let text = &tail[..text_len];
    let shared = text.len().min(OPENING.len());
    if text[..shared] != OPENING[..shared] {
        return Ok(Mended::Foreign);
    }
    if serde_json::from_slice::<serde::de::IgnoredAny>(text).is_ok() {
        file.set_len(start + text_len as u64)?;
        file.write_all(b"\n")?;
        return Ok(Mended::Completed);
    }
    file.set_len(start)?;
    Ok(Mended::Cut { bytes: len - start })
}

/// What stands behind the last line end, and where it starts.
fn last_line(file: &mut File, len: u64) -> io::Result<(u64, Vec<u8>)> {
    let mut step = STEP_BYTES;
    loop {
        let start = len.saturating_sub(step);
        let mut tail = Vec::new();
        file.seek(SeekFrom::Start(start))?;
        (&*file).take(step).read_to_end(&mut tail)?;
        if let Some(idx) = tail.iter().rposition(|&byte| byte == b'\n') {
            return Ok((start + idx as u64 + 1, tail.split_off(idx + 1)));
        }
        if start == 0 || step > LINE_BYTES_MAX {
            return Ok((start, tail));
        }
        step *= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::harness::TempDir;

    /// Mends a file with this content, and gives what was done and what stands there then.
    fn check(content: &[u8]) -> (Mended, Vec<u8>) {
        let dir = TempDir::new();
        let path = dir.path().join("out.jsonl");
        std::fs::write(&path, content).unwrap();
        let mut file = std::fs::OpenOptions::new().read(true).append(true).open(&path).unwrap();
        let mended = mend(&mut file).unwrap();
        assert!(matches!(mend(&mut file).unwrap(), Mended::Whole | Mended::Foreign), "twice is once");
        (mended, std::fs::read(&path).unwrap())
    }

    #[test]
    fn a_file_torn_at_any_byte_is_mended_to_whole_lines() {
        let whole = b"{\"id\":\"1\",\"data\":{}}\n{\"id\":\"2\",\"data\":{\"a\":\"\\n\"}}\n";
        for len in 0..=whole.len() {
            let (mended, left) = check(&whole[..len]);
            assert_ne!(mended, Mended::Foreign, "cut at {len}");
            assert!(whole.starts_with(&left) && (left.is_empty() || left.ends_with(b"\n")), "cut at {len}");
            let is_line_end_missing = whole[len..].starts_with(b"\n");
            assert_eq!(mended == Mended::Completed, is_line_end_missing, "cut at {len}");
        }
    }

    #[test]
    fn zeros_behind_the_last_write_are_cut() {
        assert_eq!(check(b"{\"id\":\"1\"}\n\0\0\0\0"), (Mended::Cut { bytes: 4 }, b"{\"id\":\"1\"}\n".to_vec()));
        assert_eq!(check(b"{\"id\":\"1\"}\0\0"), (Mended::Completed, b"{\"id\":\"1\"}\n".to_vec()));
    }

    #[test]
    fn a_line_longer_than_one_step_is_found_whole() {
        let long = format!("{{\"id\":\"{}", "x".repeat(3 * STEP_BYTES as usize));
        let content = format!("{{\"id\":\"1\"}}\n{long}");
        assert_eq!(check(content.as_bytes()).1, b"{\"id\":\"1\"}\n");
        assert_eq!(check(long.as_bytes()).1, b"");
    }

    #[test]
    fn what_somebody_else_wrote_is_left_alone() {
        assert_eq!(check(b"# notes without a line end"), (Mended::Foreign, b"# notes without a line end".to_vec()));
        let endless = vec![b'x'; 40 << 20];
        assert!(check(&endless) == (Mended::Foreign, endless));
        assert_eq!(check(b"# notes\n"), (Mended::Whole, b"# notes\n".to_vec()));
    }
}
