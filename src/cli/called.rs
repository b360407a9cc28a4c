//! Three programs in one file: what it is called as decides which one it is.

use std::ffi::{OsStr, OsString};
use std::path::Path;

/// As which program it was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Called {
    /// `pgwarden`, and any other name.
    Pgwarden,
    /// `patroni`: an agent, with Patroni's few options.
    Patroni,
    /// `patronictl`.
    Patronictl,
}

impl Called {
    /// By the first word of the command line, without its directory.
    pub(super) fn by(first: Option<&OsString>) -> Self {
        let name = first.and_then(|word| Path::new(word).file_name());
        match name.and_then(OsStr::to_str) {
            Some("patroni") => Self::Patroni,
            Some("patronictl") => Self::Patronictl,
            _ => Self::Pgwarden,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_part_of_the_path_is_the_name() {
        let by = |word: &str| Called::by(Some(&OsString::from(word)));
        assert_eq!(by("patroni"), Called::Patroni);
        assert_eq!(by("/usr/local/bin/patronictl"), Called::Patronictl);
        assert_eq!(by("/patroni/pgwarden"), Called::Pgwarden);
        assert_eq!(by("patroni-old"), Called::Pgwarden);
        assert_eq!(by(""), Called::Pgwarden);
        assert_eq!(Called::by(None), Called::Pgwarden);
    }
}
