//! `pgwarden check`: what it prints and how it ends.

use crate::support::{Dir, LEAST, pod};
use pgwarden::cli::check::{self, Format};
use pgwarden::cli::exit::Exit;
use pgwarden::settings::embedded;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

fn run(path: &Path, format: Format) -> (Exit, String) {
    let mut out = Vec::new();
    let exit = check::run_in(path, format, &pod, &mut out);
    (exit, String::from_utf8(out).unwrap())
}

/// A directory with programs that can be executed, and a place for data.
fn machine(dir: &Dir) -> String {
    let bin = dir.path().join("bin");
    fs::create_dir(&bin).unwrap();
    for program in [
        "postgres",
        "initdb",
        "pg_basebackup",
        "pg_controldata",
        "pg_rewind",
    ] {
        let file = bin.join(program);
        fs::write(&file, "#!/bin/sh\n").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
    }
    LEAST.replace(
        "data_dir: /var/lib/postgresql/data/pgroot",
        &format!(
            "data_dir: {0}/data\n  bin_dir: {0}/bin",
            dir.path().display()
        ),
    )
}

#[test]
fn a_good_file_ends_with_zero_and_shows_what_applies() {
    let dir = Dir::new();
    let file = dir.file("a.yml", machine(&dir));
    let (exit, text) = run(&file, Format::Text);
    assert_eq!(exit, Exit::Ok, "{text}");
    for line in [
        "  scope: main",
        "  name: main-0",
        "  postgresql.authentication.superuser.password: (set)",
        "  bootstrap.dcs.ttl_ms: 30000",
        "no errors, no warnings",
    ] {
        assert!(
            text.lines().any(|l| l == line),
            "{line:?} is not in\n{text}"
        );
    }
    assert!(
        text.contains("kill everything at                      28000 ms"),
        "{text}"
    );
    assert!(!text.contains("-secret"), "{text}");
}

#[test]
fn json_holds_the_same_and_no_secret() {
    let dir = Dir::new();
    let text = machine(&dir)
        + "  parameters: {archive_command: 'PGPASSWORD=hunter2 cp %p /x', ssl_passphrase_command: \
           'echo hunter2', primary_conninfo: 'user=a password = hunter2', \
           password_encryption: md5, restore_command: 'curl https://me:hunter2@host/%f'}\n";
    let (exit, json) = run(&dir.file("a.yml", &text), Format::Json);
    assert_eq!(exit, Exit::Ok, "{json}");
    assert!(
        !json.contains("hunter2") && !json.contains("-secret"),
        "{json}"
    );
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["settings"]["postgresql"]["port"], 5432);
    assert_eq!(
        json["settings"]["postgresql"]["parameters"]["password_encryption"],
        "md5"
    );
    assert_eq!(json["budgets"]["kill_ms"], 28_000);
    assert_eq!(json["problems"][0]["severity"], "warning");
    assert_eq!(
        json["problems"][0]["path"],
        "postgresql.parameters.primary_conninfo"
    );
    let (_, text) = run(&dir.file("b.yml", &text), Format::Text);
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn errors_end_with_their_code_and_one_line_each() {
    let dir = Dir::new();
    let (exit, text) = run(
        &dir.file("bad.yml", "scope: main\nkubernetes: {lock: x}\n"),
        Format::Text,
    );
    assert_eq!(exit, Exit::Config);
    assert!(
        text.lines()
            .any(|l| l.starts_with("error: postgresql.data_dir: ")),
        "{text}"
    );
    assert!(
        text.lines()
            .any(|l| l.starts_with("error: kubernetes.lock: ")),
        "{text}"
    );
    assert!(!text.contains("Effective settings"), "{text}");
    let (exit, text) = run(&dir.path().join("absent.yml"), Format::Text);
    assert_eq!(exit, Exit::NoInput, "{text}");
    let (exit, json) = run(&dir.path().join("absent.yml"), Format::Json);
    assert_eq!(exit, Exit::NoInput);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert!(json["settings"].is_null() && json["problems"].as_array().unwrap().len() == 1);
}

#[test]
fn what_is_no_regular_file_is_refused_and_never_waited_for() {
    let dir = Dir::new();
    let (pipe, looped) = (dir.path().join("pipe"), dir.path().join("loop"));
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    std::os::unix::fs::symlink(&looped, &looped).unwrap();
    for (path, words) in [
        (&pipe, "it is a pipe, a socket or a device"),
        (&looped, "it cannot be read: "),
    ] {
        let (exit, text) = run(path, Format::Text);
        assert_eq!(exit, Exit::NoInput, "{text}");
        assert!(text.contains(words), "{text}");
    }
    let link = dir.path().join("link");
    let good = dir.file("good.yml", machine(&dir));
    std::os::unix::fs::symlink(good, &link).unwrap();
    assert_eq!(run(&link, Format::Text).0, Exit::Ok);
}

