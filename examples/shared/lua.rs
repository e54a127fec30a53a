//! Where there is a C library to compile.

use std::error::Error;
use std::path::{Path, PathBuf};

/// Where cargo has the crate `lua-src`, a development dependency of this one.
pub(crate) fn of_cargo() -> Result<PathBuf, Box<dyn Error>> {
    let cargo = std::env::var_os("CARGO").unwrap_or("cargo".into());
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let output = std::process::Command::new(&cargo)
        .args(["metadata", "--format-version=1", "--offline", "--filter-platform", &platform])
        .args(["--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")])
        .output()
        .map_err(|error| {
            format!("cannot ask {cargo:?} for Lua's source ({error}); name its directory instead")
        })?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"].as_array().into_iter().flatten();
    let manifest = packages
        .filter(|package| package["name"] == "lua-src")
        .find_map(|package| package["manifest_path"].as_str())
        .ok_or("cargo does not know the crate lua-src")?;
    let directories = std::fs::read_dir(Path::new(manifest).parent().ok_or("no directory")?)?;
    directories
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| {
            path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"lua-5.4"))
        })
        .ok_or_else(|| format!("no Lua 5.4 beside {manifest}").into())
}
