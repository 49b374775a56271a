//! What a change would do before it is made: which clusters go from what to what, and how their objects differ.

mod objects;
mod plan;
mod words;

pub use objects::{Difference, How, Side, differences, unified};
pub use plan::{Fleet, Move, Plan, Told, check_values, plan};
pub use words::{counts, headline, looked_at, parameters, summary};

#[cfg(test)]
mod tests;
