//! What happens to a request, a reply, a report and a deadline. The table changes together with what is emitted and put,
//! and each open request is closed in one of two functions: `answer` and `give_up`.

use std::time::Duration;

use fluxrig_actors::Tally;
use fluxrig_actors::prelude::*;
use fluxrig_actors::protocol::{Blob, EntityId, Map, SmolStr};

use super::fields::Seen;
use super::key::{self, Key, Mti};
use super::record::{self, Asker, Kept, Open, Opening, Record, Said};
use super::route::{Tree, Unavailable};
use super::table::{Counts, DoneSlot, OpenSlot, Slot, Table};
use super::{Conductor, Route, Way, port};

/// Under this key of `meta` a message that was sent says to which transaction it belongs.
const KEY: &str = "conductor.key";

/// Under this key of `meta` stands why there is no answer, or why a message is unmatched.
const ERROR: &str = "conductor.error";

/// Ended transactions that one message may forget: more than it can add, so that a backlog of them comes to an end.
const FORGET_MAX: usize = 16;

/// Why a request gets no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    Format,
    NoRoute,
    NoDestination,
    Overload,
    Timeout,
}

impl Reason {
    fn text(self) -> SmolStr {
        SmolStr::new_static(match self {
            Self::Format => "format",
            Self::NoRoute => "no_route",
            Self::NoDestination => "no_destination",
            Self::Overload => "overload",
            Self::Timeout => "timeout",
        })
    }

    /// Where refusals for this reason are counted.
    fn tally(self, counts: &Counts) -> &Tally {
        match self {
            Self::Format => &counts.format,
            Self::NoRoute => &counts.no_route,
            Self::NoDestination => &counts.no_destination,
            Self::Overload => &counts.overload,
            // The only refusal of this kind is the same answer to a repeat.
            Self::Timeout => &counts.repeats,
        }
    }
}

impl Conductor {
    /// Sees whether what the last delivery opened was kept: one that was rejected because of what it emitted left no
    /// record and no timer, so its request is not open either.
    pub(super) fn settle(&self, table: &mut Table, out: &mut Outlet) {
        if let Some(key) = table.unproven.take()
            && out.was_undone()
        {
            table.take_open(key);
        }
        if !table.broken.is_empty() {
            table.broken.drain(..).for_each(|name| out.remove(name));
        }
    }

    /// A message from `in`.
    pub(super) fn request(&self, msg: FluxMsg, table: &mut Table, out: &mut Outlet) {
        let holds = |route: &&Route| route.when.as_ref().is_none_or(|when| when.holds(&msg));
        let route = self.routes.iter().find(holds);
        if let Some(Route { way: Way::Forward(name), .. }) = route {
            table.counts.forwarded.add(1);
            return out.emit_on(name, msg);
        }
        let mti = self.mti_of(&msg);
        if mti.is_some_and(key::is_reply) {
            // Nobody waits for an answer to an answer.
            return unmatched("not_a_request", msg, table, out);
        }
        let places = &self.layouts.request;
        let seen = places.look(&msg, &mut table.trails.request);
        let key = match mti {
            None if self.mti.is_some() => None,
            _ => Key::of(mti, places.key(&seen), &mut table.buffer),
        };
        let Some(key) = key else {
            return self.refuse(Reason::Format, &msg, mti, table, out);
        };
        match table.get(key) {
            Some(Slot::Open(slot)) => {
                let (expires, destination) = (slot.expires, slot.destination);
                let to = destination.map_or("", |idx| &self.destinations[idx].name);
                let opening = Opening { msg: &msg, seen: &seen, mti, expires, destination: to };
                let record = record::open(&opening, places);
                return asked_again(key, OpenSlot { record, expires, destination }, table, out);
            }
            Some(Slot::Done(slot)) if slot.at >= out.steady_ns().saturating_sub(self.repeats.window_ns) => {
                let record = slot.record.clone();
                return self.answer_again(&record, msg, mti, table, out);
            }
            Some(Slot::Done(_)) | None => {}
        }
        match route {
            Some(Route { way: Way::Send(tree), timeout, .. }) => {
                let destination = match self.choose(tree, table) {
                    Ok(destination) => destination,
                    Err(reason) => return self.refuse(reason, &msg, mti, table, out),
                };
                let timeout_ns = i64::try_from(timeout.as_nanos()).unwrap_or(i64::MAX);
                let deadline = out.now_ns().saturating_add(timeout_ns);
                // Whoever asked may wait for less.
                let expires = msg.expires.map_or(deadline, |expires| expires.min(deadline));
                let to = &self.destinations[destination].name;
                let record = record::open(&Opening { msg: &msg, seen: &seen, mti, expires, destination: to }, places);
                self.open(Going { key, destination, timeout: *timeout, expires, record }, msg, table, out);
            }
            _ => self.refuse(Reason::NoRoute, &msg, mti, table, out),
        }
    }

