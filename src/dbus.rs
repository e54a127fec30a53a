//! Calls over D-Bus, as far as a service manager is asked for something;
//! [D-Bus Specification](https://dbus.freedesktop.org/doc/dbus-specification.html).
//!
//! A connection is made for one conversation and closed after it, and has a deadline. There is no
//! thread and no event loop, so that a fork of the embedder finds nothing that is half done.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, recv, sendmsg, socket,
};
use serde::{Deserialize, Serialize};
use zvariant::serialized::{Context, Data};
use zvariant::{Endian, NATIVE_ENDIAN, Signature, Type, Value, to_bytes};

/// The longest message that is taken in.
const LONGEST: usize = 1 << 20;
/// The longest line of the authentication.
const LINE: usize = 1 << 14;
/// Between attempts to connect to a bus that has many callers.
const PAUSE: Duration = Duration::from_millis(5);

/// Message types.
const CALL: u8 = 1;
const RETURN: u8 = 2;
const ERROR: u8 = 3;
const SIGNAL: u8 = 4;
/// `NO_AUTO_START`: nobody is started to answer.
const NO_AUTO_START: u8 = 2;

/// Header fields.
const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SIGNATURE: u8 = 8;

/// The bus itself.
pub(crate) const BUS: Peer = Peer {
    name: "org.freedesktop.DBus",
    path: "/org/freedesktop/DBus",
    interface: "org.freedesktop.DBus",
};

/// Who is called: a bus name, an object and an interface.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    pub(crate) path: &'static str,
    pub(crate) interface: &'static str,
}

/// Why a conversation failed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) errno: Errno,
    /// The name and text of the error that was answered; empty if none was.
    pub(crate) text: String,
}

impl From<Errno> for Fault {
    fn from(errno: Errno) -> Self {
        Fault { errno, text: String::new() }
    }
}

type Result<T> = std::result::Result<T, Fault>;

/// A header as it is on the wire: order of bytes, type, flags, version, length of the body,
/// serial, fields.
type Header<'a> = (u8, u8, u8, u8, u32, u32, Vec<(u8, Value<'a>)>);

/// What was received.
#[derive(Debug)]
pub(crate) struct Message {
    kind: u8,
    reply_to: Option<u32>,
    pub(crate) member: String,
    error: String,
    signature: Option<Signature>,
    endian: Endian,
    body: Vec<u8>,
}

impl Message {
    /// How many bytes the message has that begins so; `None` if that cannot be seen yet.
    fn length(bytes: &[u8]) -> Result<Option<usize>> {
        let Some(start) = bytes.first_chunk::<16>() else { return Ok(None) };
        let number = |at: usize| {
            let word = [start[at], start[at + 1], start[at + 2], start[at + 3]];
            let number = match start[0] {
                b'l' => u32::from_le_bytes(word),
                b'B' => u32::from_be_bytes(word),
                _ => return Err(Errno::EPROTO),
            };
            usize::try_from(number).map_err(|_| Errno::EMSGSIZE)
        };
        let (body, fields) = (number(4)?, number(12)?);
        if body > LONGEST || fields > LONGEST {
            return Err(Errno::EMSGSIZE.into());
        }
        Ok(Some(16 + fields.next_multiple_of(8) + body))
    }

