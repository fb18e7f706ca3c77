//! The `flow-fabric` command.

fn main() {}
