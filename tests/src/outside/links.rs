//! A network between racks and their server: the server stands in a network namespace of its own, at the far end of one
//! link per rack. A link loses what goes one way, the other way or both; packets vanish, nothing is refused or reset.

use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::daemon::said;
use super::{Outcome, place, tried, wait};

/// A namespace that is not there after this never comes.
const READY_MAX: Duration = Duration::from_secs(20);

/// What a link loses, as the near end sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// All that is sent: the far end hears no more of it.
    Sent,
    /// All that the far end sends.
    Heard,
    /// Either way.
    Both,
}

/// The links. Their far ends are gone with the value.
#[derive(Debug)]
pub struct Links {
    /// Whose namespace is the far one.
    far: Child,
}

impl Links {
    /// So many, in the network namespace of this process, which must be its own.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn new(count: u8) -> Outcome<Self> {
        let mut command = Command::new("unshare");
        // It waits for an end of its input, which comes at the latest with the end of this process.
        command.args(["-n", "cat"]).stdin(Stdio::piped()).stdout(Stdio::null());
        let far = command.spawn().map_err(tried("a network namespace"))?;
        place::born(far.id());
        let links = Self { far };
        let network = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net")).ok();
        let (own, pid) = (network("self"), links.far.id().to_string());
        if !wait::until(READY_MAX, || network(&pid).is_some_and(|far| Some(&far) != own.as_ref())) {
            return Err("a network namespace does not come".to_owned());
        }
        run(&["ip", "link", "set", "lo", "up"])?;
        run(&links.there(&["ip", "link", "set", "lo", "up"]))?;
        (0..count).try_for_each(|idx| links.lay(idx))?;
        Ok(links)
    }

    fn lay(&self, idx: u8) -> Outcome {
        let (name, near, far) = (name(idx), near(idx).to_string(), self.address(idx).to_string());
        let [near_mac, far_mac] = [1, 2].map(|end| format!("02:00:00:00:{idx:02x}:{end:02x}"));
        let pid = self.far.id().to_string();
        let peer = ["type", "veth", "peer", "name", &name, "address", &far_mac, "netns", &pid];
        run(&[&["ip", "link", "add", &name, "address", &near_mac][..], &peer].concat())?;
        let end = |own: &str, other: &str, mac: &str| {
            let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
            [
                words(&format!("ip addr add {own} peer {other} dev {name}")),
                words(&format!("ip link set {name} up")),
                // Who is there is known, as of a router: nobody asks for it over a link that loses the answer.
                words(&format!("ip neigh replace {other} lladdr {mac} dev {name} nud permanent")),
            ]
        };
        end(&near, &far, &far_mac).iter().try_for_each(|words| run(words))?;
        end(&far, &near, &near_mac).iter().try_for_each(|words| run(&self.there(words)))
    }

    /// Where the far end is found over this link.
    #[must_use]
    pub fn address(&self, idx: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 78, idx, 1)
    }

    /// What stands in front of a program that runs at the far ends.
    #[must_use]
    pub fn before(&self) -> Vec<String> {
        ["nsenter", "-t", &self.far.id().to_string(), "-n"].map(str::to_owned).to_vec()
    }

    fn there(&self, words: &[impl AsRef<str>]) -> Vec<String> {
        let words = words.iter().map(|word| word.as_ref().to_owned());
        self.before().into_iter().chain(words).collect()
    }

    /// From now on it loses this.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn lose(&self, idx: u8, loss: Loss) -> Outcome {
        self.ends(idx, loss, |name| format!("tc qdisc add dev {name} root blackhole")).map(drop)
    }

    /// How many packets it has lost since then.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn lost(&self, idx: u8, loss: Loss) -> Outcome<u64> {
        let said = self.ends(idx, loss, |name| format!("tc -s -j qdisc show dev {name}"))?;
        said.iter().map(|said| drops(said)).sum()
    }

    /// It loses nothing any more.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn heal(&self, idx: u8, loss: Loss) -> Outcome {
        self.ends(idx, loss, |name| format!("tc qdisc del dev {name} root")).map(drop)
    }

    /// Runs a command at each end that sends what is lost; what it says.
    fn ends(&self, idx: u8, loss: Loss, command: impl Fn(&str) -> String) -> Outcome<Vec<String>> {
        let command = command(&name(idx));
        let words: Vec<&str> = command.split_whitespace().collect();
        let mut said = Vec::new();
        if loss != Loss::Heard {
            said.push(asked(&words)?);
        }
        if loss != Loss::Sent {
            said.push(asked(&self.there(&words))?);
        }
        Ok(said)
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        drop(self.far.kill());
        drop(self.far.wait());
        place::gone(self.far.id());
    }
}

fn name(idx: u8) -> String {
    format!("bus{idx}")
}

fn near(idx: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 78, idx, 2)
}

fn drops(said: &str) -> Outcome<u64> {
    let queues: serde_json::Value = serde_json::from_str(said).map_err(tried("tc"))?;
    queues[0]["drops"].as_u64().ok_or_else(|| format!("tc: found no `drops` in `{said}`"))
}

fn run(words: &[impl AsRef<str>]) -> Outcome {
    asked(words).map(drop)
}

fn asked(words: &[impl AsRef<str>]) -> Outcome<String> {
    let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
    let output = Command::new(words[0]).args(&words[1..]).output().map_err(tried(words[0]))?;
    if output.status.success() { Ok(said(&output)) } else { Err(format!("{words:?}: {}", said(&output))) }
}
