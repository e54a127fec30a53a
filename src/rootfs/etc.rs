//! The /etc inside: what is generated for the sandbox, and what of the host's programs need.

use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Mutex;
use std::time::SystemTime;

use nix::errno::Errno;

use super::{Inside, Proc, Tree, system_directory};
use crate::error::{Error, Result, Stage, quoted};
use crate::executable;
use crate::lower::Lower;
use crate::wire::Op;

/// What of the host's /etc programs need and what tells nothing about the host. `docs/defaults.md`
/// says of each why.
const SHARED: &[&str] = &[
    "/etc/alternatives",
    "/etc/ca-certificates/extracted",
    "/etc/crypto-policies",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/pki/ca-trust/extracted",
    "/etc/pki/tls",
    "/etc/ssl/certs",
    "/etc/ssl/openssl.cnf",
];
/// What the names of others begin with: the configuration of Java and Python has a version in it.
const SHARED_BEGINNINGS: &[&str] = &["java", "python"];
/// A certificate that Debian makes for the host itself: its name is in it.
const OF_THE_HOST: &str = "/etc/ssl/certs/ssl-cert-snakeoil.pem";

/// The same in every sandbox, so that a result does not depend on it; no host has it.
const MACHINE_ID: &str = "73746f636b616465000000000000d15c\n";
const NSSWITCH: &str = "\
passwd: files
group: files
shadow: files
hosts: files dns
networks: files
protocols: files
services: files
ethers: files
rpc: files
";
/// Where Java, and older programs, look for what is mounted.
const MTAB: &str = "/etc/mtab";
const LOCALTIME: &str = "/etc/localtime";
/// Where a host has its time zones.
const ZONES: &[&str] = &["/usr/share/zoneinfo", "/usr/lib/zoneinfo", "/etc/zoneinfo"];

/// The generated files and their contents.
fn generated(inside: &Inside<'_>) -> Vec<(&'static str, String)> {
    let mut files = vec![
        ("/etc/passwd", passwd(inside)),
        ("/etc/group", group(inside.ids.inside.1)),
        ("/etc/hosts", hosts(inside.hostname)),
        // Else libc gives the first of several addresses only.
        ("/etc/host.conf", "multi on\n".to_owned()),
        ("/etc/nsswitch.conf", NSSWITCH.to_owned()),
        ("/etc/machine-id", MACHINE_ID.to_owned()),
    ];
    files.extend(name(inside.hostname).map(|name| ("/etc/hostname", format!("{name}\n"))));
    files
}

/// The program's own user, root and nobody.
fn passwd(inside: &Inside<'_>) -> String {
    let (uid, gid) = inside.ids.inside;
    let own = match uid {
        0 => "root",
        65534 => "nobody",
        _ => "user",
    };
    let mut text = format!("{own}:x:{uid}:{gid}:{own}:{}:/bin/sh\n", inside.home);
    if uid != 0 {
        text.push_str("root:x:0:0:root:/:/usr/sbin/nologin\n");
    }
    if uid != 65534 {
        text.push_str("nobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n");
    }
    text
}

fn group(gid: u32) -> String {
    let mut text = match gid {
        0 | 65534 => String::new(),
        _ => format!("user:x:{gid}:\n"),
    };
    text.push_str("root:x:0:\nnogroup:x:65534:\n");
    text
}

fn hosts(hostname: Option<&[u8]>) -> String {
    let mut text = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n".to_owned();
    if let Some(name) = name(hostname).filter(|&name| name != "localhost") {
        // The short name too, as for a full one programs ask for both.
        let short = name.split('.').next().filter(|&short| short != name && !short.is_empty());
        let short = short.map_or_else(String::new, |short| format!(" {short}"));
        text.push_str(&format!("127.0.1.1 {name}{short}\n"));
    }
    text
}

/// A host name that can stand in a line of these files; the kernel takes any bytes.
fn name(hostname: Option<&[u8]>) -> Option<&str> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let name = hostname.filter(|name| name.iter().all(|&byte| fits(byte)))?;
    std::str::from_utf8(name).ok()
}

impl Tree {
    /// Whether stockade's own files are in /etc.
    fn has_generated(&self) -> bool {
        self.base.generated_etc.unwrap_or(self.base.is_host())
    }

    pub(super) fn etc_problems(&self, problems: &mut Vec<String>) {
        let directory = self.base.directory_path().is_some();
        if directory && self.has_generated() {
            problems.push("a directory root keeps its own /etc: none is generated".to_owned());
        }
        let Some(zone) = &self.timezone else { return };
        let plain = |part| matches!(part, Component::Normal(_));
        let path = Path::new(zone);
        if zone.is_empty() || zone.contains('\0') || !path.components().all(plain) {
            problems.push(format!("{zone:?} is no name of a time zone"));
        }
        if directory {
            problems.push(
                "a directory root keeps its own /etc/localtime; set the variable TZ instead of \
                 timezone(..)"
                    .to_owned(),
            );
        }
        if self.is_taken(Path::new(LOCALTIME)) {
            problems.push(format!("timezone(..) and an entry of its own give {LOCALTIME}"));
        }
    }

    /// Whether something that the caller adds lies at this path, or covers it.
    fn is_taken(&self, path: &Path) -> bool {
        self.entries.iter().any(|entry| match entry.place() {
            Some(place) if place == path => true,
            Some(place) => path.starts_with(place) && !entry.is_directory(),
            None => false,
        })
    }

