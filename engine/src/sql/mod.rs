//! From text to a bound plan: parse, bind, and the functions that Postgres has and DataFusion has not.

pub mod exact_float;
pub mod statement;
pub mod types;
