//! Wires over real servers: order, once, whatever is killed, and what a server that cannot be used is told.
//! Needs a `nats-server`, and says loudly when there is none.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod parts;
mod refusals;
mod server;
mod strangers;
mod wires;
