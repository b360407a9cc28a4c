//! Reading and swapping the lock, with every kind of answer and with none.

use super::support::{
    NAMESPACE, PATIENCE, SCOPE, acquire, acquired, api, create_pod, done, member, member_of, renew,
    version,
};
use pgwarden::dcs::codec::lease_write::is_result_of;
use pgwarden::dcs::{DcsError, Dialect};
use pgwarden::ha::lock::{LockState, LockWrite, Outcome, Released};
use pgwarden::playground::kube_api::{Fault, Rule, Verb};
use serde_json::json;
use tokio::time::timeout;

#[tokio::test]
async fn of_two_members_exactly_one_creates_and_one_swaps() {
    for dialect in Dialect::ALL {
        let api = api().await;
        let (a, b) = (
            member_of(&api, dialect, "pg-0").await,
            member_of(&api, dialect, "pg-1").await,
        );
        assert_eq!(a.read_lock().await.unwrap().state, LockState::Absent);

        let mut seen = None;
        for epoch in 1..=20 {
            let expect = seen.as_deref();
            let (write_a, write_b) = (acquire("pg-0", epoch, epoch), acquire("pg-1", epoch, epoch));
            let race = tokio::join!(
                a.write_lock(&write_a, expect),
                b.write_lock(&write_b, expect)
            );
            let winner = match race {
                (Outcome::Done(snapshot), Outcome::Conflict) => (snapshot, write_a),
                (Outcome::Conflict, Outcome::Done(snapshot)) => (snapshot, write_b),
                other => panic!("{dialect:?}, epoch {epoch}: {other:?}"),
            };
            let stored = a.read_lock().await.unwrap();
            assert_eq!(stored, winner.0, "the answer is what is stored");
            assert!(is_result_of(&stored, &winner.1));
            seen = stored.resource_version;
        }
    }
}

#[tokio::test]
async fn renewal_and_release_keep_their_acquisition() {
    let api = api().await;
    let dcs = member(&api, "pg-0", 5000).await;
    let first = acquired(&dcs, "pg-0").await;
    let second = done(
        dcs.write_lock(&renew("pg-0", 2, &first), version(&first))
            .await,
    );
    assert_ne!(first.fields, second.fields);
    let acquire_time = |snapshot: &pgwarden::ha::lock::LockSnapshot| {
        snapshot.held().map(|held| held.acquire_time.clone())
    };
    assert_eq!(acquire_time(&first), acquire_time(&second));

    let by = second.held().unwrap().holder.clone();
    let release = Released {
        by,
        epoch: 1,
        ttl_ms: 6000,
        verified: true,
        led_last: None,
        end: None,
    };
    let write = LockWrite::Release {
        release: release.clone(),
        optime: None,
    };
    let third = done(dcs.write_lock(&write, version(&second)).await);
    assert_eq!(third.state, LockState::Released(release));
    assert_eq!(
        third.optime, second.optime,
        "an unknown position leaves the stored one"
    );
    let next = done(
        dcs.write_lock(&acquire("pg-0", 2, 9), version(&third))
            .await,
    );
    assert_eq!(next.epoch(), Some(2));
}

#[tokio::test]
async fn a_lost_answer_is_found_by_its_nonce() {
    let api = api().await;
    let dcs = member(&api, "pg-0", 10_000).await;
    let first = acquired(&dcs, "pg-0").await;
    let lost = Rule::new(Fault::LoseAnswer { hang: false })
        .verbs(&[Verb::Patch])
        .times(1);
    let rule = api.inject(lost.resource("leases"));
    let write = renew("pg-0", 2, &first);
    let second = done(dcs.write_lock(&write, version(&first)).await);
    assert_eq!(api.fired(rule), 1);
    assert!(is_result_of(&second, &write));
}

#[tokio::test]
async fn a_hanging_answer_is_unknown_at_the_deadline_and_a_read_tells() {
    let api = api().await;
    let dcs = member(&api, "pg-0", 10_000).await;
    let first = acquired(&dcs, "pg-0").await;
    let hang = Rule::new(Fault::LoseAnswer { hang: true }).verbs(&[Verb::Patch]);
    api.inject(hang.resource("leases").times(1));
    let write = renew("pg-0", 2, &first);
    let hasty = dcs.with_deadline(300);
    let outcome = timeout(PATIENCE, hasty.write_lock(&write, version(&first))).await;
    assert!(matches!(
        outcome.expect("its own deadline"),
        Outcome::Unknown { .. }
    ));
    assert!(is_result_of(&dcs.read_lock().await.unwrap(), &write));
}

#[tokio::test]
async fn a_lost_answer_to_a_write_that_lost_the_race_is_a_conflict() {
    let api = api().await;
    let (a, b) = (
        member(&api, "pg-0", 10_000).await,
        member(&api, "pg-1", 10_000).await,
    );
    let first = acquired(&a, "pg-0").await;
    done(b.write_lock(&acquire("pg-1", 2, 1), version(&first)).await);
    let lost = Rule::new(Fault::LoseAnswer { hang: false })
        .verbs(&[Verb::Patch])
        .times(1);
    api.inject(lost.client("pg-0").resource("leases"));
    let outcome = a
        .write_lock(&renew("pg-0", 2, &first), version(&first))
        .await;
    assert_eq!(outcome, Outcome::Conflict);
}

