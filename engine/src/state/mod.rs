//! What the engine remembers. Knows deltas and time; knows no SQL, no plan and no dataflow.

pub mod arrangement;
pub mod durable;
pub mod gather;
pub mod indexed_rows;
pub mod key_index;
pub mod key_table;
pub mod keyed_rows;
pub mod ordered_rows;
pub mod row_index;
pub mod segment_index;
pub mod spill;
pub mod store;
pub mod table;
pub mod versions;
