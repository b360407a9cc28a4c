//! POST `/reinitialize`: the body. Whether it may be done is decided where it is done.

use super::body;
use super::command::{Ask, Reply};

/// `from_leader` is taken and changes nothing: only a running leader is ever copied.
const KEYS: [&str; 2] = ["force", "from_leader"];

/// Read the body; an empty one asks for nothing special.
pub(super) fn read(bytes: &[u8]) -> Result<Ask, Reply> {
    let fields = body::optional_object(bytes, "expected {} or {\"force\": true}")?;
    body::known_keys(&fields, &KEYS)?;
    body::flag(&fields, "from_leader")?;
    Ok(Ask::Reinitialize {
        force: body::flag(&fields, "force")?,
    })
}
