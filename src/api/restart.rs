//! POST `/restart`: the body, and whether its conditions hold here. Codes and words are Patroni's.

use super::body;
use super::command::{Ask, Reply};
use super::view::View;
use serde_json::{Map, Value};

const KEYS: [&str; 5] = [
    "postgres_version",
    "restart_pending",
    "role",
    "schedule",
    "timeout",
];
/// Who names no time waits this long for the server to be back, in seconds.
const TIMEOUT_S: u64 = 600;

/// Read and judge: what shall be done, or the refusal. An empty body is one without conditions.
pub(super) fn read(body: &[u8], view: &View) -> Result<Ask, Reply> {
    let fields = fields(body)?;
    body::known_keys(&fields, &KEYS)?;
    let role = role(fields.get("role"))?;
    let version = version(fields.get("postgres_version"))?;
    let timeout_s = timeout(fields.get("timeout"))?;
    let pending = match fields.get("restart_pending") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(wanted)) => *wanted,
        Some(other) => {
            let text = format!("\"restart_pending\" must be true or false, found {other}");
            return Err(Reply::new(400, text));
        }
    };
    if fields.get("schedule").is_some_and(|value| !value.is_null()) {
        let text = "Scheduled restarts are not supported by this version: leave out schedule and \
                    the restart is done at once";
        return Err(Reply::new(400, text));
    }
    let fits = role.is_none_or(|role| role == view.role)
        && (!pending || view.pending_restart)
        && version.is_none_or(|wanted| view.server_version.is_some_and(|is| is < wanted));
    if !fits {
        return Err(Reply::new(503, "restart conditions are not satisfied"));
    }
    Ok(Ask::Restart {
        timeout_ms: timeout_s * 1_000,
    })
}

fn fields(body: &[u8]) -> Result<Map<String, Value>, Reply> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(Map::new());
    }
    body::object(body, "expected {} or conditions")
}

fn role(value: Option<&Value>) -> Result<Option<&str>, Reply> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(role)) if role == "master" => Ok(Some("primary")),
        Some(Value::String(role))
            if matches!(role.as_str(), "primary" | "standby_leader" | "replica") =>
        {
            Ok(Some(role))
        }
        Some(_) => Err(Reply::new(
            400,
            "PostgreSQL role should be either primary, standby_leader, or replica",
        )),
    }
}

/// `15.4` as the server's number, 150004: who runs an older one is restarted.
fn version(value: Option<&Value>) -> Result<Option<u32>, Reply> {
    let text = match value {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    let parts: Option<Vec<u32>> = text.split('.').map(|part| part.parse().ok()).collect();
    match parts.as_deref() {
        Some([major]) => Ok(major.checked_mul(10_000)),
        Some([major, minor]) if *minor < 10_000 => {
            Ok(major.checked_mul(10_000).map(|number| number + minor))
        }
        _ => Err(Reply::new(
            400,
            format!("Invalid PostgreSQL version: {text}"),
        )),
    }
}

/// `90`, `90s`, `10min`, `1h`, `1d`: PostgreSQL's units, of which milliseconds are too fine here.
fn duration_s(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim() {
        "" | "s" => 1,
        "min" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

fn timeout(value: Option<&Value>) -> Result<u64, Reply> {
    let seconds = match value {
        None | Some(Value::Null) => return Ok(TIMEOUT_S),
        Some(Value::String(text)) => duration_s(text),
        Some(other) => other.as_u64(),
    };
    seconds
        .filter(|seconds| (1..=86_400).contains(seconds))
        .ok_or_else(|| Reply::new(400, "Timeout should be a positive number of seconds"))
}
