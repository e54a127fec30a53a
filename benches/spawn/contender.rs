//! The ways of starting a program that are compared.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use stockade::{Outcome, Prepared, Sandbox};

use crate::etc::Etc;
use crate::floor::{Bare, Floor};

/// One way of starting the program and waiting for its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contender {
    Bare,
    Std,
    Floor,
    Stockade,
    WithoutInit,
    Prepared,
    Bubblewrap,
    Hakoniwa,
}

impl Contender {
    pub(crate) const ALL: [Contender; 8] = [
        Contender::Bare,
        Contender::Std,
        Contender::Floor,
        Contender::Stockade,
        Contender::WithoutInit,
        Contender::Prepared,
        Contender::Bubblewrap,
        Contender::Hakoniwa,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Contender::Bare => "bare clone + exec",
            Contender::Std => "std::process::Command",
            Contender::Floor => "raw floor",
            Contender::Stockade => "stockade",
            Contender::WithoutInit => "stockade, init(false)",
            Contender::Prepared => "stockade, prepared, network again",
            Contender::Bubblewrap => "bubblewrap",
            Contender::Hakoniwa => "hakoniwa",
        }
    }
}

/// The program that is started: static, and ending at once.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub(crate) path: PathBuf,
    pub(crate) args: Vec<&'static str>,
    /// What has to be bound for it to be found inside.
    pub(crate) directory: Option<PathBuf>,
}

impl Program {
    /// busybox, or else a program that the C compiler makes in `scratch`.
    pub(crate) fn find(scratch: &Path) -> Result<Self, String> {
        let busybox = PathBuf::from("/usr/bin/busybox");
        if is_static(&busybox) {
            return Ok(Program { path: busybox, args: vec!["true"], directory: None });
        }
        let (source, path) = (scratch.join("true.c"), scratch.join("true"));
        if !path.exists() {
            std::fs::write(&source, "int main(void) { return 0; }\n").map_err(|e| e.to_string())?;
            let mut compiler = Command::new("cc");
            compiler.arg("-static").arg("-O").arg(&source).arg("-o").arg(&path);
            let made = compiler.status().is_ok_and(|status| status.success());
            if !made {
                return Err("neither a static /usr/bin/busybox nor cc -static".to_owned());
            }
        }
        Ok(Program { path, args: Vec::new(), directory: Some(scratch.to_owned()) })
    }
}

/// Whether a file is an ELF program that names no loader.
fn is_static(path: &Path) -> bool {
    let content = std::fs::read(path).unwrap_or_default();
    let head = content.get(..4096).unwrap_or(&[]);
    head.starts_with(b"\x7fELF") && !head.windows(4).any(|bytes| bytes == b"/ld-")
}

/// All contenders, ready to start the program with the same binds.
#[derive(Debug)]
pub(crate) struct Contenders {
    program: Program,
    bare: Bare,
    floor: Floor,
    sandbox: Sandbox,
    prepared: Prepared,
    bubblewrap: Option<Vec<OsString>>,
    hakoniwa: hakoniwa::Container,
}

impl Contenders {
    /// `binds` are shown read-only besides the default tree.
    pub(crate) fn new(program: &Program, binds: &[(PathBuf, PathBuf)]) -> Self {
        let own = program.directory.iter().map(|directory| (directory.clone(), directory.clone()));
        let binds: Vec<_> = own.chain(binds.iter().cloned()).collect();
        let mut sandbox = Sandbox::new();
        for (from, to) in &binds {
            sandbox = sandbox.bind_ro(from, to);
        }
        Contenders {
            program: program.clone(),
            bare: Bare::new(&program.path, &program.args),
            floor: Floor::new(&program.path, &program.args, &binds, None),
            prepared: sandbox.clone().recycle_network(true).prepare().expect("a sandbox"),
            sandbox,
            bubblewrap: bubblewrap(program, &binds),
            hakoniwa: container(&binds),
        }
    }

    /// Why a contender takes no part.
    pub(crate) fn missing(&self, contender: Contender) -> Option<String> {
        match contender {
            Contender::Bubblewrap if self.bubblewrap.is_none() => {
                Some("bwrap is not installed".to_owned())
            }
            // One that does not work here must not end the bench.
            Contender::Bubblewrap | Contender::Hakoniwa => self.start(contender).err(),
            _ => None,
        }
    }

    /// Starts the program once; how long until its end was seen.
    pub(crate) fn run(&self, contender: Contender) -> Duration {
        let before = Instant::now();
        let ended = self.start(contender);
        let took = before.elapsed();
        if let Err(reason) = ended {
            panic!("{}: {reason}", contender.name());
        }
        took
    }

