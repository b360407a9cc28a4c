//! The only module that knows which YAML crate is used, and the bounds it works under.
//!
//! A configuration file is small. Whatever is not (a huge file, a document whose aliases expand
//! without end, nesting a thousand deep) is refused before it costs memory.

use super::raw::{Node, Place, Value};
use serde::de::{Deserialize, Deserializer};
use serde_saphyr::options::DuplicateKeyPolicy;
use serde_saphyr::{Error, Options, Spanned};

/// The largest file that is read.
pub(super) const MAX_FILE_BYTES: u64 = 1 << 20;
/// Nodes, including those that aliases repeat.
const MAX_NODES: usize = 50_000;
/// Nesting of lists and maps.
const MAX_DEPTH: usize = 32;

/// Why a text is not a document: where, and what was wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BadYaml {
    pub(super) line: u64,
    pub(super) message: String,
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        let place = Place {
            file: None,
            line: spanned.referenced.line(),
        };
        Ok(Self {
            place,
            value: spanned.value,
        })
    }
}

/// Parses one document.
pub(super) fn parse(bytes: &[u8]) -> Result<Node, BadYaml> {
    if bytes.len() as u64 > MAX_FILE_BYTES {
        let message =
            format!("it has more than {MAX_FILE_BYTES} bytes, too many for a configuration");
        return Err(BadYaml { line: 0, message });
    }
    let text = std::str::from_utf8(bytes).map_err(|e| BadYaml {
        line: bytes[..e.valid_up_to()].split(|b| *b == b'\n').count() as u64,
        message: format!(
            "byte {} is not UTF-8; expected a UTF-8 text",
            e.valid_up_to()
        ),
    })?;
    serde_saphyr::from_str_with_options(text, options()).map_err(|e| explain(&e))
}

/// A document that is no configuration file, as JSON; the error is one line.
pub(super) fn to_json(text: &str) -> Result<serde_json::Value, String> {
    let parsed = serde_saphyr::from_str_with_options::<Option<serde_json::Value>>(text, options());
    parsed.map(Option::unwrap_or_default).map_err(|error| {
        let words = error.to_string();
        let first = words.lines().next().unwrap_or_default();
        first.trim_start_matches("error: ").to_owned()
    })
}

/// The same the other way.
pub(super) fn from_json(document: &serde_json::Value) -> Result<String, String> {
    serde_saphyr::to_string(document).map_err(|error| error.to_string())
}

fn options() -> Options {
    let mut options = Options::default();
    // A snippet of the file in a message could show a password.
    options.with_snippet = false;
    // Duplicates are reported by the resolver, all of them, with both lines.
    options.duplicate_keys = DuplicateKeyPolicy::PassThrough;
    options.leading_zero_numbers_as_strings = true;
    options.underscored_numbers_as_strings = true;
    options.alias_limits.max_total_replayed_events = MAX_NODES;
    options.alias_limits.max_replay_stack_depth = MAX_DEPTH;
    if let Some(budget) = &mut options.budget {
        budget.max_events = 2 * MAX_NODES;
        budget.max_nodes = MAX_NODES;
        budget.max_depth = MAX_DEPTH;
        budget.flow_nesting_limit = MAX_DEPTH;
        budget.max_total_scalar_bytes = MAX_FILE_BYTES as usize;
        budget.max_recorded_anchor_events = MAX_NODES;
        budget.max_recorded_anchor_bytes = MAX_FILE_BYTES as usize;
    }
    options
}

/// The crate's error in our words. Its own text is used only for the syntax, which quotes nothing
/// of the file but single characters.
fn explain(error: &Error) -> BadYaml {
    let line = error.location().map_or(0, |at| at.line());
    let mut cause = error.without_snippet();
    while let Error::AliasError { error, .. } = cause {
        cause = error.without_snippet();
    }
    let message = match cause {
        Error::Budget { .. }
        | Error::AliasReplayCounterOverflow { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. } => format!(
            "the document is too large or its aliases expand to too much; expected at most \
             {MAX_NODES} values, nested at most {MAX_DEPTH} deep"
        ),
        Error::UnknownAnchor { .. } => {
            "an alias (*name) has no anchor (&name) before it; text that begins with * needs quotes"
                .to_owned()
        }
        Error::RecursiveReferencesRequireWeakTypes { .. } => {
            "an alias (*name) stands inside of what its own anchor (&name) names, without end; \
             expected it after that"
                .to_owned()
        }
        // Only keys are asked to be text.
        Error::NullIntoString { .. } => {
            "a key is null (nothing, or ~); expected a name before the colon".to_owned()
        }
        Error::Unexpected {
            expected: "string scalar",
            ..
        } => "a key is a list or a map; expected a name before the colon".to_owned(),
        Error::MultipleDocuments { .. } => {
            "there is more than one document (---); expected one".to_owned()
        }
        other => format!("it is not YAML: {}", other.to_string().replace('\n', " ")),
    };
    BadYaml { line, message }
}
