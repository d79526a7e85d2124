//! The journal: what a cut notes, how a group is encoded, where it is stored, and what a restart makes of it.
//! There is no record per commit; one group holds the difference between two cuts.

mod boots;
mod carry;
mod desk;
pub mod disk;
mod drive;
mod image;
mod lock;
mod record;
mod seal;
mod segment;
mod storage;
pub mod stream;
mod writer;

pub use disk::Disk;
pub use disk::real::RealDisk;
pub use drive::Pace;
pub use lock::Holder;
pub use segment::{
    Damage, FORMAT_VERSION, GivenUp, OpenError, OpenOptions, RecoveredGroup, Recovery, Report, SegmentReport,
    SegmentStorage, Torn, Unused, open, owner, quarantine, rack_id, verify,
};
pub use storage::{BoxFuture, Group, GroupAt, Reader, SegmentId, Storage, StorageError, Task, Usage};
pub use writer::{DiskOptions, JournalStats};

pub(crate) use desk::Desk;
pub(crate) use drive::{Control, spawn_task, spawn_thread};
pub(crate) use image::Image;
pub(crate) use record::{
    Birth, BirthBody, Clock, Delta, GearDelta, Kind, Mark, NameRecord, Placed, RecordError, TimerRecord, WireDelta,
    encode,
};
pub(crate) use writer::{Writer, WriterParts};
