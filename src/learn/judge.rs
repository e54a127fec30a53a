//! What the kernel will say to a call, foretold.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::calls::{Act, Call, Links, Named, Other};
#[cfg(feature = "footprint")]
use super::files::{Files, Later};
#[cfg(feature = "footprint")]
use super::footprint::ReadKind;
use super::look::{self, Seen, Sight};
use super::{Access, memory};
use crate::capability::Capability;
use crate::namespace::Namespaces;
use crate::policy::Policy;
use crate::rlimit::{Max, Resource};
use crate::sys::Asked;

/// What will come of a call.
#[derive(Debug)]
pub(super) enum Verdict {
    /// The file is not there; if it is outside, it is one that the sandbox lacks.
    Absent {
        path: PathBuf,
        access: Access,
    },
    Refused {
        path: PathBuf,
        access: Access,
        errno: Errno,
    },
    Needs(Capability),
    Unreachable(SocketAddr),
    /// The abstract name of a socket.
    Abstract(Vec<u8>),
    TooManyFiles,
}

/// One look at a call.
#[derive(Debug)]
pub(super) struct Judge<'a> {
    pub(super) asked: &'a Asked,
    pub(super) policy: &'a Policy,
    /// The user inside, if there is but one.
    pub(super) uid: Option<u32>,
    pub(super) gid: Option<u32>,
    /// Where what is read and written is noted.
    #[cfg(feature = "footprint")]
    pub(super) files: Option<&'a Files>,
    /// What is left to be noted once the call goes on.
    #[cfg(feature = "footprint")]
    pub(super) later: std::cell::RefCell<Vec<Later>>,
}

