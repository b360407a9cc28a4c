//! `ctl show-config` and `ctl edit-config`: the stored document, and a change of it that is shown
//! before it is sent. The member that is asked judges it.

use super::Remote;
use super::ask::confirm;
use crate::api::ConfigChange;
use crate::cli::verbs::{DocumentFormat, EditConfig};
use crate::cli::{Exit, Failure};
use crate::settings;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::Path;

type Document = Map<String, Value>;

/// Print the document.
pub(super) async fn show(
    remote: &Remote,
    format: DocumentFormat,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let document = fetch(remote).await?;
    match format {
        DocumentFormat::Yaml => write!(out, "{}", yaml(&document)?)?,
        DocumentFormat::Json => writeln!(out, "{}", Value::Object(document))?,
    }
    Ok(Exit::Ok)
}

/// Change it.
pub(super) async fn edit(
    remote: &Remote,
    args: &EditConfig,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let before = fetch(remote).await?;
    let given = given(args)?;
    let Some(change) = given else {
        return edit_by_hand(remote, args, &before, out).await;
    };
    apply(remote, args, &before, change, out).await
}

/// In an editor. What a person wrote there is kept until it is stored.
async fn edit_by_hand(
    remote: &Remote,
    args: &EditConfig,
    before: &Document,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let path = std::env::temp_dir().join(format!("pgwarden-config-{}.yml", std::process::id()));
    let text = edited(before, &path)?;
    let done = match parse(&text, "the edited text") {
        Ok(next) => apply(remote, args, before, ConfigChange::Replace(next), out).await,
        Err(failure) => Err(failure),
    };
    match done {
        Ok(exit) => {
            let _ = std::fs::remove_file(&path);
            Ok(exit)
        }
        Err(failure) => {
            let words = format!("{failure}; your text is in {}", path.display());
            Err(Failure::new(failure.exit(), words))
        }
    }
}

async fn apply(
    remote: &Remote,
    args: &EditConfig,
    before: &Document,
    change: ConfigChange,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let after = change.apply(Some(before)).unwrap_or_default();
    let lines = differences(before, &after);
    if lines.is_empty() {
        writeln!(out, "Not changed")?;
        return Ok(Exit::Ok);
    }
    if !args.quiet {
        for line in lines {
            writeln!(out, "{line}")?;
        }
    }
    if !args.force {
        confirm(remote, "Apply these changes?", out)?;
    }
    let (method, body) = match change {
        ConfigChange::Merge(change) => ("PATCH", change),
        ConfigChange::Replace(next) => ("PUT", next),
    };
    let sent = remote.send(method, "/config", &Value::Object(body)).await?;
    let Some(answer) = sent else {
        let what = "nobody answered, it may have been stored; look at `pgwarden ctl show-config`";
        return Err(Failure::new(Exit::Temporary, what));
    };
    if answer.status == 200 {
        writeln!(out, "Configuration changed")?;
        return Ok(Exit::Ok);
    }
    let what = format!("{} (status {})", answer.text(), answer.status);
    Err(Failure::new(Exit::Refused, what))
}

async fn fetch(remote: &Remote) -> Result<Document, Failure> {
    match remote.get("/config").await? {
        Value::Object(document) => Ok(document),
        other => {
            let what = format!("/config is not a JSON object but {other}");
            Err(Failure::new(Exit::BadData, what))
        }
    }
}

/// What the command line asks for; `None`: it says nothing of it.
fn given(args: &EditConfig) -> Result<Option<ConfigChange>, Failure> {
    if let Some(path) = &args.replace {
        return Ok(Some(ConfigChange::Replace(read(path)?)));
    }
    let mut change = match &args.apply {
        Some(path) => read(path)?,
        None => Document::new(),
    };
    for pair in &args.set {
        let (path, value) = split(pair)?;
        put(&mut change, &path.split('.').collect::<Vec<_>>(), value);
    }
    for pair in &args.pg {
        let (name, value) = split(pair)?;
        // A parameter's name may have a dot in it.
        put(&mut change, &["postgresql", "parameters", name], value);
    }
    let said = args.apply.is_some() || !change.is_empty();
    Ok(said.then_some(ConfigChange::Merge(change)))
}

fn split(pair: &str) -> Result<(&str, Value), Failure> {
    let usage = |what: String| Failure::new(Exit::Usage, what);
    let (key, text) = pair
        .split_once('=')
        .filter(|(key, _)| !key.trim().is_empty() && !key.split('.').any(str::is_empty))
        .ok_or_else(|| usage(format!("{pair:?} is not KEY=VALUE, as ttl=20")))?;
    let value = settings::yaml_to_json(text)
        .map_err(|error| usage(format!("{pair:?}: the value is not YAML: {error}")))?;
    Ok((key.trim(), value))
}

fn put(document: &mut Document, path: &[&str], value: Value) {
    match path {
        [] => {}
        [key] => drop(document.insert((*key).to_owned(), value)),
        [key, rest @ ..] => {
            let inner = document.entry(*key).or_insert_with(|| json!({}));
            if !inner.is_object() {
                *inner = json!({});
            }
            if let Value::Object(inner) = inner {
                put(inner, rest, value);
            }
        }
    }
}

fn read(path: &Path) -> Result<Document, Failure> {
    let no_input =
        |error: std::io::Error| Failure::new(Exit::NoInput, format!("{}: {error}", path.display()));
    let text = if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .map_err(no_input)?;
        text
    } else {
        std::fs::read_to_string(path).map_err(no_input)?
    };
    parse(&text, &path.display().to_string())
}

