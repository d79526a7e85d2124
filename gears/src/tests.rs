//! What the tests of all gears share.

pub(crate) mod harness;
