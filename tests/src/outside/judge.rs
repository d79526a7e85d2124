//! The judge of the pipeline: compares what was acknowledged with what stands in the file, in the TCP ledger and among
//! the doubts. It knows lines and numbers only.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::lines::{Key, Numbered, Sent};
use super::tally::Tally;

/// One line of the file sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileLine {
    /// Which.
    pub line: Numbered,
    /// The id of its message, by which a doubt names it.
    pub id: String,
    /// Whether the sink itself says that the line may stand there already.
    pub is_repeat: bool,
}

/// Everything that was seen since the last judgement.
#[derive(Clone, Debug, Default)]
pub struct Evidence {
    /// What was sent, by connection.
    pub sent: BTreeMap<Key, Sent>,
    /// The file, in its order.
    pub file: Vec<FileLine>,
    /// The TCP ledger, in its order.
    pub ledger: Vec<Numbered>,
    /// Ids of messages that were handed over as *maybe sent*.
    pub doubts: HashSet<String>,
}

/// What one connection comes to in one sink.
#[derive(Default)]
struct Seen {
    times: HashMap<u64, u64>,
    /// The highest number so far: those that come for the first time must rise.
    top: u64,
}

impl Evidence {
    /// Classes every line.
    #[must_use]
    pub fn judge(&self) -> Tally {
        let mut tally = Tally::default();
        let file = self.read_file(&mut tally);
        let ledger = self.read_ledger(&mut tally);
        let ids: HashMap<Numbered, &str> = self.file.iter().map(|line| (line.line, line.id.as_str())).collect();
        for (key, sent) in &self.sent {
            let top = |sink: &HashMap<Key, Seen>| sink.get(key).map_or(0, |seen| seen.top);
            // A line that is there shows that those before it had come in as well.
            let due = sent.acked.max(top(&file)).max(top(&ledger));
            for number in sent.base + 1..=due {
                let line = Numbered { key: *key, number };
                let is_in =
                    |sink: &HashMap<Key, Seen>| sink.get(key).is_some_and(|seen| seen.times.contains_key(&number));
                let is_doubted = ids.get(&line).is_some_and(|id| self.doubts.contains(*id));
                match (is_in(&file), is_in(&ledger)) {
                    (true, _) if is_doubted => tally.unknown += 1,
                    (true, true) => tally.ok += 1,
                    (false, _) => tally.lost(format!("`{line}` of {sent:?} is not in the file")),
                    (true, false) => {
                        tally.lost(format!("`{line}` of {sent:?} is neither in the ledger nor among the doubts"));
                    }
                }
            }
            if !sent.is_over && sent.acked < sent.sent {
                tally.lost(format!("acknowledgements of {key:?}, which waits: {sent:?}"));
            }
        }
        tally
    }

    /// A second line must say that it is one.
    fn read_file(&self, tally: &mut Tally) -> HashMap<Key, Seen> {
        let mut sink = HashMap::new();
        for FileLine { line, is_repeat, .. } in &self.file {
            let is_again = self.note(&mut sink, *line, "the file", tally);
            if is_again && !is_repeat {
                tally.duplicate(format!("`{line}` stands in the file again, and does not say so"));
            }
        }
        sink
    }

    fn read_ledger(&self, tally: &mut Tally) -> HashMap<Key, Seen> {
        let mut sink = HashMap::new();
        for line in &self.ledger {
            if self.note(&mut sink, *line, "the ledger", tally) {
                tally.duplicate(format!("`{line}` came to the ledger again"));
            }
        }
        sink
    }

    /// Notes that a line is there, and says whether it was before.
    fn note(&self, sink: &mut HashMap<Key, Seen>, line: Numbered, place: &str, tally: &mut Tally) -> bool {
        let sent = self.sent.get(&line.key).copied().unwrap_or_default();
        if line.number == 0 || line.number > sent.sent {
            tally.foreign(format!("`{line}` is in {place}, and nobody sent it"));
        }
        let seen = sink.entry(line.key).or_default();
        let times = seen.times.entry(line.number).or_default();
        *times += 1;
        let is_again = *times > 1 || line.number <= sent.base;
        if !is_again && line.number < seen.top {
            tally.reordered(format!("`{line}` is in {place} behind number {}", seen.top));
        }
        seen.top = seen.top.max(line.number);
        is_again
    }

    /// The highest number of a connection that is known by now.
    #[must_use]
    pub fn top(&self, key: Key) -> u64 {
        let file = self.file.iter().map(|line| line.line);
        let numbers = file.chain(self.ledger.iter().copied()).filter(|line| line.key == key).map(|line| line.number);
        numbers.max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests;
