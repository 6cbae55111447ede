//! Compiles `proto/sluice/v1/*.proto` with protox, so that nobody has to install protoc.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = ["config", "envelope", "bundle", "delivery"].map(|name| format!("sluice/v1/{name}.proto"));
    let descriptors = protox::compile(files, ["proto"])?;
    // Descriptors keep the comments; they become documentation of the generated types.
    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    Ok(())
}
