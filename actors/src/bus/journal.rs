//! The journal of a rack on the servers of its bus: on a connection of its own, so that wires hold up no group, with the
//! same sign-in and the same look at the servers.

use std::sync::Arc;
use std::time::Duration;

use super::connect::sign_in;
use super::{ANSWER_WAIT, Bus, BusError};
use crate::journal::stream::{Log, NatsLog, NatsLogOptions};

impl Bus {
    /// What [`JournalOptions::on_stream`](crate::JournalOptions::on_stream) takes: stream `FLUX_JOURNAL_{rack}`, of at most
    /// `max_bytes`. Waits for the servers at most `patience`; nothing is made there before the journal opens.
    ///
    /// # Errors
    /// When the servers cannot be reached, are refused, or do not sync each write before they ack it.
    pub async fn journal(&self, max_bytes: Option<u64>, patience: Duration) -> Result<Arc<dyn Log>, BusError> {
        let options = self.options();
        // A group that is acked is promised to be on disk (HEART §10.4).
        tokio::time::timeout(patience, self.syncs()).await.unwrap_or_else(|_| {
            let none = "bus: found no answer in time, expected one; remedy: look at the servers, and start again";
            Err(BusError::Absent { why: self.why_down().unwrap_or_else(|| none.into()) })
        })?;
        let connect = sign_in(options)
            .await?
            .name(format!("fluxrig {} journal", self.rack()))
            .connection_timeout(ANSWER_WAIT)
            .request_timeout(Some(ANSWER_WAIT));
        let log = NatsLogOptions {
            rack: self.rack().to_owned(),
            servers: options.servers.clone(),
            domain: options.domain.clone(),
            replicas: usize::from(options.replicas),
            max_bytes,
            ..NatsLogOptions::default()
        };
        let what = format!("stream `{}`", log.stream());
        match NatsLog::start(log, connect) {
            Ok(log) => Ok(log),
            Err(error) => Err(BusError::Answer { what, answer: error.to_string() }),
        }
    }
}
