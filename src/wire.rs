//! The format of what the library and the init program say to each other.
//!
//! Compiled into both sides, so that neither can be of another version than it thinks: the first
//! bytes of a plan carry [`VERSION`]. Numbers are in the machine's own byte order, texts carry
//! their length and end in a NUL byte. What init sends is of one fixed size and every number in it
//! is checked: the library treats it as hostile.

use crate::raw::Errno;

/// Begins every plan.
pub(crate) const MAGIC: u32 = 0x5354_4b44;
/// Raised whenever this file changes its meaning.
pub(crate) const VERSION: u32 = 16;
/// The largest message; smaller than the smallest socket buffer that Linux gives by default.
pub(crate) const CHUNK: usize = 64 * 1024;
/// How long the program part may be that comes in one message with its header and descriptors, to an init that waits
/// for programs.
pub(crate) const TOGETHER: usize = 4096;

/// A text as init sees it: the bytes, the last of which is NUL.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Text<'a>(&'a [u8]);

impl<'a> Text<'a> {
    pub(crate) const fn new(with_nul: &'a [u8]) -> Self {
        Text(with_nul)
    }

    /// The bytes without the NUL.
    pub(crate) fn bytes(self) -> &'a [u8] {
        self.0.get(..self.0.len().saturating_sub(1)).unwrap_or(&[])
    }

    /// The text from byte `start` on.
    pub(crate) fn tail(self, start: usize) -> Text<'a> {
        Text(self.0.get(start..).unwrap_or(b"\0"))
    }

    /// The address, for system calls that want a NUL-terminated string.
    pub(crate) fn as_ptr(self) -> *const u8 {
        self.0.as_ptr()
    }
}

/// Texts in a row, each ending in NUL.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Texts<'a> {
    pub(crate) count: u32,
    bytes: &'a [u8],
}

impl<'a> Iterator for Texts<'a> {
    type Item = Text<'a>;

    fn next(&mut self) -> Option<Text<'a>> {
        let nul = self.bytes.iter().position(|&byte| byte == 0)?;
        let (text, rest) = self.bytes.split_at_checked(nul + 1)?;
        self.bytes = rest;
        Some(Text(text))
    }
}

/// Where encoded bytes go: a `Vec<u8>` in the library.
pub(crate) trait Sink {
    fn put(&mut self, bytes: &[u8]);
}

/// A value that can be written.
pub(crate) trait Put {
    fn put(&self, out: &mut impl Sink);
}

/// Bytes that values are read from. Reading past their end, or what is no value, gives zeros and is
/// remembered: looked at once at the end, which is smaller than a look after each of many fields.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    wrong: bool,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Reader { bytes, wrong: false }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The next value; `None` where the bytes are too few or wrong.
    pub(crate) fn next<T: Take<'a>>(&mut self) -> Option<T> {
        let value = T::take(self);
        (!self.wrong).then_some(value)
    }

    #[inline(never)]
    fn split(&mut self, length: usize) -> &'a [u8] {
        let (head, tail) = self.bytes.split_at_checked(length).unwrap_or_else(|| {
            self.wrong = true;
            (&[], &[])
        });
        self.bytes = tail;
        head
    }
}

/// A value that can be read back.
pub(crate) trait Take<'a>: Sized {
    fn take(from: &mut Reader<'a>) -> Self;
}

macro_rules! integer {
    ($($type:ty)*) => {$(
        impl Put for $type {
            fn put(&self, out: &mut impl Sink) {
                out.put(&self.to_ne_bytes());
            }
        }
        impl<'a> Take<'a> for $type {
            // Not inlined: operations are made of many of these, and init must stay small.
            #[inline(never)]
            fn take(from: &mut Reader<'a>) -> Self {
                let bytes = from.split(size_of::<$type>());
                <$type>::from_ne_bytes(bytes.try_into().unwrap_or_default())
            }
        }
    )*};
}
integer!(i32 u32 u64);

impl<'a> Take<'a> for Text<'a> {
    #[inline(never)]
    fn take(from: &mut Reader<'a>) -> Self {
        let length = u32::take(from) as usize;
        let bytes = from.split(length);
        if bytes.last() == Some(&0) {
            return Text(bytes);
        }
        from.wrong = true;
        Text(b"\0")
    }
}

