//! One summary of a block that is not sealed yet.

super::key! {
    /// By host and slot; deleted in the batch that writes the block.
    OpenRowKey in Head as 24 {
        /// The host's short number.
        host: u32,
        /// Ten-minute slots since 1970.
        slot: u32,
        /// End of the summary's window, on the host's clock.
        at_ms: i64,
    }
}

impl OpenRowKey {
    /// All open rows of one host, oldest first.
    #[must_use]
    pub fn of(host: u32) -> Vec<u8> {
        super::prefix!(OpenRowKey, host)
    }

    /// The open rows of one slot.
    #[must_use]
    pub fn in_slot(host: u32, slot: u32) -> Vec<u8> {
        super::prefix!(OpenRowKey, host, slot)
    }

    /// All open rows.
    #[must_use]
    pub fn all() -> Vec<u8> {
        super::prefix!(OpenRowKey)
    }
}
