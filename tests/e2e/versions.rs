//! The other PostgreSQL that images are made for: the same chart, the same accidents.

use crate::OwnScenario;
use crate::accidents::{self, World};
use crate::client::Client;
use crate::release::Release;
use crate::run::{Outcome, ensure, variable};

pub(crate) fn scenarios() -> Vec<OwnScenario> {
    vec![("postgresql_17".to_owned(), Box::new(postgresql_17))]
}

fn postgresql_17() -> Outcome<String> {
    let image = variable("E2E_PG17_IMAGE")
        .ok_or("SKIPPED: E2E_PG17_IMAGE is not set; make e2e builds it")?;
    let release = Release::new("pgwarden-e2e-pg17", "seventeen");
    release.end(3, goes_through(&release, &image))
}

fn goes_through(release: &Release, image: &str) -> Outcome<String> {
    let tag = image.rsplit_once(':').map_or("", |(_, tag)| tag);
    let tag = format!("image.tag={tag}");
    release.install(&["--set-string", &tag, "--set", "postgresql.major=17"])?;
    release.healed(3)?;
    let version = release.sql(&release.leader()?, "SHOW server_version")?;
    ensure(version.starts_with("17."), || {
        format!("{image} runs {version}")
    })?;
    let world = World {
        release,
        client: Client::start(release)?,
    };
    let deleted = accidents::deleted_pod(&world)?;
    let killed = accidents::killed_container(&world)?;
    Ok(format!(
        "PostgreSQL {}\n        pod deleted: {deleted}\n        container killed: {killed}",
        version.trim()
    ))
}
