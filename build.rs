//! Builds the freestanding programs with the compiler that builds the crate, for
//! embedding.

#![allow(clippy::expect_used, clippy::panic, reason = "a build script reports by panicking")]
use std::env;
use std::path::PathBuf;
use std::process::Command;

fn main() {
    for watched in [
        "src/attack",
        "src/audit/format.rs",
        "src/init",
        "src/abi.rs",
        "src/launch.rs",
        "src/raw.rs",
        "src/wire.rs",
    ] {
        println!("cargo:rerun-if-changed={watched}");
    }
    println!("cargo:rerun-if-env-changed=RUSTC_LINKER");
    // At a time, as each is one unit for the compiler.
    std::thread::scope(|scope| {
        if env::var_os("CARGO_FEATURE_ATTACK").is_some() {
            scope.spawn(build_attack);
        }
        for (name, parts) in PROGRAMS {
            scope.spawn(move || build(name, parts));
        }
    });
}

/// One source: what only the others do is not mapped at every spawn.
const PROGRAMS: [(&str, &[&str]); 4] = [
    ("stockade-init", &["init"]),
    ("stockade-session", &["init", "session"]),
    ("stockade-warden", &["warden"]),
    ("stockade-probe", &["probe"]),
];

/// The program of `stockade attack`. It is static and needs the C library as an archive, which not
/// every machine has: without it, the command says so, and all the rest is as it would be.
fn build_attack() {
    let source = PathBuf::from(variable("CARGO_MANIFEST_DIR")).join("src/attack/main.rs");
    let output = PathBuf::from(variable("OUT_DIR")).join("stockade-attack");
    let mut rustc = Command::new(variable("RUSTC"));
    rustc.args(["--edition=2024", "--crate-type=bin", "--crate-name=stockade_attack"]);
    rustc.arg("--target").arg(variable("TARGET")).arg(&source).arg("-o").arg(&output);
    for option in [
        "opt-level=z",
        "codegen-units=1",
        "panic=abort",
        "strip=symbols",
        "target-feature=+crt-static",
        // What several functions have in common is kept once.
        "llvm-args=-enable-machine-outliner=always",
    ] {
        rustc.args(["-C", option]);
    }
    link_as_cargo(&mut rustc);
    let result = rustc.output().expect("cargo's rustc can be started");
    if !result.status.success() {
        std::fs::write(&output, []).expect("OUT_DIR is writable");
        let text = String::from_utf8_lossy(&result.stderr);
        let line = text.lines().find(|line| line.contains("error")).unwrap_or("no reason given");
        println!("cargo:rustc-env=STOCKADE_ATTACK_MISSING={line}");
    }
}

fn build(name: &str, parts: &[&str]) {
    let crate_root = PathBuf::from(variable("CARGO_MANIFEST_DIR"));
    let source = crate_root.join("src/init/main.rs");
    let output = PathBuf::from(variable("OUT_DIR")).join(name);
    let known = ["x86_64", "aarch64", "riscv64"].contains(&&*variable("CARGO_CFG_TARGET_ARCH"));
    if variable("CARGO_CFG_TARGET_OS") != "linux" || !known {
        // src/lib.rs says what is wrong, in a better place than a build script can.
        std::fs::write(&output, []).expect("OUT_DIR is writable");
        return;
    }
    let script = crate_root.join("src/init/init.ld");
    let mut rustc = Command::new(variable("RUSTC"));
    rustc.args(["--edition=2024", "--crate-type=bin", "--crate-name=stockade_init"]);
    for part in parts {
        rustc.args(["--cfg", part]);
    }
    rustc.arg("--target").arg(variable("TARGET")).arg(&source).arg("-o").arg(&output);
    for option in [
        "opt-level=z",
        "lto=fat",
        "codegen-units=1",
        "panic=abort",
        "overflow-checks=no",
        "debug-assertions=no",
        "force-unwind-tables=no",
        "strip=symbols",
        "relocation-model=static",
        "target-feature=+crt-static",
        // What several functions have in common is kept once.
        "llvm-args=-enable-machine-outliner=always",
        // For calls as short as the kernel's, a call costs more than what is called.
        "llvm-args=-inline-threshold=8",
        // What a compiler driver and a linker by itself both understand.
        "link-arg=-nostdlib",
        "link-arg=-static",
    ] {
        rustc.args(["-C", option]);
    }
    rustc.arg("-C").arg(format!("link-arg=-T{}", script.display()));
    if variable("CARGO_CFG_TARGET_ENV") == "musl" {
        // Else rustc adds the start of a program with a C library.
        rustc.args(["-C", "link-self-contained=no"]);
    }
    link_as_cargo(&mut rustc);
    let status = rustc.status().expect("cargo's rustc can be started");
    assert!(status.success(), "the init program of stockade could not be built: {rustc:?}");
    cut_sections(&output);
}

/// With the linker and the flags that cargo was given.
fn link_as_cargo(rustc: &mut Command) {
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        rustc.arg("-C").arg(format!("linker={}", PathBuf::from(linker).display()));
    }
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    for option in linking(&flags) {
        rustc.args(["-C", &option]);
    }
    // The linker must not take a library's flags for this program.
    rustc.env_remove("LD_RUN_PATH");
}

/// What of cargo's flags for the compiler says what links, and for which machine.
fn linking(flags: &str) -> Vec<String> {
    let mut options = Vec::new();
    let mut flags = flags.split('\x1f');
    while let Some(flag) = flags.next() {
        let option = match flag {
            "-C" | "--codegen" => flags.next(),
            _ => flag.strip_prefix("-C").or_else(|| flag.strip_prefix("--codegen=")),
        };
        match option.and_then(|option| option.split_once('=')) {
            Some(("linker" | "linker-flavor", _)) => options.extend(option.map(str::to_owned)),
            Some(("link-arg" | "link-args", arguments)) => {
                let chosen = ["--target=", "--sysroot=", "--ld-path=", "-fuse-ld="];
                let chooses =
                    |argument: &&str| chosen.iter().any(|what| argument.starts_with(what));
                let arguments = arguments.split(' ').filter(chooses);
                options.extend(arguments.map(|argument| format!("link-arg={argument}")));
            }
            _ => {}
        }
    }
    options
}

/// Cuts off the table of sections, which is for debuggers: what is loaded is told by segments.
fn cut_sections(path: &PathBuf) {
    let mut file = std::fs::read(path).expect("the linker has made it");
    let number = |at: usize, length: usize| {
        let bytes = &file[at..at + length];
        bytes.iter().rev().fold(0, |sum, &byte| sum << 8 | usize::from(byte))
    };
    // ELF64, little-endian: e_phoff, e_phnum; each of 56 bytes with p_offset and p_filesz.
    let segments = (0..number(56, 2)).map(|index| number(32, 8) + index * 56);
    let end = segments.map(|at| number(at + 8, 8) + number(at + 32, 8)).max();
    file.truncate(end.expect("a program has segments"));
    // e_shoff; e_shentsize, e_shnum and e_shstrndx.
    file[40..48].fill(0);
    file[58..64].fill(0);
    std::fs::write(path, file).expect("OUT_DIR is writable");
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("cargo sets {name} for build scripts"))
}
