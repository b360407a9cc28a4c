//! What a refused request is answered with: Kubernetes' `Status` object, word for word where
//! clients read it.

use serde_json::{Map, Value, json};

use super::resources::Resource;

/// One field that validation refused, as `details.causes` lists it.
#[derive(Clone, Debug)]
pub(super) struct Cause {
    reason: &'static str,
    message: String,
    field: String,
}

impl Cause {
    pub(super) fn invalid(field: impl Into<String>, value: &Value, must: &str) -> Self {
        Self::new(
            "FieldValueInvalid",
            field,
            format!("Invalid value: {value}: {must}"),
        )
    }

    pub(super) fn required(field: impl Into<String>, must: &str) -> Self {
        let message = if must.is_empty() {
            "Required value".to_owned()
        } else {
            format!("Required value: {must}")
        };
        Self::new("FieldValueRequired", field, message)
    }

    pub(super) fn forbidden(field: impl Into<String>, must: &str) -> Self {
        Self::new("FieldValueForbidden", field, format!("Forbidden: {must}"))
    }

    pub(super) fn too_long(field: impl Into<String>, limit_bytes: usize) -> Self {
        let message = format!("Too long: may not be more than {limit_bytes} bytes");
        Self::new("FieldValueTooLong", field, message)
    }

    pub(super) fn unsupported(field: impl Into<String>, value: &str, known: &[&str]) -> Self {
        let known: Vec<String> = known.iter().map(|one| format!("{one:?}")).collect();
        let message = format!(
            "Unsupported value: {value:?}: supported values: {}",
            known.join(", ")
        );
        Self::new("FieldValueNotSupported", field, message)
    }

    fn new(reason: &'static str, field: impl Into<String>, message: String) -> Self {
        Self {
            reason,
            message,
            field: field.into(),
        }
    }
}

/// A refusal: everything the `Status` body and the response's head are made of.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{code} {reason}: {message}")]
pub(super) struct ApiError {
    pub(super) code: u16,
    reason: &'static str,
    message: String,
    details: Map<String, Value>,
    pub(super) retry_after_s: Option<u32>,
}

