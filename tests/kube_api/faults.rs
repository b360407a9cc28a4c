//! What only the embedded API can do: fail on demand.

use std::time::Duration;

use kube::runtime::watcher;
use pgwarden::playground::kube_api::{Fault, Options, Rule, Verb};
use serde_json::{Value, json};

use crate::bodies::lease;
use crate::rig::{MERGE, Rig, revision, version};
use crate::watches::follow;

/// Longer than an answer takes, short enough to be waited for: only ever to see that none comes.
const SILENCE: Duration = Duration::from_millis(300);

pub(crate) async fn rig() -> Rig {
    let rig = Rig::embedded(Options::default()).await;
    rig.create("leases", &lease("l")).await.expect("created");
    rig
}

pub(crate) fn holder(value: &str) -> Value {
    json!({"spec": {"holderIdentity": value}})
}

/// A patch that may go unanswered.
async fn try_patch(rig: &Rig, value: &str) -> Result<Value, kube::Error> {
    let path = format!("{}/l", rig.path("leases"));
    rig.try_send(
        "PATCH",
        &path,
        MERGE,
        holder(value).to_string().into_bytes(),
    )
    .await
}

pub(crate) fn stored_holder(rig: &Rig) -> String {
    let lease = rig.api().object("leases", "test", "l").expect("the lease");
    lease["spec"]["holderIdentity"]
        .as_str()
        .expect("a holder")
        .to_owned()
}

/// Waits until it is so.
async fn until(is_so: impl Fn() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waiting)
        .await
        .expect("so it is in the end");
}

/// Waits until the stored lease names this holder.
async fn until_held_by(rig: &Rig, value: &str) {
    until(|| stored_holder(rig) == value).await;
}

#[tokio::test]
async fn a_cut_client_hears_nothing_and_others_do() {
    let a = rig().await;
    let b = a.seen_by("b");
    let since = version(&a.get("leases", "l").await.expect("read"));
    let query = format!("resourceVersion={since}&allowWatchBookmarks=true");
    let (mut watch_a, mut watch_b) = (
        a.watch("leases", &query).await,
        b.watch("leases", &query).await,
    );
    let cut = a
        .api()
        .inject(Rule::new(Fault::Cut { reset: false }).client("a"));

    let mut unanswered = Box::pin(try_patch(&a, "lost"));
    tokio::select! {
        answer = &mut unanswered => panic!("answered: {answer:?}"),
        () = until(|| a.api().fired(cut) == 1) => {}
    }
    let silence = tokio::time::timeout(SILENCE, unanswered).await;
    assert!(silence.is_err(), "a request is never answered");
    b.patch("leases", "l", MERGE, &holder("b"))
        .await
        .expect("b is not cut off");
    assert_eq!(watch_b.next_named().await, "MODIFIED l");
    assert!(
        tokio::time::timeout(SILENCE, watch_a.next()).await.is_err(),
        "an open watch is silent"
    );
    assert_eq!(stored_holder(&a), "b", "nothing of a was applied");
    assert_eq!(a.api().fired(cut), 1);
    assert_eq!(a.api().calls("a", Verb::Patch, "leases"), 1);

    a.api().clear(cut);
    watch_a
        .try_next()
        .await
        .expect_err("connections of before are found dead");
    a.patch("leases", "l", MERGE, &holder("a"))
        .await
        .expect("healed");
    assert_eq!(stored_holder(&a), "a");
}

#[tokio::test]
async fn a_cut_catches_a_request_under_way() {
    let rig = rig().await;
    rig.api()
        .inject(Rule::new(Fault::DelayAfter { ms: 60_000 }).verbs(&[Verb::Patch]));
    let cut_once_applied = async {
        until_held_by(&rig, "applied").await;
        rig.api().inject(Rule::new(Fault::Cut { reset: true }));
    };
    let (answer, ()) = tokio::join!(try_patch(&rig, "applied"), cut_once_applied);
    answer.expect_err("applied, but the partition swallowed the answer");
}

