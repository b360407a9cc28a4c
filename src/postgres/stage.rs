//! How a data directory comes to be, is repaired or is replaced, so that a half-made one never
//! starts (rule L9).
//!
//! Work happens in a *stage*: a directory of ours with a note that says what is being made and how
//! far it is, and the new data directory inside it.
//!
//! ```text
//! sibling    <data_dir>.pgwarden-new/{note, data/, old/}   moved into place by renaming `data`
//! in place   <data_dir>/.pgwarden-new/{note, data/, old/}  where data_dir is a mount point:
//!                                                          moved up entry by entry
//!
//! Gathering ──▶ Building ──▶ Complete ──▶ Swapping ──▶ (no stage)
//! rewind only    programs     all synced   old out, new in
//! ```
//!
//! Until *Complete* a replaced directory stays where it is, whole; from then on [`settle`] finishes
//! what a crash interrupted, since every move can be repeated. A rewind works on the only copy:
//! *Gathering* moves it into the stage (and [`settle`] moves it back), and one that dies while
//! *Building* leaves a directory that nobody can start and only a clone may replace. A command that
//! knows `data_dir` by itself fills that one (`stage_filling`).

use super::stage_note::{self, NOTE, Phase};
use crate::sys::durable;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub use super::stage_note::Kind;

const IN_PLACE_NAME: &str = ".pgwarden-new";

/// Why a stage cannot be begun, finished or settled.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// A file operation failed.
    #[error("cannot {what} {path}: {source}")]
    Io {
        /// The operation.
        what: &'static str,
        /// On which path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A directory of the stage's name that is not ours.
    #[error("{0} stands where an unfinished copy would, without its note; remove it by hand")]
    Foreign(PathBuf),
    /// The caller did not show that the directory may be replaced.
    #[error("data_dir {0} holds a cluster; replacing it needs a proof that it may be")]
    WouldReplace(PathBuf),
    /// An initdb where a cluster has been.
    #[error("data_dir {0} held a cluster whose rewind broke; only a clone may replace it")]
    BrokenRewind(PathBuf),
    /// An interrupted swap must be finished first.
    #[error("data_dir {0} is in the middle of being replaced; it must be settled first")]
    Unsettled(PathBuf),
}

pub(super) type Result<T> = std::result::Result<T, StageError>;

pub(super) fn io_at<'a>(
    what: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> StageError + 'a {
    move |source| StageError::Io {
        what,
        path: path.to_owned(),
        source,
    }
}

/// The caller's word that a present directory may be replaced: it asks for a decision, not a flag.
#[derive(Debug)]
pub struct ReplaceProof {
    reason: String,
}

impl ReplaceProof {
    /// Grants it; the reason is logged by who replaces.
    pub fn granted(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
        }
    }

    /// Why it was granted.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

/// A stage found beside or in a data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// What was being made; none if the note was not written yet.
    pub(super) kind: Option<Kind>,
    /// `data_dir` itself may be incomplete: entries are being moved.
    pub(super) swapping: bool,
    /// Only [`settle`] may touch it.
    pub(super) unsettled: bool,
}

/// Names in a data directory that are neither PostgreSQL's nor a stranger's.
pub(super) fn is_ours(name: &Path) -> bool {
    name == Path::new("lost+found")
        || name
            .to_str()
            .is_some_and(|name| name.starts_with(".pgwarden"))
}

/// Looks for a stage; touches nothing.
pub(super) fn look(data_dir: &Path) -> Result<Option<Found>> {
    let data_dir = resolve(data_dir);
    let Some(stage) = Stage::existing(&data_dir) else {
        return Ok(None);
    };
    let note = stage.read_note()?;
    let filling = note.is_some_and(|(_, phase)| phase == Phase::Filling);
    let open = filling && !stage.holds_old();
    let unsettled = note.is_some_and(|(_, phase)| phase != Phase::Building && !open);
    Ok(Some(Found {
        kind: note.map(|(kind, _)| kind),
        // A rename of the whole sibling leaves no incomplete directory, moving entries does.
        swapping: filling || (stage.in_place && unsettled),
        unsettled,
    }))
}

/// A rewind died here: nothing may start, and only a clone may replace it.
pub fn broken_rewind(data_dir: &Path) -> bool {
    matches!(
        look(data_dir),
        Ok(Some(Found {
            kind: Some(Kind::Rewind),
            ..
        }))
    )
}

