//! Which decision an action belongs to: an undo names only the action.

use mainstay_core::id::{ActionId, HostId};

super::key! {
    /// The value is the decision's id.
    ActionKey in Decisions as 51 {
        /// Which.
        action: ActionId,
        /// Whose.
        host: HostId,
    }
}

impl ActionKey {
    /// All of them.
    #[must_use]
    pub fn all() -> Vec<u8> {
        super::prefix!(ActionKey)
    }
}
