//! POST `/reinitialize`: the body. Whether it may be done is decided where it is done.

use super::body;
use super::command::{Ask, Reply};
use serde_json::{Map, Value};

/// `from_leader` is taken and changes nothing: only a running leader is ever copied.
const KEYS: [&str; 2] = ["force", "from_leader"];

/// Read the body; an empty one asks for nothing special.
pub(super) fn read(bytes: &[u8]) -> Result<Ask, Reply> {
    let fields = body::optional_object(bytes, "expected {} or {\"force\": true}")?;
    body::known_keys(&fields, &KEYS)?;
    flag(&fields, "from_leader")?;
    Ok(Ask::Reinitialize {
        force: flag(&fields, "force")?,
    })
}

fn flag(fields: &Map<String, Value>, key: &str) -> Result<bool, Reply> {
    match fields.get(key) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(wanted)) => Ok(*wanted),
        Some(other) => {
            let text = format!("\"{key}\" must be true or false, found {other}");
            Err(Reply::new(400, text))
        }
    }
}
