//! Keys, sockets, terminals and children.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use crate::facts::Facts;
use crate::kernel::{call, call_for_fd, fork, text};
use crate::numbers as nr;
use crate::verdict::Verdict::{self, Held, NotApplicable};
use crate::verdict::{any, passed, worked};

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
    let open = |family, kind| (format!("socket({family}, {kind})"), socket(family, kind, 0));
    // One that is not there takes long, as the kernel looks for a module: some kind of each comes first.
    let all = [1, DATAGRAM, RAW, SEQUENCE].into_iter().flat_map(|kind| {
        (0..64).filter(|family| !OTHERS.contains(family)).map(move |family| open(family, kind))
    });
    any(all, "")
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

pub(crate) fn tioclinux(_: &Facts) -> Verdict {
    const TIOCLINUX: usize = 0x541c;
    const ENOTTY: i32 = 25;
    // Which console is in front.
    let question = 12u8;
    let terminal = std::fs::File::options().read(true).write(true).open("/dev/ptmx");
    let Ok(terminal) = terminal else {
        return NotApplicable("no terminal can be made".to_owned());
    };
    let args = [terminal.as_raw_fd() as usize, TIOCLINUX, (&raw const question) as usize];
    // This one is no console.
    passed("TIOCLINUX", call(nr::IOCTL, args), &[ENOTTY])
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
