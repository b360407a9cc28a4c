//! A SQL session of the agent, and what its failures mean for the caller.
//!
//! Over the Unix socket to our own server, over TCP to the leader's. Every statement has the
//! caller's deadline; the session's own is the server's `statement_timeout`, so that a statement
//! given up here ends there too. `synchronous_commit=local`: nothing the agent does may wait for a
//! standby, the very thing it may be about to repair.

use super::{Credentials, Place, Postgres, Source};
use crate::ha::model::{BadLsn, Lsn};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls, Row};

/// Why a session or a statement failed, by what the caller may do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SqlError {
    /// Nobody listens there: no server runs, or not on this socket.
    #[error("nobody listens on {0}")]
    NotListening(String),
    /// The server is starting up, recovering or shutting down: ask again.
    #[error("the server does not accept connections yet: {0}")]
    StartingUp(String),
    /// The server lives and has no connection left.
    #[error("the server has no connection left: {0}")]
    TooManyClients(String),
    /// No answer within the deadline.
    #[error("no answer within {0} ms")]
    Timeout(u128),
    /// The login was refused: a person must look at `pg_hba` or the password.
    #[error("the login was refused: {0}")]
    AuthFailed(String),
    /// The connection broke: the outcome of the statement is unknown.
    #[error("the connection was lost: {0}")]
    Lost(String),
    /// The connection asks for what this build cannot do.
    #[error(
        "postgresql.authentication: sslmode {0} is not possible for the agent's own sessions \
             to other members; expected disable, allow or prefer"
    )]
    Unsupported(String),
    /// Any other error answer of the server.
    #[error("{message} (SQLSTATE {sqlstate})")]
    Other {
        /// Its code.
        sqlstate: String,
        /// Its message.
        message: String,
    },
    /// An answer of a form we do not understand.
    #[error("the server's answer is not understood: {0}")]
    Garbled(String),
}

impl SqlError {
    /// The server answered, be it with an error: it is not hung.
    pub fn answered(&self) -> bool {
        matches!(
            self,
            Self::StartingUp(_)
                | Self::TooManyClients(_)
                | Self::AuthFailed(_)
                | Self::Other { .. }
        )
    }

    fn classify(error: &tokio_postgres::Error, place: &str) -> Self {
        if let Some(db) = error.as_db_error() {
            let message = db.message().to_owned();
            return match db.code() {
                &SqlState::CANNOT_CONNECT_NOW => Self::StartingUp(message),
                &SqlState::TOO_MANY_CONNECTIONS => Self::TooManyClients(message),
                code if code.code().starts_with("28") => Self::AuthFailed(message),
                // The postmaster takes its backends along, or was told to.
                code if code.code().starts_with("57P") => Self::Lost(message),
                code => Self::Other {
                    sqlstate: code.code().to_owned(),
                    message,
                },
            };
        }
        let cause = std::error::Error::source(error);
        if let Some(io) = cause.and_then(|cause| cause.downcast_ref::<std::io::Error>()) {
            use std::io::ErrorKind::{ConnectionRefused, NotFound};
            return match io.kind() {
                ConnectionRefused | NotFound => Self::NotListening(place.to_owned()),
                _ => Self::Lost(io.to_string()),
            };
        }
        let text = cause.map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"));
        if text.contains("authentication") || text.contains("password") {
            return Self::AuthFailed(text);
        }
        if error.is_closed() {
            Self::Lost(text)
        } else {
            Self::Garbled(text)
        }
    }
}

/// A connected session; its connection ends with it.
pub struct Session {
    client: Client,
    place: String,
    // Drives the connection; aborted when dropped, so that nothing outlives the session.
    _driver: JoinSet<()>,
}

impl Session {
    /// Connects to our own server over its Unix socket as the superuser.
    pub async fn local(pg: &Postgres, deadline: Duration) -> Result<Self, SqlError> {
        // A verifier given to a role must not stand in the server's log.
        let quiet = "-c log_statement=none -c log_min_duration_statement=-1 \
                     -c log_min_error_statement=panic";
        let mut config = options(&pg.superuser, &pg.database, deadline, quiet);
        let Place { dir, port } = pg.place();
        config.host_path(&dir).port(port);
        let place = format!("{}/.s.PGSQL.{port}", dir.display());
        Self::connect(config, place, deadline).await
    }

