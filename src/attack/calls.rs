//! What the kernel may not be asked for.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use crate::facts::Facts;
use crate::kernel::{call, call_for_fd, fork, in_fork, text};
use crate::numbers as nr;
use crate::verdict::Verdict::{self, Held, NotApplicable, Open};
use crate::verdict::{any, passed, worked};

const EBADF: i32 = 9;
const ENOENT: i32 = 2;
const EINVAL: i32 = 22;
const ENOEXEC: i32 = 8;
const EFAULT: i32 = 14;

const CLONE_NEWTIME: usize = 0x80;
const CLONE_NEWNS: usize = 0x0002_0000;
const CLONE_NEWCGROUP: usize = 0x0200_0000;
const CLONE_NEWUTS: usize = 0x0400_0000;
const CLONE_NEWIPC: usize = 0x0800_0000;
const CLONE_NEWUSER: usize = 0x1000_0000;
const CLONE_NEWPID: usize = 0x2000_0000;
const CLONE_NEWNET: usize = 0x4000_0000;
const SIGCHLD: usize = 17;

// ---- namespaces --------------------------------------------------------------------------------

pub(crate) fn clone3(_: &Facts) -> Verdict {
    let mut args = [0u64; 11];
    args[0] = CLONE_NEWUSER as u64;
    args[4] = SIGCHLD as u64;
    let made = call(nr::CLONE3, [args.as_ptr() as usize, size_of_val(&args)]);
    if let Ok(0) = made {
        crate::kernel::exit(0);
    }
    worked("clone3(CLONE_NEWUSER)", made)
}

pub(crate) fn unshare_user(_: &Facts) -> Verdict {
    worked("unshare(CLONE_NEWUSER)", call(nr::UNSHARE, [CLONE_NEWUSER]))
}

pub(crate) fn clone_user(_: &Facts) -> Verdict {
    let made = call(nr::CLONE, [CLONE_NEWUSER | SIGCHLD]);
    if let Ok(0) = made {
        crate::kernel::exit(0);
    }
    worked("clone(CLONE_NEWUSER)", made)
}

pub(crate) fn unshare_other(_: &Facts) -> Verdict {
    let kinds = [
        ("mount", CLONE_NEWNS),
        ("pid", CLONE_NEWPID),
        ("network", CLONE_NEWNET),
        ("ipc", CLONE_NEWIPC),
        ("uts", CLONE_NEWUTS),
        ("cgroup", CLONE_NEWCGROUP),
        ("time", CLONE_NEWTIME),
    ];
    any(kinds.map(|(kind, flag)| (kind, call(nr::UNSHARE, [flag]))), "")
}

/// Becomes root in namespaces of its own.
fn nest() -> io::Result<()> {
    let (uid, gid) = ids();
    call(nr::UNSHARE, [CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID])?;
    // There may be no /proc; then what follows is done as nobody, with all capabilities.
    if std::fs::write("/proc/self/setgroups", "deny").is_ok() {
        std::fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
        std::fs::write("/proc/self/gid_map", format!("0 {gid} 1"))?;
    }
    Ok(())
}

fn ids() -> (u32, u32) {
    use std::os::unix::fs::MetadataExt;
    // What this process has just made is its own.
    let own = std::io::pipe().map(|(reading, _)| std::fs::File::from(OwnedFd::from(reading)));
    own.and_then(|pipe| pipe.metadata()).map_or((0, 0), |found| (found.uid(), found.gid()))
}

/// Mounts a new file system somewhere where only this process sees it.
fn mount(kind: &str) -> io::Result<usize> {
    let (kind, at) = (text(kind), text("/"));
    let (kind, at) = (kind.as_ptr() as usize, at.as_ptr() as usize);
    call(nr::MOUNT, [kind, at, kind, 0, 0])
}

pub(crate) fn nested_mount(_: &Facts) -> Verdict {
    worked("a mount in a nested user namespace", nest().and_then(|()| mount("tmpfs")))
}

pub(crate) fn nested_proc(_: &Facts) -> Verdict {
    if let Err(error) = nest() {
        return Held(format!("a nested user namespace: {error}"));
    }
    // The new process namespace has none but children.
    let worked = in_fork(|| u8::from(mount("proc").is_err()));
    match worked {
        Ok(Some(0)) => Open("a whole /proc in a nested user namespace".to_owned()),
        Ok(_) => Held("a nested namespace, but a whole /proc in it was refused".to_owned()),
        Err(error) => Held(format!("fork: {error}")),
    }
}