impl Judge<'_> {
    /// All that is foretold of a call; an error where its arguments cannot be read.
    pub(super) fn judge(&self, call: &Call) -> Result<Vec<Verdict>, Errno> {
        let mut verdicts = Vec::new();
        for named in call.files {
            verdicts.extend(self.file(named)?);
        }
        if let Some(other) = call.other {
            verdicts.extend(self.other(other)?);
        }
        Ok(verdicts)
    }

    fn argument(&self, at: usize) -> u64 {
        self.asked.args.get(at).copied().unwrap_or(0)
    }

    /// An argument that the kernel reads as an int.
    fn int(&self, at: usize) -> i32 {
        let low = u32::try_from(self.argument(at) & u64::from(u32::MAX)).unwrap_or(0);
        low as i32
    }

    fn file(&self, named: &Named) -> Result<Option<Verdict>, Errno> {
        let Some(path) = self.path(named)? else { return Ok(None) };
        let follow = match named.links {
            Links::Followed => true,
            Links::NotFollowed => false,
            Links::NotWith(at) => self.int(at) & libc::AT_SYMLINK_NOFOLLOW == 0,
            Links::OnlyWith(at) => self.int(at) & libc::AT_SYMLINK_FOLLOW != 0,
        };
        self.path_verdict(named.act, &path, follow)
    }

    /// The path that a call names, from the root inside; none if it names an open file.
    pub(super) fn path(&self, named: &Named) -> Result<Option<PathBuf>, Errno> {
        if self.argument(named.path) == 0 {
            return Ok(None);
        }
        let text = memory::text(self.asked.pid, self.argument(named.path))?;
        if text.is_empty() {
            return Ok(None);
        }
        let path = PathBuf::from(OsString::from_vec(text));
        if path.is_absolute() {
            return Ok(Some(path));
        }
        let directory = named.directory.map(|at| self.int(at)).filter(|&fd| fd != libc::AT_FDCWD);
        let name = directory.map_or_else(|| "cwd".to_owned(), |fd| format!("fd/{fd}"));
        Ok(Some(memory::link(self.asked.pid, &name)?.join(path)))
    }

    fn path_verdict(&self, act: Act, path: &Path, follow: bool) -> Result<Option<Verdict>, Errno> {
        if look::is_of_a_process(path) {
            return Ok(None);
        }
        let root = look::root(Some(self.asked.pid))?;
        let root = root.as_fd();
        let see = |follow| look::look(root, path, follow);
        Ok(match act {
            Act::Open(at) => self.open(root, path, self.open_flags(at)),
            Act::OpenHow(at) => {
                let how: [u8; 8] = memory::bytes(self.asked.pid, self.argument(at))?;
                let low = u64::from_ne_bytes(how) & u64::from(u32::MAX);
                let flags = u32::try_from(low).unwrap_or(0) as i32;
                self.open(root, path, flags)
            }
            Act::Look => self.present(root, path, &see(follow), Use::METADATA),
            Act::ReadLink => self.present(root, path, &see(follow), Use::LINK),
            Act::Access(at) => {
                let wanted = self.int(at) as u32 & 7;
                let access = match wanted {
                    mode if mode & 2 != 0 => Access::Write,
                    mode if mode & 1 != 0 => Access::Execute,
                    mode if mode & 4 != 0 => Access::Read,
                    _ => Access::Look,
                };
                self.present(root, path, &see(follow), Use { access, wanted, does: Does::Ask })
            }
            Act::Execute => self.present(root, path, &see(follow), Use::EXECUTE),
            Act::Enter => self.present(root, path, &see(true), Use::ENTER),
            // Who may change it is its owner, whatever its mode.
            Act::Change => self.present(root, path, &see(follow), Use::CHANGE),
            Act::LinkFrom => self.present(root, path, &see(follow), Use::LINK_FROM),
            Act::Create => match see(false) {
                // That it is there already is what such a call is told first.
                sight @ Sight::Present(_) => self.present(root, path, &sight, Use::METADATA),
                _ => self.make(root, path, act),
            },
            Act::Remove | Act::Move | Act::Replace => self.make(root, path, act),
        })
    }

    fn open_flags(&self, at: usize) -> i32 {
        if at < 6 { self.int(at) } else { libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC }
    }

    fn open(&self, root: BorrowedFd<'_>, path: &Path, flags: i32) -> Option<Verdict> {
        let has = |flag: i32| flags & flag == flag;
        if self.has_no_number_left() {
            return Some(Verdict::TooManyFiles);
        }
        let alone = has(libc::O_CREAT | libc::O_EXCL);
        let sight = look::look(root, path, !has(libc::O_NOFOLLOW) && !alone);
        let (reads, writes) = match flags & libc::O_ACCMODE {
            libc::O_RDONLY => (true, has(libc::O_TRUNC)),
            libc::O_WRONLY => (false, true),
            _ => (true, true),
        };
        if has(libc::O_TMPFILE) {
            return self.make_verdict(root, &path.join("x"));
        }
        let access = if writes { Access::Write } else { Access::Read };
        let wanted = u32::from(reads) << 2 | u32::from(writes) << 1;
        match sight {
            // It is told so, or that it is a directory.
            Sight::Present(ref seen)
                if alone || has(libc::O_PATH) || writes && seen.is_directory() =>
            {
                self.present(root, path, &sight, Use::METADATA)
            }
            Sight::Absent if has(libc::O_CREAT) => self.make(root, path, Act::Create),
            sight => {
                // What is not cut off stays part of it.
                let does = match (writes, has(libc::O_TRUNC)) {
                    (true, false) => Does::ReadAndWrite,
                    (true, true) => Does::Write,
                    (false, _) => Does::Read,
                };
                self.present(root, path, &sight, Use { access, wanted, does })
            }
        }
    }

    /// A use of a file that has to be there.
    fn present(
        &self,
        root: BorrowedFd<'_>,
        path: &Path,
        sight: &Sight,
        wants: Use,
    ) -> Option<Verdict> {
        let Use { access, wanted, .. } = wants;
        let verdict = self.present_verdict(root, path, sight, access, wanted);
        #[cfg(feature = "footprint")]
        self.note(root, path, sight, wants, verdict.as_ref());
        verdict
    }

    fn present_verdict(
        &self,
        root: BorrowedFd<'_>,
        path: &Path,
        sight: &Sight,
        access: Access,
        wanted: u32,
    ) -> Option<Verdict> {
        let refused = |errno| {
            let real = if let Sight::Present(seen) = sight { seen.path() } else { None };
            let path = real.unwrap_or_else(|| look::clean(path));
            Some(Verdict::Refused { path, access, errno })
        };
        match sight {
            Sight::Absent => Some(Verdict::Absent { path: look::lacking(root, path), access }),
            Sight::Hidden(errno @ (Errno::EACCES | Errno::EPERM)) => refused(*errno),
            Sight::Hidden(_) => None,
            Sight::Present(seen) if access == Access::Write && seen.is_read_only() => {
                refused(Errno::EROFS)
            }
            Sight::Present(seen) if !seen.allows(self.asked.pid, wanted) => refused(Errno::EACCES),
            Sight::Present(seen) if access == Access::Execute && is_no_exec(seen) => {
                refused(Errno::EACCES)
            }
            Sight::Present(_) => None,
        }
    }

    /// A new or removed name: its directory has to be there and to be written.
    fn make(&self, root: BorrowedFd<'_>, path: &Path, act: Act) -> Option<Verdict> {
        let verdict = self.make_verdict(root, path);
        #[cfg(feature = "footprint")]
        self.note_name(root, path, act, verdict.as_ref());
        #[cfg(not(feature = "footprint"))]
        let _for_notes_only = act;
        verdict
    }

    fn make_verdict(&self, root: BorrowedFd<'_>, path: &Path) -> Option<Verdict> {
        let path = look::clean(path);
        let directory = path.parent()?;
        let sight = look::look(root, directory, true);
        let refused = |errno| {
            let real = if let Sight::Present(seen) = &sight { seen.path() } else { None };
            let named = real.and_then(|real| Some(real.join(path.file_name()?)));
            let path = named.unwrap_or_else(|| path.clone());
            Some(Verdict::Refused { path, access: Access::Write, errno })
        };
        match &sight {
            Sight::Absent => {
                let path = look::lacking(root, directory);
                Some(Verdict::Absent { path, access: Access::Write })
            }
            Sight::Hidden(errno @ (Errno::EACCES | Errno::EPERM)) => refused(*errno),
            Sight::Hidden(_) => None,
            Sight::Present(seen) if seen.is_read_only() => refused(Errno::EROFS),
            Sight::Present(seen) if !seen.allows(self.asked.pid, 3) => refused(Errno::EACCES),
            Sight::Present(_) => None,
        }
    }

    fn has_no_number_left(&self) -> bool {
        match self.policy.rlimits.limit(Resource::OpenFiles).soft {
            Max::At(limit) => memory::open_files(self.asked.pid) >= limit,
            Max::Unlimited => false,
        }
    }

    fn other(&self, other: Other) -> Result<Option<Verdict>, Errno> {
        let ids = |given: &[usize], own: Option<u32>| {
            let foreign = |at: &usize| {
                let id = self.int(*at) as u32;
                id != u32::MAX && own.is_some_and(|own| own != id)
            };
            given.iter().any(foreign)
        };
        let needs = |capability, wanted: bool| {
            let kept = self.policy.capabilities.bounding().contains(capability);
            (wanted && !kept).then_some(Verdict::Needs(capability))
        };
        Ok(match other {
            Other::Users(given) => needs(Capability::SETUID, ids(given, self.uid)),
            Other::Groups(given) => needs(Capability::SETGID, ids(given, self.gid)),
            Other::SetGroups => needs(Capability::SETGID, true),
            Other::Owner(uid, gid) => {
                needs(Capability::CHOWN, ids(&[uid], self.uid) || ids(&[gid], self.gid))
            }
            Other::Address(at, length) => match self.address(at, length)? {
                Some(Address::Internet(address)) => self.reach(address),
                Some(Address::Path(path)) => {
                    let root = look::root(Some(self.asked.pid))?;
                    let path = match path.is_absolute() {
                        true => path,
                        false => memory::link(self.asked.pid, "cwd")?.join(path),
                    };
                    let sight = look::look(root.as_fd(), &path, true);
                    self.present(root.as_fd(), &path, &sight, Use::CONNECT)
                }
                Some(Address::Abstract(name)) => Some(Verdict::Abstract(name)),
                None => None,
            },
            Other::OwnAddress(at, length) => match self.address(at, length)? {
                Some(Address::Internet(address)) if (1..1024).contains(&address.port()) => {
                    needs(Capability::NET_BIND_SERVICE, true)
                }
                _ => None,
            },
        })
    }

    /// What is not this machine's own, in a network of the sandbox's own.
    fn reach(&self, address: SocketAddr) -> Option<Verdict> {
        let ip = address.ip();
        let local = ip.is_loopback() || ip.is_unspecified();
        let own = self.policy.new_namespaces().contains(Namespaces::NET);
        (own && !local).then_some(Verdict::Unreachable(address))
    }

    fn address(&self, at: usize, length: usize) -> Result<Option<Address>, Errno> {
        // struct sockaddr_un is the longest of those that are understood.
        const LONGEST: usize = 110;
        if self.argument(at) == 0 {
            return Ok(None);
        }
        let bytes: [u8; LONGEST] = memory::bytes(self.asked.pid, self.argument(at))?;
        let length = usize::try_from(self.int(length)).unwrap_or(0).min(LONGEST);
        Ok(Address::parse(bytes.get(..length).unwrap_or(&[])))
    }
}

