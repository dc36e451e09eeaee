//! What Millrace costs: the parts that the benchmark programs in `bin/` share. `README.md` says how the
//! figures are made.

pub mod batch;
pub mod clients;
pub mod duckdb;
pub mod embedded;
pub mod events;
pub mod maintain;
pub mod queries;
pub mod report;
pub mod server;
pub mod sides;
pub mod sums;
pub mod usage;
