//! Commands of the user's: callbacks, hooks, methods of bootstrap and of cloning.

use serde::{Serialize, Serializer};
use std::collections::BTreeMap;

/// A command, split into its words as a shell would, without a shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    text: String,
    words: Vec<String>,
}

impl Command {
    /// The words of a text; an error, in words, where they cannot be told.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let words = shlex::split(text).ok_or("a quote or a backslash in it has no end")?;
        if words.first().is_none_or(String::is_empty) {
            return Err("it has no words");
        }
        let text = text.to_owned();
        Ok(Self { text, words })
    }

    /// A program without arguments.
    pub fn program(name: &str) -> Self {
        let (text, words) = (name.to_owned(), vec![name.to_owned()]);
        Self { text, words }
    }

    /// Its words, at least one.
    pub fn words(&self) -> &[String] {
        &self.words
    }
}

impl Serialize for Command {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

/// `postgresql.callbacks`, `pre_promote` and `before_stop`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Hooks {
    /// By Patroni's word: `on_start`, …
    pub callbacks: BTreeMap<String, Command>,
    /// Asked before a promotion.
    pub pre_promote: Option<Command>,
    /// Run before a stop in order.
    pub before_stop: Option<Command>,
}

/// A method that makes a data directory: `postgresql.<method>` or `bootstrap.<method>`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Method {
    /// Its name in the list of methods.
    pub name: String,
    /// What is run; without the key `command` a program of the method's name.
    pub command: Command,
    /// It gets no arguments and fills `data_dir`, which it knows by itself.
    pub no_params: bool,
    /// It needs no leader.
    pub no_leader: bool,
    /// It begins with the data that are there.
    pub keep_data: bool,
    /// Its other keys, as `--key=value`.
    pub arguments: Vec<String>,
}

/// One of `postgresql.create_replica_methods`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ReplicaMethod {
    /// `pg_basebackup` from the leader.
    Basebackup,
    /// A command of the user's.
    Own(Method),
}

/// `bootstrap.method`, where it is not `initdb`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CustomBootstrap {
    /// What is run.
    pub method: Method,
    /// The recovery that the command has configured itself is kept.
    pub keep_existing_recovery_conf: bool,
    /// Settings of a recovery that ends with a promotion; `None`: what it makes is started as it
    /// is.
    pub recovery_conf: Option<BTreeMap<String, String>>,
}
