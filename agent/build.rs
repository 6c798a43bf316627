//! Computes the digest of the agent's sources, for the agent and for the harness that embeds it.
//!
//! As a build-time constant it costs an agent's first frame nothing.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

fn main() -> io::Result<()> {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it for build scripts"));
    let mut files = vec![root.join("Cargo.toml"), root.join("build.rs")];
    collect(&root.join("src"), &mut files)?;
    files.sort();
    let mut hash = Sha256::new();
    for file in &files {
        let bytes = fs::read(file)?;
        let name = file.strip_prefix(&root).unwrap_or(file).to_string_lossy().into_owned();
        hash.update((name.len() as u64).to_le_bytes());
        hash.update(name.as_bytes());
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(&bytes);
    }
    let digest: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    println!("cargo:rustc-env=BOOTRACE_AGENT_BUILD={digest}");
    for watched in ["Cargo.toml", "build.rs", "src"] {
        println!("cargo:rerun-if-changed={watched}");
    }
    Ok(())
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}
