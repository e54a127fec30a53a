//! Programs that do on v2 what files of a controller do on v1;
//! [bpf(2)](https://man7.org/linux/man-pages/man2/bpf.2.html),
//! [instruction-set.rst](https://docs.kernel.org/bpf/standardization/instruction-set.html).

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;

use super::devices::Ruling;
use super::{Controller, DeviceKind};
use crate::error::{Error, Result, Stage};
use crate::sys;

/// One instruction as the kernel takes it.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Instruction {
    operation: u8,
    /// The target in the lower half, the source in the upper one.
    registers: u8,
    offset: i16,
    constant: u32,
}

/// The register of a program's result; each begins with its context in [`CONTEXT`].
const RESULT: u8 = 0;
const CONTEXT: u8 = 1;

fn instruction(operation: u8, target: u8, source: u8, offset: i16, constant: u32) -> Instruction {
    Instruction { operation, registers: target | source << 4, offset, constant }
}

/// `target = context[offset]`; this and what follows is about 32 bits.
fn load(target: u8, offset: i16) -> Instruction {
    instruction(0x61, target, CONTEXT, offset, 0)
}

/// `context[offset] = source`
fn store(offset: i16, source: u8) -> Instruction {
    instruction(0x63, CONTEXT, source, offset, 0)
}

/// `target = constant`
fn set(target: u8, constant: u32) -> Instruction {
    instruction(0xb4, target, 0, 0, constant)
}

/// `target = source`
fn copy(target: u8, source: u8) -> Instruction {
    instruction(0xbc, target, source, 0, 0)
}

/// `target &= constant`
fn and(target: u8, constant: u32) -> Instruction {
    instruction(0x54, target, 0, 0, constant)
}

/// `target >>= constant`
fn shift_right(target: u8, constant: u32) -> Instruction {
    instruction(0x74, target, 0, 0, constant)
}

/// `if register != constant { skip so many }` (Linux 5.1)
fn skip_unless(register: u8, constant: u32, so_many: i16) -> Instruction {
    instruction(0x56, register, 0, so_many, constant)
}

/// `if register & constant != 0 { skip so many }` (Linux 5.1)
fn skip_if_any(register: u8, constant: u32, so_many: i16) -> Instruction {
    instruction(0x46, register, 0, so_many, constant)
}

/// How many instructions to skip. There are never too many, as rules are few.
fn distance(instructions: usize) -> i16 {
    i16::try_from(instructions).unwrap_or(i16::MAX)
}

/// `return`
fn exit() -> Instruction {
    instruction(0x95, 0, 0, 0, 0)
}

/// `return result`
fn give(result: u32) -> [Instruction; 2] {
    [set(RESULT, result), exit()]
}

/// `*map += 1`, atomically and in 64 bits; the map's descriptor is the first constant. Overwrites
/// the context (Linux 5.2).
fn count() -> [Instruction; 4] {
    [
        instruction(0x18, CONTEXT, 2, 0, 0),
        instruction(0, 0, 0, 0, 0),
        set(2, 1),
        instruction(0xdb, CONTEXT, 2, 0, 0),
    ]
}

/// Where in the kernel a program of a group is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hook {
    /// A device file is opened or made: `struct bpf_cgroup_dev_ctx`.
    Device,
    /// An IPv4 or IPv6 socket is made: `struct bpf_sock`.
    Socket,
    /// Such a socket sends a packet, whose interface is known: `struct __sk_buff`.
    Packet,
}

impl Hook {
    /// `BPF_PROG_TYPE_…`, and the place to attach it to, `BPF_CGROUP_…`.
    fn numbers(self) -> (u32, u32) {
        match self {
            Hook::Packet => (8, 1),
            Hook::Socket => (9, 2),
            Hook::Device => (15, 6),
        }
    }
}

/// A program to attach to a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Program {
    controller: Controller,
    hook: Hook,
    code: Vec<Instruction>,
    /// Which instruction takes the descriptor of the counter's map.
    counter: Option<usize>,
}