// ---- other ways to call ------------------------------------------------------------------------

pub(crate) fn x32(_: &Facts) -> Verdict {
    const X32: usize = 0x4000_0000;
    if cfg!(not(target_arch = "x86_64")) {
        return NotApplicable("only x86-64 has it".to_owned());
    }
    worked("getpid by x32", call(nr::GETPID | X32, []))
}

pub(crate) fn int80(_: &Facts) -> Verdict {
    #[cfg(not(target_arch = "x86_64"))]
    return NotApplicable("only x86-64 has it".to_owned());
    #[cfg(target_arch = "x86_64")]
    {
        const GETPID: u32 = 20;
        let ended = in_fork(|| match crate::kernel::interrupt(GETPID) {
            answer if answer > 0 => 0,
            answer => answer.unsigned_abs() as u8,
        });
        match ended {
            Ok(Some(0)) => Open("getpid by int 0x80".to_owned()),
            Ok(Some(errno)) => {
                let error = io::Error::from_raw_os_error(i32::from(errno));
                worked("getpid by int 0x80", Err::<(), _>(error))
            }
            // Without the gate in the kernel it is a fault.
            Ok(None) => Verdict::Absent("the process was killed for it".to_owned()),
            Err(error) => Held(format!("fork: {error}")),
        }
    }
}

// ---- rarely used parts of the kernel -----------------------------------------------------------

pub(crate) fn userfaultfd(_: &Facts) -> Verdict {
    const UFFD_USER_MODE_ONLY: usize = 1;
    worked("userfaultfd", call(nr::USERFAULTFD, [UFFD_USER_MODE_ONLY]))
}

pub(crate) fn io_uring(_: &Facts) -> Verdict {
    let parameters = [0u32; 30];
    worked("io_uring_setup", call(nr::IO_URING_SETUP, [1, parameters.as_ptr() as usize]))
}

pub(crate) fn bpf_program(_: &Facts) -> Verdict {
    const BPF_PROG_LOAD: usize = 5;
    const SOCKET_FILTER: u64 = 1;
    // r0 = 0; exit
    let code = [0xb7u64, 0x95];
    let license = text("GPL");
    let mut attributes = [0u64; 18];
    attributes[0] = SOCKET_FILTER | 2 << 32;
    attributes[1] = code.as_ptr() as u64;
    attributes[2] = license.as_ptr() as u64;
    let args = [BPF_PROG_LOAD, attributes.as_ptr() as usize, size_of_val(&attributes)];
    worked("BPF_PROG_LOAD", call(nr::BPF, args))
}

pub(crate) fn bpf_map(_: &Facts) -> Verdict {
    const BPF_MAP_CREATE: usize = 0;
    const ARRAY: u32 = 2;
    let mut attributes = [0u32; 16];
    attributes[..4].copy_from_slice(&[ARRAY, 4, 8, 1]);
    let args = [BPF_MAP_CREATE, attributes.as_ptr() as usize, size_of_val(&attributes)];
    worked("BPF_MAP_CREATE", call(nr::BPF, args))
}

pub(crate) fn perf_event(_: &Facts) -> Verdict {
    const SOFTWARE: u32 = 1;
    let mut attributes = [0u32; 16];
    attributes[0] = SOFTWARE;
    attributes[1] = 64;
    let args = [attributes.as_ptr() as usize, 0, usize::MAX, usize::MAX, 0];
    worked("perf_event_open", call(nr::PERF_EVENT_OPEN, args))
}

pub(crate) fn vmsplice(_: &Facts) -> Verdict {
    let Ok((_reading, writing)) = io::pipe() else {
        return NotApplicable("no pipe".to_owned());
    };
    let bytes = [7u8; 16];
    let vector = [bytes.as_ptr() as usize, bytes.len()];
    let args = [writing.as_raw_fd() as usize, vector.as_ptr() as usize, 1, 0];
    worked("vmsplice", call(nr::VMSPLICE, args))
}

pub(crate) fn fanotify(_: &Facts) -> Verdict {
    const FAN_REPORT_FID: usize = 0x200;
    worked("fanotify_init", call(nr::FANOTIFY_INIT, [FAN_REPORT_FID, 0]))
}

pub(crate) fn modify_ldt(_: &Facts) -> Verdict {
    if cfg!(not(target_arch = "x86_64")) {
        return NotApplicable("only x86-64 has it".to_owned());
    }
    let mut table = [0u8; 16];
    worked("modify_ldt", call(nr::MODIFY_LDT, [0, table.as_mut_ptr() as usize, table.len()]))
}

