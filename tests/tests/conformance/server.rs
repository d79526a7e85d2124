//! A real `nats-server` for one case, and the limits of its streams. Where there is none the case is skipped, and says so.

use std::future::Future;
use std::sync::{Mutex, MutexGuard};

use async_nats::jetstream;
use fluxrig_tests::outside::nats::{self, Wanted, program};

pub(crate) struct Server(Mutex<nats::Server>);

impl Server {
    /// `None` where there is no such program.
    pub(crate) fn start() -> Option<Self> {
        let program = program("a case of conformance on JetStream")?;
        Some(Self(Mutex::new(nats::Server::start(&program, &Wanted::default()).unwrap())))
    }

    pub(crate) fn url(&self) -> String {
        self.inner().url()
    }

    /// `kill -9`, and a new start on the same port and store.
    pub(crate) fn kill_and_restart(&self) {
        self.inner().restart().unwrap();
    }

    pub(crate) fn set_paused(&self, is_paused: bool) {
        match is_paused {
            true => self.inner().pause(),
            false => self.inner().resume(),
        }
    }

    /// Changes the limit of a stream: from what it takes now to what it may take.
    pub(crate) fn limit(&self, stream: &str, max_bytes: impl FnOnce(u64) -> Option<u64> + Send) {
        let (url, stream) = (self.url(), stream.to_owned());
        aside(async move {
            let context = jetstream::new(async_nats::connect(url).await.unwrap());
            let info = context.get_stream(stream).await.unwrap().get_info().await.unwrap();
            let max_bytes = max_bytes(info.state.bytes).map_or(-1, |bytes| i64::try_from(bytes).unwrap());
            context.update_stream(jetstream::stream::Config { max_bytes, ..info.config }).await.unwrap();
        });
    }

    fn inner(&self) -> MutexGuard<'_, nats::Server> {
        self.0.lock().unwrap()
    }
}

/// Runs a future to its end, whatever runtime the caller is in.
fn aside(future: impl Future<Output = ()> + Send) {
    std::thread::scope(|scope| {
        let run = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future);
        scope.spawn(run).join().unwrap();
    });
}
