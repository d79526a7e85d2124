//! Wires and a journal on real servers as others set them up: every way to sign in, and copies in place of flushes. Each
//! server is the test's own; without `nats-server` a test skips, and says so.

#![allow(clippy::unwrap_used, reason = "a test ends where anything is not as it should be")]

mod jwt;
mod parts;
mod replicated;
mod sign_in;
