//! A child that cannot outlive its rack: the rack starts itself again, that process asks the kernel to be killed with
//! its parent, looks whether the parent is still there, and becomes the program. The wish survives the `exec`.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Pid, Signal, getpid, getppid, set_parent_process_death_signal};

/// The hidden command of the binary that does it: `GUARD PARENT PROGRAM ARGUMENTS`.
pub const GUARD: &str = "guard-child";

/// Becomes a program that is killed when `parent` ends. Comes back only when that cannot be.
///
/// The kernel means the *thread* that started this process: it must live as long as the rack.
#[must_use]
pub fn guard(parent: i32, program: &OsString, arguments: &[OsString]) -> io::Error {
    if let Err(error) = set_parent_process_death_signal(Some(Signal::KILL)) {
        return error.into();
    }
    // It may have ended before the wish was heard.
    if getppid() != Pid::from_raw(parent) {
        return io::Error::other("found the rack gone, expected it to have started this");
    }
    Command::new(program).args(arguments).exec()
}

/// This process, as its children name it.
pub(crate) fn own_pid() -> String {
    getpid().as_raw_nonzero().to_string()
}