impl Program {
    /// Denies all devices but those that are allowed, and counts how often; the last rule counts. As on
    /// v1, all that is asked for at once has to be allowed by one rule.
    pub(crate) fn devices(rulings: &[Ruling]) -> Self {
        const KIND: u8 = 2;
        const ASKED: u8 = 3;
        const NUMBER: u8 = 4;
        const BEYOND: u8 = 5;
        let mut code = vec![load(ASKED, 0), copy(KIND, ASKED), and(KIND, 0xffff)];
        code.push(shift_right(ASKED, 16));
        // The last is asked first.
        let mut behind: Vec<Instruction> = Vec::new();
        for Ruling { allow, kind, major, minor, access } in rulings {
            let mut rule = if *allow {
                let rest = [copy(BEYOND, ASKED), and(BEYOND, !access), skip_unless(BEYOND, 0, 2)];
                rest.into_iter().chain(give(1)).collect()
            } else {
                vec![skip_if_any(ASKED, *access, distance(behind.len()))]
            };
            // Loaded each time: what the kernel's verifier knows of a number, it takes along to all rules behind.
            for (offset, number) in [(8, minor), (4, major)] {
                if let Some(number) = number {
                    let test = skip_unless(NUMBER, *number, distance(rule.len()));
                    rule.splice(..0, [load(NUMBER, offset), test]);
                }
            }
            let kind = if *kind == DeviceKind::Block { 1 } else { 2 };
            rule.insert(0, skip_unless(KIND, kind, distance(rule.len())));
            rule.append(&mut behind);
            behind = rule;
        }
        code.extend(behind);
        let counter = Some(code.len());
        code.extend(count());
        code.extend(give(0));
        Program { controller: Controller::Devices, hook: Hook::Device, code, counter }
    }

    /// Gives each new socket this mark (`SO_MARK`).
    pub(crate) fn mark(mark: u32) -> Self {
        let mut code = vec![set(2, mark), store(16, 2)];
        code.extend(give(1));
        Program { controller: Controller::NetCls, hook: Hook::Socket, code, counter: None }
    }

    /// Gives each packet the priority of the interface that it leaves by, named by its index.
    pub(crate) fn priorities(interfaces: &[(u32, u32)]) -> Self {
        const INTERFACE: u8 = 2;
        const PRIORITY: u8 = 3;
        let mut code = vec![load(INTERFACE, 40)];
        for &(index, priority) in interfaces {
            code.extend([skip_unless(INTERFACE, index, 2), set(PRIORITY, priority)]);
            code.push(store(32, PRIORITY));
        }
        code.extend(give(1));
        Program { controller: Controller::NetPrio, hook: Hook::Packet, code, counter: None }
    }

    /// Attaches it to a group of a v2 hierarchy for as long as that exists, in place of what was
    /// there of the same kind. The programs of the groups above stay in force.
    pub(crate) fn attach(
        &self,
        group: BorrowedFd<'_>,
        attached: &mut Option<Attached>,
    ) -> Result<()> {
        let (kind, place) = self.hook.numbers();
        let mut code = self.code.clone();
        let mut made = None;
        if let Some(at) = self.counter {
            let counter = match attached.as_ref().and_then(|before| before.counter.as_ref()) {
                Some(counter) => counter,
                None => {
                    let map = sys::bpf_counter();
                    let map = map.map_err(|errno| self.refused("BPF_MAP_CREATE", errno))?;
                    &*made.insert(map)
                }
            };
            // An open descriptor is no negative number.
            code[at].constant = counter.as_raw_fd().unsigned_abs();
        }
        let program = sys::bpf_load(kind, place, &code);
        let program = program.map_err(|errno| self.refused("BPF_PROG_LOAD", errno))?;
        let instead_of = attached.as_ref().map(|before| before.program.as_fd());
        sys::bpf_attach(program.as_fd(), place, group, instead_of)
            .map_err(|errno| self.refused("BPF_PROG_ATTACH", errno))?;
        let counter = made.or(attached.take().and_then(|before| before.counter));
        *attached = Some(Attached { program, counter });
        Ok(())
    }

