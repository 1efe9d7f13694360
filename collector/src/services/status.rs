//! The collector itself: how it is, what it lacks, and what goes on in it.

use std::sync::atomic::Ordering;

use mainstay_proto::v1;

use crate::clock;
use crate::hub::Hub;
use crate::survey;

/// Answers `CollectorStatus`.
#[must_use]
pub fn status(hub: &Hub) -> v1::CollectorStatusResponse {
    let (hosts, sessions) = {
        let state = hub.state();
        (state.hosts.len(), state.hosts.values().filter(|host| host.live.is_some()).count())
    };
    let (backup, scrub) = (hub.backups.known(), hub.scrubs.known());
    let job = |job: crate::jobs::Job| v1::JobView {
        what: job.what,
        since_ms: job.since_ms,
        done: job.done.load(Ordering::Relaxed),
    };
    v1::CollectorStatusResponse {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        now_ms: clock::wall_ms(),
        started_ms: hub.started_ms,
        hosts: hosts as u64,
        sessions: sessions as u64,
        store_bytes: hub.store.live_bytes(),
        free_bytes: hub.store.room().free_bytes(),
        min_free_bytes: hub.settings().min_free,
        damaged: hub.store.damages().all().iter().map(|damage| survey::view(hub, damage)).collect(),
        backup: Some(v1::BackupState {
            made_ms: backup.made_ms,
            path: backup.path,
            verified_ms: backup.verified_ms,
            verified: backup.verified,
            problems: backup.problems,
        }),
        jobs: hub.jobs.all().into_iter().map(job).collect(),
        scrub: Some(v1::ScrubState {
            ended_ms: scrub.ended_ms,
            took_ms: scrub.took_ms,
            bytes: scrub.ended_bytes,
            damaged: scrub.damaged,
        }),
    }
}
