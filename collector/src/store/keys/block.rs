//! A sealed host block of version 1: all series of one host over ten minutes. No longer written.

super::key! {
    /// Hour first, then host: new data overlaps at most one hour, a fleet-wide slice of an hour is
    /// one scan, and retention drops whole files at the front.
    BlockKey in Series as 16 {
        /// Hours since 1970.
        hour: u32,
        /// The host's short number.
        host: u32,
        /// Which ten minutes of the hour, 0 to 5.
        slot: u8,
        /// Tells blocks of different schemas in one slot apart.
        part: u8,
    }
}

impl BlockKey {
    /// The blocks of one host in one hour.
    #[must_use]
    pub fn of(hour: u32, host: u32) -> Vec<u8> {
        super::prefix!(BlockKey, hour, host)
    }

    /// Where an hour begins.
    #[must_use]
    pub fn from_hour(hour: u32) -> Vec<u8> {
        super::prefix!(BlockKey, hour)
    }
}
