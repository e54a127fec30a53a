//! The raw floor: what a hand-written program would do for the same sandbox, and nothing else.
//!
//! All system calls of the child are laid out before the clone, as a list that it walks through in
//! memory shared with its parent. No init, no report but a failed call, no limits, no filter, no
//! keyring, no session.

#![allow(clippy::vec_box, reason = "calls hold the addresses")]

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::etc::Etc;
use crate::raw::{self, syscall};

const NAMESPACES: i32 = libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP;
const NEW_TIME: usize = 0x80;
const READ_ONLY: u64 = libc::MOUNT_ATTR_RDONLY;
const NO_SUID_DEV: u64 = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
const STACK: usize = 16 * 1024;
const HERE: usize = libc::AT_FDCWD as usize;

/// Where a call's first argument comes from.
#[derive(Clone, Copy, Debug)]
enum First {
    Given,
    /// The result of the last call that kept its.
    Kept,
    /// A tree that the parent opened.
    Tree(usize),
}

#[derive(Clone, Copy, Debug)]
struct Call {
    number: i64,
    first: First,
    keeps: bool,
    args: [usize; 6],
}

/// A sandboxed program that can be started any number of times, by several threads at once.
#[derive(Debug)]
pub(crate) struct Floor {
    calls: Vec<Call>,
    /// What the calls' addresses point at.
    _texts: Vec<CString>,
    _attributes: Vec<Box<[u64; 4]>>,
    _vectors: Vec<Box<[*const libc::c_char]>>,
    _interface: Box<Interface>,
    trees: Vec<CString>,
    mapping: Option<OwnedFd>,
    ids: Ids,
}

// SAFETY: after its making nothing in it is written to.
unsafe impl Sync for Floor {}

/// An id inside, and the host's behind it; uid and gid alike.
#[derive(Clone, Copy, Debug)]
struct Ids {
    inside: (u32, u32),
    host: (u32, u32),
    root: bool,
}

impl Ids {
    fn of_caller() -> Self {
        let own = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        match own.0 {
            0 => Ids { inside: (1000, 1000), host: (65534, 65534), root: true },
            _ => Ids { inside: own, host: own, root: false },
        }
    }
}

/// What parent and child share of one start.
struct Start<'a> {
    calls: &'a [Call],
    trees: Vec<OwnedFd>,
    /// 0 until the maps are written, then 1; 2 to give up.
    mapped: AtomicU32,
    /// Call and errno of what failed; 0 if nothing did.
    failed: AtomicU32,
    errno: AtomicU32,
}

/// struct ifreq, as SIOCSIFFLAGS reads it.
#[derive(Debug, Default)]
#[repr(C)]
struct Interface {
    name: [u8; 16],
    flags: u16,
    rest: [u8; 22],
}

/// Collects the child's system calls.
#[derive(Default)]
struct Layout {
    calls: Vec<Call>,
    texts: Vec<CString>,
    attributes: Vec<Box<[u64; 4]>>,
    vectors: Vec<Box<[*const libc::c_char]>>,
    interface: Box<Interface>,
    trees: Vec<CString>,
}

impl Layout {
    fn call(&mut self, number: i64, args: &[usize]) {
        let mut six = [0; 6];
        six[..args.len()].copy_from_slice(args);
        self.calls.push(Call { number, first: First::Given, keeps: false, args: six });
    }

    fn last(&mut self) -> &mut Call {
        self.calls.last_mut().expect("a call was laid out")
    }

    fn text(&mut self, text: impl AsRef<std::ffi::OsStr>) -> usize {
        use std::os::unix::ffi::OsStrExt;
        let text = CString::new(text.as_ref().as_bytes()).expect("no NUL in a path");
        self.texts.push(text);
        self.texts.last().map_or(0, |text| text.as_ptr() as usize)
    }

    fn mkdir(&mut self, path: &str, mode: usize) {
        let path = self.text(path);
        self.call(libc::SYS_mkdirat, &[HERE, path, mode]);
    }

    fn touch(&mut self, path: &str) {
        let path = self.text(path);
        self.call(libc::SYS_mknodat, &[HERE, path, libc::S_IFREG as usize | 0o644, 0]);
    }

