//! Which PostgreSQL is installed, and which one a data directory belongs to.
//!
//! Supported are 14 to 18. 15 is tested wherever it is installed, as are 17 and 18; 14 and 16 are
//! covered by fixtures of their control file only.

use super::child;
use std::collections::BTreeMap;
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
        "{bin_dir} has no executable program \"{}\"; expected the bin \
         directory of a PostgreSQL {MAJOR_MIN} to {MAJOR_MAX}, as /usr/lib/postgresql/15/bin",
        program.display()
    )]
    Missing {
        /// The directory searched.
        bin_dir: PathBuf,
        /// The program not found.
        program: PathBuf,
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
    /// Programs that are called something else there: `postgres` → `postgres.real`.
    pub names: BTreeMap<String, String>,
    /// Its major version.
    pub major: u32,
    /// Its version as printed, as `15.4`.
    pub text: String,
}

impl Installation {
    /// Looks that every program is there and asks the server for its version.
    pub async fn find(bin_dir: &Path, deadline: Duration) -> Result<Self, VersionError> {
        Self::find_named(bin_dir, BTreeMap::new(), deadline).await
    }

    /// The same, with programs that have names of their own.
    pub async fn find_named(
        bin_dir: &Path,
        names: BTreeMap<String, String>,
        deadline: Duration,
    ) -> Result<Self, VersionError> {
        let mut found = Self {
            bin_dir: bin_dir.to_owned(),
            names,
            major: 0,
            text: String::new(),
        };
        for program in PROGRAMS {
            let runs =
                |meta: std::fs::Metadata| meta.is_file() && meta.permissions().mode() & 0o111 != 0;
            let file = found.program(program);
            if !std::fs::metadata(&file).is_ok_and(runs) {
                return Err(VersionError::Missing {
                    bin_dir: bin_dir.to_owned(),
                    program: file.file_name().unwrap_or_default().into(),
                });
            }
        }
        let mut command = child::program(&found.program("postgres"), Path::new("/"));
        command.arg("--version");
        let printed = child::run(command, deadline).await?;
        let (major, text) = parse_printed(&printed)?;
        found.major = supported(major)?;
        found.text = text;
        Ok(found)
    }

    /// The file of a program.
    pub fn program(&self, name: &str) -> PathBuf {
        let file = self.names.get(name).map_or(name, String::as_str);
        self.bin_dir.join(file)
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
