//! A fleet's series in a store: hosts in the shapes of `bench/shapes.rs`, written through the collector's own store as
//! their sessions would have: rows, slots that are sealed, hours that are joined, and an open slot at the end.

use std::collections::BTreeMap;
use std::sync::Arc;

use mainstay_collector::store::keys::{HostKey, MarkKey};
use mainstay_collector::store::schema::Schema;
use mainstay_collector::store::series::{hour_of, slot_of};
use mainstay_collector::store::values::{HostRow, MarkRow};
use mainstay_collector::store::{Batch, Store, StoreError};
use mainstay_core::id::HostId;
use mainstay_core::series::SeriesKey;
use mainstay_fleet::block::Row;
use mainstay_proto::v1;

use super::shapes::{Shapes, describe};

/// Between two summaries of a host.
pub(crate) const STEP_MS: i64 = 10_000;

/// What a fleet is to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// How many hosts.
    pub(crate) hosts: u32,
    /// Series of each.
    pub(crate) series: usize,
    /// Whether each has units that no other host has, as containers are named, so that no two hosts have the same series.
    pub(crate) own_units: bool,
    /// The first summary ends one step after this.
    pub(crate) from_ms: i64,
    /// The last ends here.
    pub(crate) to_ms: i64,
}

impl Plan {
    /// The schema of a host, which all share where no units are their own.
    pub(crate) fn schema(&self, host: u32) -> Schema {
        let described = describe(self.series);
        // The order of keys stays: units of one metric begin alike.
        let own = |key: &SeriesKey, unit: &str| {
            SeriesKey::new(&key.name, &[("unit", &format!("{}-{unit}.scope", name(host)))])
        };
        let keys = described.keys.into_iter().map(|key| match &key.labels[..] {
            [(label, unit)] if self.own_units && label == "unit" => Arc::new(own(&key, unit)),
            _ => key,
        });
        let all: BTreeMap<_, _> = keys.zip(described.gauge).collect();
        Schema::of(&all)
    }
}

/// The name of a host.
pub(crate) fn name(host: u32) -> String {
    format!("host-{host:05}")
}

/// Enrols and writes one host.
///
/// # Errors
/// If the store fails.
async fn write_host(store: &Store, schema: &Schema, plan: Plan, host: u32) -> Result<(), StoreError> {
    let mut batch = Batch::default();
    let mut id = [0; 16];
    id[12..].copy_from_slice(&host.to_be_bytes());
    let label = |name: &str, value: String| v1::Label { name: name.to_owned(), value };
    let labels = vec![
        label("rack", format!("r{}", host / 40)),
        label("role", ["web", "db", "cache"][host as usize % 3].to_owned()),
    ];
    let facts = Some(v1::HostFacts { hostname: name(host), labels, ..Default::default() });
    batch.put(
        &HostKey { host: HostId(id) },
        &HostRow { short: host, facts, enrolled_ms: plan.from_ms, ..Default::default() },
    );
    batch.put(&MarkKey { host: HostId(id) }, &MarkRow { last_seen_ms: plan.to_ms, ..Default::default() });
    store.put_schema(&mut batch, schema, 0)?;
    let mut shapes = Shapes::of(u64::from(host), plan.series);
    let mut at_ms = plan.from_ms + STEP_MS;
    let mut slot = slot_of(at_ms);
    loop {
        if slot_of(at_ms) != slot {
            store.commit(std::mem::take(&mut batch)).await?;
            slot = slot_of(at_ms);
            store.seal_except(&mut batch, host, slot)?;
        }
        let cells = shapes.summary(10, &schema.gauge).into_iter().map(Some).collect();
        // Agents are a few milliseconds late now and then.
        let row = Row { at_ms: at_ms + at_ms / STEP_MS % 7, window_ms: 10_000, samples: 10, cells };
        store.put_row(&mut batch, host, schema, &row);
        at_ms += STEP_MS;
        if at_ms > plan.to_ms {
            store.commit(batch).await?;
            for hour in hour_of(plan.from_ms)..hour_of(plan.to_ms) {
                let mut batch = Batch::default();
                store.join_hour(&mut batch, host, hour)?;
                store.commit(batch).await?;
            }
            return Ok(());
        }
    }
}

/// Writes all hosts, some at a time.
///
/// # Errors
/// If the store fails.
pub(crate) async fn write(store: &Arc<Store>, plan: Plan) -> Result<(), StoreError> {
    let shared = Arc::new(plan.schema(1));
    let lanes: u32 = 16;
    let lane = |first: u32| {
        let (store, shared) = (store.clone(), shared.clone());
        tokio::spawn(async move {
            let mut host = first;
            while host <= plan.hosts {
                let own = plan.own_units.then(|| plan.schema(host));
                write_host(&store, own.as_ref().unwrap_or(&shared), plan, host).await?;
                host += lanes;
            }
            Ok::<_, StoreError>(())
        })
    };
    let lanes: Vec<_> = (1..=lanes).map(lane).collect();
    for lane in lanes {
        lane.await.map_err(|error| StoreError::Database(error.to_string()))??;
    }
    Ok(())
}
