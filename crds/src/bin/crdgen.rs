//! Writes the CRDs into `crds/yaml/` and, the same, into the chart, or into the folder given as the one argument.

use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = match std::env::args_os().nth(1) {
        Some(folder) => vec![PathBuf::from(folder)],
        None => vec![here.join("yaml"), here.join("../charts/sluice/crds")],
    };
    for folder in folders {
        std::fs::create_dir_all(&folder)?;
        for crd in sluice_crds::generate::all()? {
            let file = folder.join(&crd.file_name);
            std::fs::write(&file, crd.yaml()?)?;
            println!("{}", file.display());
        }
    }
    Ok(())
}