#[tokio::test]
async fn a_reset_cut_closes_connections() {
    let rig = rig().await;
    let mut watch = rig.watch("leases", "").await;
    assert_eq!(watch.next_named().await, "ADDED l");
    rig.api()
        .inject(Rule::new(Fault::Cut { reset: true }).client("a"));
    watch.try_next().await.expect_err("closed");
    try_patch(&rig, "lost").await.expect_err("closed");
    assert_eq!(stored_holder(&rig), "a");
}

#[tokio::test]
async fn rules_match_what_they_say() {
    let rig = rig().await;
    rig.create("leases", &lease("other"))
        .await
        .expect("created");
    let answer = Fault::Answer {
        code: 503,
        retry_after_s: None,
    };
    let rule = Rule::new(answer)
        .client("a")
        .verbs(&[Verb::Get])
        .resource("leases")
        .name("l");
    let id = rig.api().inject(rule.after(1).times(2));
    rig.get("leases", "l").await.expect("the first passes");
    rig.get("leases", "other").await.expect("another name");
    rig.list("leases", "").await.expect("another verb");
    rig.get("configmaps", "l")
        .await
        .map_err(|status| status.code)
        .expect_err("another kind");
    rig.seen_by("b")
        .get("leases", "l")
        .await
        .expect("another client");
    for _ in 0..2 {
        assert_eq!(rig.get("leases", "l").await.expect_err("hit").code, 503);
    }
    rig.get("leases", "l").await.expect("used up");
    assert_eq!(rig.api().fired(id), 2);
    rig.api().clear_faults();
    assert!(rig.api().faults().is_empty());
}

#[tokio::test]
async fn injected_answers_look_like_the_real_ones() {
    let rig = rig().await;
    for (code, reason) in [
        (403, "Forbidden"),
        (409, "Conflict"),
        (410, "Expired"),
        (429, "TooManyRequests"),
        (500, "InternalError"),
        (503, "ServiceUnavailable"),
    ] {
        let retry_after_s = (code == 429).then_some(3);
        let id = rig.api().inject(Rule::new(Fault::Answer {
            code,
            retry_after_s,
        }));
        let refused = rig
            .patch("leases", "l", MERGE, &holder("x"))
            .await
            .expect_err("refused");
        assert_eq!((refused.code, refused.reason.as_str()), (code, reason));
        let seconds = refused.details.map(|it| it.retry_after_seconds);
        assert_eq!(seconds, retry_after_s, "{code}");
        rig.api().clear(id);
    }
    assert_eq!(stored_holder(&rig), "a", "none was applied");
}

#[tokio::test]
async fn a_late_request_lands_after_its_sender_gave_up() {
    let rig = rig().await;
    let rule = Rule::new(Fault::DelayBefore { ms: 200 }).verbs(&Verb::WRITES);
    let id = rig.api().inject(rule.times(1));
    let given_up = tokio::time::timeout(Duration::from_millis(50), try_patch(&rig, "late")).await;
    if given_up.is_err() && rig.api().fired(id) == 1 {
        until_held_by(&rig, "late").await;
    } else {
        // A machine too busy to send the request within its deadline shows nothing.
        eprintln!("SKIPPED: the request was not sent before its sender gave up");
    }
}

#[tokio::test]
async fn a_lost_answer_is_not_a_lost_write() {
    let rig = rig().await;
    rig.api().inject(
        Rule::new(Fault::LoseAnswer { hang: false })
            .verbs(&[Verb::Patch])
            .times(1),
    );
    try_patch(&rig, "applied").await.expect_err("no answer");
    assert_eq!(stored_holder(&rig), "applied");
    rig.api().inject(
        Rule::new(Fault::LoseAnswer { hang: true })
            .verbs(&[Verb::Patch])
            .times(1),
    );
    let mut unanswered = Box::pin(try_patch(&rig, "too"));
    tokio::select! {
        answer = &mut unanswered => panic!("answered: {answer:?}"),
        () = until_held_by(&rig, "too") => {}
    }
    assert!(tokio::time::timeout(SILENCE, unanswered).await.is_err());
}

