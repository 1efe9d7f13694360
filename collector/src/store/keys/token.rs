//! An enrolment token, without its secret.

super::key! {
    /// Known by its short id; the value holds the hash of the secret.
    TokenKey in Meta as 3 {
        /// As operators name it.
        id: String,
    }
}

impl TokenKey {
    /// All tokens.
    #[must_use]
    pub fn all() -> Vec<u8> {
        super::prefix!(TokenKey)
    }
}