    fn choose(&self, tree: &Tree, table: &mut Table) -> Result<usize, Reason> {
        if table.open() >= self.open_max {
            return Err(Reason::Overload);
        }
        let Table { peers, cursors, .. } = table;
        tree.pick(peers, cursors).map_err(|why| match why {
            Unavailable::Down => Reason::NoDestination,
            Unavailable::Full => Reason::Overload,
        })
    }

    /// Sends a request, and keeps what its outcome needs.
    fn open(&self, going: Going, mut msg: FluxMsg, table: &mut Table, out: &mut Outlet) {
        let Going { key, destination, timeout, expires, record } = going;
        let name = key.text();
        out.put(name.clone(), record.clone());
        out.timer(name.clone(), timeout);
        table.insert_open(key, OpenSlot { record, expires, destination: Some(destination) });
        msg.set_expires(Some(expires));
        msg.set_meta(SmolStr::new_static(KEY), name);
        table.unproven = Some(key);
        table.counts.peers[destination].sent.add(1);
        out.emit_on(&self.destinations[destination].name, msg);
    }

    /// A repeat of a request that has ended: the same outcome again, and nobody is asked.
    fn answer_again(&self, record: &Blob, mut msg: FluxMsg, mti: Option<Mti>, table: &mut Table, out: &mut Outlet) {
        let Some(Record::Done(done)) = self.layouts.read(record) else {
            return table.counts.broken_records.add(1);
        };
        let Some(answer) = done.answer else {
            return self.refuse(Reason::Timeout, &msg, mti, table, out);
        };
        table.counts.repeats.add(1);
        let id = msg.id;
        msg.reference = Some(id);
        msg.expires = None;
        msg.raw = None;
        let kept_mti = match answer {
            Said::Whole { mti, data } => {
                msg.data = data;
                mti
            }
            Said::Fields(kept) => {
                msg.data = Map::default();
                self.layouts.answer.restore(&kept, &mut msg);
                kept.mti
            }
        };
        let usual = || mti.map(key::answering);
        self.set_mti(kept_mti.or_else(usual), &mut msg);
        out.emit(msg);
    }

    /// A message from `reply`.
    pub(super) fn reply(&self, msg: FluxMsg, table: &mut Table, out: &mut Outlet) {
        let mti = self.mti_of(&msg);
        if self.mti.is_some() && !mti.is_some_and(key::is_reply) {
            return unmatched("not_a_reply", msg, table, out);
        }
        let places = &self.layouts.answer;
        let seen = places.look(&msg, &mut table.trails.reply);
        match self.match_reply(places.key(&seen), mti, table) {
            Some(key) => {
                let record = match self.repeats.is_whole {
                    true => record::answered_whole(out.steady_ns(), &msg.data, mti),
                    false => record::answered(out.steady_ns(), &seen, mti, places),
                };
                self.answer(key, record, msg, table, out);
            }
            None => unmatched("unmatched_reply", msg, table, out),
        }
    }

