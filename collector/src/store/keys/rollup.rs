//! A piece of rolled up series of a host: the head of a block of them, or one part.

super::key! {
    /// Tier first, so that each is kept as long as it should be; then as pieces of sealed blocks are.
    RollupKey in Series as 19 {
        /// Which tier: 1 is five minutes, 2 an hour.
        tier: u8,
        /// Hours since 1970 of the tier of five minutes, days of the tier of an hour.
        stretch: u32,
        /// The head, or a part.
        piece: u8,
        /// The host's short number.
        host: u32,
        /// Tells blocks of different schemas in one stretch apart.
        sibling: u8,
    }
}

impl RollupKey {
    /// The pieces of one number that one host has in one stretch.
    #[must_use]
    pub fn of(tier: u8, stretch: u32, piece: u8, host: u32) -> Vec<u8> {
        super::prefix!(RollupKey, tier, stretch, piece, host)
    }

    /// The heads of all hosts in one stretch.
    #[must_use]
    pub fn heads(tier: u8, stretch: u32) -> Vec<u8> {
        super::prefix!(RollupKey, tier, stretch, super::PieceKey::HEAD)
    }

    /// Where a tier's stretch begins.
    #[must_use]
    pub fn from_stretch(tier: u8, stretch: u32) -> Vec<u8> {
        super::prefix!(RollupKey, tier, stretch)
    }

    /// The key of part `no` of the block that this is the head of.
    #[must_use]
    pub fn part(&self, no: u8) -> Self {
        Self { piece: no.saturating_add(1), ..self.clone() }
    }
}