#[tokio::test]
async fn every_status_has_its_meaning() {
    let api = api().await;
    let dcs = member(&api, "pg-0", 2000).await;
    let first = acquired(&dcs, "pg-0").await;
    let answer = |code, retry_after_s| {
        let rule = Rule::new(Fault::Answer {
            code,
            retry_after_s,
        });
        rule.verbs(&[Verb::Patch]).resource("leases")
    };
    let write = renew("pg-0", 2, &first);
    for code in [403, 422, 429] {
        let rule = api.inject(answer(code, (code == 429).then_some(7)));
        let outcome = dcs.write_lock(&write, version(&first)).await;
        let Outcome::Refused {
            status,
            retry_after_ms,
            ..
        } = outcome
        else {
            panic!("{code}: {outcome:?}")
        };
        assert_eq!(
            (status, retry_after_ms),
            (code, (code == 429).then_some(7000))
        );
        api.clear(rule);
    }
    for code in [409, 410, 404] {
        let rule = api.inject(answer(code, None));
        assert_eq!(
            dcs.write_lock(&write, version(&first)).await,
            Outcome::Conflict,
            "{code}"
        );
        api.clear(rule);
    }
    let rule = api.inject(answer(500, None));
    let outcome = dcs
        .with_deadline(400)
        .write_lock(&write, version(&first))
        .await;
    assert!(matches!(outcome, Outcome::Unknown { .. }), "{outcome:?}");
    assert!(
        api.fired(rule) > 1,
        "a quick failure is tried again inside the deadline"
    );
    api.clear(rule);
    api.inject(answer(503, None).times(1));
    done(dcs.write_lock(&write, version(&first)).await);
}

#[tokio::test]
async fn a_deleted_object_is_a_conflict_then_absent_then_recreated() {
    let api = api().await;
    let dcs = member(&api, "pg-0", 5000).await;
    let first = acquired(&dcs, "pg-0").await;
    assert!(api.remove("leases", NAMESPACE, SCOPE));
    let write = renew("pg-0", 2, &first);
    assert_eq!(
        dcs.write_lock(&write, version(&first)).await,
        Outcome::Conflict
    );
    assert_eq!(dcs.read_lock().await.unwrap().state, LockState::Absent);
    let again = done(dcs.write_lock(&write, None).await);
    assert_eq!(again.epoch(), Some(1));
    assert_ne!(again.fields, first.fields, "another object");
    assert_eq!(
        dcs.write_lock(&write, None).await,
        Outcome::Conflict,
        "it exists"
    );
}

#[tokio::test]
async fn garbage_written_past_all_rules_is_read_as_garble() {
    let api = api().await;
    let dcs = member(&api, "pg-0", 5000).await;
    acquired(&dcs, "pg-0").await;
    for (field, garbage) in [
        ("holderIdentity", json!(7)),
        ("leaseDurationSeconds", json!("soon")),
        ("leaseTransitions", json!(-1)),
        ("acquireTime", json!([])),
    ] {
        let mut before = json!(null);
        api.edit("leases", NAMESPACE, SCOPE, |lease| {
            before = std::mem::replace(&mut lease["spec"][field], garbage);
        });
        let state = dcs.read_lock().await.unwrap().state;
        assert!(
            matches!(state, LockState::Garbled { .. }),
            "{field}: {state:?}"
        );
        api.edit("leases", NAMESPACE, SCOPE, |lease| {
            lease["spec"][field] = before;
        });
    }
    assert!(dcs.read_lock().await.unwrap().held().is_some());
}

#[tokio::test]
async fn a_cut_ends_by_the_own_deadline_and_one_hung_call_holds_up_no_other() {
    let api = api().await;
    create_pod(&api, "pg-0").await;
    let dcs = member(&api, "pg-0", 200).await;
    acquired(&dcs.with_deadline(5000), "pg-0").await;
    let cut = api.inject(Rule::new(Fault::Cut { reset: false }).client("pg-0"));
    let read = timeout(PATIENCE, dcs.read_lock())
        .await
        .expect("its own deadline");
    assert!(
        matches!(read, Err(DcsError::Unavailable { .. })),
        "{read:?}"
    );
    let write = timeout(PATIENCE, dcs.write_lock(&acquire("pg-0", 2, 2), Some("1"))).await;
    assert!(matches!(
        write.expect("its own deadline"),
        Outcome::Unknown { .. }
    ));
    api.clear(cut);

    let patient = dcs.with_deadline(20_000);
    patient.read_lock().await.expect("the way is open again");
    let slow = Rule::new(Fault::DelayAfter { ms: 15_000 })
        .verbs(&[Verb::Get])
        .resource("leases");
    let slow = api.inject(slow.times(1));
    let mut hung = tokio::spawn({
        let dcs = patient.clone();
        async move { dcs.read_lock().await }
    });
    while api.fired(slow) == 0 {
        tokio::task::yield_now().await;
    }
    tokio::select! {
        biased;
        _ = &mut hung => panic!("the slow answer overtook the quick one"),
        pod = patient.read_pod("pg-0") => assert_eq!(pod.expect("a quick answer").name, "pg-0"),
    }
    hung.abort();
}

#[tokio::test]
async fn nobody_there_is_unavailable_and_never_applied() {
    let api = api().await;
    let dcs = member(&api, "pg-0", 300).await;
    api.stop().await;
    assert!(matches!(
        dcs.read_lock().await,
        Err(DcsError::Unavailable { .. })
    ));
    let outcome = dcs.write_lock(&acquire("pg-0", 1, 1), None).await;
    assert!(matches!(outcome, Outcome::Unknown { .. }), "{outcome:?}");
}
