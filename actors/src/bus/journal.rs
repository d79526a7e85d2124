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
        // A group that is acked is promised to be on disk (HEART §10.4).
        tokio::time::timeout(patience, self.syncs()).await.unwrap_or_else(|_| Err(self.absent()))?;
        self.start_log(max_bytes).await
    }

    /// The same on a cluster that keeps three copies or more and need not sync each write: what is acked survives the loss
    /// of a minority of the servers, not a power cut of all.
    ///
    /// # Errors
    /// When the servers cannot be reached or are refused, or the bus asks for fewer copies.
    pub async fn replicated_journal(
        &self,
        max_bytes: Option<u64>,
        patience: Duration,
    ) -> Result<Arc<dyn Log>, BusError> {
        BusError::unless_replicated(&self.log_options(max_bytes).stream(), self.options().replicas.into())?;
        tokio::time::timeout(patience, self.up()).await.map_err(|_| self.absent())?;
        self.start_log(max_bytes).await
    }

    /// The same for whoever only looks at it: how the servers keep it is not asked.
    ///
    /// # Errors
    /// When the servers cannot be reached or are refused.
    pub async fn journal_to_read(&self, patience: Duration) -> Result<Arc<dyn Log>, BusError> {
        tokio::time::timeout(patience, self.up()).await.map_err(|_| self.absent())?;
        self.start_log(None).await
    }

    fn absent(&self) -> BusError {
        let none = "bus: found no answer in time, expected one; remedy: look at the servers, and start again";
        BusError::Absent { why: self.why_down().unwrap_or_else(|| none.into()) }
    }

    fn log_options(&self, max_bytes: Option<u64>) -> NatsLogOptions {
        let options = self.options();
        NatsLogOptions {
            rack: self.rack().to_owned(),
            servers: options.servers.clone(),
            domain: options.domain.clone(),
            replicas: usize::from(options.replicas),
            max_bytes,
            ..NatsLogOptions::default()
        }
    }

    async fn start_log(&self, max_bytes: Option<u64>) -> Result<Arc<dyn Log>, BusError> {
        let connect = sign_in(self.options())
            .await?
            .name(format!("fluxrig {} journal", self.rack()))
            .connection_timeout(ANSWER_WAIT)
            .request_timeout(Some(ANSWER_WAIT));
        let log = self.log_options(max_bytes);
        let what = format!("stream `{}`", log.stream());
        match NatsLog::start(log, connect) {
            Ok(log) => Ok(log),
            Err(error) => Err(BusError::Answer { what, answer: error.to_string() }),
        }
    }
}