    fn symlink(&mut self, target: impl AsRef<Path>, path: &str) {
        let (target, path) = (self.text(target.as_ref()), self.text(path));
        self.call(libc::SYS_symlinkat, &[target, HERE, path]);
    }

    fn set_attributes(&mut self, path: &str, flags: i32, attributes: u64) {
        let path = self.text(path);
        self.attributes.push(Box::new([attributes, 0, 0, 0]));
        let how = self.attributes.last().map_or(0, |how| how.as_ptr() as usize);
        self.call(libc::SYS_mount_setattr, &[HERE, path, flags as usize, how, 32]);
    }

    fn bind(&mut self, source: &str, target: &str, attributes: u64) {
        let (from, to) = (self.text(source), self.text(target));
        let flags = libc::MS_BIND | libc::MS_REC;
        self.call(libc::SYS_mount, &[from, to, 0, usize::try_from(flags).unwrap(), 0]);
        if attributes != 0 {
            self.set_attributes(target, libc::AT_RECURSIVE, attributes);
        }
    }

    fn mount(&mut self, kind: &str, target: &str, flags: u64, options: &str) {
        let (kind, to, options) = (self.text(kind), self.text(target), self.text(options));
        self.call(libc::SYS_mount, &[kind, to, kind, usize::try_from(flags).unwrap(), options]);
    }

    /// The root, in which the calls from here on work.
    fn root(&mut self) {
        let slash = self.text("/");
        let private = usize::try_from(libc::MS_REC | libc::MS_PRIVATE).unwrap();
        self.call(libc::SYS_mount, &[0, slash, 0, private, 0]);
        self.call(libc::SYS_umask, &[0]);
        let kind = self.text("tmpfs");
        self.call(libc::SYS_fsopen, &[kind, 1]);
        self.last().keeps = true;
        for (key, value) in [("size", "268435456"), ("nr_inodes", "65536"), ("mode", "0755")] {
            let (key, value) = (self.text(key), self.text(value));
            self.call(libc::SYS_fsconfig, &[0, 1, key, value, 0]);
            self.last().first = First::Kept;
        }
        self.call(libc::SYS_fsconfig, &[0, 6, 0, 0, 0]);
        self.last().first = First::Kept;
        self.call(libc::SYS_fsmount, &[0, 1, usize::try_from(NO_SUID_DEV).unwrap()]);
        (self.last().first, self.last().keeps) = (First::Kept, true);
        let empty = self.text("");
        self.call(libc::SYS_move_mount, &[0, empty, HERE, slash, 4]);
        self.last().first = First::Kept;
        self.call(libc::SYS_fchdir, &[0]);
        self.last().first = First::Kept;
    }

    /// The same tree as that of `Sandbox::new()`.
    fn tree(&mut self) {
        for (path, mode) in
            [("tmp", 0o1777), ("home", 0o755), ("home/user", 0o755), ("dev", 0o755), ("etc", 0o755)]
        {
            self.mkdir(path, mode);
        }
        self.mkdir("dev/shm", 0o1777);
        for path in ["tmp", "home/user", "dev/shm"] {
            self.bind(path, path, 0);
        }
        for name in ["null", "zero", "full", "random", "urandom", "tty"] {
            let path = format!("dev/{name}");
            self.touch(&path);
            let attributes = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOEXEC;
            self.bind(&format!("/{path}"), &path, attributes);
        }
        self.mkdir("dev/pts", 0o755);
        let flags = libc::MS_NOSUID | libc::MS_NOEXEC;
        self.mount("devpts", "dev/pts", flags, "newinstance,ptmxmode=0666,mode=0620,max=256");
        for (target, path) in [
            ("/proc/self/fd", "dev/fd"),
            ("/proc/self/fd/0", "dev/stdin"),
            ("/proc/self/fd/1", "dev/stdout"),
            ("/proc/self/fd/2", "dev/stderr"),
            ("pts/ptmx", "dev/ptmx"),
        ] {
            self.symlink(target, path);
        }
        self.system_directories();
        self.mkdir("proc", 0o755);
        let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
        self.mount("proc", "proc", flags, "subset=pid,hidepid=invisible");
    }

