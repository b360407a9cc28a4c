//! A text that must never be printed: no `Display`, a `Debug` and a `Serialize` that say only
//! whether there is one.

use serde::{Serialize, Serializer};
use std::fmt;

/// What is shown in place of a secret.
pub const REDACTED: &str = "(set)";

/// A password or key. Only [`Secret::expose`] gives the text, so every use is easy to find.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself. It must not reach a log, a message or a command line.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(REDACTED)
    }
}
