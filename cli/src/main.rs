//! The `sluice` command; `kubectl-sluice` when installed under that name. Everything is in the library.

use std::process::ExitCode;

// Short-lived allocations on every request of the data plane that this binary carries too.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    sluice_cli::run(std::env::args_os())
}
