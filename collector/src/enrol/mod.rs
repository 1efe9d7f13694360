//! Who may talk to the collector: its CA, the certificates it gives, and the tokens they are given for.

pub mod authority;
pub mod identity;
pub mod service;
pub mod token;
