//! Builds the agent as a small static executable, for `src/agent.rs` to embed.
//!
//! It is another program for another place, so cargo runs once more: own target directory, own
//! flags and profile, whatever the outer build is (debug, test, clippy, doc). The same sources
//! give the same bytes each time, since images are known by them.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

/// Small, and nothing to relocate or unwind: all that it does before its first frame is measured.
const PROFILE: [&str; 7] = [
    "profile.release.opt-level=2",
    "profile.release.lto=true",
    "profile.release.codegen-units=1",
    "profile.release.panic='abort'",
    "profile.release.strip=true",
    "profile.release.debug=false",
    "profile.release.incremental=false",
];

/// What the outer build says to itself; to the agent's build it means nothing, or harm.
const OUTER: [&str; 7] = [
    "RUSTFLAGS",
    "RUSTC_WRAPPER",
    "RUSTC_WORKSPACE_WRAPPER",
    "CLIPPY_ARGS",
    "RUSTDOCFLAGS",
    "CARGO_TARGET_DIR",
    "CARGO_BUILD_TARGET",
];

fn main() -> ExitCode {
    for watched in ["build.rs", "agent/Cargo.toml", "agent/build.rs", "agent/src", "Cargo.lock"] {
        println!("cargo:rerun-if-changed={watched}");
    }
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("build the embedded agent: {error}");
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<(), String> {
    let out = PathBuf::from(variable("OUT_DIR")?);
    let target = variable("TARGET")?;
    if !target.ends_with("-linux-gnu") {
        return Err(format!("{target} is not supported: the agent needs Linux, and is static with glibc"));
    }
    // All crates are here already, as the harness depends on the agent's library. Only `cargo
    // install` without --locked may have got others than Cargo.lock says.
    if !cargo(&out, &target, true)? && !cargo(&out, &target, false)? {
        return Err("cargo failed; its errors are above".into());
    }
    let built = out.join("agent-target").join(&target).join("release/bootrace-agent");
    let embedded = out.join("agent");
    fs::copy(&built, &embedded).map_err(|e| format!("copy {built:?} to {embedded:?}: {e}"))?;
    Ok(())
}

fn cargo(out: &Path, target: &str, offline: bool) -> Result<bool, String> {
    let root = variable("CARGO_MANIFEST_DIR")?;
    // Panic messages name source files; where this machine keeps them is no part of the agent.
    let mut flags = vec![
        "-Ctarget-feature=+crt-static".to_owned(),
        "-Crelocation-model=static".to_owned(),
        format!("--remap-path-prefix={root}=bootrace"),
    ];
    if let Some(home) = env::var("CARGO_HOME").ok().or_else(|| Some(env::var("HOME").ok()? + "/.cargo")) {
        flags.push(format!("--remap-path-prefix={home}=cargo"));
    }
    let mut command = Command::new(variable("CARGO")?);
    command
        .args(["build", "--release", "--quiet", "--locked", "--bin", "bootrace-agent", "--target", target])
        .arg("--manifest-path")
        .arg(Path::new(&root).join("agent/Cargo.toml"))
        .arg("--target-dir")
        .arg(out.join("agent-target"))
        .args(PROFILE.iter().flat_map(|setting| ["--config", setting]))
        .args(offline.then_some("--offline"));
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy();
        if OUTER.contains(&&*name) || name.starts_with("CARGO_PROFILE_") || name.starts_with("CARGO_FEATURE_")
        {
            command.env_remove(&*name);
        }
    }
    // The target is always named, so the flags reach the agent alone and no build script.
    command.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
    command.status().map(|status| status.success()).map_err(|e| format!("run {command:?}: {e}"))
}

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|_| format!("{name} is not set; cargo sets it for build scripts"))
}
