//! The outcome and what was used, as one JSON object.

use std::fs::File;
use std::io::Write;
use std::time::Duration;

use serde_json::{Value, json};
use stockade::{CpuStats, Feature, IoStats, Max, MemoryStats, Outcome, Pressure, Status, Usage};

use crate::failure::{Failure, code_of_outcome};
use crate::values::name_of;

/// What is written for one run.
#[derive(Debug)]
pub(crate) struct Report(Value);

impl Report {
    pub(crate) fn value(self) -> Value {
        self.0
    }

    pub(crate) fn write(&self, mut file: File) -> Result<(), Failure> {
        let line = format!("{}\n", self.0);
        file.write_all(line.as_bytes()).map_err(|error| Failure::Io("write --json", error))
    }
}

/// The program ran.
pub(crate) fn ended(status: &Status, missing: &[Feature]) -> Report {
    let exit_code =
        code_of_outcome(status.outcome).unwrap_or_else(|| Failure::Outcome(status.outcome).code());
    let left = status.left.iter().map(|left| json!({ "pid": left.pid, "name": left.name }));
    let full = status.disk_full.iter().map(|full| {
        json!({ "mount": full.mount.to_string_lossy(), "bytes": full.bytes, "inodes": full.inodes })
    });
    let (outcome, code, signal, core_dumped) = parts(status.outcome);
    Report(json!({
        "outcome": outcome,
        "exit_code": exit_code,
        "code": code,
        "signal": signal,
        "core_dumped": core_dumped,
        "usage": status.usage.as_ref().map(usage),
        "left_count": status.left_count,
        "left": left.collect::<Vec<_>>(),
        "disk_full": full.collect::<Vec<_>>(),
        "missing": missing.iter().copied().map(name_of).collect::<Vec<_>>(),
    }))
}

/// Nothing ran.
pub(crate) fn failed(failure: &Failure) -> Report {
    let Failure::Sandbox(error) = failure else {
        return Report(json!({
            "outcome": "failed",
            "exit_code": failure.code(),
            "error": failure.to_string(),
        }));
    };
    let failed = error.failed();
    Report(json!({
        "outcome": "failed",
        "exit_code": failure.code(),
        "error": error.to_string(),
        "stage": failed.map(|failed| failed.stage.to_string()),
        "operation": failed.map(|failed| failed.operation),
        "object": failed.map(|failed| &failed.object),
        "errno": error.raw_os_error(),
        "hint": error.hint().map(ToString::to_string),
    }))
}

/// Name, exit code, signal and whether there is a core dump.
fn parts(outcome: Outcome) -> (&'static str, Option<i32>, Option<i32>, bool) {
    match outcome {
        Outcome::Exited(code) => ("exited", Some(code), None, false),
        Outcome::Signaled { signal, core_dumped } => ("signaled", None, Some(signal), core_dumped),
        Outcome::TimedOut => ("timed_out", None, None, false),
        Outcome::OutOfMemory { .. } => ("out_of_memory", None, None, false),
        Outcome::CpuTime => ("cpu_time", None, None, false),
        Outcome::SeccompDenied { .. } => ("seccomp_denied", None, None, false),
        Outcome::Killed => ("killed", None, None, false),
        Outcome::InitKilled { signal } => ("init_killed", None, Some(signal), false),
        _ => ("unknown", None, None, false),
    }
}

fn usage(usage: &Usage) -> Value {
    let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    json!({
        "user_us": micros(usage.user),
        "system_us": micros(usage.system),
        "wall_us": micros(usage.wall),
        "peak_rss_of_largest": usage.peak_rss_of_largest,
        "minor_faults": usage.minor_faults,
        "major_faults": usage.major_faults,
        "voluntary_switches": usage.voluntary_switches,
        "involuntary_switches": usage.involuntary_switches,
        "cpu": cpu(&usage.stats.cpu),
        "memory": memory(&usage.stats.memory),
        "pids": {
            "peak": usage.stats.pids.peak,
            "limit_hits": usage.stats.pids.limit_hits,
        },
        "io": usage.stats.io.as_ref().map(|all| all.iter().map(io).collect::<Vec<_>>()),
        "io_pressure": usage.stats.io_pressure.map(pressure),
        "device_refusals": usage.stats.device_refusals,
    })
}

/// What the control groups know of CPU time; null is what they do not.
fn cpu(cpu: &CpuStats) -> Value {
    let micros = |time: Option<Duration>| time.map(|time| u64::try_from(time.as_micros()).ok());
    json!({
        "usage_us": micros(cpu.usage),
        "user_us": micros(cpu.user),
        "system_us": micros(cpu.system),
        "periods": cpu.periods,
        "throttled_periods": cpu.throttled_periods,
        "throttled_us": micros(cpu.throttled),
        "pressure": cpu.pressure.map(pressure),
    })
}

fn memory(memory: &MemoryStats) -> Value {
    let limit = memory.limit.and_then(|limit| match limit {
        Max::At(bytes) => Some(bytes),
        Max::Unlimited => None,
    });
    json!({
        "limit": limit,
        "peak": memory.peak,
        "current": memory.current,
        "anonymous": memory.anonymous,
        "file": memory.file,
        "shared": memory.shared,
        "kernel": memory.kernel,
        "swap": memory.swap,
        "limit_hits": memory.limit_hits,
        "high_hits": memory.high_hits,
        "oom_kills": memory.oom_kills,
        "pressure": memory.pressure.map(pressure),
    })
}

fn pressure(pressure: Pressure) -> Value {
    let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    json!({ "some_us": micros(pressure.some), "full_us": pressure.full.map(micros) })
}

fn io(io: &IoStats) -> Value {
    json!({
        "device": format!("{}:{}", io.device.0, io.device.1),
        "read_bytes": io.read_bytes,
        "write_bytes": io.write_bytes,
        "reads": io.reads,
        "writes": io.writes,
    })
}
