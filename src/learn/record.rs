//! What Landlock refused, out of the kernel's audit log: the records `LANDLOCK_ACCESS` and `LANDLOCK_DOMAIN`. The
//! kernel writes them, and what is in them of paths and names is the program's.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use nix::errno::Errno;

use super::Access;

/// `struct nlmsghdr`.
const HEADER: usize = 16;
pub(super) const LANDLOCK_ACCESS: u16 = 1423;
pub(super) const LANDLOCK_DOMAIN: u16 = 1424;
/// How a program is called before its first exec: not so when it makes a domain itself.
const BEFORE: &[u8] = b"stockade";
/// How many refusals wait for the record of their domain, which comes right after its first one.
const MOST_WAITING: usize = 256;

/// What was refused.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    File {
        path: PathBuf,
        access: Access,
        errno: Errno,
    },
    Bind(SocketAddr),
    Connect(SocketAddr),
    /// The abstract name of a socket.
    Abstract(Vec<u8>),
    Signal {
        pid: u32,
        name: String,
    },
}

#[derive(Debug, PartialEq, Eq)]
enum Record {
    /// Without what was refused where it is not understood.
    Access {
        domain: u64,
        refusal: Option<Refusal>,
    },
    /// Made by the process of this number in the first pid namespace, which had this name.
    Made {
        domain: u64,
        pid: i32,
        name: Vec<u8>,
    },
    Gone {
        domain: u64,
    },
}

/// The records of one domain among those of all.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    own: Option<u64>,
    /// Of domains of which it is not known whose they are.
    waiting: VecDeque<(u64, Option<Refusal>)>,
    /// The domain is gone, and so is nobody left of whom there could be a record.
    pub(super) is_complete: bool,
}

impl Ledger {
    /// What is new by this message, if it is about the domain that `program` made before its first exec; `None`
    /// among it where a refusal is not understood.
    pub(super) fn take(&mut self, message: &[u8], program: i32) -> Vec<Option<Refusal>> {
        match parse(message) {
            Some(Record::Access { domain, refusal }) if self.own == Some(domain) => vec![refusal],
            Some(Record::Access { domain, refusal }) if self.own.is_none() => {
                self.waiting.truncate(MOST_WAITING - 1);
                self.waiting.push_front((domain, refusal));
                Vec::new()
            }
            Some(Record::Made { domain, pid, name }) if self.own.is_none() => {
                let waiting = std::mem::take(&mut self.waiting);
                let (its, others) = waiting.into_iter().partition(|(whose, _)| *whose == domain);
                self.waiting = others;
                if pid != program || !name.starts_with(BEFORE) {
                    return Vec::new();
                }
                self.own = Some(domain);
                let its: VecDeque<_> = its;
                its.into_iter().rev().map(|(_, refusal)| refusal).collect()
            }
            Some(Record::Gone { domain }) if self.own == Some(domain) => {
                self.is_complete = true;
                Vec::new()
            }
            _ => Vec::new(),
        }
    }
}

/// A message of the log; none that is about something else.
fn parse(message: &[u8]) -> Option<Record> {
    let (header, text) = message.split_at_checked(HEADER)?;
    let kind = u16::from_ne_bytes([*header.get(4)?, *header.get(5)?]);
    if ![LANDLOCK_ACCESS, LANDLOCK_DOMAIN].contains(&kind) {
        return None;
    }
    // Behind "audit(TIME:NUMBER): ", which can have none of this.
    let start = text.windows(3).position(|window| window == b"): ")?;
    let fields = Fields(text.get(start + 3..)?);
    let domain = u64::from_str_radix(fields.text("domain")?, 16).ok()?;
    if kind == LANDLOCK_ACCESS {
        let refusal = refusal(&fields);
        return Some(Record::Access { domain, refusal });
    }
    match fields.raw("status")? {
        b"allocated" => {
            let (pid, name) = (fields.number("pid")?, fields.untrusted("comm")?);
            Some(Record::Made { domain, pid, name })
        }
        b"deallocated" => Some(Record::Gone { domain }),
        _ => None,
    }
}

