//! That this store was set back to a backup.

super::key! {
    /// By time, so that the last one is the newest.
    RestoredKey in Meta as 20 {
        /// When it was restored.
        at_ms: i64,
    }
}

impl RestoredKey {
    /// All of them, oldest first.
    #[must_use]
    pub fn all() -> Vec<u8> {
        super::prefix!(RestoredKey)
    }
}
