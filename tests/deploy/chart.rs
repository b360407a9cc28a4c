//! Rendering with the real helm, and looking at what came out.

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// The repository.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The chart's directory.
pub(crate) fn chart() -> PathBuf {
    root().join("deploy/chart")
}

/// helm 3: `HELM`, the one on PATH, or the one that `scripts/setup.sh helm` built; none is said
/// loudly, once for each test.
pub(crate) fn helm() -> Option<&'static Path> {
    static FOUND: OnceLock<Option<PathBuf>> = OnceLock::new();
    let found = FOUND.get_or_init(|| {
        let built = root().join("target/tools/helm");
        std::env::var_os("HELM")
            .map(PathBuf::from)
            .into_iter()
            .chain(["helm".into(), built])
            .find(|program| is_helm_3(program))
    });
    if found.is_none() {
        eprintln!("SKIPPED: no helm 3; scripts/setup.sh helm builds one with Go");
    }
    found.as_deref()
}

fn is_helm_3(program: &Path) -> bool {
    let version = Command::new(program)
        .args(["version", "--short"])
        .stdin(Stdio::null())
        .output();
    version.is_ok_and(|output| output.stdout.starts_with(b"v3"))
}

/// `helm template RELEASE` in the namespace `databases`: standard output, or the complaint.
pub(crate) fn template(helm: &Path, release: &str, args: &[&str]) -> Result<String, String> {
    template_of(helm, &chart(), release, args)
}

/// The same of another chart.
pub(crate) fn template_of(
    helm: &Path,
    chart: &Path,
    release: &str,
    args: &[&str],
) -> Result<String, String> {
    let output = Command::new(helm)
        .args(["template", release])
        .arg(chart)
        .args(["--namespace", "databases", "--kube-version", "1.33"])
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    if output.status.success() {
        Ok(text(output.stdout))
    } else {
        Err(text(output.stderr))
    }
}

/// The objects of a rendering.
pub(crate) struct Objects(Vec<Value>);

impl Objects {
    /// Render what must render.
    #[track_caller]
    pub(crate) fn of(helm: &Path, release: &str, args: &[&str]) -> Self {
        match template(helm, release, args) {
            Ok(text) => Self::parse(&text),
            Err(complaint) => panic!("{args:?}: {complaint}"),
        }
    }

    /// Read what was rendered.
    #[track_caller]
    pub(crate) fn parse(text: &str) -> Self {
        let documents = text
            .split("\n---\n")
            .map(|one| one.trim_start_matches("---\n"));
        let objects = documents
            .filter(|one| {
                one.lines()
                    .any(|line| !line.starts_with('#') && !line.is_empty())
            })
            .map(|one| serde_saphyr::from_str(one).unwrap_or_else(|e| panic!("{e}\n{one}")))
            .collect();
        Self(objects)
    }

    pub(crate) fn all(&self) -> &[Value] {
        &self.0
    }

    /// The object of this kind and name.
    #[track_caller]
    pub(crate) fn get(&self, kind: &str, name: &str) -> &Value {
        self.find(kind, name)
            .unwrap_or_else(|| panic!("no {kind} {name} in {:?}", self.names()))
    }

    pub(crate) fn find(&self, kind: &str, name: &str) -> Option<&Value> {
        self.0
            .iter()
            .find(|o| o["kind"] == kind && o["metadata"]["name"] == name)
    }

    /// Kind and name of every object.
    pub(crate) fn names(&self) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        self.0
            .iter()
            .map(|o| (text(&o["kind"]), text(&o["metadata"]["name"])))
            .collect()
    }

    /// The template of the pods.
    pub(crate) fn pod(&self, release: &str) -> &Value {
        &self.get("StatefulSet", release)["spec"]["template"]
    }

    /// The one container of the pods.
    pub(crate) fn container(&self, release: &str) -> &Value {
        let containers = &self.pod(release)["spec"]["containers"];
        assert_eq!(containers.as_array().unwrap().len(), 1);
        &containers[0]
    }
}

/// Every pair of `selector` is among `labels`.
pub(crate) fn selects(selector: &Value, labels: &Value) -> bool {
    let selector = selector.as_object().unwrap();
    assert!(
        !selector.is_empty(),
        "a selector without a pair selects everything"
    );
    selector.iter().all(|(key, value)| labels[key] == *value)
}

/// A directory of this run of the tests that nobody else has; not made yet.
pub(crate) fn scratch(what: &str) -> std::path::PathBuf {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let name = format!("pgwarden-{what}-{}-{number}", std::process::id());
    std::env::temp_dir().join(name)
}