    /// Takes a whole one apart.
    fn parse(bytes: &[u8]) -> Result<Self> {
        let wrong = |_| Fault::from(Errno::EPROTO);
        let endian = if bytes.first() == Some(&b'B') { Endian::Big } else { Endian::Little };
        let data = Data::new(bytes, Context::new_dbus(endian, 0));
        let ((_, kind, _, _, length, _, fields), _): (Header<'_>, _) =
            data.deserialize().map_err(wrong)?;
        let length = usize::try_from(length).map_err(|_| Errno::EMSGSIZE)?;
        let start = bytes.len().checked_sub(length).ok_or(Errno::EPROTO)?;
        let (member, error) = (String::new(), String::new());
        let body = bytes[start..].to_vec();
        let mut message =
            Message { kind, reply_to: None, member, error, signature: None, endian, body };
        for (code, value) in fields {
            match (code, value) {
                (MEMBER, Value::Str(name)) => message.member = name.as_str().to_owned(),
                (ERROR_NAME, Value::Str(name)) => message.error = name.as_str().to_owned(),
                (REPLY_SERIAL, Value::U32(serial)) => message.reply_to = Some(serial),
                (SIGNATURE, Value::Signature(signature)) => message.signature = Some(signature),
                _ => {}
            }
        }
        Ok(message)
    }

    /// What it says, if it says such a thing.
    pub(crate) fn body<T: Type + for<'de> Deserialize<'de>>(&self) -> Result<T> {
        let said = self.signature.as_ref().map(Signature::to_string_no_parens);
        if said.unwrap_or_default() != T::SIGNATURE.to_string_no_parens() {
            return Err(Errno::EPROTO.into());
        }
        let data = Data::new(self.body.as_slice(), Context::new_dbus(self.endian, 0));
        data.deserialize().map(|(body, _)| body).map_err(|_| Errno::EPROTO.into())
    }

    fn into_reply(self) -> Result<Self> {
        if self.kind != ERROR {
            return Ok(self);
        }
        let text = self.body::<String>().unwrap_or_default();
        Err(Fault { errno: errno_of(&self.error), text: format!("{}: {text:?}", self.error) })
    }
}

/// The error number that comes nearest to an error of the bus or of a service.
fn errno_of(name: &str) -> Errno {
    match name.rsplit('.').next().unwrap_or_default() {
        "AccessDenied" | "AuthFailed" | "InteractiveAuthorizationRequired" => Errno::EACCES,
        "ServiceUnknown" | "NameHasNoOwner" | "NoSuchUnit" => Errno::ENOENT,
        "NoReply" | "Timeout" | "TimedOut" => Errno::ETIMEDOUT,
        "Disconnected" => Errno::ECONNRESET,
        "InvalidArgs" | "PropertyReadOnly" | "UnknownProperty" => Errno::EINVAL,
        "UnknownMethod" | "UnknownInterface" | "UnknownObject" => Errno::EOPNOTSUPP,
        "LimitsExceeded" | "NoMemory" => Errno::ENOMEM,
        "UnitExists" | "FileExists" => Errno::EEXIST,
        "UnixProcessIdUnknown" | "NoSuchProcess" => Errno::ESRCH,
        _ => Errno::EREMOTEIO,
    }
}

/// A connection to a message bus.
#[derive(Debug)]
pub(crate) struct Bus {
    socket: OwnedFd,
    deadline: Instant,
    serial: u32,
    /// What was received of the next message.
    input: Vec<u8>,
    signals: VecDeque<Message>,
    /// What the bus calls this connection.
    name: String,
}

impl Bus {
    /// Connects to the first bus of a list of addresses that can be connected to.
    pub(crate) fn connect(addresses: &str, deadline: Instant) -> Result<Self> {
        let mut first = None;
        for address in addresses.split(';').filter_map(parse_address) {
            match address.and_then(|address| open(&address, deadline)) {
                Ok(socket) => return Bus::greet(socket, deadline),
                Err(errno) => first = first.or(Some(errno)),
            }
        }
        Err(first.unwrap_or(Errno::EINVAL).into())
    }

    /// Says who calls, and gets a name.
    fn greet(socket: OwnedFd, deadline: Instant) -> Result<Self> {
        let (input, signals, name) = (Vec::new(), VecDeque::new(), String::new());
        let mut bus = Bus { socket, deadline, serial: 0, input, signals, name };
        // The kernel says which user it is: a number of the caller's could be that of another user
        // namespace.
        bus.send(b"\0AUTH EXTERNAL\r\n")?;
        if bus.line()?.starts_with("DATA") {
            bus.send(b"DATA\r\n")?;
            if bus.line()?.starts_with("OK ") {
                bus.send(b"BEGIN\r\n")?;
                bus.name = bus.call(BUS, "Hello", &())?.body()?;
                return Ok(bus);
            }
        }
        Err(Errno::EACCES.into())
    }

    /// Whether who answers the calls knows processes by the numbers that the caller knows.
    pub(crate) fn has_same_pids(&mut self) -> Result<bool> {
        let name = self.name.clone();
        let pid: u32 = self.call(BUS, "GetConnectionUnixProcessID", &name)?.body()?;
        Ok(pid == std::process::id())
    }

