//! From text to a bound plan: parse, bind, and the functions that Postgres has and DataFusion has not.

mod dialect;
pub mod exact_float;
pub mod interval;
pub mod parse;
pub mod statement;
pub mod text;
pub mod types;
