//! What the tests of the settings share.

use pgwarden::settings::{self, Loaded, Settings};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// The environment of a pod with the downward API.
pub(crate) fn pod(name: &str) -> Option<String> {
    let value = match name {
        "POD_NAME" => "main-0",
        "POD_NAMESPACE" => "databases",
        "POD_IP" => "10.1.2.3",
        "POD_UID" => "5b8a7c7e-0000-4000-8000-000000000001",
        "HOME" => "/home/postgres",
        _ => return None,
    };
    Some(value.to_owned())
}

/// A process outside any pod.
pub(crate) fn bare(_: &str) -> Option<String> {
    None
}

/// The smallest good file, for tests that add one thing to it.
pub(crate) const LEAST: &str = "\
scope: main
kubernetes: {lock: lease}
postgresql:
  data_dir: /var/lib/postgresql/data/pgroot
  authentication: {replication: {password: rep-secret}, superuser: {password: super-secret}}
";

pub(crate) fn read(text: &str) -> Loaded {
    settings::from_text("test.yml", text, &pod)
}

/// The settings of a text that must be good.
pub(crate) fn good(text: &str) -> Settings {
    let loaded = read(text);
    let shown: Vec<String> = loaded.problems.iter().map(ToString::to_string).collect();
    loaded
        .settings
        .unwrap_or_else(|| panic!("not good:\n{}", shown.join("\n")))
}

/// The problems of a text, one line each.
pub(crate) fn problems(text: &str) -> Vec<String> {
    let loaded = read(text);
    let errors = loaded.problems.iter().any(settings::Problem::is_error);
    assert_eq!(
        loaded.settings.is_none(),
        errors,
        "settings and errors must exclude each other"
    );
    loaded.problems.iter().map(ToString::to_string).collect()
}

/// One of the problems begins and goes on like this.
#[track_caller]
pub(crate) fn has(problems: &[String], start: &str, part: &str) {
    assert!(
        problems
            .iter()
            .any(|p| p.starts_with(start) && p.contains(part)),
        "no problem begins with {start:?} and contains {part:?}:\n{}",
        problems.join("\n")
    );
}

/// A directory of the test's own, removed at the end.
pub(crate) struct Dir(PathBuf);

impl Dir {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("pgwarden-settings-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
