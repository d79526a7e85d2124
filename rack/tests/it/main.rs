//! The binary `fluxrig` as the world meets it. Each test has a data directory and ports of its own, and waits for what
//! it asks for, never for a time.

#![allow(clippy::unwrap_used, reason = "a test ends where anything is not as it should be")]

mod bus;
mod daemon;
mod harness;
mod inspect;
mod interop;
mod iso8583;
mod journal;
mod kill;
mod letters;
mod payments;
mod sim;
mod standby;
mod taps;
mod terminal;
