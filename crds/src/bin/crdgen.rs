//! Writes the CRDs into `crds/yaml/`, or into the folder given as the one argument.

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("yaml");
    let folder = std::env::args_os().nth(1).map_or(here, PathBuf::from);
    std::fs::create_dir_all(&folder)?;
    for crd in sluice_crds::generate::all()? {
        let file = folder.join(&crd.file_name);
        std::fs::write(&file, crd.yaml()?)?;
        println!("{}", file.display());
    }
    Ok(())
}
