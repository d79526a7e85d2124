//! The gears we ship, one file each; [`standard`] is the catalog that a scenario chooses from.
//! A gear's configuration struct is its schema and its manual page.

mod catalog;

mod file;
mod generator;
mod log;
mod map;

mod literal;

#[cfg(test)]
mod tests;

pub use catalog::standard;
pub use file::{FileSink, Flush};
pub use generator::{Generator, Rate, RateError};
pub use log::{Level, Log};
pub use map::{Mapping, MappingError, Missing, PlaceError};
