//! `mainstay-agent enrol`: asks the collector of a token for an identity.

use std::path::Path;

use anyhow::Context as _;

use super::Paths;
use crate::config::Settings;
use crate::enrol::{self, Existing};
use crate::host::{clock, facts};

/// Enrols this host; says in words as what. The agent that runs takes the identity up by itself.
///
/// # Errors
/// Where the token or the collector refuses; nothing has changed then.
pub async fn enrol(paths: &Paths, settings: &Settings, token: &Path, existing: Existing) -> anyhow::Result<String> {
    let token = enrol::read_token(token)?;
    let mut labels = settings.labels.clone();
    if labels.is_empty() {
        labels.extend(token.labels.iter().cloned());
    }
    let facts = facts::read(&paths.root, &labels);
    let machine_id = std::fs::read(paths.root.join("etc/machine-id")).unwrap_or_default();
    let state = &settings.state.dir;
    let identity = enrol::enrol(&token, &facts, machine_id.trim_ascii(), state, existing)
        .await
        .with_context(|| format!("not enrolled at {}", token.address))?;
    Ok(identity.describe(clock::now().wall_ms))
}
