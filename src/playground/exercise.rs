//! The exercise: one accident after another under the eyes of writers, each with its verdict.

use super::accident::Accident;
use super::cluster::Cluster;
use super::consumer::{self, Consumer};
use super::heal::{self, Whole};
use super::ledger::{Ledger, Us};
use super::member::Member;
use super::report::{self, Row};
use super::sql::Connection;
use super::{Plan, journal, oracle, say, writer};
use crate::cli::exit::Exit;
use crate::sys::clock::boottime_us;
use anyhow::Context;
use jiff::Timestamp;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// How long the cluster may take to begin, and to be whole again after an accident.
const BEGUN_WITHIN: Duration = Duration::from_mins(3);
const WHOLE_WITHIN: Duration = Duration::from_mins(2);
const WRITTEN_WITHIN: Duration = Duration::from_secs(30);
/// How long reading all rows may take.
const READ_WITHIN: Duration = Duration::from_mins(1);
/// How long the members may take until all have a logical slot: they restart one after the other.
const SLOTS_WITHIN: Duration = Duration::from_mins(4);
/// Statements that may be on their way when the last id is read.
const IN_FLIGHT: i64 = 64;

/// Runs every accident as often as asked for.
pub(super) async fn run(plan: &Plan, cluster: &Cluster) -> anyhow::Result<Exit> {
    say(&banner(plan, cluster))?;
    let mut exercise = Exercise {
        cluster,
        ledger: Arc::new(Ledger::default()),
        members: cluster.members().cloned().collect(),
        checked_to: 0,
        lost: BTreeSet::new(),
        consumer: None,
    };
    let whole = heal::until_whole(cluster, BEGUN_WITHIN).await;
    let begun = match whole {
        Ok(whole) => exercise
            .create_table(whole)
            .await
            .map_err(|error| format!("{error:#}")),
        Err(why) => Err(why),
    };
    if let Err(why) = begun {
        report::evidence(cluster).await?;
        say(&format!(
            "the cluster did not begin: {why}\n0 passed, 1 failed"
        ))?;
        return Ok(Exit::ExerciseFailed);
    }
    // Both end with the exercise.
    exercise.consumer = plan.consumer.then(|| Consumer::start(&exercise.members));
    let _writers = writer::start(&exercise.members, &exercise.ledger);
    let rows = exercise.all(plan).await?;
    let at_last = exercise.at_last().await;
    say(&report::table(&rows))?;
    let wanted = plan.accidents.len() * plan.rounds as usize;
    let mut failed = rows.iter().filter(|row| !row.passed()).count() + (wanted - rows.len());
    match &at_last {
        Ok(text) => say(text)?,
        Err(why) => {
            failed += 1;
            say(&format!("at the end: {why}"))?;
        }
    }
    if failed > 0 {
        report::evidence(cluster).await?;
    }
    let passed = rows.iter().filter(|row| row.passed()).count();
    say(&format!("{passed} passed, {failed} failed"))?;
    Ok(if failed == 0 {
        Exit::Ok
    } else {
        Exit::ExerciseFailed
    })
}

fn banner(plan: &Plan, cluster: &Cluster) -> String {
    format!(
        "{} members of PostgreSQL {}, lease TTL {} s, synchronous replication {}, {} API{}\n\
         {} accidents, {} rounds each; {} writers on every member",
        plan.members,
        cluster.installation.text,
        plan.ttl_s,
        plan.sync.word(),
        if plan.kubeconfig.is_some() {
            "a real"
        } else {
            "the embedded"
        },
        if plan.terminated {
            ""
        } else {
            ", the kubelet never reports an end"
        },
        plan.accidents.len(),
        plan.rounds,
        writer::SESSIONS,
    )
}

struct Exercise<'a> {
    cluster: &'a Cluster,
    ledger: Arc<Ledger>,
    members: Vec<Arc<Member>>,
    /// Rows up to this id have been looked for.
    checked_to: i64,
    /// Acknowledged rows that are known to be gone.
    lost: BTreeSet<i64>,
    consumer: Option<Consumer>,
}

