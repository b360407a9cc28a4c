//! The probe: what PostgreSQL is doing, and whether it serves (G9).
//!
//! Its session is nobody else's. Silence counts only outside of what the agent itself has ordered,
//! an error answer counts as an answer, and a full disk is not a dead one.

use super::effects::ms;
use super::pending::Pending;
use super::{Context, Watchful};
use crate::ha::event::{Event, PgFacts};
use crate::ha::model::{HistoryEntry, Ms, Timeline};
use crate::postgres::probe::{Facts, Probe, wal_stalled};
use crate::postgres::scratch::{Scratch, Written};
use crate::postgres::session::SqlError;
use crate::postgres::{history, lines};
use crate::sys::clock::boottime_ms;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;
use tokio::sync::watch;

/// The shortest silence that counts (G9).
const SERVE_MS: Ms = 10_000;
/// Between two looks while all is well.
const LOOK_MS: Ms = 500;
/// A session is given up after this long: an old one goes on answering under a hung postmaster.
const SESSION_MS: Ms = 1_000;
/// Between two writes of the scratch files.
const SCRATCH_MS: Ms = 5_000;

/// The topic of a standing complaint.
const LOGIN: &str = "PostgreSQL does not let the agent in";

/// What G9 watches, and since when each part has failed.
struct Health {
    answered_at: Ms,
    flushed_at: Ms,
    disk_at: Ms,
    scratch_due: Ms,
    said: bool,
    before: Option<Facts>,
    scratch: Vec<Scratch>,
}

impl Health {
    fn fresh(now: Ms) -> Self {
        Self {
            answered_at: now,
            flushed_at: now,
            disk_at: now,
            scratch_due: now,
            said: true,
            before: None,
            scratch: Vec::new(),
        }
    }

    /// An error answer is an answer. But a server that had been up and says that it is starting or
    /// shutting down serves nobody, unless that was ordered (G9).
    fn counts(&self, error: &SqlError) -> bool {
        error.answered() && !(matches!(error, SqlError::StartingUp(_)) && self.before.is_some())
    }

    /// What the WAL does cannot be seen: that is no stall, unless somebody was waiting for it
    /// before. A login that is refused is refused whatever the disk does, and at every member.
    fn note_refusal(&mut self, error: &SqlError, now: Ms) {
        self.answered_at = now;
        let waited = self
            .before
            .as_ref()
            .is_some_and(|facts| facts.wal_waiters > 0);
        if !waited || matches!(error, SqlError::AuthFailed(_)) {
            self.flushed_at = now;
        }
    }

    /// The part that has failed for too long, in words.
    fn verdict(&self, now: Ms, limit_ms: Ms) -> Option<String> {
        let parts = [
            (self.answered_at, "no answer of the server"),
            (
                self.flushed_at,
                "backends wait for WAL that does not reach the disk",
            ),
            (self.disk_at, "the data directory's disk takes no writes"),
        ];
        parts
            .iter()
            .find(|(at, _)| now >= at + limit_ms)
            .map(|(at, what)| format!("{what} for {} ms", now - at))
    }
}

/// The newest timeline seen in a postmaster's life: no reading goes back behind it.
#[derive(Default)]
struct Newest {
    postmaster_start_ms: i64,
    timeline: Timeline,
}

impl Newest {
    fn correct(&mut self, facts: &mut Facts) {
        if self.postmaster_start_ms != facts.postmaster_start_ms {
            self.postmaster_start_ms = facts.postmaster_start_ms;
            self.timeline = 0;
        }
        self.timeline = self.timeline.max(facts.timeline);
        facts.timeline = self.timeline;
    }
}

