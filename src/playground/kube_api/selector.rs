//! Label and field selectors of list, watch and deletecollection.

use serde_json::Value;

use super::resources::Resource;
use super::status::ApiError;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Requirement {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    Absent,
}

/// Both selectors of a request, parsed.
#[derive(Clone, Debug, Default)]
pub(super) struct Selector {
    labels: Vec<(String, Requirement)>,
    /// (dotted path, wanted value, whether it must equal)
    fields: Vec<(String, String, bool)>,
}

impl Selector {
    pub(super) fn parse(
        resource: &Resource,
        labels: Option<&str>,
        fields: Option<&str>,
    ) -> Result<Self, ApiError> {
        let mut selector = Self::default();
        for term in split_terms(labels.unwrap_or_default()) {
            selector.labels.push(parse_label(&term).ok_or_else(|| {
                ApiError::bad_request(format!("unable to parse requirement: {term:?}"))
            })?);
        }
        for term in fields
            .unwrap_or_default()
            .split(',')
            .filter(|term| !term.is_empty())
        {
            let (field, wanted, equal) = parse_field(term).ok_or_else(|| {
                ApiError::bad_request(format!("invalid field selector: {term:?}"))
            })?;
            let known = ["metadata.name", "metadata.namespace"].contains(&field)
                || resource.field_selectors.contains(&field);
            if !known {
                let message = format!("field label not supported: {field}");
                return Err(ApiError::bad_request(message));
            }
            selector
                .fields
                .push((field.to_owned(), wanted.to_owned(), equal));
        }
        Ok(selector)
    }

    pub(super) fn matches(&self, object: &Value) -> bool {
        let labels = object.pointer("/metadata/labels");
        self.labels.iter().all(|(key, requirement)| {
            let value = labels.and_then(|it| it.get(key)).and_then(Value::as_str);
            match requirement {
                Requirement::In(any) => value.is_some_and(|it| any.iter().any(|one| one == it)),
                Requirement::NotIn(none) => value.is_none_or(|it| none.iter().all(|one| one != it)),
                Requirement::Exists => value.is_some(),
                Requirement::Absent => value.is_none(),
            }
        }) && self.fields.iter().all(|(field, wanted, equal)| {
            let pointer = format!("/{}", field.replace('.', "/"));
            let value = object
                .pointer(&pointer)
                .and_then(Value::as_str)
                .unwrap_or_default();
            (value == wanted) == *equal
        })
    }
}

/// Splits at commas outside parentheses.
fn split_terms(text: &str) -> Vec<String> {
    let mut terms = vec![String::new()];
    let mut depth = 0_i32;
    for letter in text.chars() {
        match letter {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                terms.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(last) = terms.last_mut() {
            last.push(letter);
        }
    }
    terms
        .iter()
        .map(|term| term.trim().to_owned())
        .filter(|term| !term.is_empty())
        .collect()
}

fn parse_label(term: &str) -> Option<(String, Requirement)> {
    let pair = |key: &str, value: &str, equal: bool| {
        let (key, value) = (key.trim().to_owned(), vec![value.trim().to_owned()]);
        is_key(&key).then_some((
            key,
            if equal {
                Requirement::In(value)
            } else {
                Requirement::NotIn(value)
            },
        ))
    };
    if let Some((head, list)) = term.split_once('(') {
        let values = list
            .strip_suffix(')')?
            .split(',')
            .map(|it| it.trim().to_owned())
            .collect();
        let mut words = head.split_whitespace();
        let (key, operator) = (words.next()?.to_owned(), words.next()?);
        return match (operator, words.next()) {
            ("in", None) => Some((key, Requirement::In(values))),
            ("notin", None) => Some((key, Requirement::NotIn(values))),
            _ => None,
        };
    }
    if let Some((key, value)) = term.split_once("!=") {
        return pair(key, value, false);
    }
    if let Some((key, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
        return pair(key, value, true);
    }
    if let Some(key) = term.strip_prefix('!') {
        return is_key(key.trim()).then(|| (key.trim().to_owned(), Requirement::Absent));
    }
    is_key(term).then(|| (term.to_owned(), Requirement::Exists))
}

fn is_key(text: &str) -> bool {
    !text.is_empty()
        && text
            .chars()
            .all(|it| it.is_ascii_alphanumeric() || "-_./".contains(it))
}

fn parse_field(term: &str) -> Option<(&str, &str, bool)> {
    if let Some((field, value)) = term.split_once("!=") {
        return Some((field, value, false));
    }
    term.split_once("==")
        .or_else(|| term.split_once('='))
        .map(|(field, value)| (field, value, true))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn matches(labels: &str, fields: &str, object: &Value) -> bool {
        let pods = Resource::by_plural("pods").expect("pods are served");
        Selector::parse(pods, Some(labels), Some(fields))
            .expect("parses")
            .matches(object)
    }

    #[test]
    fn every_operator() {
        let pod = json!({"metadata": {"name": "p", "labels": {"role": "primary", "a.b/c": "x"}},
            "status": {"phase": "Running"}});
        for yes in [
            "role=primary",
            "role == primary",
            "role!=replica",
            "role in (a, primary)",
            "x notin (a,b)",
            "role",
            "!x",
            "a.b/c=x,role",
            "",
        ] {
            assert!(matches(yes, "", &pod), "{yes}");
        }
        for no in [
            "role=replica",
            "role!=primary",
            "role in (a)",
            "role notin (primary)",
            "x",
            "!role",
            "x=primary",
        ] {
            assert!(!matches(no, "", &pod), "{no}");
        }
        assert!(matches("", "metadata.name=p,status.phase!=Failed", &pod));
        assert!(!matches("", "metadata.name=q", &pod));
    }

    #[test]
    fn refuses_what_it_cannot_mean() {
        let leases = Resource::by_plural("leases").expect("leases are served");
        assert!(Selector::parse(leases, Some("a in b"), None).is_err());
        assert!(Selector::parse(leases, Some("a in (b"), None).is_err());
        assert!(Selector::parse(leases, None, Some("spec.holderIdentity=x")).is_err());
    }
}
