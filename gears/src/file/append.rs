//! The file of the sink: opened, locked, mended, and written at its end; a write that fails leaves no trace.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use super::{Flush, mend};

/// Why the file cannot be written to. Never holds what was to be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum OpenError {
    #[error("file `{path}`: found it impossible to open ({source}), expected a writable file in a folder that is there; remedy: make the folder, or mend its permissions", path = .path.display())]
    Open { path: PathBuf, source: io::Error },
    #[error("file `{path}`: found it locked by another writer, expected one sink per file; remedy: stop the other, or choose another path", path = .path.display())]
    Held { path: PathBuf },
    #[error("file `{path}`: found a last line that no sink has written, expected lines of this sink; remedy: choose another path, or end that line", path = .path.display())]
    Foreign { path: PathBuf },
    #[error("file `{path}`: found it impossible to append ({source}), expected room and a healthy disk; remedy: make room, it then goes on by itself", path = .path.display())]
    Write { path: PathBuf, source: io::Error },
}

/// What is written to: a file, or in tests something that fails.
pub(super) trait Target: Write {
    fn len(&self) -> io::Result<u64>;
    fn set_len(&self, len: u64) -> io::Result<()>;
    fn sync(&self) -> io::Result<()>;
}

impl Target for File {
    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        File::set_len(self, len)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

/// A file that lines are appended to.
#[derive(Debug)]
pub(super) struct Appender<T = File> {
    target: T,
    flush: Flush,
    /// A regular file: it has a length and can be flushed. A pipe or a terminal does not.
    is_regular: bool,
}

impl Appender {
    /// Opens or makes the file, locks it and mends its end.
    pub(super) fn open(path: &Path, flush: Flush) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Open { path: path.to_owned(), source };
        let mut file = options().open(path).map_err(failed)?;
        let is_regular = file.metadata().map_err(failed)?.is_file();
        if is_regular {
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(OpenError::Held { path: path.to_owned() }),
                // A file system without locks: then the operator vouches for one sink per file.
                Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => {}
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
            match mend::mend(&mut file).map_err(failed)? {
                mend::Mended::Whole => {}
                mend::Mended::Completed => tracing::info!(path = %path.display(), "line end added to the last line"),
                mend::Mended::Cut { bytes } => {
                    tracing::warn!(path = %path.display(), bytes, "last line was torn by a crash: cut");
                }
                mend::Mended::Foreign => return Err(OpenError::Foreign { path: path.to_owned() }),
            }
            if flush == Flush::Sync {
                sync_entry(path, &file).map_err(failed)?;
            }
        }
        Ok(Self { target: file, flush, is_regular })
    }
}

