//! Swapping the shared objects: configuration, synchronous set, failover request.

use super::calls::WithoutValue;
use super::client::Dcs;
use super::codec::config::{self, ConfigView};
use super::codec::object::{Meta, Notes, create_body, patch_body};
use super::codec::{failover, sync};
use super::error::DcsError;
use super::names::DcsNames;
use super::request::Ask;
use crate::ha::lock::Outcome;
use crate::ha::shared::{ConfigRecord, FailoverRecord, Scheduled, SharedWrite, SyncRecord};
use crate::sys::clock::boottime_us;
use serde_json::Value;
use std::sync::PoisonError;
use tokio::time::Instant;

/// The shared object as stored by a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SharedPart {
    /// `<scope>-config`.
    Config(ConfigRecord),
    /// `<scope>-sync`.
    Sync(SyncRecord),
    /// `<scope>-failover`.
    Failover(FailoverRecord),
}

#[derive(Clone, Copy)]
enum Part {
    Config,
    Sync,
    Failover,
}

impl Part {
    fn name(self, names: &DcsNames) -> String {
        match self {
            Self::Config => names.config_name(),
            Self::Sync => names.sync_name(),
            Self::Failover => names.failover_name(),
        }
    }
}

impl Dcs {
    /// Swap one of the shared objects.
    pub async fn write_shared(&self, write: &SharedWrite) -> Outcome<SharedPart> {
        let (notes, expect, part): (Notes, _, Part) = match write {
            SharedWrite::Initialize { value, expect } => {
                (config::initialize_notes(value), expect, Part::Config)
            }
            SharedWrite::History {
                history,
                timeline,
                epoch,
                ttl_ms,
                expect,
            } => (
                config::history_notes(history, *timeline, *epoch, *ttl_ms),
                expect,
                Part::Config,
            ),
            SharedWrite::Config { expect } => (
                config::config_notes(&self.known_config()),
                expect,
                Part::Config,
            ),
            SharedWrite::Sync {
                leader,
                standbys,
                quorum,
                expect,
            } => {
                let write = format!("{} {}", self.shared.names.pod_uid, boottime_us());
                let notes = sync::notes(leader, standbys, *quorum, write);
                (notes, expect, Part::Sync)
            }
            SharedWrite::Dead { holder, expect } => {
                (failover::dead_notes(holder), expect, Part::Failover)
            }
            SharedWrite::Failover {
                from: None,
                to: None,
                expect: None,
                ..
            } => {
                return Outcome::Done(SharedPart::Failover(FailoverRecord::default()));
            }
            SharedWrite::Failover {
                from,
                to,
                accepts_loss,
                expect,
            } => (
                failover::notes(from.as_ref(), to.as_ref(), *accepts_loss),
                expect,
                Part::Failover,
            ),
        };
        self.write_part(part, &notes, expect.as_deref()).await
    }

    /// The dynamic configuration as stored, and the version of its object, by a quorum read.
    pub async fn read_config(&self) -> Result<(Option<String>, Option<String>), DcsError> {
        let meta = self.read_part(Part::Config).await?.unwrap_or_default();
        Ok((meta.note(config::CONFIG).map(str::to_owned), meta.version()))
    }

    /// What is asked for or planned, by a quorum read.
    pub async fn read_failover(&self) -> Result<FailoverRecord, DcsError> {
        let meta = self.read_part(Part::Failover).await?;
        Ok(failover::decode(meta.as_ref(), &mut Vec::new()))
    }

    /// `None`: the object is not there.
    async fn read_part(&self, part: Part) -> Result<Option<Meta>, DcsError> {
        let name = part.name(self.names());
        let (group, resource) = self.names().dialect.state().path();
        let what = format!("read {name}");
        let ask = Ask::get(&what, &self.path(group, resource, &name));
        match self.read_until(&ask, Instant::now() + self.call).await {
            Ok(object) => Ok(Some(Meta::of(&object))),
            Err(DcsError::Missing { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Plan a switchover, or (`None`) drop what is planned.
    pub async fn write_plan(
        &self,
        plan: Option<&Scheduled>,
        expect: Option<&str>,
    ) -> Outcome<SharedPart> {
        let notes = plan.map_or_else(|| failover::notes(None, None, false), failover::plan_notes);
        self.write_part(Part::Failover, &notes, expect).await
    }

    /// What [`SharedWrite::Config`] stores from now on: the newest document known.
    pub fn remember_config(&self, document: Value) {
        let mut known = self
            .shared
            .initial_config
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *known = document;
    }

    /// The newest document known.
    pub fn known_config(&self) -> Value {
        let known = self
            .shared
            .initial_config
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        known.clone()
    }

    /// Store a dynamic configuration.
    pub async fn write_config(&self, config: &Value, expect: Option<&str>) -> Outcome<SharedPart> {
        self.write_part(Part::Config, &config::config_notes(config), expect)
            .await
    }

    async fn write_part(
        &self,
        part: Part,
        notes: &Notes,
        expect: Option<&str>,
    ) -> Outcome<SharedPart> {
        let names = self.names();
        let name = part.name(names);
        let body = match expect {
            Some(_) => patch_body(names, notes, expect),
            None => create_body(names, names.dialect.state().kind, &name, notes),
        };
        let what = format!("write {name}");
        let ask = self.ask(&what, names.dialect.state().path(), &name, &body, expect);
        match self.write_until(&ask, Instant::now() + self.call).await.0 {
            Outcome::Done(object) => Outcome::Done(self.decode_part(part, &Meta::of(&object))),
            other => other.without_value(),
        }
    }

    fn decode_part(&self, part: Part, meta: &Meta) -> SharedPart {
        // What was just written has no problems worth telling; the watch tells those of strangers.
        let mut problems = Vec::new();
        match part {
            Part::Config => {
                let last = ConfigView::default();
                let resolve = &*self.shared.resolve;
                let view = config::decode(Some(meta), &last, resolve, &mut problems);
                SharedPart::Config(view.record)
            }
            Part::Sync => SharedPart::Sync(sync::decode(
                Some(meta),
                &SyncRecord::default(),
                &mut problems,
            )),
            Part::Failover => SharedPart::Failover(failover::decode(Some(meta), &mut problems)),
        }
    }
}
