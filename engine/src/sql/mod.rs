//! From text to a bound plan: parse, bind, and the functions that Postgres has and DataFusion has not.

pub mod bind;
pub mod cast;
pub mod context;
mod dialect;
pub mod exact_float;
pub mod interval;
pub mod parse;
pub mod statement;
pub mod system;
pub mod text;
pub mod types;
