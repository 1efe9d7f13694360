//! An operator that was given a certificate.

super::key! {
    /// Known by the name in the certificate.
    OperatorKey in Meta as 4 {
        /// The name.
        name: String,
    }
}
