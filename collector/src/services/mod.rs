//! What operators ask and order. Every answer is made from the store or the hub; every refusal says
//! what to do next.

pub mod approvals;
pub mod ask;
pub mod backups;
pub mod capacity;
pub mod changes;
pub mod command;
pub(crate) mod coverage;
pub mod decisions;
pub mod explain;
pub mod find;
pub mod findings;
pub mod forget;
pub mod hosts;
pub mod incidents;
pub mod ledger;
pub mod orders;
pub mod policy;
pub mod promql;
pub mod query;
pub mod range;
pub mod records;
pub mod search;
pub mod status;

use tonic::Status;

use crate::store::StoreError;

/// A store that failed, as an operator is told.
impl From<StoreError> for Status {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "the store failed a request");
        match error {
            StoreError::Closed => Self::unavailable("the collector is stopping; try again in a moment"),
            StoreError::Full(_) => {
                Self::resource_exhausted("the collector's disk is full; make room under its data folder")
            }
            other => Self::internal(format!("{other}; the collector's journal says more")),
        }
    }
}
