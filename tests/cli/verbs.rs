//! The parser, the help, `explain`, and ends that are no failures.

use crate::harness::start;
use crate::program::{end, program, run};
use crate::recorded::view;
use pgwarden::api::Limits;
use pgwarden::cli::{self, Dispatch, Exit};
use serde_json::Value;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Stdio;

fn all() -> Dispatch {
    Dispatch {
        agent: Some(|_| Ok(Exit::NameTaken)),
        check: Some(|args, out| {
            writeln!(out, "checked {}", args.config.display())?;
            Ok(Exit::Config)
        }),
        replay: Some(|_, _| Err(anyhow::anyhow!("inner").context("replay the journal"))),
        playground: Some(|args| {
            assert_eq!((args.members, args.ttl, args.exercise), (3, 6, true));
            Ok(Exit::ExerciseFailed)
        }),
        endpoint: Some(|path, _| anyhow::bail!("{} has no restapi", path.unwrap().display())),
    }
}

/// Run in this process: the exit, stdout and stderr.
fn inside(dispatch: &Dispatch, line: &str) -> (Exit, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let args = line.split(' ').map(OsString::from);
    let exit = cli::run(dispatch, args, &mut out, &mut err);
    (
        exit,
        String::from_utf8(out).unwrap(),
        String::from_utf8(err).unwrap(),
    )
}

#[test]
fn the_commands_are_sound_and_every_verb_shows_an_example() {
    for dispatch in [Dispatch::default(), all()] {
        cli::command(&dispatch).debug_assert();
        let mut root = cli::command(&dispatch);
        root.build();
        let mut verbs: Vec<_> = root.get_subcommands().cloned().collect();
        let ctl = root.find_subcommand("ctl").unwrap();
        verbs.extend(ctl.get_subcommands().cloned());
        for mut verb in verbs.into_iter().filter(|verb| verb.get_name() != "help") {
            let help = verb.render_long_help().to_string();
            assert!(help.contains("Example"), "{help}");
            assert!(!help.starts_with("`pgwarden"), "{help}");
        }
    }
}

#[test]
fn a_verb_that_is_not_linked_does_not_exist() {
    let verbs = ["agent", "check", "replay", "playground"];
    let (exit, bare, _) = inside(&Dispatch::default(), "pgwarden --help");
    assert_eq!(exit, Exit::Ok);
    let (_, full, _) = inside(&all(), "pgwarden --help");
    for verb in verbs {
        assert!(!bare.contains(&format!("\n  {verb} ")), "{bare}");
        assert!(full.contains(&format!("\n  {verb} ")), "{full}");
        let (exit, _, err) = inside(&Dispatch::default(), &format!("pgwarden {verb} x"));
        assert_eq!(exit, Exit::Usage, "{err}");
    }
    assert!(bare.contains("Exit codes:\n    0  done"), "{bare}");
    let (_, help, _) = inside(&Dispatch::default(), "pgwarden ctl list --help");
    assert!(!help.contains("--config"), "{help}");
}

#[test]
fn linked_verbs_end_as_their_parts_say() {
    for (line, exit, out, err) in [
        ("pgwarden agent a.yml", Exit::NameTaken, "", ""),
        ("pgwarden check a.yml", Exit::Config, "checked a.yml\n", ""),
        (
            "pgwarden replay j",
            Exit::Failure,
            "",
            "error: replay the journal: inner\n",
        ),
        (
            "pgwarden playground --exercise",
            Exit::ExerciseFailed,
            "",
            "",
        ),
        (
            "pgwarden ctl list -c a.yml",
            Exit::Config,
            "",
            "error: a.yml: a.yml has no restapi\n",
        ),
    ] {
        assert_eq!(
            inside(&all(), line),
            (exit, out.to_owned(), err.to_owned()),
            "{line}"
        );
    }
    for line in [
        "pgwarden",
        "pgwarden frobnicate",
        "pgwarden agent",
        "pgwarden ctl",
        "pgwarden ctl list -f xml",
        "pgwarden ctl failover --force",
        "pgwarden playground --members 0",
        "pgwarden playground --ttl 5",
    ] {
        let (exit, _, err) = inside(&all(), line);
        assert_eq!(exit, Exit::Usage, "{line}");
        assert!(!err.is_empty(), "{line}");
    }
}

fn journal(name: &str) -> String {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests", "recorded", name]
        .iter()
        .collect();
    path.to_str().unwrap().to_owned()
}