/// What [`settle`] found and did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// Nothing was interrupted.
    Nothing,
    /// A complete directory has been moved into place.
    Finished(Kind),
    /// A rewind had not begun to write: the directory is back where it was.
    MovedBack,
    /// An unfinished one is left to be wiped by the next attempt.
    Unfinished(Option<Kind>),
}

/// Finishes or undoes an interrupted swap. To be called before [`super::data_dir::classify`] when
/// the agent starts; nothing else may use the directory meanwhile.
pub fn settle(data_dir: &Path) -> Result<Settled> {
    let data_dir = resolve(data_dir);
    let Some(stage) = Stage::existing(&data_dir) else {
        return Ok(Settled::Nothing);
    };
    let Some((kind, phase)) = stage.read_note()? else {
        return Ok(Settled::Unfinished(None));
    };
    let stage = Stage { kind, ..stage };
    match phase {
        Phase::Gathering => {
            stage.move_in()?;
            stage.remove()?;
            Ok(Settled::MovedBack)
        }
        Phase::Building => Ok(Settled::Unfinished(Some(kind))),
        Phase::Complete => {
            stage.move_out()?;
            stage.write_note(Phase::Swapping)?;
            stage.move_in()?;
            stage.remove()?;
            Ok(Settled::Finished(kind))
        }
        Phase::Swapping => {
            stage.move_in()?;
            stage.remove()?;
            Ok(Settled::Finished(kind))
        }
        Phase::Filling if stage.put_back()? => Ok(Settled::MovedBack),
        Phase::Filling => Ok(Settled::Unfinished(Some(kind))),
        Phase::Filled => {
            stage.remove()?;
            Ok(Settled::Finished(kind))
        }
    }
}

/// A data directory in the making.
#[derive(Debug)]
pub struct Stage {
    pub(super) data_dir: PathBuf,
    pub(super) root: PathBuf,
    in_place: bool,
    kind: Kind,
    /// `data_dir` itself is filled.
    pub(super) filling: bool,
}

impl Stage {
    /// Begins to make a new directory; wipes what an earlier attempt of ours left unfinished.
    pub fn begin(data_dir: &Path, kind: Kind, proof: Option<&ReplaceProof>) -> Result<Self> {
        let data_dir = resolve(data_dir);
        let stage = Self::allowed(&data_dir, kind, proof)?;
        if let Some(earlier) = Self::existing(&data_dir) {
            earlier.remove()?;
        }
        durable::make_private_dir(&stage.root).map_err(io_at("make", &stage.root))?;
        let first = if kind == Kind::Rewind {
            Phase::Gathering
        } else {
            Phase::Building
        };
        stage.write_note(first)?;
        if kind == Kind::Rewind {
            stage.gather()?;
            stage.write_note(Phase::Building)?;
        }
        Ok(stage)
    }

    /// The stage itself: where the programs work that make it.
    pub fn root(&self) -> PathBuf {
        self.root.clone()
    }

    /// Where the new data directory is being made.
    pub fn target(&self) -> PathBuf {
        if self.filling {
            return self.data_dir.clone();
        }
        self.root.join("data")
    }

