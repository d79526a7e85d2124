//! Messages of strangers, which no wire of ours numbers: known by their place in the stream until their ack is confirmed.

use async_nats::header::NATS_MESSAGE_ID;
use async_nats::{HeaderName, jetstream};
use fluxrig_protocol::{FluxMsg, Trace};
use smol_str::{SmolStr, format_smolstr};

use super::{ACK, BAD_STAMP, Batch, Receiver, STAMP, TERM, header};
use crate::bus::foreign;
use crate::endpoint::{Io, Keep};

/// Key of a stranger's message that was let in and whose ack is not confirmed, with its place in the stream behind.
pub(super) const STRANGER: &str = "bus.stranger.";

const TRACE: HeaderName = HeaderName::from_static("traceparent");

impl Receiver<'_> {
    pub(super) fn take_stranger(&mut self, io: &Io, message: &jetstream::Message, batch: &mut Batch) {
        let key = stranger_key(message);
        let reply = message.message.reply.clone();
        match self.stranger(io, message) {
            _ if !self.is_new(&key) => {
                self.repeats.add(1);
                batch.strangers.extend(reply.map(|reply| (key, reply, ACK)));
            }
            Ok(msg) => {
                batch.ready.push_back((Ok(msg), Keep::default().put(key.clone(), true)));
                batch.strangers.extend(reply.map(|reply| (key, reply, ACK)));
            }
            Err(reason) => {
                let body = Err((message.payload.clone(), reason));
                batch.ready.push_back((body, Keep::default().put(key.clone(), true)));
                batch.strangers.extend(reply.map(|reply| (key, reply, TERM)));
            }
        }
    }

    /// What a stranger published, as a message of ours.
    fn stranger(&self, io: &Io, message: &jetstream::Message) -> Result<FluxMsg, String> {
        if header(message, STAMP).is_some() {
            return Err(BAD_STAMP.to_owned());
        }
        let mut msg = io.message();
        msg.data = foreign::read(&message.payload, &self.limits)?;
        if let Some(trace) = header(message, TRACE).and_then(|trace| trace.parse::<Trace>().ok()) {
            msg.set_trace(trace);
        }
        if let Some(id) = header(message, NATS_MESSAGE_ID) {
            msg.set_meta("nats.msg_id", id);
        }
        msg.check(&self.limits).map_err(|error| format!("bus: {error}"))?;
        Ok(msg)
    }

    /// Remembers a stranger's message. False when it was remembered before.
    fn is_new(&self, key: &SmolStr) -> bool {
        self.strangers.lock().expect("nothing panics while it is held").known.insert(key.clone())
    }
}

/// Its place in the stream, and when it came there: a stream that was cut or made anew gives the same places again.
fn stranger_key(message: &jetstream::Message) -> SmolStr {
    match message.info() {
        Ok(info) => format_smolstr!("{STRANGER}{}.{:x}", info.stream_sequence, info.published.unix_timestamp_nanos()),
        // Never so: what comes from a consumer says its place.
        Err(_) => STRANGER.into(),
    }
}
