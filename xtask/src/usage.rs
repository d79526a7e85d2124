//! What was typed: the error that ends with exit code 2 and the list of commands,
//! and the two questions every command asks its arguments.

use std::fmt;

/// The caller asked for something that does not exist.
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) String);

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// Refuses arguments on behalf of a command that takes none.
pub(crate) fn none(arguments: &[String]) -> Result<(), Usage> {
    match arguments.first() {
        None => Ok(()),
        Some(first) => Err(Usage(format!("`{first}`: this command takes no arguments"))),
    }
}

/// Checks that `value` is a whole number, which `flag` needs.
pub(crate) fn number(flag: &str, value: Option<&String>) -> Result<u64, Usage> {
    let found = value.ok_or_else(|| Usage(format!("`{flag}` needs a number")))?;
    found.parse().map_err(|_| Usage(format!("`{flag}` needs a number, found `{found}`")))
}
