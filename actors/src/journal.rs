//! The journal: what a cut notes, how a group is encoded, where it is stored, and what a restart makes of it.
//! There is no record per commit; one group holds the difference between two cuts.

mod carry;
pub mod disk;
mod drive;
mod image;
mod lock;
mod record;
mod seal;
mod segment;
mod storage;
mod writer;

pub use drive::Pace;
pub use disk::Disk;
pub use disk::real::RealDisk;
pub use lock::Holder;
pub use segment::{OpenError, OpenOptions, Recovery, SegmentStorage, open, rack_id};
pub use storage::{BoxFuture, Group, GroupAt, Reader, SegmentId, Storage, StorageError, Task, Usage};
pub use writer::{DiskOptions, JournalStats};

pub(crate) use drive::{Control, spawn_task, spawn_thread};
pub(crate) use image::{GearImage, Image, WireImage};
pub(crate) use record::{
    Birth, Clock, Delta, GearDelta, Kind, Mark, NameRecord, Placed, RecordError, TimerRecord, WireDelta, encode,
};
pub(crate) use writer::{Writer, WriterParts};
