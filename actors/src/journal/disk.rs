//! The file-system seam: one flat directory with files that are written at offsets and flushed explicitly.
//! The same segment code runs over the real disk and over a simulated one with faults.

use std::{io, sync::Arc};

pub mod real;
pub mod sim;

/// One flat directory.
pub trait Disk: Send + Sync + 'static {
    /// Creates a file that must not exist, readable by its owner only. Its name is durable after [`Disk::sync_dir`].
    ///
    /// # Errors
    /// When the name exists or the system refuses.
    fn create_new(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens a file for reading and, unless the disk is read-only, for writing.
    ///
    /// # Errors
    /// When it is not there or the system refuses.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Gives a file another name, replacing nothing.
    ///
    /// # Errors
    /// When the file is not there, the new name exists, or the system refuses.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file's name.
    ///
    /// # Errors
    /// When it is not there or the system refuses.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// The names of all files, in no particular order.
    ///
    /// # Errors
    /// When the system refuses.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Makes every name created, renamed or removed so far durable.
    ///
    /// # Errors
    /// When the system refuses.
    fn sync_dir(&self) -> io::Result<()>;

    /// Takes the lock file `name`, creating it when absent, and leaves `holder` in it.
    ///
    /// # Errors
    /// When the system refuses; a lock that another holds is not an error.
    fn try_lock(&self, name: &str, holder: &[u8]) -> io::Result<Lock>;

    /// Bytes free for the data directory, where that is known.
    fn free_bytes(&self) -> Option<u64>;

    /// Fills a buffer with randomness fit for keys.
    ///
    /// # Errors
    /// When the system has none.
    fn random(&self, buf: &mut [u8]) -> io::Result<()>;

    /// Runs work beside the caller; a simulated disk runs it at once, so that runs repeat.
    ///
    /// # Errors
    /// When the system has no thread for it.
    fn spawn(&self, work: Box<dyn FnOnce() + Send>) -> io::Result<()>;

    /// Whether work given to [`Disk::spawn`] runs beside the caller, so that the two may wait for each other.
    fn has_threads(&self) -> bool;

    /// How the directory is called in messages.
    fn label(&self) -> String;
}

/// What trying a lock gave.
pub enum Lock {
    /// Ours until the value is dropped or the process ends.
    Held(Box<dyn Send + Sync>),
    /// Another's; what its holder wrote into the file.
    Taken(Vec<u8>),
}

/// One file.
pub trait DiskFile: Send + Sync {
    /// Reads at an offset until the buffer is full or the file ends; returns how much.
    ///
    /// # Errors
    /// When the system refuses.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes everything at an offset. After an error any part of it may have been written.
    ///
    /// # Errors
    /// When the system refuses.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Makes everything written to this file durable. After an error nothing written since the last success can be
    /// trusted, whatever later calls say.
    ///
    /// # Errors
    /// When the system refuses.
    fn sync_data(&self) -> io::Result<()>;

    /// Length in bytes.
    ///
    /// # Errors
    /// When the system refuses.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file holds nothing.
    ///
    /// # Errors
    /// When the system refuses.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}

/// Reads a whole file of at most `bytes_max` bytes.
pub(super) fn read_up_to(file: &dyn DiskFile, bytes_max: u64) -> io::Result<Vec<u8>> {
    let len = file.len()?.min(bytes_max);
    let mut buf = vec![0; usize::try_from(len).map_err(io::Error::other)?];
    let got = file.read_at(&mut buf, 0)?;
    buf.truncate(got);
    Ok(buf)
}
