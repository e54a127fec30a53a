//! Filter programs: from a table of calls to classic BPF, and what a program answers.
//!
//! A search tree over ranges of numbers finds a call in some eight comparisons. A chain of
//! comparisons, which is what the crate `seccompiler` makes, takes hundreds, and more than one of
//! them if a filter has more than one kind of refusal; the kernel walks it for each call that there
//! is at every installation, and for each call that it cannot cache.

use std::collections::BTreeMap;

use super::rule::{Action, Compare, Condition};

/// `offsetof(seccomp_data, …)`.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const ARGS: u32 = 16;
/// `sizeof(seccomp_data)`.
const DATA: usize = 64;
/// `BPF_MAXINSNS`: instructions of one program.
pub(crate) const LONGEST: usize = 4096;
/// Set in the number of every x32 call.
const X32: u32 = 0x4000_0000;
/// `AUDIT_ARCH_…` of the machine that this is compiled for.
#[cfg(target_arch = "x86_64")]
pub(crate) const NATIVE: u32 = 0xC000_003E;
/// `AUDIT_ARCH_…` of the machine that this is compiled for.
#[cfg(target_arch = "aarch64")]
pub(crate) const NATIVE: u32 = 0xC000_00B7;
/// `AUDIT_ARCH_…` of the machine that this is compiled for.
#[cfg(target_arch = "riscv64")]
pub(crate) const NATIVE: u32 = 0xC000_00F3;

// BPF_LD|BPF_W|BPF_ABS, BPF_ALU|BPF_AND|BPF_K, BPF_JMP|…|BPF_K, BPF_RET|BPF_K
const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const EQUAL: u16 = 0x15;
const GREATER: u16 = 0x25;
const AT_LEAST: u16 = 0x35;
const RETURN: u16 = 0x06;

/// `struct sock_filter`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Insn {
    code: u16,
    jt: u8,
    jf: u8,
    k: u32,
}

const fn insn(code: u16, jt: u8, jf: u8, k: u32) -> Insn {
    Insn { code, jt, jf, k }
}

/// What is decided of one call: the first alternative whose conditions all hold, else `otherwise`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decision {
    pub(crate) alternatives: Vec<(Vec<Condition>, Action)>,
    pub(crate) otherwise: Action,
}

impl From<Action> for Decision {
    fn from(otherwise: Action) -> Self {
        Decision { alternatives: Vec::new(), otherwise }
    }
}

/// What is decided of all calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) calls: BTreeMap<u32, Decision>,
    /// Of numbers that are not among them.
    pub(crate) unknown: Action,
}

impl Table {
    /// The program's bytes. Calls of x32 and of foreign architectures do not exist for it.
    pub(crate) fn assemble(&self) -> Vec<u8> {
        let absent = Action::Errno(libc::ENOSYS.unsigned_abs());
        let ranges = self.ranges(absent);
        let mut program = vec![
            insn(LOAD, 0, 0, ARCH),
            insn(EQUAL, 1, 0, NATIVE),
            insn(RETURN, 0, 0, absent.code()),
            insn(LOAD, 0, 0, NUMBER),
        ];
        program.extend(tree(&ranges));
        program.into_iter().flat_map(to_bytes).collect()
    }

    /// Whether it does this with any call.
    pub(crate) fn has(&self, action: Action) -> bool {
        self.unknown == action
            || self.calls.values().any(|decision| {
                let mut all = decision.alternatives.iter().map(|(_, action)| *action);
                decision.otherwise == action || all.any(|one| one == action)
            })
    }

    /// The same, but for what is done in place of `from`.
    pub(crate) fn replace(mut self, from: Action, to: Action) -> Self {
        let replace = |action: &mut Action| {
            if *action == from {
                *action = to;
            }
        };
        replace(&mut self.unknown);
        for decision in self.calls.values_mut() {
            replace(&mut decision.otherwise);
            decision.alternatives.iter_mut().for_each(|(_, action)| replace(action));
        }
        self
    }

    /// The same, but a listener is asked about what it refuses with an error, and about what it allows of the
    /// calls that are watched; where one is always allowed, not if the argument that it `needs` for that is 0.
    pub(crate) fn asking(
        mut self,
        is_watched: impl Fn(u32) -> bool,
        needs: impl Fn(u32) -> Option<u8>,
    ) -> Self {
        let ask = |action: &mut Action, watched: bool| {
            if matches!(action, Action::Errno(_)) || watched && *action == Action::Allow {
                *action = Action::Notify;
            }
        };
        ask(&mut self.unknown, false);
        for (number, decision) in &mut self.calls {
            let watched = is_watched(*number);
            if let (Some(argument), true) = (needs(*number), *decision == Action::Allow.into()) {
                decision.alternatives = vec![(vec![Condition::equal(argument, 0)], Action::Allow)];
                decision.otherwise = Action::Notify;
                continue;
            }
            ask(&mut decision.otherwise, watched);
            decision.alternatives.iter_mut().for_each(|(_, action)| ask(action, watched));
        }
        self
    }