pub(super) async fn run(
    context: Arc<Context>,
    mut watchful: watch::Receiver<Watchful>,
    publish: watch::Sender<Option<Arc<Facts>>>,
) {
    let mut probe = Probe::new();
    let mut health = Health::fresh(boottime_ms());
    let mut history = History::default();
    let mut newest = Newest::default();
    let mut pending = Pending::default();
    let mut connect_due = boottime_ms() + SESSION_MS;
    loop {
        let task = watchful.borrow_and_update().clone();
        if boottime_ms() >= connect_due {
            connect_due = boottime_ms() + SESSION_MS;
            probe.disconnect();
        }
        if !task.running {
            probe.disconnect();
            publish.send_replace(None);
            health = Health::fresh(boottime_ms());
            // The next server may have another line under the same number.
            history = History::default();
            if watchful.changed().await.is_err() {
                return;
            }
            continue;
        }
        let limit = Duration::from_secs(2);
        let pg = context.postgres();
        let archive = pg.parameters.get("restore_command");
        let archived = archive.is_some_and(|command| !command.trim().is_empty());
        let asked_at = boottime_ms();
        let mut answer = probe.facts(&pg, limit).await;
        let now = boottime_ms();
        if let Ok(facts) = &mut answer {
            // A disk that does not answer must not keep the verdict from being passed (G9).
            let read = async {
                correct_timeline(&context, facts).await;
                newest.correct(facts);
                pending.complete(&context, &mut probe, facts, now).await;
                history.keep_up(&context, facts.timeline).await;
            };
            if tokio::time::timeout(2 * limit, read).await.is_err() {
                probe.disconnect();
                answer = Err(SqlError::Timeout(2 * limit.as_millis()));
            }
        }
        match answer {
            Ok(facts) => {
                let event = Event::PgSeen(PgFacts {
                    asked_at,
                    archived,
                    ..as_event(&context, &facts, &history.entries)
                });
                health.answered_at = now;
                context.complaints.settle(LOGIN);
                if !health
                    .before
                    .as_ref()
                    .is_some_and(|before| wal_stalled(before, &facts))
                {
                    health.flushed_at = now;
                }
                health.before = Some(facts.clone());
                publish.send_replace(Some(Arc::new(facts)));
                context.tell(event).await;
            }
            Err(error) => {
                if health.counts(&error) {
                    health.note_refusal(&error, now);
                }
                if matches!(error, SqlError::AuthFailed(_)) {
                    context.complaints.say(LOGIN, error.to_string());
                }
                context
                    .tell(Event::PgSilent {
                        why: error.to_string(),
                    })
                    .await;
            }
        }
        check_disk(&context, &mut health, now).await;
        judge(&context, &mut health, &task, now).await;
        let pause = ms(LOOK_MS.min(task.renew_ms / 2));
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = context.kick.notified() => {}
            changed = watchful.changed() => if changed.is_err() { return },
        }
    }
}

async fn check_disk(context: &Context, health: &mut Health, now: Ms) {
    if now < health.scratch_due {
        return;
    }
    health.scratch_due = now + SCRATCH_MS;
    if health.scratch.is_empty() {
        health.scratch = Scratch::for_volumes(&context.settings().postgresql.data_dir);
    }
    let mut dead = false;
    for scratch in &mut health.scratch {
        match scratch.check(Duration::from_secs(2)).await {
            Written::Done | Written::Full => {}
            Written::Failed(why) => {
                tracing::warn!("{}: {why}", scratch.path().display());
                dead = true;
            }
            Written::Blocked => dead = true,
        }
    }
    if !dead {
        health.disk_at = boottime_ms();
    }
}

/// Tell the core when the verdict changes.
async fn judge(context: &Context, health: &mut Health, task: &Watchful, now: Ms) {
    let limit_ms = task.ttl_ms.max(SERVE_MS);
    if task.ordered {
        // What was ordered has its own deadline.
        health.answered_at = now;
        health.flushed_at = now;
    }
    let verdict = health.verdict(now, limit_ms);
    let ok = verdict.is_none();
    if ok != health.said {
        health.said = ok;
        let why = verdict.unwrap_or_default();
        context.tell(Event::Serving { ok, why }).await;
    }
}

