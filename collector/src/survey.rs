//! Damaged tables: what is lost with those that were found, looked for and told.

use std::sync::Arc;
use std::time::Duration;

use mainstay_core::id::HostId;
use mainstay_proto::v1;

use crate::hub::{Hub, State};
use crate::store::damage::Damage;
use crate::store::lost::{Told, Whose, told};

/// How often it is looked whether there are more.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Hosts that are named of a stretch; the rest is counted.
const HOSTS_NAMED: usize = 8;

/// Looks for what is lost, until the collector ends.
pub async fn watch(hub: Arc<Hub>) {
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        if hub.store.damages().all().is_empty() {
            continue;
        }
        let of = hub.clone();
        match tokio::task::spawn_blocking(move || of.store.survey()).await {
            Ok(Ok(found)) => found.iter().for_each(|damage| tell(&hub, damage)),
            Ok(Err(error)) => tracing::warn!(%error, "it cannot be seen what is lost with a damaged table"),
            Err(error) => tracing::error!(%error, "looking for what is lost broke off"),
        }
    }
}

fn tell(hub: &Hub, damage: &Damage) {
    let view = view(hub, damage);
    for lost in &view.lost {
        let v1::LostStretch { what, from_ms, to_ms, hosts, hosts_more } = lost;
        tracing::error!(
            column = view.column,
            table = view.table,
            what,
            from_ms,
            to_ms,
            ?hosts,
            hosts_more,
            "data is lost"
        );
    }
}

/// A damaged table as operators are told.
#[must_use]
pub fn view(hub: &Hub, damage: &Damage) -> v1::DamagedTable {
    let state = hub.state();
    let stretches = damage.lost.iter().flatten().flat_map(|lost| told(damage.column, lost));
    let mut lost: Vec<v1::LostStretch> = Vec::new();
    for stretch in stretches {
        let stretch = one(&state, &stretch);
        if lost.last() != Some(&stretch) {
            lost.push(stretch);
        }
    }
    v1::DamagedTable {
        column: damage.column.name().to_owned(),
        table: damage.table.clone(),
        said: damage.said.clone(),
        is_searched: damage.lost.is_some(),
        lost,
    }
}

fn one(state: &State, told: &Told) -> v1::LostStretch {
    let is_meant = |id: &HostId, short: u32| match told.whose {
        Whose::Anyone => false,
        Whose::Numbers(first, last) => (first..=last).contains(&short),
        Whose::Hosts(first, last) => (first..=last).contains(id),
    };
    let meant = state.hosts.iter().filter(|(id, host)| is_meant(id, host.row.short));
    let hosts: Vec<String> = meant.clone().take(HOSTS_NAMED).map(|(_, host)| host.hostname().to_owned()).collect();
    let more = meant.count() - hosts.len();
    let (from_ms, to_ms) = told.span_ms.unwrap_or((0, 0));
    v1::LostStretch {
        what: told.what.to_owned(),
        from_ms,
        to_ms,
        hosts,
        hosts_more: u32::try_from(more).unwrap_or(u32::MAX),
    }
}