    fn refused(&self, operation: &'static str, errno: Errno) -> Error {
        let Some((reason, remedy)) = blame(operation, errno) else {
            return Error::new(Stage::Cgroup, operation, self.controller.to_string(), errno);
        };
        let semicolon = if remedy.is_empty() { "" } else { "; " };
        let reason = format!("{reason}{semicolon}{remedy}");
        Error::Unsupported { feature: self.controller.feature(), reason }
    }
}

/// Why the kernel does not do it, and what to do about that, where it is known.
fn blame(operation: &str, errno: Errno) -> Option<(&'static str, &'static str)> {
    match (operation, errno) {
        ("BPF_PROG_ATTACH", Errno::EPERM) => {
            Some(("a BPF program of a group above allows no other below it", ""))
        }
        (_, Errno::EPERM | Errno::EACCES) => Some((
            "on cgroup v2 a BPF program does it, which needs CAP_BPF and CAP_NET_ADMIN in the \
             initial user namespace (CAP_SYS_ADMIN before Linux 5.8, and room below \
             RLIMIT_MEMLOCK before 5.11)",
            "run as root, or mount the controller on v1",
        )),
        ("BPF_PROG_LOAD", Errno::E2BIG) => Some((
            "the kernel takes no program as long (4,096 instructions before Linux 5.2, up to 10 a rule)",
            "use fewer rules",
        )),
        (_, Errno::ENOSYS) => Some(("the kernel has no bpf(2) (CONFIG_BPF_SYSCALL)", "")),
        (_, Errno::EINVAL) => Some((
            "the kernel has no BPF programs of groups (CONFIG_CGROUP_BPF), or is older than Linux 5.2",
            "",
        )),
        _ => None,
    }
}

/// Why the caller cannot have such programs, and what to do about that, if it cannot; one is loaded to
/// find out, and attached to nothing.
pub(crate) fn why_not(controller: Controller) -> Option<(String, Option<String>)> {
    let program = match controller {
        Controller::Devices => Program::devices(&[]),
        Controller::NetCls => Program::mark(0),
        _ => Program::priorities(&[]),
    };
    let (kind, place) = program.hook.numbers();
    // With its counter it does not load before there is one.
    let code = if program.counter.is_some() { give(1).to_vec() } else { program.code };
    let errno = sys::bpf_load(kind, place, &code).err()?;
    let Some((reason, remedy)) = blame("BPF_PROG_LOAD", errno) else {
        return Some((format!("BPF_PROG_LOAD: {}", std::io::Error::from(errno)), None));
    };
    Some((reason.to_owned(), (!remedy.is_empty()).then(|| remedy.to_owned())))
}

/// A program that is attached to a group.
#[derive(Debug)]
pub(crate) struct Attached {
    program: OwnedFd,
    counter: Option<OwnedFd>,
}

impl Attached {
    /// How often it has refused something, if it counts that.
    pub(crate) fn refusals(&self) -> Option<u64> {
        sys::bpf_count(self.counter.as_ref()?.as_fd()).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Instruction, Program};
    use crate::cgroup::devices::ACCESS;
    use crate::cgroup::{CgroupVersion, DeviceKind, DeviceRule, Devices};

    /// The bytes that the kernel reads.
    fn bytes(code: &[Instruction]) -> Vec<u8> {
        let each = code.iter().flat_map(|one| {
            let [low, high] = one.offset.to_le_bytes();
            let [a, b, c, d] = one.constant.to_le_bytes();
            [one.operation, one.registers, low, high, a, b, c, d]
        });
        each.collect()
    }