#[test]
fn an_unusable_bin_dir_is_an_error() {
    let dir = Dir::new();
    let good = machine(&dir);
    let bin = dir.path().join("bin");
    let says = |text: &str, part: &str| {
        let (exit, out) = run(&dir.file("a.yml", text), Format::Text);
        assert_eq!(exit, Exit::Config, "{out}");
        let found = |l: &str| l.starts_with("error: postgresql.bin_dir: ") && l.contains(part);
        assert!(out.lines().any(found), "{part:?} is not in\n{out}");
    };
    says(&good.replace("/bin\n", "/none\n"), "is not a directory");
    fs::set_permissions(bin.join("postgres"), fs::Permissions::from_mode(0o644)).unwrap();
    says(&good, "postgres is not executable");
    fs::remove_file(bin.join("initdb")).unwrap();
    says(&good, "initdb is not there");
    says(
        &format!("{good}  bin_name: {{pg_basebackup: pg_bb}}\n"),
        "pg_bb is not there",
    );
    fs::remove_file(bin.join("pg_rewind")).unwrap();
    says(&good, "pg_rewind is not there");
}

#[test]
fn the_data_directory_is_looked_at_and_left_alone() {
    let dir = Dir::new();
    let file = dir.file("a.yml", machine(&dir));
    let data = dir.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("PG_VERSION"), "15\n").unwrap();
    for (mode, fits) in [(0o700, true), (0o750, true), (0o755, false), (0o770, false)] {
        fs::set_permissions(&data, fs::Permissions::from_mode(mode)).unwrap();
        let (exit, text) = run(&file, Format::Text);
        assert_eq!(exit == Exit::Ok, fits, "{mode:o}: {text}");
        assert_eq!(
            text.contains(&format!("has the permissions {mode:04o}")),
            !fits,
            "{text}"
        );
    }
    fs::remove_file(data.join("PG_VERSION")).unwrap();
    fs::write(data.join("precious"), "x").unwrap();
    let (exit, text) = run(&file, Format::Text);
    assert_eq!(exit, Exit::Ok);
    assert!(text.contains("warning: postgresql.data_dir:") && text.contains("no PG_VERSION"));
    assert!(data.join("precious").exists());
    fs::remove_file(data.join("precious")).unwrap();
    fs::remove_dir(&data).unwrap();
    fs::write(&data, "a file").unwrap();
    let (exit, text) = run(&file, Format::Text);
    assert_eq!(exit, Exit::Config, "{text}");
    assert!(text.contains("is not a directory"), "{text}");
}

#[test]
fn a_missing_volume_is_not_an_empty_directory() {
    let dir = Dir::new();
    let text = machine(&dir).replace("/data\n", "/mnt/vol/data\n");
    let (exit, out) = run(&dir.file("a.yml", text), Format::Text);
    assert_eq!(exit, Exit::Config, "{out}");
    assert!(out.contains("is the volume mounted?"), "{out}");
}

#[test]
fn a_short_lease_says_what_it_does_not_ride() {
    let dir = Dir::new();
    let text = machine(&dir) + "bootstrap: {dcs: {ttl: 6}}\n";
    let (_, out) = run(&dir.file("a.yml", text), Format::Text);
    assert!(out.contains("up to 2000 ms is survived"), "{out}");
}

/// A reader that goes away (`pgwarden check … | head -1`) is no failure; a full disk is.
#[test]
fn a_broken_pipe_is_success() {
    struct Broken(io::ErrorKind);
    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::Error::from(self.0))
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let dir = Dir::new();
    let file = dir.file("a.yml", machine(&dir));
    for format in [Format::Text, Format::Json] {
        let broken = check::run_in(&file, format, &pod, &mut Broken(io::ErrorKind::BrokenPipe));
        assert_eq!(broken, Exit::Ok, "{format:?}");
        let full = check::run_in(&file, format, &pod, &mut Broken(io::ErrorKind::StorageFull));
        assert_eq!(full, Exit::Failure, "{format:?}");
    }
}

#[test]
fn the_annotated_default_fails_only_for_this_machine() {
    let dir = Dir::new();
    let (_, text) = run(&dir.file("a.yml", embedded::DEFAULT), Format::Text);
    let errors = text.lines().filter(|l| l.starts_with("error: "));
    for error in errors {
        assert!(
            error.contains("bin_dir") || error.contains("data_dir"),
            "{error}"
        );
    }
    assert!(text.contains("Effective settings:"), "{text}");
}
