//! Accounts of this machine: PostgreSQL refuses to run as root, so root hands over to another.

use nix::unistd::{Gid, Uid, User, chown};
use std::io;
use std::path::Path;

/// A user of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The login name.
    pub name: String,
    /// The user's number.
    pub uid: u32,
    /// The number of its first group.
    pub gid: u32,
}

/// The account of that name, if there is one.
pub fn find(name: &str) -> io::Result<Option<Account>> {
    Ok(User::from_name(name)?.map(|user| Account {
        name: user.name,
        uid: user.uid.as_raw(),
        gid: user.gid.as_raw(),
    }))
}

/// Gives a file or directory to an account.
pub fn give(path: &Path, account: &Account) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(account.uid), Gid::from_raw(account.gid));
    Ok(chown(path, Some(uid), Some(gid))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_found_and_nonsense_is_not() {
        assert_eq!(find("root").unwrap().map(|account| account.uid), Some(0));
        assert_eq!(find("no-such-user-here").unwrap(), None);
    }
}
