//! How far hosts are thinned, as it is stored: at hand for every question, because what was removed while a host was kept for
//! a shorter time does not come back when it is kept for longer.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use mainstay_fleet::rollup::Tier;

use super::keys::{Key as _, ThinnedKey};
use super::retention::{FirstHours, later};
use super::rollup::{HOURS_PER_DAY, number, stretch_of};
use super::values::ThinnedRow;
use super::{Store, StoreError};

/// The first hours that hosts may still have, by their numbers.
#[derive(Debug, Default)]
pub(super) struct Thinned {
    of: Mutex<BTreeMap<u32, FirstHours>>,
}

impl Thinned {
    /// Reads what is stored.
    pub(super) fn restore(&self, store: &Store) -> Result<(), StoreError> {
        for item in store.scan_values::<ThinnedKey, ThinnedRow>(&[ThinnedKey::ORDINAL]) {
            let (key, row) = item?;
            let tier = Tier::ALL.into_iter().find(|tier| number(*tier) == key.tier);
            self.note(tier, key.host, row.upto);
        }
        Ok(())
    }

    /// The first stretch that a host may still have.
    pub(super) fn stretch(&self, tier: Option<Tier>, host: u32) -> u32 {
        let hour = self.lock().get(&host).map_or(0, |hours| hours[place(tier)]);
        tier.map_or(hour, |tier| stretch_of(tier, hour))
    }

    /// A host is thinned up to a stretch.
    pub(super) fn note(&self, tier: Option<Tier>, host: u32, stretch: u32) {
        let hour = if tier == Some(Tier::Hour) { stretch.saturating_mul(HOURS_PER_DAY) } else { stretch };
        self.lock().entry(host).or_default()[place(tier)] = hour;
    }

    /// A host is deleted.
    pub(super) fn forget(&self, host: u32) {
        self.lock().remove(&host);
    }

    /// What a host has of what is kept from some hours on.
    pub(super) fn of(&self, host: u32, kept: FirstHours) -> FirstHours {
        self.lock().get(&host).map_or(kept, |hours| later(*hours, kept))
    }

    /// What every host has of it.
    pub(super) fn of_every(&self, kept: FirstHours) -> FirstHours {
        self.lock().values().fold(kept, |all, hours| later(all, *hours))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, FirstHours>> {
        self.of.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn place(tier: Option<Tier>) -> usize {
    tier.map_or(0, |tier| usize::from(number(tier)))
}
