//! `sluice-dataplane`: one instance of the data plane as a process of its own.

use std::ffi::OsString;

use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The Sluice data plane: signed configuration in, traffic through.
#[derive(Debug, Parser)]
#[command(
    name = "sluice-dataplane",
    version,
    about,
    after_help = "`sluice-dataplane drain`, in the same container: as SIGTERM would. For preStop hooks of sidecars.\n\
                  `sluice-dataplane await-trust DIR SECONDS`: until ca.pem is in DIR, or so long. For init containers."
)]
struct Command {
    #[command(flatten)]
    args: sluice_dataplane::args::Args,
}

fn main() -> anyhow::Result<()> {
    // No subcommand of clap's, which would take the image's SLUICE_STATE for half of an instance's command line.
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    match arguments.split_first() {
        Some((first, [])) if first == "drain" => return sluice_dataplane::drain::drain(),
        Some((first, rest)) if first == "await-trust" => return sluice_dataplane::await_trust::await_trust(rest),
        Some(_) | None => {}
    }
    sluice_dataplane::instance::log_to_stderr();
    sluice_dataplane::run(Command::parse().args)
}