impl<'a> Take<'a> for Texts<'a> {
    fn take(from: &mut Reader<'a>) -> Self {
        let count = u32::take(from);
        let length = u32::take(from) as usize;
        Texts { count, bytes: from.split(length) }
    }
}

/// A struct of fields that are written and read in their order.
macro_rules! record {
    ($(#[$doc:meta])* $name:ident<$($generic:ident),*> { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* }
        take $($reader:ty),*) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub(crate) struct $name<$($generic),*> { $($(#[$field_doc])* pub(crate) $field: $type,)* }

        impl<$($generic: Put),*> Put for $name<$($generic),*> {
            fn put(&self, out: &mut impl Sink) {
                $(self.$field.put(out);)*
            }
        }

        impl<'a> Take<'a> for $name<$($reader),*> {
            fn take(from: &mut Reader<'a>) -> Self {
                $(let $field = Take::take(from);)*
                $name { $($field),* }
            }
        }
    };
}

macro_rules! operations {
    ($($(#[$doc:meta])* $name:ident { $($field:ident: $type:ty),* })*) => {
        /// One step of the set-up, in the order in which init executes them.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub(crate) enum Op<S> {
            $($(#[$doc])* $name { $($field: $type),* },)*
        }

        /// The number of each operation on the wire.
        #[allow(non_camel_case_types, clippy::upper_case_acronyms)]
        #[repr(u32)]
        enum Code { $($name),* }

        impl<S: Put> Put for Op<S> {
            fn put(&self, out: &mut impl Sink) {
                match self {
                    $(Op::$name { $($field),* } => {
                        (Code::$name as u32).put(out);
                        $($field.put(out);)*
                    })*
                }
            }
        }

        impl<'a> Take<'a> for Op<Text<'a>> {
            #[inline(never)]
            fn take(from: &mut Reader<'a>) -> Self {
                let code = u32::take(from);
                $(if code == Code::$name as u32 {
                    return Op::$name { $($field: Take::take(from)),* };
                })*
                from.wrong = true;
                Op::Await {}
            }
        }
    };
}

operations! {
    /// Writes to a file below the host's /proc.
    WriteFile { path: S, data: S, optional: u32 }
    /// Joins a new, empty session keyring.
    Keyring { optional: u32 }
    /// Waits until the library has written the maps and told the warden.
    Await {}
    /// Drops all supplementary groups.
    Groups { optional: u32 }
    /// Takes the ids of the inside.
    Credentials { uid: u32, gid: u32 }
    /// Leaves the given namespaces (cgroup, time) for new ones.
    Unshare { flags: u32, optional: u32 }
    /// Enters the time namespace that its children would have: before Linux 6.2 an exec does not.
    EnterTime { optional: u32 }
    /// Starts the process that sets itself up, with operations of its own, while the rest is done:
    /// the program's, or without a supervisor one that helps init.
    Start {}
    /// Makes a network namespace, and hands it to init.
    NewNetwork {}
    /// Joins the network namespace that the started process has made.
    JoinNetwork {}
    /// Allows no user namespace below this one; where a supervisor stays, it does this while the
    /// program is being started.
    NoNesting { optional: u32 }
    /// Limits what counts for who made the user namespace, on the host as well.
    InotifyLimits {}
    /// Cuts the copy of the host's mount tree off from the host's.
    Private {}
    /// Puts an empty tmpfs where the root will be.
    RootTmpfs { size: u64, inodes: u64 }
    /// Puts a directory of the host where the root will be; `fd` is a detached tree or -1.
    RootDirectory { from: S, fd: i32, attributes: u32 }
    /// Makes a directory, or with [`VACANT`] in `mode` looks that there is an empty one.
    Directory { path: S, mode: u32 }
    /// Makes a regular file with this content.
    File { path: S, mode: u32, data: S }
    /// Makes a symbolic link.
    Symlink { path: S, target: S }
    /// Gives what was just made at `path` to somebody.
    Owner { path: S, uid: u32, gid: u32 }
    /// Attaches a part of the host's tree; `fd` is a detached tree or -1.
    Bind { from: S, fd: i32, to: S, flags: u32, attributes: u32 }
    /// Attaches a part of the new root a second time, at the same place.
    Again { path: S, attributes: u32 }
    /// Goes into the tree's root: options of what is mounted from here on can name what is in it.
    Enter {}
    /// Hands the library a descriptor of what is at `path`; if that is empty, of the mount namespace.
    Keep { path: S }
    /// Mounts a new file system; with [`OWN`] in `flags` mount points are made in it.
    Mount { kind: S, to: S, flags: u32, options: S }
    /// Hides a file or a directory, if it is there.
    Mask { path: S }
    /// Brings up the loopback interface.
    Loopback {}
    /// Sets the host name of the UTS namespace.
    Hostname { name: S }
    /// Sets the NIS domain name of the UTS namespace.
    Domainname { name: S }
    /// Makes the new root the root and detaches the old one; with [`HOLD`] in `attributes` the root is the one
    /// before, which holds the new one below [`HELD`].
    Pivot { attributes: u32 }
    /// Goes into a copy of the tree that is in no namespace, so that no list of mounts has any.
    Hide {}
    /// Maps ids to themselves, in a user namespace that is new.
    SameIds { uid: u32, gid: u32 }
}

/// `Op::Mount`: a file system of this sandbox's own. A flag of mount(2) that the kernel keeps for
/// itself.
pub(crate) const OWN: u32 = 1 << 31;
/// `Op::Directory`: a bit that no mode has.
pub(crate) const VACANT: u32 = 1 << 31;
/// `Op::Pivot`: a bit that is no attribute of a mount.
pub(crate) const HOLD: u32 = 1 << 31;
/// Where what holds a template's tree has it, or in a copy what is [`BESIDE`] that tree.
pub(crate) const HELD: &[u8] = b"/root\0";
/// `Op::RootTmpfs`: a bit that no number of inodes has: it is no root, but attached at [`HELD`].
pub(crate) const BESIDE: u64 = 1 << 63;
/// `Op::RootDirectory`: stands for the number of the tree that a copy of a template has from there.
pub(crate) const OF_TEMPLATE: i32 = -2;
/// `Op::Bind`: with everything mounted below the source.
pub(crate) const BIND_RECURSIVE: u32 = 1;

/// Of the access to files that Landlock knows, what there is to do with a file.
pub(crate) const LANDLOCK_OF_FILES: u64 = 0xc007;

/// `Program::flags`: init stays as PID 1 and starts the program as its child.
pub(crate) const SUPERVISED: u32 = 1;
/// `Program::flags`: exec may gain privileges (no `no_new_privs`).
pub(crate) const NEW_PRIVILEGES: u32 = 2;
/// `Program::flags`: standard input becomes the controlling terminal.
pub(crate) const CONTROLLING_TERMINAL: u32 = 4;
/// `Program::flags`: all but the exec.
pub(crate) const CHECK_ONLY: u32 = 8;
/// `Program::flags`: init is PID 1 of a pid namespace of its own.
pub(crate) const OWN_PIDS: u32 = 16;

/// `Program::flags`: a new terminal of the sandbox's own is the standard streams, and the
/// controlling terminal.
pub(crate) const PTY: u32 = 32;

/// `Program::flags`: the filters refuse what the start needs, so they come last, and it is init
/// that tells why an exec failed.
pub(crate) const FILTERS_LAST: u32 = 64;

/// `Program::flags`: the first filter asks about what it neither allows nor refuses. Init is asked, and
/// kills who did it.
pub(crate) const LISTENS: u32 = 128;
/// `Program::flags`: together with that, it is the library that is asked.
pub(crate) const CALLER_LISTENS: u32 = 256;

/// `Program::flags`: message queues of the ipc namespace may be written.
pub(crate) const QUEUES: u32 = 512;

/// `Program::flags`, moved to the right by [`KILLABLE_SHIFT`]: `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV`, so that
/// no signal but a deadly one comes between a call and the answer.
pub(crate) const KILLABLE: u32 = 1 << 10;
/// See [`KILLABLE`].
pub(crate) const KILLABLE_SHIFT: u32 = 5;

/// `Program::flags`: nothing is started yet: init binds itself by what binds the program, and waits. Of
/// a program that is started later: what init is bound by, it has already, and its descriptors
/// come after it, [`REPORT_FDS`] in a message.
pub(crate) const PARKED: u32 = 1 << 11;
/// `Program::flags`: together with that, one program is all: it comes over init's own socket, and init
/// becomes its supervisor.
pub(crate) const ONCE: u32 = 1 << 12;
/// `Program::flags`: there is none: init is a template, of which copies become the inits of sandboxes.
pub(crate) const TEMPLATE: u32 = 1 << 13;

/// The number in init of the first descriptor of a program that is started later; the others follow. Init's own
/// are below: some, and one for each writable file system in memory.
pub(crate) const HANDED: i32 = 320;
const _: () = assert!(TREE as usize >= WATCHED_MAX + 63);
/// That of the tree that a copy of a template gets.
pub(crate) const TREE: i32 = HANDED - 1;
/// How many numbers that makes with the most descriptors that a program can have.
pub(crate) const NUMBERS_OF_SESSION: u64 = HANDED as u64 + DESCRIPTORS_MAX as u64 + 1;

/// How long an exec may take, in nanoseconds, however short the wall time: on a busy machine, or from a slow file system.
pub(crate) const EXEC: u64 = 10_000_000_000;

/// The name of a process that is about to become the program without a supervisor. An exec changes it,
/// and to one without a slash.
pub(crate) const BEFORE_EXEC: &[u8; 16] = b"stockade/exec\0\0\0";

/// The most descriptors that a program can be given.
pub(crate) const DESCRIPTORS_MAX: usize = 256;

record! {
    /// What is started, and how, once the set-up is done.
    Program<S, L> {
        flags: u32,
        /// The number of the first operation of its own.
        first: u64,
        /// Operations that the program's process carries out, before it gives up its privileges.
        operations: S,
        umask: u32,
        nice: i32,
        securebits: u32,
        bounding: u64,
        permitted: u64,
        effective: u64,
        inheritable: u64,
        ambient: u64,
        /// Nanoseconds until the end; 0 for no limit.
        wall: u64,
        /// Nanoseconds between SIGTERM and SIGKILL.
        grace: u64,
        /// Nanoseconds that what the program left may go on.
        linger: u64,
        /// Nanoseconds of CPU time that all may use together; 0 for no limit.
        cpu_time: u64,
        /// How many nanoseconds of it can pass in one.
        cpus: u32,
        /// A file that begins with what was used: in nanoseconds, or in microseconds after a name.
        cpu_fd: i32,
        /// How many descriptors come after this, to be numbered from [`HANDED`] on.
        handed: u32,
        directory: S,
        /// 16 pairs of u64, soft and hard, in the kernel's order.
        rlimits: S,
        /// Pairs of i32: a descriptor of init's and its number in the program.
        descriptors: S,
        /// `sock_filter` arrays, in the order of their installation; empty ones are not installed.
        filter: S,
        second_filter: S,
        /// What is refused where no rule allows it: access to files, ports, and the outside's sockets
        /// and processes; `LANDLOCK_…`. All 0 for no ruleset.
        ruleset: S,
        /// `LANDLOCK_RESTRICT_SELF_…`.
        ruleset_flags: u32,
        /// Pairs of the access that is allowed, and the path beneath which it is.
        places: S,
        /// Other rules: each in 8 bytes its kind, and in 16 the kernel's struct of that.
        rules: S,
        /// The paths to try, in order.
        candidates: L,
        argv: L,
        envp: L,
    } take Text<'a>, Texts<'a>
}

record! {
    /// Precedes the two parts of a plan.
    Header<> {
        magic: u32,
        version: u32,
        /// Bytes of the operations.
        setup: u64,
        /// Bytes of the [`Program`].
        program: u64,
        /// Descriptor of the host's /proc directory, or -1.
        proc_fd: i32,
    } take
}

/// The size of an encoded [`Header`].
pub(crate) const HEADER: usize = 4 + 4 + 8 + 8 + 4;

/// What init is started as: the first argument on its command line.
pub(crate) mod mode {
    /// PID 1 of a sandbox: control socket, pidfd of the embedder.
    pub(crate) const INIT: u8 = b'i';
    /// Joins namespaces first, then makes a PID 1: the same descriptors.
    pub(crate) const JOIN: u8 = b'j';
    /// The warden: registration socket, bell, pidfd of the embedder.
    pub(crate) const WARDEN: u8 = b'w';
    /// The probe of an audit: where it tells what it can read.
    pub(crate) const PROBE: u8 = b'p';
}

/// The most namespaces that one sandbox can join.
pub(crate) const JOIN_MAX: usize = 8;

/// What the join mode is told, in one message: pairs of a descriptor and its `CLONE_NEW…` flag
/// (0 after the last), then the flags of the clone that follows, with `CLONE_PARENT` or reaped by who joins, and the id that makes it, so that the
/// new user namespace is that id's and not the caller's (`u32::MAX` if it is to be the caller's).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Join {
    pub(crate) namespaces: [(i32, u32); JOIN_MAX],
    pub(crate) flags: u64,
    pub(crate) owner: u32,
}

impl Put for Join {
    fn put(&self, out: &mut impl Sink) {
        for (fd, kind) in self.namespaces {
            fd.put(out);
            kind.put(out);
        }
        self.flags.put(out);
        self.owner.put(out);
    }
}

impl<'a> Take<'a> for Join {
    fn take(from: &mut Reader<'a>) -> Self {
        let namespaces = core::array::from_fn(|_| (i32::take(from), u32::take(from)));
        Join { namespaces, flags: u64::take(from), owner: u32::take(from) }
    }
}

/// The size of an encoded [`Join`].
pub(crate) const JOIN: usize = JOIN_MAX * 8 + 12;

/// A message to the warden: what happened, which sandbox, and its deadline on `CLOCK_MONOTONIC` in
/// nanoseconds (0 for none). `WARDEN_ADD` comes with the sandbox's pidfd.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) what: u64,
    pub(crate) id: u64,
    pub(crate) deadline: u64,
}

/// [`Entry::what`]: watch over this sandbox.
pub(crate) const WARDEN_ADD: u64 = 1;
/// [`Entry::what`]: let this sandbox outlive the embedder.
pub(crate) const WARDEN_DETACH: u64 = 2;
/// [`Entry::what`]: watch over this sandbox, whose end is not that of all its processes: its init
/// needs a moment to end them.
pub(crate) const WARDEN_ADD_SHARED: u64 = 3;
/// [`Entry::what`]: end this sandbox at that time, or not by time if it is 0.
pub(crate) const WARDEN_LIMIT: u64 = 4;
/// [`Entry::what`]: comes with a directory; what is in it and has a name that begins with the text
/// that follows is to be removed when the embedder is dead.
pub(crate) const WARDEN_PLACE: u64 = 5;
/// The length of that text.
pub(crate) const PREFIX: usize = 26;
/// The size of an encoded [`Entry`].
pub(crate) const ENTRY: usize = 24;

impl Put for Entry {
    fn put(&self, out: &mut impl Sink) {
        self.what.put(out);
        self.id.put(out);
        self.deadline.put(out);
    }
}

impl<'a> Take<'a> for Entry {
    fn take(from: &mut Reader<'a>) -> Self {
        Entry { what: u64::take(from), id: u64::take(from), deadline: u64::take(from) }
    }
}

macro_rules! calls {
    ($($name:ident $text:literal;)*) => {
        /// What failed: a system call, or a check of init's own.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u32)]
        pub(crate) enum Call { $($name),* }

        impl Call {
            const ALL: &'static [(Call, &'static str)] = &[$((Call::$name, $text)),*];

            /// The call with this number on the wire.
            pub(crate) fn from_number(number: u64) -> Option<Self> {
                Call::ALL.get(usize::try_from(number).ok()?).map(|entry| entry.0)
            }

            /// The name that an error shows.
            pub(crate) fn name(self) -> &'static str {
                Call::ALL.get(self as usize).map_or("?", |entry| entry.1)
            }
        }
    };
}

