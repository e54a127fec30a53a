//! Descriptors that this program was started with.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;

use crate::facts::Facts;
use crate::kernel::{call, call_for_fd, text};
use crate::numbers as nr;
use crate::verdict::Verdict::{self, Held, Open};
use crate::verdict::{any, worked};

/// The numbers above the three streams, without the one that this program reports to.
fn inherited(facts: &Facts) -> Vec<usize> {
    const F_GETFD: usize = 1;
    let report = facts.number("report");
    let all = (3..4096).filter(|&number| number != report);
    all.filter(|&number| call(nr::FCNTL, [number, F_GETFD]).is_ok()).collect()
}

pub(crate) fn inherited_any(facts: &Facts) -> Verdict {
    match inherited(facts).first() {
        Some(number) => Open(format!("the descriptor {number}")),
        None => Held("no descriptor above the streams".to_owned()),
    }
}

pub(crate) fn inherited_directory(facts: &Facts) -> Verdict {
    let name = text("secret");
    let open = |directory| call_for_fd(nr::OPENAT, [directory, name.as_ptr() as usize, 0, 0]);
    let ways =
        inherited(facts).into_iter().map(|number| ("a file beside a descriptor", open(number)));
    match any(ways.collect::<Vec<_>>(), "") {
        Verdict::NotApplicable(_) => Held("no descriptor above the streams".to_owned()),
        other => other,
    }
}

pub(crate) fn inherited_namespace(facts: &Facts) -> Verdict {
    let enter = |number| ("the namespace of a descriptor", call(nr::SETNS, [number, 0]));
    match any(inherited(facts).into_iter().map(enter).collect::<Vec<_>>(), "") {
        Verdict::NotApplicable(_) => Held("no descriptor above the streams".to_owned()),
        other => other,
    }
}

/// Working directory and root are descriptors without a number.
pub(crate) fn working_directory(_: &Facts) -> Verdict {
    let here = text(".");
    const AT_FDCWD: usize = -100isize as usize;
    let directory = match call_for_fd(nr::OPENAT, [AT_FDCWD, here.as_ptr() as usize, 0, 0]) {
        Ok(directory) => directory,
        Err(error) => return Held(format!("no working directory: {error}")),
    };
    // As far up as it goes, which is the root of whatever this is in.
    let up = text("../../../../../../../../../../../../../../..");
    let args = [directory.as_raw_fd() as usize, up.as_ptr() as usize, 0, 0];
    let reached = call_for_fd(nr::OPENAT, args);
    let (Ok(top), Ok(root)) = (reached.map(File::from), File::open("/")) else {
        return Held("no way up".to_owned());
    };
    match (identity(&top), identity(&root)) {
        (Ok(top), Ok(root)) if top == root => Held("the way up ends at the root".to_owned()),
        _ => Open("a directory above the root".to_owned()),
    }
}

fn identity(file: &File) -> io::Result<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    file.metadata().map(|found| (found.dev(), found.ino()))
}

pub(crate) fn secret_by_path(facts: &Facts) -> Verdict {
    let path = facts.text("secret");
    worked("the host's file by its path", fs::read(path))
}

/// Every magic link of this process's own, and the host's path behind it.
pub(crate) fn magic_links(facts: &Facts) -> Verdict {
    let mut last = None;
    for link in ["root", "cwd", "task/self/root", "fd/0", "fd/1", "fd/2", "exe"] {
        let path = format!("/proc/self/{link}/..{}", facts.text("secret"));
        let direct = format!("/proc/self/{link}{}", facts.text("secret"));
        for path in [path, direct] {
            let read = File::open(&path).and_then(|mut file| file.read(&mut [0]));
            match worked(&path, read) {
                open @ Open(_) => return open,
                other => last = Some(other),
            }
        }
    }
    last.unwrap_or_else(|| Held("no link".to_owned()))
}

/// A descriptor is a name too, and a name leads past how it was opened.
pub(crate) fn reopen_input(_: &Facts) -> Verdict {
    let opened = File::options().write(true).open("/proc/self/fd/0");
    worked("a write to standard input", opened.and_then(|mut file| file.write_all(b"as it is not")))
}
