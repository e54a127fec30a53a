//! System calls by name, on this machine and on others; from the kernel's tables.

use syscalls::Sysno;

/// A name that no machine knows.
#[derive(Debug)]
pub(crate) struct Unknown<'a> {
    pub(crate) name: &'a str,
    /// Names that are written nearly so.
    pub(crate) near: Vec<&'static str>,
}

/// The number of a call; none if other machines have it and this one has not.
pub(crate) fn number(name: &str) -> Result<Option<u32>, Unknown<'_>> {
    if let Ok(call) = name.parse::<Sysno>() {
        return Ok(u32::try_from(call.id()).ok());
    }
    if let Some((number, _)) = NEWER.iter().find(|(_, newer)| *newer == name) {
        return Ok(Some(*number));
    }
    let elsewhere = name.parse::<syscalls::x86::Sysno>().is_ok()
        || name.parse::<syscalls::x86_64::Sysno>().is_ok()
        || name.parse::<syscalls::arm::Sysno>().is_ok()
        || name.parse::<syscalls::aarch64::Sysno>().is_ok()
        || name.parse::<syscalls::riscv64::Sysno>().is_ok()
        || ELSEWHERE.contains(&name);
    if elsewhere { Ok(None) } else { Err(Unknown { name, near: near(name) }) }
}

/// The name of a call of this machine's.
pub(crate) fn name(number: u32) -> Option<&'static str> {
    let found = usize::try_from(number).ok().and_then(Sysno::new);
    let newer = || NEWER.iter().find(|(newer, _)| *newer == number).map(|(_, name)| *name);
    found.map(|call| call.name()).or_else(newer)
}

/// Calls that are newer than the table of the last release that the oldest Rust compiles; since
/// Linux 5.1 their numbers are those of all machines.
const NEWER: &[(u32, &str)] = &[
    #[cfg(target_arch = "x86_64")]
    (335, "uretprobe"),
    #[cfg(target_arch = "x86_64")]
    (336, "uprobe"),
    (462, "mseal"),
    (463, "setxattrat"),
    (464, "getxattrat"),
    (465, "listxattrat"),
    (466, "removexattrat"),
    (467, "open_tree_attr"),
    (468, "file_getattr"),
    (469, "file_setattr"),
];

/// Names of machines whose tables are not compiled in, and of calls that libseccomp gives numbers
/// of its own.
const ELSEWHERE: &[&str] = &[
    "arm_fadvise64_64",
    "arm_sync_file_range",
    "breakpoint",
    "cacheflush",
    "cachectl",
    "get_tls",
    "riscv_flush_icache",
    "riscv_hwprobe",
    "s390_guarded_storage",
    "s390_pci_mmio_read",
    "s390_pci_mmio_write",
    "s390_runtime_instr",
    "s390_sthyi",
    "pciconfig_iobase",
    "pciconfig_read",
    "pciconfig_write",
    "set_tls",
    "spu_create",
    "spu_run",
    "subpage_prot",
    "swapcontext",
    "switch_endian",
    "syscall",
    "sync_file_range2",
    "sysmips",
    "timerfd",
    "uprobe",
    "uretprobe",
    "usr26",
    "usr32",
];

/// All calls of this machine.
pub(crate) fn all() -> impl Iterator<Item = (u32, &'static str)> {
    // By number: the crate's own iterator leaves out the last.
    let table = (0..=Sysno::last().id()).filter_map(|number| {
        let call = Sysno::new(usize::try_from(number).ok()?)?;
        Some((u32::try_from(number).ok()?, call.name()))
    });
    table.chain(NEWER.iter().copied())
}

fn near(name: &str) -> Vec<&'static str> {
    let mut found: Vec<_> = all()
        .map(|(_, known)| (distance(name, known), known))
        .filter(|(distance, _)| *distance <= 2)
        .collect();
    found.sort_unstable();
    found.into_iter().map(|(_, known)| known).take(3).collect()
}

/// How many letters are to be put in, left out or replaced.
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (line, letter) in one.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], line + 1);
        for (column, against) in other.bytes().enumerate() {
            let above = row[column + 1];
            let replaced = diagonal + usize::from(letter != against);
            row[column + 1] = replaced.min(above + 1).min(row[column] + 1);
            diagonal = above;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_the_numbers_of_libc() {
        for (name, expected) in [
            ("read", libc::SYS_read),
            ("clone3", libc::SYS_clone3),
            ("landlock_restrict_self", libc::SYS_landlock_restrict_self),
        ] {
            assert_eq!(number(name).unwrap(), u32::try_from(expected).ok(), "{name}");
        }
    }

    #[test]
    fn newer_calls_are_known_once() {
        assert_eq!(number("file_setattr").unwrap(), Some(469));
        let mut numbers: Vec<_> = all().map(|(number, _)| number).collect();
        let count = numbers.len();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), count);
    }

    #[test]
    fn a_call_of_another_machine_is_not_unknown() {
        assert_eq!(number("chown32").unwrap(), None);
        assert_eq!(number("s390_sthyi").unwrap(), None);
    }

    #[test]
    fn near_names_are_listed() {
        assert_eq!(number("opennat").unwrap_err().near, ["openat", "openat2"]);
        assert!(number("ptrance").unwrap_err().near.contains(&"ptrace"));
        assert!(number("frobnicate_everything").unwrap_err().near.is_empty());
    }
}
