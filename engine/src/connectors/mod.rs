//! Sources and sinks at the edges, and their formats.
pub mod copy;
