//! What the engine remembers. Knows deltas and time; knows no SQL, no plan and no dataflow.

pub mod durable;
pub mod inspect;
pub mod key_table;
pub mod store;
pub mod arrangement;
pub mod gather;
pub mod key_index;
pub mod row_index;
pub mod table;
