//! What agents say: admitted, checked, stored once, acknowledged when durable, put together.

pub mod admission;
pub mod chain;
mod changes;
pub mod credit;
mod findings;
mod hello;
pub mod incidents;
pub mod join;
pub mod ledger;
pub mod push;
pub mod session;
pub mod silent;
pub mod summary;
pub mod turns;

pub use hello::HANDOVER_MS;
