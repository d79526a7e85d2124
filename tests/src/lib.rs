//! What tests and benches share: small gears and endpoints, ledgers, messages.
//! The checkers here are dumb on purpose: they know messages and numbers, and nothing of the runtime's insides.

pub mod outside;
pub mod parts;
#[cfg(feature = "sim")]
pub mod sim;
