//! The settings in force: read by everybody, replaced as a whole when the file is read again.

use super::types::{Postgresql, Settings};
use std::sync::{Arc, PoisonError, RwLock};

/// A shared way to the settings in force.
#[derive(Clone, Debug)]
pub struct Live(Arc<RwLock<Arc<Settings>>>);

impl Live {
    /// These are in force.
    pub fn new(settings: Settings) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(settings))))
    }

    /// The settings in force now.
    pub fn get(&self) -> Arc<Settings> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// From now on these are.
    pub fn replace(&self, settings: Settings) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
    }
}

/// What of a file that was read again can be put in force while a member runs under `old`; beside
/// it, the keys that changed and wait for the next start of the agent.
///
/// Who a member is, where its data are and where it listens are known to others by now: the
/// guardian, the lock, the running server.
pub fn while_running(old: &Settings, mut new: Settings) -> (Settings, Vec<&'static str>) {
    let mut waiting = Vec::new();
    keep("scope", &old.scope, &mut new.scope, &mut waiting);
    keep("name", &old.name, &mut new.name, &mut waiting);
    keep(
        "kubernetes",
        &old.kubernetes,
        &mut new.kubernetes,
        &mut waiting,
    );
    let (was, is) = (&old.restapi, &mut new.restapi);
    keep("restapi.listen", &was.listen, &mut is.listen, &mut waiting);
    let (was, is) = (&old.postgresql, &mut new.postgresql);
    keep(
        "postgresql.data_dir",
        &was.data_dir,
        &mut is.data_dir,
        &mut waiting,
    );
    keep(
        "postgresql.bin_dir",
        &was.bin_dir,
        &mut is.bin_dir,
        &mut waiting,
    );
    keep(
        "postgresql.bin_name",
        &was.bin_name,
        &mut is.bin_name,
        &mut waiting,
    );
    let addresses = &mut is.listen_addresses;
    keep(
        "postgresql.listen",
        &was.listen_addresses,
        addresses,
        &mut waiting,
    );
    keep("postgresql.listen", &was.port, &mut is.port, &mut waiting);
    keep_repair(was, is, &mut waiting);
    let user = &mut is.authentication.superuser.username;
    keep(
        "postgresql.authentication.superuser.username",
        &was.authentication.superuser.username,
        user,
        &mut waiting,
    );
    keep(
        "log.type",
        &old.log.format,
        &mut new.log.format,
        &mut waiting,
    );
    keep("pgwarden", &old.pgwarden, &mut new.pgwarden, &mut waiting);
    waiting.dedup();
    (new, waiting)
}

fn keep<T: Clone + PartialEq>(
    key: &'static str,
    old: &T,
    new: &mut T,
    waiting: &mut Vec<&'static str>,
) {
    if old != new {
        new.clone_from(old);
        waiting.push(key);
    }
}

/// Read with the stored document, whenever that changes: not in the middle of a repair.
fn keep_repair(was: &Postgresql, is: &mut Postgresql, waiting: &mut Vec<&'static str>) {
    keep(
        "postgresql.use_pg_rewind",
        &was.use_pg_rewind,
        &mut is.use_pg_rewind,
        waiting,
    );
    keep(
        "postgresql.remove_data_directory_on_rewind_failure",
        &was.remove_data_directory_on_rewind_failure,
        &mut is.remove_data_directory_on_rewind_failure,
        waiting,
    );
    keep(
        "postgresql.remove_data_directory_on_diverged_timelines",
        &was.remove_data_directory_on_diverged_timelines,
        &mut is.remove_data_directory_on_diverged_timelines,
        waiting,
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(more: &str) -> Settings {
        let text = format!(
            "scope: main\nname: main-0\nkubernetes:\n  labels: {{app: pg}}\n  pod_ip: 127.0.0.1\n\
             restapi: {{listen: '127.0.0.1:8008', connect_address: '127.0.0.1:8008'}}\n\
             postgresql:\n  data_dir: /data/pg\n  listen: '127.0.0.1:5432'\n  \
             connect_address: '127.0.0.1:5432'\n  authentication:\n    \
             superuser: {{username: postgres, password: a}}\n    \
             replication: {{username: replicator, password: b}}\n{more}"
        );
        let loaded = crate::settings::from_text("test.yml", &text, &|_| None);
        loaded
            .settings
            .unwrap_or_else(|| unreachable!("the test's settings are good: {:?}", loaded.problems))
    }

    #[test]
    fn what_others_know_of_a_member_waits_for_its_next_start() {
        let old = settings("");
        let (next, waiting) = while_running(&old, old.clone());
        assert_eq!((&next, waiting), (&old, vec![]));
        let mut new = old.clone();
        new.name = "main-9".into();
        new.postgresql.port = 5433;
        new.postgresql.data_dir = "/elsewhere".into();
        new.restapi.listen.port = 9;
        new.tags.insert("nofailover".into(), "true".into());
        new.postgresql
            .parameters
            .insert("work_mem".into(), "8MB".into());
        let (next, waiting) = while_running(&old, new);
        assert_eq!(
            waiting,
            [
                "name",
                "restapi.listen",
                "postgresql.data_dir",
                "postgresql.listen"
            ]
        );
        assert_eq!((next.name.as_str(), next.postgresql.port), ("main-0", 5432));
        assert_eq!(next.tags["nofailover"], "true");
        assert_eq!(next.postgresql.parameters["work_mem"], "8MB");
        assert_eq!(
            next.postgresql.parameters.len(),
            old.postgresql.parameters.len() + 1
        );
    }
}
