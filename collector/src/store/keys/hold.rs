//! A hold that an operator ordered.

super::key! {
    /// By what is held: a later hold of the same replaces the earlier one.
    HoldKey in Meta as 6 {
        /// `fleet`, `host/UUID` or `host/UUID/unit`.
        scope: String,
    }
}

impl HoldKey {
    /// All holds.
    #[must_use]
    pub fn all() -> Vec<u8> {
        super::prefix!(HoldKey)
    }
}
