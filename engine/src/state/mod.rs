//! What the engine remembers. Knows deltas and time; knows no SQL, no plan and no dataflow.

pub mod durable;
pub mod inspect;
pub mod key_table;
pub mod store;
