//! The real disk: one directory of the file system, positioned writes and `fdatasync`.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{Disk, DiskFile, Lock};

/// A directory of the file system.
#[derive(Debug)]
pub struct RealDisk {
    dir: PathBuf,
    // Kept open, so that the directory that is flushed is the one the files were created in.
    handle: File,
}

impl RealDisk {
    /// Opens a directory, creating it and its parents when absent; their names are made durable.
    ///
    /// # Errors
    /// When the system refuses, for example on a read-only file system.
    pub fn open(dir: impl AsRef<Path>) -> io::Result<RealDisk> {
        let dir = dir.as_ref().to_path_buf();
        if !dir.is_dir() {
            create_durably(&dir)?;
        }
        let handle = File::open(&dir)?;
        Ok(RealDisk { dir, handle })
    }
}

fn create_durably(dir: &Path) -> io::Result<()> {
    if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        if !parent.is_dir() {
            create_durably(parent)?;
        }
        match fs::create_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => other?,
        }
        return File::open(parent)?.sync_all();
    }
    fs::create_dir_all(dir)
}

impl Disk for RealDisk {
    fn create_new(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600);
        Ok(Arc::new(RealFile(options.open(self.dir.join(name))?)))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let path = self.dir.join(name);
        let file = match OpenOptions::new().read(true).write(true).open(&path) {
            // Whoever only looks (`verify` on a copy, a read-only mount) still can.
            Err(error) if is_read_only(&error) => File::open(&path)?,
            other => other?,
        };
        Ok(Arc::new(RealFile(file)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        // A hard link refuses an existing name, which `rename` would silently replace.
        fs::hard_link(self.dir.join(from), self.dir.join(to))?;
        fs::remove_file(self.dir.join(from))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.dir.join(name))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            // A name that is not UTF-8 is none of ours.
            names.extend(entry?.file_name().into_string().ok());
        }
        Ok(names)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.handle.sync_all()
    }

    fn try_lock(&self, name: &str, holder: &[u8]) -> io::Result<Lock> {
        let path = self.dir.join(name);
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        match file.try_lock() {
            Ok(()) => {
                file.set_len(0)?;
                file.rewind()?;
                file.write_all(holder)?;
                Ok(Lock::Held(Box::new(file)))
            }
            Err(TryLockError::WouldBlock) => {
                let mut found = Vec::new();
                file.take(4096).read_to_end(&mut found)?;
                Ok(Lock::Taken(found))
            }
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn free_bytes(&self) -> Option<u64> {
        // What this user may still take, not what the file system keeps for root.
        rustix::fs::statvfs(&self.dir).ok().map(|file_system| file_system.f_bavail.saturating_mul(file_system.f_frsize))
    }

    fn random(&self, buf: &mut [u8]) -> io::Result<()> {
        getrandom::fill(buf).map_err(io::Error::other)
    }

    fn spawn(&self, work: Box<dyn FnOnce() + Send>) -> io::Result<()> {
        std::thread::Builder::new().name("journal-disk".to_owned()).spawn(work).map(drop)
    }

    fn has_threads(&self) -> bool {
        true
    }

    fn label(&self) -> String {
        self.dir.display().to_string()
    }
}

fn is_read_only(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied)
}

struct RealFile(File);

impl DiskFile for RealFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buf.len() {
            match self.0.read_at(&mut buf[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(got) => done += got,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}