    /// Calls a method and waits for the answer. Signals that come before it are kept.
    pub(crate) fn call<T>(&mut self, peer: Peer, member: &str, arguments: &T) -> Result<Message>
    where
        T: Serialize + Type,
    {
        self.serial += 1;
        let serial = self.serial;
        let message = encode(peer, member, serial, arguments)?;
        self.send(&message)?;
        loop {
            let message = self.receive()?;
            match message.kind {
                SIGNAL => self.signals.push_back(message),
                RETURN | ERROR if message.reply_to == Some(serial) => return message.into_reply(),
                _ => {}
            }
        }
    }

    /// The next signal.
    pub(crate) fn signal(&mut self) -> Result<Message> {
        if let Some(signal) = self.signals.pop_front() {
            return Ok(signal);
        }
        loop {
            let message = self.receive()?;
            if message.kind == SIGNAL {
                return Ok(message);
            }
        }
    }

    fn receive(&mut self) -> Result<Message> {
        loop {
            match Message::length(&self.input)? {
                Some(length) if self.input.len() >= length => {
                    let message = Message::parse(&self.input[..length])?;
                    self.input.drain(..length);
                    return Ok(message);
                }
                _ => self.fill()?,
            }
        }
    }

    /// A line of the authentication, without its end.
    fn line(&mut self) -> Result<String> {
        loop {
            if let Some(end) = self.input.windows(2).position(|pair| pair == b"\r\n") {
                let line = String::from_utf8_lossy(&self.input[..end]).into_owned();
                self.input.drain(..end + 2);
                return Ok(line);
            }
            if self.input.len() > LINE {
                return Err(Errno::EMSGSIZE.into());
            }
            self.fill()?;
        }
    }

