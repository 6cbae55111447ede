//! Compiles `proto/sluice/v1/*.proto` with protox, so that nobody has to install protoc.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let files = ["config", "envelope", "bundle", "live", "delivery", "enrol"];
    let files = files.map(|name| format!("sluice/v1/{name}.proto"));
    let descriptors = protox::compile(files, ["proto"])?;
    // Descriptors keep the comments; they become documentation of the generated types.
    // What may hold a private key or a token prints nothing of it; `redacted` says what they print instead.
    tonic_prost_build::configure()
        .bytes(".")
        .skip_debug([
            "sluice.v1.CertificateMaterial",
            "sluice.v1.Envelope",
            "sluice.v1.Downward",
            "sluice.v1.EnrolRequest",
        ])
        .compile_fds(descriptors)?;
    Ok(())
}
