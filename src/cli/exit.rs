//! Exit codes: one enum, one table, shown by `--help` and relied on by scripts and probes.
//!
//! The numbers from 64 to 78 are those of sysexits(3), so that they read as everywhere; those from
//! 100 are ours and have a meaning only here. A data directory that may not be touched (of another
//! cluster or version, with wrong permissions) has no code: the agent stays up and says so, because
//! a pod that restarts for ever helps nobody.

use std::fmt::Write;
use std::io::{self, ErrorKind};
use std::process::{ExitCode, Termination};

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Exit {
    /// Done, or stopped in order.
    Ok = 0,
    /// It failed while running.
    Failure = 1,
    /// The command line was wrong.
    Usage = 2,
    /// Data from outside was not what it must be.
    BadData = 65,
    /// A file that was named is not there, or is something else.
    NoInput = 66,
    /// A service that is needed does not answer.
    Unavailable = 69,
    /// An error of the program itself.
    Internal = 70,
    /// The operating system refused what must work.
    OsError = 71,
    /// A file or socket could not be made.
    CannotCreate = 73,
    /// Not now; later may work.
    Temporary = 75,
    /// Not allowed.
    Permission = 77,
    /// The configuration is wrong.
    Config = 78,
    /// Another guardian holds the data directory (G8).
    DataDirHeld = 100,
    /// Another member uses this name (L1).
    NameTaken = 103,
    /// The cluster refused what was asked.
    Refused = 104,
    /// Two writers were seen or an acknowledged row is missing.
    ExerciseFailed = 105,
}

impl Exit {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 16] = [
        Self::Ok,
        Self::Failure,
        Self::Usage,
        Self::BadData,
        Self::NoInput,
        Self::Unavailable,
        Self::Internal,
        Self::OsError,
        Self::CannotCreate,
        Self::Temporary,
        Self::Permission,
        Self::Config,
        Self::DataDirHeld,
        Self::NameTaken,
        Self::Refused,
        Self::ExerciseFailed,
    ];

    /// The number the process ends with.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// What it means, for the table.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Ok => "done, or stopped in order",
            Self::Failure => "failed while running; the last message says why",
            Self::Usage => "the command line is wrong",
            Self::BadData => "a file or an answer is not what it must be",
            Self::NoInput => "a file that was named is not there, or is no regular file",
            Self::Unavailable => "Kubernetes, PostgreSQL or a member does not answer",
            Self::Internal => "an error of pgwarden itself; please report it",
            Self::OsError => "the operating system refused what must work",
            Self::CannotCreate => {
                "a file, directory or socket could not be made (is the port in use?)"
            }
            Self::Temporary => "not possible now; the same may work later",
            Self::Permission => {
                "a file or the API server does not permit it, or the agent runs as root"
            }
            Self::Config => "the configuration is wrong; pgwarden check shows where",
            Self::DataDirHeld => "another guardian holds the data directory",
            Self::NameTaken => "another member of this name is running",
            Self::Refused => "the cluster refused what was asked",
            Self::ExerciseFailed => "the exercise saw two writers or lost a row",
        }
    }

    /// The table for `--help`.
    pub fn table() -> String {
        let mut table = String::from("Exit codes:\n");
        for exit in Self::ALL {
            // Writing to a String cannot fail.
            let _ = writeln!(table, "  {:>3}  {}", exit.code(), exit.meaning());
        }
        table
    }

    /// What an error of the file system means for the exit code.
    pub fn from_io(error: &io::Error) -> Self {
        /// A chain of symbolic links that ends nowhere; its kind has no stable name yet.
        const ELOOP: i32 = 40;
        match error.kind() {
            ErrorKind::NotFound | ErrorKind::IsADirectory | ErrorKind::NotADirectory => {
                Self::NoInput
            }
            _ if error.raw_os_error() == Some(ELOOP) => Self::NoInput,
            ErrorKind::PermissionDenied => Self::Permission,
            _ => Self::Failure,
        }
    }
}

impl Termination for Exit {
    fn report(self) -> ExitCode {
        ExitCode::from(self.code())
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Grows with the enum: the compiler refuses a variant that is missing here.
    fn position(exit: Exit) -> usize {
        match exit {
            Exit::Ok => 0,
            Exit::Failure => 1,
            Exit::Usage => 2,
            Exit::BadData => 3,
            Exit::NoInput => 4,
            Exit::Unavailable => 5,
            Exit::Internal => 6,
            Exit::OsError => 7,
            Exit::CannotCreate => 8,
            Exit::Temporary => 9,
            Exit::Permission => 10,
            Exit::Config => 11,
            Exit::DataDirHeld => 12,
            Exit::NameTaken => 13,
            Exit::Refused => 14,
            Exit::ExerciseFailed => 15,
        }
    }

    #[test]
    fn the_table_is_complete_and_in_order() {
        for (index, exit) in Exit::ALL.into_iter().enumerate() {
            assert_eq!(position(exit), index, "{exit:?} is not in its place of ALL");
        }
        let table = Exit::table();
        for exit in Exit::ALL {
            let line = format!("  {:>3}  {}", exit.code(), exit.meaning());
            assert!(
                table.lines().any(|l| l == line),
                "{exit:?} is not in the table"
            );
        }
        let codes: Vec<u8> = Exit::ALL.iter().map(|exit| exit.code()).collect();
        assert!(
            codes.is_sorted_by(|a, b| a < b),
            "codes are not rising: {codes:?}"
        );
        let meanings: BTreeSet<_> = Exit::ALL.iter().map(|exit| exit.meaning()).collect();
        assert_eq!(
            meanings.len(),
            Exit::ALL.len(),
            "two codes have one meaning"
        );
    }

    #[test]
    fn codes_stay_clear_of_the_shell_and_of_signals() {
        for exit in Exit::ALL {
            assert!(
                exit.code() < 124,
                "{exit:?} collides with timeout(1), the shell or signals"
            );
        }
    }

    #[test]
    fn errors_of_files_have_their_codes() {
        use std::io::Error;
        assert_eq!(
            Exit::from_io(&Error::from(ErrorKind::NotFound)),
            Exit::NoInput
        );
        for other in [
            Error::from(ErrorKind::IsADirectory),
            Error::from_raw_os_error(40),
        ] {
            assert_eq!(Exit::from_io(&other), Exit::NoInput, "{other}");
        }
        assert_eq!(
            Exit::from_io(&Error::from(ErrorKind::PermissionDenied)),
            Exit::Permission
        );
        assert_eq!(
            Exit::from_io(&Error::from(ErrorKind::TimedOut)),
            Exit::Failure
        );
    }
}
