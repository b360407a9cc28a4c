//! A client's connection to one member, as an application would have it: TCP and a password.

use super::member::{Member, SUPERUSER};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_postgres::{Client, Config, Error, NoTls, Row};

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(1);
/// How long a check may take.
const CHECK: Duration = Duration::from_secs(2);

/// Between two tries.
const PAUSE: Duration = Duration::from_millis(100);

/// A connection; dropping it closes it. Nothing is ever cancelled: a cancelled wait for a standby
/// would be answered as a success.
pub(super) struct Connection {
    /// To ask with.
    pub(super) client: Client,
    _driver: JoinSet<()>,
}

impl Connection {
    /// Connects; `None` if that is not possible now.
    pub(super) async fn open(member: &Member, purpose: &str) -> Option<Self> {
        let mut config = Config::new();
        config
            .host(member.ip.to_string())
            .port(member.pg_port)
            .user(SUPERUSER)
            .password(&member.password)
            .dbname("postgres")
            .application_name(purpose)
            .connect_timeout(CONNECT);
        let (client, connection) = timeout(CONNECT, config.connect(NoTls)).await.ok()?.ok()?;
        let mut driver = JoinSet::new();
        driver.spawn(async move { drop(connection.await) });
        Some(Self {
            client,
            _driver: driver,
        })
    }

    /// Connects as soon as that is possible: a busy machine may need more than one try.
    pub(super) async fn within(
        limit: Duration,
        member: &Member,
        purpose: &str,
    ) -> anyhow::Result<Self> {
        let opened = async {
            loop {
                if let Some(connection) = Self::open(member, purpose).await {
                    return connection;
                }
                sleep(PAUSE).await;
            }
        };
        let opened = timeout(limit, opened).await;
        opened.map_err(|_| anyhow::anyhow!("{} does not answer", member.name))
    }

    /// Asks within the deadline of checks.
    pub(super) async fn rows(&self, query: &str) -> Option<Vec<Row>> {
        timeout(CHECK, self.client.query(query, &[]))
            .await
            .ok()?
            .ok()
    }

    /// One row within the deadline of checks.
    pub(super) async fn row(&self, query: &str) -> Option<Row> {
        self.rows(query).await?.into_iter().next()
    }
}

/// Whether the server itself refused the statement, so that it is surely not committed.
pub(super) fn refused(error: &Error) -> bool {
    // Class 57P: the server ends the session, and a commit that waits for its standby is kept.
    error
        .as_db_error()
        .is_some_and(|db| !db.code().code().starts_with("57P"))
}
