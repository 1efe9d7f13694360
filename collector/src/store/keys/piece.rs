//! A piece of a sealed host block: its head, or one part of its series.

super::key! {
    /// Hour first, then piece, then host: new data overlaps at most one hour, one metric of the whole fleet in an hour is
    /// one scan, and retention drops whole files at the front.
    PieceKey in Series as 18 {
        /// Hours since 1970.
        hour: u32,
        /// The head, or a part.
        piece: u8,
        /// The host's short number.
        host: u32,
        /// Which ten minutes of the hour, 0 to 5; 6 is the whole hour.
        slot: u8,
        /// Tells blocks of different schemas in one slot apart.
        sibling: u8,
    }
}

impl PieceKey {
    /// The piece that is the head.
    pub const HEAD: u8 = 0;
    /// The slot of a block of a whole hour.
    pub const WHOLE: u8 = 6;

    /// The pieces of one number that one host has in one hour.
    #[must_use]
    pub fn of(hour: u32, piece: u8, host: u32) -> Vec<u8> {
        super::prefix!(PieceKey, hour, piece, host)
    }

    /// The heads of all hosts in one hour.
    #[must_use]
    pub fn heads(hour: u32) -> Vec<u8> {
        super::prefix!(PieceKey, hour, Self::HEAD)
    }

    /// Where an hour begins.
    #[must_use]
    pub fn from_hour(hour: u32) -> Vec<u8> {
        super::prefix!(PieceKey, hour)
    }

    /// The key of part `no` of the block that this is the head of.
    #[must_use]
    pub fn part(&self, no: u8) -> Self {
        Self { piece: no.saturating_add(1), ..self.clone() }
    }
}
