//! Proof that the floor does the work: a program in it looks around.

use std::io::Read;
use std::os::fd::AsRawFd;
use std::path::Path;

use stockade::{Command, Sandbox, Stdio};

use crate::floor::Floor;

/// Prints its pid, status and mounts, and whether the root takes a file; shell built-ins only.
const LOOK_AROUND: &str =
    "echo pid $$; while read -r line; do echo \"$line\"; done < /proc/1/status
while read -r line; do echo \"mount $line\"; done < /proc/self/mountinfo
if (: > /new) 2>/dev/null; then echo writable; else echo read-only; fi";

/// Ends the bench if a program in the floor is not confined as it should be.
pub(crate) fn floor_is_a_sandbox() {
    let seen = in_floor();
    let has = |line: &str| seen.lines().any(|one| one == line);
    let field = |name: &str, value: &str| {
        let rest = seen.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("(none)");
        assert_eq!(rest.trim(), value, "{name} in the floor");
    };
    assert!(has("pid 1"), "the floor's program is not PID 1:\n{seen}");
    assert!(has("read-only"), "the floor's root can be written to:\n{seen}");
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        field(set, "0000000000000000");
    }
    field("NoNewPrivs:", "1");
    let (floor, ours) = (mounts(&seen), mounts(&in_sandbox()));
    let differ = |one: &[String], other: &[String]| {
        one.iter().filter(|mount| !other.contains(mount)).cloned().collect::<Vec<_>>()
    };
    let (only_floor, only_ours) = (differ(&floor, &ours), differ(&ours, &floor));
    println!("checked: the floor's program is PID 1, has no capability and a read-only root");
    if only_floor.is_empty() && only_ours.is_empty() {
        println!("checked: the floor's {} mounts are those of Sandbox::new()\n", floor.len());
    } else {
        println!(
            "NOTE: mounts differ. Floor only: {only_floor:#?}, sandbox only: {only_ours:#?}\n"
        );
    }
}

fn in_floor() -> String {
    let (reading, writing) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).expect("a pipe");
    let args = ["-c", LOOK_AROUND];
    Floor::new(Path::new("/bin/sh"), &args, &[], Some(writing.as_raw_fd())).run();
    drop(writing);
    let mut text = String::new();
    std::fs::File::from(reading).read_to_string(&mut text).expect("what a shell prints");
    text
}

fn in_sandbox() -> String {
    let command: Command = Sandbox::new().init(false).command("/bin/sh");
    let output = command.args(["-c", LOOK_AROUND]).stdout(Stdio::piped()).output();
    String::from_utf8_lossy(&output.expect("the sandbox works").stdout).into_owned()
}

/// Mount point, options, kind and super block's options of each mount, without numbers.
fn mounts(seen: &str) -> Vec<String> {
    let line = |line: &str| {
        let fields: Vec<&str> = line.strip_prefix("mount ")?.split(' ').collect();
        let dash = fields.iter().position(|&field| field == "-")?;
        let (place, options) = (fields.get(4)?, fields.get(5)?);
        Some(format!("{place} {options} {} {}", fields.get(dash + 1)?, fields.get(dash + 3)?))
    };
    let mut mounts: Vec<_> = seen.lines().filter_map(line).collect();
    mounts.sort();
    mounts
}