impl Exercise<'_> {
    async fn create_table(&self, whole: Whole) -> anyhow::Result<()> {
        let member = &self.members[whole.primary];
        let connection = Connection::within(READ_WITHIN, member, "exercise").await?;
        timeout(READ_WITHIN, connection.client.batch_execute(writer::CREATE))
            .await?
            .context("create the table")
    }

    /// Every accident; ends early where the cluster does not heal.
    async fn all(&mut self, plan: &Plan) -> anyhow::Result<Vec<Row>> {
        let mut rows = Vec::new();
        for accident in &plan.accidents {
            for round in 1..=plan.rounds {
                let row = self.one(*accident, round).await;
                say(&row.line())?;
                let whole = row.whole;
                rows.push(row);
                if !whole {
                    return Ok(rows);
                }
            }
        }
        Ok(rows)
    }

    async fn one(&mut self, accident: Accident, round: u32) -> Row {
        let mut row = Row::new(accident.name(), round, self.cluster.ttl_s);
        let before = match self.ready().await {
            Ok(before) => before,
            Err(why) => return row.broken(why),
        };
        let (began_us, began) = (boottime_us(), Timestamp::now());
        let first_id = self.ledger.last_id() + 1;
        let happened = accident.happen(self.cluster, before, round).await;
        let after = match self.healed(boottime_us()).await {
            Ok(after) => after,
            Err(why) => {
                self.judge(&mut row, began_us, first_id);
                return row.broken(why);
            }
        };
        row.whole = true;
        self.judge(&mut row, began_us, first_id);
        let leader = &self.members[after.primary];
        row.proof = journal::proof(self.cluster, leader, began).await;
        row.became = format!("{} → {}", self.members[before.primary].name, leader.name);
        match self.look_for_rows(after.primary).await {
            Ok(missing) => row.missing = missing,
            Err(error) => row.trouble.push(format!("{error:#}")),
        }
        row.may_miss =
            !self.cluster.sync.waits() && accident.may_lose() && after.timeline > before.timeline;
        if let Err(error) = happened {
            row.trouble.push(format!("{error:#}"));
        }
        row
    }

    /// Whole, writing, and its lock complete.
    async fn ready(&self) -> Result<Whole, String> {
        let whole = self.healed(boottime_us()).await?;
        heal::until_recorded(self.cluster, whole.primary).await;
        if self.consumer.is_none() {
            return Ok(whole);
        }
        consumer::until_everywhere(&self.members, SLOTS_WITHIN).await?;
        // Who did not have it was restarted for it.
        self.healed(boottime_us()).await
    }

    /// Whole, and the primary has acknowledged something since.
    async fn healed(&self, since_us: Us) -> Result<Whole, String> {
        let whole = heal::until_whole(self.cluster, WHOLE_WITHIN).await?;
        heal::until_written(&self.ledger, whole.primary, since_us, WRITTEN_WITHIN).await?;
        Ok(whole)
    }

    fn judge(&self, row: &mut Row, began_us: Us, first_id: i64) {
        let attempts = self.ledger.attempts();
        row.gap_us = oracle::write_gap_us(&attempts, began_us, boottime_us());
        row.two_writers = oracle::two_writers(&attempts, began_us);
        let acked = attempts.iter().filter(|attempt| attempt.id >= first_id);
        row.acked = acked.filter(|attempt| attempt.acked().is_some()).count();
    }

    /// How many acknowledged rows are newly missing on the primary.
    async fn look_for_rows(&mut self, primary: usize) -> anyhow::Result<usize> {
        let from = self.checked_to;
        let to = self.ledger.last_id();
        // The ledger first: what is acknowledged by now must be there when the rows are read.
        let attempts = self.ledger.attempts();
        let found = rows_from(&self.members[primary], from).await?;
        let missing = oracle::missing(&attempts, from, &found);
        let new = missing.difference(&self.lost).count();
        self.lost.extend(missing);
        self.checked_to = (to - IN_FLIGHT).max(0);
        Ok(new)
    }

    /// Everything once more: no row that was there may have gone since.
    async fn at_last(&mut self) -> Result<String, String> {
        let whole = self.healed(boottime_us()).await?;
        self.checked_to = 0;
        let late = self
            .look_for_rows(whole.primary)
            .await
            .map_err(|error| format!("{error:#}"))?;
        let attempts = self.ledger.attempts();
        let two = oracle::two_writers(&attempts, 0);
        let acked = attempts
            .iter()
            .filter(|attempt| attempt.acked().is_some())
            .count();
        let lost = self.lost.len();
        if late > 0 {
            return Err(format!(
                "{late} acknowledged rows are missing that had been there"
            ));
        }
        let consumed = self.consumed(whole.primary).await?;
        let text = format!(
            "at the end: whole on timeline {}; {acked} rows acknowledged, {lost} of them missing, \
             two writers: {}{consumed}",
            whole.timeline,
            if two.is_empty() { "never" } else { "yes" },
        );
        Ok(text)
    }

    /// Every row that is there has been seen by the consumer, if there is one.
    async fn consumed(&self, primary: usize) -> Result<String, String> {
        let Some(consumer) = &self.consumer else {
            return Ok(String::new());
        };
        let rows = rows_from(&self.members[primary], 0).await;
        let rows = rows.map_err(|error| format!("{error:#}"))?;
        let seen = consumer.until_seen(&rows, READ_WITHIN).await?;
        Ok(format!("; the consumer saw all {seen} rows"))
    }
}

async fn rows_from(member: &Member, from: i64) -> anyhow::Result<BTreeSet<i64>> {
    let connection = Connection::within(READ_WITHIN, member, "exercise").await?;
    let query = "SELECT id FROM public.exercise WHERE id >= $1";
    let rows = timeout(READ_WITHIN, connection.client.query(query, &[&from])).await?;
    Ok(rows
        .context("read the rows")?
        .iter()
        .map(|row| row.get(0))
        .collect())
}
