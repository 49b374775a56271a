//! What the agent decides: pure functions of their arguments, without I/O, clock, chance or waiting.

pub mod health;
pub mod object;
pub mod owned;