pub(crate) fn mempolicy(_: &Facts) -> Verdict {
    worked("set_mempolicy", call(nr::SET_MEMPOLICY, [0, 0, 0]))
}

pub(crate) fn move_pages(_: &Facts) -> Verdict {
    worked("move_pages", call(nr::MOVE_PAGES, [0, 0, 0, 0, 0, 0]))
}

pub(crate) fn no_randomize(_: &Facts) -> Verdict {
    const ADDR_NO_RANDOMIZE: usize = 0x004_0000;
    worked("personality(ADDR_NO_RANDOMIZE)", call(nr::PERSONALITY, [ADDR_NO_RANDOMIZE]))
}

// ---- keys --------------------------------------------------------------------------------------

const SESSION_KEYRING: usize = -3isize as usize;
const USER_KEYRING: usize = -4isize as usize;

pub(crate) fn keyctl_session(_: &Facts) -> Verdict {
    const KEYCTL_GET_KEYRING_ID: usize = 0;
    worked("keyctl", call(nr::KEYCTL, [KEYCTL_GET_KEYRING_ID, SESSION_KEYRING, 1]))
}

pub(crate) fn key_of_host(facts: &Facts) -> Verdict {
    const KEYCTL_READ: usize = 11;
    if facts.number("key") == 0 {
        return NotApplicable("the kernel has no keys, or the host refuses them".to_owned());
    }
    let mut bytes = [0u8; 64];
    let args = [KEYCTL_READ, facts.number("key"), bytes.as_mut_ptr() as usize, bytes.len()];
    worked("the host's key", call(nr::KEYCTL, args))
}

fn make_key(name: &str) -> io::Result<usize> {
    let (kind, name) = (text("user"), text(name));
    let args = [kind.as_ptr() as usize, name.as_ptr() as usize, name.as_ptr() as usize, 1];
    call(nr::ADD_KEY, [args[0], args[1], args[2], args[3], USER_KEYRING])
}

pub(crate) fn add_key(_: &Facts) -> Verdict {
    worked("add_key", make_key("stockade-attack"))
}

pub(crate) fn request_key(_: &Facts) -> Verdict {
    const ENOKEY: i32 = 126;
    let (kind, name) = (text("user"), text("stockade-attack-nothing"));
    let args = [kind.as_ptr() as usize, name.as_ptr() as usize, 0, USER_KEYRING];
    passed("request_key", call(nr::REQUEST_KEY, args), &[ENOKEY])
}

// ---- sockets -----------------------------------------------------------------------------------

const DATAGRAM: usize = 2;
const RAW: usize = 3;
const SEQUENCE: usize = 5;

fn socket(family: usize, kind: usize, protocol: usize) -> io::Result<OwnedFd> {
    call_for_fd(nr::SOCKET, [family, kind, protocol])
}

pub(crate) fn vsock(_: &Facts) -> Verdict {
    const AF_VSOCK: usize = 40;
    worked("socket(AF_VSOCK)", socket(AF_VSOCK, 1, 0))
}

pub(crate) fn af_alg(_: &Facts) -> Verdict {
    const AF_ALG: usize = 38;
    worked("socket(AF_ALG)", socket(AF_ALG, SEQUENCE, 0))
}

pub(crate) fn af_packet(_: &Facts) -> Verdict {
    const AF_PACKET: usize = 17;
    worked("socket(AF_PACKET)", socket(AF_PACKET, DATAGRAM, 0))
}

pub(crate) fn raw_socket(_: &Facts) -> Verdict {
    const ICMP: usize = 1;
    const ICMPV6: usize = 58;
    any([("IPv4", socket(2, RAW, ICMP)), ("IPv6", socket(10, RAW, ICMPV6))], "")
}

pub(crate) fn netlink(_: &Facts) -> Verdict {
    const AF_NETLINK: usize = 16;
    let protocols = 1..=22;
    let open = |protocol| {
        (format!("socket(AF_NETLINK, {protocol})"), socket(AF_NETLINK, DATAGRAM, protocol))
    };
    any(protocols.map(open), "")
}

pub(crate) fn old_families(_: &Facts) -> Verdict {
    const OTHERS: [usize; 4] = [1, 2, 10, 16];
    let families = (0..64).filter(|family| !OTHERS.contains(family));
    let kinds = [1, DATAGRAM, RAW, SEQUENCE];
    let open =
        |family| kinds.map(|kind| (format!("socket({family}, {kind})"), socket(family, kind, 0)));
    any(families.flat_map(open), "")
}

