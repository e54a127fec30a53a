//! The process outside that must not be touched, and what it holds.
//!
//! It is of the user that the sandbox's program is on the host, so that no permission of files or
//! processes is what keeps the program from it. It tells facts about itself, and then what happens to it.

use std::io::{self, Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::process::ExitCode;

use crate::facts::Facts;
use crate::kernel::{Shared, call, call_for_fd, send_descriptor, text};
use crate::numbers as nr;

/// The signal that is tried on everybody: ignored by whoever does not wait for it.
pub(crate) const SIGNAL: usize = 23;

/// What is in its memory and nowhere else.
static SECRET: [u8; 32] = *b"stockade-attack-secret-of-memory";

/// Stands until its standard input ends.
pub(crate) fn stand(facts: &Facts) -> ExitCode {
    match Sentinel::new(facts).and_then(|mut sentinel| sentinel.watch()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sentinel: {error}");
            ExitCode::FAILURE
        }
    }
}

struct Sentinel {
    signals: OwnedFd,
    tcp: TcpListener,
    udp: UdpSocket,
    hidden: UnixListener,
    named: UnixListener,
    /// What is handed to whoever connects.
    directory: std::fs::File,
    _terminal: Option<(OwnedFd, OwnedFd)>,
    shared: Option<Shared>,
    _queue: Option<Queue>,
    _files: Files,
}

/// What it has put into a directory, gone with it.
struct Files([String; 2]);

impl Drop for Files {
    fn drop(&mut self) {
        for path in &self.0 {
            if let Err(error) = std::fs::remove_file(path) {
                eprintln!("sentinel: {path} stays: {error}");
            }
        }
    }
}

/// A POSIX message queue, which stays until somebody removes it.
struct Queue(String);

impl Queue {
    fn new(name: &str) -> io::Result<Self> {
        const O_RDWR_CREAT: usize = 0o102;
        let path = text(name);
        call(nr::MQ_OPEN, [path.as_ptr() as usize, O_RDWR_CREAT, 0o666, 0])?;
        Ok(Queue(name.to_owned()))
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        let path = text(&self.0);
        if let Err(error) = call(nr::MQ_UNLINK, [path.as_ptr() as usize]) {
            eprintln!("sentinel: the message queue {} stays: {error}", self.0);
        }
    }
}

fn tell(name: &str, value: &dyn std::fmt::Display) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{name}={value}")?;
    out.flush()
}

impl Sentinel {
    fn new(facts: &Facts) -> io::Result<Self> {
        let stage = facts.text("stage");
        let tcp = TcpListener::bind("127.0.0.1:0")?;
        let udp = UdpSocket::bind("127.0.0.1:0")?;
        let name = facts.text("name").to_owned();
        let hidden = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name)?)?;
        let path = format!("{stage}/{name}.socket");
        let named = UnixListener::bind(&path)?;
        let file = format!("{stage}/{name}.file");
        std::fs::write(&file, SECRET)?;
        let _files = Files([path.clone(), file.clone()]);
        for (name, value) in [
            ("sentinel", std::process::id().to_string()),
            ("memory", (SECRET.as_ptr() as usize).to_string()),
            ("tcp", tcp.local_addr()?.port().to_string()),
            ("udp", udp.local_addr()?.port().to_string()),
            ("abstract", name),
            ("socket", path),
            ("file", file),
        ] {
            tell(name, &value)?;
        }
        // What a kernel or a host may do without is told only where it is there.
        if let Ok(key) = plant_key("stockade-attack-secret") {
            tell("key", &key)?;
        }
        let shared = Shared::new(4096).ok();
        if let Some(shared) = &shared {
            tell("shm", &shared.id())?;
        }
        let queue = Queue::new(facts.text("name")).ok();
        if let Some(Queue(name)) = &queue {
            tell("mq", name)?;
        }
        let terminal = plant_terminal().ok();
        if let Some((number, ..)) = &terminal {
            tell("terminal", &format!("/dev/pts/{number}"))?;
        }
        let _terminal = terminal.map(|(_, master, slave)| (master, slave));
        let mask = 1u64 << (SIGNAL - 1);
        let at = (&raw const mask) as usize;
        // At its end its terminal hangs up.
        const SIGHUP: usize = 1;
        let blocked = mask | 1 << (SIGHUP - 1);
        call(nr::RT_SIGPROCMASK, [0, (&raw const blocked) as usize, 0, 8])?;
        let signals = call_for_fd(nr::SIGNALFD4, [usize::MAX, at, 8, 0o4000])?;
        for socket in [&hidden, &named] {
            socket.set_nonblocking(true)?;
        }
        tcp.set_nonblocking(true)?;
        udp.set_nonblocking(true)?;
        let directory = std::fs::File::open(stage)?;
        tell("ready", &1)?;
        Ok(Sentinel {
            signals,
            tcp,
            udp,
            hidden,
            named,
            directory,
            _terminal,
            shared,
            _queue: queue,
            _files,
        })
    }

    /// For each line of its input it answers with what has happened until then.
    fn watch(&mut self) -> io::Result<()> {
        let mut byte = [0];
        loop {
            self.wait()?;
            self.look()?;
            if !is_readable(0)? {
                continue;
            }
            if io::stdin().read(&mut byte)? == 0 {
                return Ok(());
            }
            self.look()?;
            tell("pong", &1)?;
        }
    }

    fn wait(&self) -> io::Result<()> {
        let fds = [
            0,
            self.signals.as_raw_fd(),
            self.tcp.as_raw_fd(),
            self.udp.as_raw_fd(),
            self.hidden.as_raw_fd(),
            self.named.as_raw_fd(),
        ];
        poll(&fds, true).map(drop)
    }

    fn look(&mut self) -> io::Result<()> {
        let mut information = [0u8; 128];
        let args = [
            self.signals.as_raw_fd() as usize,
            information.as_mut_ptr() as usize,
            information.len(),
        ];
        while call(nr::READ, args).is_ok() {
            tell("touched", &"the sentinel got a signal")?;
        }
        while self.tcp.accept().is_ok() {
            tell("touched", &"the sentinel got a connection of TCP")?;
        }
        while self.udp.recv(&mut information).is_ok() {
            tell("touched", &"the sentinel got a datagram")?;
        }
        while let Ok((peer, _)) = self.hidden.accept() {
            tell("touched", &"the sentinel got a connection to its abstract socket")?;
            self.give(&peer)?;
        }
        while let Ok((peer, _)) = self.named.accept() {
            tell("touched", &"the sentinel got a connection to its socket")?;
            self.give(&peer)?;
        }
        if let Some(shared) = self.shared.as_mut().filter(|shared| shared.is_changed()) {
            tell("touched", &"the sentinel's shared memory was changed")?;
            shared.reset();
        }
        Ok(())
    }

    /// Hands a descriptor over, as a service of the host's may.
    fn give(&self, peer: &UnixStream) -> io::Result<()> {
        match send_descriptor(peer.as_raw_fd(), self.directory.as_raw_fd()) {
            // Whoever has connected may have ended.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
            _ => Ok(()),
        }
    }
}