    /// Runs a program without what it counts; returns its result and its context afterwards.
    fn run(program: &Program, context: &[u32]) -> (u64, Vec<u32>) {
        let mut code = program.code.clone();
        if let Some(at) = program.counter {
            drop(code.drain(at..at + 4));
        }
        let code = bytes(&code);
        let mut memory: Vec<u8> = context.iter().flat_map(|word| word.to_le_bytes()).collect();
        let vm = rbpf::EbpfVmRaw::new(Some(&code)).unwrap();
        let result = vm.execute_program(&mut memory).unwrap();
        let words = memory.chunks(4).map(|word| u32::from_le_bytes(word.try_into().unwrap()));
        (result, words.collect())
    }

    /// What a device program says of an access such as `rw`.
    fn allows(program: &Program, kind: DeviceKind, major: u32, minor: u32, access: &str) -> bool {
        let letters = ACCESS.iter().filter(|(letter, _)| access.contains(*letter));
        let bits = letters.map(|(_, bit)| bit).sum::<u32>();
        let kind = if kind == DeviceKind::Block { 1 } else { 2 };
        let (result, _) = run(program, &[bits << 16 | kind, major, minor]);
        assert!(result < 2, "the kernel knows two answers");
        result == 1
    }

    #[test]
    fn a_device_program() {
        let devices = Devices::none().allow(DeviceRule::char(1, 3).access("rw"));
        let program = devices.program();
        let shown: Vec<String> = bytes(&program.code)
            .chunks(8)
            .map(|one| one.iter().map(|byte| format!("{byte:02x}")).collect())
            .collect();
        let expected = [
            "6113000000000000", // r3 = access and kind
            "bc32000000000000", // r2 = r3
            "54020000ffff0000", // r2 &= 0xffff, the kind
            "7403000010000000", // r3 >>= 16, the access
            "5602090002000000", // a character device, or skip 9
            "6114040000000000", // r4 = major
            "5604070001000000", // major 1, or skip 7
            "6114080000000000", // r4 = minor
            "5604050003000000", // minor 3, or skip 5
            "bc35000000000000", // r5 = r3
            "54050000f9ffffff", // r5 &= !(read | write)
            "5605020000000000", // nothing left, or skip 2
            "b400000001000000", // r0 = 1
            "9500000000000000", // allowed
            "1821000000000000", // r1 = the counter
            "0000000000000000",
            "b402000001000000", // r2 = 1
            "db21000000000000", // *r1 += r2
            "b400000000000000", // r0 = 0
            "9500000000000000", // denied
        ];
        assert_eq!(shown, expected);
        assert_eq!(program.counter, Some(14));
    }

    #[test]
    fn sockets_and_packets_are_marked() {
        assert_eq!(run(&Program::mark(0x10_0001), &[0; 6]), (1, vec![0, 0, 0, 0, 0x10_0001, 0]));
        let program = Program::priorities(&[(1, 7), (u32::MAX, 9)]);
        for (interface, priority) in [(1, 7), (2, 5), (u32::MAX, 9)] {
            let mut packet = [0; 12];
            (packet[8], packet[10]) = (5, interface);
            let (result, after) = run(&program, &packet);
            packet[8] = priority;
            assert_eq!((result, after), (1, packet.to_vec()), "{interface}");
        }
    }

    fn kinds() -> impl Strategy<Value = DeviceKind> {
        prop_oneof![Just(DeviceKind::Char), Just(DeviceKind::Block)]
    }

    /// Few numbers, so that rules are often about the same device.
    fn numbers() -> impl Strategy<Value = u32> {
        prop_oneof![0u32..3, Just(u32::MAX), any::<u32>()]
    }

    fn accesses() -> impl Strategy<Value = String> {
        let all = ["r", "w", "m", "rw", "rm", "wm", "rwm", "mwr"];
        proptest::sample::select(all.to_vec()).prop_map(str::to_owned)
    }

    fn rules() -> impl Strategy<Value = DeviceRule> {
        let number = || proptest::option::of(numbers());
        (kinds(), number(), number(), accesses()).prop_map(|(kind, major, minor, access)| {
            let rule = match kind {
                DeviceKind::Char => DeviceRule::char(major, minor),
                DeviceKind::Block => DeviceRule::block(major, minor),
            };
            rule.access(access)
        })
    }