calls! {
    Plan "read plan";
    Memory "mmap";
    Clone "clone";
    Open "open";
    Read "read";
    Write "write";
    Stat "stat";
    Capabilities "capset";
    Bounding "drop from bounding set";
    Ambient "raise ambient capability";
    Securebits "set securebits";
    Dumpable "set undumpable";
    NoNewPrivileges "set no_new_privs";
    Filter "install system call filter";
    Descriptor "duplicate descriptor";
    CloseRange "close_range";
    Exec "exec";
    Groups "setgroups";
    Gid "setresgid";
    Uid "setresuid";
    Unshare "unshare";
    Setns "setns";
    Keyring "join new session keyring";
    MountPrivate "make mount tree private";
    Fsopen "fsopen";
    Fsconfig "fsconfig";
    Fsmount "fsmount";
    OpenTree "open_tree";
    MoveMount "move_mount";
    MountSetattr "mount_setattr";
    Mount "mount";
    Remount "remount";
    Pivot "pivot_root";
    Umount "unmount old root";
    Resolve "resolve target";
    MountPoint "create mount point";
    Mkdir "create directory";
    Create "create file";
    Symlink "create symlink";
    Owner "change owner";
    Chdir "change directory";
    NullDevice "verify /dev/null";
    Hostname "sethostname";
    Domainname "setdomainname";
    Loopback "bring up loopback";
    Rlimit "set resource limit";
    Nice "set nice value";
    Session "setsid";
    Terminal "set controlling terminal";
    Socketpair "socketpair";
    Signals "set up signals";
    Subreaper "set child subreaper";
    Ruleset "create Landlock ruleset";
    Rule "add Landlock rule";
    Restrict "restrict itself by Landlock";
    Interpreter "find interpreter";
    Receive "recvmsg";
    Helper "await helper";
    Personality "personality";
    Scheduler "sched_setscheduler";
    Start "start";
}