    /// What of the host's /etc is shown.
    pub(super) fn lower_shared_etc(&self, plan: &mut Lower) -> Result<()> {
        for path in SHARED.iter().map(Path::new) {
            if !self.is_taken(path) {
                system_directory(plan, path)?;
            }
        }
        for path in versioned() {
            if !self.is_taken(&path) {
                system_directory(plan, &path)?;
            }
        }
        let own = Path::new(OF_THE_HOST);
        // Asked for whether it is there or not: init knows, and says so if it cannot find out.
        if !self.is_taken(own) {
            plan.mask(own);
        }
        Ok(())
    }

    /// What stockade gives instead of the host's.
    pub(super) fn lower_generated_etc(&self, inside: &Inside<'_>, plan: &mut Lower) -> Result<()> {
        let free = |path: &str| !self.is_taken(Path::new(path));
        if self.has_generated() {
            for (path, text) in generated(inside) {
                if free(path) {
                    file(plan, path, text.into_bytes());
                }
            }
            if self.proc() != Proc::None && free(MTAB) {
                plan.symlink(Path::new(MTAB), Path::new("/proc/self/mounts"));
            }
        }
        let here = self.base.is_host().then_some(Path::new("/usr/share/zoneinfo"));
        match &self.timezone {
            None if self.has_generated() && here.is_some() && free(LOCALTIME) => {
                // Where there is no such file, that is UTC as well.
                plan.symlink(Path::new(LOCALTIME), Path::new("/usr/share/zoneinfo/UTC"));
            }
            None => {}
            Some(zone) => match find_zone(zone)? {
                (directory, _) if here == Some(directory) => {
                    plan.symlink(Path::new(LOCALTIME), &directory.join(zone));
                }
                (_, data) => file(plan, LOCALTIME, data),
            },
        }
        Ok(())
    }
}

fn file(plan: &mut Lower, path: &str, data: Vec<u8>) {
    let op = Op::File { path: path.into(), mode: 0o644, data };
    plan.step(op, "the sandbox's own instead of the host's");
}

/// The directory in which the host has a time zone, and what is in its file.
fn find_zone(zone: &str) -> Result<(&'static Path, Vec<u8>)> {
    let failed =
        |errno| Error::new(Stage::Prepare, "find time zone", quoted(Path::new(zone)), errno);
    for directory in ZONES.iter().map(Path::new) {
        let path = directory.join(zone);
        // A link that leads elsewhere leads to the host's own zone.
        let leads_out = path.read_link().is_ok_and(|target| target.is_absolute());
        if leads_out || !path.is_file() {
            continue;
        }
        let data = std::fs::read(&path).map_err(|error| failed(executable::errno_of(&error)))?;
        if data.starts_with(b"TZif") {
            return Ok((directory, data));
        }
    }
    Err(failed(Errno::ENOENT))
}

/// The directories that `SHARED_BEGINNINGS` stands for, looked for again when /etc has changed.
fn versioned() -> Vec<PathBuf> {
    static FOUND: Mutex<Option<(SystemTime, Vec<PathBuf>)>> = Mutex::new(None);
    let changed = Path::new("/etc").metadata().and_then(|etc| etc.modified()).ok();
    // Nobody waits here: in a forked copy of the embedder the lock may be held for ever.
    let mut kept = FOUND.try_lock().ok();
    if let Some((when, found)) = kept.as_deref().and_then(Option::as_ref) {
        if Some(*when) == changed {
            return found.clone();
        }
    }
    let entries = std::fs::read_dir("/etc").into_iter().flatten().flatten();
    let wanted = |name: &[u8]| {
        SHARED_BEGINNINGS.iter().any(|beginning| name.starts_with(beginning.as_bytes()))
    };
    let mut found: Vec<_> = entries
        .filter(|entry| wanted(entry.file_name().as_bytes()))
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect();
    found.sort();
    if let (Some(kept), Some(changed)) = (kept.as_deref_mut(), changed) {
        *kept = Some((changed, found.clone()));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_host_name_makes_a_line_of_its_own() {
        for odd in [&b"a\nb"[..], b"a b", b"a#b", "\u{e9}".as_bytes()] {
            assert_eq!(name(Some(odd)), None, "{odd:?}");
            assert_eq!(hosts(Some(odd)).lines().count(), 2);
        }
        assert!(hosts(Some(b"a.example.org")).ends_with("127.0.1.1 a.example.org a\n"));
        assert!(hosts(Some(b"build")).ends_with("127.0.1.1 build\n"));
        assert_eq!(hosts(Some(b"localhost")), hosts(None));
    }

    #[test]
    fn every_default_of_etc_is_documented() {
        let table = include_str!("../../docs/defaults.md");
        let beginnings: Vec<_> =
            SHARED_BEGINNINGS.iter().map(|one| format!("/etc/{one}*")).collect();
        let generated =
            ["passwd", "group", "hosts", "host.conf", "nsswitch.conf", "machine-id", "hostname"];
        let generated = generated.iter().map(|one| format!("/etc/{one}"));
        let all = SHARED.iter().map(|&one| one.to_owned()).chain(beginnings).chain(generated);
        for path in all.chain([LOCALTIME.to_owned(), OF_THE_HOST.to_owned()]) {
            assert!(table.contains(&format!("`{path}`")), "{path}");
        }
    }
}