    fn start(&self, contender: Contender) -> Result<(), String> {
        match contender {
            Contender::Bare => self.bare.run(),
            Contender::Std => self.plain()?,
            Contender::Floor => self.floor.run(),
            Contender::Stockade => self.succeeds(self.sandbox.command(&self.program.path))?,
            Contender::WithoutInit => {
                let sandbox = self.sandbox.clone().init(false);
                self.succeeds(sandbox.command(&self.program.path))?;
            }
            Contender::Prepared => self.succeeds(self.prepared.command(&self.program.path))?,
            Contender::Bubblewrap => {
                let mut command = Command::new("bwrap");
                command.args(self.bubblewrap.iter().flatten());
                // Its limit of options on the command line is far above what is asked for here.
                succeed(command.stdin(Stdio::null()).status())?;
            }
            Contender::Hakoniwa => {
                let path = self.program.path.to_string_lossy();
                let mut command = self.hakoniwa.command(&path);
                let status = command.args(&self.program.args).status();
                let status = status.map_err(|error| error.to_string())?;
                if !status.success() {
                    return Err(status.reason);
                }
            }
        }
        Ok(())
    }

    fn plain(&self) -> Result<(), String> {
        let mut command = Command::new(&self.program.path);
        command.args(&self.program.args).env_clear();
        succeed(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status())
    }

    fn succeeds(&self, command: stockade::Command) -> Result<(), String> {
        let status = command.args(&self.program.args).spawn().and_then(|mut child| child.wait());
        match status.map_err(|error| error.to_string())?.outcome {
            Outcome::Exited(0) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    }
}

fn succeed(status: std::io::Result<std::process::ExitStatus>) -> Result<(), String> {
    match status.map_err(|error| error.to_string())? {
        status if status.success() => Ok(()),
        status => Err(status.to_string()),
    }
}

/// bubblewrap's options for as much of the default sandbox as it has options for.
fn bubblewrap(program: &Program, binds: &[(PathBuf, PathBuf)]) -> Option<Vec<OsString>> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).find(|directory| directory.join("bwrap").is_file())?;
    let mut args: Vec<OsString> = [
        "--unshare-all --unshare-user --uid 1000 --gid 1000 --hostname stockade --die-with-parent",
        "--new-session --cap-drop ALL --clearenv --ro-bind /usr /usr",
    ]
    .iter()
    .flat_map(|line| line.split(' '))
    .map(OsString::from)
    .collect();
    for path in crate::SYSTEM {
        match std::fs::read_link(path) {
            Ok(target) => args.extend(["--symlink".into(), target.into(), path.into()]),
            Err(_) => args.extend(["--ro-bind-try", path, path].map(OsString::from)),
        }
    }
    for path in &Etc::of_default().shown {
        args.extend(["--ro-bind-try", path, path].map(OsString::from));
    }
    let rest = "--proc /proc --dev /dev --tmpfs /tmp --tmpfs /home/user --tmpfs /dev/shm";
    args.extend(rest.split(' ').map(OsString::from));
    for (from, to) in binds {
        args.extend(["--ro-bind".into(), from.into(), to.into()]);
    }
    args.extend(["--remount-ro", "/", "--"].map(OsString::from));
    args.push(program.path.clone().into());
    args.extend(program.args.iter().map(OsString::from));
    Some(args)
}

/// hakoniwa's container for as much of the default sandbox as it has methods for.
fn container(binds: &[(PathBuf, PathBuf)]) -> hakoniwa::Container {
    use hakoniwa::Namespace::{Cgroup, Ipc, Network, Uts};
    let mut container = hakoniwa::Container::new();
    for namespace in [Cgroup, Ipc, Network, Uts] {
        container.unshare(namespace);
    }
    container.uidmap(1000).gidmap(1000).hostname("stockade");
    container.bindmount_ro("/usr", "/usr").devfsmount("/dev").tmpfsmount("/tmp");
    container.tmpfsmount("/home/user");
    for path in crate::SYSTEM {
        match std::fs::read_link(path) {
            Ok(target) => {
                container.symlink(&target.to_string_lossy(), path);
            }
            Err(_) if Path::new(path).exists() => {
                container.bindmount_ro(path, path);
            }
            Err(_) => {}
        }
    }
    for path in &Etc::of_default().shown {
        container.bindmount_ro(path, path);
    }
    for (from, to) in binds {
        container.bindmount_ro(&from.to_string_lossy(), &to.to_string_lossy());
    }
    container
}