// ---- terminals ---------------------------------------------------------------------------------

const TIOCSTI: usize = 0x5412;

/// Pushes a line into the terminal that is this program's standard input. Whether it has arrived is
/// seen outside.
fn push(request: usize) -> Verdict {
    let line = *b"#\n";
    let mut pushed = Ok(0);
    for byte in &line {
        pushed = pushed.and(call(nr::IOCTL, [0, request, std::ptr::from_ref(byte) as usize]));
    }
    worked("TIOCSTI", pushed)
}

pub(crate) fn tiocsti(_: &Facts) -> Verdict {
    push(TIOCSTI)
}

pub(crate) fn tiocsti_high(_: &Facts) -> Verdict {
    push(TIOCSTI | 1 << 32)
}

pub(crate) fn tiocsetd(_: &Facts) -> Verdict {
    const TIOCSETD: usize = 0x5423;
    const N_NULL: i32 = 27;
    let terminal = std::fs::File::options().read(true).write(true).open("/dev/ptmx");
    let Ok(terminal) = terminal else {
        return NotApplicable("no terminal can be made".to_owned());
    };
    let discipline = N_NULL;
    let args = [terminal.as_raw_fd() as usize, TIOCSETD, (&raw const discipline) as usize];
    worked("TIOCSETD", call(nr::IOCTL, args))
}

pub(crate) fn ptrace_child(_: &Facts) -> Verdict {
    const PTRACE_SEIZE: usize = 0x4206;
    let child = match fork() {
        Ok(None) => loop {
            std::thread::sleep(std::time::Duration::from_secs(1));
        },
        Ok(Some(child)) => child as usize,
        Err(error) => return Held(format!("fork: {error}")),
    };
    let traced = call(nr::PTRACE, [PTRACE_SEIZE, child, 0, 0]);
    let _it_is_ended = call(nr::KILL, [child, 9]);
    worked("PTRACE_SEIZE", traced)
}

// ---- what is the host's ------------------------------------------------------------------------

const NOWHERE: &str = "/stockade-attack-nothing";

pub(crate) fn kexec(_: &Facts) -> Verdict {
    worked_after("kexec_load", call(nr::KEXEC_LOAD, [0, 0, 0, 0xff]), &[EINVAL])
}

/// Where the arguments are wrong on purpose: open if it was only that.
fn worked_after(what: &str, result: io::Result<usize>, wrong: &[i32]) -> Verdict {
    passed(what, result, wrong)
}

pub(crate) fn init_module(_: &Facts) -> Verdict {
    let (image, none) = ([0u8; 64], text(""));
    let args = [image.as_ptr() as usize, image.len(), none.as_ptr() as usize];
    worked_after("init_module", call(nr::INIT_MODULE, args), &[ENOEXEC, EINVAL])
}

pub(crate) fn finit_module(_: &Facts) -> Verdict {
    let none = text("");
    let args = [usize::MAX, none.as_ptr() as usize, 0];
    worked_after("finit_module", call(nr::FINIT_MODULE, args), &[EBADF])
}

pub(crate) fn delete_module(_: &Facts) -> Verdict {
    const O_NONBLOCK: usize = 0o4000;
    let name = text("stockade_attack_nothing");
    let deleted = call(nr::DELETE_MODULE, [name.as_ptr() as usize, O_NONBLOCK]);
    worked_after("delete_module", deleted, &[ENOENT])
}

pub(crate) fn swapon(_: &Facts) -> Verdict {
    let path = text(NOWHERE);
    worked_after("swapon", call(nr::SWAPON, [path.as_ptr() as usize, 0]), &[ENOENT])
}

pub(crate) fn swapoff(_: &Facts) -> Verdict {
    let path = text(NOWHERE);
    worked_after("swapoff", call(nr::SWAPOFF, [path.as_ptr() as usize]), &[ENOENT])
}

pub(crate) fn acct(_: &Facts) -> Verdict {
    let path = text(NOWHERE);
    worked_after("acct", call(nr::ACCT, [path.as_ptr() as usize]), &[ENOENT])
}

pub(crate) fn vhangup(_: &Facts) -> Verdict {
    // In a session without a terminal there is nothing to hang up.
    let ended = in_fork(|| {
        let alone = call(nr::SETSID, []).and_then(|_| call(nr::VHANGUP, []));
        alone.map_or_else(|error| error.raw_os_error().unwrap_or(1) as u8, |_| 0)
    });
    match ended {
        Ok(Some(0)) => Open("vhangup".to_owned()),
        Ok(Some(errno)) => Held(format!("vhangup: {}", io::Error::from_raw_os_error(errno.into()))),
        Ok(None) => Held("vhangup: the process was killed".to_owned()),
        Err(error) => Held(format!("fork: {error}")),
    }
}

