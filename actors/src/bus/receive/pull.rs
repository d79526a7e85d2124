//! Messages of a consumer, asked for in runs: the next run is asked for while the last is still coming, so that the
//! server never waits for us. What it says beside messages is counted here.

use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::consumer::pull::BatchConfig;
use async_nats::jetstream::{self, Context};
use async_nats::{StatusCode, Subject, Subscriber};
use futures_util::StreamExt;
use tokio::time::{Instant, sleep_until};

use super::{BATCH, EXPIRES, HEARTBEAT};

/// One reader of a consumer. Dropping it ends what was asked for.
pub(super) struct Pull {
    context: Context,
    consumer: PullConsumer,
    inbox: Subject,
    subscriber: Subscriber,
    /// Messages that were asked for and have not come.
    outstanding: usize,
    /// When the server was heard last.
    heard: Instant,
}

impl Pull {
    pub(super) async fn new(context: &Context, consumer: PullConsumer) -> Result<Self, String> {
        let client = context.client();
        let inbox = Subject::from(client.new_inbox());
        let subscriber = client.subscribe(inbox.clone()).await.map_err(|error| error.to_string())?;
        Ok(Self { context: context.clone(), consumer, inbox, subscriber, outstanding: 0, heard: Instant::now() })
    }

    /// The next message, or what ends this reader. Nothing is lost when it is not waited for to the end.
    pub(super) async fn next(&mut self) -> Result<jetstream::Message, String> {
        loop {
            if self.outstanding <= BATCH / 2 {
                let batch = BATCH - self.outstanding;
                let asked =
                    BatchConfig { batch, expires: Some(EXPIRES), idle_heartbeat: HEARTBEAT, ..BatchConfig::default() };
                let asked = self.consumer.request_batch(asked, self.inbox.clone()).await;
                asked.map_err(|error| error.to_string())?;
                self.outstanding += batch;
            }
            let message = tokio::select! {
                biased;
                message = self.subscriber.next() => message.ok_or("the subscription ended")?,
                () = sleep_until(self.heard + 2 * HEARTBEAT) => return Err("no heartbeats".into()),
            };
            self.heard = Instant::now();
            match message.status {
                None | Some(StatusCode::OK) => {
                    self.outstanding = self.outstanding.saturating_sub(1);
                    return Ok(jetstream::Message { message, context: self.context.clone() });
                }
                Some(StatusCode::IDLE_HEARTBEAT) => {}
                Some(status) => {
                    let headers = message.headers.as_ref();
                    let left = headers.and_then(|headers| headers.get("Nats-Pending-Messages"));
                    // A run that ended before it was complete says how much of it is left; anything else is an end.
                    match left.and_then(|left| left.as_str().parse::<usize>().ok()) {
                        Some(left) => self.outstanding = self.outstanding.saturating_sub(left),
                        None => return Err(format!("{status} {}", message.description.unwrap_or_default())),
                    }
                }
            }
        }
    }
}
