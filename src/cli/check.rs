//! `pgwarden check CONFIG`: what is wrong with a configuration, and what it means here.

use super::exit::Exit;
use crate::api::security;
use crate::settings::{self, Budgets, Effective, Loaded, Problem, Settings, machine, show};
use serde_json::json;
use std::io::{self, Write};
use std::path::Path;

/// How the outcome is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Lines for people: problems first, one each.
    #[default]
    Text,
    /// One JSON object: `problems`, `settings`, `budgets`.
    Json,
}

/// Checks the file (or directory) and writes what was found. [`Exit::Ok`] with warnings only.
pub fn run(path: &Path, format: Format, out: &mut dyn Write) -> Exit {
    run_in(path, format, &settings::process_env, out)
}

/// The same in another environment.
pub fn run_in(
    path: &Path,
    format: Format,
    env: &dyn Fn(&str) -> Option<String>,
    out: &mut dyn Write,
) -> Exit {
    let Loaded {
        settings,
        mut problems,
    } = settings::load(path, env);
    let mut budgets = None;
    if let Some(settings) = &settings {
        problems.extend(machine::inspect(settings));
        problems.extend(rest_api(settings));
        problems.extend(Effective::of(settings, &settings.bootstrap.dcs).1);
        budgets = settings.budgets_for(settings.bootstrap.dcs.ttl_ms).ok();
        problems.sort_by_key(|problem| problem.severity);
    }
    let written = match format {
        Format::Text => text(out, &problems, settings.as_ref(), budgets.as_ref()),
        Format::Json => json(out, &problems, settings.as_ref(), budgets.as_ref()),
    };
    match written {
        Ok(()) => {}
        // Whoever reads has seen enough.
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => {}
        Err(_) => return Exit::Failure,
    }
    outcome(path, &problems)
}

/// What only the files of certificates and keys can say.
fn rest_api(settings: &Settings) -> Vec<Problem> {
    let now_s = crate::sys::clock::wall_s();
    let mut found = security::inspect(&super::rest::security(settings), now_s);
    // How members ask is judged there; how people ask may rest on one more file.
    let cafile = settings.restapi.tls.as_ref();
    let cafile = cafile.and_then(|tls| tls.cafile.clone());
    if let Err(error) = super::rest::asking(&settings.ctl, cafile).load(now_s) {
        let finding = (true, error.key().to_owned(), error.message());
        if !found.contains(&finding) {
            found.push(finding);
        }
    }
    let problem = |(wrong, key, message): (bool, String, String)| {
        if wrong {
            Problem::error(key, message)
        } else {
            Problem::warning(key, message)
        }
    };
    found.into_iter().map(problem).collect()
}

fn outcome(path: &Path, problems: &[Problem]) -> Exit {
    if !problems.iter().any(Problem::is_error) {
        return Exit::Ok;
    }
    match std::fs::metadata(path) {
        Ok(about) if about.is_dir() => Exit::Config,
        Ok(about) if !about.is_file() => Exit::NoInput,
        Ok(_) => match std::fs::File::open(path) {
            Ok(_) => Exit::Config,
            Err(e) => Exit::from_io(&e),
        },
        Err(e) => Exit::from_io(&e),
    }
}

fn json(
    out: &mut dyn Write,
    problems: &[Problem],
    settings: Option<&Settings>,
    budgets: Option<&Budgets>,
) -> io::Result<()> {
    let document = json!({
        "problems": problems,
        "settings": settings.map(show::document),
        "budgets": budgets.map(show::budgets),
    });
    serde_json::to_writer_pretty(&mut *out, &document)?;
    writeln!(out)
}

fn text(
    out: &mut dyn Write,
    problems: &[Problem],
    settings: Option<&Settings>,
    budgets: Option<&Budgets>,
) -> io::Result<()> {
    for problem in problems {
        writeln!(out, "{problem}")?;
    }
    if let Some(settings) = settings {
        if !problems.is_empty() {
            writeln!(out)?;
        }
        writeln!(out, "Effective settings:")?;
        for line in show::lines(settings) {
            writeln!(out, "  {line}")?;
        }
    }
    if let Some(budgets) = budgets {
        writeln!(out)?;
        table(out, budgets)?;
    }
    let errors = problems.iter().filter(|problem| problem.is_error()).count();
    let warnings = problems.len() - errors;
    writeln!(out)?;
    writeln!(
        out,
        "{}, {}",
        count(errors, "error"),
        count(warnings, "warning")
    )
}

fn count(number: usize, what: &str) -> String {
    match number {
        0 => format!("no {what}s"),
        1 => format!("1 {what}"),
        _ => format!("{number} {what}s"),
    }
}

/// The instants of the lease (rules G2 and G3), in words.
fn table(out: &mut dyn Write, budgets: &Budgets) -> io::Result<()> {
    let ttl = budgets.ttl_ms();
    let rows = [
        ("renew the lock every", budgets.renew_ms()),
        ("one call of the API may take", budgets.call_ms()),
        ("one election of its store may take", budgets.election_ms()),
        ("stop PostgreSQL (fast) at", budgets.fast_stop_ms()),
        ("stop it immediately at", budgets.immediate_stop_ms()),
        ("kill everything at", budgets.kill_ms()),
        ("which takes at most", budgets.kill_budget_ms()),
    ];
    writeln!(
        out,
        "Lease of {ttl} ms; instants count from the last acknowledged renewal:"
    )?;
    for (what, ms) in rows {
        writeln!(out, "  {what:<36} {ms:>8} ms")?;
    }
    let end = budgets.kill_ms() + budgets.kill_budget_ms();
    writeln!(
        out,
        "  {:<36} {end:>8} ms of {ttl} ms (G2 holds)",
        "nothing of it is left after"
    )?;
    if budgets.election_ms() < 3_000 {
        writeln!(
            out,
            "  One election of the API server's store of up to {} ms is survived, a longer one \
             stops PostgreSQL.",
            budgets.election_ms()
        )?;
    }
    Ok(())
}

/// `pgwarden check CONFIG`, as the command line calls it.
pub fn verb(args: &super::CheckArgs, out: &mut dyn Write) -> anyhow::Result<Exit> {
    let json = args.format == super::args::TextFormat::Json;
    Ok(run(
        &args.config,
        if json { Format::Json } else { Format::Text },
        out,
    ))
}
