//! What every body of a request has to be: a JSON object, with keys that are known.

use super::command::Reply;
use super::spelling::nearest;
use serde_json::{Map, Value};

/// The object, or the refusal; `expected` says what would be right.
pub(super) fn object(body: &[u8], expected: &str) -> Result<Map<String, Value>, Reply> {
    let why = match serde_json::from_slice(body) {
        Ok(Value::Object(fields)) => return Ok(fields),
        Ok(_) => "the body is not a JSON object".to_owned(),
        Err(error) => format!("the body is not JSON ({error})"),
    };
    Err(Reply::new(400, format!("{why}; {expected}")))
}

/// The same where no body at all is one without keys.
pub(super) fn optional_object(body: &[u8], expected: &str) -> Result<Map<String, Value>, Reply> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(Map::new());
    }
    object(body, expected)
}

/// A misspelt key is refused: without it something else than was meant would be done.
pub(super) fn known_keys(fields: &Map<String, Value>, keys: &[&str]) -> Result<(), Reply> {
    let Some(unknown) = fields.keys().find(|key| !keys.contains(&key.as_str())) else {
        return Ok(());
    };
    let hint = nearest(unknown, keys).map_or_else(
        || format!("the keys are {}", keys.join(", ")),
        |known| format!("did you mean \"{known}\"?"),
    );
    Err(Reply::new(
        400,
        format!("unknown key \"{unknown}\"; {hint}"),
    ))
}

/// A key that is true or false; missing or null is false.
pub(super) fn flag(fields: &Map<String, Value>, key: &str) -> Result<bool, Reply> {
    match fields.get(key) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(wanted)) => Ok(*wanted),
        Some(other) => {
            let text = format!("\"{key}\" must be true or false, found {other}");
            Err(Reply::new(400, text))
        }
    }
}
