//! A stage whose command fills `data_dir` itself, because it knows that path by itself and takes no
//! other (`no_params`): pgBackRest's stanza names its directory.
//!
//! The note beside it says *Filling* until all is there and synced, and a directory under that note
//! is never started. What was there before is moved into the stage and comes back if the command
//! fails, or dies; unless it is to begin with what is there (`keep_data`): then the directory is
//! like one under a rewind, and only another copy replaces it.

use super::stage::{self, Kind, ReplaceProof, Result, Stage, StageError, io_at, look};
use super::stage_note::Phase;
use crate::sys::durable;
use std::path::{Path, PathBuf};

const OLD: &str = "old";

impl Stage {
    /// The stage to be, if it may replace what is here; what a command left unfinished in
    /// `data_dir` itself is ours, and goes.
    pub(super) fn allowed(
        data_dir: &Path,
        kind: Kind,
        proof: Option<&ReplaceProof>,
    ) -> Result<Self> {
        let stage = Self::planned(data_dir, kind)?;
        if let Some(found) = look(data_dir)? {
            if found.unsettled {
                return Err(StageError::Unsettled(data_dir.to_owned()));
            }
            if found.kind == Some(Kind::Rewind) && (kind != Kind::Clone || proof.is_none()) {
                return Err(StageError::BrokenRewind(data_dir.to_owned()));
            }
            if found.swapping {
                stage.empty_data_dir()?;
            }
        }
        if stage.holds_entries()? && kind != Kind::Rewind && proof.is_none() {
            return Err(StageError::WouldReplace(data_dir.to_owned()));
        }
        Ok(stage)
    }

    /// Begins to fill `data_dir` itself. `keep`: with what is there.
    pub fn begin_filling(
        data_dir: &Path,
        kind: Kind,
        keep: bool,
        proof: Option<&ReplaceProof>,
    ) -> Result<Self> {
        let data_dir = stage::resolve(data_dir);
        let mut stage = Self::allowed(&data_dir, kind, proof)?;
        stage.filling = true;
        if let Some(earlier) = Self::existing(&data_dir) {
            earlier.remove()?;
        }
        durable::make_private_dir(&stage.root).map_err(io_at("make", &stage.root))?;
        stage.write_note(Phase::Filling)?;
        if !keep && stage.holds_entries()? {
            stage.relocate(&stage.data_dir, &stage.old())?;
        }
        if !data_dir.exists() {
            durable::make_private_dir(&data_dir).map_err(io_at("make", &data_dir))?;
        }
        Ok(stage)
    }

    fn old(&self) -> PathBuf {
        self.root.join(OLD)
    }

    /// What was there before is kept in the stage.
    pub(super) fn holds_old(&self) -> bool {
        self.old().exists()
    }

    /// Removes what a command left unfinished in `data_dir`, which the note says is ours.
    pub(super) fn empty_data_dir(&self) -> Result<()> {
        if !self.data_dir.exists() {
            return Ok(());
        }
        for name in stage::entries(&self.data_dir)? {
            let path = self.data_dir.join(&name);
            let is_dir = path.symlink_metadata().is_ok_and(|meta| meta.is_dir());
            let removed = if is_dir {
                durable::remove_tree(&path)
            } else {
                durable::remove_durably(&path)
            };
            removed.map_err(io_at("remove", &path))?;
        }
        Ok(())
    }

    /// The command failed: what was there before comes back. False: there was nothing, or it was
    /// worked on; the directory stays marked, to be emptied by the next attempt.
    pub(super) fn put_back(&self) -> Result<bool> {
        let old = self.old();
        if !old.exists() {
            return Ok(false);
        }
        self.empty_data_dir()?;
        self.relocate(&old, &self.data_dir)?;
        self.remove()?;
        Ok(true)
    }
}
