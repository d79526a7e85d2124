//! A consumer that begins, while messages that it had given before are not acked: they come again only after a while, and
//! newer ones before them. Until all have come, nothing is let in; then everything goes on in the order of the stream.

use std::collections::BTreeMap;

use async_nats::jetstream::{Message, consumer};

/// What has come so far, by its place in the stream.
#[derive(Default)]
pub(super) struct Settling(BTreeMap<u64, Given>);

struct Given {
    /// The delivery by which it first came.
    delivery: u64,
    message: Message,
}

impl Settling {
    /// A message came: at this place of the stream, by this delivery of the consumer.
    pub(super) fn add(&mut self, place: u64, delivery: u64, message: Message) {
        match self.0.get_mut(&place) {
            // The later delivery is the one that can be acked.
            Some(given) => given.message = message,
            None => drop(self.0.insert(place, Given { delivery, message })),
        }
    }

    /// Whether everything that the consumer has given and that is not acked has come. All deliveries that `info` knows of
    /// were taken before this is asked.
    pub(super) fn is_whole(&self, info: &consumer::Info) -> bool {
        let until = info.delivered.consumer_sequence;
        let come = self.0.values().filter(|given| given.delivery <= until).count();
        info.num_ack_pending <= come
    }

    /// Everything, in the order of the stream.
    pub(super) fn into_messages(self) -> impl Iterator<Item = Message> {
        self.0.into_values().map(|given| given.message)
    }
}
