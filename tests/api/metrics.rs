//! /metrics beside what a live Patroni exposed of the same members.

use crate::harness::start;
use crate::recorded::{NOW_MS, view};
use pgwarden::api::{Limits, View};
use serde_json::Value;
use std::collections::BTreeMap;

/// Name → type and value; fails on a line that no scraper understands.
fn scraped(page: &str, labels: &str) -> BTreeMap<String, (String, String)> {
    let mut types = BTreeMap::new();
    let mut found = BTreeMap::new();
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(
                types.insert(name.to_owned(), kind.to_owned()).is_none(),
                "{line}"
            );
        } else if !line.starts_with('#') {
            let (name, rest) = line.split_once('{').unwrap();
            let value = rest.strip_prefix(labels).expect("the two labels");
            let kind = types.get(name).expect("its type stands above it");
            assert!(value.trim().parse::<f64>().is_ok(), "{line}");
            let known = found.insert(name.to_owned(), (kind.clone(), value.trim().to_owned()));
            assert!(known.is_none(), "{line}");
        }
    }
    found
}

async fn page(view: View) -> String {
    let server = start(view, Limits::default(), None).await;
    let answer = server.ask("GET", "/metrics").await;
    assert_eq!(answer.status, 200);
    assert!(
        answer.head.contains("content-type: text/plain"),
        "{}",
        answer.head
    );
    server.stop().await;
    answer.body
}

#[tokio::test]
async fn every_metric_of_patroni_is_there_with_its_type_and_value() {
    let recorded: Value = serde_json::from_str(include_str!("../recorded/metrics.json")).unwrap();
    for (who, name) in [("leader", "pg-2"), ("replica", "pg-0")] {
        let text = page(view("running", who)).await;
        let ours = scraped(&text, &format!("scope=\"bench\",name=\"{name}\"}}"));
        for (metric, known) in recorded[who].as_object().unwrap() {
            let (kind, value) = ours
                .get(metric)
                .unwrap_or_else(|| panic!("{metric} is missing"));
            assert_eq!(kind, known[0].as_str().unwrap(), "{metric}");
            // What moves between two questions, or names the version that was recorded.
            if matches!(metric.as_str(), "patroni_dcs_last_seen" | "patroni_version") {
                continue;
            }
            let number = |text: &str| text.parse::<f64>().unwrap();
            let (is, was) = (number(value), number(known[1].as_str().unwrap()));
            assert!(
                (is - was).abs() < 1e-3,
                "{who} {metric}: {is}, recorded {was}"
            );
        }
        assert_eq!(ours["pgwarden_lock_epoch"].1, "7");
    }
}

#[tokio::test]
async fn a_member_that_knows_nothing_yet_has_a_page() {
    let mut view = view("running", "replica");
    view.state = "doing something new".into();
    (view.xlog, view.timeline, view.server_version) = (None, None, None);
    view.postmaster_start_time = Some("some time".into());
    view.lock_until_ms = Some(NOW_MS - 1);
    let text = page(view).await;
    let found = scraped(&text, "scope=\"bench\",name=\"pg-0\"}");
    assert_eq!(found["patroni_postgres_state"].1, "-1");
    assert_eq!(found["patroni_postmaster_start_time"].1, "0");
    assert_eq!(found["pgwarden_lock_left_seconds"].1, "0");
    assert!(
        !found.contains_key("patroni_postgres_streaming"),
        "as in Patroni"
    );
}
