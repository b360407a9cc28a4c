//! Where `ctl -c CONFIG` and `patronictl` find members: the one that the configuration describes,
//! and those that Kubernetes knows.

use super::wiring;
use crate::cli::{self, Endpoint};
use crate::settings::{self, Access, Kubernetes};
use anyhow::{Context as _, bail};
use std::path::Path;
use std::time::Duration;

/// What Kubernetes may take to name the members.
const PATIENCE: Duration = Duration::from_secs(3);

/// The addresses, and the credentials for them. A configuration that names a member need not reach
/// Kubernetes; another `cluster` than its own is found there and nowhere else.
pub fn endpoint(config: Option<&Path>, cluster: Option<&str>) -> anyhow::Result<Endpoint> {
    let access =
        settings::access(config, &settings::process_env).map_err(|lines| anyhow::anyhow!(lines))?;
    let tls = cli::rest::asking(&access.ctl, access.cafile.clone());
    let scheme = if access.https { "https" } else { "http" };
    let Access {
        scope,
        connect_address,
        authentication,
        kubernetes,
        ..
    } = access;
    let own = cluster.is_none() || cluster == scope.as_deref();
    let mut urls: Vec<String> = connect_address
        .filter(|_| own)
        .map(|address| format!("{scheme}://{address}"))
        .into_iter()
        .collect();
    if let (Some(kubernetes), Some(scope)) = (&kubernetes, cluster.or(scope.as_deref())) {
        match members(kubernetes, scope) {
            Ok(found) => {
                urls.extend(found);
                if urls.is_empty() {
                    bail!("no Pod of the cluster {scope} has published its REST address");
                }
            }
            Err(error) if urls.is_empty() => return Err(error),
            // The member itself is asked; whoever looks for others can name them.
            Err(error) => tracing::debug!("{error:#}"),
        }
    }
    if urls.is_empty() {
        bail!(
            "it names no member: expected scope and kubernetes, by which members are found, or \
             restapi.connect_address"
        );
    }
    Ok(Endpoint {
        urls,
        credentials: authentication.as_ref().map(cli::rest::credentials),
        tls,
    })
}

fn members(kubernetes: &Kubernetes, scope: &str) -> anyhow::Result<Vec<String>> {
    let call_ms = PATIENCE.as_millis() as u64;
    cli::block_on(async {
        let (client, _) = wiring::connect(kubernetes, call_ms).await?;
        let selector = kubernetes.label_selector(scope);
        crate::dcs::addresses(&client, &kubernetes.namespace, &selector, PATIENCE)
            .await
            .with_context(|| format!("look for the members of {scope} in Kubernetes"))
    })?
}
