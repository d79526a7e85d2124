//! Walks over values that this version cannot name, checks their form and keeps nothing of them.
//! Any CBOR is welcome here, tags and simple values included, as long as it is deterministic.

use std::cmp::Ordering;

use super::{Head, Reader};
use crate::cbor::error::{Fault, Step};

impl Reader<'_> {
    /// Walks over one value of any kind, tags and simple values included, and checks that it is deterministic.
    pub(crate) fn skip(&mut self, depth: usize) -> Step<()> {
        let head = self.head()?;
        match (head.major, head.info) {
            (0 | 1, _) => {}
            (2, _) => drop(self.take(head.number)?),
            (3, _) => drop(self.text(head.number)?),
            (4, _) => {
                let count = self.claimed(head, 1)?;
                self.enter(head.at, depth + 1)?;
                for _ in 0..count {
                    self.skip(depth + 1)?;
                }
            }
            (5, _) => self.skip_map(head, depth + 1)?,
            (6, _) => {
                self.enter(head.at, depth + 1)?;
                self.skip(depth + 1)?;
            }
            (_, 25..=27) => drop(self.float(head)?),
            _ => {}
        }
        Ok(())
    }

    fn skip_map(&mut self, head: Head, depth: usize) -> Step<()> {
        let count = self.open_map(head, depth)?;
        let mut last: Option<&[u8]> = None;
        for _ in 0..count {
            let at = self.at;
            self.skip(depth)?;
            let key = self.since(at);
            self.key_len(at, key.len() as u64)?;
            match last.map(|last| last.cmp(key)) {
                None | Some(Ordering::Less) => last = Some(key),
                Some(Ordering::Equal) => return self.fail(at, Fault::Duplicate),
                Some(Ordering::Greater) => return self.fail(at, Fault::Unordered),
            }
            self.skip(depth)?;
        }
        Ok(())
    }
}
