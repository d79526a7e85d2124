//! A picture of a supervision tree at one instant, as a value and as a table.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ractor::ActorId;

use crate::exit::ExitReason;
use crate::spec::Kind;
use crate::vitals::Vitals;

/// Where a child is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Status {
    /// Its start function runs, or it waits for a sibling's to end.
    Starting,
    /// It runs.
    Running,
    /// It failed and is started again after this time.
    Backoff {
        /// Time left.
        remaining: Duration,
    },
    /// It ended and is not started again by itself.
    Stopped,
    /// Its supervisor gave up because of it, or it is a supervisor that gave up and holds.
    Failed,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Starting => f.pad("starting"),
            Self::Running => f.pad("running"),
            Self::Backoff { remaining } => f.pad(&format!("backoff {}", short(*remaining))),
            Self::Stopped => f.pad("stopped"),
            Self::Failed => f.pad("failed"),
        }
    }
}

/// One actor and what is below it. Prints as an indented table.
#[derive(Clone, Debug, PartialEq)]
pub struct TreeNode {
    /// Name among its siblings.
    pub name: Arc<str>,
    /// Worker or supervisor.
    pub kind: Kind,
    /// Where it is in its life.
    pub status: Status,
    /// Its actor, while there is one.
    pub id: Option<ActorId>,
    /// How often it was started again.
    pub restarts: u64,
    /// Why it ended the last time.
    pub last_exit: Option<ExitReason>,
    /// How long it has been running.
    pub up_for: Option<Duration>,
    /// What it says about its work.
    pub vitals: Option<Vitals>,
    /// Messages handled per second, smoothed over a few seconds.
    pub rate: Option<f64>,
    /// It has been handling one message for longer than it may.
    pub stuck: bool,
    /// False for a supervisor that did not answer in time, whose children are therefore missing here.
    pub answered: bool,
    /// Below it, in start order.
    pub children: Vec<TreeNode>,
}

impl TreeNode {
    /// The node at a path of names below this one, separated by `/`; the empty path is this node.
    pub fn find(&self, path: &str) -> Option<&TreeNode> {
        path.split('/')
            .filter(|name| !name.is_empty())
            .try_fold(self, |node, name| node.children.iter().find(|child| &*child.name == name))
    }

    /// This node and all below it, parents first, in start order.
    pub fn walk(&self, visit: &mut impl FnMut(&TreeNode)) {
        visit(self);
        for child in &self.children {
            child.walk(visit);
        }
    }

    fn lines(&self, depth: usize, lines: &mut Vec<[String; 9]>) {
        let vital = |value: fn(&Vitals) -> Option<u64>| {
            self.vitals.as_ref().and_then(value).map_or_else(dash, |value| value.to_string())
        };
        let remark = match (self.stuck, self.answered) {
            (true, _) => " STUCK",
            (false, false) => " NO ANSWER",
            (false, true) => "",
        };
        lines.push([
            format!("{:indent$}{}", "", self.name, indent = depth * 2),
            format!("{}{remark}", self.status),
            self.restarts.to_string(),
            self.up_for.map_or_else(dash, short),
            self.rate.map_or_else(dash, |rate| format!("{rate:.1}")),
            vital(|vitals| Some(vitals.depth)),
            vital(|vitals| vitals.oldest_ms),
            vital(|vitals| vitals.busy_ms),
            self.last_exit.as_ref().map_or_else(dash, ExitReason::to_string),
        ]);
        for child in &self.children {
            child.lines(depth + 1, lines);
        }
    }
}

impl fmt::Display for TreeNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = vec![
            ["NAME", "STATUS", "RESTARTS", "UP", "RATE/S", "DEPTH", "OLDEST_MS", "BUSY_MS", "LAST EXIT"]
                .map(str::to_owned),
        ];
        self.lines(0, &mut lines);
        let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
        let widths: [usize; 9] = std::array::from_fn(width);
        for line in &lines {
            let mut text = String::new();
            for (column, (cell, width)) in line.iter().zip(widths).enumerate() {
                // Words to the left, figures to the right, so that both can be compared by eye.
                match column {
                    0 | 1 | 8 => text.push_str(&format!("{cell:<width$}  ")),
                    _ => text.push_str(&format!("{cell:>width$}  ")),
                }
            }
            writeln!(f, "{}", text.trim_end())?;
        }
        Ok(())
    }
}

fn dash() -> String {
    "-".to_owned()
}

/// A duration with one unit, for a column.
fn short(duration: Duration) -> String {
    match duration.as_secs() {
        0 => format!("{}ms", duration.as_millis()),
        seconds @ 1..120 => format!("{seconds}s"),
        seconds @ 120..7_200 => format!("{}min", seconds / 60),
        seconds => format!("{}h", seconds / 3_600),
    }
}

#[cfg(test)]
mod tests;
