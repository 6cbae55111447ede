//! `sluice-dataplane`: one instance of the data plane as a process of its own.

use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The Sluice data plane: signed configuration in, traffic through.
#[derive(Debug, Parser)]
#[command(name = "sluice-dataplane", version, about)]
struct Command {
    #[command(flatten)]
    args: sluice_dataplane::args::Args,
}

fn main() -> anyhow::Result<()> {
    sluice_dataplane::instance::log_to_stderr();
    sluice_dataplane::run(Command::parse().args)
}
