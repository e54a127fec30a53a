//! Trees of many parts: files given as data, and the layers of an overlay.

use std::path::{Path, PathBuf};
use std::time::Instant;

use stockade::{Overlay, Sandbox};

use crate::table::{self, Times, micros, percent, ratio};

/// How many files are given as data.
const FILES: usize = 1000;
/// How many layers an overlay has.
const LAYERS: usize = 200;

/// Each against the default sandbox, in turns, from a small parent.
pub(crate) fn measure(scratch: &Path, rounds: usize) {
    let files = (0..FILES).fold(Sandbox::new(), |sandbox, number| {
        sandbox.file(format!("/data/{}/{number:03}", number / 100), "some text\n")
    });
    let over = |layers: &[PathBuf]| Sandbox::new().overlay("/work", Overlay::new(layers));
    let layers = layers(scratch);
    let sandboxes = [
        ("default".to_owned(), Sandbox::new()),
        (format!("{FILES} files as data"), files),
        ("1 layer".to_owned(), over(&layers[..1])),
        (format!("{LAYERS} layers"), over(&layers)),
    ];
    let rounds = rounds.div_ceil(5);
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
    println!("\n(e) what a tree is made of, start to end, {rounds} rounds: µs");
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
