//! The command line: keys, bundles, clusters, quickstart.

fn main() {}
