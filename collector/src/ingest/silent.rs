//! The watch for silence: hosts gone quiet get a finding, and lose it when they are heard again.

use std::sync::Arc;
use std::time::Duration;

use mainstay_core::finding::FindingKind;
use mainstay_core::id::HostId;
use mainstay_fleet::silence::{Presence, silent_finding};
use mainstay_proto::v1;

use super::{findings, incidents};
use crate::clock;
use crate::hub::{HostState, Hub};
use crate::store::{Batch, StoreError};

/// How often hosts are looked at.
pub const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Looks at all hosts once.
///
/// # Errors
/// If what was found cannot be made durable; the next look finds it again.
pub async fn look(hub: &Arc<Hub>) -> Result<(), StoreError> {
    let now_ms = clock::wall_ms();
    let settings = hub.silence();
    let mut changed: Vec<(HostId, v1::Finding)> = Vec::new();
    for (id, host) in &hub.state().hosts {
        let known = host.findings.values().find(|f| f.kind == FindingKind::HostSilent.as_str());
        match (host.presence(settings, now_ms), known) {
            (Presence::Silent { since_ms }, None) if !host.is_revoked() => {
                changed.push((*id, (&silent_finding(*id, since_ms, now_ms)).into()));
            }
            (Presence::Online, Some(finding)) => changed.push((*id, cleared(finding, now_ms))),
            (_, Some(finding)) if host.is_revoked() => changed.push((*id, cleared(finding, now_ms))),
            _ => {}
        }
    }
    if changed.is_empty() {
        return Ok(());
    }
    let mut batch = Batch::default();
    for (host, finding) in &changed {
        findings::store(&mut batch, *host, finding, now_ms);
    }
    hub.store.commit(batch).await?;
    for (id, finding) in changed {
        if let Some(host) = hub.state().hosts.get_mut(&id) {
            remember(host, &finding);
        }
        incidents::observe(hub, id, &[finding]);
    }
    Ok(())
}

fn remember(host: &mut HostState, finding: &v1::Finding) {
    if finding.state == "open" {
        tracing::warn!(host = host.hostname(), "host is silent");
        host.findings.insert(finding.id, finding.clone());
    } else {
        tracing::info!(host = host.hostname(), "host is heard again");
        host.findings.remove(&finding.id);
    }
}

fn cleared(finding: &v1::Finding, now_ms: i64) -> v1::Finding {
    let changed = Some(v1::Now { boot_ns: 0, wall_ms: now_ms });
    v1::Finding { state: "cleared".to_owned(), changed, ..finding.clone() }
}
