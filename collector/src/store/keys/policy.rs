//! A signed policy bundle, as it was pushed.

super::key! {
    /// By generation, so that the last one is the newest.
    PolicyKey in Meta as 5 {
        /// Only goes up.
        generation: u64,
    }
}

impl PolicyKey {
    /// All generations.
    #[must_use]
    pub fn all() -> Vec<u8> {
        super::prefix!(PolicyKey)
    }
}
