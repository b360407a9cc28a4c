//! Faults for other processes: the same rules, injected over HTTP.
//!
//! | request | does |
//! | --- | --- |
//! | `GET /pgwarden-faults` | the rules in force and how often each one fired |
//! | `POST /pgwarden-faults` | injects the rule in the body, answers its id |
//! | `DELETE /pgwarden-faults[/ID]` | clears that rule, or all |
//! | `GET /pgwarden-faults/calls` | calls received, by client, verb and kind |
//! | `POST /pgwarden-faults/snapshots/NAME` | keeps the store's present under that name |
//! | `POST /pgwarden-faults/restore/NAME` | puts it back: content and resourceVersion go backwards |
//! | `POST /pgwarden-faults/compact` | forgets the past: old resourceVersions are answered with 410 |

use http::{Method, Response};
use serde_json::{Value, json};

use super::requests::{Body, json_response};
use super::rules::Rule;
use super::server::Shared;

pub(super) const PREFIX: &str = "/pgwarden-faults";

pub(super) fn answer(shared: &Shared, method: &Method, path: &str, body: &[u8]) -> Response<Body> {
    let rest = path
        .strip_prefix(PREFIX)
        .unwrap_or_default()
        .trim_matches('/');
    let parts: Vec<&str> = rest.split('/').filter(|part| !part.is_empty()).collect();
    match (method.as_str(), parts.as_slice()) {
        ("GET", []) => json_response(200, &json!(shared.faults.list())),
        ("GET", ["calls"]) => json_response(200, &calls(shared)),
        ("POST", []) => match serde_json::from_slice::<Rule>(body) {
            Ok(rule) => json_response(201, &json!({"id": shared.faults.inject(rule)})),
            Err(error) => json_response(400, &json!({"error": format!("not a rule: {error}")})),
        },
        ("DELETE", []) => {
            shared.faults.clear(None);
            json_response(200, &json!({}))
        }
        ("DELETE", [id]) => match id.parse() {
            Ok(id) => {
                shared.faults.clear(Some(id));
                json_response(200, &json!({}))
            }
            Err(_) => json_response(400, &json!({"error": format!("{id:?} is not a rule's id")})),
        },
        ("POST", ["snapshots", name]) => {
            let snapshot = shared.store().now.clone();
            let revision = snapshot.revision();
            shared.faults.save_snapshot(name, snapshot);
            json_response(201, &json!({"revision": revision}))
        }
        ("POST", ["restore", name]) => match shared.faults.snapshot(name) {
            Some(snapshot) => {
                shared.restore(&snapshot);
                json_response(200, &json!({"revision": snapshot.revision()}))
            }
            None => json_response(404, &json!({"error": format!("no snapshot {name:?}")})),
        },
        ("POST", ["compact"]) => {
            shared.store().compact();
            shared.announce();
            json_response(200, &json!({}))
        }
        _ => json_response(
            404,
            &json!({"error": format!("{method} {path} means nothing here")}),
        ),
    }
}

fn calls(shared: &Shared) -> Value {
    let counted = shared.faults.calls().into_iter().map(|((client, verb, resource), count)| {
        json!({"client": client, "verb": verb, "resource": resource, "count": count})
    });
    counted.collect()
}
