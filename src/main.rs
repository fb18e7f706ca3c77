//! The `flow-fabric` command.

fn main() -> std::process::ExitCode {
    flow_fabric::cli::main()
}
