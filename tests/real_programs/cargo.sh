# A crate with a vendored dependency that has a build script and a procedural macro.
set -eu
mkdir -p app/.cargo app/src app/tests app/vendor/word/src app/vendor/twice/src
cd app
cat >.cargo/config.toml <<'T'
[source.crates-io]
replace-with = "vendored"
[source.vendored]
directory = "vendor"
[net]
offline = true
T
cat >Cargo.toml <<'T'
[package]
name = "app"
version = "0.1.0"
edition = "2021"
[dependencies]
word = "1"
T
cat >src/main.rs <<'R'
fn main() { println!("{} {}", word::word(), word::eight()); }
#[test] fn is_eight() { assert_eq!(word::eight(), 8); }
R
cat >tests/outer.rs <<'R'
#[test] fn runs() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_app")).output().unwrap();
    assert_eq!(output.stdout, b"built 8\n");
}
R
cat >vendor/word/Cargo.toml <<'T'
[package]
name = "word"
version = "1.0.0"
edition = "2021"
build = "build.rs"
[dependencies]
twice = "1"
T
echo 'fn main() { println!("cargo:rustc-env=WORD=built"); }' >vendor/word/build.rs
cat >vendor/word/src/lib.rs <<'R'
pub fn word() -> &'static str { env!("WORD") }
pub fn eight() -> u32 { twice::twice!(4) }
R
cat >vendor/twice/Cargo.toml <<'T'
[package]
name = "twice"
version = "1.0.0"
edition = "2021"
[lib]
proc-macro = true
T
cat >vendor/twice/src/lib.rs <<'R'
use proc_macro::TokenStream;
#[proc_macro]
pub fn twice(of: TokenStream) -> TokenStream { format!("2 * ({of})").parse().unwrap() }
R
for crate in word twice; do echo '{"files":{}}' >vendor/$crate/.cargo-checksum.json; done
cargo build --quiet
target/debug/app
cargo test --quiet >log
grep '^test result' log | sed 's/; finished in.*//' | sort
