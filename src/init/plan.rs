//! Receiving a plan and carrying out its operations, in order.

use crate::abi::*;
use crate::program::{self, Done, Late, Wanted};
use crate::raw::exit;
use crate::sys::{self, Outcome, Poll, fault};
use crate::tree::{self, Tree, Watched};
use crate::wire::{
    Call, Fault, HEADER, Header, MAGIC, Op, REPORT, Reader, Report, SUPERVISED, Text, VERSION,
    report,
};

/// How often init lets others run before it sleeps. The plan comes after some dozens of
/// microseconds, in which the embedder writes the id maps on another processor: to be woken from
/// sleep would take as long again.
const YIELDS: u32 = 100;

/// The two descriptors that every init has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lines {
    pub(crate) control: i32,
    pub(crate) embedder: i32,
}

impl Lines {
    pub(crate) fn new([control, embedder, _]: [i32; 3]) -> Self {
        Lines { control, embedder }
    }

    /// Waits until the control socket has something to say; `false` when the embedder is gone.
    pub(crate) fn wait(self) -> bool {
        self.wait_patiently(YIELDS)
    }

    /// The same, for what takes longer.
    pub(crate) fn sleep(self) -> bool {
        self.wait_patiently(0)
    }

    fn wait_patiently(self, mut patience: u32) -> bool {
        loop {
            let mut set = [Poll::new(self.control), Poll::new(self.embedder)];
            let timeout = if patience > 0 { 0 } else { sys::FOREVER };
            if sys::poll(&mut set, timeout) == 0 {
                patience = patience.saturating_sub(1);
                sys::yield_now();
                continue;
            }
            if set[0].revents & POLLIN != 0 && set[1].revents == 0 {
                return true;
            }
            if set[0].revents != 0 || set[1].revents != 0 {
                return false;
            }
        }
    }

    /// Says that the sandbox failed, and ends it.
    pub(crate) fn fail(self, index: u64, fault: Fault, detail: u64, fds: &[i32]) -> ! {
        self.fail_with(index, [fault.call as u64, fault.errno.0 as u64, detail], fds)
    }

    /// The same; the call, its errno and the detail as numbers.
    pub(crate) fn fail_with(self, index: u64, why: [u64; 3], fds: &[i32]) -> ! {
        let mut report = Report::new(report::FAILED);
        report.numbers[0] = index;
        report.numbers[1..4].copy_from_slice(&why);
        self.end_with(sys::bytes_of(&report), fds)
    }

    /// Says this last.
    pub(crate) fn end_with(self, report: &[u8; REPORT], fds: &[i32]) -> ! {
        // If nobody listens any more there is nobody left to tell.
        let _told = sys::insist(self.control, report, fds);
        exit(1)
    }
}

