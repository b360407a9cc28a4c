//! What a member keeps beside its data directory, past its agent's end: the epochs it has claimed
//! (L1), whose record does not grow old (G1), and which replication slots are its own.

use crate::ha::lock::EPOCH_MAX;
use crate::ha::memory::Memory;
use crate::ha::state::State;
use crate::settings::Settings;
use crate::sys::{durable, host};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

fn beside(settings: &Settings, suffix: &str) -> PathBuf {
    let dir = &settings.postgresql.data_dir;
    let base = dir
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let parent = dir.parent().unwrap_or(dir);
    let mounted = host::is_mount_point(dir).unwrap_or(false);
    if mounted {
        dir.join(format!(".pgwarden.{suffix}"))
    } else {
        parent.join(format!(".{base}.pgwarden.{suffix}"))
    }
}

/// The journal's file: beside the data directory.
pub fn journal_path(settings: &Settings) -> Option<PathBuf> {
    Some(beside(settings, "journal.jsonl"))
}

/// The file that remembers the greatest epoch of mine (L1).
pub fn epoch_file(settings: &Settings) -> PathBuf {
    beside(settings, "epoch")
}

/// The epoch on disk; 0 where there is none, or nothing readable.
pub fn read_epoch(path: &Path) -> u64 {
    std::fs::read_to_string(path)
        .ok()
        .and_then(|text| text.trim().parse().ok())
        // A greater one could never be claimed past.
        .filter(|epoch| *epoch < EPOCH_MAX)
        .unwrap_or(0)
}

/// Put it there durably.
pub fn write_epoch(path: &Path, epoch: u64) -> io::Result<()> {
    durable::write_atomic(path, format!("{epoch}\n").as_bytes(), 0o600)
}

/// Where this member keeps whose record does not grow old (G1), past its agent's end.
pub fn memory_file(settings: &Settings) -> PathBuf {
    beside(settings, "holder")
}

/// Where this member keeps which slots of its server are its own.
pub fn slots_file(settings: &Settings) -> PathBuf {
    beside(settings, "slots")
}

/// What an agent before this one knew; nothing where there is none, or it cannot be read.
pub fn read_memory(path: &Path) -> Memory {
    read(path)
}

/// The slots that an agent before this one made; none where that cannot be read: they are then left
/// to the record that the leader publishes.
pub fn read_slots(path: &Path) -> BTreeSet<String> {
    read(path)
}

fn read<T: Default + DeserializeOwned>(path: &Path) -> T {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return T::default(),
        Err(error) => {
            tracing::error!(%error, "{} cannot be read", path.display());
            return T::default();
        }
    };
    serde_json::from_str(&text).unwrap_or_else(|error| {
        tracing::error!(%error, "{} is not what was written there", path.display());
        T::default()
    })
}

/// What this member knew before this agent; and the files of the epoch, of the memory and of the
/// slots.
pub fn recall(state: &mut State, settings: &Settings) -> (PathBuf, PathBuf, PathBuf) {
    let (epochs, memory) = (epoch_file(settings), memory_file(settings));
    let slots = slots_file(settings);
    state.lock.greatest_epoch = read_epoch(&epochs);
    state.lock.recall(read_memory(&memory));
    state.slots.owned = read_slots(&slots);
    (epochs, memory, slots)
}

/// Put it there durably.
pub fn write_memory(path: &Path, memory: &Memory) -> io::Result<()> {
    write(path, memory, memory.is_empty())
}

/// Put them there durably.
pub fn write_slots(path: &Path, slots: &BTreeSet<String>) -> io::Result<()> {
    write(path, slots, slots.is_empty())
}

fn write(path: &Path, what: &impl Serialize, nothing: bool) -> io::Result<()> {
    if nothing {
        return match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
    }
    let text = serde_json::to_vec(what)?;
    durable::write_atomic(path, &text, 0o600)
}
