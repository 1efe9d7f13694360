//! mainstay-core.
