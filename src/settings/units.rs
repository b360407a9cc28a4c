//! Numbers with units, as PostgreSQL and Patroni write them.

/// No duration of the configuration is longer than a year; more is a mistake of units.
pub(super) const MAX_DURATION_MS: u64 = 366 * 24 * 3_600 * 1_000;

/// `30`, `30s`, `500ms`, `5min`, `1h`, `1d` in milliseconds; a bare number counts seconds.
pub(super) fn duration_ms(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let factor = match unit {
        "ms" => 1,
        "" | "s" => 1_000,
        "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    u64::try_from(number).ok()?.checked_mul(factor)
}

/// `1048576`, `16kB`, `1MB`, `1GB`, `1TB` in bytes; a bare number counts bytes.
pub(super) fn size_bytes(text: &str) -> Option<i64> {
    let (number, unit) = split(text)?;
    let shift = match unit {
        "" | "B" => 0,
        "kB" => 10,
        "MB" => 20,
        "GB" => 30,
        "TB" => 40,
        _ => return None,
    };
    number.checked_mul(1_i64 << shift)
}

fn split(text: &str) -> Option<(i64, &str)> {
    let text = text.trim();
    let end = text
        .char_indices()
        .find(|(at, c)| !(c.is_ascii_digit() || (*at == 0 && *c == '-')))
        .map_or(text.len(), |(at, _)| at);
    let (number, unit) = text.split_at(end);
    Some((number.parse().ok()?, unit.trim()))
}
