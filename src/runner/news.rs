//! What people who look with `kubectl` should know, as Kubernetes Events of the own Pod: elections,
//! fences, what failed, what is left to a person. Best effort; the journal has the whole story.

use super::lines::REMOTE_SILENT;
use super::{Context, Runner};
use crate::dcs::codec::trouble::bounded;
use crate::ha::effect::{Effect, Rule};
use crate::ha::event::{Event, Op};
use crate::ha::lock::Outcome;
use crate::ha::model::Ms;
use crate::ha::state::State;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The same words are not told again before.
const REPEAT_MS: Ms = 5 * 60_000;

/// One Event to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct News {
    reason: &'static str,
    message: String,
    warning: bool,
}

impl News {
    fn good(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            warning: false,
        }
    }

    fn bad(reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            warning: true,
            ..Self::good(reason, message)
        }
    }
}

/// What has been told, and what is needed to tell the rest in one sentence.
#[derive(Debug, Default)]
pub(super) struct Newsroom {
    leads: Option<u64>,
    /// Why the lock was found free.
    vacancy: Option<String>,
    releasing: bool,
    told: BTreeMap<&'static str, (String, Ms)>,
}

impl Newsroom {
    fn collect(
        &mut self,
        fact: Option<News>,
        effects: &[Effect],
        state: &State,
        now: Ms,
    ) -> Vec<News> {
        let mut news: Vec<_> = fact.into_iter().collect();
        for effect in effects {
            if let Effect::Explain { rule, words } = effect {
                news.extend(self.of_words(*rule, words));
            }
        }
        news.extend(self.of_lease(state));
        news.retain(|item| self.is_fresh(item, now));
        news
    }

    fn of_words(&mut self, rule: Rule, words: &str) -> Option<News> {
        match rule {
            Rule::Untouched => return Some(News::bad("DataUntouched", words)),
            Rule::Election if words.starts_with("the lock is free: ") => {
                self.vacancy = Some(words.to_owned());
            }
            Rule::L4 if words.contains("release the lock") => self.releasing = true,
            _ => {}
        }
        None
    }

    fn of_lease(&mut self, state: &State) -> Option<News> {
        let leads = state.lease.held.as_ref().map(|held| held.epoch);
        let before = std::mem::replace(&mut self.leads, leads);
        match (before, leads) {
            (None, Some(epoch)) => Some(match self.vacancy.take() {
                Some(why) => News::good("Elected", format!("leads as epoch {epoch}: {why}")),
                None => News::good("Adopted", format!("goes on as the leader of epoch {epoch}")),
            }),
            (Some(epoch), None) if std::mem::take(&mut self.releasing) => {
                let words = format!("released the lock of epoch {epoch} after a verified stop");
                Some(News::good("HandedOver", words))
            }
            (Some(epoch), None) => {
                let words = format!("is not the leader of epoch {epoch} any more");
                Some(News::bad("LeadershipLost", words))
            }
            _ => None,
        }
    }

    fn is_fresh(&mut self, item: &News, now: Ms) -> bool {
        let told = self.told.get(item.reason);
        let same = |message: &str| {
            *message == item.message
                || (item.reason.ends_with("Failed") && is_alike(message, &item.message))
        };
        if told.is_some_and(|(message, at)| same(message) && now < at + REPEAT_MS) {
            return false;
        }
        self.told.insert(item.reason, (item.message.clone(), now));
        true
    }
}

/// Two failures that differ in numbers alone: PostgreSQL's programs say when, and as which process.
pub(super) fn is_alike(one: &str, other: &str) -> bool {
    let words = |text: &str| text.replace(|c: char| c.is_ascii_digit(), "");
    words(one) == words(other)
}

/// What an event itself tells; `stopping`: a stop of PostgreSQL was under way before it.
pub(super) fn of_event(event: &Event, stopping: bool) -> Option<News> {
    match event {
        Event::PostmasterGone { why } if why.contains("fenced: ") => {
            Some(News::bad("Fenced", format!("PostgreSQL {why}")))
        }
        Event::PostmasterGone { why } if !stopping && why.starts_with("ended") => {
            Some(News::bad("PostgresEnded", format!("PostgreSQL {why}")))
        }
        Event::OpDone { op, result } => of_operation(op, result.as_ref().err()),
        _ => None,
    }
}

fn of_operation(op: &Op, failure: Option<&String>) -> Option<News> {
    let (done, failed, what) = match op {
        Op::Initdb => ("Bootstrapped", "BootstrapFailed", "a new cluster"),
        Op::Clone => ("Cloned", "CloneFailed", "the copy of the leader"),
        Op::Rewind => (
            "Rewound",
            "RewindFailed",
            "the rewind to the leader's history",
        ),
        Op::Promote => ("Promoted", "PromotionFailed", "the promotion"),
        Op::CrashRecover => ("Recovered", "RecoveryFailed", "the recovery"),
        Op::StartPrimary | Op::StartReplica => {
            let words = |why| format!("PostgreSQL does not start: {why}");
            return failure.map(|why| News::bad("StartFailed", words(why)));
        }
        _ => return None,
    };
    Some(match failure {
        None => News::good(done, format!("{what} is complete")),
        Some(why) => News::bad(failed, format!("{what} failed: {why}")),
    })
}

