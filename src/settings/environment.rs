//! Credentials from the environment, under Patroni's names: they win over the file, so that pods
//! take them from a Secret and the file can be shown to anybody.

use super::raw::{Node, Place, Value};
use super::resolve::Env;
use std::sync::Arc;

/// Variable and path. The other variables of Patroni are not known yet.
pub(super) const VARIABLES: [(&str, &[&str]); 8] = [
    (
        "PATRONI_SUPERUSER_USERNAME",
        &["postgresql", "authentication", "superuser", "username"],
    ),
    (
        "PATRONI_SUPERUSER_PASSWORD",
        &["postgresql", "authentication", "superuser", "password"],
    ),
    (
        "PATRONI_REPLICATION_USERNAME",
        &["postgresql", "authentication", "replication", "username"],
    ),
    (
        "PATRONI_REPLICATION_PASSWORD",
        &["postgresql", "authentication", "replication", "password"],
    ),
    (
        "PATRONI_REWIND_USERNAME",
        &["postgresql", "authentication", "rewind", "username"],
    ),
    (
        "PATRONI_REWIND_PASSWORD",
        &["postgresql", "authentication", "rewind", "password"],
    ),
    (
        "PATRONI_RESTAPI_USERNAME",
        &["restapi", "authentication", "username"],
    ),
    (
        "PATRONI_RESTAPI_PASSWORD",
        &["restapi", "authentication", "password"],
    ),
];

/// Lays the variables that are set, and not empty, over what the file says.
pub(super) fn overlay(node: &mut Node, env: Env<'_>) {
    for (variable, path) in VARIABLES {
        if let Some(text) = env(variable).filter(|text| !text.is_empty()) {
            let place = Place {
                file: Some(Arc::from(format!("environment {variable}"))),
                line: 0,
            };
            let put = |value| Node {
                place: place.clone(),
                value,
            };
            let nested = path
                .iter()
                .rev()
                .fold(put(Value::Text(text)), |inner, key| {
                    put(Value::Map(vec![((*key).to_owned(), inner)]))
                });
            node.merge(nested);
        }
    }
}