    fn system_directories(&mut self) {
        self.mkdir("usr", 0o755);
        self.bind("/usr", "usr", READ_ONLY | NO_SUID_DEV);
        for path in crate::SYSTEM {
            match std::fs::read_link(path) {
                Ok(target) => self.symlink(target, &path[1..]),
                Err(_) if Path::new(path).exists() => self.shown(path),
                Err(_) => {}
            }
        }
        self.etc();
    }

    fn etc(&mut self) {
        let etc = Etc::of_default();
        let mut parents = Vec::new();
        for path in &etc.shown {
            let above: Vec<_> = Path::new(path).ancestors().skip(1).collect();
            for parent in above.iter().rev().filter(|above| above.components().count() > 2) {
                if !parents.contains(&parent.to_path_buf()) {
                    parents.push(parent.to_path_buf());
                    self.mkdir(&parent.to_string_lossy()[1..], 0o755);
                }
            }
            if parents.iter().any(|parent| parent == Path::new(path)) {
                self.bind(path, &path[1..], READ_ONLY | NO_SUID_DEV);
            } else {
                self.shown(path);
            }
        }
        for path in &etc.masked {
            let attributes = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOEXEC;
            self.bind("/dev/null", &path[1..], attributes);
        }
        for (path, data) in &etc.files {
            self.file(&path[1..], data);
        }
        for (path, target) in &etc.links {
            self.symlink(target, &path[1..]);
        }
    }

    fn file(&mut self, path: &str, data: &str) {
        let flags = libc::O_CREAT | libc::O_WRONLY | libc::O_EXCL;
        let (path, text) = (self.text(path), self.text(data));
        self.call(libc::SYS_openat, &[HERE, path, flags as usize, 0o644]);
        self.last().keeps = true;
        self.call(libc::SYS_write, &[0, text, data.len()]);
        self.last().first = First::Kept;
        self.call(libc::SYS_close, &[0]);
        self.last().first = First::Kept;
    }

    fn shown(&mut self, path: &str) {
        match Path::new(path).is_dir() {
            true => self.mkdir(&path[1..], 0o755),
            false => self.touch(&path[1..]),
        }
        self.bind(path, &path[1..], READ_ONLY | NO_SUID_DEV);
    }

    /// The binds that the caller asked for: of root's trees the owners are mapped, by the parent.
    fn binds(&mut self, binds: &[(PathBuf, PathBuf)], mapped: bool) {
        let mut parents = Vec::new();
        for (from, to) in binds {
            let (from, to) = (from.to_string_lossy(), to.to_string_lossy());
            let parent = Path::new(&to[1..]).parent().unwrap_or(Path::new("")).to_path_buf();
            if !parents.contains(&parent) {
                self.mkdir(&parent.to_string_lossy(), 0o755);
                parents.push(parent);
            }
            match Path::new(&*from).is_dir() {
                true => self.mkdir(&to[1..], 0o755),
                false => self.touch(&to[1..]),
            }
            if !mapped {
                self.bind(&from, &to[1..], READ_ONLY | NO_SUID_DEV);
                continue;
            }
            let (empty, to) = (self.text(""), self.text(&to[1..]));
            self.call(libc::SYS_move_mount, &[0, empty, HERE, to, 4]);
            self.last().first = First::Tree(self.trees.len());
            self.trees.push(CString::new(from.as_bytes()).expect("no NUL in a path"));
        }
    }

    fn pivot(&mut self) {
        self.set_attributes(".", 0, READ_ONLY | NO_SUID_DEV);
        let (dot, slash) = (self.text("."), self.text("/"));
        self.call(libc::SYS_pivot_root, &[dot, dot]);
        self.call(libc::SYS_umount2, &[dot, libc::MNT_DETACH as usize]);
        self.call(libc::SYS_chdir, &[slash]);
    }

    fn ids(&mut self, ids: Ids) {
        if ids.root {
            self.call(libc::SYS_setgroups, &[0, 0]);
        }
        // SECBIT_NO_SETUID_FIXUP: the capabilities are needed for the mounts.
        self.call(libc::SYS_prctl, &[libc::PR_SET_SECUREBITS as usize, 4]);
        let (uid, gid) = (ids.inside.0 as usize, ids.inside.1 as usize);
        self.call(libc::SYS_setresgid, &[gid, gid, gid]);
        self.call(libc::SYS_setresuid, &[uid, uid, uid]);
    }