/// What a use asks of a file that has to be there.
#[derive(Debug, Clone, Copy)]
struct Use {
    access: Access,
    /// Bits of its mode.
    wanted: u32,
    #[cfg_attr(not(feature = "footprint"), allow(dead_code, reason = "only noted there"))]
    does: Does,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Does {
    Ask,
    ReadLink,
    Read,
    ReadAndWrite,
    /// What is in it no longer counts.
    Write,
    Change,
    Execute,
}

impl Use {
    const METADATA: Use = Use { access: Access::Look, wanted: 0, does: Does::Ask };
    const LINK: Use = Use { access: Access::Look, wanted: 0, does: Does::ReadLink };
    const EXECUTE: Use = Use { access: Access::Execute, wanted: 1, does: Does::Execute };
    const ENTER: Use = Use { access: Access::Read, wanted: 1, does: Does::Ask };
    /// Who may change it is its owner, whatever its mode.
    const CHANGE: Use = Use { access: Access::Write, wanted: 0, does: Does::Change };
    const LINK_FROM: Use = Use { access: Access::Look, wanted: 0, does: Does::Read };
    const CONNECT: Use = Use { access: Access::Write, wanted: 2, does: Does::Ask };
}

/// What is read and written.
#[cfg(feature = "footprint")]
impl Judge<'_> {
    fn note(
        &self,
        root: BorrowedFd<'_>,
        path: &Path,
        sight: &Sight,
        wants: Use,
        verdict: Option<&Verdict>,
    ) {
        let Some(files) = self.files else { return };
        let named = look::clean(path);
        let seen = match sight {
            Sight::Present(seen) => seen,
            Sight::Absent => return files.absent(look::lacking(root, path)),
            Sight::Hidden(_) => return,
        };
        let kind = match wants.does {
            // That it may not be used is all that is known.
            _ if verdict.is_some() => ReadKind::Metadata,
            Does::Ask => ReadKind::Metadata,
            Does::ReadLink => ReadKind::Link,
            Does::Read | Does::ReadAndWrite | Does::Execute => ReadKind::Content,
            Does::Write | Does::Change => {
                let own = wants.does == Does::Write;
                return files.wrote_to(seen, named, own);
            }
        };
        let mut later = self.later.borrow_mut();
        later.extend(files.read(&named, seen, kind));
        if wants.does == Does::Execute && verdict.is_none() {
            later.extend(files.interpreters(root, seen));
        }
        if wants.does == Does::ReadAndWrite && verdict.is_none() {
            files.wrote_to(seen, named, true);
        }
    }

