//! The files of `agent-config/`, in the binary: what the documentation shows is what is tested.

/// The annotated default configuration.
pub const DEFAULT: &str = include_str!("../../agent-config/pgwarden.yml");

/// The JSON schema of the configuration, for editors.
pub const SCHEMA: &str = include_str!("../../agent-config/schema.json");

/// Examples: name and text.
pub const EXAMPLES: [(&str, &str); 8] = [
    (
        "minimal",
        include_str!("../../agent-config/examples/minimal.yml"),
    ),
    (
        "multi-zone",
        include_str!("../../agent-config/examples/multi-zone.yml"),
    ),
    (
        "playground",
        include_str!("../../agent-config/examples/playground.yml"),
    ),
    (
        "production",
        include_str!("../../agent-config/examples/production.yml"),
    ),
    (
        "reporting-replica",
        include_str!("../../agent-config/examples/reporting-replica.yml"),
    ),
    (
        "spilo",
        include_str!("../../agent-config/examples/spilo.yml"),
    ),
    (
        "standby-cluster",
        include_str!("../../agent-config/examples/standby-cluster.yml"),
    ),
    (
        "synchronous",
        include_str!("../../agent-config/examples/synchronous.yml"),
    ),
];