/// A failed call and the kernel's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) call: Call,
    pub(crate) errno: Errno,
}

/// What a report of init's is about.
pub(crate) mod report {
    /// The sandbox is complete: `[inner pid, skipped features]`, with a socket that closes when the
    /// program is executed, unless that is PID 1 the program's pidfd, and if there is a tree of its
    /// own a descriptor of the root. At most [`super::REPORT_FDS`] descriptors.
    pub(crate) const READY: u64 = 1;
    /// Nothing runs: `[index, call, errno, detail]`. A program that was killed before its exec is told
    /// of before it is reaped.
    pub(crate) const FAILED: u64 = 2;
    /// A process that the program left: `[inner pid, how many so far]` and its name. After the first
    /// few only one now and then.
    pub(crate) const LEFT: u64 = 3;
    /// The program ended: see [`super::Ended`].
    pub(crate) const ENDED: u64 = 4;
    /// The sandbox's first process exists, with its pidfd (after joining); or who looks after a session's
    /// programs, with its socket as well.
    pub(crate) const JOINED: u64 = 5;
    /// Everything but init was killed at once: it counts what that was, and nothing else runs.
    pub(crate) const KILLED: u64 = 6;
    /// A descriptor to be kept: `[index]`, before `READY`.
    pub(crate) const KEPT: u64 = 7;
    /// Like `READY`, of a program that has been executed by now: without that socket.
    pub(crate) const EXECUTED: u64 = 8;
    /// An index: not an operation, but the start of the program.
    pub(crate) const START: u64 = u32::MAX as u64;
    /// An index: not an operation, but what a filter asks.
    pub(crate) const LISTENER: u64 = u32::MAX as u64 - 2;
    /// An index: not an operation, but reading the plan or joining.
    pub(crate) const LAUNCH: u64 = u32::MAX as u64 - 1;
}

