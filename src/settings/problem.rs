//! A problem of a configuration: where, what was wrong, what would be right.

use super::raw::Place;
use serde::Serialize;
use std::fmt;

/// Whether a problem stops the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// It can be used; something in it has no effect or not the expected one.
    Warning,
}

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Whether it stops the program.
    pub severity: Severity,
    /// The key, as `postgresql.data_dir`; empty for the file as a whole.
    pub path: String,
    /// The file, where there is one.
    pub file: Option<String>,
    /// The line in it, where known.
    pub line: Option<u64>,
    /// What was wrong and what would be right.
    pub message: String,
}

impl Problem {
    /// The configuration cannot be used.
    pub fn error(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            path: path.into(),
            file: None,
            line: None,
            message: message.into(),
        }
    }

    /// It can be used, but not as it says.
    pub fn warning(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(path, message)
        }
    }

    /// The same problem at a place.
    #[must_use]
    pub(super) fn at(mut self, place: &Place) -> Self {
        self.file = place.file.as_ref().map(ToString::to_string);
        self.line = (place.line > 0).then_some(place.line);
        self
    }

    /// The key and what is wrong with it, for whom the severity says nothing.
    pub fn words(&self) -> String {
        if self.path.is_empty() {
            return self.message.clone();
        }
        format!("{}: {}", self.path, self.message)
    }

    /// It stops the program.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.severity {
            Severity::Error => "error: ",
            Severity::Warning => "warning: ",
        })?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        match (&self.file, self.line) {
            (Some(file), Some(line)) => write!(f, " ({file}, line {line})"),
            (Some(file), None) => write!(f, " ({file})"),
            (None, Some(line)) => write!(f, " (line {line})"),
            (None, None) => Ok(()),
        }
    }
}
