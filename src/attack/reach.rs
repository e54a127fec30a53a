//! What can be reached of the host by network, sockets and other objects with names.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::Path;

use crate::facts::Facts;
use crate::kernel::{Shared, call, call_for_fd, receive_descriptor, text};
use crate::numbers as nr;
use crate::verdict::Verdict::{self, Held, NotApplicable, Open};
use crate::verdict::worked;

fn local(port: usize) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::LOCALHOST, port as u16)
}

pub(crate) fn tcp_of_host(facts: &Facts) -> Verdict {
    worked("a connection", TcpStream::connect(local(facts.number("tcp"))))
}

pub(crate) fn udp_of_host(facts: &Facts) -> Verdict {
    let sent = UdpSocket::bind(local(0)).and_then(|socket| {
        socket.connect(local(facts.number("udp")))?;
        socket.send(b"!")?;
        // A port where nobody is answers, and the error comes with the next call.
        socket.send(b"!")
    });
    match sent {
        Ok(_) => Held("sent; who got it is seen outside".to_owned()),
        Err(error) => Held(format!("a datagram: {error}")),
    }
}

pub(crate) fn abstract_socket(facts: &Facts) -> Verdict {
    let address = SocketAddr::from_abstract_name(facts.text("abstract"));
    worked("a connection", address.and_then(|address| UnixStream::connect_addr(&address)))
}

pub(crate) fn take_descriptor(facts: &Facts) -> Verdict {
    let address = SocketAddr::from_abstract_name(facts.text("abstract"));
    let hidden = address.and_then(|address| UnixStream::connect_addr(&address));
    let connected = hidden.or_else(|_| UnixStream::connect(facts.text("socket")));
    let taken = connected.and_then(|socket| receive_descriptor(socket.as_raw_fd()));
    worked("a descriptor of the host's directory", taken)
}

pub(crate) fn interfaces(_: &Facts) -> Verdict {
    const SIOCGIFNAME: usize = 0x8910;
    let Ok(socket) = UdpSocket::bind(local(0)).or_else(|_| UdpSocket::bind("[::]:0")) else {
        return Held("no socket can be made".to_owned());
    };
    let name = |index: u32| {
        // struct ifreq: a name of 16 bytes, and here a number.
        let mut request = [0u8; 40];
        request[16..20].copy_from_slice(&index.to_ne_bytes());
        let args = [socket.as_raw_fd() as usize, SIOCGIFNAME, request.as_mut_ptr() as usize];
        call(nr::IOCTL, args).ok()?;
        let name = request.split(|&byte| byte == 0).next().unwrap_or_default();
        Some(String::from_utf8_lossy(name).into_owned())
    };
    let others: Vec<_> = (1..=64).filter_map(name).filter(|name| name != "lo").collect();
    // The kernel puts tunnels into each network namespace; they are down, and nobody's.
    let own = [
        "tunl0", "sit0", "ip6tnl0", "gre0", "gretap0", "erspan0", "ip_vti0", "ip6_vti0", "ip6gre0",
    ];
    match others.iter().find(|name| !own.contains(&name.as_str())) {
        Some(name) => Open(format!("the interface {name}")),
        None => Held("no interface but the loopback".to_owned()),
    }
}

pub(crate) fn way_out(_: &Facts) -> Verdict {
    // An address for documentation: nothing is sent to it.
    let out = UdpSocket::bind("0.0.0.0:0").and_then(|socket| socket.connect("192.0.2.1:9"));
    worked("a route to the world", out)
}

pub(crate) fn shared_memory(facts: &Facts) -> Verdict {
    if !facts.has("shm") {
        return NotApplicable("the host has no System V shared memory".to_owned());
    }
    worked("shared memory", Shared::attach(facts.number("shm")).map(|mut shared| shared.change()))
}

pub(crate) fn message_queue(facts: &Facts) -> Verdict {
    if !facts.has("mq") {
        return NotApplicable("the host has no message queues".to_owned());
    }
    let name = text(facts.text("mq"));
    worked("a message queue", call_for_fd(nr::MQ_OPEN, [name.as_ptr() as usize, 2, 0, 0]))
}

pub(crate) fn environment(facts: &Facts) -> Verdict {
    let given: Vec<_> = facts.text("variables").split(',').collect();
    let others = std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned());
    // What another program than stockade sets by itself is not known.
    let planted = facts.text("planted_variable");
    let is_foreign = |name: &str| match planted {
        "" => !given.contains(&name),
        planted => name == planted,
    };
    match others.into_iter().find(|name| is_foreign(name)) {
        Some(name) => Open(format!("the variable {name}")),
        None => Held("no variable but those that were given".to_owned()),
    }
}

/// Sockets by which a desktop, a bus or an agent can be asked to do things.
pub(crate) fn desktop(facts: &Facts) -> Verdict {
    let mut places = vec![facts.text("socket").to_owned()];
    for path in ["/run/dbus/system_bus_socket", "/run/docker.sock", "/run/systemd/private"] {
        places.push(path.to_owned());
    }
    let below = |directory: &str| {
        let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
        entries.map(|entry| entry.path().to_string_lossy().into_owned()).collect::<Vec<_>>()
    };
    for directory in ["/tmp/.X11-unix", "/tmp/.ICE-unix", "/run", "/run/user"] {
        places.extend(below(directory));
    }
    for directory in below("/run/user").into_iter().chain(below("/tmp")) {
        places.extend(below(&directory));
    }
    let is_socket = |path: &String| {
        let found = Path::new(path).symlink_metadata();
        found.is_ok_and(|found| found.file_type().is_socket())
    };
    if let Some(path) = places.into_iter().find(is_socket) {
        return worked(&format!("the socket {path}"), UnixStream::connect(&path).map(drop));
    }
    let hidden = |name: &str| -> io::Result<UnixStream> {
        UnixStream::connect_addr(&SocketAddr::from_abstract_name(name)?)
    };
    for number in 0..4 {
        let name = format!("/tmp/.X11-unix/X{number}");
        if hidden(&name).is_ok() {
            return Open(format!("the abstract socket {name}"));
        }
    }
    Held("no such socket".to_owned())
}
