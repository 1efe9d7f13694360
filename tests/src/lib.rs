//! mainstay-tests.