    /// The open request that a reply answers.
    fn match_reply(&self, fields: &[Seen<'_>], mti: Option<Mti>, table: &mut Table) -> Option<Key> {
        let is_open = |key: &Key, table: &Table| matches!(table.get(*key), Some(Slot::Open(_)));
        let key = Key::of(mti, fields, &mut table.buffer)?;
        if is_open(&key, table) {
            return Some(key);
        }
        for (_, request) in self.replies.iter().filter(|(reply, _)| Some(*reply) == mti) {
            let key = Key::with_mti(*request, &mut table.buffer);
            if is_open(&key, table) {
                return Some(key);
            }
        }
        None
    }

    /// The outcome of an open request is this answer.
    fn answer(&self, key: Key, record: Blob, mut msg: FluxMsg, table: &mut Table, out: &mut Outlet) {
        let name = key.text();
        out.cancel(name.clone());
        let open = self.remember(key, name, record, table, out);
        let Some((asker, slot)) = open.and_then(|slot| Some((record::asker(&slot.record)?, slot))) else {
            return table.counts.broken_records.add(1);
        };
        table.counts.answered.add(1);
        if let Some(idx) = slot.destination {
            table.counts.peers[idx].answered.add(1);
        }
        msg.set_reference(Some(asker.id));
        msg.set_trace(asker.trace);
        msg.set_return_to(asker.return_to);
        out.emit(msg);
    }

    /// A report that nobody knows whether a request was sent: it is never sent again, so it has no answer.
    pub(super) fn report(&self, msg: FluxMsg, table: &mut Table, out: &mut Outlet) {
        let key = msg.meta.get(KEY).and_then(Key::from_text);
        let is_of = |slot: &OpenSlot| msg.expires.is_none_or(|expires| expires == slot.expires);
        let open = key.filter(|key| matches!(table.get(*key), Some(Slot::Open(slot)) if is_of(slot)));
        let Some((key, slot)) = open.and_then(|key| Some((key, table.take_open(key)?))) else {
            // One of an earlier transaction of the same key, or of none.
            return unmatched("unmatched_report", msg, table, out);
        };
        table.counts.undeliverable.add(1);
        let name = key.text();
        out.cancel(name.clone());
        self.give_up(key, name, &slot.record, slot.destination, table, out);
    }

    /// The deadline of a request.
    pub(super) fn timed_out(&self, key: Key, table: &mut Table, out: &mut Outlet) {
        let name = key.text();
        let (record, destination) = match table.take_open(key) {
            Some(slot) => (slot.record, slot.destination),
            // Its reply was rejected because of what it would have been, so nothing of that was committed.
            None => match record::open_in(out.get(&name)) {
                Some(record) => (record, None),
                None => return,
            },
        };
        table.counts.expired.add(1);
        self.give_up(key, name, &record, destination, table, out);
    }

    /// The outcome of an open request is that there is no answer.
    fn give_up(
        &self,
        key: Key,
        name: SmolStr,
        record: &Blob,
        destination: Option<usize>,
        table: &mut Table,
        out: &mut Outlet,
    ) {
        if let Some(idx) = destination {
            table.counts.peers[idx].unanswered.add(1);
        }
        match self.layouts.read(record) {
            Some(Record::Open(Open { asker, kept, .. })) => {
                self.remember(key, name, record::timed_out(out.steady_ns()), table, out);
                out.emit_on(port::ERROR, self.error(Reason::Timeout, asker, &kept, out.now_ns()));
            }
            _ => table.counts.broken_records.add(1),
        }
    }

    /// Keeps the outcome of a transaction for its repeats, and forgets some that are over. Gives what was open.
    fn remember(&self, key: Key, name: SmolStr, record: Blob, table: &mut Table, out: &mut Outlet) -> Option<OpenSlot> {
        let now = out.steady_ns();
        let is_durable = self.repeats.is_durable;
        if is_durable {
            out.put(name, record.clone());
        } else {
            out.remove(name);
        }
        let open = table.insert_done(key, DoneSlot { at: now, record, is_durable });
        let until = now.saturating_sub(self.repeats.window_ns);
        for _ in 0..FORGET_MAX {
            match table.forget(self.repeats.max, until) {
                None => break,
                Some(None) => {}
                Some(Some(key)) => out.remove(key.text()),
            }
        }
        if let Some(count) = table.forgotten_early(now, self.repeats.window_ns) {
            tracing::warn!(
                gear = %table.gear,
                count,
                max = self.repeats.max,
                window_ms = self.repeats.window_ns / 1_000_000,
                "transactions are forgotten before their window is over, so a repeat of one would be sent again; \
                 remedy: raise `repeats.max` to as many as end within `repeats.window_ms`"
            );
        }
        open
    }

    /// A request that is not sent. Nothing is kept of it, so it may be tried again.
    fn refuse(&self, reason: Reason, msg: &FluxMsg, mti: Option<Mti>, table: &mut Table, out: &mut Outlet) {
        reason.tally(&table.counts).add(1);
        let asker = Asker { id: msg.id, trace: msg.trace, return_to: msg.return_to.clone() };
        let kept = self.layouts.request.kept_of(msg, mti);
        out.emit_on(port::ERROR, self.error(reason, asker, &kept, out.now_ns()));
    }

    fn error(&self, reason: Reason, asker: Asker, kept: &Kept, now: i64) -> FluxMsg {
        let mut error = FluxMsg::new(asker.id, asker.trace, EntityId::NIL, now);
        error.reference = Some(asker.id);
        error.return_to = asker.return_to;
        error.meta.set(SmolStr::new_static(ERROR), reason.text());
        self.layouts.request.restore(kept, &mut error);
        self.set_mti(kept.mti, &mut error);
        error
    }

    fn mti_of(&self, msg: &FluxMsg) -> Option<Mti> {
        key::mti_at(self.mti.as_ref()?, msg)
    }

    fn set_mti(&self, mti: Option<Mti>, msg: &mut FluxMsg) {
        if let (Some(place), Some(mti)) = (&self.mti, mti) {
            // Only where no map can be: then the message goes without its type, and whoever encodes it says so.
            drop(place.put(msg, key::mti_text(mti).into()));
        }
    }
}

/// A request on its way to a destination.
struct Going {
    key: Key,
    destination: usize,
    timeout: Duration,
    expires: i64,
    record: Blob,
}

/// A request that is open already: its answer goes to whoever asked last.
fn asked_again(key: Key, slot: OpenSlot, table: &mut Table, out: &mut Outlet) {
    table.counts.duplicates.add(1);
    out.put(key.text(), slot.record.clone());
    table.insert_open(key, slot);
}

fn unmatched(why: &'static str, mut msg: FluxMsg, table: &mut Table, out: &mut Outlet) {
    table.counts.unmatched.add(1);
    msg.meta.set(SmolStr::new_static(ERROR), SmolStr::new_static(why));
    out.emit_on(port::UNMATCHED, msg);
}