pub(crate) fn reboot(_: &Facts) -> Verdict {
    worked_after("reboot", call(nr::REBOOT, [0, 0, 0, 0]), &[EINVAL])
}

pub(crate) fn syslog(_: &Facts) -> Verdict {
    const READ_ALL: usize = 3;
    let mut bytes = [0u8; 256];
    worked("syslog", call(nr::SYSLOG, [READ_ALL, bytes.as_mut_ptr() as usize, bytes.len()]))
}

pub(crate) fn clock(_: &Facts) -> Verdict {
    const ADJ_MAXERROR: u64 = 4;
    // struct timex, of which the fourth word is `maxerror`.
    let mut time = [0u64; 26];
    if let Err(error) = call(nr::ADJTIMEX, [time.as_mut_ptr() as usize]) {
        return worked("adjtimex", Err::<(), _>(error));
    }
    time[0] = ADJ_MAXERROR;
    worked("adjtimex", call(nr::ADJTIMEX, [time.as_mut_ptr() as usize]))
}

pub(crate) fn sethostname(facts: &Facts) -> Verdict {
    // struct utsname: texts of 65 bytes, of which the second is the host's name.
    let mut names = [0u8; 6 * 65];
    if let Err(error) = call(nr::UNAME, [names.as_mut_ptr() as usize]) {
        return Held(format!("uname: {error}"));
    }
    let here = names[65..130].split(|&byte| byte == 0).next().unwrap_or_default();
    let args = [here.as_ptr() as usize, here.len()];
    match worked("sethostname", call(nr::SETHOSTNAME, args)) {
        Open(_) if here != facts.text("hostname").as_bytes() => {
            Held("only the sandbox's own name can be set".to_owned())
        }
        other => other,
    }
}

pub(crate) fn raw_io(_: &Facts) -> Verdict {
    if cfg!(not(target_arch = "x86_64")) {
        return NotApplicable("only x86-64 has it".to_owned());
    }
    any([("iopl", call(nr::IOPL, [3])), ("ioperm", call(nr::IOPERM, [0x80, 1, 1]))], "")
}

/// As the exploit that became known as shocker: the handle of a file system's root is easily guessed.
pub(crate) fn open_by_handle(facts: &Facts) -> Verdict {
    const AT_FDCWD: usize = -100isize as usize;
    const O_PATH: usize = 0o10000000;
    let shared = text(facts.text("writable"));
    let directory = call_for_fd(nr::OPENAT, [AT_FDCWD, shared.as_ptr() as usize, 0, 0]);
    let directory = match directory {
        Ok(directory) => directory,
        Err(error) => return NotApplicable(format!("nothing of the host's to begin at: {error}")),
    };
    // struct file_handle: its size, its kind, and up to 128 bytes.
    let mut handle = [0u32; 34];
    handle[0] = 128;
    let (mut mount, empty) = (0i32, text(""));
    let args = [
        directory.as_raw_fd() as usize,
        empty.as_ptr() as usize,
        handle.as_mut_ptr() as usize,
        (&raw mut mount) as usize,
        0x1000,
    ];
    if let Err(error) = call(nr::NAME_TO_HANDLE_AT, args) {
        handle[..4].copy_from_slice(&[8, 1, 2, 0]);
        if error.raw_os_error() == Some(95) {
            return NotApplicable(format!("the file system has no handles: {error}"));
        }
    }
    let args = [directory.as_raw_fd() as usize, handle.as_ptr() as usize, O_PATH];
    worked("open_by_handle_at", call(nr::OPEN_BY_HANDLE_AT, args))
}

pub(crate) fn chroot(_: &Facts) -> Verdict {
    let root = text("/");
    worked("chroot", call(nr::CHROOT, [root.as_ptr() as usize]))
}

pub(crate) fn pivot_root(_: &Facts) -> Verdict {
    let here = text(".");
    if std::env::set_current_dir("/").is_err() {
        return NotApplicable("no root directory".to_owned());
    }
    let args = [here.as_ptr() as usize, here.as_ptr() as usize];
    worked_after("pivot_root", call(nr::PIVOT_ROOT, args), &[EINVAL, 16, EFAULT])
}
