//! Ranges of ids for who is not root, through the setuid programs of shadow;
//! [newuidmap(1)](https://man7.org/linux/man-pages/man1/newuidmap.1.html).

use std::io::Read;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use super::idmap::{Range, SUBGID, SUBUID, lines, shown, subordinate_to_the_caller};
use crate::error::{Error, Result, Stage};
use crate::executable;
use crate::hint::Hint;

/// A program that writes one kind of map, and the file it goes by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Helper {
    name: &'static str,
    map: &'static str,
    file: &'static str,
}

pub(super) const UIDS: Helper = Helper { name: "newuidmap", map: "uid_map", file: SUBUID };
pub(super) const GIDS: Helper = Helper { name: "newgidmap", map: "gid_map", file: SUBGID };

/// Where it may be if not in the caller's PATH.
const PLACES: &str = "/usr/bin:/bin:/usr/sbin:/usr/local/bin:/run/wrappers/bin";

impl Helper {
    /// Has the map of a process written; `process` is its directory in /proc, `own` the caller's id.
    pub(super) fn write(
        self,
        process: BorrowedFd<'_>,
        pid: u32,
        ranges: &[Range],
        own: u32,
    ) -> Result<()> {
        let object = shown(&lines(ranges));
        let failed = |errno, hint| {
            let error = Error::new(Stage::Identity, self.name, object.clone(), errno);
            error.with_hint(hint)
        };
        let missing = || failed(Errno::ENOENT, Some(Hint::NoMapHelper(self.name)));
        let program = self.find().ok_or_else(missing)?;
        let mut command = Command::new(program);
        command.arg(pid.to_string()).env_clear().env("LC_ALL", "C");
        for Range { inside, host, count } in ranges {
            command.args([inside, host, count].map(u32::to_string));
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child =
            command.spawn().map_err(|error| failed(executable::errno_of(&error), None))?;
        let mut said = String::new();
        if let Some(errors) = child.stderr.take() {
            if let Err(error) = errors.take(4096).read_to_string(&mut said) {
                log::debug!("identity: what {} says is lost: {error}", self.name);
            }
        }
        // What counts is the map: a caller that reaps all children may have taken the status.
        let status = child.wait();
        log::debug!("identity: {} {object}: {status:?} {said:?}", self.name);
        if self.is_written(process, ranges)? {
            return Ok(());
        }
        Err(failed(Errno::EPERM, self.reason(ranges, own)))
    }

    fn find(self) -> Option<PathBuf> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let directories = std::env::split_paths(&path).chain(std::env::split_paths(PLACES));
        let is_program = |path: &PathBuf| {
            let found = path.metadata();
            found.is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
        };
        let absolute = directories.filter(|directory| directory.is_absolute());
        absolute.map(|directory| directory.join(self.name)).find(is_program)
    }

    /// Whether the process has the map that was asked for.
    fn is_written(self, process: BorrowedFd<'_>, ranges: &[Range]) -> Result<bool> {
        let failed = |errno| Error::new(Stage::Identity, "read", self.map, errno);
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let file = nix::fcntl::openat(process, self.map, flags, Mode::empty()).map_err(failed)?;
        let text = std::io::read_to_string(std::fs::File::from(file))
            .map_err(|error| failed(executable::errno_of(&error)))?;
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let (mut found, mut wanted): (Vec<_>, Vec<_>) =
            (text.lines().map(words).collect(), lines(ranges).lines().map(words).collect());
        // The kernel may sort them.
        found.sort();
        wanted.sort();
        Ok(found == wanted)
    }

    /// Why it did not write it.
    fn reason(self, ranges: &[Range], own: u32) -> Option<Hint> {
        let allowed = subordinate_to_the_caller(self.file).unwrap_or_default();
        if allowed.is_empty() {
            return Some(Hint::NoSubordinateIds);
        }
        let fits = |range: &Range| {
            let (first, end) =
                (u64::from(range.host), u64::from(range.host) + u64::from(range.count));
            allowed.iter().any(|&(from, count)| {
                first >= u64::from(from) && end <= u64::from(from) + u64::from(count)
            })
        };
        let own = |range: &Range| range.host == own && range.count == 1;
        let all = ranges.iter().all(|range| own(range) || fits(range));
        Some(if all {
            Hint::MapHelperUnprivileged(self.name)
        } else {
            Hint::RangeNotAllowed(self.file)
        })
    }
}