    fn names_and_loopback(&mut self) {
        let (name, domain) = (self.text("stockade"), self.text("(none)"));
        self.call(libc::SYS_sethostname, &[name, 8]);
        self.call(libc::SYS_setdomainname, &[domain, 6]);
        let kind = (libc::SOCK_DGRAM | libc::SOCK_CLOEXEC) as usize;
        self.call(libc::SYS_socket, &[libc::AF_INET as usize, kind, 0]);
        self.last().keeps = true;
        self.interface.name[..2].copy_from_slice(b"lo");
        // IFF_UP | IFF_RUNNING
        self.interface.flags = 0x41;
        let request = (&raw const *self.interface) as usize;
        self.call(libc::SYS_ioctl, &[0, libc::SIOCSIFFLAGS as usize, request]);
        self.last().first = First::Kept;
    }

    fn capabilities(&mut self) {
        let last = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap").unwrap_or_default();
        for capability in 0..=last.trim().parse().unwrap_or(40) {
            self.call(libc::SYS_prctl, &[libc::PR_CAPBSET_DROP as usize, capability]);
        }
        // Version 3 of the header, pid 0; then two triples of empty sets.
        self.attributes.push(Box::new([0x2008_0522, 0, 0, 0]));
        let header = self.attributes.last().map_or(0, |words| words.as_ptr() as usize);
        self.call(libc::SYS_capset, &[header, header + 8]);
        self.call(libc::SYS_prctl, &[libc::PR_SET_NO_NEW_PRIVS as usize, 1]);
    }

    fn exec(&mut self, program: &Path, args: &[&str]) {
        let path = self.text(program);
        let mut argv = vec![path as *const libc::c_char];
        argv.extend(args.iter().map(|arg| self.text(arg) as *const libc::c_char));
        argv.push(std::ptr::null());
        self.vectors.push(argv.into_boxed_slice());
        let argv = self.vectors.last().map_or(0, |vector| vector.as_ptr() as usize);
        self.vectors.push(vec![std::ptr::null()].into_boxed_slice());
        let envp = self.vectors.last().map_or(0, |vector| vector.as_ptr() as usize);
        self.call(libc::SYS_execve, &[path, argv, envp]);
    }
}

impl Floor {
    /// Lays out the sandbox; standard output goes to `output` if there is one.
    pub(crate) fn new(
        program: &Path,
        args: &[&str],
        binds: &[(PathBuf, PathBuf)],
        output: Option<i32>,
    ) -> Self {
        let ids = Ids::of_caller();
        let mut layout = Layout::default();
        if let Some(fd) = output {
            layout.call(libc::SYS_dup3, &[fd as usize, 1, 0]);
        }
        layout.ids(ids);
        layout.call(libc::SYS_unshare, &[NEW_TIME]);
        layout.root();
        layout.tree();
        layout.binds(binds, ids.root);
        layout.pivot();
        layout.names_and_loopback();
        layout.capabilities();
        layout.exec(program, args);
        let Layout { calls, texts, attributes, vectors, interface, trees } = layout;
        let mapping = (!trees.is_empty()).then(|| mapping_namespace(ids));
        Floor {
            calls,
            _texts: texts,
            _attributes: attributes,
            _vectors: vectors,
            _interface: interface,
            trees,
            mapping,
            ids,
        }
    }

    /// Starts the program and waits for its end.
    pub(crate) fn run(&self) {
        let status = self.run_until(wait);
        assert_eq!(status, 0, "the program failed in the floor");
    }

