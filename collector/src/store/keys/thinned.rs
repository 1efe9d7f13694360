//! How far the series of a host are thinned, in one tier.

use mainstay_fleet::rollup::Tier;

use crate::store::rollup::number;

super::key! {
    /// The value is the first stretch that it may still have.
    ThinnedKey in Meta as 25 {
        /// Every summary (0), five minutes (1), hours (2).
        tier: u8,
        /// The number of the host, or of the source.
        host: u32,
    }
}

impl ThinnedKey {
    /// That of a host in a tier.
    #[must_use]
    pub fn of(tier: Option<Tier>, host: u32) -> Self {
        Self { tier: tier.map_or(0, number), host }
    }
}
