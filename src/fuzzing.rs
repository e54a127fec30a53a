//! The parsers of bytes that come from inside, for the fuzz targets in `fuzz/`.

use std::fs::File;
use std::io::{Seek, Write};
use std::time::Duration;

use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::audit;
use crate::child::Account;
use crate::learn;
use crate::outcome::End;
use crate::program;
use crate::sys::Reaped;
use crate::wire::{REPORT, Report};

/// What an init that was taken over may send: any reports, and then the end.
pub fn reports(bytes: &[u8]) {
    let mut account = Account::default();
    for frame in bytes.chunks(REPORT) {
        if let Some(report) = Report::from_bytes(frame) {
            account.note(Box::new(report));
        }
    }
    let end = End {
        report: account.last_report.as_deref(),
        reaped: bytes.first().map(|&byte| Reaped {
            code: libc::CLD_KILLED,
            status: byte.into(),
            usage: None,
        }),
        supervised: true,
        killed: false,
        past_deadline: bytes.len() % 2 == 0,
        wall: Duration::from_secs(1),
        left: account.left,
        left_count: account.left_count,
        stats: crate::Stats::default(),
        memory_mounts: &["/tmp".into(), "/home".into(), "/tmp".into()],
    };
    let status = end.status();
    assert!(!format!("{status:?} {}", status.outcome).is_empty());
}

/// A program that was left without its interpreter.
pub fn programs(bytes: &[u8]) {
    let memory = memfd_create(c"fuzzed", MFdFlags::MFD_CLOEXEC);
    let Ok(mut file) = memory.map(File::from) else { return };
    if file.write_all(bytes).and_then(|()| file.rewind()).is_ok() {
        let name = program::interpreter_of(file);
        assert!(name.is_none_or(|name| !name.is_empty()));
    }
}

/// The calls of a program from which a journal learns, with their paths and addresses.
pub fn journals(bytes: &[u8]) {
    learn::fuzz::journal(bytes);
}

/// What the probe of an audit tells.
pub fn audits(bytes: &[u8]) {
    audit::examine(&mut &*bytes);
}
