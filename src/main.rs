//! Arguments in, exit code out.

fn main() -> std::process::ExitCode {
    quloud::cli::main()
}
