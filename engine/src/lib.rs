//! Millrace's engine: a streaming SQL database as a library.
//!
//! Life of a query in ten steps, in the order of the modules:
//!
//! 1. `session` takes a statement's text; `sql::parse` makes a [`sql::statement::Statement`] of it.
//! 2. `sql` binds names to the catalog's relations and asks DataFusion for a logical plan.
//! 3. A `SELECT` runs as a DataFusion query over a snapshot (`serve`).
//! 4. A write becomes a [`delta::Delta`]; `commit` logs it, with one sync, as an epoch.
//! 5. A materialized view's logical plan is lowered to an incremental one (`plan`),
//! 6. rendered to a Timely dataflow (`dataflow::render`)
//! 7. and hydrated from what exists.
//! 8. Each epoch's deltas run through `operators`, which keep their rows in arrangements (`state`).
//! 9. A closed epoch is visible to snapshots, subscriptions and sinks.
//! 10. Checkpoints make state durable; recovery loads the newest and replays the log after it.

pub mod advisory;
pub mod allocator;
mod backup;
mod blocking;
mod budget;
pub mod catalog;
mod checkpoint;
mod commit;
mod compaction;
pub mod connectors;
mod core;
mod cuts;
mod dataflow;
pub mod delta;
pub mod engine;
pub mod error;
mod memory;
pub mod notifications;
mod operators;
mod past;
mod plan;
mod priority;
mod row_locks;
mod sequences;
mod serve;
pub mod session;
mod sources;
pub mod sql;
mod state;
mod subscriptions;
pub mod time;
pub mod tools;
mod ttl;
mod waits;
mod watermark;

pub use engine::{Config, Engine};
pub use error::{Error, Result};
pub use session::Session;
pub use subscriptions::SubscriptionLimits;