impl ApiError {
    fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            code,
            reason,
            message,
            details: Map::new(),
            retry_after_s: None,
        }
    }

    /// `details` of an error about one object names its plural as `kind`.
    fn about(mut self, resource: &Resource, name: &str) -> Self {
        self.details.insert("name".into(), name.into());
        if !resource.group.is_empty() {
            self.details.insert("group".into(), resource.group.into());
        }
        self.details.insert("kind".into(), resource.plural.into());
        self
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    pub(super) fn no_such_path() -> Self {
        Self::new(
            404,
            "NotFound",
            "the server could not find the requested resource",
        )
    }

    pub(super) fn not_found(resource: &Resource, name: &str) -> Self {
        let message = format!("{} {name:?} not found", resource.qualified());
        Self::new(404, "NotFound", message).about(resource, name)
    }

    pub(super) fn already_exists(resource: &Resource, name: &str) -> Self {
        let message = format!("{} {name:?} already exists", resource.qualified());
        Self::new(409, "AlreadyExists", message).about(resource, name)
    }

    /// The resourceVersion named by the writer is no longer the object's.
    pub(super) fn modified(resource: &Resource, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version \
                   and try again";
        Self::conflict(resource, name, why)
    }

    pub(super) fn conflict(resource: &Resource, name: &str, why: &str) -> Self {
        let message = format!(
            "Operation cannot be fulfilled on {} {name:?}: {why}",
            resource.qualified()
        );
        Self::new(409, "Conflict", message).about(resource, name)
    }

    pub(super) fn invalid(resource: &Resource, name: &str, causes: Vec<Cause>) -> Self {
        let kind = if resource.group.is_empty() {
            resource.kind.to_owned()
        } else {
            format!("{}.{}", resource.kind, resource.group)
        };
        let told: Vec<String> = causes
            .iter()
            .map(|cause| format!("{}: {}", cause.field, cause.message))
            .collect();
        let told = if told.len() == 1 {
            told.concat()
        } else {
            format!("[{}]", told.join(", "))
        };
        let mut error = Self::new(
            422,
            "Invalid",
            format!("{kind} {name:?} is invalid: {told}"),
        )
        .about(resource, name);
        error.details.insert("kind".into(), resource.kind.into());
        let causes: Vec<Value> = causes
            .into_iter()
            .map(|it| json!({"reason": it.reason, "message": it.message, "field": it.field}))
            .collect();
        error.details.insert("causes".into(), causes.into());
        error
    }

    /// A JSON patch whose operations do not fit the object; upstream does not say why.
    pub(super) fn unprocessable() -> Self {
        let message = "the server rejected our request due to an error in our request";
        Self::new(422, "Invalid", message)
    }

    /// A patch after which the object is no longer one of its kind.
    pub(super) fn misshapen(message: &str) -> Self {
        let mut error = Self::new(
            422,
            "Invalid",
            format!(" \"\" is invalid: patch: {message}"),
        );
        let cause = json!({"reason": "FieldValueInvalid", "message": message, "field": "patch"});
        error.details.insert("causes".into(), json!([cause]));
        error
    }

    /// What upstream did not think of a client doing: 500 and no reason.
    pub(super) fn unforeseen(message: impl Into<String>) -> Self {
        Self::new(500, "", message)
    }

    pub(super) fn unsupported_media_type(accepted: &str) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {accepted}"
        );
        Self::new(415, "UnsupportedMediaType", message)
    }

    pub(super) fn method_not_allowed() -> Self {
        Self::new(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        )
    }

    pub(super) fn too_large(limit_bytes: usize) -> Self {
        let message = format!("Request entity too large: limit is {limit_bytes}");
        Self::new(413, "RequestEntityTooLarge", message)
    }

    pub(super) fn expired(asked: u64, oldest: u64) -> Self {
        Self::new(
            410,
            "Expired",
            format!("too old resource version: {asked} ({oldest})"),
        )
    }

    /// A read that names a revision this store has not reached (after a restore, for one).
    pub(super) fn from_the_future(asked: u64, current: u64) -> Self {
        let message = format!("Timeout: Too large resource version: {asked}, current: {current}");
        let mut error = Self::new(504, "Timeout", message);
        let cause = json!({"reason": "ResourceVersionTooLarge",
            "message": "Too large resource version"});
        error.details.insert("causes".into(), json!([cause]));
        error.details.insert("retryAfterSeconds".into(), 1.into());
        error.retry_after_s = Some(1);
        error
    }

    /// The answer of an injected fault.
    pub(super) fn injected(code: u16, retry_after_s: Option<u32>) -> Self {
        let (reason, message) = match code {
            401 => ("Unauthorized", "Unauthorized"),
            403 => ("Forbidden", "forbidden: injected fault"),
            404 => ("NotFound", "not found: injected fault"),
            409 => ("Conflict", "conflict: injected fault"),
            410 => ("Expired", "too old resource version: injected fault"),
            429 => (
                "TooManyRequests",
                "The server has received too many requests and has asked us to try again later",
            ),
            500 => ("InternalError", "Internal error occurred: injected fault"),
            503 => (
                "ServiceUnavailable",
                "the server is currently unable to handle the request",
            ),
            504 => (
                "Timeout",
                "Timeout: request did not complete within the allotted timeout",
            ),
            _ => ("", "injected fault"),
        };
        let mut error = Self::new(code, reason, message);
        if let Some(seconds) = retry_after_s {
            error
                .details
                .insert("retryAfterSeconds".into(), seconds.into());
        }
        error.retry_after_s = retry_after_s;
        error
    }

    /// The `Status` object of this refusal.
    pub(super) fn to_status(&self) -> Value {
        let mut status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "code": self.code,
        });
        if !self.reason.is_empty() {
            status["reason"] = self.reason.into();
        }
        if !self.details.is_empty() {
            status["details"] = Value::Object(self.details.clone());
        }
        status
    }
}