/// How many numbers a report has.
pub(crate) const NUMBERS: usize = 16;
/// How many bytes of text a report has.
pub(crate) const DETAIL: usize = 256;
/// How many descriptors can come with a report.
pub(crate) const REPORT_FDS: usize = 4;
/// The size of a report on the wire.
pub(crate) const REPORT: usize = 8 + NUMBERS * 8 + DETAIL;
const _: () = assert!(REPORT == size_of::<Report>());

/// One report, of fixed size; init sends it as it lies in memory.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Report {
    pub(crate) kind: u64,
    pub(crate) numbers: [u64; NUMBERS],
    pub(crate) text: [u8; DETAIL],
}

impl Report {
    pub(crate) const fn new(kind: u64) -> Self {
        Report { kind, numbers: [0; NUMBERS], text: [0; DETAIL] }
    }

    /// Keeps what fits of `text`.
    pub(crate) fn set_text(&mut self, text: &[u8]) {
        for (to, from) in self.text.iter_mut().zip(text) {
            *to = *from;
        }
    }

    /// The text up to its first NUL.
    pub(crate) fn text(&self) -> &[u8] {
        self.text.split(|&byte| byte == 0).next().unwrap_or(&[])
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let from = &mut Reader::new(bytes);
        let kind = u64::take(from);
        let numbers = core::array::from_fn(|_| u64::take(from));
        Some(Report { kind, numbers, text: from.bytes.try_into().ok()? })
    }
}

