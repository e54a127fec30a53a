//! Other programs in a running sandbox.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use super::Child;
use crate::cgroup::group::Groups;
use crate::command::{Command, Within};
use crate::error::{Error, Feature, Result, Stage, quoted};
use crate::lower::Lowered;
use crate::namespace::{Namespaces, mount, user};
use crate::policy::Policy;
use crate::process::{Sockets, hold_closed_streams};
use crate::sandbox::Sandbox;
use crate::spawn::{Entering, Role, Start, make};
use crate::sys;

/// A running sandbox, as far as a program needs it that is started in it.
#[derive(Debug)]
pub(crate) struct Entered {
    sandbox: Sandbox,
    lowered: Lowered,
    missing: Vec<Feature>,
    groups: Option<Groups>,
    /// The sandbox's own.
    program: OwnedFd,
    entering: Entering,
}

impl Child {
    /// Another program in this running sandbox, as `docker exec` starts one: in its namespaces and control
    /// groups, with the same ids, capabilities, filter, rules of Landlock's and limits as the sandbox's own
    /// program has ([setns(2)](https://man7.org/linux/man-pages/man2/setns.2.html), Linux 5.8).
    ///
    /// It has a handle of its own, with streams, outcome and wall time, and what it leaves ends with it. Its end is
    /// not that of the sandbox; the sandbox's end, which comes with its own program's, is that of this one. It and
    /// two small processes that look after it count in the sandbox's limits. The programs see each other
    /// in /proc and use the same files; they cannot signal or trace each other, nor connect to each other's abstract
    /// sockets, where [Landlock](crate::Landlock) keeps them apart. What the sandbox's program can do to the new
    /// one before it runs is to keep it from running: its spawn fails then, after half a minute at the latest.
    /// In a [pause](Self::pause) its wall time goes on. Which file systems became [full](crate::Status::disk_full), the
    /// sandbox's own status tells.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] with `ESRCH` if the program or sandbox has ended, which a later
    /// [`spawn`](Command::spawn) tells as well, and with `EBUSY` in a pause. [`Error::Invalid`] for a
    /// sandbox that cannot be entered: one without init or a pid namespace of its own, with
    /// [`hide_host_paths`](Sandbox::hide_host_paths), CAP_SYS_ADMIN, [`learn`](Sandbox::learn) or declared inputs, or, of an
    /// unprivileged caller's, one that has joined a user namespace; and
    /// for a command of a [`Session`](crate::Session), or one that was started so itself.
    ///
    /// # Examples
    ///
    /// ```
    /// let script = "echo there >/tmp/file; sleep 1000";
    /// let child = stockade::Sandbox::new().command("sh").args(["-c", script]).spawn()?;
    /// let script = "while ! cat /tmp/file 2>/dev/null; do sleep 0.01; done";
    /// let output = child.command("sh")?.args(["-c", script]).output()?;
    /// assert_eq!(output.stdout, b"there\n");
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn command(&self, program: impl AsRef<OsStr>) -> Result<Command> {
        let entered = self.entered()?;
        self.entered.store(true, Ordering::Relaxed);
        let within = Within::Child(Arc::new(entered));
        Ok(Command::new(self.sandbox.clone(), program.as_ref()).within(within))
    }

