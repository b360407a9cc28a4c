//! Upstream's syntax of names, label values and keys.

const LABEL_MUST: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN_MUST: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const SERVICE_MUST: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const VALUE_MUST: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const KEY_MUST: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const DATA_KEY_MUST: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";

/// `Err` says what the text must be.
pub(super) type Checked = Result<(), String>;

fn at_most(text: &str, limit: usize) -> Checked {
    if text.len() > limit {
        return Err(format!("must be no more than {limit} bytes"));
    }
    Ok(())
}

fn shape(ok: bool, must: &str) -> Checked {
    if ok { Ok(()) } else { Err(must.to_owned()) }
}

fn is_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    bytes.first().is_some_and(|it| inner(*it))
        && bytes.last().is_some_and(|it| inner(*it))
        && bytes.iter().all(|it| inner(*it) || *it == b'-')
}

/// Letters, digits, `-`, `_` and `.`, with letters or digits at both ends.
fn is_value(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
        && bytes
            .iter()
            .all(|it| it.is_ascii_alphanumeric() || b"-_.".contains(it))
}

pub(super) fn dns_label(text: &str) -> Checked {
    at_most(text, 63)?;
    shape(is_label(text), LABEL_MUST)
}

pub(super) fn dns_subdomain(text: &str) -> Checked {
    at_most(text, 253)?;
    shape(text.split('.').all(is_label), SUBDOMAIN_MUST)
}

pub(super) fn service_name(text: &str) -> Checked {
    at_most(text, 63)?;
    let starts = text.as_bytes().first().is_some_and(u8::is_ascii_lowercase);
    shape(starts && is_label(text), SERVICE_MUST)
}

pub(super) fn label_value(text: &str) -> Checked {
    at_most(text, 63)?;
    shape(text.is_empty() || is_value(text), VALUE_MUST)
}

/// A key of labels or annotations: `name` or `prefix/name`.
pub(super) fn qualified_name(text: &str) -> Checked {
    let name = match text.split_once('/') {
        Some((prefix, name)) => {
            dns_subdomain(prefix).map_err(|must| format!("prefix part {must}"))?;
            name
        }
        None => text,
    };
    at_most(name, 63).map_err(|must| format!("name part {must}"))?;
    shape(is_value(name), KEY_MUST)
}

/// A key of a ConfigMap's or Secret's data.
pub(super) fn data_key(text: &str) -> Checked {
    at_most(text, 253)?;
    let is_key = !text.is_empty()
        && text
            .bytes()
            .all(|it| it.is_ascii_alphanumeric() || b"-_.".contains(&it));
    shape(
        is_key && text != "." && !text.starts_with(".."),
        DATA_KEY_MUST,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["a", "a-b.c1", "0a", "demo-leader"] {
            assert!(dns_subdomain(good).is_ok(), "{good}");
        }
        for bad in ["", "A", "a_b", "-a", "a-", "a..b", ".a", "a b"] {
            assert!(dns_subdomain(bad).is_err(), "{bad}");
        }
        assert!(dns_subdomain(&"a".repeat(254)).is_err());
        assert!(service_name("0a").is_err() && service_name("a0").is_ok());
        assert!(service_name("a.b").is_err());
        assert!(label_value("").is_ok() && label_value("My_v.1").is_ok());
        assert!(label_value("a b").is_err() && label_value(&"a".repeat(64)).is_err());
        assert!(qualified_name("app.kubernetes.io/name").is_ok());
        assert!(qualified_name("a/b/c").is_err() && qualified_name("/b").is_err());
        assert!(data_key("pg_hba.conf").is_ok() && data_key("a/b").is_err());
    }
}
