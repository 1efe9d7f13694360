//! What is known of backups.

super::key! {
    /// There is one row, of folder 0: what was made and read last, wherever it lies.
    BackupsKey in Meta as 26 {
        /// Of which folder.
        folder: u8,
    }
}
