//! What a live Patroni 4.1.5 answered (PostgreSQL 15, three members), and views made from it.

use pgwarden::api::{ReplicationRow, View, Xlog};
use pgwarden::ha::model::{HistoryEntry, Identity, Lsn, Member};
use serde_json::Value;

/// The instant every test's clock shows.
pub(crate) const NOW_MS: u64 = 1_000_000;

/// That clock.
pub(crate) fn now() -> u64 {
    NOW_MS
}

/// One recorded value: a state of the cluster, and what was asked.
pub(crate) fn recorded(state: &str, key: &str) -> Value {
    let all: Value = serde_json::from_str(include_str!("patroni.json")).unwrap();
    all[state][key].clone()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn lsn(value: &Value) -> Option<Lsn> {
    value.as_u64().map(Lsn)
}

/// The view of the member that gave the recorded answers in that state.
pub(crate) fn view(state: &str, who: &str) -> View {
    let own = recorded(state, &format!("patroni {who}"));
    let cluster = recorded(state, "cluster");
    let identity = Identity {
        name: text(&own["patroni"]["name"]),
        pod_uid: "uid-1".to_owned(),
        incarnation: "inc-1".to_owned(),
    };
    let mut view = View::starting("bench", identity, "4.1.5", NOW_MS);
    view.state = text(&own["state"]);
    view.role = text(&own["role"]);
    view.server_version = own["server_version"].as_u64().map(|version| version as u32);
    view.postmaster_start_time = Some(text(&own["postmaster_start_time"]));
    view.timeline = own["timeline"].as_u64().map(|timeline| timeline as u32);
    view.replication_state = own["replication_state"].as_str().map(str::to_owned);
    view.system_id = Some(text(&own["database_system_identifier"]));
    view.dcs_last_seen = own["dcs_last_seen"].as_u64().unwrap();
    view.epoch = Some(7);
    view.ttl_ms = 30_000;
    let xlog = &own["xlog"];
    view.xlog = Some(match lsn(&xlog["location"]) {
        Some(location) => Xlog::Primary { location },
        None => Xlog::Replica {
            received: lsn(&xlog["received_location"]).unwrap(),
            replayed: lsn(&xlog["replayed_location"]).unwrap(),
            replayed_timestamp: xlog["replayed_timestamp"].as_str().map(str::to_owned),
            paused: xlog["paused"] == true,
            latest_end: None,
        },
    });
    for row in own["replication"].as_array().into_iter().flatten() {
        view.replication.push(ReplicationRow {
            usename: text(&row["usename"]),
            application_name: text(&row["application_name"]),
            client_addr: Some(text(&row["client_addr"])),
            state: text(&row["state"]),
            sync_state: text(&row["sync_state"]),
            sync_priority: row["sync_priority"].as_i64().unwrap() as i32,
        });
    }
    if who == "leader" {
        view.lock_until_ms = Some(NOW_MS + 20_000);
    }
    for row in cluster["members"].as_array().unwrap() {
        add_member(&mut view, row);
    }
    let own = view.members.get_mut(&view.identity.name);
    own.unwrap().pod_uid.clone_from(&view.identity.pod_uid);
    for line in recorded(state, "history").as_array().unwrap() {
        view.history.push(HistoryEntry {
            timeline: line[0].as_u64().unwrap() as u32,
            switch_lsn: lsn(&line[1]).unwrap(),
            reason: text(&line[2]),
            at: line[3].as_str().map(str::to_owned),
            new_leader: line[4].as_str().map(str::to_owned),
        });
    }
    view
}

/// A member of the recorded `/cluster`, as its Pod published it.
fn add_member(view: &mut View, row: &Value) {
    let name = text(&row["name"]);
    let position = |key: &str| row[key].as_str().and_then(|text| text.parse::<Lsn>().ok());
    let streaming = row["state"] == "streaming";
    match row["role"].as_str().unwrap() {
        "leader" => view.leader = Some(name.clone()),
        "sync_standby" => {
            view.sync_standbys.push(name.clone());
            view.synchronous_mode = true;
        }
        _ => {}
    }
    // All were at one position when it was recorded.
    view.optime = view.optime.max(position("lsn"));
    let member = Member {
        host: text(&row["host"]),
        port: row["port"].as_u64().unwrap() as u16,
        api_url: text(&row["api_url"]),
        state: if streaming {
            "running".to_owned()
        } else {
            text(&row["state"])
        },
        role: if row["role"] == "leader" {
            "primary".to_owned()
        } else {
            "replica".to_owned()
        },
        timeline: row["timeline"].as_u64().map(|timeline| timeline as u32),
        lsn: position("lsn"),
        receive_lsn: position("receive_lsn"),
        replay_lsn: position("replay_lsn"),
        replication_state: streaming.then(|| "streaming".to_owned()),
        ..Member::default()
    };
    view.members.insert(name, member);
}
