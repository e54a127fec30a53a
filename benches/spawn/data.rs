//! What trees cost: files given as data, the layers of an overlay, and what the default has.

use std::path::{Path, PathBuf};
use std::time::Instant;

use stockade::{Overlay, Rootfs, Sandbox};

use crate::etc::Etc;
use crate::table::{self, Times, micros, percent, ratio};

/// How many files are given as data.
const FILES: usize = 1000;
/// How many layers an overlay has.
const LAYERS: usize = 200;

/// In the /etc of the first default: of the host's, and nothing generated.
const FIRST: &[&str] = &[
    "/etc/alternatives",
    "/etc/ld.so.cache",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
    "/etc/pki/tls",
    "/etc/pki/ca-trust/extracted",
    "/etc/crypto-policies",
];

/// Each against the default sandbox, in turns, from a small parent.
pub(crate) fn measure(scratch: &Path, rounds: usize) {
    let files = (0..FILES).fold(Sandbox::new(), |sandbox, number| {
        sandbox.file(format!("/data/{}/{number:03}", number / 100), "some text\n")
    });
    let over = |layers: &[PathBuf]| Sandbox::new().overlay("/work", Overlay::new(layers));
    let layers = layers(scratch);
    println!("\n(e) what a tree is made of, start to end, {} rounds: µs", rounds.div_ceil(5));
    let sandboxes = [
        ("default".to_owned(), Sandbox::new()),
        (format!("{FILES} files as data"), files),
        ("1 layer".to_owned(), over(&layers[..1])),
        (format!("{LAYERS} layers"), over(&layers)),
    ];
    compare(&sandboxes, rounds.div_ceil(5));
    println!("\n(f) what the defaults cost, start to end, {rounds} rounds: µs");
    let (first, now) = by_hand();
    let sandboxes = [
        ("the first default, by hand".to_owned(), first),
        ("today's, by hand".to_owned(), now),
        ("today's".to_owned(), Sandbox::new()),
    ];
    compare(&sandboxes, rounds);
}

/// The default tree from single binds, with the /etc that it had at first and with today's: what is
/// bound by hand a root caller's process copies, so only these two compare.
fn by_hand() -> (Sandbox, Sandbox) {
    let bind = |sandbox: Sandbox, path: &str| match Path::new(path).exists() {
        true => sandbox.bind_ro(path, path),
        false => sandbox,
    };
    let system = |rootfs| {
        let sandbox = bind(Sandbox::new().rootfs(rootfs), "/usr");
        crate::SYSTEM.iter().fold(sandbox, |sandbox, path| match std::fs::read_link(path) {
            Ok(target) => sandbox.symlink(target, path),
            Err(_) => bind(sandbox, path),
        })
    };
    let first = FIRST.iter().fold(system(Rootfs::empty()), |sandbox, path| bind(sandbox, path));
    let etc = Etc::of_default();
    let now = system(Rootfs::empty().generated_etc(true));
    let now = etc.shown.iter().fold(now, |sandbox, path| bind(sandbox, path));
    let now = etc.masked.iter().fold(now, |sandbox, path| sandbox.bind_ro("/dev/null", path));
    (first, now)
}

/// In turns; the ratios are to the first.
pub(crate) fn compare(sandboxes: &[(String, Sandbox)], rounds: usize) {
    let mut times = vec![Times::default(); sandboxes.len()];
    for round in 0..=rounds {
        for ((_, sandbox), times) in sandboxes.iter().zip(&mut times) {
            let before = Instant::now();
            let status = sandbox.command("/bin/true").status().expect("a sandbox");
            assert!(status.outcome.is_success());
            // The first is not counted.
            if round > 0 {
                times.add(vec![before.elapsed()]);
            }
        }
    }
    let first = times[0].clone();
    let row = |((name, _), times): (&(String, Sandbox), &Times)| {
        vec![
            name.clone(),
            micros(times.median()),
            ratio(times.median(), first.median()),
            micros(times.least()),
            ratio(times.least(), first.least()),
            percent(times.spread()),
        ]
    };
    let rows: Vec<_> = sandboxes.iter().zip(&times).map(row).collect();
    table::print(&["", "median", "x", "least", "x", "quartiles"], &rows);
}

/// Directories with a file each.
fn layers(scratch: &Path) -> Vec<PathBuf> {
    let make = |number: usize| {
        let layer = scratch.join("layers").join(number.to_string());
        std::fs::create_dir_all(&layer).expect("a directory");
        std::fs::write(layer.join(format!("file{number}")), "x").expect("a file");
        layer
    };
    (0..LAYERS).map(make).collect()
}
