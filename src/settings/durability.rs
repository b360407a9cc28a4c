//! Parameters that give up what a commit promises: allowed, since they are the user's own, and
//! never in silence.

use std::collections::BTreeMap;

/// Why no member replays up to a point only.
pub(super) const NO_TARGET: &str = "a member would stop replaying there, go on acknowledging \
    commits beyond, and lose them when it is promoted";

/// A parameter that ends recovery at a point, or says what comes then.
pub(super) fn is_recovery_target(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.starts_with("recovery_target") && name != "recovery_target_timeline"
}

/// What this PostgreSQL is asked to risk: the parameters, and in words what that costs.
pub fn risks(
    parameters: &BTreeMap<String, String>,
    synchronous_mode: bool,
) -> Vec<(&'static str, String)> {
    let set = |name: &str| {
        let found = parameters
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.trim().to_ascii_lowercase())
    };
    let is_off = |value: &str| matches!(value, "off" | "false" | "no" | "0" | "f" | "n" | "of");
    let mut risks = Vec::new();
    for name in ["fsync", "full_page_writes"] {
        if let Some(value) = set(name).filter(|value| is_off(value)) {
            let why = format!(
                "found {value}; expected on: a crash of the machine leaves data that must not be used"
            );
            risks.push((name, why));
        }
    }
    let weak = |value: &String| is_off(value) || value == "local";
    if let Some(value) = set("synchronous_commit").filter(|value| synchronous_mode && weak(value)) {
        let why = format!(
            "found {value}; expected on: synchronous_mode is on, and commits would be acknowledged \
             before a standby has them, so that a failover loses them"
        );
        risks.push(("synchronous_commit", why));
    }
    risks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn risky(pairs: &[(&str, &str)], synchronous: bool) -> Vec<&'static str> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let parameters = pairs.iter().map(owned).collect();
        let risks = risks(&parameters, synchronous);
        risks.into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn what_loses_commits_is_named() {
        let weak = [("synchronous_commit", "local")];
        assert_eq!(risky(&weak, true), ["synchronous_commit"]);
        assert_eq!(risky(&weak, false), [""; 0], "nobody promised more");
        assert_eq!(
            risky(&[("Synchronous_Commit", "OFF")], true),
            ["synchronous_commit"]
        );
        for fine in ["on", "remote_apply", "remote_write"] {
            assert_eq!(risky(&[("synchronous_commit", fine)], true), [""; 0]);
        }
        let broken = [("fsync", "off"), ("full_page_writes", "false")];
        assert_eq!(risky(&broken, false), ["fsync", "full_page_writes"]);
    }
}