    /// A name that is made or removed, or that cannot be.
    fn note_name(&self, root: BorrowedFd<'_>, path: &Path, act: Act, verdict: Option<&Verdict>) {
        let Some(files) = self.files else { return };
        match verdict {
            None => {}
            Some(Verdict::Absent { path, .. }) => return files.absent(path.clone()),
            Some(_) => return,
        }
        let path = look::lacking(root, path);
        match (act, look::look(root, &path, false)) {
            (Act::Remove | Act::Move, Sight::Absent) => return files.absent(path),
            (Act::Move, Sight::Present(seen)) => {
                let later = files.read(&path, &seen, ReadKind::Content);
                files.finish(later.into_iter().collect());
            }
            _ => {}
        }
        files.wrote(path, true);
    }
}

fn is_no_exec(seen: &Seen) -> bool {
    !seen.is_directory() && seen.is_no_exec()
}

/// Where a socket is to lead.
#[derive(Debug, PartialEq, Eq)]
enum Address {
    Internet(SocketAddr),
    Path(PathBuf),
    Abstract(Vec<u8>),
}

impl Address {
    /// From a `struct sockaddr`, as far as it is known.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let (family, rest) = bytes.split_first_chunk::<2>()?;
        let family = i32::from(u16::from_ne_bytes(*family));
        if family == libc::AF_UNIX {
            return match rest {
                [] => None,
                [0, name @ ..] => Some(Address::Abstract(name.to_vec())),
                path => {
                    let end = path.iter().position(|&byte| byte == 0).unwrap_or(path.len());
                    let path = OsString::from_vec(path.get(..end)?.to_vec());
                    Some(Address::Path(path.into()))
                }
            };
        }
        let (port, rest) = rest.split_first_chunk::<2>()?;
        let port = u16::from_be_bytes(*port);
        let ip: IpAddr = match family {
            libc::AF_INET => Ipv4Addr::from(*rest.first_chunk::<4>()?).into(),
            // After the flow's number.
            libc::AF_INET6 => Ipv6Addr::from(*rest.get(4..)?.first_chunk::<16>()?).into(),
            _ => return None,
        };
        Some(Address::Internet(SocketAddr::new(ip, port)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addresses_are_read() {
        let family = |family: i32| u16::try_from(family).unwrap().to_ne_bytes().to_vec();
        let four = [family(libc::AF_INET), vec![0, 80, 192, 0, 2, 1]].concat();
        let expected = Address::Internet("192.0.2.1:80".parse().unwrap());
        assert_eq!(Address::parse(&four), Some(expected));
        let path = [family(libc::AF_UNIX), b"/run/x\0\0".to_vec()].concat();
        assert_eq!(Address::parse(&path), Some(Address::Path("/run/x".into())));
        let name = [family(libc::AF_UNIX), b"\0x".to_vec()].concat();
        assert_eq!(Address::parse(&name), Some(Address::Abstract(b"x".to_vec())));
    }

    proptest! {
        #[test]
        fn no_address_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..110)) {
            let _address = Address::parse(&bytes);
        }
    }
}
