//! `ctl query`: SQL on a member, the leader where nothing is said.

use super::Remote;
use super::dsn::find;
use super::list::{clock, look};
use super::pgpass;
use crate::cli::cluster::Row;
use crate::cli::render::document;
use crate::cli::sql::{self, Found};
use crate::cli::table::{Table, separated};
use crate::cli::verbs::{Format, QueryArgs};
use crate::cli::{Exit, Failure};
use serde_json::{Map, Value};
use std::io::{IsTerminal, Read, Write};
use std::path::Path;
use tokio::time::sleep;
use tokio_postgres::Config;

/// Run it, once or again and again. Each time the member is chosen anew, so a loop follows the
/// leader.
pub(super) async fn run(
    remote: &Remote,
    args: &QueryArgs,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let sql = text(args)?;
    let asked = if args.ask_password {
        Some(ask_password()?)
    } else {
        None
    };
    loop {
        let done = once(remote, args, &sql, asked.as_deref(), out).await;
        let Some(every) = args.watch.interval() else {
            return done.map(|()| Exit::Ok);
        };
        if let Err(failure) = done {
            // The next leader may answer.
            writeln!(out, "{}\t{failure}", clock())?;
        }
        out.flush()?;
        tokio::select! {
            () = sleep(every) => {}
            _ = tokio::signal::ctrl_c() => return Ok(Exit::Ok),
        }
    }
}

fn text(args: &QueryArgs) -> Result<String, Failure> {
    let sql = match (&args.command, &args.file) {
        (Some(sql), _) => sql.clone(),
        (None, Some(path)) => read(path)?,
        (None, None) => {
            let what = "no SQL is given: expected -c SQL or -f FILE";
            return Err(Failure::new(Exit::Usage, what));
        }
    };
    if sql.trim().is_empty() {
        return Err(Failure::new(Exit::Usage, "the SQL is empty"));
    }
    Ok(sql)
}

fn read(path: &Path) -> Result<String, Failure> {
    let read = if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(path)
    };
    read.map_err(|error| {
        Failure::new(
            Exit::from_io(&error),
            format!("{}: {error}", path.display()),
        )
    })
}

/// Without an echo, where somebody is there.
fn ask_password() -> Result<String, Failure> {
    let stdin = std::io::stdin();
    let hidden = stdin.is_terminal();
    eprint_now("Password: ");
    if hidden {
        crossterm::terminal::enable_raw_mode()?;
    }
    let line = if hidden {
        unechoed(&mut stdin.lock())
    } else {
        let mut line = String::new();
        stdin.read_line(&mut line).map(|_| Some(line))
    };
    if hidden {
        crossterm::terminal::disable_raw_mode()?;
        eprint_now("\n");
    }
    let line = line?.ok_or_else(|| Failure::new(Exit::Failure, "no password was given"))?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// Standard output is for what the query gives.
fn eprint_now(text: &str) {
    let mut err = std::io::stderr();
    let _ = err.write_all(text.as_bytes()).and_then(|()| err.flush());
}

/// A line of a terminal that hands over every key; nothing after Ctrl-C or Ctrl-D.
fn unechoed(keys: &mut dyn Read) -> std::io::Result<Option<String>> {
    let mut line = Vec::new();
    let mut key = [0];
    while keys.read(&mut key)? == 1 {
        match key[0] {
            b'\r' | b'\n' => return Ok(Some(String::from_utf8_lossy(&line).into_owned())),
            3 | 4 => return Ok(None),
            8 | 127 => drop(line.pop()),
            byte => line.push(byte),
        }
    }
    Ok(None)
}

async fn once(
    remote: &Remote,
    args: &QueryArgs,
    sql: &str,
    asked: Option<&str>,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let cluster = look(remote).await?;
    let row = find(&cluster, args.member.as_deref(), args.role)?;
    let config = config(row, args, asked);
    let all = sql::ask(&config, sql).await.map_err(|error| {
        let exit = match error {
            sql::Error::Deadline => Exit::Unavailable,
            sql::Error::Refused(_) => Exit::Failure,
        };
        Failure::new(exit, format!("{}: {error}", row.name))
    })?;
    for found in &all {
        show(found, args.format, &args.delimiter, out)?;
    }
    Ok(())
}

fn config(row: &Row, args: &QueryArgs, asked: Option<&str>) -> Config {
    let variable = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
    let user = args.user.clone().or_else(|| variable("PGUSER"));
    let user = user.unwrap_or_else(|| "postgres".to_owned());
    let database = args.dbname.clone().or_else(|| variable("PGDATABASE"));
    let database = database.unwrap_or_else(|| user.clone());
    let port = row.port.unwrap_or(5432);
    let password = asked
        .map(str::to_owned)
        .or_else(|| variable("PGPASSWORD"))
        .or_else(|| pgpass::password(&row.host, port, &database, &user));
    let mut config = Config::new();
    config
        .host(&row.host)
        .port(port)
        .user(&user)
        .dbname(&database)
        .application_name("pgwarden ctl query")
        .connect_timeout(sql::CONNECT);
    if let Some(password) = password {
        config.password(password);
    }
    config
}

fn show(
    found: &Found,
    format: Format,
    delimiter: &str,
    out: &mut dyn Write,
) -> std::io::Result<()> {
    if matches!(format, Format::Json | Format::Yaml) {
        let keyed: Vec<Map<String, Value>> = found
            .rows
            .iter()
            .map(|row| {
                let pairs = found.heads.iter().cloned().zip(row);
                pairs
                    .map(|(head, cell)| (head, cell.clone().map_or(Value::Null, Value::from)))
                    .collect()
            })
            .collect();
        return document(&keyed, format, out);
    }
    let heads: Vec<&str> = found.heads.iter().map(String::as_str).collect();
    let rows: Vec<Vec<String>> = found
        .rows
        .iter()
        .map(|row| row.iter().map(|c| c.clone().unwrap_or_default()).collect())
        .collect();
    if format == Format::Tsv {
        return separated(delimiter, &heads, &rows, out);
    }
    let table = Table {
        title: String::new(),
        heads: &heads,
        rows: &rows,
        right: &[],
    };
    table.draw(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(format: Format, delimiter: &str) -> String {
        let found = Found {
            heads: vec!["n".to_owned(), "text".to_owned()],
            rows: vec![
                vec![Some("1".to_owned()), Some("a b".to_owned())],
                vec![Some("2".to_owned()), None],
            ],
        };
        let mut out = Vec::new();
        show(&found, format, delimiter, &mut out).expect("written");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn rows_have_their_format() {
        assert_eq!(shown(Format::Tsv, ";"), "n;text\n1;a b\n2;\n");
        assert_eq!(
            shown(Format::Json, ""),
            "[{\"n\":\"1\",\"text\":\"a b\"},{\"n\":\"2\",\"text\":null}]\n"
        );
        assert_eq!(
            shown(Format::Pretty, ""),
            "+---+------+\n| n | text |\n+---+------+\n| 1 | a b  |\n| 2 |      |\n+---+------+\n"
        );
    }

    #[test]
    fn a_password_ends_with_its_line_and_can_be_corrected() {
        let typed = |keys: &str| unechoed(&mut keys.as_bytes()).expect("read");
        assert_eq!(typed("sex\u{7f}cret\r").as_deref(), Some("secret"));
        assert_eq!(typed("a\u{3}"), None);
        assert_eq!(typed("half"), None);
    }
}
