//! `stockade audit`: what a program in a sandbox of the given configuration can find out about the host.

use std::fs::File;
use std::io::Write;

use clap::ArgMatches;
use serde_json::json;
use stockade::{Audit, Severity, Stdio};

use crate::failure::{Failure, SET_UP};
use crate::options;
use crate::{attack, descriptor, sandbox};

/// Something tells more than the kind of machine.
const SHOWS: u8 = 1;

/// Looks, and prints what was found; the exit code is described by `--help`.
pub(crate) fn audit(options: &options::Audit, matches: &ArgMatches) -> Result<u8, Failure> {
    let json = options.json.map(descriptor::of_json).transpose()?;
    let setup = &options.setup;
    let sandbox = sandbox::sandbox(setup, matches)?;
    let size = setup.program.tty.then_some((24, 80));
    let mut command = sandbox::command(&setup.program, sandbox.command("true"), size);
    if size.is_none() {
        // Where the report goes is not what the program would have.
        command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    }
    let audit = command.audit_view()?;
    attack::print(&audit.to_string())?;
    if let Some(json) = json {
        write(&audit, json.into())?;
    }
    Ok(match (audit.above(Severity::Low).next(), &audit.incomplete) {
        (Some(_), _) => SHOWS,
        (None, Some(_)) => SET_UP,
        (None, None) => 0,
    })
}

/// One JSON object, a line.
fn write(audit: &Audit, mut file: File) -> Result<(), Failure> {
    let findings = audit.findings.iter().map(|finding| {
        json!({
            "leak": finding.leak.name(),
            "severity": finding.severity().name(),
            "shown": finding.shown,
            "places": finding.places,
            "closed_by": finding.closed_by,
        })
    });
    let report = json!({
        "findings": serde_json::Value::from_iter(findings),
        "entries": audit.entries,
        "bytes": audit.bytes,
        "incomplete": audit.incomplete,
    });
    let line = format!("{report}\n");
    file.write_all(line.as_bytes()).map_err(|error| Failure::Io("write --json", error))
}