impl<T: Target> Appender<T> {
    /// Appends whole lines. After an error the file is as long as before, as far as that can still be done; what cannot
    /// is mended when the file is opened again.
    pub(super) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        if !self.is_regular {
            self.target.write_all(lines)?;
            return self.target.flush();
        }
        let before = self.target.len()?;
        let result = self.target.write_all(lines).and_then(|()| match self.flush {
            Flush::Os => Ok(()),
            Flush::Sync => self.target.sync(),
        });
        if result.is_err() {
            // After a failed flush nobody knows what is on the disk: the lines go, and are written anew.
            drop(self.target.set_len(before));
        }
        result
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

/// Makes a new file survive a power cut: its entry in the folder is on the disk before its first line is acknowledged.
fn sync_entry(path: &Path, file: &File) -> io::Result<()> {
    let is_new = file.metadata()?.len() == 0;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if is_new && cfg!(unix) {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;

    /// A disk with room for so many bytes, whose flush may fail.
    #[derive(Default)]
    struct Faulty {
        bytes: RefCell<Vec<u8>>,
        room: usize,
        is_flush_failing: bool,
        is_cut_failing: bool,
        flushes: Cell<usize>,
    }

    impl Write for Faulty {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let room = self.room - self.bytes.borrow().len();
            if room == 0 {
                return Err(ErrorKind::StorageFull.into());
            }
            let taken = &bytes[..bytes.len().min(room)];
            self.bytes.borrow_mut().extend(taken);
            Ok(taken.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Target for Faulty {
        fn len(&self) -> io::Result<u64> {
            Ok(self.bytes.borrow().len() as u64)
        }

        fn set_len(&self, len: u64) -> io::Result<()> {
            if self.is_cut_failing {
                return Err(ErrorKind::ReadOnlyFilesystem.into());
            }
            self.bytes.borrow_mut().truncate(usize::try_from(len).unwrap());
            Ok(())
        }

        fn sync(&self) -> io::Result<()> {
            self.flushes.set(self.flushes.get() + 1);
            if self.is_flush_failing { Err(io::Error::from_raw_os_error(5)) } else { Ok(()) }
        }
    }

    fn appender(target: Faulty, flush: Flush) -> Appender<Faulty> {
        Appender { target, flush, is_regular: true }
    }

    #[test]
    fn a_write_that_runs_out_of_room_leaves_no_half_line() {
        let mut out = appender(Faulty { room: 20, ..Faulty::default() }, Flush::Os);
        out.append(b"0123456789\n").unwrap();
        assert_eq!(out.append(b"0123456789\n").unwrap_err().kind(), ErrorKind::StorageFull);
        assert_eq!(*out.target.bytes.borrow(), b"0123456789\n");
        out.target.room = 30;
        out.append(b"abc\n").unwrap();
        assert_eq!(*out.target.bytes.borrow(), b"0123456789\nabc\n");
    }

    #[test]
    fn lines_whose_flush_fails_are_taken_out_so_that_a_retry_writes_them_once() {
        let mut out = appender(Faulty { room: 99, is_flush_failing: true, ..Faulty::default() }, Flush::Sync);
        out.append(b"abc\n").unwrap_err();
        assert!(out.target.bytes.borrow().is_empty());
        out.target.is_flush_failing = false;
        out.append(b"abc\n").unwrap();
        assert_eq!(*out.target.bytes.borrow(), b"abc\n");
    }

    #[test]
    fn a_disk_that_cannot_even_cut_still_reports_the_first_error() {
        let mut out = appender(Faulty { room: 2, is_cut_failing: true, ..Faulty::default() }, Flush::Os);
        assert_eq!(out.append(b"abc\n").unwrap_err().kind(), ErrorKind::StorageFull);
    }

    #[test]
    fn errors_say_where_what_and_how_to_go_on() {
        let path = || PathBuf::from("/var/lib/out.jsonl");
        let errors = [
            OpenError::Open { path: path(), source: ErrorKind::NotFound.into() },
            OpenError::Held { path: path() },
            OpenError::Foreign { path: path() },
            OpenError::Write { path: path(), source: ErrorKind::StorageFull.into() },
        ];
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        expect_test::expect![[r#"
            file `/var/lib/out.jsonl`: found it impossible to open (entity not found), expected a writable file in a folder that is there; remedy: make the folder, or mend its permissions
            file `/var/lib/out.jsonl`: found it locked by another writer, expected one sink per file; remedy: stop the other, or choose another path
            file `/var/lib/out.jsonl`: found a last line that no sink has written, expected lines of this sink; remedy: choose another path, or end that line
            file `/var/lib/out.jsonl`: found it impossible to append (no storage space), expected room and a healthy disk; remedy: make room, it then goes on by itself"#]].assert_eq(&texts.join("\n"));
    }

    #[test]
    fn only_sync_flushes() {
        for (flush, flushes) in [(Flush::Os, 0), (Flush::Sync, 2)] {
            let mut out = appender(Faulty { room: 99, ..Faulty::default() }, flush);
            out.append(b"a\n").unwrap();
            out.append(b"b\n").unwrap();
            assert_eq!(out.target.flushes.get(), flushes, "{flush:?}");
        }
    }
}
