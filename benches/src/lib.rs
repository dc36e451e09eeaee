//! What Millrace costs: the parts that the benchmark programs in `bin/` share. `README.md` says how the
//! figures are made.

pub mod batch;
pub mod events;
pub mod queries;
pub mod sums;
pub mod usage;
