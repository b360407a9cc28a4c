//! The notes that helm prints after an install or an upgrade. `helm template` does not print them
//! and looks nothing up, so they are rendered as an object of a copy of the chart, with what a
//! cluster would have answered put in.

use crate::chart::{Objects, chart, helm, root, scratch, template_of};
use std::fs;
use std::path::{Path, PathBuf};

/// The lookup of the Secret in the notes.
const LOOKUP: &str = "lookup \"v1\" \"Secret\" $ns $secret";

/// A copy of the chart whose notes are data of the ConfigMap `notes`.
struct Copy(PathBuf);

impl Copy {
    /// `secret`: the template expression that stands for the Secret of the cluster.
    fn new(secret: &str) -> Self {
        let dir = scratch("notes");
        copy(&chart(), &dir);
        let notes = fs::read_to_string(dir.join("templates/NOTES.txt")).unwrap();
        assert!(notes.contains(LOOKUP), "the notes look for another Secret");
        let notes = notes.replace(LOOKUP, secret);
        let object = format!(
            "{{{{- define \"notes\" }}}}{notes}{{{{- end }}}}\n\
             apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: notes}}\n\
             data: {{text: {{{{ include \"notes\" . | toJson }}}}}}\n"
        );
        fs::write(dir.join("templates/notes.yaml"), object).unwrap();
        Self(dir)
    }

    fn notes(&self, helm: &Path, args: &[&str]) -> String {
        let text = template_of(helm, &self.0, "main", args).unwrap();
        let objects = Objects::parse(&text);
        let notes = &objects.get("ConfigMap", "notes")["data"]["text"];
        notes.as_str().unwrap().to_owned()
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Two recommendations would be one too many: the notes' connection string is README.md's.
#[test]
fn the_notes_recommend_what_the_readme_does() {
    let Some(helm) = helm() else { return };
    let notes = Copy::new(LOOKUP).notes(helm, &[]);
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let settings = |text: &str| {
        let mut found: Vec<String> = text
            .split_whitespace()
            .map(|word| word.trim_matches(['"', '`', ',', '.']))
            .filter(|word| {
                let name = word.split('=').next().unwrap();
                let libpq = [
                    "target_session_attrs",
                    "connect_timeout",
                    "tcp_user_timeout",
                ];
                word.contains('=') && (libpq.contains(&name) || name.starts_with("keepalives_"))
            })
            .map(str::to_owned)
            .collect();
        found.sort();
        found
    };
    assert_eq!(settings(&notes), settings(&readme));
    assert_eq!(settings(&notes).len(), 6);
}

/// A password that only the Secret gets is the end of replication at the next restart.
#[test]
fn a_changed_password_is_said() {
    let Some(helm) = helm() else { return };
    // Base64 of "old".
    let stored = "dict \"data\" (dict \"superuser-password\" \"b2xk\" \
                  \"replication-password\" \"b2xk\" \"restapi-password\" \"b2xk\")";
    let (fresh, kept) = (Copy::new(LOOKUP), Copy::new(stored));
    for (who, says) in [
        (
            "superuser",
            "The role postgres in PostgreSQL still has the old one",
        ),
        (
            "replication",
            "The role replicator in PostgreSQL still has the old one",
        ),
        ("restapi", "when its container starts"),
    ] {
        let password = |word: &str| format!("auth.{who}.password={word}");
        let field = format!("auth.{who}.password is not the one");
        let said = kept.notes(helm, &["--set", &password("new")]);
        assert!(said.contains(&field) && said.contains(says), "{said}");
        assert_eq!(said.matches("is not the one that was stored").count(), 1);
        for unchanged in [
            kept.notes(helm, &["--set", &password("old")]),
            kept.notes(helm, &[]),
            fresh.notes(helm, &["--set", &password("new")]),
        ] {
            assert!(!unchanged.contains("is not the one"), "{unchanged}");
        }
    }
}

/// The notes send there.
#[test]
fn the_notes_and_values_name_a_section_that_is_there() {
    let readme = fs::read_to_string(root().join("deploy/README.md")).unwrap();
    assert!(readme.contains("\n## Changing passwords\n"));
    for name in ["values.yaml", "templates/NOTES.txt"] {
        let text = fs::read_to_string(chart().join(name)).unwrap();
        let named = text.contains("\"Changing passwords\" in deploy/README.md");
        assert!(named, "{name} does not name it");
    }
}