/// The most file systems in memory that init looks at when the program has ended.
pub(crate) const WATCHED_MAX: usize = DETAIL;
/// In the text of an `ENDED` report: the file system in memory had no room left for bytes.
pub(crate) const NO_BYTES: u8 = 1;
/// The same: for files.
pub(crate) const NO_FILES: u8 = 2;

/// Indices of the numbers of an `ENDED` report. Its text has a byte for each writable file system in
/// memory, in the order of the plan.
pub(crate) mod ended {
    /// 1 if the program exited by itself, 2 if a signal ended it, 3 with a core dump.
    pub(crate) const HOW: usize = 0;
    /// The exit code or the signal.
    pub(crate) const STATUS: usize = 1;
    /// 1 if init ended it because its time was up, 2 if its CPU time was.
    pub(crate) const TIMED_OUT: usize = 2;
    pub(crate) const BY_TIME: u64 = 1;
    pub(crate) const BY_CPU_TIME: u64 = 2;
    /// Microseconds.
    pub(crate) const USER: usize = 3;
    /// Microseconds.
    pub(crate) const SYSTEM: usize = 4;
    /// Nanoseconds between the program's exec and its end.
    pub(crate) const WALL: usize = 5;
    /// KiB of the largest process.
    pub(crate) const PEAK_RSS: usize = 6;
    pub(crate) const MINOR_FAULTS: usize = 7;
    pub(crate) const MAJOR_FAULTS: usize = 8;
    pub(crate) const VOLUNTARY: usize = 9;
    pub(crate) const INVOLUNTARY: usize = 10;
    /// How many processes the program left.
    pub(crate) const LEFT: usize = 11;
    /// If a filter ended the program: the number of the system call, and 1 more.
    pub(crate) const DENIED: usize = 12;
    /// 1 if who has looked after it takes another program.
    pub(crate) const GOES_ON: usize = 13;
}

