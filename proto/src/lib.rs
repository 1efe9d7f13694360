//! mainstay-proto.
