//! Calls of the fuzzer's choice, as a hostile program makes them.

use std::ffi::OsStr;

use super::book::Book;
use super::judge::Judge;
use super::look::Outside;
use super::record::{self, Ledger, Refusal};
use super::{acl, calls, note};
use crate::sandbox::Sandbox;
use crate::sys::Asked;

/// Each call is a byte that chooses it, a byte that says which arguments point into the memory behind, and six
/// bytes of numbers or places there.
const CALL: usize = 8;

pub(crate) fn journal(bytes: &[u8]) {
    acl::fuzz(bytes);
    let sandbox = Sandbox::new().learn();
    let policy = sandbox.policy();
    let Ok(outside) = Outside::new() else { return };
    let (mut book, program) = (Book::default(), OsStr::new("fuzzed\n"));
    let (made, memory) = bytes.split_at(bytes.len().min(4 * CALL));
    for call in made.chunks_exact(CALL) {
        let [which, pointers, numbers @ ..] = call else { return };
        let argument = |(at, &number): (usize, &u8)| match pointers >> at & 1 {
            0 => u64::from(number),
            _ => memory.as_ptr() as u64 + u64::from(number),
        };
        let mut args = [0; 6];
        for (into, from) in args.iter_mut().zip(numbers.iter().enumerate().map(argument)) {
            *into = from;
        }
        let call = calls::any(usize::from(*which));
        let pid = i32::try_from(std::process::id()).unwrap_or(0);
        let asked = Asked { id: 0, pid, number: call.number, args };
        let (uid, gid) = (Some(1000), Some(1000));
        let judge = Judge {
            asked: &asked,
            policy,
            uid,
            gid,
            #[cfg(feature = "footprint")]
            files: None,
            #[cfg(feature = "footprint")]
            later: Default::default(),
        };
        for verdict in judge.judge(call).unwrap_or_default() {
            if let Some(denial) = note::denial(policy, &outside, call.name, verdict, program) {
                book.note(denial.what.clone(), denial);
            }
        }
        let (key, denial) = note::refused_call(policy, &asked, nix::errno::Errno::EPERM, program);
        book.note(key, denial);
    }
    records(bytes, |refusal| {
        let denial = note::refused_by_landlock(policy, refusal);
        book.note(denial.what.clone(), denial);
    });
    // Nothing from inside makes a line of its own.
    for line in book.denials().with_settings(policy).to_string().lines() {
        let known = ["sandbox", "    .", "    //", "//"].iter().any(|one| line.starts_with(one));
        assert!(known && !line.contains(char::is_control), "{line:?}");
    }
}

/// The audit log of Landlock, with what the fuzzer puts behind the numbers; and messages that are the fuzzer's alone.
fn records(bytes: &[u8], mut note: impl FnMut(Refusal)) {
    let mut ledger = Ledger::default();
    let made = b"domain=1 status=allocated pid=7 comm=\"stockade-init\"";
    let refused = [b"domain=1 blockers=", bytes].concat();
    let header = |kind: u16, text: &[u8]| {
        [&[0; 4][..], &kind.to_ne_bytes(), &[0; 10], b"audit(1.0:1): ", text].concat()
    };
    let messages = [
        header(record::LANDLOCK_ACCESS, bytes),
        header(record::LANDLOCK_DOMAIN, bytes),
        header(record::LANDLOCK_DOMAIN, made),
        header(record::LANDLOCK_ACCESS, &refused),
        bytes.to_vec(),
    ];
    for message in messages {
        ledger.take(&message, 7).into_iter().flatten().for_each(&mut note);
    }
}