    /// A file of the stage for the programs' use, gone with it.
    pub fn scratch_file(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Syncs the new directory, moves it into place, and only then removes the replaced one.
    pub fn finish(self) -> Result<()> {
        let target = self.target();
        durable::sync_tree(&target).map_err(io_at("sync", &target))?;
        if self.filling {
            self.write_note(Phase::Filled)?;
            return self.remove();
        }
        self.write_note(Phase::Complete)?;
        self.move_out()?;
        self.write_note(Phase::Swapping)?;
        self.move_in()?;
        self.remove()
    }

    /// Gives up a new directory. (A rewind cannot be given up.)
    pub fn abandon(self) -> Result<()> {
        match self.kind {
            Kind::Rewind => Ok(()),
            _ if self.filling => self.put_back().map(drop),
            _ => self.remove(),
        }
    }

    /// Beside the directory where that can be renamed, else inside it.
    pub(super) fn planned(data_dir: &Path, kind: Kind) -> Result<Self> {
        let movable = durable::can_be_replaced(data_dir).map_err(io_at("look at", data_dir))?;
        Ok(Self::located(data_dir, kind, !movable))
    }

    fn located(data_dir: &Path, kind: Kind, in_place: bool) -> Self {
        let root = if in_place {
            data_dir.join(IN_PLACE_NAME)
        } else {
            let mut name = data_dir.file_name().unwrap_or_default().to_os_string();
            name.push(".pgwarden-new");
            data_dir.with_file_name(name)
        };
        Self {
            data_dir: data_dir.to_owned(),
            root,
            in_place,
            kind,
            filling: false,
        }
    }

    /// An earlier stage, wherever it is: what was mounted how may have changed since.
    pub(super) fn existing(data_dir: &Path) -> Option<Self> {
        [false, true]
            .into_iter()
            .map(|in_place| Self::located(data_dir, Kind::Clone, in_place))
            .find(|stage| stage.root.exists())
    }

    fn read_note(&self) -> Result<Option<(Kind, Phase)>> {
        stage_note::read(&self.root)
    }

    pub(super) fn write_note(&self, phase: Phase) -> Result<()> {
        stage_note::write(&self.root, self.kind, phase)
    }

    pub(super) fn holds_entries(&self) -> Result<bool> {
        if !self.data_dir.exists() {
            return Ok(false);
        }
        Ok(!entries(&self.data_dir)?.is_empty())
    }

    /// Moves the present directory into the stage, to be worked on.
    fn gather(&self) -> Result<()> {
        self.relocate(&self.data_dir, &self.target())
    }

    /// Moves the replaced directory aside. A rewound one was moved when it was gathered.
    fn move_out(&self) -> Result<()> {
        // The sibling's `data` gone means that the renames were done already.
        if self.kind == Kind::Rewind || !self.data_dir.exists() || !self.target().exists() {
            return Ok(());
        }
        self.relocate(&self.data_dir, &self.root.join("old"))
    }

    fn move_in(&self) -> Result<()> {
        if !self.target().exists() {
            return Ok(());
        }
        if self.in_place {
            // PostgreSQL refuses the modes in which volumes are usually mounted.
            let looked = fs::metadata(self.target());
            looked
                .and_then(|meta| fs::set_permissions(&self.data_dir, meta.permissions()))
                .map_err(io_at("set the permissions of", &self.data_dir))?;
        }
        self.relocate(&self.target(), &self.data_dir)
    }

    /// Moves a directory whole, or in place its entries; repeatable after any interruption.
    pub(super) fn relocate(&self, from: &Path, to: &Path) -> Result<()> {
        if !self.in_place {
            // An empty directory may stand where the new one goes (Kubernetes makes some).
            return durable::rename_durably(from, to).map_err(io_at("move", from));
        }
        if !to.exists() {
            durable::make_private_dir(to).map_err(io_at("make", to))?;
        }
        for name in entries(from)? {
            let (entry, goal) = (from.join(&name), to.join(&name));
            fs::rename(&entry, &goal).map_err(io_at("move", &entry))?;
        }
        durable::sync_dir(to).map_err(io_at("sync", to))?;
        durable::sync_dir(from).map_err(io_at("sync", from))
    }

    /// Removes the stage; its note goes last, so that an interrupted removal is still ours.
    pub(super) fn remove(&self) -> Result<()> {
        if !self.root.exists() {
            return Ok(());
        }
        for name in durable::names(&self.root).map_err(io_at("list", &self.root))? {
            let path = self.root.join(&name);
            if path.is_dir() {
                durable::remove_tree(&path).map_err(io_at("remove", &path))?;
            } else if name != Path::new(NOTE) {
                durable::remove_durably(&path).map_err(io_at("remove", &path))?;
            }
        }
        durable::remove_tree(&self.root).map_err(io_at("remove", &self.root))
    }
}

pub(super) fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    let names = durable::names(dir).map_err(io_at("list", dir))?;
    Ok(names.into_iter().filter(|name| !is_ours(name)).collect())
}

/// The directory itself where `data_dir` is a link to it: renames must not hit the link.
pub(super) fn resolve(data_dir: &Path) -> PathBuf {
    fs::canonicalize(data_dir).unwrap_or_else(|_| data_dir.to_owned())
}

#[cfg(test)]
#[path = "stage_tests.rs"]
mod tests;
