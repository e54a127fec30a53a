//! The program that attacks the sandbox it runs in, for `stockade attack`.
//!
//! Static, so that it runs in every tree. It is given the name of an attempt and facts as `NAME=VALUE`,
//! and says what came of it through a socket that it inherits. The program outside judges for itself.
#![deny(unsafe_code)]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "numbers are handed to the kernel as registers"
)]

mod calls;
mod descriptors;
mod ends;
mod facts;
mod host;
mod kernel;
mod machine;
mod neighbours;
#[allow(dead_code, reason = "a table")]
mod numbers;
mod objects;
mod others;
mod privileges;
#[allow(dead_code, reason = "made for init and the library")]
#[path = "../raw.rs"]
mod raw;
mod reach;
mod resources;
mod sentinel;
mod siblings;
mod signals;
#[macro_use]
mod table;
mod tenants;
mod tree;
mod verdict;

use std::fs::File;
use std::io::Write;
use std::process::ExitCode;

use facts::Facts;
use verdict::Verdict;

macro_rules! lookup {
    ($($family:ident { $($number:literal $name:ident $severity:ident $plants:tt $control:expr,
        $tried:literal;)* })*) => {
        fn find(name: &str) -> Option<fn(&Facts) -> Verdict> {
            Some(match name {
                $($(stringify!($name) => $family::$name,)*)*
                _ => return None,
            })
        }
    };
}

attempts!(lookup);

const USAGE: u8 = 2;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let Some(name) = args.next() else { return USAGE.into() };
    let facts = Facts::new(args);
    if name == "sentinel" {
        return sentinel::stand(&facts);
    }
    if name == "rest" {
        // The caller's end is the end of it.
        return u8::from(std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).is_err())
            .into();
    }
    if name == "leave" {
        return tenants::leave(&facts);
    }
    if name == "gained" {
        return u8::from(!kernel::has_gained(&facts)).into();
    }
    if name == "make_capable" {
        return u8::from(kernel::make_capable(facts.text("file")).is_err()).into();
    }
    let Some(attempt) = find(&name) else { return USAGE.into() };
    if facts.has("chroot") {
        // A control: another root, with a working directory that stays outside.
        let into = kernel::text(facts.text("chroot"));
        if kernel::call(numbers::CHROOT, [into.as_ptr() as usize]).is_err() {
            return USAGE.into();
        }
    }
    let verdict = attempt(&facts);
    let (word, text) = verdict.parts();
    let mut report = File::from(kernel::own(facts.number("report")));
    match report.write_all(format!("{word} {text}\n").as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => USAGE.into(),
    }
}
