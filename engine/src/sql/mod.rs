//! From text to a bound plan: parse, bind, and the functions that Postgres has and DataFusion has not.

pub mod as_of;
pub mod bind;
mod calls;
pub mod cast;
pub mod common;
pub mod context;
mod dependent;
mod dialect;
mod errors;
pub mod exact_float;
mod expansion;
pub mod functions;
pub mod grouping_sets;
pub mod interval;
mod joins;
pub mod log;
pub mod moments;
mod named_casts;
mod named_windows;
pub mod ordered;
pub mod parse;
pub mod planner;
mod quantified;
mod rewrite;
mod shape;
pub mod statement;
mod string_agg;
mod subqueries;
pub mod system;
#[cfg(test)]
mod tests;
pub mod text;
pub mod types;
mod unnest;
pub mod values;
mod whole_rows;
mod window;
