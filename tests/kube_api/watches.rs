//! Watches: order, selectors, bookmarks and the end of the past.

use futures::TryStreamExt as _;
use k8s_openapi::api::coordination::v1::Lease;
use kube::runtime::watcher;
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use crate::bodies::{config_map, lease};
use crate::rig::{MERGE, Rig, revision, version};

#[tokio::test]
async fn from_a_version_everything_in_order() {
    let rig = Rig::start("watch-order").await;
    rig.create("leases", &lease("early"))
        .await
        .expect("created");
    let since = version(&rig.list("leases", "").await.expect("a list"));
    let query = format!("resourceVersion={since}");
    let mut watch = rig.watch("leases", &query).await;
    rig.create("leases", &lease("a")).await.expect("created");
    rig.create("configmaps", &config_map("other-kind", json!({})))
        .await
        .expect("created");
    for holder in ["b", "c"] {
        let patch = json!({"spec": {"holderIdentity": holder}});
        rig.patch("leases", "a", MERGE, &patch)
            .await
            .expect("patched");
    }
    rig.delete("leases", "a", &Value::Null)
        .await
        .expect("deleted");
    // A second watch from the same version is told the same story after the fact.
    let mut later = rig.watch("leases", &query).await;
    for watch in [&mut watch, &mut later] {
        let mut last = 0;
        for (kind, holder) in [
            ("ADDED", "a"),
            ("MODIFIED", "b"),
            ("MODIFIED", "c"),
            ("DELETED", "c"),
        ] {
            let (event, object) = watch.next().await.expect("an event");
            assert_eq!(
                (event.as_str(), &object["spec"]["holderIdentity"]),
                (kind, &json!(holder))
            );
            assert_eq!(object["kind"], "Lease");
            assert!(
                revision(&object) > last,
                "a deletion has a version of its own"
            );
            last = revision(&object);
        }
    }
}

/// Python's clients write `True`, and Patroni's takes what is no watch for one that has ended.
#[tokio::test]
async fn any_word_but_false_asks_for_a_watch() {
    let rig = Rig::start("watch-word").await;
    for (number, word) in ["True", "1", "yes", ""].into_iter().enumerate() {
        let since = version(&rig.list("leases", "").await.expect("a list"));
        let query = format!("resourceVersion={since}");
        let mut watch = rig.watch_asked(word, "leases", &query).await;
        let name = format!("lease-{number}");
        rig.create("leases", &lease(&name)).await.expect("created");
        let (event, object) = watch.next().await.expect("an event");
        assert_eq!(event, "ADDED", "watch={word}");
        assert_eq!(object["metadata"]["name"], json!(name), "watch={word}");
    }
}

#[tokio::test]
async fn without_a_version_what_there_is_comes_first() {
    let rig = Rig::start("watch-initial").await;
    rig.create("leases", &lease("a")).await.expect("created");
    rig.create("leases", &lease("b")).await.expect("created");
    for query in ["", "resourceVersion=0"] {
        let mut watch = rig.watch("leases", query).await;
        let mut first = [watch.next_named().await, watch.next_named().await];
        first.sort();
        assert_eq!(first, ["ADDED a", "ADDED b"]);
    }
}

#[tokio::test]
async fn selectors_turn_changes_into_comings_and_goings() {
    let rig = Rig::start("watch-selector").await;
    let since = version(&rig.list("configmaps", "").await.expect("a list"));
    let query = format!("resourceVersion={since}&labelSelector=in%3Dyes");
    let mut watch = rig.watch("configmaps", &query).await;
    rig.create("configmaps", &config_map("x", json!({})))
        .await
        .expect("created");
    let label = |value: Value| json!({"metadata": {"labels": {"in": value}}});
    rig.patch("configmaps", "x", MERGE, &label("yes".into()))
        .await
        .expect("patched");
    let touched = json!({"data": {"key": "other"}});
    rig.patch("configmaps", "x", MERGE, &touched)
        .await
        .expect("patched");
    let left = rig
        .patch("configmaps", "x", MERGE, &label(Value::Null))
        .await
        .expect("patched");
    for expected in ["ADDED", "MODIFIED"] {
        assert_eq!(watch.next().await.expect("an event").0, expected);
    }
    let (event, object) = watch.next().await.expect("an event");
    assert_eq!(event, "DELETED");
    assert_eq!(
        object["metadata"]["labels"]["in"], "yes",
        "the state it was last seen in"
    );
    assert_eq!(version(&object), version(&left));
}

