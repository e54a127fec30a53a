//! What is planted outside, and what is looked at afterwards.

use std::fs::{self, File, Permissions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use nix::unistd::mkdtemp;

use super::PROGRAM;
use crate::failure::Failure;

/// How many records of the kernel's log an attempt may cause.
const RECORDS: usize = 40;

/// Names of the host's that must stay as they are.
const OF_HOST: [&str; 6] = [
    "/proc/sys/kernel/core_pattern",
    "/proc/sys/kernel/modprobe",
    "/proc/sys/kernel/hostname",
    "/proc/sys/kernel/domainname",
    "/proc/sys/kernel/hotplug",
    "/sys/kernel/uevent_helper",
];

/// A directory that everybody may read, and a process of the user whom the program is on the host.
#[derive(Debug)]
pub(crate) struct Stage {
    directory: PathBuf,
    sentinel: Child,
    facts: Vec<String>,
    /// Its owner's end of the terminal.
    terminal: Option<File>,
    watched: Mutex<Watched>,
    /// Descriptors that a caller may have forgotten: they are not closed at an exec.
    _left_open: Vec<OwnedFd>,
}

#[derive(Debug)]
struct Watched {
    /// When it is closed, the sentinel ends.
    to: Option<ChildStdin>,
    from: BufReader<ChildStdout>,
    before: Vec<(String, String)>,
    /// The kernel's log, as far as it has been read, if this user may.
    log: Option<File>,
}

fn failed(step: &'static str) -> impl FnOnce(io::Error) -> Failure {
    move |error| Failure::Io(step, error)
}

impl Stage {
    pub(crate) fn new((uid, gid): (u32, u32)) -> Result<Self, Failure> {
        let template = std::env::temp_dir().join("stockade-attack.XXXXXX");
        let directory =
            mkdtemp(&template).map_err(|errno| Failure::Io("make a directory", errno.into()))?;
        let planted = plant(&directory, uid, gid).map_err(failed("plant files"));
        let stood = planted
            .and_then(|()| Self::stand(&directory, uid, gid).map_err(failed("start the sentinel")));
        stood.inspect_err(|_| {
            // The reason why nothing was made says more than what it leaves.
            let _ = fs::remove_dir_all(&directory);
        })
    }

    fn stand(directory: &Path, uid: u32, gid: u32) -> io::Result<Self> {
        let mut command = Command::new(directory.join("program"));
        command.arg("sentinel").arg(format!("stage={}", directory.join("sockets").display()));
        command.arg(format!("name=stockade-attack-{}", std::process::id()));
        command.env_clear().env("STOCKADE_ATTACK_SECRET", "of the environment");
        command.current_dir(directory).stdin(Stdio::piped()).stdout(Stdio::piped());
        if nix::unistd::geteuid().is_root() {
            command.uid(uid).gid(gid);
        }
        let mut sentinel = command.spawn()?;
        let (Some(to), Some(from)) = (sentinel.stdin.take(), sentinel.stdout.take()) else {
            return Err(io::Error::other("it has no streams"));
        };
        let mut from = BufReader::new(from);
        let mut facts = Vec::new();
        while facts.last().is_none_or(|fact| fact != "ready=1") {
            let mut line = String::new();
            if from.read_line(&mut line)? == 0 {
                sentinel.wait()?;
                return Err(io::Error::other("it has ended"));
            }
            facts.push(line.trim_end().to_owned());
        }
        facts.pop();
        let name = fs::read_to_string("/proc/sys/kernel/hostname")?;
        facts.push(format!("hostname={}", name.trim_end()));
        for name in ["device", "setuid", "capable"] {
            if directory.join("readonly").join(name).exists() {
                facts.push(format!("{name}=1"));
            }
        }
        facts.push(format!("secret={}", directory.join("secret").display()));
        let terminal = facts.iter().find_map(|fact| fact.strip_prefix("terminal="));
        let terminal = terminal.map(|path| {
            let mut options = File::options();
            options.read(true).write(true);
            options.custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK | libc::O_CLOEXEC).open(path)
        });
        let terminal = terminal.transpose()?;
        let directory = directory.to_owned();
        let log = open_log();
        facts.extend(log.is_some().then(|| "sees_log=1".to_owned()));
        let watched = Watched { to: Some(to), from, before: Vec::new(), log };
        let _left_open = leave_open(&directory)?;
        let watched = Mutex::new(watched);
        let mut stage = Stage { directory, sentinel, facts, terminal, watched, _left_open };
        let before = stage.look();
        stage.watched.get_mut().unwrap_or_else(PoisonError::into_inner).before = before;
        Ok(stage)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// What the program inside is told.
    pub(crate) fn facts(&self) -> &[String] {
        &self.facts
    }

    /// The sentinel's terminal, once more.
    pub(crate) fn terminal(&self) -> io::Result<Option<File>> {
        self.terminal.as_ref().map(File::try_clone).transpose()
    }

    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What has happened outside since it was asked last.
    pub(crate) fn touched(&self) -> Vec<String> {
        let mut touched = self.ask().unwrap_or_else(|_| vec!["the sentinel has ended".to_owned()]);
        if let Some(mut terminal) = self.terminal.as_ref() {
            let mut bytes = [0; 256];
            // Nothing to read is an error: nobody may wait here.
            if terminal.read(&mut bytes).is_ok_and(|count| count > 0) {
                touched.push("something was typed into the sentinel's terminal".to_owned());
            }
        }
        let now = self.look();
        let mut watched = self.watched();
        let mark = self.facts.iter().find_map(|fact| fact.strip_prefix("abstract="));
        let records = watched.log.as_ref().map_or(0, |log| records(log, mark.unwrap_or_default()));
        if records > RECORDS {
            touched.push(format!("{records} records were written to the kernel's log"));
        }
        let before = std::mem::replace(&mut watched.before, now);
        for ((name, then), (_, now)) in before.iter().zip(&watched.before) {
            if then != now {
                touched.push(format!("{name} is {now:?} and was {then:?}"));
            }
        }
        touched
    }

    /// What the sentinel has seen.
    fn ask(&self) -> io::Result<Vec<String>> {
        let mut watched = self.watched();
        watched.to.as_ref().map_or(Ok(()), |mut to| to.write_all(b"\n"))?;
        let mut seen = Vec::new();
        loop {
            let mut line = String::new();
            if watched.from.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            match line.trim_end().split_once('=') {
                Some(("touched", what)) => seen.push(what.to_owned()),
                _ => return Ok(seen),
            }
        }
    }

    /// Everything that an attempt could change and that is not the sentinel's to tell.
    fn look(&self) -> Vec<(String, String)> {
        let mut found = Vec::new();
        for name in ["secret", "program", "readonly", "readonly/file"] {
            let path = self.path(name);
            let content = if name == "program" { Ok(Vec::new()) } else { read(&path) };
            let metadata = fs::symlink_metadata(&path).map(|found| {
                (found.ino(), found.mode(), found.uid(), found.gid(), found.size(), found.mtime())
            });
            let content = content.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            found.push((name.to_owned(), format!("{metadata:?} {content:?}")));
        }
        for path in OF_HOST {
            found.push((path.to_owned(), format!("{:?}", fs::read_to_string(path).ok())));
        }
        let process = PathBuf::from(format!("/proc/{}", self.sentinel.id()));
        for name in ["limits", "oom_score_adj", "coredump_filter"] {
            let text = fs::read_to_string(process.join(name)).ok();
            found.push((format!("the sentinel's {name}"), format!("{text:?}")));
        }
        let stat = fs::read_to_string(process.join("stat")).unwrap_or_default();
        let fields: Vec<_> =
            stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
        // priority, nice, rt_priority and policy, as proc_pid_stat(5) counts from 1.
        for (name, number) in [("priority", 18), ("nice", 19), ("rt_priority", 40), ("policy", 41)]
        {
            let value = fields.get(number - 3).copied().unwrap_or_default();
            found.push((format!("the sentinel's {name}"), value.to_owned()));
        }
        found
    }

    /// Ends the sentinel and removes what was planted.
    pub(crate) fn remove(mut self) -> Result<(), Failure> {
        self.clear()
    }

    fn clear(&mut self) -> Result<(), Failure> {
        let directory = std::mem::take(&mut self.directory);
        drop(self.watched().to.take());
        let ending = |error| Failure::Io("end the sentinel", error);
        let mut ended = self.sentinel.try_wait().map_err(ending)?;
        for _ in 0..2000 {
            if ended.is_some() {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
            ended = self.sentinel.try_wait().map_err(ending)?;
        }
        if ended.is_none() {
            self.sentinel.kill().and_then(|()| self.sentinel.wait()).map_err(ending)?;
        }
        // What an attempt has mounted there is not to be emptied.
        let mounts = fs::read_to_string("/proc/self/mountinfo").map_err(failed("read mounts"))?;
        if mounts.contains(&*directory.to_string_lossy()) {
            let error = io::Error::other("something is mounted in it");
            return Err(Failure::Io("remove the stage", error));
        }
        fs::remove_dir_all(&directory).map_err(failed("remove the stage"))
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if self.directory.as_os_str().is_empty() {
            return;
        }
        if let Err(failure) = self.clear() {
            log::warn!("{failure}");
        }
    }
}

/// The end of the kernel's log.
fn open_log() -> Option<File> {
    let mut options = File::options();
    let mut log = options.read(true).custom_flags(libc::O_NONBLOCK).open("/dev/kmsg").ok()?;
    log.seek(SeekFrom::End(0)).ok().map(|_| log)
}

/// How many new ones are the attacking program's, by its name or this mark.
fn records(mut log: &File, mark: &str) -> usize {
    let mut record = [0; 8192];
    let mut count = 0;
    loop {
        match log.read(&mut record) {
            Ok(length) => {
                let text = String::from_utf8_lossy(&record[..length]);
                let own = [mark, "program[", "comm=\"program\""];
                count += usize::from(own.iter().any(|own| text.contains(own)));
            }
            // Older ones were overwritten.
            Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {}
            // That was all.
            Err(_) => return count,
        }
    }
}

fn leave_open(directory: &Path) -> io::Result<Vec<OwnedFd>> {
    let secret = directory.join("secret");
    let names =
        [directory, &secret, Path::new("/proc/self/ns/uts"), Path::new("/proc/self/ns/mnt")];
    let open = |path: &Path| {
        let fd = OwnedFd::from(File::open(path)?);
        fcntl(&fd, FcntlArg::F_SETFD(FdFlag::empty()))?;
        Ok(fd)
    };
    names.into_iter().map(open).collect()
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    if path.is_dir() {
        let names = fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.file_name()));
        let mut names = names.collect::<io::Result<Vec<_>>>()?;
        names.sort();
        return Ok(format!("{names:?}").into_bytes());
    }
    fs::read(path)
}

