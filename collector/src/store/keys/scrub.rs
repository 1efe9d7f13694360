//! How far the store was read through for damage.

super::key! {
    /// There is one row, of number 0.
    ScrubKey in Meta as 27 {
        /// Always 0.
        number: u8,
    }
}
