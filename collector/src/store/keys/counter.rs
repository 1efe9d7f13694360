//! Single values of this collector: the fleet's id, the next short host number.

super::key! {
    /// By name.
    CounterKey in Meta as 9 {
        /// Such as `fleet_id`.
        name: String,
    }
}