#[tokio::test]
async fn a_stalled_watch_says_nothing_until_it_goes_on() {
    let options = Options {
        bookmark_interval: Duration::from_millis(10),
        ..Options::default()
    };
    let rig = Rig::embedded(options).await;
    let mut watch = rig
        .watch("leases", "resourceVersion=100&allowWatchBookmarks=true")
        .await;
    assert_eq!(watch.next().await.expect("an event").0, "BOOKMARK");
    let stall = rig.api().inject(Rule::new(Fault::WatchStall).client("a"));
    rig.create("leases", &lease("l"))
        .await
        .expect("everything else works");
    let silence = async {
        // Bookmarks already under way may still arrive.
        while let Some((kind, _)) = watch.next().await {
            assert_eq!(kind, "BOOKMARK");
        }
    };
    assert!(tokio::time::timeout(SILENCE, silence).await.is_err());
    rig.api().clear(stall);
    assert_eq!(watch.next_named().await, "ADDED l");
}

#[tokio::test]
async fn a_watch_is_told_that_the_past_is_gone() {
    let rig = rig().await;
    let gone = |event: Option<(String, Value)>| {
        let (kind, status) = event.expect("an event");
        assert_eq!(
            (kind.as_str(), &status["code"]),
            ("ERROR", &json!(410)),
            "{status}"
        );
        assert_eq!(
            (&status["kind"], &status["reason"]),
            (&json!("Status"), &json!("Expired"))
        );
    };
    // By injection into an open watch.
    let mut watch = rig.watch("leases", "").await;
    assert_eq!(watch.next_named().await, "ADDED l");
    rig.api().inject(Rule::new(Fault::WatchGone).times(1));
    gone(watch.next().await);
    assert!(watch.next().await.is_none());
    // Because the version is older than the server's memory.
    let mut watch = rig.watch("leases", "resourceVersion=1").await;
    gone(watch.next().await);
    let early = version(&rig.get("leases", "l").await.expect("read"));
    rig.patch("leases", "l", MERGE, &holder("b"))
        .await
        .expect("patched");
    rig.api().compact();
    let mut watch = rig
        .watch("leases", &format!("resourceVersion={early}"))
        .await;
    gone(watch.next().await);
    // As an HTTP status.
    rig.api().inject(
        Rule::new(Fault::Answer {
            code: 410,
            retry_after_s: None,
        })
        .times(1),
    );
    let refused = rig.list("leases", "watch=true").await.expect_err("410");
    assert_eq!((refused.code, refused.reason.as_str()), (410, "Expired"));
}

#[tokio::test]
async fn a_watcher_survives_all_of_it() {
    let rig = rig().await;
    rig.create("leases", &lease("a")).await.expect("created");
    rig.delete("leases", "l", &Value::Null)
        .await
        .expect("deleted");
    // Streaming lists, which the real server here cannot show.
    follow(&rig, watcher::Config::default().streaming_lists()).await;
}

#[tokio::test]
async fn reads_from_the_cache_may_be_stale() {
    let rig = rig().await;
    rig.api().save_snapshot("before");
    rig.patch("leases", "l", MERGE, &holder("b"))
        .await
        .expect("patched");
    rig.api().inject(
        Rule::new(Fault::Stale {
            snapshot: "before".into(),
        })
        .client("a"),
    );
    let of = |object: &Value| {
        object["spec"]["holderIdentity"]
            .as_str()
            .unwrap_or("?")
            .to_owned()
    };
    let stale = rig
        .get("leases", "l?resourceVersion=0")
        .await
        .expect("read");
    assert_eq!(of(&stale), "a");
    let stale = rig
        .list("leases", "resourceVersion=0")
        .await
        .expect("a list");
    assert_eq!(of(&stale["items"][0]), "a");
    let quorum = rig.get("leases", "l").await.expect("read");
    assert_eq!(of(&quorum), "b", "a quorum read is never stale");
    assert!(revision(&quorum) > revision(&stale));
}
