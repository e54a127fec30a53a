//! Attacks a sandbox of your own making from inside, and says what holds: `stockade attack` by
//! another door.
//!
//! ```sh
//! cargo run --features cli --example escape
//! cargo run --features cli --example escape -- --net host --proc full
//! ```
//!
//! The options are those of `stockade run`, and `--way`, `--controls`, `--only`, `--list` and `--json`.
#![allow(
    dead_code,
    reason = "these are modules of the command-line program, of which this is a part"
)]

#[path = "../src/bin/stockade/attack/mod.rs"]
mod attack;
#[path = "../src/bin/stockade/descriptor.rs"]
mod descriptor;
#[path = "../src/bin/stockade/failure.rs"]
mod failure;
#[path = "../src/bin/stockade/options.rs"]
mod options;
#[path = "../src/bin/stockade/sandbox.rs"]
mod sandbox;
#[path = "../src/bin/stockade/values.rs"]
mod values;

use std::process::ExitCode;

fn main() -> ExitCode {
    attack::main(std::env::args_os().skip(1))
        .unwrap_or_else(|failure| {
            failure.print();
            failure.code()
        })
        .into()
}