fn refusal(fields: &Fields<'_>) -> Option<Refusal> {
    let blockers: Vec<_> = fields.text("blockers")?.split(',').collect();
    match *blockers.first()? {
        "net.bind_tcp" => Some(Refusal::Bind(fields.address("saddr", "src")?)),
        "net.connect_tcp" => Some(Refusal::Connect(fields.address("daddr", "dest")?)),
        "scope.abstract_unix_socket" => {
            let name = fields.untrusted("path")?;
            Some(Refusal::Abstract(name.strip_prefix(b"\0")?.to_vec()))
        }
        "scope.signal" => {
            let (pid, name) = (fields.number("opid")?, fields.untrusted("ocomm")?);
            Some(Refusal::Signal { pid, name: String::from_utf8_lossy(&name).into_owned() })
        }
        first if first.starts_with("fs.") && first != "fs.change_topology" => {
            let access = |blocker: &&str| match *blocker {
                "fs.execute" => Access::Execute,
                "fs.read_file" | "fs.read_dir" => Access::Read,
                _ => Access::Write,
            };
            let errno = if blockers == ["fs.refer"] { Errno::EXDEV } else { Errno::EACCES };
            let path = PathBuf::from(OsString::from_vec(fields.untrusted("path")?));
            let access = blockers.iter().map(access).max()?;
            Some(Refusal::File { path, access, errno })
        }
        _ => None,
    }
}

