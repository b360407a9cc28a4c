//! Basic authentication of everything that changes something.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use std::fmt;

/// The one user of the API.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The name.
    pub username: String,
    /// The password.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({:?}, …)", self.username)
    }
}

impl Credentials {
    /// The value of an `Authorization` header.
    pub fn header(&self) -> String {
        let pair = format!("{}:{}", self.username, self.password);
        format!("Basic {}", STANDARD.encode(pair))
    }

    /// Whether an `Authorization` header names this user, in a time that tells nothing of where
    /// it differs: digests of one length are compared to their ends.
    pub fn accepts(&self, header: &[u8]) -> bool {
        let given = header
            .split_at_checked(6)
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"Basic "))
            .and_then(|(_, encoded)| STANDARD.decode(encoded.trim_ascii()).ok())
            .unwrap_or_default();
        let wanted = format!("{}:{}", self.username, self.password);
        let (given, wanted) = (Sha256::digest(given), Sha256::digest(wanted));
        given
            .iter()
            .zip(wanted.iter())
            .fold(0, |differs, (a, b)| differs | (a ^ b))
            == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_pair_is_accepted() {
        let user = Credentials {
            username: "admin".to_owned(),
            password: "s:ecret".to_owned(),
        };
        assert!(user.accepts(user.header().as_bytes()));
        assert!(user.accepts(user.header().replace("Basic", "basic").as_bytes()));
        let wrong = Credentials {
            password: "s:ecre".to_owned(),
            ..user.clone()
        };
        for header in [
            "",
            "Basic",
            "Basic ",
            "Basic !!!",
            "Bearer abc",
            &wrong.header(),
        ] {
            assert!(!user.accepts(header.as_bytes()), "{header}");
        }
        assert!(!format!("{user:?}").contains("ecret"));
    }
}