/// Without a stream a replica tells the timeline of its last restartpoint, beside a position that
/// may lie on a newer one. Taken together the two would look like a history that forked.
async fn correct_timeline(context: &Context, facts: &mut Facts) {
    let Some(lsn) = facts.durable_lsn() else {
        return;
    };
    if !facts.in_recovery || facts.receiver.is_some() {
        return;
    }
    let dir = context.settings().postgresql.data_dir.clone();
    let segment = facts.wal_segment_bytes;
    match tokio::task::spawn_blocking(move || lines::written_on(&dir, lsn, segment)).await {
        Ok(Ok(timeline)) => facts.timeline = facts.timeline.max(timeline.unwrap_or(0)),
        Ok(Err(error)) => tracing::warn!(%error, "pg_wal cannot be listed"),
        Err(error) => tracing::error!(%error, "listing pg_wal failed"),
    }
}

/// The history file of the timeline seen last.
#[derive(Default)]
struct History {
    timeline: Timeline,
    entries: Vec<HistoryEntry>,
    told: Timeline,
}

impl History {
    /// A server that is being promoted names its timeline a moment before the file is there: what
    /// could not be read is read again with the next look.
    async fn keep_up(&mut self, context: &Context, timeline: Timeline) {
        if self.timeline == timeline {
            return;
        }
        self.timeline = 0;
        self.entries.clear();
        let dir = context.settings().postgresql.data_dir.clone();
        let read = match timeline {
            0 | 1 => Ok(Ok(Vec::new())),
            _ => tokio::task::spawn_blocking(move || history::read_local(&dir, timeline)).await,
        };
        match read {
            Ok(Ok(entries)) => (self.timeline, self.entries) = (timeline, entries),
            Ok(Err(error)) if self.told != timeline => {
                self.told = timeline;
                tracing::warn!(%error, "the history of timeline {timeline} cannot be read (yet)");
            }
            Ok(Err(_)) => {}
            Err(error) => tracing::error!(%error, "reading the history failed"),
        }
    }
}

fn as_event(context: &Context, facts: &Facts, history: &[HistoryEntry]) -> PgFacts {
    PgFacts {
        in_recovery: facts.in_recovery,
        timeline: facts.timeline,
        lsn: facts.durable_lsn().unwrap_or_default(),
        receive_lsn: facts.receive_lsn,
        replay_lsn: facts.replay_lsn,
        streaming: facts
            .receiver
            .as_ref()
            .is_some_and(|receiver| receiver.status == "streaming"),
        sender: facts
            .receiver
            .as_ref()
            .map(|receiver| (receiver.sender_host.clone(), receiver.sender_port)),
        system_id: facts.system_id.clone(),
        walsenders: facts.walsenders.clone(),
        history: history.to_vec(),
        checkpointed: facts.in_recovery || !context.unchecked.load(SeqCst),
        sync_setting: facts.synchronous_standby_names.clone(),
        starved: facts.starved.clone(),
        slots: Some(facts.slots.clone()),
        // What a receiver has flushed lies behind all that was there before it.
        drained: facts.receive_lsn.is_some() || facts.awaits_wal,
        ..PgFacts::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_was_up_and_starts_again_unordered_does_not_count_as_answering() {
        let mut health = Health::fresh(0);
        let starting = SqlError::StartingUp("the database system is in recovery mode".into());
        let full = SqlError::TooManyClients("sorry".into());
        let silent = SqlError::Timeout(2000);
        assert!(health.counts(&starting), "its first start may take long");
        health.before = Some(Facts::default());
        assert!(!health.counts(&starting));
        assert!(health.counts(&full) && !health.counts(&silent));
    }

    #[test]
    fn a_refusal_says_nothing_of_the_disk_unless_somebody_waited_for_it() {
        // Found by an attack: a pg_hba without a line for the agent was taken for a hung disk.
        let no_entry = SqlError::AuthFailed("no pg_hba.conf entry".into());
        let full = SqlError::TooManyClients("sorry".into());
        let waited = Facts {
            wal_waiters: 3,
            ..Facts::default()
        };
        for (before, error, hangs) in [
            (Facts::default(), &no_entry, false),
            (Facts::default(), &full, false),
            (waited.clone(), &no_entry, false),
            (waited, &full, true),
        ] {
            let mut health = Health::fresh(0);
            health.before = Some(before);
            health.disk_at = 60_000;
            health.note_refusal(error, 60_000);
            assert_eq!(health.verdict(60_000, 10_000).is_some(), hangs, "{error}");
        }
    }
}
