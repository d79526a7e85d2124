//! Acks to the server: batch after batch, each when what it let in is durable; and what is remembered of strangers until
//! their ack is confirmed.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex};

use async_nats::{Client, Subject};
use bytes::Bytes;
use futures_util::future::join_all;
use smol_str::SmolStr;
use tokio::sync::{mpsc, watch};

use crate::bus::streams::UNACKED_MAX;
use crate::endpoint::{Admission, Keep, Receipt};

/// Strangers' messages that are known after their ack is confirmed: more than can be on their way to us.
const CONFIRMED_MAX: usize = 2 * UNACKED_MAX.unsigned_abs() as usize;

/// What is acked once the receipt is durable.
pub(super) struct Job {
    pub(super) receipt: Option<Receipt>,
    pub(super) client: Client,
    pub(super) replies: Vec<Subject>,
    /// Of strangers: also the key that remembers it.
    pub(super) strangers: Vec<(SmolStr, Subject, &'static [u8])>,
}

/// Keys of strangers' messages that were let in and may come again.
#[derive(Default)]
pub(super) struct Strangers {
    pub(super) known: HashSet<SmolStr>,
    /// Those whose ack is confirmed, oldest first: a copy may still be on its way.
    pub(super) confirmed: VecDeque<SmolStr>,
}

impl Strangers {
    fn confirm(&mut self, keys: impl Iterator<Item = SmolStr>) {
        self.confirmed.extend(keys);
        while self.confirmed.len() > CONFIRMED_MAX {
            if let Some(key) = self.confirmed.pop_front() {
                self.known.remove(&key);
            }
        }
    }
}

/// Acks batch after batch, as they become durable, and forgets strangers whose ack the server has confirmed.
pub(super) async fn ack_all(
    mut jobs: mpsc::Receiver<Job>,
    door: Admission,
    known: Arc<Mutex<Strangers>>,
    done: watch::Sender<u64>,
) {
    while let Some(Job { receipt, client, replies, strangers }) = jobs.recv().await {
        if let Some(receipt) = receipt
            && !receipt.durable().await
        {
            return;
        }
        for reply in replies {
            // An ack that is lost is made up for when the message comes again.
            drop(client.publish(reply, Bytes::new()).await);
        }
        let asked = strangers.into_iter().map(|(key, reply, word)| {
            let client = client.clone();
            async move { client.request(reply, Bytes::from_static(word)).await.is_ok().then_some(key) }
        });
        let confirmed = join_all(asked).await;
        let confirmed: Vec<SmolStr> = confirmed.into_iter().flatten().collect();
        door.keep(confirmed.iter().cloned().fold(Keep::default(), Keep::remove));
        known.lock().expect("nothing panics while it is held").confirm(confirmed.into_iter());
        done.send_modify(|done| *done += 1);
    }
}