/// An operation of the kind that people hear of failed: what, and why.
pub(super) fn failure(op: &Op, result: &Result<(), String>) -> Option<String> {
    let news = of_operation(op, result.as_ref().err())?;
    news.warning.then_some(news.message)
}

impl Runner {
    /// Tells when a volume becomes full, and when it has room again: here and in the log.
    pub(super) fn tell_of_volumes(&mut self, now: Ms) {
        if !self.full_volume.has_changed().unwrap_or(false) {
            return;
        }
        let news = match &*self.full_volume.borrow_and_update() {
            Some(words) => News::bad("VolumeFull", words.as_str()),
            None => News::good("VolumeHasRoom", "the volume has room again"),
        };
        if !self.newsroom.is_fresh(&news, now) {
            return;
        }
        if news.warning {
            tracing::warn!("{}", news.message);
        } else {
            tracing::info!("{}", news.message);
        }
        self.work.spawn(run_tell(self.context.clone(), news));
    }

    /// Tells of a right that is missing, and of other things that the Kubernetes side is short of.
    pub(super) fn tell_of_obstacles(&mut self, now: Ms) {
        let leads = self.state.lease.held.is_some();
        self.context.settle_of_role(leads);
        if self.state.rules.standby.is_none() {
            self.context.complaints.settle(REMOTE_SILENT);
        }
        let state = &self.state;
        let people = state.pg.left_to_people.as_ref().or(state.for_people());
        let complaint = people
            .cloned()
            .or_else(|| self.own_follower())
            .or_else(|| self.context.complaints.standing());
        let complains = complaint.is_some();
        let obstacle = complaint.or_else(|| self.context.dcs.forbidden());
        let shown = obstacle.as_deref().map(bounded);
        if shown == self.obstacle {
            return;
        }
        self.obstacle = shown;
        let Some(words) = obstacle else { return };
        let forbidden = !complains || words.contains("forbidden");
        let reason = if forbidden { "Forbidden" } else { "Impeded" };
        let news = News::bad(reason, words);
        if self.newsroom.is_fresh(&news, now) {
            self.work.spawn(run_tell(self.context.clone(), news));
        }
    }

    /// A standby cluster that follows itself under a name that does not say so, through a Service
    /// or a pooler, looks well and receives nothing.
    fn own_follower(&self) -> Option<String> {
        let shared = self.state.shared.as_ref();
        let shared = shared.filter(|_| self.state.rules.standby.is_some())?;
        let scope = &self.context.settings().scope;
        let facts = self.state.pg.facts.as_ref()?;
        let mut members = shared.members.keys();
        let name = members.find(|member| {
            let elsewhere = format!("{scope}/{member}");
            facts
                .walsenders
                .iter()
                .any(|sender| sender.name == elsewhere)
        })?;
        Some(format!(
            "{scope}/{name} streams from here: this standby cluster follows itself, or another \
             cluster of the name {scope} follows it"
        ))
    }

    /// Tells what one step brought; `fact` is what [`of_event`] made of its event.
    pub(super) fn tell_news(&mut self, fact: Option<News>, effects: &[Effect], now: Ms) {
        for item in self.newsroom.collect(fact, effects, &self.state, now) {
            self.work.spawn(run_tell(self.context.clone(), item));
        }
    }
}

/// One that the API does not take is dropped.
async fn run_tell(context: Arc<Context>, news: News) {
    let News {
        reason,
        message,
        warning,
    } = news;
    match context.dcs.create_event(reason, &message, warning).await {
        Some(Outcome::Refused { why, .. }) => context.complaints.say("no Events", why),
        outcome => tracing::trace!(reason, message, ?outcome, "an Event"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_clone_is_told_once_and_again_when_its_reason_changes() {
        let mut room = Newsroom::default();
        let failed = |why: &str| of_operation(&Op::Clone, Some(&why.to_owned())).unwrap();
        let first = failed("no space");
        assert!(first.warning && first.reason == "CloneFailed");
        assert!(room.is_fresh(&first, 1_000));
        assert!(!room.is_fresh(&first, 2_000));
        assert!(room.is_fresh(&failed("no route"), 3_000));
        assert!(room.is_fresh(&failed("no route"), 3_000 + REPEAT_MS));
        // The next try failed for the same reason at another time.
        assert!(room.is_fresh(&failed("12:00:05 [199] full"), 4_000 + REPEAT_MS));
        assert!(!room.is_fresh(&failed("12:00:08 [2001] full"), 7_000 + REPEAT_MS));
        let leads = |epoch| News::good("Elected", format!("leads as epoch {epoch}"));
        assert!(room.is_fresh(&leads(1), 1_000) && room.is_fresh(&leads(2), 2_000));
    }

    #[test]
    fn only_an_end_that_nobody_ordered_is_news() {
        let gone = |why: &str| Event::PostmasterGone { why: why.into() };
        let reason = |why, stopping| of_event(&gone(why), stopping).map(|news| news.reason);
        assert_eq!(reason("nothing runs yet", false), None);
        assert_eq!(reason("ended by signal 9", false), Some("PostgresEnded"));
        assert_eq!(reason("ended with code 0", true), None);
        let fenced = "ended by signal 9, fenced: the deadline has passed";
        assert_eq!(reason(fenced, true), Some("Fenced"));
    }
}