/// `KEY=VALUE`, with a space between. No value has one: a text of somebody's choice that has is in hexadecimal digits.
#[derive(Debug)]
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn raw(&self, key: &str) -> Option<&[u8]> {
        let fields = self.0.split(|&byte| byte == b' ' || byte == 0);
        let of_key = |field| {
            let field: &[u8] = field;
            field.strip_prefix(key.as_bytes())?.strip_prefix(b"=")
        };
        fields.into_iter().find_map(of_key)
    }

    fn text(&self, key: &str) -> Option<&str> {
        std::str::from_utf8(self.raw(key)?).ok()
    }

    fn number<T: std::str::FromStr>(&self, key: &str) -> Option<T> {
        self.text(key)?.parse().ok()
    }

    /// Between quotes, or in hexadecimal digits.
    fn untrusted(&self, key: &str) -> Option<Vec<u8>> {
        let raw = self.raw(key)?;
        if let Some(quoted) = raw.strip_prefix(b"\"") {
            return quoted.strip_suffix(b"\"").map(<[u8]>::to_vec);
        }
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|it| u8::try_from(it).ok());
        let byte = |pair: &[u8]| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        };
        raw.chunks(2).map(byte).collect()
    }

    /// The kernel leaves out what is 0.
    fn address(&self, address: &str, port: &str) -> Option<SocketAddr> {
        let ip = match self.raw(address) {
            None => IpAddr::from(Ipv4Addr::UNSPECIFIED),
            Some(_) => self.number(address)?,
        };
        let port = if self.raw(port).is_some() { self.number(port)? } else { 0 };
        Some(SocketAddr::new(ip, port))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(kind: u16, text: &str) -> Vec<u8> {
        let mut message = vec![0; HEADER];
        message[4..6].copy_from_slice(&kind.to_ne_bytes());
        message.extend(format!("audit(1729738800.268:30): {text}").into_bytes());
        message
    }

    fn access(text: &str) -> Vec<u8> {
        message(LANDLOCK_ACCESS, text)
    }

    fn domain(text: &str) -> Vec<u8> {
        message(LANDLOCK_DOMAIN, text)
    }

    fn refused(text: &str) -> Option<Refusal> {
        match parse(&access(&format!("domain=195ba459b {text}"))) {
            Some(Record::Access { domain: 0x1_95ba_459b, refusal }) => refusal,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn refusals_are_read() {
        let file = |path: &str, access, errno| Refusal::File { path: path.into(), access, errno };
        let (write, execute) = (Access::Write, Access::Execute);
        for (text, expected) in [
            (
                "blockers=fs.write_file path=\"/etc/x=y\" dev=\"vda2\" ino=14",
                file("/etc/x=y", write, Errno::EACCES),
            ),
            (
                "blockers=fs.refer path=\"/usr\" dev=\"vda2\" ino=351",
                file("/usr", write, Errno::EXDEV),
            ),
            (
                "blockers=fs.execute,fs.read_file path=2F6120226222 dev=\"a\" ino=1",
                file("/a \"b\"", execute, Errno::EACCES),
            ),
            (
                "blockers=net.connect_tcp daddr=192.0.2.1 dest=80",
                Refusal::Connect(([192, 0, 2, 1], 80).into()),
            ),
            (
                "blockers=net.connect_tcp daddr=2001:db8::1 dest=80",
                Refusal::Connect("[2001:db8::1]:80".parse().unwrap()),
            ),
            ("blockers=net.bind_tcp src=80", Refusal::Bind(([0; 4], 80).into())),
            ("blockers=net.bind_tcp", Refusal::Bind(([0; 4], 0).into())),
            (
                "blockers=scope.abstract_unix_socket path=00612062",
                Refusal::Abstract(b"a b".to_vec()),
            ),
            (
                "blockers=scope.signal opid=1 ocomm=\"systemd\"",
                Refusal::Signal { pid: 1, name: "systemd".into() },
            ),
        ] {
            assert_eq!(refused(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_not_understood_is_none() {
        for text in [
            "",
            "blockers=",
            "blockers=fs.write_file",
            "blockers=fs.write_file path=\"/x",
            "blockers=fs.write_file path=2",
            "blockers=fs.write_file path=2G",
            "blockers=fs.change_topology name=\"/\" dev=\"vda\" ino=2",
            "blockers=net.connect_tcp daddr=somewhere dest=80",
            "blockers=net.connect_tcp dest=65536",
            "blockers=scope.signal opid=-1 ocomm=\"x\"",
            "blockers=of.the_future path=\"/x\"",
        ] {
            assert_eq!(refused(text), None, "{text}");
        }
        assert_eq!(parse(&message(1300, "domain=1 blockers=net.bind_tcp")), None);
        assert_eq!(parse(&access("domain=x blockers=net.bind_tcp")), None);
        assert_eq!(parse(b"short"), None);
    }

    #[test]
    fn only_the_own_domain_counts() {
        let mut ledger = Ledger::default();
        let mut take = |message: Vec<u8>| ledger.take(&message, 7);
        let made = |id, pid, name| {
            let rest = format!("uid=0 exe=\"/x\" comm=\"{name}\"");
            domain(&format!("domain={id} status=allocated mode=enforcing pid={pid} {rest}"))
        };
        let bound = |port: u16| Some(Refusal::Bind(([0; 4], port).into()));
        let bind = |id, port| access(&format!("domain={id} blockers=net.bind_tcp src={port}"));
        for message in [
            bind("a", 1),
            bind("b", 2),
            made("a", 6, "stockade-init"),
            // The program's own, by the same process.
            bind("c", 5),
            made("c", 7, "program"),
            bind("b", 3),
        ] {
            assert!(take(message).is_empty());
        }
        assert_eq!(take(made("b", 7, "stockade-init")), [bound(2), bound(3)]);
        assert_eq!(take(bind("b", 4)), [bound(4)]);
        assert_eq!(take(access("domain=b blockers=new")), vec![None]);
        assert!(take(bind("a", 4)).is_empty());
        assert!(take(made("c", 7, "stockade-init")).is_empty());
        assert!(take(domain("domain=a status=deallocated denials=1")).is_empty());
        assert!(!ledger.is_complete);
        ledger.take(&domain("domain=b status=deallocated denials=4"), 7);
        assert!(ledger.is_complete);
    }

    #[test]
    fn no_more_than_so_many_wait() {
        let mut ledger = Ledger::default();
        for number in 0..1000 {
            let text = format!("domain={number:x} blockers=net.bind_tcp src=1");
            assert!(ledger.take(&access(&text), 7).is_empty());
        }
        assert_eq!(ledger.waiting.len(), MOST_WAITING);
    }

    proptest! {
        #[test]
        fn no_message_makes_it_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            text in "(domain|status|blockers|path|pid|comm|dest|=|,|\"|[0-9a-f]{1,20}|net\\.bind_tcp|fs\\.x|allocated| ){0,20}",
        ) {
            let mut ledger = Ledger::default();
            for message in [bytes, access(&text), domain(&text), access(&format!("domain=1 {text}"))] {
                let _new = ledger.take(&message, 7);
            }
        }
    }
}