/// A message of the library's to a running init: go on when the library's end closes.
pub(crate) const DETACH: u8 = b'd';
/// To a template, besides `CLONE_NEW…`, with the control socket of the copy: first a network namespace comes over that,
/// in which the copy is to be.
pub(crate) const IN_NETWORK: u64 = 1 << 63;
/// The same, moved to the left by this: how many files of control groups come after that, some in a message, by which the
/// copy puts itself into them. Less than 2^8.
pub(crate) const ENTRANCES_SHIFT: u32 = 48;
/// The same: the copy is to keep networks, and is told by the next three.
pub(crate) const KEEPS_NETWORKS: u64 = 1 << 62;
/// With a socket: a new network is to come over it, with nothing in it.
pub(crate) const BARE: u8 = b'b';
/// The same, with loopback up.
pub(crate) const LOOPBACK: u8 = b'u';
/// With a socket: over that comes a network, and goes whether it was not used.
pub(crate) const LOOK: u8 = b'l';
/// To a session: who looks after programs is to be there. It is told by [`report::JOINED`].
pub(crate) const SUPERVISOR: u8 = b'x';
/// To such a one: this program is the last.
pub(crate) const LAST: u8 = b'z';
/// Eight bytes of this, and eight of for how many nanoseconds the time has stood still.
pub(crate) const STOOD: u8 = b's';
/// The time stands still from now on.
pub(crate) const PAUSE: u8 = 1;
/// It goes on.
pub(crate) const RESUME: u8 = 2;
/// Four bytes that begin with this, four of how many nanoseconds of CPU time can pass in one, eight
/// of a limit of it in nanoseconds, and a descriptor from which is read what was used.
pub(crate) const CPU_TIME: u8 = b'c';
/// Together with one of them: init is to stop or continue everything as well.
pub(crate) const BY_SIGNAL: u8 = 4;