/// Waits until one of them is readable.
fn poll(fds: &[i32], wait: bool) -> io::Result<usize> {
    const POLLIN: u64 = 1;
    let mut set: Vec<u64> = fds.iter().map(|&fd| fd as u32 as u64 | POLLIN << 32).collect();
    let now = [0u64; 2];
    let time = if wait { 0 } else { now.as_ptr() as usize };
    call(nr::PPOLL, [set.as_mut_ptr() as usize, set.len(), time, 0, 0])
}

fn is_readable(fd: i32) -> io::Result<bool> {
    Ok(poll(&[fd], false)? > 0)
}

/// A key of the user's that all of the user's processes may read.
pub(crate) fn plant_key(name: &str) -> io::Result<usize> {
    const USER_KEYRING: usize = -4isize as usize;
    const KEYCTL_SETPERM: usize = 5;
    const KEYCTL_SET_TIMEOUT: usize = 15;
    const SECONDS: usize = 600;
    let (kind, length, name) = (text("user"), name.len(), text(name));
    let at = name.as_ptr() as usize;
    let key = call(nr::ADD_KEY, [kind.as_ptr() as usize, at, at, length, USER_KEYRING])?;
    call(nr::KEYCTL, [KEYCTL_SETPERM, key, 0x3f3f_0000])?;
    call(nr::KEYCTL, [KEYCTL_SET_TIMEOUT, key, SECONDS])?;
    Ok(key)
}

/// A new terminal: its number, and the end of who has made it.
pub(crate) fn open_terminal() -> io::Result<(u32, OwnedFd)> {
    const TIOCSPTLCK: usize = 0x4004_5431;
    const TIOCGPTN: usize = 0x8004_5430;
    let master = OwnedFd::from(std::fs::File::options().read(true).write(true).open("/dev/ptmx")?);
    let (unlock, mut number) = (0i32, 0u32);
    let fd = master.as_raw_fd() as usize;
    call(nr::IOCTL, [fd, TIOCSPTLCK, (&raw const unlock) as usize])?;
    call(nr::IOCTL, [fd, TIOCGPTN, (&raw mut number) as usize])?;
    Ok((std::hint::black_box(number), master))
}

/// A terminal of which this process is the session's leader.
fn plant_terminal() -> io::Result<(u32, OwnedFd, OwnedFd)> {
    const TIOCSCTTY: usize = 0x540e;
    let (number, master) = open_terminal()?;
    // A session's leader gets the first terminal that it opens.
    call(nr::SETSID, [])?;
    let path = format!("/dev/pts/{number}");
    let slave = OwnedFd::from(std::fs::File::options().read(true).write(true).open(path)?);
    let already = call(nr::IOCTL, [slave.as_raw_fd() as usize, TIOCSCTTY, 0]);
    already?;
    Ok((number, master, slave))
}
