//! The stage: one directory, the account that plays in it, and the promise that nothing is left.

use super::processes;
use crate::sys::account::{self, Account};
use crate::sys::process::{exists, own_pid, own_uid};
use anyhow::{Context, bail};
use std::fs;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The beginning of every stage's name; the rest is the playground's process number.
const PREFIX: &str = "pgw-play-";
/// Where what failed is kept.
const KEPT: &str = "pgw-failed-";
/// What is kept: logs, journals, configurations; no password file, no way to an API server.
const KEPT_FILES: [&str; 3] = ["journal.jsonl", "member.log", "pgwarden.yml"];
/// The longest path of a directory whose socket has a name within the kernel's 107 characters.
const SOCKET_DIR_MAX: usize = 85;

/// The directory of one run.
#[derive(Debug)]
pub(super) struct Stage {
    /// The directory.
    pub(super) dir: PathBuf,
    /// The program the members run: a copy, as the account may not be able to reach the original.
    pub(super) program: PathBuf,
    /// Who plays; `None`: whoever started the playground.
    account: Option<Account>,
}

impl Stage {
    /// Makes the directory and clears what an earlier run that was killed has left.
    pub(super) fn set_up() -> anyhow::Result<Self> {
        let account = player()?;
        let root = std::env::temp_dir()
            .canonicalize()
            .context("find the temporary directory")?;
        for line in clear_leftovers(&root) {
            super::say(&line)?;
        }
        let dir = root.join(format!("{PREFIX}{}", own_pid()));
        if dir.as_os_str().len() > SOCKET_DIR_MAX {
            bail!(
                "TMPDIR {}: too long a path for PostgreSQL's sockets",
                root.display()
            );
        }
        fs::create_dir(&dir).with_context(|| format!("create {}", dir.display()))?;
        let stage = Self {
            program: dir.join("pgwarden"),
            account,
            dir,
        };
        stage
            .furnish()
            .inspect_err(|_| drop(fs::remove_dir_all(&stage.dir)))?;
        Ok(stage)
    }

    fn furnish(&self) -> anyhow::Result<()> {
        fs::set_permissions(&self.dir, fs::Permissions::from_mode(0o755))?;
        let own = std::env::current_exe().context("find this program")?;
        // A link where it can be one: the copy of a debug build takes its time.
        if fs::hard_link(&own, &self.program).is_err() {
            fs::copy(&own, &self.program).context("copy this program")?;
        }
        let reachable = self
            .command(Path::new("test"))
            .args(["-x"])
            .arg(&self.program)
            .status();
        if !reachable
            .context("run setpriv (package util-linux)")?
            .success()
        {
            let who = self
                .account
                .as_ref()
                .map_or("this user", |account| account.name.as_str());
            bail!(
                "{who} cannot reach {}: choose another TMPDIR",
                self.dir.display()
            );
        }
        Ok(())
    }

    /// A directory that belongs to the account.
    pub(super) fn directory(&self, name: &str) -> anyhow::Result<PathBuf> {
        let path = self.dir.join(name);
        fs::create_dir(&path).with_context(|| format!("create {}", path.display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700))?;
        self.give(&path)?;
        Ok(path)
    }

    /// A file that belongs to the account and that nobody else reads.
    pub(super) fn write(&self, path: &Path, text: &str) -> anyhow::Result<()> {
        fs::write(path, text).with_context(|| format!("write {}", path.display()))?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        self.give(path)
    }

    fn give(&self, path: &Path) -> anyhow::Result<()> {
        match &self.account {
            Some(account) => account::give(path, account).context("give it to the account"),
            None => Ok(()),
        }
    }

    /// A program run by the account, which is told to end when this thread does.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("setpriv");
        command.arg("--pdeathsig=TERM");
        if let Some(Account { uid, gid, .. }) = &self.account {
            command.args([format!("--reuid={uid}"), format!("--regid={gid}")]);
            command.arg("--init-groups");
        }
        command.arg(program);
        command
    }

    /// Removes the directory; the logs are kept elsewhere first, if they are wanted.
    pub(super) fn remove(&self, keep: bool) -> anyhow::Result<Option<PathBuf>> {
        let kept = if keep { Some(self.keep_logs()?) } else { None };
        fs::remove_dir_all(&self.dir).with_context(|| format!("remove {}", self.dir.display()))?;
        Ok(kept)
    }

    fn keep_logs(&self) -> anyhow::Result<PathBuf> {
        let kept = std::env::temp_dir().join(format!("{KEPT}{}", own_pid()));
        for member in entries(&self.dir).into_iter().filter(|path| path.is_dir()) {
            let target = kept.join(member.file_name().unwrap_or_default());
            fs::create_dir_all(&target).context("keep the logs")?;
            for file in entries(&member).iter().filter(|path| path.is_file()) {
                let name = file
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned();
                // A leading point hides them where people look.
                let name = name.trim_start_matches('.');
                if KEPT_FILES.iter().any(|kept| name.contains(kept)) {
                    fs::copy(file, target.join(name)).context("keep the logs")?;
                }
            }
        }
        Ok(kept)
    }
}

/// What is in a directory, in the order of names; nothing if it cannot be read.
pub(super) fn entries(dir: &Path) -> Vec<PathBuf> {
    let found = fs::read_dir(dir).into_iter().flatten();
    let mut paths: Vec<PathBuf> = found.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    paths
}

/// PostgreSQL refuses to be root.
fn player() -> anyhow::Result<Option<Account>> {
    if own_uid() != 0 {
        return Ok(None);
    }
    let found = account::find("postgres").context("look for the user postgres")?;
    match found {
        Some(account) => Ok(Some(account)),
        None => bail!("started as root, and there is no user postgres to run PostgreSQL"),
    }
}

/// Ends and removes the stages of playgrounds that do not run any more; says what was found.
fn clear_leftovers(root: &Path) -> Vec<String> {
    let mut said = Vec::new();
    for dir in entries(root) {
        let name = dir
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let Some(pid) = name.strip_prefix(PREFIX).and_then(|pid| pid.parse().ok()) else {
            continue;
        };
        // A number given to another process meanwhile is a playground only if it looks like one.
        let alive = pid != own_pid() && exists(pid) && processes::runs_playground(pid);
        if alive || !dir.is_dir() {
            continue;
        }
        let ended = processes::end_all(&dir);
        let removed = fs::remove_dir_all(&dir).is_ok();
        let what = if removed {
            "removed"
        } else {
            "could not be removed"
        };
        said.push(format!(
            "an earlier playground was killed: {ended} of its processes ended, {} {what}",
            dir.display()
        ));
    }
    said
}

/// Ports nobody listens on, one per address. Another process may take one first: then PostgreSQL
/// or the member's API says so.
pub(super) fn free_ports(addresses: &[IpAddr]) -> anyhow::Result<Vec<u16>> {
    let bind = |ip: &IpAddr| TcpListener::bind(SocketAddr::new(*ip, 0));
    let held: Vec<TcpListener> = addresses
        .iter()
        .map(bind)
        .collect::<Result<_, _>>()
        .context("find free ports")?;
    held.iter()
        .map(|listener| Ok(listener.local_addr()?.port()))
        .collect()
}
