//! mainstay-fleet.