#[tokio::test]
async fn one_object_by_field_selector() {
    let rig = Rig::start("watch-one").await;
    let since = version(&rig.list("leases", "").await.expect("a list"));
    let query = format!("resourceVersion={since}&fieldSelector=metadata.name%3Db");
    let mut watch = rig.watch("leases", &query).await;
    rig.create("leases", &lease("a")).await.expect("created");
    rig.create("leases", &lease("b")).await.expect("created");
    assert_eq!(watch.next_named().await, "ADDED b");
}

#[tokio::test]
async fn a_bookmark_comes_before_the_end() {
    let rig = Rig::start("watch-bookmark").await;
    let created = rig.create("leases", &lease("a")).await.expect("created");
    let since = version(&created);
    let query = format!("resourceVersion={since}&allowWatchBookmarks=true&timeoutSeconds=4");
    let mut watch = rig.watch("leases", &query).await;
    let mut bookmarks = 0;
    while let Some((event, object)) = watch.next().await {
        assert_eq!(
            (event.as_str(), &object["kind"]),
            ("BOOKMARK", &json!("Lease"))
        );
        assert!(revision(&object) >= revision(&created));
        assert!(object["metadata"]["name"].is_null());
        bookmarks += 1;
    }
    assert!(
        bookmarks > 0,
        "the server ends the watch, but not without a bookmark"
    );
}

#[tokio::test]
async fn nobody_reads_the_future() {
    let rig = Rig::start("future").await;
    let first = rig.create("leases", &lease("a")).await.expect("created");
    let future = revision(&first) + 1_000_000;
    let refused = rig
        .list("leases", &format!("resourceVersion={future}"))
        .await;
    let refused = refused.expect_err("not there yet");
    assert_eq!((refused.code, refused.reason.as_str()), (504, "Timeout"));
    let refused = rig
        .list("leases", "resourceVersion=soon")
        .await
        .expect_err("not a version");
    assert!([400, 422].contains(&refused.code), "{refused:?}");
}

#[tokio::test]
async fn the_watcher_of_kube_is_content() {
    let rig = Rig::start("watcher").await;
    rig.create("leases", &lease("a")).await.expect("created");
    // Streaming lists need a newer etcd than Debian's: compared in `faults` with the embedded API
    // alone.
    follow(&rig, watcher::Config::default()).await;
}

/// Lets a watcher find the lease `a` and see it change.
pub(crate) async fn follow(rig: &Rig, config: watcher::Config) {
    let api: Api<Lease> = Api::namespaced(rig.client.clone(), &rig.namespace);
    let mut events = Box::pin(watcher(api, config));
    let mut seen = Vec::new();
    while seen.last().is_none_or(|it| it != "apply a next") {
        match events.try_next().await.expect("no error").expect("no end") {
            watcher::Event::Init => seen.push("init".to_owned()),
            watcher::Event::InitApply(it) => seen.push(format!("has {}", it.name_any())),
            watcher::Event::InitDone => {
                seen.push("done".to_owned());
                let patch = json!({"spec": {"holderIdentity": "next"}});
                rig.patch("leases", "a", MERGE, &patch)
                    .await
                    .expect("patched");
            }
            watcher::Event::Apply(it) => {
                let holder = it.spec.as_ref().and_then(|it| it.holder_identity.clone());
                seen.push(format!(
                    "apply {} {}",
                    it.name_any(),
                    holder.unwrap_or_default()
                ));
            }
            watcher::Event::Delete(it) => seen.push(format!("delete {}", it.name_any())),
        }
    }
    assert_eq!(seen, ["init", "has a", "done", "apply a next"]);
}
