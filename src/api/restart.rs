//! POST `/restart`: the body, and whether its conditions hold here. Codes and words are Patroni's.

use super::body;
use super::command::{Ask, Reply};
use super::view::View;
use super::when::{self, When};
use crate::ha::model::Ms;
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

/// On whom a restart falls; all of them must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// Only a member of this role, in Patroni's words.
    pub role: Option<String>,
    /// Only a server older than this version (150004).
    pub older_than: Option<u32>,
    /// Only where a setting waits for a restart.
    pub pending: bool,
}

/// A restart for later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestartPlan {
    /// When.
    pub at: When,
    /// The start of the server it is planned for; one that started later has had its restart.
    pub postmaster_start_time: Option<String>,
    /// How long it may take.
    pub timeout_ms: Ms,
    /// If these hold then.
    pub conditions: Conditions,
    /// How the member's status shows it: Patroni's JSON object.
    pub shown: Value,
}

impl Conditions {
    /// They hold for the member that this view shows.
    pub fn hold(&self, view: &View) -> bool {
        self.role.as_ref().is_none_or(|role| *role == view.role)
            && (!self.pending || view.pending_restart)
            && self
                .older_than
                .is_none_or(|wanted| view.server_version.is_some_and(|is| is < wanted))
    }
}

/// Read and judge: what shall be done, or the refusal. An empty body is one without conditions.
pub(super) fn read(body: &[u8], view: &View, wall_now_ms: u64) -> Result<Ask, Reply> {
    let fields = body::optional_object(body, "expected {} or conditions")?;
    body::known_keys(&fields, &KEYS)?;
    let role = role(fields.get("role"))?.map(str::to_owned);
    let older_than = version(fields.get("postgres_version"))?;
    let timeout_s = timeout(fields.get("timeout"))?;
    let pending = body::flag(&fields, "restart_pending")?;
    let conditions = Conditions {
        role,
        older_than,
        pending,
    };
    let timeout_ms = timeout_s * 1_000;
    let schedule = match fields.get("schedule") {
        None | Some(Value::Null) => None,
        Some(Value::String(text)) if text.is_empty() => None,
        Some(Value::String(text)) => Some(text),
        Some(other) => {
            let text = format!("\"schedule\" must be a time as text, found {other}");
            return Err(Reply::new(400, text));
        }
    };
    if let Some(schedule) = schedule {
        if view.pause {
            return Err(Reply::new(
                500,
                "Can't schedule restart in the paused state",
            ));
        }
        let at = when::parse(schedule, "restart", wall_now_ms)?;
        let shown = shown(&fields, &at, view);
        return Ok(Ask::PlanRestart(RestartPlan {
            at,
            postmaster_start_time: view.postmaster_start_time.clone(),
            timeout_ms,
            conditions,
            shown,
        }));
    }
    if !conditions.hold(view) {
        return Err(Reply::new(503, "restart conditions are not satisfied"));
    }
    Ok(Ask::Restart { timeout_ms })
}

fn shown(fields: &Map<String, Value>, at: &When, view: &View) -> Value {
    let mut shown = fields.clone();
    shown.retain(|_, value| !value.is_null());
    shown.insert("schedule".to_owned(), Value::from(at.text.as_str()));
    let started = view.postmaster_start_time.as_deref();
    if let Some(started) = started {
        shown.insert("postmaster_start_time".to_owned(), Value::from(started));
    }
    Value::Object(shown)
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
        Some([major @ ..=9_999]) => Ok(Some(major * 10_000)),
        Some([major @ ..=9_999, minor @ ..=9_999]) => Ok(Some(major * 10_000 + minor)),
        // Before version 10: 9.5.2 is 90502.
        Some([major @ ..=9, minor @ ..=99, patch @ ..=99]) => {
            Ok(Some(major * 10_000 + minor * 100 + patch))
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