    /// The numbers from which on each decision holds; neighbours differ.
    fn ranges(&self, absent: Action) -> Vec<(u32, Decision)> {
        let mut ranges: Vec<(u32, Decision)> = Vec::new();
        let mut add = |from: u32, decision: Decision| {
            if ranges.last().is_none_or(|(_, last)| *last != decision) {
                ranges.push((from, decision));
            }
        };
        let mut next = 0;
        for (&number, decision) in &self.calls {
            if next < number {
                add(next, self.unknown.into());
            }
            add(number, decision.clone());
            next = number + 1;
        }
        add(next, self.unknown.into());
        add(X32, absent.into());
        ranges
    }
}

/// Halves the ranges until one is left.
fn tree(ranges: &[(u32, Decision)]) -> Vec<Insn> {
    let (left, right) = match ranges {
        [] => return Vec::new(),
        [(_, decision)] => return leaf(decision),
        _ => ranges.split_at(ranges.len() / 2),
    };
    let (from, below, above) = (right[0].0, tree(left), tree(right));
    let mut program = match u8::try_from(below.len()) {
        Ok(far) => vec![insn(AT_LEAST, far, 0, from)],
        // A conditional jump reaches 255 instructions only.
        Err(_) => {
            let far = u32::try_from(below.len()).unwrap_or(u32::MAX);
            vec![insn(AT_LEAST, 0, 1, from), insn(JUMP, 0, 0, far)]
        }
    };
    program.extend(below);
    program.extend(above);
    program
}

fn leaf(decision: &Decision) -> Vec<Insn> {
    let mut program = Vec::new();
    for (conditions, action) in &decision.alternatives {
        program.extend(alternative(conditions, *action));
    }
    program.push(insn(RETURN, 0, 0, decision.otherwise.code()));
    program
}

/// Where a jump of a condition leads.
#[derive(Debug, Clone, Copy)]
enum To {
    Next,
    /// The condition holds.
    Holds,
    /// It does not: to the next alternative.
    Fails,
}

fn alternative(conditions: &[Condition], action: Action) -> Vec<Insn> {
    let blocks: Vec<_> = conditions.iter().map(condition).collect();
    // The answer comes last.
    let mut left = blocks.iter().map(Vec::len).sum::<usize>() + 1;
    let mut program = Vec::new();
    for block in blocks {
        let mut rest = block.len();
        for (code, k, yes, no) in block {
            (rest, left) = (rest - 1, left - 1);
            let distance = |to: To| match to {
                To::Next => 0,
                To::Holds => u8::try_from(rest).unwrap_or(u8::MAX),
                To::Fails => u8::try_from(left).unwrap_or(u8::MAX),
            };
            program.push(insn(code, distance(yes), distance(no), k));
        }
    }
    program.push(insn(RETURN, 0, 0, action.code()));
    program
}

/// A comparison, half by half as far as it goes.
fn condition(wanted: &Condition) -> Vec<(u16, u32, To, To)> {
    use To::{Fails, Holds, Next};
    let half = |value: u64, high: bool| {
        let shifted = if high { value >> 32 } else { value & u64::from(u32::MAX) };
        u32::try_from(shifted).unwrap_or(u32::MAX)
    };
    let place = ARGS + 8 * u32::from(wanted.argument);
    let (low, high) = (half(wanted.value, false), half(wanted.value, true));
    let (low_place, high_place) = (place, place + 4);
    let load = |place: u32| (LOAD, place, Next, Next);
    let mut block = Vec::new();
    if wanted.whole {
        block.push(load(high_place));
        match wanted.compare {
            Compare::Equal => block.push((EQUAL, high, Next, Fails)),
            Compare::NotEqual => block.push((EQUAL, high, Next, Holds)),
            Compare::Masked(mask) => {
                block.push((AND, half(mask, true), Next, Next));
                block.push((EQUAL, high & half(mask, true), Next, Fails));
            }
            Compare::Greater | Compare::AtLeast => {
                block.push((GREATER, high, Holds, Next));
                block.push((EQUAL, high, Next, Fails));
            }
            Compare::Less | Compare::AtMost => {
                block.push((GREATER, high, Fails, Next));
                block.push((EQUAL, high, Next, Holds));
            }
        }
    }
    block.push(load(low_place));
    match wanted.compare {
        Compare::Equal => block.push((EQUAL, low, Holds, Fails)),
        Compare::NotEqual => block.push((EQUAL, low, Fails, Holds)),
        Compare::Masked(mask) => {
            block.push((AND, half(mask, false), Next, Next));
            block.push((EQUAL, low & half(mask, false), Holds, Fails));
        }
        Compare::Greater => block.push((GREATER, low, Holds, Fails)),
        Compare::AtLeast => block.push((AT_LEAST, low, Holds, Fails)),
        Compare::Less => block.push((AT_LEAST, low, Fails, Holds)),
        Compare::AtMost => block.push((GREATER, low, Fails, Holds)),
    }
    block
}

