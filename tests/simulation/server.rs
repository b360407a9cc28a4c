//! PostgreSQL as the core can observe it: a log of records, a control file, recovery, streaming.

use crate::slots::Slots;
use pgwarden::ha::event::PgFacts;
use pgwarden::ha::model::{ControlState, DataDir, DataFacts, HistoryEntry, Lsn, Name, Walsender};
use pgwarden::ha::quorum::SyncSetting;
use std::collections::BTreeMap;

/// One WAL record; `id` is unique in a run. A position is the number of records before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) timeline: u32,
    pub(crate) id: u64,
}

/// The source of a copy that is no node.
pub(crate) const ARCHIVE: usize = usize::MAX;

/// What survives a crash.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    pub(crate) system_id: u64,
    pub(crate) log: Vec<Record>,
    pub(crate) history: Vec<HistoryEntry>,
    pub(crate) timeline: u32,
    pub(crate) state: ControlState,
    pub(crate) standby_signal: bool,
    pub(crate) slots: Slots,
}

/// A data directory.
#[derive(Clone, Debug)]
pub(crate) enum Dir {
    Empty,
    /// A clone, an initdb or a rewind that died midway.
    Unfinished,
    Whole(Disk),
}

/// A running postmaster.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) generation: u64,
    pub(crate) started: bool,
    pub(crate) in_recovery: bool,
    pub(crate) frozen: bool,
    /// It has been killed, and a dead disk keeps it from ending.
    pub(crate) dying: bool,
    pub(crate) sync: SyncSetting,
    /// When the newest order about them is carried out: one after the other.
    pub(crate) sync_due: u64,
    /// The positions of commits that wait for their synchronous standby.
    pub(crate) pending: Vec<usize>,
    pub(crate) upstream: Option<Name>,
    pub(crate) streaming: bool,
    /// The standbys connected: what they flushed, and when they were heard last.
    pub(crate) standbys: BTreeMap<Name, (usize, u64)>,
    pub(crate) checkpointed: bool,
    pub(crate) as_primary: bool,
    /// The probe finds no history file before this moment, though the timeline is the new one.
    pub(crate) history_at: u64,
}

impl Dir {
    pub(crate) fn disk(&mut self) -> Option<&mut Disk> {
        match self {
            Self::Whole(disk) => Some(disk),
            Self::Empty | Self::Unfinished => None,
        }
    }

    pub(crate) fn whole(&self) -> Option<&Disk> {
        match self {
            Self::Whole(disk) => Some(disk),
            Self::Empty | Self::Unfinished => None,
        }
    }

    /// What an inspection of the directory shows while no server runs.
    pub(crate) fn inspect(&self) -> DataDir {
        match self {
            Self::Empty => DataDir::Empty,
            Self::Unfinished => DataDir::Unfinished,
            Self::Whole(disk) => DataDir::Present(DataFacts {
                system_id: disk.system_id.to_string(),
                state: disk.state,
                timeline: disk.timeline,
                lsn: Lsn(disk.control_position() as u64),
                standby_signal: disk.standby_signal,
                history: disk.history.clone(),
            }),
        }
    }
}

impl Disk {
    pub(crate) fn new(system_id: u64, first: Record) -> Self {
        Self {
            system_id,
            log: vec![first],
            history: Vec::new(),
            timeline: 1,
            state: ControlState::ShutDown,
            standby_signal: false,
            slots: Slots::new(),
        }
    }

    /// The control file knows the last checkpoint's start; after a crash that is long ago.
    fn control_position(&self) -> usize {
        match self.state {
            ControlState::ShutDown => self.log.len() - 1,
            ControlState::ShutDownInRecovery | ControlState::InArchiveRecovery => self.log.len(),
            _ => self.log.len() / 2,
        }
    }

    pub(crate) fn is_prefix_of(&self, other: &Self) -> bool {
        let len = self.log.len();
        len <= other.log.len() && (len == 0 || other.log[len - 1] == self.log[len - 1])
    }

    /// Leave recovery: a new timeline, forked here.
    pub(crate) fn promote(&mut self, record_id: u64) {
        self.history.push(HistoryEntry {
            timeline: self.timeline,
            switch_lsn: Lsn(self.log.len() as u64),
            reason: "no recovery target specified".into(),
            at: None,
            new_leader: None,
        });
        // Now and then an archive knows the next number already: of a promotion that went no further.
        self.timeline += if record_id % 7 == 3 { 2 } else { 1 };
        self.log.push(Record {
            timeline: self.timeline,
            id: record_id,
        });
        self.state = ControlState::InProduction;
        self.standby_signal = false;
    }

    /// Take the log and the identity of another, whole.
    pub(crate) fn copy_from(&mut self, other: &Self) {
        *self = other.clone();
        // Slots are neither copied nor kept over a rewind.
        self.slots.clear();
        self.state = ControlState::InArchiveRecovery;
        self.standby_signal = true;
    }
}

impl Server {
    pub(crate) fn new(generation: u64, as_primary: bool, upstream: Option<Name>) -> Self {
        Self {
            generation,
            started: false,
            in_recovery: !as_primary,
            frozen: false,
            dying: false,
            sync: SyncSetting::default(),
            sync_due: 0,
            pending: Vec::new(),
            upstream,
            streaming: false,
            standbys: BTreeMap::new(),
            checkpointed: true,
            as_primary,
            history_at: 0,
        }
    }

    /// Commits can be acknowledged by it: the thing of which there may be one.
    pub(crate) fn is_writable(&self) -> bool {
        self.started && !self.in_recovery && !self.dying
    }

    /// The probe's answer.
    pub(crate) fn facts(&self, disk: &Disk, now: u64) -> PgFacts {
        let position = Lsn(disk.log.len() as u64);
        let heard = self.standbys.iter().filter(|(_, (_, at))| now < at + 500);
        PgFacts {
            sender: None,
            asked_at: 0,
            drained: self.in_recovery,
            starved: None,
            archived: false,
            in_recovery: self.in_recovery,
            timeline: disk.timeline,
            lsn: position,
            receive_lsn: self.in_recovery.then_some(position),
            replay_lsn: self.in_recovery.then_some(position),
            streaming: self.streaming,
            system_id: disk.system_id.to_string(),
            walsenders: heard
                .map(|(name, (flushed, _))| Walsender {
                    client_addr: None,
                    name: name.clone(),
                    state: "streaming".into(),
                    sync_state: match self.sync.names.contains(name) {
                        true if self.sync.any => "quorum",
                        true => "sync",
                        false => "async",
                    }
                    .into(),
                    sent_lsn: Lsn(*flushed as u64),
                    flush_lsn: Lsn(*flushed as u64),
                    replay_lsn: Lsn(*flushed as u64),
                })
                .collect(),
            history: if now < self.history_at {
                Vec::new()
            } else {
                disk.history.clone()
            },
            checkpointed: self.checkpointed,
            sync_setting: self.sync.to_string(),
            slots: Some(self.slots(disk, now)),
        }
    }
}
