//! The only code that knows Timely: plans become dataflows here, and workers run them.
//!
//! In: [`worker::Command`]s, the same to every worker in the same order: views to make and drop, epochs with
//! the changes of streams and tables, checkpoints. Out: each view's arrangement, readable by epoch, and how
//! far it is ([`status::ViewStatus`]). One dataflow per view; no channel leads from one to another.

pub mod batch;
pub mod driver;
pub mod feed;
pub mod meter;
pub mod packet;
pub mod render;
pub mod status;
pub mod view;
pub mod worker;
