//! The judgement of what hosts saw: read off the lines of clients byte by byte, nothing twice, nothing that nobody asked,
//! in the order in which it was asked.

use std::collections::{BTreeMap, BTreeSet};

use bytes::BytesMut;
use fluxrig_gears::sim::is_same_place;

use super::Case;
use crate::sim::message;
use crate::sim::stage::{Exit, Speech};

impl Case<'_> {
    /// Takes apart what went over the lines of clients, connection by connection.
    pub(super) fn read_lines(&mut self) {
        let evidence = self.evidence;
        let mut buffers: BTreeMap<u64, BytesMut> = BTreeMap::new();
        let mut order: BTreeMap<usize, Vec<(u64, usize)>> = BTreeMap::new();
        for (at, heard) in &evidence.heard {
            let exits = &self.subject.stage.exits;
            let Some(idx) = exits.iter().position(|exit| is_same_place(&exit.address, &heard.address)) else {
                continue;
            };
            let exit = exits[idx].clone();
            let buffer = buffers.entry(heard.connection).or_default();
            buffer.extend_from_slice(&heard.bytes);
            loop {
                let body = match exit.frames.take(buffer) {
                    Ok(Some(body)) if body.is_empty() => continue,
                    Ok(Some(body)) => body,
                    Ok(None) => break,
                    Err(_) => {
                        self.find("sent what is no frame", format!("by `{}` at {at} us", exit.gear));
                        break;
                    }
                };
                match message::number(&exit.speech, &body).map(|(number, _)| number) {
                    Some(number) if self.is_planned(number) => {
                        self.story(number).seen.push(*at);
                        order.entry(idx).or_default().push((*at, number));
                    }
                    // Where any bytes are a message, garbage is one.
                    None if matches!(exit.speech, Speech::Lines) => {}
                    _ => self.find("sent what nobody asked", format!("by `{}` at {at} us", exit.gear)),
                }
            }
        }
        for (idx, seen) in order {
            let exit = self.subject.stage.exits[idx].clone();
            self.judge_order(&exit, &seen);
        }
    }

    fn is_planned(&self, number: usize) -> bool {
        self.plan.requests.iter().any(|request| request.idx == number)
    }

    /// What one connection asked once arrives in the order in which it was asked.
    fn judge_order(&mut self, exit: &Exit, seen: &[(u64, usize)]) {
        if exit.behind.is_none() || !self.is_durable() {
            return;
        }
        let mut last: BTreeMap<u64, (u64, usize)> = BTreeMap::new();
        let mut known = BTreeSet::new();
        for (at, number) in seen {
            let Some(story) = self.stories.get(number).filter(|story| story.sent.len() == 1) else { continue };
            let (sent_at, connection) = story.sent[0];
            if !known.insert(*number) {
                continue;
            }
            match last.insert(connection, (sent_at, *number)) {
                Some((before, other)) if before > sent_at => {
                    let found = format!("`{}` sent request {number} behind {other} at {at} us", exit.gear);
                    self.find("order", found);
                }
                _ => {}
            }
        }
    }

    /// A switch sends nothing twice, and nobody sends more often than was asked.
    pub(super) fn judge_sendings(&mut self) {
        if !self.is_durable() {
            return;
        }
        let window = self.window();
        let may_resend = self.subject.stage.exits.iter().any(|exit| exit.may_resend);
        let stories = std::mem::take(&mut self.stories);
        for (number, story) in &stories {
            let mut seen = story.seen.clone();
            seen.sort_unstable();
            let is_near =
                |pair: &[u64]| window.is_some_and(|window| u128::from(pair[1] - pair[0]) < window.as_micros());
            if let Some(pair) = seen.windows(2).find(|pair| is_near(pair)) {
                self.find("sent twice", format!("request {number}, at {} us and {} us", pair[0], pair[1]));
            } else if window.is_none() && !may_resend && seen.len() > story.sent.len() {
                let found = format!("request {number}: {} times, asked {} times", seen.len(), story.sent.len());
                self.find("sent more often than asked", found);
            }
        }
        for (number, story) in stories.iter().filter(|(_, story)| !story.sent.is_empty() && story.seen.is_empty()) {
            if self.is_bound_to_arrive(*number) {
                let found = format!("request {number}, asked {} times, in the end without faults", story.sent.len());
                self.find("never arrived", found);
            }
        }
        self.stories = stories;
    }

    /// Whether nothing stands between the terminal of a request and a client but gears that pass all on.
    fn is_bound_to_arrive(&self, number: usize) -> bool {
        let Some(entrance) = self.entrance(number) else { return false };
        let dead = self.evidence.letters.iter().any(|letter| letter.request == Some(number));
        !dead && self.subject.stage.exits.iter().any(|exit| exit.behind.as_ref() == Some(&entrance.gear))
    }
}
