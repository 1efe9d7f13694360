//! mainstay-collector.