    fn entered(&self) -> Result<Entered> {
        let policy = self.sandbox.policy();
        let mut problems = problems(policy);
        let Some(lowered) = self.lowered.as_ref().filter(|_| self.status.is_none()) else {
            if self.hosted.is_none() && self.maker.is_none() {
                return Err(ended(self.pid));
            }
            problems
                .push("it is one of several programs already: its sandbox starts others".into());
            return Err(Error::Invalid(problems));
        };
        if !problems.is_empty() {
            return Err(Error::Invalid(problems));
        }
        if self.paused.is_some() {
            return Err(stands());
        }
        let (Some(program), Some(control)) = (&self.program, &self.control) else {
            return Err(ended(self.pid));
        };
        let _held = hold_closed_streams()?;
        let copy = |fd: &OwnedFd| {
            let failed = |errno| Error::new(Stage::Prepare, "dup", "of the sandbox", errno);
            sys::duplicate(fd.as_raw_fd()).map_err(failed)
        };
        let namespaces = policy.new_namespaces() | policy.joined_namespaces();
        let has_clocks = namespaces.contains(Namespaces::TIME)
            && !self.missing.contains(&Feature::TimeNamespace);
        let sockets = Arc::new(Sockets { control: copy(control)?, paused: self.stands() });
        let entering = Entering {
            pid: self.pid,
            pidfd: Arc::clone(&self.pidfd),
            namespaces: namespaces - Namespaces::TIME,
            clocks: has_clocks.then(|| self.open_clocks()).transpose()?,
            score: lowered.score.and(lowered.score_of_program()).map(<[u8]>::to_vec),
            sockets,
        };
        Ok(Entered {
            sandbox: self.sandbox.clone(),
            lowered: lowered.of_who_enters(),
            missing: self.missing.clone(),
            groups: self.groups.as_ref().map(Groups::again).transpose()?,
            program: copy(program)?,
            entering,
        })
    }
}

impl Child {
    fn open_clocks(&self) -> Result<OwnedFd> {
        let path = format!("/proc/{}/ns/time_for_children", self.pid);
        let opened = open(path.as_str(), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty());
        // The number is nobody else's as long as this has not ended; and who is about to end, after the program, has no
        // namespaces any more, nor memory, without which only root may look at them.
        let over = sys::wait_readable(self.program_pidfd(), Some(Duration::ZERO));
        if over || self.has_ended() {
            return Err(ended(self.pid));
        }
        opened.map_err(|errno| Error::new(Stage::Prepare, "open", quoted(&path), errno))
    }
}

/// What keeps others out of a sandbox.
fn problems(policy: &Policy) -> Vec<String> {
    let mut problems = Vec::new();
    if !policy.init || !policy.has_own_pids() {
        let problem = "a program enters only a sandbox that has init and a pid namespace of its own, with \
                       which it ends";
        problems.push(problem.to_owned());
    }
    if policy.tree.hide_paths {
        problems.push(
            "the tree of hide_host_paths(..) is in no namespace that could be entered".into(),
        );
    }
    if mount::must_be_locked(policy) {
        let problem = "one that keeps CAP_SYS_ADMIN is in one more user namespace, in which who enters cannot take \
                       its ids";
        problems.push(problem.to_owned());
    }
    if policy.joined_namespaces().contains(Namespaces::USER) && !user::is_root() {
        let problem =
            "only root can look for the namespaces of a sandbox that has joined a user namespace";
        problems.push(problem.to_owned());
    }
    if policy.is_journaled() {
        problems.push("learn() and declare_inputs(..) are for a sandbox of one program".into());
    }
    problems
}

fn stands() -> Error {
    Error::new(Stage::Start, "start program", "(the sandbox is paused)", Errno::EBUSY)
}

fn ended(pid: u32) -> Error {
    let object = format!("(the program of process {pid}'s sandbox has ended)");
    Error::new(Stage::Start, "start program", object, Errno::ESRCH)
}

impl Entered {
    pub(crate) fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    /// Starts a program in it.
    pub(crate) fn start(&self, command: Command) -> Result<Child> {
        for process in [self.program.as_fd(), self.entering.pidfd.as_fd()] {
            if sys::wait_readable(process, Some(Duration::ZERO)) {
                return Err(ended(self.entering.pid));
            }
        }
        if self.entering.sockets.paused.get() {
            return Err(stands());
        }
        let (made, mut attached) =
            command.start_later(&self.lowered, None, Role::Entering, |start| {
                let (groups, entering) = (self.groups.as_ref(), Some(&self.entering));
                make(&Start { groups, entering, ..start })
            })?;
        attached.missing.clone_from(&self.missing);
        Ok(Child::new(made, attached))
    }
}
