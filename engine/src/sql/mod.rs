//! From text to a bound plan: parse, bind, and the functions that Postgres has and DataFusion has not.

pub mod bind;
pub mod cast;
pub mod context;
pub mod datetime;
mod dialect;
mod display;
mod errors;
pub mod exact_float;
pub mod functions;
pub mod grouping_sets;
pub mod interval;
pub mod moments;
pub mod parse;
mod rewrite;
pub mod statement;
pub mod system;
#[cfg(test)]
mod tests;
pub mod text;
pub mod types;
mod window;