    /// Starts the program, and returns when it is executed; its pid, for the caller to end it.
    pub(crate) fn leave(&self) -> i32 {
        let (reading, writing) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).expect("a pipe");
        self.run_until(|pid| {
            // The child's copy is closed by its exec.
            drop(writing);
            let _end = File::from(reading).read(&mut [0]).expect("a pipe");
            pid
        })
    }

    /// Starts the program; what is asked for has to last until its exec.
    fn run_until<T>(&self, last: impl FnOnce(i32) -> T) -> T {
        let start = Start {
            calls: &self.calls,
            trees: self.trees.iter().map(|source| self.tree(source)).collect(),
            mapped: AtomicU32::new(0),
            failed: AtomicU32::new(0),
            errno: AtomicU32::new(0),
        };
        let mut stack = MaybeUninit::<[u8; STACK]>::uninit();
        let top = stack.as_mut_ptr().cast::<u8>().wrapping_add(STACK);
        let flags = (NAMESPACES | libc::CLONE_VM | libc::SIGCHLD) as usize;
        let argument = (&raw const start).cast_mut().cast();
        // SAFETY: the child uses this stack and `start` until its exec or end; both outlive the
        // wait below.
        let pid = unsafe { raw::clone(flags, top, std::ptr::null_mut(), entry, argument) };
        let pid = i32::try_from(pid.expect("clone")).expect("a pid");
        let written = write_maps(pid, self.ids);
        start.mapped.store(if written.is_ok() { 1 } else { 2 }, Ordering::Release);
        futex(&start.mapped, libc::FUTEX_WAKE, 1);
        let lasted = last(pid);
        written.expect("the maps can be written");
        if self.ids.root {
            // The child's change of ids took it from the memory that it shared.
            let args = [libc::PR_SET_DUMPABLE as usize, 1, 0, 0, 0, 0];
            // SAFETY: numbers only.
            let _always = unsafe { syscall(libc::SYS_prctl as usize, args) };
        }
        let failed = start.failed.load(Ordering::Acquire);
        let call = self.calls.get((failed as usize).wrapping_sub(1));
        assert!(failed == 0, "floor: {call:?}: errno {:?}", start.errno);
        lasted
    }

    /// A copy of a host's tree with its attributes, whose owners are mapped.
    fn tree(&self, source: &CStr) -> OwnedFd {
        let path = source.as_ptr() as usize;
        let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | libc::AT_RECURSIVE as u32;
        // SAFETY: the path ends in NUL.
        let tree =
            unsafe { syscall(libc::SYS_open_tree as usize, [HERE, path, flags as usize, 0, 0, 0]) };
        let tree = i32::try_from(tree.expect("open_tree")).expect("a descriptor");
        // SAFETY: the kernel just made it.
        let tree = unsafe { OwnedFd::from_raw_fd(tree) };
        let mapping = self.mapping.as_ref().map_or(-1, AsRawFd::as_raw_fd);
        let attributes = READ_ONLY | NO_SUID_DEV | libc::MOUNT_ATTR_IDMAP;
        let how = [attributes, 0, 0, u64::try_from(mapping).expect("a descriptor")];
        let flags = (libc::AT_EMPTY_PATH | libc::AT_RECURSIVE) as usize;
        let empty = c"".as_ptr() as usize;
        let args = [tree.as_raw_fd() as usize, empty, flags, how.as_ptr() as usize, 32, 0];
        // SAFETY: `how` has 32 bytes.
        let set = unsafe { syscall(libc::SYS_mount_setattr as usize, args) };
        set.expect("mount_setattr");
        tree
    }
}

