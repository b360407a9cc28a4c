//! Writers: every member has its own, which knows its address and never asks the route.

use super::ledger::{Attempt, Ledger, Outcome};
use super::member::Member;
use super::sql::{Connection, refused};
use crate::sys::clock::boottime_us;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_postgres::Statement;
use tokio_postgres::types::Type;

/// Sessions per member: one waits for a standby, another shows that the server still answers.
pub(super) const SESSIONS: usize = 2;
/// Statements without an answer for so long are given up; what became of them is unknown.
const STATEMENT: Duration = Duration::from_secs(2);
/// Between two statements: dense enough for the gap, and the machine has other work.
const PACE: Duration = Duration::from_millis(2);
/// Between two looks whether the member takes writes now.
const RETRY: Duration = Duration::from_millis(10);

/// Where the rows go.
pub(super) const CREATE: &str = "CREATE TABLE IF NOT EXISTS public.exercise \
    (id bigint PRIMARY KEY, member int NOT NULL, timeline int NOT NULL)";

/// The timeline is the server's own word at the moment of the write.
const INSERT: &str = "INSERT INTO public.exercise (id, member, timeline) VALUES ($1, $2, \
    ('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))::bit(32)::int) \
    RETURNING timeline";

/// The writers of all members; dropping it ends them.
pub(super) fn start(members: &[Arc<Member>], ledger: &Arc<Ledger>) -> JoinSet<()> {
    let mut writers = JoinSet::new();
    for member in members {
        for _ in 0..SESSIONS {
            let session = Session {
                member: Arc::clone(member),
                ledger: Arc::clone(ledger),
            };
            writers.spawn(session.run());
        }
    }
    writers
}

struct Session {
    member: Arc<Member>,
    ledger: Arc<Ledger>,
}

/// Why a session stopped writing.
enum Stopped {
    /// The member is a replica.
    ReadOnly,
    /// The connection is of no use any more.
    Lost,
}

impl Session {
    async fn run(self) {
        loop {
            if let Some(connection) = Connection::open(&self.member, "exercise writer").await {
                self.use_up(&connection).await;
            }
            sleep(RETRY).await;
        }
    }

    /// Writes as long as the connection lasts.
    async fn use_up(&self, connection: &Connection) {
        let types = [Type::INT8, Type::INT4];
        let mut insert = None;
        loop {
            let Some(row) = connection.row("SELECT pg_is_in_recovery()").await else {
                return;
            };
            if row.get(0) {
                sleep(RETRY).await;
                continue;
            }
            if insert.is_none() {
                let prepared = connection.client.prepare_typed(INSERT, &types);
                match timeout(STATEMENT, prepared).await {
                    Ok(Ok(statement)) => insert = Some(statement),
                    // The table is not there yet.
                    Ok(Err(error)) if refused(&error) => {
                        sleep(RETRY).await;
                        continue;
                    }
                    _ => return,
                }
            }
            let Some(insert) = &insert else { return };
            match self.write(connection, insert).await {
                Stopped::ReadOnly => {}
                Stopped::Lost => return,
            }
        }
    }

    async fn write(&self, connection: &Connection, insert: &Statement) -> Stopped {
        let member = self.member.number;
        let member_number = i32::try_from(member).unwrap_or(i32::MAX);
        loop {
            let id = self.ledger.take_id();
            let sent_us = boottime_us();
            let answer = timeout(
                STATEMENT,
                connection.client.query_one(insert, &[&id, &member_number]),
            )
            .await;
            let at_us = boottime_us();
            let enter = |outcome| {
                self.ledger.enter(Attempt {
                    id,
                    member,
                    sent_us,
                    outcome,
                });
            };
            match answer {
                Ok(Ok(row)) => {
                    let timeline = row.get::<_, i32>(0).cast_unsigned();
                    enter(Outcome::Acked { at_us, timeline });
                }
                Ok(Err(error)) if refused(&error) => {
                    enter(Outcome::Refused);
                    return Stopped::ReadOnly;
                }
                _ => {
                    enter(Outcome::Unknown);
                    return Stopped::Lost;
                }
            }
            sleep(PACE).await;
        }
    }
}
