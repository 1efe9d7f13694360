//! The names of the series in a block: once per distinct set, not per host.

super::key! {
    /// By the hash of the names.
    SchemaKey in Series as 17 {
        /// The first 16 bytes of SHA-256 over the stored schema.
        id: [u8; 16],
    }
}

impl SchemaKey {
    /// Every schema.
    #[must_use]
    pub fn all() -> Vec<u8> {
        super::prefix!(SchemaKey)
    }
}
