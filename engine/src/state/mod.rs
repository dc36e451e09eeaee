//! What the engine remembers: durable things in the [`store`] (log, catalog, checkpoints).
//!
//! In come deltas and headers, out come the same. It knows nothing of SQL, plans or dataflows.

pub mod store;