    fn fill(&mut self) -> Result<()> {
        let mut bytes = [0; 4096];
        loop {
            self.wait(PollFlags::POLLIN)?;
            match recv(self.socket.as_raw_fd(), &mut bytes, MsgFlags::MSG_DONTWAIT) {
                Ok(0) => return Err(Errno::ECONNRESET.into()),
                Ok(count) => {
                    self.input.extend_from_slice(&bytes[..count]);
                    return Ok(());
                }
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    fn send(&mut self, mut bytes: &[u8]) -> Result<()> {
        let quiet = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        while !bytes.is_empty() {
            let data = [IoSlice::new(bytes)];
            match sendmsg::<()>(self.socket.as_raw_fd(), &data, &[], quiet, None) {
                Ok(count) => bytes = &bytes[count..],
                Err(Errno::EAGAIN) => self.wait(PollFlags::POLLOUT)?,
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }

    /// Until the socket can be read or written; an error when the time is up.
    fn wait(&self, what: PollFlags) -> Result<()> {
        loop {
            let left = self.deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Errno::ETIMEDOUT.into());
            }
            // Rounded up, so that the last millisecond is slept through as well.
            let left = PollTimeout::try_from(left + Duration::from_millis(1));
            let mut set = [PollFd::new(self.socket.as_fd(), what)];
            match poll(&mut set, left.unwrap_or(PollTimeout::MAX)) {
                Ok(1..) => return Ok(()),
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

fn encode<T: Serialize + Type>(
    peer: Peer,
    member: &str,
    serial: u32,
    arguments: &T,
) -> Result<Vec<u8>> {
    let wrong = |_| Fault::from(Errno::EINVAL);
    let context = Context::new_dbus(NATIVE_ENDIAN, 0);
    let body = to_bytes(context, arguments).map_err(wrong)?;
    let path = zvariant::ObjectPath::try_from(peer.path).map_err(wrong)?;
    let fields = vec![
        (PATH, Value::ObjectPath(path)),
        (DESTINATION, Value::from(peer.name)),
        (INTERFACE, Value::from(peer.interface)),
        (MEMBER, Value::from(member)),
    ];
    let order = if cfg!(target_endian = "big") { b'B' } else { b'l' };
    let length = u32::try_from(body.len()).map_err(|_| Errno::EMSGSIZE)?;
    let header: Header<'_> = (order, CALL, NO_AUTO_START, 1, length, serial, fields);
    let mut bytes = to_bytes(context, &header).map_err(wrong)?.to_vec();
    if T::SIGNATURE != &Signature::Unit {
        add_signature(&mut bytes, &T::SIGNATURE.to_string_no_parens())?;
    }
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes.extend_from_slice(&body);
    Ok(bytes)
}

/// Adds a field for the types of the body. Several are a list and no structure, and so none that
/// the crate's own type for a signature stands for.
fn add_signature(header: &mut Vec<u8>, types: &str) -> Result<()> {
    let length = u8::try_from(types.len()).map_err(|_| Errno::EMSGSIZE)?;
    header.resize(header.len().next_multiple_of(8), 0);
    header.extend_from_slice(&[SIGNATURE, 1, b'g', 0, length]);
    header.extend_from_slice(types.as_bytes());
    header.push(0);
    let fields = u32::try_from(header.len() - 16).map_err(|_| Errno::EMSGSIZE)?;
    header[12..16].copy_from_slice(&fields.to_ne_bytes());
    Ok(())
}

/// A socket of one address of a list; `None` if it is an address of another kind.
fn parse_address(address: &str) -> Option<std::result::Result<UnixAddr, Errno>> {
    let pairs = address.strip_prefix("unix:")?;
    pairs.split(',').filter_map(|pair| pair.split_once('=')).find_map(|(key, value)| match key {
        "path" => Some(UnixAddr::new(unescape(value)?.as_slice())),
        "abstract" => Some(UnixAddr::new_abstract(&unescape(value)?)),
        _ => None,
    })
}

/// Undoes the escapes of an address, a percent sign and two hexadecimal digits.
fn unescape(text: &str) -> Option<Vec<u8>> {
    let (mut plain, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            plain.push(byte);
            continue;
        }
        let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
        plain.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &rest[2..];
    }
    Some(plain)
}

fn open(address: &UnixAddr, deadline: Instant) -> std::result::Result<OwnedFd, Errno> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    loop {
        match connect(socket.as_raw_fd(), address) {
            // More wait there than it lets.
            Err(Errno::EAGAIN) if Instant::now() < deadline => std::thread::sleep(PAUSE),
            Err(Errno::EAGAIN) => return Err(Errno::ETIMEDOUT),
            Err(Errno::EINTR) => {}
            other => return other.map(|()| socket),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::os::unix::net::UnixListener;
    use std::thread::JoinHandle;
    use std::time::{Duration, Instant};

    use nix::errno::Errno;
    use zvariant::serialized::{Context, Data};
    use zvariant::{NATIVE_ENDIAN, Value, to_bytes};

    use super::{
        BUS, Bus, CALL, ERROR, ERROR_NAME, Fault, Header, MEMBER, Message, REPLY_SERIAL, RETURN,
        SIGNAL, SIGNATURE, encode, errno_of, parse_address, unescape,
    };

    /// Long enough for any machine; nothing waits for it but what is meant to.
    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    fn message(kind: u8, fields: Vec<(u8, Value<'_>)>, body: &[u8]) -> Vec<u8> {
        let order = if cfg!(target_endian = "big") { b'B' } else { b'l' };
        let length = u32::try_from(body.len()).unwrap();
        let header: Header<'_> = (order, kind, 0, 1, length, 77, fields);
        let mut bytes = to_bytes(Context::new_dbus(NATIVE_ENDIAN, 0), &header).unwrap().to_vec();
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes.extend_from_slice(body);
        bytes
    }

    fn text(body: &str) -> Vec<u8> {
        to_bytes(Context::new_dbus(NATIVE_ENDIAN, 0), body).unwrap().to_vec()
    }

    fn signature(of: &str) -> (u8, Value<'static>) {
        (SIGNATURE, Value::Signature(of.try_into().unwrap()))
    }

    /// A bus that lets its caller in and then answers one call after the other with these bytes, in
    /// which the answer's serial is the call's.
    fn bus(answers: Vec<Vec<u8>>) -> (tempfile::TempDir, String, JoinHandle<()>) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("bus");
        let listener = UnixListener::bind(&path).unwrap();
        let thread = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap());
            for (asked, answer) in
                [("\0AUTH EXTERNAL\r\n", "DATA\r\n"), ("DATA\r\n", "OK 0123\r\n")]
            {
                let mut line = String::new();
                lines.read_line(&mut line).unwrap();
                assert_eq!(line, asked);
                (&stream).write_all(answer.as_bytes()).unwrap();
            }
            let mut line = String::new();
            lines.read_line(&mut line).unwrap();
            assert_eq!(line, "BEGIN\r\n");
            let name =
                message(RETURN, vec![(REPLY_SERIAL, Value::U32(1)), signature("s")], &text(":1.5"));
            for answer in [name].into_iter().chain(answers) {
                read_call(&mut lines);
                (&stream).write_all(&answer).unwrap();
            }
            // Until the other side ends.
            let _ended = lines.read(&mut [0]);
        });
        (directory, format!("unix:path={}", path.display()), thread)
    }

    fn read_call(from: &mut impl Read) {
        let mut bytes = vec![0; 16];
        from.read_exact(&mut bytes).unwrap();
        let length = Message::length(&bytes).unwrap().unwrap();
        bytes.resize(length, 0);
        from.read_exact(&mut bytes[16..]).unwrap();
        assert_eq!(Message::parse(&bytes).unwrap().kind, CALL);
    }

    fn returned(serial: u32, kind: &str, body: &[u8]) -> Vec<u8> {
        message(RETURN, vec![(REPLY_SERIAL, Value::U32(serial)), signature(kind)], body)
    }

    #[test]
    fn a_call_is_encoded_as_the_specification_says() {
        let bytes = encode(BUS, "RequestName", 5, &("a.b", 4u32)).unwrap();
        assert_eq!(Message::length(&bytes).unwrap(), Some(bytes.len()));
        assert_eq!(bytes[1..4], [CALL, 2, 1]);
        // A list of types, not a structure of them.
        assert!(bytes.windows(7).any(|part| part == b"\x08\x01g\0\x02su"));
        let found = Message::parse(&bytes).unwrap();
        assert_eq!(found.member, "RequestName");
        assert_eq!(found.body::<(String, u32)>().unwrap(), ("a.b".to_owned(), 4));
        assert!(found.body::<(u32, String)>().is_err());
        // Without arguments there is no signature.
        let bytes = encode(BUS, "Hello", 1, &()).unwrap();
        let found = Message::parse(&bytes).unwrap();
        assert_eq!((found.signature, found.body.len()), (None, 0));
        let data = Data::new(bytes.as_slice(), Context::new_dbus(NATIVE_ENDIAN, 0));
        let ((.., fields), _): (Header<'_>, _) = data.deserialize().unwrap();
        assert_eq!(fields.len(), 4);
    }

    #[test]
    fn answers_are_told_from_what_else_comes() {
        let mut answers =
            message(SIGNAL, vec![(MEMBER, Value::from("Gone")), signature("s")], &text("x"));
        // The answer to something else.
        answers.extend(returned(1, "s", &text("late")));
        answers.extend(returned(2, "s", &text("here")));
        answers.extend(message(SIGNAL, vec![(MEMBER, Value::from("Next"))], b""));
        let (_directory, address, thread) = bus(vec![answers]);
        let mut bus = Bus::connect(&address, soon()).unwrap();
        assert_eq!(bus.name, ":1.5");
        let answer = bus.call(BUS, "GetNameOwner", &"x").unwrap();
        assert_eq!(answer.body::<String>().unwrap(), "here");
        assert_eq!(bus.signal().unwrap().member, "Gone");
        assert_eq!(bus.signal().unwrap().member, "Next");
        drop(bus);
        thread.join().unwrap();
    }

    #[test]
    fn an_error_is_told_with_its_name_and_text() {
        let name = "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired";
        let fields =
            vec![(ERROR_NAME, Value::from(name)), (REPLY_SERIAL, Value::U32(2)), signature("s")];
        let (_directory, address, thread) = bus(vec![message(ERROR, fields, &text("no\nway"))]);
        let mut bus = Bus::connect(&address, soon()).unwrap();
        let fault = bus.call(BUS, "Reload", &()).unwrap_err();
        let text = format!("{name}: \"no\\nway\"");
        assert_eq!(fault, Fault { errno: Errno::EACCES, text });
        drop(bus);
        thread.join().unwrap();
    }

    #[test]
    fn who_does_not_answer_is_not_waited_for_longer() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("bus");
        let _listener = UnixListener::bind(&path).unwrap();
        let address = format!("unix:path={}", path.display());
        let at = Instant::now() + Duration::from_millis(20);
        assert_eq!(Bus::connect(&address, at).unwrap_err().errno, Errno::ETIMEDOUT);
        // Nor where nobody more can wait to be let in: each one that gave up still does.
        for _ in 0..5000 {
            let fault = Bus::connect(&address, Instant::now()).unwrap_err();
            assert_eq!(fault.errno, Errno::ETIMEDOUT);
        }
    }

    #[test]
    fn nonsense_is_an_error() {
        let garbage = [
            b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
            vec![0; 64],
            // Longer than anything that is taken in.
            [b"l\x02\x00\x01".as_slice(), &u32::MAX.to_le_bytes(), &[0; 32]].concat(),
            [b"l\x02\x00\x01\0\0\0\0".as_slice(), &[1; 4], &u32::MAX.to_le_bytes(), &[0; 8]]
                .concat(),
            // Fields that are none.
            [b"l\x02\x00\x01\0\0\0\0\x01\0\0\0\x10\0\0\0".as_slice(), &[255; 16]].concat(),
            returned(2, "s", &[255, 255, 0, 0, b'x']),
        ];
        for bytes in garbage {
            let (_directory, address, thread) = bus(vec![bytes.clone()]);
            let mut bus = Bus::connect(&address, soon()).unwrap();
            let answer = bus.call(BUS, "GetNameOwner", &"x").and_then(|one| one.body::<String>());
            let errno = answer.unwrap_err().errno;
            assert!([Errno::EPROTO, Errno::EMSGSIZE].contains(&errno), "{bytes:?}: {errno}");
            drop(bus);
            thread.join().unwrap();
        }
    }

    #[test]
    fn who_hangs_up_or_refuses_is_told() {
        for (answer, errno) in [("", Errno::ECONNRESET), ("REJECTED ANONYMOUS\r\n", Errno::EACCES)]
        {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("bus");
            let listener = UnixListener::bind(&path).unwrap();
            let thread = std::thread::spawn(move || {
                let (stream, _) = listener.accept().unwrap();
                let mut line = String::new();
                BufReader::new(&stream).read_line(&mut line).unwrap();
                (&stream).write_all(answer.as_bytes()).unwrap();
            });
            // The first address is of another kind, nobody is at the second.
            let address =
                format!("tcp:host=x;unix:path=/nobody;unix:path={},guid=1", path.display());
            assert_eq!(Bus::connect(&address, soon()).unwrap_err().errno, errno);
            thread.join().unwrap();
        }
        assert_eq!(Bus::connect("unix:path=/nobody", soon()).unwrap_err().errno, Errno::ENOENT);
        assert_eq!(Bus::connect("tcp:host=x", soon()).unwrap_err().errno, Errno::EINVAL);
    }

    #[test]
    fn addresses_are_understood() {
        assert_eq!(unescape("/a%20b%2c"), Some(b"/a b,".to_vec()));
        assert_eq!((unescape("/a%2"), unescape("%zz")), (None, None));
        let path = |text| parse_address(text)?.ok()?.path().map(|path| path.to_owned());
        assert_eq!(path("unix:guid=12,path=/run/bus"), Some("/run/bus".into()));
        assert!(parse_address("unix:abstract=/tmp/x").unwrap().unwrap().as_abstract().is_some());
        assert!(parse_address("unix:tmpdir=/tmp").is_none());
        assert!(parse_address(&format!("unix:path=/{}", "x".repeat(200))).unwrap().is_err());
    }

    #[test]
    fn errors_have_numbers() {
        assert_eq!(errno_of("org.freedesktop.systemd1.UnitExists"), Errno::EEXIST);
        assert_eq!(errno_of("org.freedesktop.DBus.Error.NameHasNoOwner"), Errno::ENOENT);
        assert_eq!(errno_of("something.new"), Errno::EREMOTEIO);
        assert_eq!(errno_of(""), Errno::EREMOTEIO);
    }
}
