//! A log that can be cut off, as a killed process is: what it had sent may still arrive, nothing else ever does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use fluxrig_actors::journal::BoxFuture;
use fluxrig_actors::journal::stream::{Last, Log, LogError, LogUsage, Outcome, Range};

pub(crate) struct Cord {
    log: Arc<dyn Log>,
    is_cut: AtomicBool,
}

impl Cord {
    pub(crate) fn new(log: Arc<dyn Log>) -> Arc<Self> {
        Arc::new(Self { log, is_cut: AtomicBool::new(false) })
    }

    pub(crate) fn cut(&self) {
        self.is_cut.store(true, Ordering::SeqCst);
    }

    fn check(&self, action: &'static str) -> Result<(), LogError> {
        match self.is_cut.load(Ordering::SeqCst) {
            true => Err(LogError::Unreachable { stream: self.name(), action, reason: "the process was killed".into() }),
            false => Ok(()),
        }
    }
}

impl Log for Cord {
    fn name(&self) -> String {
        self.log.name()
    }

    fn payload_bytes_max(&self) -> usize {
        self.log.payload_bytes_max()
    }

    fn open(&self) -> BoxFuture<'_, Result<LogUsage, LogError>> {
        Box::pin(async {
            self.check("open it")?;
            self.log.open().await
        })
    }

    fn look(&self) -> BoxFuture<'_, Result<Option<LogUsage>, LogError>> {
        Box::pin(async {
            self.check("look at it")?;
            self.log.look().await
        })
    }

    fn append(&self, payload: Bytes, expected_last: u64) -> BoxFuture<'static, Outcome> {
        match self.check("append") {
            Ok(()) => self.log.append(payload, expected_last),
            Err(error) => Box::pin(async move { Outcome::Unknown { reason: error.to_string() } }),
        }
    }

    fn last(&self) -> BoxFuture<'_, Result<Last, LogError>> {
        Box::pin(async {
            self.check("read the last message")?;
            self.log.last().await
        })
    }

    fn read(&self, seq: u64) -> BoxFuture<'_, Result<Option<Bytes>, LogError>> {
        Box::pin(async move {
            self.check("read a message")?;
            self.log.read(seq).await
        })
    }

    fn range(&self, from_seq: u64, to_seq: u64) -> Box<dyn Range> {
        self.log.range(from_seq, to_seq)
    }

    fn purge(&self, before_seq: u64) -> BoxFuture<'_, Result<(), LogError>> {
        Box::pin(async move {
            self.check("delete old messages")?;
            self.log.purge(before_seq).await
        })
    }

    fn incarnation(&self) -> u64 {
        self.log.incarnation()
    }

    fn usage(&self) -> LogUsage {
        self.log.usage()
    }
}
