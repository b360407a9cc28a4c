//! What only the embedded API can do: fail on demand, forget, go back in time, stop and start again.

use std::time::Duration;

use kube::runtime::watcher;
use pgwarden::playground::kube_api::{Fault, KubeApi, Options, Rule, Verb};
use serde_json::{Value, json};

use crate::rig::{MERGE, Rig, config_map, endpoints, lease, revision, slice, version};
use crate::watches::follow;

/// Longer than an answer takes, short enough to be waited for: only ever to see that none comes.
const SILENCE: Duration = Duration::from_millis(300);

async fn rig() -> Rig {
    let rig = Rig::embedded(Options::default()).await;
    rig.create("leases", &lease("l")).await.expect("created");
    rig
}

fn holder(value: &str) -> Value {
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

fn stored_holder(rig: &Rig) -> String {
    let lease = rig.api().object("leases", "test", "l").expect("the lease");
    lease["spec"]["holderIdentity"]
        .as_str()
        .expect("a holder")
        .to_owned()
}

/// Waits until the stored lease names this holder.
async fn until_held_by(rig: &Rig, value: &str) {
    let held = async {
        while stored_holder(rig) != value {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), held)
        .await
        .expect("it is applied in the end");
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

    let silence = tokio::time::timeout(SILENCE, try_patch(&a, "lost")).await;
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
        .inject(Rule::new(Fault::DelayAfter { ms: 200 }).verbs(&[Verb::Patch]));
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
    let silence = async { tokio::join!(try_patch(&rig, "too"), until_held_by(&rig, "too")) };
    assert!(tokio::time::timeout(SILENCE, silence).await.is_err());
    until_held_by(&rig, "too").await;
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

#[tokio::test]
async fn a_restored_store_goes_backwards() {
    let rig = rig().await;
    let early = rig.api().snapshot();
    let mut watch = rig.watch("leases", "").await;
    assert_eq!(watch.next_named().await, "ADDED l");
    let changed = rig
        .patch("leases", "l", MERGE, &holder("b"))
        .await
        .expect("patched");
    rig.create("leases", &lease("new")).await.expect("created");
    rig.api().restore(&early);
    assert_eq!(rig.api().revision(), early.revision());
    while let Some((kind, _)) = watch.next().await {
        assert_ne!(kind, "ERROR", "a restore is not announced");
    }
    let read = rig.get("leases", "l").await.expect("read");
    assert_eq!(read["spec"]["holderIdentity"], "a");
    assert!(revision(&read) < revision(&changed));
    assert_eq!(
        rig.get("leases", "new").await.expect_err("never was").code,
        404
    );
    let refused = rig
        .put("leases", "l", &changed)
        .await
        .expect_err("a version of the other life");
    assert_eq!(refused.code, 409);
    let query = format!("resourceVersion={}", revision(&changed) + 5);
    assert_eq!(
        rig.list("leases", &query)
            .await
            .expect_err("the future")
            .code,
        504
    );
}

#[tokio::test]
async fn stop_and_start_again_with_the_same_state() {
    let first = KubeApi::start(Options::default()).await.expect("started");
    let address = first.address();
    let client = first.client("a").expect("a client");
    let path = "/api/v1/namespaces/test/configmaps";
    let body = config_map("c", json!({})).to_string().into_bytes();
    let request = http::Request::post(path)
        .header("content-type", "application/json")
        .body(body);
    client
        .request::<Value>(request.expect("valid"))
        .await
        .expect("created");
    let state = first.stop().await;
    client
        .apiserver_version()
        .await
        .expect_err("nobody listens");

    let options = Options {
        listen: address,
        state: Some(state),
        ..Options::default()
    };
    let second = KubeApi::start(options)
        .await
        .expect("the same address again");
    client
        .apiserver_version()
        .await
        .expect("the same client goes on");
    assert_eq!(second.objects("configmaps", "test").len(), 1);
    assert!(second.edit("configmaps", "test", "c", |it| it["data"] =
        json!({"garbage": "x"})));
    let seen = second.object("configmaps", "test", "c").expect("it exists");
    assert_eq!(seen["data"]["garbage"], "x");
    assert!(second.remove("configmaps", "test", "c"));
    assert!(second.object("configmaps", "test", "c").is_none());
}

#[tokio::test]
async fn loopback_is_allowed_where_asked_for() {
    let rig = Rig::embedded(Options {
        allow_loopback: true,
        ..Options::default()
    })
    .await;
    rig.create("endpoints", &endpoints("e", &["127.0.0.1"]))
        .await
        .expect("allowed");
    rig.create("endpointslices", &slice("s", "IPv4", &["127.0.0.2"]))
        .await
        .expect("allowed");
    rig.create("endpointslices", &slice("t", "IPv6", &["::1"]))
        .await
        .expect("allowed");
    rig.create("endpoints", &endpoints("f", &["0.0.0.0"]))
        .await
        .expect_err("not this one");
}

#[tokio::test]
async fn other_processes_inject_over_http() {
    let rig = rig().await;
    let admin = |method: &'static str, path: &'static str, body: Value| {
        let rig = &rig;
        let path = format!("/pgwarden-faults{path}");
        async move { rig.send(method, &path, "application/json", &body).await }
    };
    let rule = json!({"client": "a", "verbs": ["get"], "resources": ["leases"],
        "fault": {"kind": "answer", "code": 500}});
    let id = admin("POST", "", rule).await.expect("injected")["id"].clone();
    assert_eq!(rig.get("leases", "l").await.expect_err("hit").code, 500);
    let rules = admin("GET", "", Value::Null).await.expect("rules");
    assert_eq!((&rules[0]["id"], &rules[0]["fired"]), (&id, &json!(1)));
    admin("DELETE", "", Value::Null).await.expect("cleared");
    rig.get("leases", "l").await.expect("read");

    admin("POST", "/snapshots/early", Value::Null)
        .await
        .expect("kept");
    rig.patch("leases", "l", MERGE, &holder("b"))
        .await
        .expect("patched");
    admin("POST", "/restore/early", Value::Null)
        .await
        .expect("restored");
    assert_eq!(stored_holder(&rig), "a");
    admin("POST", "/compact", Value::Null)
        .await
        .expect("forgotten");
    let calls = admin("GET", "/calls", Value::Null).await.expect("calls");
    let patches = json!({"client": "a", "verb": "patch", "resource": "leases", "count": 1});
    assert!(
        calls.as_array().expect("a list").contains(&patches),
        "{calls}"
    );
    for (path, body) in [
        ("", json!({"fault": "none"})),
        ("/restore/none", Value::Null),
    ] {
        let path = format!("/pgwarden-faults{path}");
        let body = body.to_string().into_bytes();
        rig.try_send("POST", &path, "application/json", body)
            .await
            .expect_err("refused");
    }
}

#[tokio::test]
async fn dropping_the_handle_ends_the_server() {
    let api = KubeApi::start(Options::default()).await.expect("started");
    let client = api.client("a").expect("a client");
    client.apiserver_version().await.expect("it answers");
    drop(api);
    let gone = async {
        while client.apiserver_version().await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), gone)
        .await
        .expect("it ends");
}
