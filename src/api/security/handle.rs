//! Where the one value is, how it is replaced, and who looks whether its files have changed.

use super::{Error, Read, Security, Wanted};
use crate::api::allowlist::Names;
use crate::api::tls::Warning;
use crate::api::view::View;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// Where the one value is, and how it is replaced.
#[derive(Debug)]
pub struct Handle {
    current: RwLock<Arc<Security>>,
    names: Names,
    changed: Notify,
    wall_s: fn() -> i64,
}

impl Handle {
    /// Begin with this one. `wall_s` gives seconds since 1970.
    pub fn new(first: Security, wall_s: fn() -> i64) -> Arc<Self> {
        Arc::new(Self {
            current: RwLock::new(Arc::new(first)),
            names: Names::default(),
            changed: Notify::new(),
            wall_s,
        })
    }

    /// The one in force.
    pub fn current(&self) -> Arc<Security> {
        let current = self.current.read();
        Arc::clone(&current.unwrap_or_else(PoisonError::into_inner))
    }

    /// Put another in its place: from the next connection and the next request on.
    fn replace(&self, next: Security) {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        *current = Arc::new(next);
        drop(current);
        self.changed.notify_one();
    }

    /// Load what the configuration says now and put it in the place of the present one; if anything
    /// of it is broken or out of date, nothing changes. Blocks for as long as the file system does.
    pub fn reload(&self, wanted: Wanted) -> Result<Vec<Warning>, Error> {
        let next = Security::load(wanted, (self.wall_s)())?;
        let present = self.current();
        // The very files that are in use have grown old: what else changed is taken all the same.
        let same_files = present.digest == next.digest;
        if let Some(fault) = present.fault_of(&next).filter(|_| !same_files) {
            return Err(fault);
        }
        let warnings = next.warnings.clone();
        self.replace(next);
        Ok(warnings)
    }

    /// The same if a file has another content than when it was read. `None`: none has.
    pub fn renew(&self) -> Result<Option<Vec<Warning>>, Error> {
        let present = self.current();
        let read = Read::of(&present.wanted)?;
        if read.files.digest() == present.digest {
            return Ok(None);
        }
        let next = Security::judge(present.wanted.clone(), read, (self.wall_s)())?;
        if let Some(fault) = present.fault_of(&next) {
            return Err(fault);
        }
        let warnings = next.warnings.clone();
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        // Somebody reloaded meanwhile: what was read here may be of other files.
        if !Arc::ptr_eq(&current, &present) {
            return Ok(None);
        }
        *current = Arc::new(next);
        Ok(Some(warnings))
    }

    pub(in crate::api) fn names(&self) -> &Names {
        &self.names
    }

    /// Follow the files and the names until dropped: a Secret that is mounted changes by itself.
    pub(in crate::api) async fn follow(
        self: Arc<Self>,
        view: watch::Receiver<Arc<View>>,
        look: Duration,
    ) {
        let mut told = None;
        loop {
            if self.current().has_files() {
                let handle = Arc::clone(&self);
                let renewed = tokio::task::spawn_blocking(move || handle.renew()).await;
                if let Ok(renewed) = renewed {
                    tell(renewed, &mut told);
                }
            }
            let names = {
                let view = view.borrow();
                let members = view.members.values().map(|member| member.api_url.as_str());
                self.current().allowlist().names(members)
            };
            self.names.resolve(&names).await;
            tokio::select! {
                () = tokio::time::sleep(look) => {}
                () = self.changed.notified() => {}
            }
        }
    }
}

/// Say what is wrong once, until it is something else; whether it was said. `told`: the last word.
fn tell(renewed: Result<Option<Vec<Warning>>, Error>, told: &mut Option<String>) -> bool {
    let words = renewed.as_ref().err().map(ToString::to_string);
    if let Ok(Some(warnings)) = renewed {
        tracing::info!("the REST API uses the certificates that were put in place");
        for Warning { key, message } in warnings {
            tracing::warn!("{key}: {message}");
        }
    }
    let fresh = words.as_ref().filter(|words| told.as_ref() != Some(*words));
    if let Some(words) = fresh {
        tracing::warn!("{words}; the REST API goes on with what it had");
    }
    let said = fresh.is_some();
    *told = words;
    said
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tls;

    #[test]
    fn what_stays_broken_is_said_once_and_again_after_it_was_good() {
        let broken = |why: &str| {
            Err(Error::from(tls::Error::Refused {
                key: "restapi.certfile".to_owned(),
                why: why.to_owned(),
            }))
        };
        let mut told = None;
        let said: Vec<bool> = [
            broken("garbage"),
            broken("garbage"),
            broken("gone"),
            broken("gone"),
            Ok(None),
            broken("gone"),
            Ok(Some(Vec::new())),
            broken("gone"),
        ]
        .into_iter()
        .map(|renewed| tell(renewed, &mut told))
        .collect();
        assert_eq!(said, [true, false, true, false, false, true, false, true]);
    }
}
