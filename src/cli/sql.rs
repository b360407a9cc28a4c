//! One connection, one text of SQL, all of its rows: for a verb that ends after it.

use std::time::Duration;
use tokio::time::timeout;
use tokio_postgres::{Config, NoTls, SimpleQueryMessage};

/// How long a connection may take.
pub(crate) const CONNECT: Duration = Duration::from_secs(10);

/// The rows of one statement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// The names of the columns.
    pub(crate) heads: Vec<String>,
    /// The cells as text; `None`: null.
    pub(crate) rows: Vec<Vec<Option<String>>>,
}

/// Why there are no rows.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Nobody answered.
    #[error("PostgreSQL did not answer in {} s", CONNECT.as_secs())]
    Deadline,
    /// The connection failed or the server refused, in its words.
    #[error("{0}")]
    Refused(String),
}

/// What each statement gives that gives rows.
pub(crate) async fn ask(config: &Config, sql: &str) -> Result<Vec<Found>, Error> {
    let (client, connection) = timeout(CONNECT, config.connect(NoTls))
        .await
        .map_err(|_| Error::Deadline)?
        .map_err(|error| refused(&error))?;
    // The connection moves only while it is polled: both are driven here, no task is left.
    let mut asking = std::pin::pin!(client.simple_query(sql));
    let answer = tokio::select! {
        biased;
        answer = &mut asking => answer,
        _ = connection => asking.await,
    };
    Ok(collect(&answer.map_err(|error| refused(&error))?))
}

/// The server's words are in the cause.
fn refused(error: &tokio_postgres::Error) -> Error {
    let cause = std::error::Error::source(error).map(ToString::to_string);
    let words = error.to_string();
    Error::Refused(match cause {
        Some(cause) if !words.contains(&cause) => format!("{words}: {cause}"),
        _ => words,
    })
}

fn collect(messages: &[SimpleQueryMessage]) -> Vec<Found> {
    let mut all: Vec<Found> = Vec::new();
    for message in messages {
        match message {
            SimpleQueryMessage::RowDescription(columns) => all.push(Found {
                heads: columns.iter().map(|c| c.name().to_owned()).collect(),
                rows: Vec::new(),
            }),
            SimpleQueryMessage::Row(row) => {
                let cells = (0..row.len()).map(|at| row.get(at).map(str::to_owned));
                if let Some(found) = all.last_mut() {
                    found.rows.push(cells.collect());
                }
            }
            _ => {}
        }
    }
    all
}
