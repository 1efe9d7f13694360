//! What the tests of the whole system share: real hosts, and more as it comes.

pub mod demo;
pub mod eval;
pub mod floor;
pub mod hosts;
pub mod learning;
pub mod parity;
pub mod sim;
pub mod site;