#[tokio::test]
async fn an_election_is_told_from_both_sides() {
    let (old, new) = (journal("pg-0.journal"), journal("pg-1.journal"));
    let ended = run(&["explain", &old, &new]).await;
    assert_eq!(ended.code, 0, "{ended:?}");
    let wanted = "
Epoch 8: pg-1 takes the lead, 2026-11-22
    pg-0 last asked to renew epoch 7 at 18:12:27.100.
    At 18:12:33.211 pg-1 saw the lock free: the record is 6100 ms old. It stood at timeline 1, 0/4000000.
    It asked the others: pg-2 was at timeline 1, 0/3FFFE00; pg-0 did not answer.
    It went on because nobody is ahead of 0/4000000; then the quorum read shows the same record: claim the lock.
    It asked for the lock at 18:12:33.971, ordered the promotion at 18:12:34.001 and opened the Service at 18:12:34.211.
    From the old leader's last sign to the open Service: 7111 ms.
  18:12:33.211 pg-1 [Election] the lock is free: the record is 6100 ms old; I am at timeline 1, 0/4000000
  18:12:33.961 pg-1 [Election] nobody is ahead of 0/4000000
  18:12:33.971 pg-1 [L2] the quorum read shows the same record: claim the lock
      → acquire the lock as epoch 8 (attempt 1)
  18:12:34.001 pg-1 [Primary] the lock is mine, epoch 8
      → promote PostgreSQL
  18:12:34.211 pg-1 [-]
      → point the Service at me, epoch 8
9 steps, 4 of them routine and not shown
1 lines could not be read
";
    assert_eq!(ended.out, wanted);
    let ended = run(&[
        "explain",
        &new,
        "--since",
        "2026-11-22T18:12:34.1Z",
        "-f",
        "json",
    ])
    .await;
    let lines: Vec<Value> = ended
        .out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(
        (&lines[0]["n"], &lines[0]["member"]),
        (&Value::from(95), &Value::from("pg-1"))
    );
    let ended = run(&["explain", &old, "--last", "2"]).await;
    assert!(
        ended
            .out
            .starts_with("no election in this part of the journal\n1 steps"),
        "{ended:?}"
    );
}

#[tokio::test]
async fn a_journal_comes_from_members_too_and_bad_ones_are_named() {
    let server = start(view("running", "leader"), Limits::default(), None).await;
    let api = server.addr.to_string();
    let ended = run(&["explain", "--api", &api, "--last", "2", "-f", "json"]).await;
    assert_eq!(
        ended.out,
        "{\"member\":\"pg-2\",\"n\":2}\n{\"member\":\"pg-2\",\"n\":3}\n"
    );
    server.stop().await;
    let ended = run(&["explain", "--api", &api]).await;
    assert_eq!(ended.code, 69, "{ended:?}");
    let ended = run(&["explain", "/nonexistent.journal"]).await;
    assert_eq!(ended.code, 66, "{ended:?}");
    assert!(
        ended
            .err
            .starts_with("error: /nonexistent.journal cannot be read:"),
        "{ended:?}"
    );
    let ended = run(&["explain", &journal("mod.rs")]).await;
    assert_eq!(ended.code, 65, "{ended:?}");
    let ended = run(&["explain", &journal("pg-0.journal"), "--since", "noon"]).await;
    assert_eq!(ended.code, 2, "{ended:?}");
}

#[tokio::test]
async fn a_reader_that_goes_away_is_no_failure() {
    let path = journal("pg-1.journal");
    // Many times the same file: more than a pipe holds.
    let files = vec![path.as_str(); 200];
    let args: Vec<&str> = ["explain", "-f", "json"].into_iter().chain(files).collect();
    let mut command = program(&args);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let ended = tokio::time::timeout(crate::harness::PATIENCE, child.wait_with_output());
    let ended = ended.await.expect("it ends").unwrap();
    assert_eq!(
        (ended.status.code(), ended.stderr.as_slice()),
        (Some(0), &b""[..])
    );
}

#[tokio::test]
async fn an_address_that_cannot_be_one_is_an_error_of_the_command_line() {
    for verb in [&["ctl", "list"][..], &["explain"]] {
        let ended = run(&[verb, &["--api", "ftp://127.0.0.1:1"]].concat()).await;
        assert_eq!(ended.code, 2, "{ended:?}");
        assert!(ended.err.contains("the scheme ftp"), "{ended:?}");
        let mut empty = program(verb);
        empty.env("PGWARDEN_API", "");
        let ended = end(empty).await;
        assert_eq!(ended.code, 2, "{ended:?}");
        assert!(ended.err.contains("no member to ask"), "{ended:?}");
    }
}

#[tokio::test]
async fn a_journal_to_replay_is_there_and_is_one() {
    for no_file in ["/nonexistent.journal", "/tmp", "/dev/null/journal"] {
        let ended = run(&["replay", no_file]).await;
        assert_eq!(ended.code, 66, "{ended:?}");
    }
    let ended = run(&["replay", &journal("mod.rs")]).await;
    assert_eq!(ended.code, 65, "{ended:?}");
}
