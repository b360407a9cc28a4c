//! Which PostgreSQL is installed, and which one a data directory belongs to.
//!
//! Supported are 14 to 18. 15 is tested wherever it is installed, as are 17 and 18; 14 and 16 are
//! covered by fixtures of their control file only.

use super::child;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The oldest supported major version.
pub const MAJOR_MIN: u32 = 14;
/// The newest supported major version.
pub const MAJOR_MAX: u32 = 18;

/// What the agent runs itself, or has the guardian run.
const PROGRAMS: [&str; 4] = ["postgres", "initdb", "pg_basebackup", "pg_rewind"];

/// Why `bin_dir` or a version cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum VersionError {
    /// A program is not there.
    #[error(
        "{bin_dir} has no executable program \"{program}\"; expected the bin \
         directory of a PostgreSQL {MAJOR_MIN} to {MAJOR_MAX}, as /usr/lib/postgresql/15/bin"
    )]
    Missing {
        /// The directory searched.
        bin_dir: PathBuf,
        /// The program not found.
        program: &'static str,
    },
    /// The program does not run.
    #[error("its programs do not run: {0}")]
    Unusable(#[from] child::ChildError),
    /// The text is not that of a PostgreSQL.
    #[error("\"{0}\" names no PostgreSQL version; expected as in \"postgres (PostgreSQL) 15.4\"")]
    Unknown(String),
    /// A version we do not know how to run.
    #[error("PostgreSQL {0} is not supported; supported are {MAJOR_MIN} to {MAJOR_MAX}")]
    Unsupported(u32),
}

/// A usable `bin_dir`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installation {
    /// Where its programs are.
    pub bin_dir: PathBuf,
    /// Its major version.
    pub major: u32,
    /// Its version as printed, as `15.4`.
    pub text: String,
}

impl Installation {
    /// Looks that every program is there and asks the server for its version.
    pub async fn find(bin_dir: &Path, deadline: Duration) -> Result<Self, VersionError> {
        for program in PROGRAMS {
            let runs =
                |meta: std::fs::Metadata| meta.is_file() && meta.permissions().mode() & 0o111 != 0;
            if !std::fs::metadata(bin_dir.join(program)).is_ok_and(runs) {
                return Err(VersionError::Missing {
                    bin_dir: bin_dir.to_owned(),
                    program,
                });
            }
        }
        let mut command = child::program(bin_dir, "postgres", Path::new("/"));
        command.arg("--version");
        let printed = child::run(command, deadline).await?;
        let (major, text) = parse_printed(&printed)?;
        Ok(Self {
            bin_dir: bin_dir.to_owned(),
            major: supported(major)?,
            text,
        })
    }
}

fn supported(major: u32) -> Result<u32, VersionError> {
    if (MAJOR_MIN..=MAJOR_MAX).contains(&major) {
        Ok(major)
    } else {
        Err(VersionError::Unsupported(major))
    }
}

/// Reads `postgres (PostgreSQL) 15.4 (Debian …)`, also `18devel` and `17beta2`.
fn parse_printed(printed: &str) -> Result<(u32, String), VersionError> {
    let unknown = || VersionError::Unknown(printed.trim().to_owned());
    let (_, after) = printed.split_once("(PostgreSQL) ").ok_or_else(unknown)?;
    let text = after.split_whitespace().next().ok_or_else(unknown)?;
    Ok((parse_major(text)?, text.to_owned()))
}

/// Reads the major version of `PG_VERSION` or of a version text.
pub fn parse_major(text: &str) -> Result<u32, VersionError> {
    let text = text.trim();
    let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
    digits
        .parse()
        .map_err(|_| VersionError::Unknown(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_packagers_write_them() {
        let cases = [
            (
                "postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n",
                15,
                "15.18",
            ),
            ("postgres (PostgreSQL) 18devel", 18, "18devel"),
            ("postgres (PostgreSQL) 17beta2", 17, "17beta2"),
        ];
        for (printed, major, text) in cases {
            assert_eq!(parse_printed(printed).unwrap(), (major, text.to_owned()));
        }
        assert!(parse_printed("bash 5.2").is_err());
        assert_eq!(parse_major("16\n").unwrap(), 16);
        assert!(parse_major("").is_err());
    }

    #[test]
    fn only_known_majors_are_supported() {
        assert!(matches!(supported(13), Err(VersionError::Unsupported(13))));
        assert!(matches!(supported(19), Err(VersionError::Unsupported(19))));
        assert_eq!(supported(18).unwrap(), 18);
    }

    #[tokio::test]
    async fn a_wrong_bin_dir_is_named_with_the_missing_program() {
        let error = Installation::find(Path::new("/usr/share"), Duration::from_secs(5)).await;
        let text = error.unwrap_err().to_string();
        assert!(text.contains("/usr/share has no executable"), "{text}");
        assert!(text.contains("\"postgres\""), "{text}");
    }
}
