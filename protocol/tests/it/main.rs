//! Tests through the public door: fixtures, the CDDL grammar, the examples of RFC 8949, the fuzz corpora, properties.
//! One binary, so that the crate links once; `UPDATE_FIXTURES=1` rewrites the fixtures, and the diff is reviewed.

#![allow(clippy::unwrap_used, reason = "nothing here is anything but a test")]

mod appendix_a;
mod build;
mod cddl;
mod corpus;
mod fixture;
mod golden;
mod hostile;
mod property;
