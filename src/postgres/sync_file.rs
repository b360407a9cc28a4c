//! The file with `synchronous_standby_names`: apart from the others, because it changes while commits
//! run, and at moments when nothing else may change with it.

use super::config::{ConfigError, HEADER, SYNC, put};
use super::quote;
use crate::ha::quorum::SyncSetting;
use std::path::Path;

/// Makes commits wait for these standbys. It takes effect at the next reload, and is *enforced* only
/// once `pg_stat_replication` shows it and they have flushed past the reload.
pub fn set_sync(data_dir: &Path, setting: &SyncSetting) -> Result<(), ConfigError> {
    if let Some(bad) = setting.names.iter().find(|name| {
        // "*" means everyone, quoted or not.
        name.is_empty() || name.as_str() == "*" || name.contains(['\n', '\r', '\0'])
    }) {
        return Err(ConfigError::BadStandby(bad.clone()));
    }
    put(&data_dir.join(SYNC), &sync_file(setting))
}

fn sync_file(setting: &SyncSetting) -> String {
    let value = quote::conf_value(&sync_setting(setting));
    format!("{HEADER}synchronous_standby_names = {value}\n")
}

/// The file says so already; false where it cannot be read.
pub fn has_sync(data_dir: &Path, setting: &SyncSetting) -> bool {
    let text = std::fs::read_to_string(data_dir.join(SYNC));
    text.is_ok_and(|text| text == sync_file(setting))
}

/// The setting's value, as a server shows it.
pub fn sync_setting(setting: &SyncSetting) -> String {
    quote::sync_names(setting)
}
