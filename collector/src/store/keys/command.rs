//! What an operator ordered, and what came of it.

super::key! {
    /// In the order in which commands came.
    CommandKey in Meta as 7 {
        /// When, on the collector's clock.
        at_ms: i64,
        /// Tells commands of one millisecond apart, and which came first.
        id: u64,
    }
}

impl CommandKey {
    /// All commands, oldest first.
    #[must_use]
    pub fn all() -> Vec<u8> {
        super::prefix!(CommandKey)
    }
}