fn plant(directory: &Path, uid: u32, gid: u32) -> io::Result<()> {
    let mode = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode));
    mode(directory, 0o755)?;
    let program = directory.join("program");
    fs::write(&program, PROGRAM)?;
    mode(&program, 0o755)?;
    fs::write(directory.join("secret"), "stockade-attack-secret-of-file")?;
    mode(&directory.join("secret"), 0o644)?;
    for (name, bits) in [("sockets", 0o1777), ("readonly", 0o755), ("writable", 0o777)] {
        fs::create_dir(directory.join(name))?;
        mode(&directory.join(name), bits)?;
    }
    let file = directory.join("readonly/file");
    fs::write(&file, "as it was")?;
    // Only the mount is what keeps it.
    mode(&file, 0o666)?;
    mode(&directory.join("readonly"), 0o777)?;
    if nix::unistd::geteuid().is_root() {
        plant_privileged(directory)?;
        chown(program, Some(uid), Some(gid))?;
    }
    Ok(())
}

/// What only root can plant, and not on every file system: programs with privileges, and a device that
/// everybody may use. Whatever could not be is not there.
fn plant_privileged(directory: &Path) -> io::Result<()> {
    let below = directory.join("readonly");
    for (name, bits) in [("setuid", 0o4755), ("capable", 0o755)] {
        fs::write(below.join(name), PROGRAM)?;
        fs::set_permissions(below.join(name), Permissions::from_mode(bits))?;
    }
    let mut command = Command::new(directory.join("program"));
    command.arg("make_capable").arg(format!("file={}", below.join("capable").display()));
    if !command.status()?.success() {
        fs::remove_file(below.join("capable"))?;
    }
    let device = below.join("device");
    match mknod(&device, SFlag::S_IFCHR, Mode::empty(), makedev(1, 3)) {
        Ok(()) => fs::set_permissions(device, Permissions::from_mode(0o666)),
        Err(Errno::EPERM) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}