/// The mode of a sandbox's PID 1. A copy of a template has descriptors of that one's: the host's /proc.
pub(crate) fn run(lines: Lines, copied: Option<i32>) -> ! {
    become_free(lines);
    // Modes are given in full; this call cannot fail.
    let _callers = sys::umask(0);
    let (header, setup, wanted) = match receive(lines) {
        Ok(plan) => plan,
        Err(fault) => lines.fail(report::LAUNCH, fault, 0, &[]),
    };
    let proc_fd = copied.unwrap_or(header.proc_fd);
    #[cfg(session)]
    if let Err(fault) = copied.map_or(Ok(()), |_| crate::session::take_descriptors(lines, wanted)) {
        lines.fail(report::LAUNCH, fault, 0, &[]);
    }
    let supervised = wanted.flags & SUPERVISED != 0;
    let (mut skipped, mut late, mut process) = (0, None, None);
    let mut watched = Watched::NONE;
    let mut tree = Tree::new(proc_fd, Some(&mut watched));
    let (mut index, mut operations) = (0, Reader::new(setup));
    while !operations.is_empty() {
        let result = match operations.next() {
            Some(Op::Start {}) => program::launch(lines, proc_fd, wanted).map(|started| {
                process = Some(started);
            }),
            Some(Op::JoinNetwork {}) => {
                let maker = process.as_ref();
                maker.map_or(fault(Call::Plan, EPROTO), |process| process.join_network(lines))
            }
            Some(Op::Await {}) => {
                // What needs no ids is done meanwhile; a copy has the template's.
                let signals = copied.map_or_else(sys::default_signals, |_| Ok(()));
                signals.and_then(|()| next(lines, &mut [0], &mut []).map(drop))
            }
            Some(Op::NoNesting { optional }) if supervised => {
                late = Some(Late { index, optional });
                Ok(())
            }
            Some(Op::Keep { path }) => tree
                .keep(path)
                .and_then(|kept| sys::tell(lines.control, report::KEPT, [index, 0], &[kept.0])),
            Some(operation) => execute(&mut tree, &operation, &mut skipped),
            None => fault(Call::Plan, EPROTO),
        };
        if let Err(fault) = result {
            lines.fail(index, fault, 0, &[]);
        }
        index += 1;
    }
    let root = tree.into_root();
    // The operations hold paths of the host.
    sys::unmap(setup);
    #[cfg_attr(not(session), allow(unused_mut, reason = "only a session's init changes it"))]
    let mut done = Done { skipped, late, root, watched: &watched, rules: None };
    #[cfg(session)]
    if wanted.flags & crate::wire::TEMPLATE != 0 {
        crate::template::serve(lines, proc_fd, &done).end(lines);
    }
    #[cfg(session)]
    if wanted.flags & crate::wire::PARKED != 0 {
        crate::session::park(lines, proc_fd, wanted, process, &mut done).end(lines);
    }
    if let Err(failure) = program::start(lines, proc_fd, wanted, process, &done) {
        failure.end(lines);
    }
    exit(0)
}

/// Takes a name, and leaves what the caller is bound by: against the limit of open files count the
/// descriptors that are on their way, of all of the user's processes.
#[inline(never)]
pub(crate) fn become_free(lines: Lines) {
    let _cosmetic = sys::set_name(b"stockade-init\0\0\0");
    if let Err(fault) = sys::raise_limits().and_then(|()| sys::become_ordinary()) {
        lines.fail(report::LAUNCH, fault, 0, &[]);
    }
}

/// A plan's header, its operations, and the program.
type Plan = (Header, &'static mut [u8], &'static Wanted<'static>);

/// Reads a plan into memory of its own.
pub(crate) fn receive(lines: Lines) -> Outcome<Plan> {
    let mut bytes = [0; HEADER];
    next(lines, &mut bytes, &mut [])?;
    receive_rest(lines, read_header(&bytes)?)
}

pub(crate) fn read_header(bytes: &[u8; HEADER]) -> Outcome<Header> {
    match Reader::new(bytes).next::<Header>() {
        Some(header) if header.magic == MAGIC && header.version == VERSION => Ok(header),
        _ => fault(Call::Plan, EPROTO),
    }
}

/// What comes after a header.
pub(crate) fn receive_rest(lines: Lines, header: Header) -> Outcome<Plan> {
    let setup = sys::map((header.setup as usize).max(1))?;
    let program = sys::map(header.program as usize)?;
    let (mut got, total) = (0, (header.setup + header.program) as usize);
    while got < total {
        let in_setup = got.min(header.setup as usize);
        let first = setup.get_mut(in_setup..header.setup as usize).unwrap_or(&mut []);
        let second = program.get_mut(got - in_setup..).unwrap_or(&mut []);
        got += next(lines, first, second)?;
    }
    let setup_length = header.setup as usize;
    Ok((header, shorten(setup, setup_length), read_program(program)?))
}

pub(crate) fn read_program(bytes: &'static [u8]) -> Outcome<&'static Wanted<'static>> {
    match Reader::new(bytes).next::<Wanted<'_>>() {
        Some(wanted) => sys::keep(wanted),
        None => fault(Call::Plan, EPROTO),
    }
}

