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
    /// were taken before this is asked, and `info` knows of all that had come before.
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

/// Whether this answer was given by a server that knows less than `delivered`, the last delivery that had come before it
/// was asked.
///
/// A server of a cluster that has just come back answers for a consumer whose leader it has not heard of, and says that
/// nothing was given and nothing is unacked. Who believes it lets in what is newer, and takes what comes again for
/// repeats.
pub(super) fn knows_less(info: &consumer::Info, delivered: u64) -> bool {
    info.delivered.consumer_sequence < delivered
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(delivered: u64, unacked: usize) -> consumer::Info {
        let place = |seq: u64| serde_json::json!({ "consumer_seq": seq, "stream_seq": seq });
        let info = serde_json::json!({
            "stream_name": "s", "name": "c", "created": "2026-11-22T05:25:08Z",
            "config": { "deliver_policy": "all", "ack_policy": "explicit", "replay_policy": "instant" },
            "delivered": place(delivered), "ack_floor": place(0),
            "num_ack_pending": unacked, "num_redelivered": 0, "num_waiting": 0, "num_pending": 0
        });
        serde_json::from_value(info).unwrap()
    }

    #[test]
    fn a_server_that_knows_less_than_we_do_is_not_believed() {
        assert!(!knows_less(&info(256, 0), 256));
        assert!(knows_less(&info(0, 0), 256), "nothing was given, it says");
        let settling = Settling::default();
        assert!(settling.is_whole(&info(256, 0)));
        assert!(!settling.is_whole(&info(256, 1)), "one comes again");
    }
}
