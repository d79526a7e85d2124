//! The processes below this one, found in `/proc`; where there is none, nobody is found.

use std::fmt;

use rustix::process::{Pid, Signal, kill_process};

/// A process that runs.
pub(crate) struct Process {
    pid: Pid,
    command: String,
}

impl Process {
    /// Ends it at once. One that has ended meanwhile is fine.
    pub(crate) fn kill(&self) {
        let _ = kill_process(self.pid, Signal::KILL);
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}`", self.pid.as_raw_nonzero(), self.command)
    }
}

/// Takes the place of a parent that ends before its children, so that those stay below this process.
pub(crate) fn adopt() {
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
}

/// Children, their children, and so on, without those that have ended.
pub(crate) fn below() -> Vec<Process> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let all: Vec<(i32, i32)> = entries.filter_map(|entry| parent(entry.file_name().to_str()?.parse().ok()?)).collect();
    let mut found = vec![rustix::process::getpid().as_raw_nonzero().get()];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        found.extend(all.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
        next += 1;
    }
    found
        .into_iter()
        .skip(1)
        .filter_map(|pid| Some(Process { pid: Pid::from_raw(pid)?, command: command(pid) }))
        .collect()
}

/// A process that has not ended, and its parent.
fn parent(pid: i32) -> Option<(i32, i32)> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let has_ended = field("State:")?.starts_with(['Z', 'X']);
    let parent = field("PPid:")?.parse().ok()?;
    (!has_ended).then_some((pid, parent))
}

fn command(pid: i32) -> String {
    let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).trim_end_matches('\0').replace('\0', " ")
}
