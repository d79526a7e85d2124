//! Namespaces for classes that fill a disk or cut a network: the suite starts itself again in some of its own, which end
//! with it. Where the machine gives none, the class is skipped, and says so.

use std::process::{Command, Stdio};

use super::class::Ask;
use super::{full, netns, server_full};

/// What one class needs.
struct Apart {
    /// Of `unshare`.
    flags: &'static [&'static str],
    /// Works where the class does.
    probe: &'static str,
    what: &'static str,
}

const MOUNTS: Apart = Apart { flags: &["-m"], probe: "mount -t tmpfs tmpfs /mnt", what: "mount" };
/// With processes of its own as well, so that no rack outlives a suite that is killed.
const NETWORK: Apart = Apart {
    flags: &["-n", "-p", "-f", "--mount-proc", "--kill-child=TERM"],
    probe: "ip link add one type veth peer name other && tc qdisc add dev one root blackhole && nsenter -t 1 -n true",
    what: "network",
};

/// Root may have namespaces as it is; anybody else as the root of a namespace of users.
const USERS: [&[&str]; 2] = [&[], &["-r"]];

impl Apart {
    fn of(class: &str) -> Option<&'static Self> {
        match class {
            full::NAME | server_full::NAME => Some(&MOUNTS),
            netns::NAME => Some(&NETWORK),
            _ => None,
        }
    }

    fn unshare(&self, users: &[&str]) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "unshare"]).args(users).args(self.flags);
        command
    }
}

/// Runs the class in namespaces of its own, if it needs some: whether it held.
pub(crate) fn run(name: &str, ask: &Ask, rounds: u64) -> Option<bool> {
    let apart = Apart::of(name).filter(|_| !ask.is_inside)?;
    let mut refused = String::new();
    let is_given = |users: &&&[&str]| match apart.unshare(users).args(["sh", "-c", apart.probe]).output() {
        Ok(output) if output.status.success() => true,
        Ok(output) => {
            refused = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
            false
        }
        Err(error) => {
            refused = format!("setpriv: {error}");
            false
        }
    };
    let (Some(users), Ok(own)) = (USERS.iter().find(is_given), std::env::current_exe()) else {
        let Apart { what, flags, .. } = apart;
        let remedy = format!("install util-linux and iproute2, and allow `unshare -r {}`", flags.join(" "));
        eprintln!("SKIPPED: faults `{name}`: no {what} namespace can be had here ({refused}); remedy: {remedy}");
        println!("== {name}: SKIPPED");
        return Some(true);
    };
    let mut command = apart.unshare(users);
    command.arg(own).args([name, "--inside", "--daemon"]).arg(&ask.daemon).stdin(Stdio::null());
    command.args(["--seed", &ask.seed.to_string(), "--rounds", &rounds.to_string()]);
    command.args(ask.is_slice.then_some("--slice"));
    Some(command.status().is_ok_and(|status| status.success()))
}
