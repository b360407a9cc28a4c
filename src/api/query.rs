//! Query strings: percent-decoding, and sizes as PostgreSQL writes them.

/// Decoded pairs in the order they were given; a name may occur more than once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Split and decode. What cannot be decoded stays as it is written.
    pub fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|part| !part.is_empty());
        Self(
            pairs
                .map(|part| {
                    let (name, value) = part.split_once('=').unwrap_or((part, ""));
                    (decode(name), decode(value))
                })
                .collect(),
        )
    }

    /// The first value of that name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    /// All pairs whose name starts with `prefix`, without it.
    pub fn with_prefix<'a>(
        &'a self,
        prefix: &'a str,
    ) -> impl Iterator<Item = (&'a str, &'a str)> + 'a {
        self.0
            .iter()
            .filter_map(move |(key, value)| Some((key.strip_prefix(prefix)?, value.as_str())))
    }
}

fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = || {
            let digits = std::str::from_utf8(bytes.get(at + 1..at + 3)?).ok()?;
            u8::from_str_radix(digits, 16).ok()
        };
        match bytes[at] {
            b'+' => out.push(b' '),
            b'%' => {
                if let Some(byte) = hex() {
                    out.push(byte);
                    at += 2;
                } else {
                    out.push(b'%');
                }
            }
            byte => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// A size in bytes: a number, alone or followed by B, kB, MB, GB or TB (powers of 1024).
///
/// `None` for anything else, which callers take for "no limit" as Patroni does.
pub fn size_bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let split = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor: u64 = match unit.trim() {
        "" | "B" => 1,
        "kB" => 1 << 10,
        "MB" => 1 << 20,
        "GB" => 1 << 30,
        "TB" => 1 << 40,
        _ => return None,
    };
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(factor);
    }
    let value: f64 = number.parse().ok()?;
    Some((value * factor as f64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_decoded_and_keeps_what_it_cannot_decode() {
        let query = Query::parse("tag_a=x%20y&tag_b=1+2&&bad=%zz&flag&tag_a=second");
        assert_eq!(query.get("tag_a"), Some("x y"));
        assert_eq!(query.get("bad"), Some("%zz"));
        assert_eq!(query.get("flag"), Some(""));
        assert_eq!(query.get("none"), None);
        let tags: Vec<_> = query.with_prefix("tag_").collect();
        assert_eq!(tags, [("a", "x y"), ("b", "1 2"), ("a", "second")]);
        assert_eq!(Query::parse("a=%e4%bd%a0&b=%").get("a"), Some("你"));
    }

    #[test]
    fn sizes_have_units_and_anything_else_is_no_limit() {
        for (text, bytes) in [
            ("0", Some(0)),
            ("16", Some(16)),
            ("16kB", Some(16 << 10)),
            ("10MB", Some(10 << 20)),
            (" 1 GB ", Some(1 << 30)),
            ("1.5MB", Some(3 << 19)),
            ("2TB", Some(2 << 40)),
            ("", None),
            ("10mb", None),
            ("-1", None),
            ("many", None),
            ("99999999999TB", None),
        ] {
            assert_eq!(size_bytes(text), bytes, "{text:?}");
        }
    }
}
