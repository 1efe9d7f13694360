//! What a target does with its bytes. The seeds take the same paths, so that a seed that reaches nothing is seen.

pub mod block;
pub mod query;
pub mod wire;
