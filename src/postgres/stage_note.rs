//! The note in a stage: what is being made there, and how far it is.

use super::stage::{StageError, io_at};
use crate::sys::durable;
use std::fs;
use std::io;
use std::path::Path;

/// The note's name in the stage.
pub(super) const NOTE: &str = "note";

/// What is being made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A new cluster.
    Initdb,
    /// A copy of the leader's.
    Clone,
    /// The old directory, made to follow the leader again.
    Rewind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Gathering,
    Building,
    Complete,
    Swapping,
    /// `data_dir` itself is being filled.
    Filling,
    /// It is full; what was there before may go.
    Filled,
}

/// Reads the note of the stage at `root`; none if the power went before it was written.
pub(super) fn read(root: &Path) -> Result<Option<(Kind, Phase)>, StageError> {
    let path = root.join(NOTE);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // Anything but an empty directory, or a note half written, is not our making.
            let names = durable::names(root).map_err(io_at("list", root))?;
            let ours = names
                .iter()
                .all(|name| name.to_string_lossy().starts_with(NOTE));
            return if ours {
                Ok(None)
            } else {
                Err(StageError::Foreign(root.to_owned()))
            };
        }
        Err(error) => return Err(io_at("read", &path)(error)),
    };
    parse(&text)
        .map(Some)
        .ok_or_else(|| StageError::Foreign(root.to_owned()))
}

/// Writes it, durably.
pub(super) fn write(root: &Path, kind: Kind, phase: Phase) -> Result<(), StageError> {
    let path = root.join(NOTE);
    let text = format!("pgwarden {kind:?} {phase:?}\n");
    durable::write_atomic(&path, text.as_bytes(), 0o600).map_err(io_at("write", &path))
}

fn parse(text: &str) -> Option<(Kind, Phase)> {
    let kinds = [Kind::Initdb, Kind::Clone, Kind::Rewind];
    let phases = [
        Phase::Gathering,
        Phase::Building,
        Phase::Complete,
        Phase::Swapping,
        Phase::Filling,
        Phase::Filled,
    ];
    let mut words = text.strip_prefix("pgwarden ")?.split_whitespace();
    let (kind, phase) = (words.next()?, words.next()?);
    Some((
        kinds
            .into_iter()
            .find(|known| format!("{known:?}") == kind)?,
        phases
            .into_iter()
            .find(|known| format!("{known:?}") == phase)?,
    ))
}