fn parse(text: &str, place: &str) -> Result<Document, Failure> {
    match settings::yaml_to_json(text) {
        Ok(Value::Object(document)) => Ok(document),
        Ok(_) => {
            let what = format!("{place}: not a map of keys; expected lines as \"ttl: 20\"");
            Err(Failure::new(Exit::BadData, what))
        }
        Err(error) => Err(Failure::new(Exit::BadData, format!("{place}: {error}"))),
    }
}

fn yaml(document: &Document) -> Result<String, Failure> {
    settings::json_to_yaml(&Value::Object(document.clone()))
        .map_err(|error| Failure::new(Exit::Internal, format!("the document as YAML: {error}")))
}

/// The text after a person had the document in an editor.
fn edited(before: &Document, path: &Path) -> Result<String, Failure> {
    let editor = std::env::var("EDITOR")
        .ok()
        .filter(|editor| !editor.is_empty());
    let Some(editor) = editor else {
        let what = "nothing to change is given, and EDITOR is not set; use --set, --pg, --apply or \
                    --replace";
        return Err(Failure::new(Exit::Usage, what));
    };
    let file = |error: std::io::Error| {
        Failure::new(Exit::CannotCreate, format!("{}: {error}", path.display()))
    };
    let mut made = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .map_err(file)?;
    made.write_all(yaml(before)?.as_bytes()).map_err(file)?;
    drop(made);
    // An editor with options is a line of shell, as everywhere.
    let ended = std::process::Command::new("sh")
        .args(["-c", "exec $EDITOR \"$1\"", "sh"])
        .arg(path)
        .status();
    if ended.as_ref().is_ok_and(std::process::ExitStatus::success) {
        return std::fs::read_to_string(path).map_err(file);
    }
    let _ = std::fs::remove_file(path);
    match ended {
        Ok(status) => {
            let what = format!("{editor} ended with {status}: nothing was changed");
            Err(Failure::new(Exit::Failure, what))
        }
        Err(error) => Err(Failure::new(Exit::OsError, format!("{editor}: {error}"))),
    }
}

/// A line for each key that is another: `ttl: 30 -> 20`, `+ pause: true`, `- slots.a: …`.
fn differences(before: &Document, after: &Document) -> Vec<String> {
    let (old, new) = (leaves(before), leaves(after));
    let keys: std::collections::BTreeSet<_> = old.keys().chain(new.keys()).collect();
    keys.into_iter()
        .filter_map(|key| match (old.get(key), new.get(key)) {
            (Some(old), Some(new)) if old != new => Some(format!("  {key}: {old} -> {new}")),
            (None, Some(new)) => Some(format!("+ {key}: {new}")),
            (Some(old), None) => Some(format!("- {key}: {old}")),
            _ => None,
        })
        .collect()
}

fn leaves(document: &Document) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for (key, value) in document {
        match value {
            Value::Object(inner) if !inner.is_empty() => {
                let below = leaves(inner).into_iter();
                all.extend(below.map(|(path, value)| (format!("{key}.{path}"), value)));
            }
            Value::String(text) => drop(all.insert(key.clone(), text.clone())),
            other => drop(all.insert(key.clone(), other.to_string())),
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(set: &[&str], pg: &[&str]) -> EditConfig {
        let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        EditConfig {
            set: owned(set),
            pg: owned(pg),
            apply: None,
            replace: None,
            quiet: false,
            force: true,
        }
    }

    #[test]
    fn words_of_the_command_line_become_one_change() {
        let args = args(
            &[
                "ttl=20",
                "pause=null",
                "synchronous_mode=on",
                "postgresql.use_slots=true",
            ],
            &["work_mem=8MB", "pg_stat_statements.max=100", "jit=null"],
        );
        let Ok(Some(ConfigChange::Merge(change))) = given(&args) else {
            panic!("no change")
        };
        let expected = json!({
            "ttl": 20, "pause": null, "synchronous_mode": change["synchronous_mode"],
            "postgresql": { "use_slots": true, "parameters": {
                "work_mem": "8MB", "pg_stat_statements.max": 100, "jit": null } },
        });
        assert_eq!(Value::Object(change), expected);
        for bad in ["ttl", "=3", "a..b=1", ".a=1", "a=[1"] {
            assert!(split(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn each_key_that_differs_has_a_line() {
        let object = |value: Value| value.as_object().cloned().unwrap_or_default();
        let before =
            object(json!({ "ttl": 30, "postgresql": { "parameters": { "a": "x", "b": 1 } } }));
        let after = object(
            json!({ "ttl": 30, "pause": true, "postgresql": { "parameters": { "a": "y" } } }),
        );
        assert_eq!(
            differences(&before, &after),
            [
                "+ pause: true",
                "  postgresql.parameters.a: x -> y",
                "- postgresql.parameters.b: 1"
            ]
        );
        assert!(differences(&before, &before).is_empty());
    }

    #[test]
    fn a_document_survives_the_way_through_yaml() {
        let document = json!({ "ttl": 30, "postgresql": { "parameters": {
            "a": "on", "b": "1", "c": "0x1", "d": "null", "e": "", "f": "it's: # so", "g": true } } });
        let document = document.as_object().cloned().unwrap_or_default();
        let text = yaml(&document).unwrap_or_default();
        assert_eq!(parse(&text, "it").ok(), Some(document), "{text}");
    }
}
