//! What verbs have in common: which members, how to print, how often, how long.

use clap::{Args, ValueEnum};
use std::time::Duration;

/// How often a screen is renewed where nobody says.
const EVERY: Duration = Duration::from_secs(2);

/// `-W` and `-w`.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct Watch {
    /// Show it again every 2 seconds.
    #[arg(short = 'W')]
    pub watching: bool,
    /// Show it again every so many seconds.
    #[arg(short = 'w', long = "watch", value_name = "SECONDS", value_parser = every)]
    pub every: Option<Duration>,
}

impl Watch {
    /// How often; `None`: once.
    pub fn interval(&self) -> Option<Duration> {
        self.every.or(self.watching.then_some(EVERY))
    }
}

fn every(text: &str) -> Result<Duration, String> {
    text.parse::<f64>()
        .ok()
        .filter(|seconds| (0.1..=3600.0).contains(seconds))
        .map(Duration::from_secs_f64)
        .ok_or_else(|| "expected seconds from 0.1 to 3600".to_owned())
}

/// `90`, `90s`, `10min`, `1h`: the whole seconds a restart may take.
pub(super) fn patience(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim() {
        "" | "s" => Some(1),
        "min" => Some(60),
        "h" => Some(3_600),
        _ => None,
    };
    number
        .parse::<u64>()
        .ok()
        .zip(factor)
        .and_then(|(number, factor)| number.checked_mul(factor))
        .filter(|seconds| (1..=86_400).contains(seconds))
        .ok_or_else(|| "expected a time as 90, 90s, 10min or 1h, a day at most".to_owned())
}

/// Members by name or by role.
#[derive(Args, Clone, Debug, Default)]
pub struct Choice {
    /// The members; without a name, all of them.
    #[arg(value_name = "MEMBER")]
    pub members: Vec<String>,
    /// Only members of this role.
    #[arg(short, long, value_enum, default_value_t = Role::Any)]
    pub role: Role,
}

/// A role as `ctl` chooses by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// The leader.
    #[value(alias = "primary", alias = "master")]
    Leader,
    /// The leader of a standby cluster.
    StandbyLeader,
    /// All others.
    #[value(alias = "standby")]
    Replica,
    /// Everybody.
    #[default]
    Any,
}

/// How to print a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DocumentFormat {
    /// As in the configuration file.
    #[value(alias = "yml")]
    Yaml,
    /// For programs.
    Json,
}

/// How a change is carried out.
#[derive(Args, Clone, Debug)]
pub struct Act {
    /// Do not ask for confirmation.
    #[arg(long)]
    pub force: bool,
    /// How long to wait until the cluster shows the new leader; 0: not at all.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub wait: u64,
}

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Pretty,
    /// For programs.
    Json,
    /// For `cut` and spreadsheets.
    Tsv,
    /// For programs and people.
    #[value(alias = "yml")]
    Yaml,
}