    /// Connects to another member over TCP.
    pub async fn remote(
        source: &Source,
        user: &Credentials,
        database: &str,
        deadline: Duration,
    ) -> Result<Self, SqlError> {
        if let Some(mode) = user.conninfo.get("sslmode")
            && !matches!(mode.as_str(), "disable" | "allow" | "prefer")
        {
            return Err(SqlError::Unsupported(mode.clone()));
        }
        let mut config = options(user, database, deadline, "");
        config.host(&source.host).port(source.port);
        Self::connect(config, format!("{}:{}", source.host, source.port), deadline).await
    }

    async fn connect(config: Config, place: String, deadline: Duration) -> Result<Self, SqlError> {
        let connected = tokio::time::timeout(deadline, config.connect(NoTls)).await;
        let (client, connection) = connected
            .map_err(|_| SqlError::Timeout(deadline.as_millis()))?
            .map_err(|error| SqlError::classify(&error, &place))?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            // Its error reaches whoever waits for an answer.
            drop(connection.await);
        });
        Ok(Self {
            client,
            place,
            _driver: driver,
        })
    }

    /// Asks one statement without parameters; one round trip.
    pub async fn query(&self, sql: &str, deadline: Duration) -> Result<Vec<Row>, SqlError> {
        let asked = tokio::time::timeout(deadline, self.client.query_typed(sql, &[])).await;
        asked
            .map_err(|_| SqlError::Timeout(deadline.as_millis()))?
            .map_err(|error| SqlError::classify(&error, &self.place))
    }

    /// Asks for one value; an answer without a row is not understood.
    pub async fn value<T>(&self, sql: &str, deadline: Duration) -> Result<T, SqlError>
    where
        T: for<'a> tokio_postgres::types::FromSql<'a>,
    {
        let rows = self.query(sql, deadline).await?;
        let row = rows
            .first()
            .ok_or_else(|| SqlError::Garbled(format!("no row for {sql}")))?;
        row.try_get(0)
            .map_err(|error| SqlError::Garbled(error.to_string()))
    }

    /// Asks for one position in the WAL, given as text.
    pub async fn lsn(&self, sql: &str, deadline: Duration) -> Result<Lsn, SqlError> {
        let text: String = self.value(sql, deadline).await?;
        parse_lsn(&text)
    }

    /// Runs statements that answer nothing.
    pub async fn execute(&self, sql: &str, deadline: Duration) -> Result<(), SqlError> {
        let ran = tokio::time::timeout(deadline, self.client.batch_execute(sql)).await;
        ran.map_err(|_| SqlError::Timeout(deadline.as_millis()))?
            .map_err(|error| SqlError::classify(&error, &self.place))
    }

    /// Gives later statements another limit than the deadline the session was connected with.
    pub async fn limit(&self, statement: Duration, deadline: Duration) -> Result<(), SqlError> {
        let limit_ms = statement.as_millis().clamp(1, i32::MAX as u128);
        self.execute(&format!("SET statement_timeout = {limit_ms}"), deadline)
            .await
    }

    /// The connection is gone.
    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }
}

fn options(user: &Credentials, database: &str, deadline: Duration, more: &str) -> Config {
    let mut config = Config::new();
    config
        .user(&user.username)
        .dbname(database)
        .application_name("pgwarden")
        .connect_timeout(deadline)
        .options(format!(
            "-c search_path=pg_catalog -c synchronous_commit=local -c statement_timeout={} \
             -c lock_timeout=0 -c idle_in_transaction_session_timeout=0 \
             -c default_transaction_read_only=off -c standard_conforming_strings=on \
             -c DateStyle=ISO {more}",
            deadline.as_millis().clamp(1, i32::MAX as u128)
        ));
    if let Some(password) = &user.password {
        config.password(password);
    }
    config
}

/// A position as PostgreSQL writes it.
pub(super) fn parse_lsn(text: &str) -> Result<Lsn, SqlError> {
    text.parse()
        .map_err(|error: BadLsn| SqlError::Garbled(error.to_string()))
}
