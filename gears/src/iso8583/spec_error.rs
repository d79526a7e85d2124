//! What can be wrong with a message specification: each mistake with file, line and column, and all of them at once.

use std::fmt;

/// Every mistake in one file, in the order of its lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecErrors(pub(super) Vec<SpecError>);

/// One mistake, and where it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: {fault}")]
pub struct SpecError {
    /// What the caller calls the file.
    pub file: String,
    /// Line, counted from 1.
    pub line: usize,
    /// Column, counted from 1.
    pub column: usize,
    /// What is wrong there.
    #[source]
    pub fault: SpecFault,
}

/// A mistake in a message specification.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpecFault {
    /// Not YAML.
    #[error("found no YAML ({reason}), expected a map of keys; remedy: correct the line")]
    Yaml {
        /// What the parser says.
        reason: String,
    },
    /// A key that there is not.
    #[error("`{key}`: found a key of this name, expected one of {known}; remedy: {remedy}")]
    UnknownKey {
        /// The key.
        key: String,
        /// The keys that there are.
        known: String,
        /// The nearest, or to remove it.
        remedy: String,
    },
    /// A key that means something in a later version.
    #[error("`{found}`: found {what}, which is not supported yet; remedy: {remedy}")]
    NotYet {
        /// The key or word.
        found: String,
        /// What it stands for.
        what: &'static str,
        /// What can be done now.
        remedy: &'static str,
    },
    /// A key that must be there.
    #[error("`{path}`: found no `{key}`, expected {expected}; remedy: add it")]
    Missing {
        /// Keys that lead there.
        path: String,
        /// The key.
        key: &'static str,
        /// What it says.
        expected: String,
    },
    /// A value that does not fit its key.
    #[error("`{path}`: found {found}, expected {expected}; remedy: {remedy}")]
    Value {
        /// Keys that lead there.
        path: String,
        /// What stands there: specifications hold no card data, so it may be shown.
        found: String,
        /// What may stand there.
        expected: String,
        /// What to do.
        remedy: &'static str,
    },
}

impl SpecErrors {
    /// The mistakes.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &SpecError> {
        self.0.iter()
    }
}

impl fmt::Display for SpecErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (idx, error) in self.0.iter().enumerate() {
            let line = if idx == 0 { "" } else { "\n" };
            write!(f, "{line}{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for SpecErrors {}