fn to_bytes(one: Insn) -> [u8; 8] {
    let (code, k) = (one.code.to_ne_bytes(), one.k.to_ne_bytes());
    [code[0], code[1], one.jt, one.jf, k[0], k[1], k[2], k[3]]
}

/// What a program answers to a native call, and how many instructions that took; nothing if the
/// kernel would not take the program, or would not get to an answer.
pub(crate) fn answer(program: &[u8], number: u32, args: [u64; 6]) -> Option<(u32, usize)> {
    let mut data = [0; DATA];
    data[..4].copy_from_slice(&number.to_ne_bytes());
    data[4..8].copy_from_slice(&NATIVE.to_ne_bytes());
    for (place, value) in data[16..].chunks_exact_mut(8).zip(args) {
        place.copy_from_slice(&value.to_ne_bytes());
    }
    run(program, &data)
}

fn run(program: &[u8], data: &[u8; DATA]) -> Option<(u32, usize)> {
    let (mut a, mut x, mut memory) = (0u32, 0u32, [0u32; 16]);
    let (mut at, mut steps) = (0usize, 0);
    loop {
        let one = program.get(at * 8..at * 8 + 8)?;
        let code = u16::from_ne_bytes(one.get(..2)?.try_into().ok()?);
        let (jt, jf) = (one[2], one[3]);
        let k = u32::from_ne_bytes(one.get(4..8)?.try_into().ok()?);
        let place = usize::try_from(k).ok()?;
        (at, steps) = (at + 1, steps + 1);
        let operand = if code & 0x08 == 0 { k } else { x };
        // Bits 0 to 2 are the class; of a jump and of arithmetic, 4 to 7 say which.
        match (code & 0x07, code) {
            (0, LOAD) => a = u32::from_ne_bytes(data.get(place..place + 4)?.try_into().ok()?),
            (0, 0x80) => a = u32::try_from(DATA).ok()?,
            (0, 0x00) => a = k,
            (1, 0x81) => x = u32::try_from(DATA).ok()?,
            (1, 0x01) => x = k,
            (0, 0x60) => a = *memory.get(place)?,
            (1, 0x61) => x = *memory.get(place)?,
            (2, 0x02) => *memory.get_mut(place)? = a,
            (3, 0x03) => *memory.get_mut(place)? = x,
            (4, _) => a = arithmetic(code, a, operand)?,
            (5, JUMP) => at = at.checked_add(place)?,
            (5, _) => {
                let taken = match code & 0xf0 {
                    0x10 => a == operand,
                    0x20 => a > operand,
                    0x30 => a >= operand,
                    0x40 => a & operand != 0,
                    _ => return None,
                };
                at += usize::from(if taken { jt } else { jf });
            }
            (6, RETURN) => return Some((k, steps)),
            (6, 0x16) => return Some((a, steps)),
            (7, 0x07) => x = a,
            (7, 0x87) => a = x,
            _ => return None,
        }
    }
}

