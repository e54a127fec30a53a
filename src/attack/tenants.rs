//! What one program leaves for the next, which is in another sandbox of the same configuration: the first
//! is over when the second looks. What is found is removed.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::process::ExitCode;

use crate::ends::linger;
use crate::facts::Facts;
use crate::kernel::{call, call_for_fd, exit, fork, own, text, wait};
use crate::numbers as nr;
use crate::sentinel::{open_terminal, plant_key};
use crate::verdict::Verdict::{self, Absent, Held, Open};
use crate::verdict::worked;

/// What the next one is told, as a line.
type Told = io::Result<String>;

/// Leaves what an attempt looks for, and tells of it.
pub(crate) fn leave(facts: &Facts) -> ExitCode {
    let left = match facts.text("what") {
        "tenant_files" => leave_files(facts),
        "tenant_process" => stay(facts).map(|()| String::new()),
        "tenant_key" => plant_key(facts.text("mark")).map(|key| format!("left_key={key}")),
        "tenant_objects" => leave_objects(facts),
        "tenant_queue" => leave_queue(facts),
        "tenant_sysctl" => leave_sysctl(facts),
        "tenant_traffic" => leave_traffic(),
        "tenant_group" => leave_usage(),
        "tenant_mount" => leave_mount(facts),
        "tenant_abstract" => leave_abstract(facts),
        "tenant_port" => leave_port(facts),
        "tenant_terminal" => leave_terminal(facts),
        _ => Err(io::ErrorKind::InvalidInput.into()),
    };
    let line = match left {
        Ok(line) => line,
        Err(error) => {
            let refused = worked("nothing could be left", Err::<(), _>(error));
            let (word, text) = refused.parts();
            format!("{word}={text}")
        }
    };
    let mut report = File::from(own(facts.number("report")));
    match writeln!(report, "{line}\nleft=1") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// Leaves a process that holds all that this one has open, as long as anybody outside looks.
fn stay(facts: &Facts) -> io::Result<()> {
    const PR_SET_NAME: usize = 15;
    let Some(child) = fork()? else {
        if call(nr::SETSID, []).is_err() {
            exit(1);
        }
        let name = text(facts.text("comm"));
        let _named = call(nr::PRCTL, [PR_SET_NAME, name.as_ptr() as usize]);
        match fork() {
            Ok(None) => linger(facts.number("report")),
            Ok(Some(_)) => exit(0),
            Err(_) => exit(1),
        }
    };
    match wait(child)? {
        0 => Ok(()),
        _ => Err(io::ErrorKind::OutOfMemory.into()),
    }
}

/// What the second one finds of what could be left.
fn found(facts: &Facts, find: impl FnOnce() -> io::Result<Option<String>>) -> Verdict {
    if facts.has("held") {
        return Held(facts.text("held").to_owned());
    }
    if facts.has("absent") {
        return Absent(facts.text("absent").to_owned());
    }
    match find() {
        Ok(Some(what)) => Open(what),
        Ok(None) => Held("nothing is to be found".to_owned()),
        Err(error) => Held(format!("nothing is to be found: {error}")),
    }
}

/// What was found, and what keeps it from being removed.
fn removed<T>(what: &str, result: io::Result<T>) -> Option<String> {
    Some(match result {
        Ok(_) => what.to_owned(),
        Err(error) => format!("{what}, which stays: {error}"),
    })
}

/// Where a program may be able to write.
const ROOM: [&str; 6] = ["/tmp", "/dev/shm", "/home/user", "/var/tmp", "/run", "/"];

fn leave_files(facts: &Facts) -> Told {
    let write = |directory| fs::write(format!("{directory}/{}", facts.text("mark")), "left");
    let (written, refused): (Vec<_>, Vec<_>) = ROOM.into_iter().map(write).partition(Result::is_ok);
    match refused.into_iter().find_map(Result::err) {
        Some(error) if written.is_empty() => Err(error),
        _ => Ok(format!("files={}", written.len())),
    }
}

pub(crate) fn tenant_files(facts: &Facts) -> Verdict {
    found(facts, || {
        let mut all = Vec::new();
        for directory in ROOM {
            let path = format!("{directory}/{}", facts.text("mark"));
            if fs::symlink_metadata(&path).is_ok() {
                all.extend(removed(&path, fs::remove_file(&path)));
            }
        }
        Ok((!all.is_empty()).then(|| all.join(", ")))
    })
}

pub(crate) fn tenant_process(facts: &Facts) -> Verdict {
    found(facts, || {
        for entry in fs::read_dir("/proc")? {
            let path = entry?.path();
            let comm = fs::read_to_string(path.join("comm")).unwrap_or_default();
            if comm.trim_end() == facts.text("comm") {
                return Ok(Some(format!("its process, {}", path.display())));
            }
        }
        Ok(None)
    })
}

pub(crate) fn tenant_key(facts: &Facts) -> Verdict {
    const KEYCTL_READ: usize = 11;
    const KEYCTL_INVALIDATE: usize = 21;
    found(facts, || {
        let key = facts.number("left_key");
        let mut bytes = [0u8; 64];
        call(nr::KEYCTL, [KEYCTL_READ, key, bytes.as_mut_ptr() as usize, bytes.len()])?;
        Ok(removed(&format!("its key {key}"), call(nr::KEYCTL, [KEYCTL_INVALIDATE, key])))
    })
}

/// System V objects: how each is got, with what arguments besides the key, and removed.
const OBJECTS: [(&str, usize, usize, usize); 3] = [
    ("shared memory", nr::SHMGET, nr::SHMCTL, 4096),
    ("semaphores", nr::SEMGET, nr::SEMCTL, 1),
    ("a message queue", nr::MSGGET, nr::MSGCTL, 0),
];

fn object(get: usize, key: usize, size: usize, flags: usize) -> io::Result<usize> {
    match get {
        nr::MSGGET => call(get, [key, flags]),
        _ => call(get, [key, size, flags]),
    }
}

fn leave_objects(facts: &Facts) -> Told {
    const CREATE: usize = 0o1600;
    for (_, get, _, size) in OBJECTS {
        object(get, facts.number("ipc_key"), size, CREATE)?;
    }
    Ok(String::new())
}

pub(crate) fn tenant_objects(facts: &Facts) -> Verdict {
    const IPC_RMID: usize = 0;
    found(facts, || {
        let mut all = Vec::new();
        for (what, get, control, _) in OBJECTS {
            let Ok(id) = object(get, facts.number("ipc_key"), 0, 0) else { continue };
            // semctl(2) has the number of a semaphore before its command.
            match control {
                nr::SEMCTL => call(control, [id, 0, IPC_RMID])?,
                _ => call(control, [id, IPC_RMID, 0])?,
            };
            all.push(what);
        }
        Ok((!all.is_empty()).then(|| all.join(", ")))
    })
}

fn leave_queue(facts: &Facts) -> Told {
    const O_RDWR_CREAT: usize = 0o102;
    let name = text(facts.text("mark"));
    call_for_fd(nr::MQ_OPEN, [name.as_ptr() as usize, O_RDWR_CREAT, 0o600, 0])?;
    Ok(String::new())
}

pub(crate) fn tenant_queue(facts: &Facts) -> Verdict {
    const O_RDWR: usize = 2;
    found(facts, || {
        let name = text(facts.text("mark"));
        call_for_fd(nr::MQ_OPEN, [name.as_ptr() as usize, O_RDWR, 0, 0])?;
        call(nr::MQ_UNLINK, [name.as_ptr() as usize])?;
        Ok(Some("its message queue".to_owned()))
    })
}

/// Parameters of a namespace that hurt nobody: how many messages a queue has, and the hops of a packet.
const PARAMETERS: [&str; 2] =
    ["/proc/sys/fs/mqueue/msg_default", "/proc/sys/net/ipv4/ip_default_ttl"];

/// Sets the first that can be set to one more.
fn leave_sysctl(_: &Facts) -> Told {
    let mut last = None;
    for path in PARAMETERS {
        let before = fs::read_to_string(path).map(|text| text.trim_end().to_owned());
        let set = before.and_then(|before| {
            let next = before.parse::<u64>().map_err(io::Error::other)? + 1;
            fs::write(path, next.to_string())?;
            Ok(format!("parameter={path} {before} {next}"))
        });
        match set {
            Ok(line) => return Ok(line),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or(io::ErrorKind::NotFound.into()))
}

pub(crate) fn tenant_sysctl(facts: &Facts) -> Verdict {
    found(facts, || {
        let told: Vec<_> = facts.text("parameter").split(' ').collect();
        let [path, before, next] = told[..] else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        if fs::read_to_string(path)?.trim_end() != next {
            return Ok(None);
        }
        let back = fs::write(path, before);
        Ok(removed(&format!("{path} as it has set it"), back))
    })
}

/// Packets that loopback has received, as the kernel tells it to who asks for interfaces.
fn packets() -> io::Result<u64> {
    const AF_NETLINK: usize = 16;
    const SOCK_RAW: usize = 3;
    // struct nlmsghdr and ifinfomsg: RTM_GETLINK, NLM_F_REQUEST and NLM_F_DUMP.
    let request = [32u32, 18 | 0x301 << 16, 1, 0, 0, 0, 0, 0];
    let socket = File::from(call_for_fd(nr::SOCKET, [AF_NETLINK, SOCK_RAW, 0])?);
    (&socket).write_all(&request.map(u32::to_ne_bytes).concat())?;
    let mut answer = vec![0; 65536];
    let length = (&socket).read(&mut answer)?;
    of_loopback(&answer[..length]).ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// The same from messages.
fn of_loopback(mut messages: &[u8]) -> Option<u64> {
    const IFF_LOOPBACK: u32 = 8;
    const IFLA_STATS64: u16 = 23;
    let word = |bytes: &[u8]| Some(u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?));
    loop {
        let message = messages.get(..word(messages)? as usize)?;
        messages = messages.get(message.len().max(16)..)?;
        if word(message.get(24..)?)? & IFF_LOOPBACK == 0 {
            continue;
        }
        let mut attributes = message.get(32..)?;
        loop {
            let head = word(attributes)?;
            if (head >> 16) as u16 == IFLA_STATS64 {
                return Some(u64::from_ne_bytes(attributes.get(4..12)?.try_into().ok()?));
            }
            let length = (head & 0xffff).next_multiple_of(4).max(4);
            attributes = attributes.get(length as usize..)?;
        }
    }
}

fn leave_traffic() -> Told {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(socket.local_addr()?)?;
    for _ in 0..1000 {
        socket.send(b"!")?;
    }
    Ok(format!("packets={}", packets()?))
}

pub(crate) fn tenant_traffic(facts: &Facts) -> Verdict {
    found(facts, || {
        let now = packets()?;
        let counted = now >= facts.number("packets") as u64;
        Ok(counted.then(|| format!("{now} packets on loopback, its own among them")))
    })
}

/// A file that says how much processor time a control group of this process's has used, and the number.
fn usage() -> io::Result<(String, u64)> {
    const EOPNOTSUPP: i32 = 95;
    let own = fs::read_to_string("/proc/self/cgroup")?;
    let groups = own.lines().filter_map(|line| line.splitn(3, ':').nth(2)).chain([""]);
    for group in groups {
        for place in ["", "/unified", "/cpuacct", "/cpu,cpuacct"] {
            for name in ["cpu.stat", "cpuacct.usage"] {
                let path = format!("/sys/fs/cgroup{place}{group}/{name}");
                let text = fs::read_to_string(&path).unwrap_or_default();
                let number = text.split_whitespace().find_map(|word| word.parse().ok());
                if let Some(number) = number {
                    return Ok((path, number));
                }
            }
        }
    }
    Err(io::Error::from_raw_os_error(EOPNOTSUPP))
}

fn leave_usage() -> Told {
    usage().map(|(path, used)| format!("used={used}\nused_in={path}"))
}

pub(crate) fn tenant_group(facts: &Facts) -> Verdict {
    found(facts, || {
        let (path, now) = usage()?;
        let same = path == facts.text("used_in") && now >= facts.number("used") as u64;
        Ok(same.then(|| format!("the processor time in {path}, its own in it")))
    })
}

fn leave_mount(facts: &Facts) -> Told {
    let (source, target, kind) =
        (text(facts.text("mark")), text(facts.text("room")), text("tmpfs"));
    let args = [&source, &target, &kind].map(|text| text.as_ptr() as usize);
    call(nr::MOUNT, [args[0], args[1], args[2], 0, 0])?;
    Ok(String::new())
}

pub(crate) fn tenant_mount(facts: &Facts) -> Verdict {
    const MNT_DETACH: usize = 2;
    found(facts, || {
        if !fs::read_to_string("/proc/self/mountinfo")?.contains(facts.text("mark")) {
            return Ok(None);
        }
        let target = text(facts.text("room"));
        let gone = call(nr::UMOUNT2, [target.as_ptr() as usize, MNT_DETACH]);
        Ok(removed("its mount", gone))
    })
}

fn leave_abstract(facts: &Facts) -> Told {
    let name = SocketAddr::from_abstract_name(facts.text("mark"))?;
    let _held = UnixListener::bind_addr(&name)?;
    stay(facts).map(|()| String::new())
}

pub(crate) fn tenant_abstract(facts: &Facts) -> Verdict {
    found(facts, || {
        let name = SocketAddr::from_abstract_name(facts.text("mark"))?;
        UnixStream::connect_addr(&name)?;
        Ok(Some("its abstract socket, which answers".to_owned()))
    })
}

fn leave_port(facts: &Facts) -> Told {
    let held = TcpListener::bind("127.0.0.1:0")?;
    stay(facts)?;
    Ok(format!("left_port={}", held.local_addr()?.port()))
}

pub(crate) fn tenant_port(facts: &Facts) -> Verdict {
    const EADDRINUSE: i32 = 98;
    found(facts, || {
        let address = format!("127.0.0.1:{}", facts.text("left_port"));
        if TcpStream::connect(&address).is_ok() {
            return Ok(Some("its port, which answers".to_owned()));
        }
        let taken = TcpListener::bind(&address).err();
        let taken = taken.is_some_and(|error| error.raw_os_error() == Some(EADDRINUSE));
        let told = fs::read_to_string("/proc/net/tcp").unwrap_or_default();
        let told = told.contains(&format!(":{:04X} ", facts.number("left_port")));
        Ok((taken || told).then(|| "its port, which is taken".to_owned()))
    })
}

const TIOCGWINSZ: usize = 0x5413;
const TIOCSWINSZ: usize = 0x5414;
/// A size that no terminal has by itself: rows, columns, and nothing.
const SIZE: [u16; 4] = [47, 11, 0, 0];

/// A terminal that stays, and the own one if there is one.
fn leave_terminal(facts: &Facts) -> Told {
    let (number, master) = open_terminal()?;
    let at = SIZE.as_ptr() as usize;
    call(nr::IOCTL, [master.as_raw_fd() as usize, TIOCSWINSZ, at])?;
    // Standard input is one only if that was asked for.
    let _not_a_terminal = call(nr::IOCTL, [0, TIOCSWINSZ, at]);
    stay(facts)?;
    Ok(format!("left_terminal=/dev/pts/{number}"))
}

pub(crate) fn tenant_terminal(facts: &Facts) -> Verdict {
    const O_NOCTTY: i32 = 0o400;
    let has_size = |fd: i32| {
        let mut size = [0u16; 4];
        let asked = call(nr::IOCTL, [fd as usize, TIOCGWINSZ, size.as_mut_ptr() as usize]);
        asked.map(|_| std::hint::black_box(size) == SIZE)
    };
    found(facts, || {
        if has_size(0).unwrap_or(false) {
            return Ok(Some("the size that it has given the terminal".to_owned()));
        }
        let mut options = File::options();
        let terminal =
            options.read(true).custom_flags(O_NOCTTY).open(facts.text("left_terminal"))?;
        Ok(has_size(terminal.as_raw_fd())?.then(|| "its terminal".to_owned()))
    })
}
