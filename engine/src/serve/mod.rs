//! Reading: snapshots of relations at one epoch, as tables for DataFusion, and subscriptions to changes.

pub mod log;
pub mod lookup;
pub mod own;
pub mod reads;
pub mod snapshot;
pub mod subscribe;
pub mod table;