    /// What v1's group answers after these writes: exceptions from all or from nothing.
    fn v1_allows(
        lines: &[(&str, &str)],
        kind: DeviceKind,
        major: u32,
        minor: u32,
        asked: &str,
    ) -> bool {
        let all = matches!(lines[0], ("devices.allow", "a"));
        assert!(all || matches!(lines[0], ("devices.deny", "a")), "{lines:?}");
        let mut exceptions = lines[1..].iter().filter(|(file, data)| {
            assert_eq!(*file, if all { "devices.deny" } else { "devices.allow" });
            let words: Vec<_> = data.split([' ', ':']).collect();
            let fits = |word: &str, number: u32| word == "*" || word == number.to_string();
            let access = asked.chars().map(|letter| words[3].contains(letter));
            let access: Vec<_> = access.collect();
            words[0] == if kind == DeviceKind::Char { "c" } else { "b" }
                && fits(words[1], major)
                && fits(words[2], minor)
                && if all { access.contains(&true) } else { !access.contains(&false) }
        });
        exceptions.next().is_none() == all
    }

    fn is_about(rule: &DeviceRule, kind: DeviceKind, major: u32, minor: u32) -> bool {
        let wide = |number: Option<u32>, asked: u32| number.is_none_or(|one| one == asked);
        rule.kind == kind && wide(rule.major, major) && wide(rule.minor, minor)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn devices_are_allowed_as_v1_does(
            rules in proptest::collection::vec(rules(), 0..12),
            kind in kinds(), major in numbers(), minor in numbers(), access in accesses(),
        ) {
            // The kernel merges exceptions for the same numbers, and takes one that has it all.
            let fits = rules.iter().filter(|rule| is_about(rule, kind, major, minor)).any(|rule| {
                let same = rules.iter().filter(|other| {
                    (other.kind, other.major, other.minor) == (rule.kind, rule.major, rule.minor)
                });
                let given: String = same.map(|other| other.access.as_str()).collect();
                access.chars().all(|letter| given.contains(letter))
            });
            let devices = rules.into_iter().fold(Devices::none(), Devices::allow);
            prop_assert_eq!(allows(&devices.program(), kind, major, minor, &access), fits);
        }

        #[test]
        fn the_last_rule_of_a_device_counts(
            all in any::<bool>(),
            rules in proptest::collection::vec((any::<bool>(), rules()), 0..12),
            kind in kinds(), major in numbers(), minor in numbers(), access in accesses(),
        ) {
            let every = [DeviceRule::char(None, None), DeviceRule::block(None, None)];
            let every = every.into_iter().filter(|_| all).map(|rule| (true, rule));
            let rules: Vec<_> = every.chain(rules).collect();
            let devices = rules.iter().cloned().fold(Devices::none(), |devices, (allow, rule)| {
                if allow { devices.allow(rule) } else { devices.deny(rule) }
            });
            let allowed = allows(&devices.program(), kind, major, minor, &access);
            let about = || rules.iter().rev().filter(|(_, rule)| is_about(rule, kind, major, minor));
            // Nothing of what was denied last.
            let each = access.chars().all(|letter| {
                let last = about().find(|(_, rule)| rule.access.contains(letter));
                last.is_some_and(|(allow, _)| *allow)
            });
            prop_assert!(each || !allowed);
            // All of what one rule allows, if none denies a part of it later.
            let one = about()
                .take_while(|(allow, rule)| *allow || access.chars().all(|one| !rule.access.contains(one)))
                .any(|(allow, rule)| *allow && access.chars().all(|one| rule.access.contains(one)));
            prop_assert!(allowed || !one);
            // v1, where it can, does the same.
            if let Ok(writes) = devices.writes(CgroupVersion::V1) {
                let lines: Vec<_> = writes.iter().map(|one| (one.file.as_str(), one.data.as_str())).collect();
                prop_assert_eq!(v1_allows(&lines, kind, major, minor, &access), allowed);
            }
        }
    }
}
