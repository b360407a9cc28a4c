//! Why a verb failed: one line for a person, and a code for a script.

use super::exit::Exit;
use std::io;

/// A verb's failure.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The output cannot be written. A reader that went away is no failure of ours.
    #[error("the output cannot be written: {0}")]
    Output(#[from] io::Error),
    /// Anything else.
    #[error("{what}")]
    Told {
        /// How to end.
        exit: Exit,
        /// What happened and what to do about it.
        what: String,
    },
    /// What another part of the program reports.
    #[error("{0:#}")]
    Other(#[from] anyhow::Error),
}

impl Failure {
    /// A failure with a code.
    pub fn new(exit: Exit, what: impl Into<String>) -> Self {
        Self::Told {
            exit,
            what: what.into(),
        }
    }

    /// How the program ends with it.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Ok,
            Self::Output(_) => Exit::Failure,
            Self::Other(error) => error
                .downcast_ref::<Self>()
                .map_or(Exit::Failure, Self::exit),
            Self::Told { exit, .. } => *exit,
        }
    }
}
