//! What this directory remembers of its stream: how far it was acked, and by whom.
//! It accuses a stream that has become shorter; it proves nothing, and a start without it only knows less.

use std::io;
use std::sync::Arc;

use super::super::disk::{Disk, DiskFile, read_up_to};
use super::format::{u32_at, u64_at};

/// Name of the file. Beside it there are no segments: a directory has one journal.
pub(in crate::journal) const MARK_FILE: &str = "stream.mark";
const MAGIC: [u8; 4] = *b"FLXM";
const BYTES: usize = 40;

/// Format version 1, little-endian: magic, CRC32C of what follows, version, zeros, writer, sequence, epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark {
    /// The random number of the opening that wrote it.
    pub(super) writer: u64,
    /// The last sequence that was acked.
    pub(super) seq: u64,
    /// The last epoch that was acked.
    pub(super) epoch: u64,
}

impl Mark {
    fn encode(self) -> [u8; BYTES] {
        let mut out = [0; BYTES];
        out[0..4].copy_from_slice(&MAGIC);
        out[8..12].copy_from_slice(&1u32.to_le_bytes());
        out[16..24].copy_from_slice(&self.writer.to_le_bytes());
        out[24..32].copy_from_slice(&self.seq.to_le_bytes());
        out[32..40].copy_from_slice(&self.epoch.to_le_bytes());
        let crc = crc32c::crc32c(&out[8..]);
        out[4..8].copy_from_slice(&crc.to_le_bytes());
        out
    }

    fn decode(raw: &[u8]) -> Option<Mark> {
        let is_whole = raw.len() == BYTES
            && raw[0..4] == MAGIC
            && u32_at(raw, 4) == crc32c::crc32c(&raw[8..])
            && u32_at(raw, 8) == 1;
        is_whole.then(|| Mark { writer: u64_at(raw, 16), seq: u64_at(raw, 24), epoch: u64_at(raw, 32) })
    }

    /// What was left there; `None` when there is none, or one that a power cut tore.
    pub(super) fn load(disk: &dyn Disk) -> io::Result<Option<Mark>> {
        match disk.open(MARK_FILE) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
            Ok(file) => Ok(Mark::decode(&read_up_to(&*file, BYTES as u64 + 1)?)),
        }
    }
}

/// The file, open for as long as we write. But for its first mark it is left to the page cache: a kill keeps it, and after
/// a power cut an older one accuses less.
pub(super) struct MarkFile {
    file: Option<Arc<dyn DiskFile>>,
}

impl MarkFile {
    pub(super) fn open(disk: &dyn Disk) -> io::Result<MarkFile> {
        let file = match disk.open(MARK_FILE) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let file = disk.create_new(MARK_FILE)?;
                disk.sync_dir()?;
                file
            }
            other => other?,
        };
        Ok(MarkFile { file: Some(file) })
    }

    /// Durable: what an earlier one said of an end that is lost must not come back with a power cut.
    pub(super) fn begin(&mut self, mark: Mark) -> io::Result<()> {
        self.note(mark);
        self.file.as_ref().map_or(Ok(()), |file| file.sync_data())
    }

    pub(super) fn note(&mut self, mark: Mark) {
        if let Some(file) = &self.file
            && let Err(error) = file.write_at(&mark.encode(), 0)
        {
            tracing::warn!(%error, "journal: the mark beside the stream is not kept any more; a stream that loses its end while this rack is down would not be noticed");
            self.file = None;
        }
    }
}
