//! `generator`: messages out of nothing, the same for the same seed, at a rate or as fast as the rig takes them.

mod rate;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fluxrig_actors::Refused;
use fluxrig_actors::prelude::*;
use tokio::time::Instant;

use crate::literal;

pub use rate::{Rate, RateError};

/// Makes messages: numbered, all after one template, with as many random bytes as are asked for.
///
/// The `data` of message k depends on the configuration and on k alone; its id, trace and time are those of its
/// admission. A restart of the generator goes on behind the last message that the rig took; a new start of the rig
/// begins with message 0 again. When the rig drains, the generator ends.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Generator {
    /// Where the random bytes come from: the same seed makes the same bytes. Default 0.
    seed: u64,
    /// Messages per second, 0.000001 to 1,000,000,000; fractions are allowed. The first comes at once. What a closed
    /// door held back follows as soon as it opens, so that the mean holds. Default: none, as fast as the door allows.
    rate_per_s: Option<Rate>,
    /// Messages in all; after the last one the generator has ended. Default: endless.
    count: Option<u64>,
    /// Length of the random bytes in `data.payload`, bytes. Default 0: no such field.
    payload_bytes: usize,
    /// Fields that every message has. Default: none.
    #[serde(deserialize_with = "literal::map")]
    #[schemars(with = "serde_json::Map<String, serde_json::Value>")]
    data: Map,
    /// Key in `data` of the message's number, counted from 0; it replaces what the template has there. Default `seq`.
    sequence: SequenceKey,
    /// Number of the next message that the rig has not taken yet.
    #[serde(skip)]
    next: AtomicU64,
}

/// A key of `data`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
struct SequenceKey(String);

impl Default for SequenceKey {
    fn default() -> Self {
        Self("seq".to_owned())
    }
}

impl Generator {
    /// So many messages, as fast as the door allows.
    #[must_use]
    pub fn counting(count: u64) -> Self {
        Self { count: Some(count), ..Self::default() }
    }

    /// Messages at this rate, without end.
    #[must_use]
    pub fn steady(rate: Rate) -> Self {
        Self { rate_per_s: Some(rate), ..Self::default() }
    }

    /// With so many random bytes in each message, made of this seed.
    #[must_use]
    pub fn payload(self, payload_bytes: usize, seed: u64) -> Self {
        Self { payload_bytes, seed, ..self }
    }

    /// With these fields in each message.
    #[must_use]
    pub fn data(self, data: Map) -> Self {
        Self { data, ..self }
    }

    /// The fields of message `number`.
    fn fields(&self, number: u64) -> Map {
        let mut data = self.data.clone();
        if self.payload_bytes > 0 {
            data.insert_key("payload", self.payload_of(number));
        }
        data.insert_key(self.sequence.0.as_str(), number);
        data
    }

    fn payload_of(&self, number: u64) -> Vec<u8> {
        // Each message has a stream of its own, so that it does not matter from which one a generator starts.
        let mut state = mix(self.seed ^ mix(number));
        let mut bytes = vec![0; self.payload_bytes];
        for chunk in bytes.chunks_mut(8) {
            state = state.wrapping_add(GOLDEN);
            chunk.copy_from_slice(&mix(state).to_le_bytes()[..chunk.len()]);
        }
        bytes
    }
}

/// Messages made ahead of one admission: short enough to notice a change of pace, as long as the door takes at once.
const BATCH: u64 = 256;

impl Endpoint for Generator {
    const TYPE: &'static str = "generator";

    fn ports(&self) -> Ports {
        Ports::source()
    }

    async fn run(self: Arc<Self>, io: Io) -> Result<(), GearError> {
        let door = io.door();
        let (began, first) = (Instant::now(), self.next.load(Ordering::Relaxed));
        loop {
            let next = self.next.load(Ordering::Relaxed);
            let left = self.count.map_or(u64::MAX, |count| count.saturating_sub(next));
            if left == 0 {
                return Ok(());
            }
            let mut due = left.min(BATCH);
            if let Some(rate) = self.rate_per_s {
                let at = began + rate.time_of(next - first);
                if Instant::now() < at {
                    tokio::select! {
                        () = tokio::time::sleep_until(at) => {}
                        () = io.draining() => return Ok(()),
                    }
                }
                // At least the one that was waited for: times are rounded on the way.
                due = due.min(rate.count_by(began.elapsed()).saturating_sub(next - first).max(1));
            }
            let mut batch = Batch::new(&self, &io, next, due);
            match door.admit_all(&mut batch.msgs).await {
                Ok(_) => {}
                Err(Refused::Closed(msg, _)) => {
                    batch.msgs.push_front(msg);
                    return Ok(());
                }
                Err(refused) => return Err(GearError::broken(refused.to_string())),
            }
            // A rig that is fast enough never closes its door: others on this thread must have their turn.
            tokio::task::yield_now().await;
        }
    }
}

/// Messages on their way to the door. However the admission ends, what was not let in will be made again.
struct Batch<'a> {
    generator: &'a Generator,
    end: u64,
    msgs: VecDeque<FluxMsg>,
}

impl<'a> Batch<'a> {
    fn new(generator: &'a Generator, io: &Io, next: u64, count: u64) -> Self {
        let end = next + count;
        let msgs = (next..end).map(|number| {
            let mut msg = io.message();
            msg.data = generator.fields(number);
            msg
        });
        Self { generator, end, msgs: msgs.collect() }
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        self.generator.next.store(self.end - self.msgs.len() as u64, Ordering::Relaxed);
    }
}

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The output function of splitmix64 (Steele, Lea, Flood 2014): small, and every state is a good one.
fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests;