fn arithmetic(code: u16, a: u32, operand: u32) -> Option<u32> {
    Some(match code & 0xf0 {
        0x00 => a.wrapping_add(operand),
        0x10 => a.wrapping_sub(operand),
        0x20 => a.wrapping_mul(operand),
        0x30 => a.checked_div(operand).unwrap_or(0),
        0x40 => a | operand,
        0x50 => a & operand,
        0x60 => a.checked_shl(operand)?,
        0x70 => a.checked_shr(operand)?,
        0x80 => a.wrapping_neg(),
        0xa0 => a ^ operand,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn comparing() -> impl Strategy<Value = Compare> {
        prop_oneof![
            Just(Compare::Equal),
            Just(Compare::NotEqual),
            Just(Compare::Less),
            Just(Compare::AtMost),
            Just(Compare::Greater),
            Just(Compare::AtLeast),
            prop_oneof![any::<u64>(), Just(0xff), Just(0xf0_0000_0000)].prop_map(Compare::Masked),
        ]
    }

    /// Values that meet in one half or both.
    fn value() -> impl Strategy<Value = u64> {
        let half = || prop_oneof![0..4u64, Just(u64::from(u32::MAX)), 0x7fff_ffff..0x8000_0001u64];
        (half(), half()).prop_map(|(high, low)| high << 32 | low)
    }

    fn action() -> impl Strategy<Value = Action> {
        prop_oneof![
            Just(Action::Allow),
            Just(Action::Log),
            Just(Action::KillProcess),
            (1..40u32).prop_map(Action::Errno)
        ]
    }

    prop_compose! {
        fn one_condition()(argument in 0..6u8, value in value(), compare in comparing(), whole: bool)
            -> Condition {
            Condition { argument, value, compare, whole }
        }
    }

    prop_compose! {
        fn decision()(
            alternatives in prop::collection::vec(
                (prop::collection::vec(one_condition(), 0..4), action()), 0..4),
            otherwise in action(),
        ) -> Decision {
            Decision { alternatives, otherwise }
        }
    }

    fn holds(condition: &Condition, args: [u64; 6]) -> bool {
        let cut = |value: u64| if condition.whole { value } else { value & u64::from(u32::MAX) };
        let (given, wanted) = (cut(args[usize::from(condition.argument)]), cut(condition.value));
        match condition.compare {
            Compare::Equal => given == wanted,
            Compare::NotEqual => given != wanted,
            Compare::Less => given < wanted,
            Compare::AtMost => given <= wanted,
            Compare::Greater => given > wanted,
            Compare::AtLeast => given >= wanted,
            Compare::Masked(mask) => given & cut(mask) == wanted & cut(mask),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// The program says what the table says.
        #[test]
        fn a_program_decides_as_its_table(
            calls in prop::collection::btree_map(0..600u32, decision(), 0..120),
            unknown in action(),
            numbers in prop::collection::vec(0..700u32, 40),
            args in prop::array::uniform6(value()),
        ) {
            let table = Table { calls, unknown };
            let program = table.assemble();
            for number in numbers.into_iter().chain(table.calls.keys().copied()) {
                let expected = table.calls.get(&number).map_or(unknown, |decision| {
                    let matching = decision.alternatives.iter().find(|(conditions, _)| {
                        conditions.iter().all(|condition| holds(condition, args))
                    });
                    matching.map_or(decision.otherwise, |(_, action)| *action)
                });
                let (given, _) = answer(&program, number, args).unwrap();
                prop_assert_eq!(given, expected.code(), "call {}", number);
            }
            for number in [X32, X32 | 1, u32::MAX] {
                let (given, _) = answer(&program, number, args).unwrap();
                prop_assert_eq!(given, Action::Errno(libc::ENOSYS.unsigned_abs()).code());
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _answer = answer(&bytes, 1, [0; 6]);
        }
    }

    #[test]
    fn the_most_conditions_are_within_reach() {
        let compare = Compare::Masked(u64::MAX);
        let one = |value| Condition { argument: 0, value, compare, whole: true };
        for (last, expected) in [(7, Action::Allow), (8, Action::KillProcess)] {
            let mut conditions = vec![one(7); crate::seccomp::rule::MOST_CONDITIONS];
            *conditions.last_mut().unwrap() = one(last);
            let alternatives = vec![(conditions, Action::Allow)];
            let decision = Decision { alternatives, otherwise: Action::KillProcess };
            let table = Table { calls: BTreeMap::from([(1, decision)]), unknown: Action::Log };
            for (first, expected) in [(7, expected), (9, Action::KillProcess)] {
                let (given, _) = answer(&table.assemble(), 1, [first, 0, 0, 0, 0, 0]).unwrap();
                assert_eq!(given, expected.code());
            }
        }
    }

    #[test]
    fn foreign_architectures_have_no_calls() {
        let program = Table { calls: BTreeMap::new(), unknown: Action::Allow }.assemble();
        let mut data = [0; DATA];
        data[4..8].copy_from_slice(&0x4000_0003u32.to_ne_bytes());
        let refused = Action::Errno(libc::ENOSYS.unsigned_abs()).code();
        assert_eq!(run(&program, &data).unwrap().0, refused);
    }
}
