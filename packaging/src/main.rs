//! Builds what is released and measures it against its budgets.

fn main() {}