/// A mapping of one byte stands for an empty one, which the kernel does not make.
fn shorten(memory: &'static mut [u8], length: usize) -> &'static mut [u8] {
    if length == 0 { &mut [] } else { memory }
}

/// One message; if there is nobody any more to send it, the sandbox ends here.
fn next(lines: Lines, first: &mut [u8], second: &mut [u8]) -> Outcome<usize> {
    if !lines.wait() {
        exit(1);
    }
    match sys::receive(lines.control, first, second, 0)? {
        (0, _) => exit(1),
        (length, _) => Ok(length),
    }
}

/// Carries out one operation; an optional one that fails sets its bit in `skipped`.
#[inline(never)]
pub(crate) fn execute<'a>(
    tree: &mut Tree<'a>,
    operation: &Op<Text<'a>>,
    skipped: &mut u64,
) -> Outcome {
    let (result, optional) = match *operation {
        // These are about other processes, and with those who know them.
        Op::Start {} | Op::Await {} | Op::NewNetwork {} | Op::JoinNetwork {} | Op::Keep { .. } => {
            (fault(Call::Plan, EPROTO), 0)
        }
        Op::Enter {} => (tree.enter(), 0),
        Op::EnterTime { optional } => (tree.enter_time(), optional),
        Op::NoNesting { optional } => (tree.forbid_nesting(), optional),
        Op::InotifyLimits {} => (tree.limit_inotify(), 0),
        Op::WriteFile { path, data, optional } => (tree.write(path, data.bytes()), optional),
        Op::Keyring { optional } => (sys::new_session_keyring(), optional),
        Op::Unshare { flags, optional } => (sys::unshare(flags as usize).map(drop), optional),
        Op::Groups { optional } => (sys::drop_groups(), optional),
        Op::Credentials { uid, gid } => (credentials(uid, gid), 0),
        Op::Private {} => {
            let flags = MS_REC | MS_PRIVATE;
            (sys::mount(Call::MountPrivate, Text::new(b"/\0"), None, flags, None), 0)
        }
        Op::Loopback {} => (sys::loopback_up(), 0),
        Op::Hostname { name } => (sys::sethostname(name.bytes()), 0),
        Op::Domainname { name } => (sys::setdomainname(name.bytes()), 0),
        Op::RootTmpfs { size, inodes } => (tree.root_tmpfs(size, inodes), 0),
        Op::RootDirectory { from, fd, attributes } => {
            (tree.root_directory(from, fd, attributes), 0)
        }
        #[cfg(session)]
        Op::Directory { path, mode } if mode & crate::wire::VACANT != 0 => (tree.vacant(path), 0),
        Op::Directory { path, mode } => (tree.directory(path, mode), 0),
        Op::File { path, mode, data } => (tree.file(path, mode, data), 0),
        Op::Symlink { path, target } => (tree.symlink(path, target), 0),
        Op::Owner { path, uid, gid } => (tree.owner(path, uid, gid), 0),
        Op::Bind { from, fd, to, flags, attributes } => {
            (tree.bind(from, fd, to, flags, attributes), 0)
        }
        Op::Again { path, attributes } => (tree.again(path, attributes), 0),
        Op::Mount { kind, to, flags, options } => (tree.mount(kind, to, flags, options), 0),
        Op::Mask { path } => (tree.mask(path), 0),
        #[cfg(session)]
        Op::Pivot { attributes } if attributes & crate::wire::HOLD != 0 => {
            (tree.hold(attributes & !crate::wire::HOLD), 0)
        }
        Op::Pivot { attributes } => (tree.pivot(attributes), 0),
        Op::Hide {} => (tree::hide(), 0),
        Op::SameIds { uid, gid } => (tree.same_ids(uid, gid), 0),
    };
    if optional != 0 && result.is_err() {
        *skipped |= 1 << (optional - 1);
        return Ok(());
    }
    result
}

/// Takes ids. Capabilities stay: in the sandbox until the program's own are set.
pub(crate) fn credentials(uid: u32, gid: u32) -> Outcome {
    // SECBIT_NO_SETUID_FIXUP
    sys::prctl(Call::Securebits, PR_SET_SECUREBITS, 4, 0)?;
    sys::setresgid(gid, gid, gid)?;
    sys::setresuid(uid, uid, uid).map(drop)
}