/// The child: waits for its maps, then makes one call after the other.
extern "C" fn entry(argument: *mut u8) -> ! {
    // SAFETY: `run` passes its own Start, which it keeps until the child has ended.
    let start = unsafe { &*argument.cast::<Start<'_>>() };
    while start.mapped.load(Ordering::Acquire) == 0 {
        futex(&start.mapped, libc::FUTEX_WAIT, 0);
    }
    if start.mapped.load(Ordering::Acquire) == 2 {
        raw::exit(1);
    }
    let mut kept = 0;
    for (index, call) in start.calls.iter().enumerate() {
        let mut args = call.args;
        match call.first {
            First::Given => {}
            First::Kept => args[0] = kept,
            First::Tree(tree) => args[0] = start.trees[tree].as_raw_fd() as usize,
        }
        // SAFETY: what the addresses point at lives as long as the Floor.
        match unsafe { syscall(call.number as usize, args) } {
            Ok(result) if call.keeps => kept = result,
            Ok(_) => {}
            Err(raw::Errno(errno)) => {
                start.errno.store(errno.unsigned_abs(), Ordering::Relaxed);
                start.failed.store(index as u32 + 1, Ordering::Release);
                raw::exit(1);
            }
        }
    }
    raw::exit(1)
}

fn futex(word: &AtomicU32, operation: i32, value: usize) {
    let operation = (operation | libc::FUTEX_PRIVATE_FLAG) as usize;
    let args = [word.as_ptr() as usize, operation, value, 0, 0, 0];
    // SAFETY: the word lives as long as the reference. EAGAIN and EINTR: the caller looks again.
    let _woken = unsafe { syscall(libc::SYS_futex as usize, args) };
}

pub(crate) fn wait(pid: i32) -> i32 {
    let mut status = 0i32;
    let args = [pid as usize, (&raw mut status) as usize, libc::__WALL as usize, 0, 0, 0];
    // SAFETY: `status` is an int.
    while let Err(raw::Errno(errno)) = unsafe { syscall(libc::SYS_wait4 as usize, args) } {
        assert_eq!(errno, libc::EINTR, "wait4");
    }
    status
}

fn write_maps(pid: i32, ids: Ids) -> std::io::Result<()> {
    let write = |file: &str, text: &str| {
        let path = format!("/proc/{pid}/{file}");
        std::fs::OpenOptions::new().write(true).open(path)?.write_all(text.as_bytes())
    };
    if !ids.root {
        write("setgroups", "deny")?;
    }
    write("uid_map", &format!("{} {} 1\n", ids.inside.0, ids.host.0))?;
    write("gid_map", &format!("{} {} 1\n", ids.inside.1, ids.host.1))
}

/// A user namespace that shows the caller's files as the program's own.
fn mapping_namespace(ids: Ids) -> OwnedFd {
    extern "C" fn sleep(_: *mut u8) -> ! {
        loop {
            // SAFETY: no descriptors, no time limit, no mask.
            let _interrupted = unsafe { syscall(libc::SYS_ppoll as usize, [0; 6]) };
        }
    }
    let mut stack = MaybeUninit::<[u8; STACK]>::uninit();
    let top = stack.as_mut_ptr().cast::<u8>().wrapping_add(STACK);
    let flags = (libc::CLONE_NEWUSER | libc::CLONE_VM | libc::SIGCHLD) as usize;
    let none = std::ptr::null_mut();
    // SAFETY: the child uses this stack until it is killed below.
    let pid = unsafe { raw::clone(flags, top, none, sleep, none.cast()) };
    let pid = i32::try_from(pid.expect("clone")).expect("a pid");
    let own = Ids { inside: (0, 0), ..ids };
    let made = write_maps(pid, own).and_then(|()| File::open(format!("/proc/{pid}/ns/user")));
    // SAFETY: the child has not been waited for, so that the pid is its own.
    unsafe { libc::kill(pid, libc::SIGKILL) };
    wait(pid);
    made.expect("a user namespace").into()
}

/// Clone and exec of a program outside of any sandbox, and the wait for its end.
#[derive(Debug)]
pub(crate) struct Bare(Floor);

impl Bare {
    pub(crate) fn new(program: &Path, args: &[&str]) -> Self {
        let mut layout = Layout::default();
        layout.exec(program, args);
        let Layout { calls, texts, attributes, vectors, interface, trees } = layout;
        let ids = Ids::of_caller();
        Bare(Floor {
            calls,
            _texts: texts,
            _attributes: attributes,
            _vectors: vectors,
            _interface: interface,
            trees,
            mapping: None,
            ids,
        })
    }

    pub(crate) fn run(&self) {
        let start = Start {
            calls: &self.0.calls,
            trees: Vec::new(),
            mapped: AtomicU32::new(1),
            failed: AtomicU32::new(0),
            errno: AtomicU32::new(0),
        };
        let mut stack = MaybeUninit::<[u8; STACK]>::uninit();
        let top = stack.as_mut_ptr().cast::<u8>().wrapping_add(STACK);
        let flags = (libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD) as usize;
        let argument = (&raw const start).cast_mut().cast();
        // SAFETY: CLONE_VFORK suspends this thread until the child has executed or ended.
        let pid = unsafe { raw::clone(flags, top, std::ptr::null_mut(), entry, argument) };
        let pid = i32::try_from(pid.expect("clone")).expect("a pid");
        assert_eq!(wait(pid), 0, "the program failed");
    }
}
