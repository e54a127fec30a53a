//! What to do about a failure: each hint is found by looking at the host.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use caps::{CapSet, Capability};
use nix::errno::Errno;

use crate::lsm::Label;
use crate::namespace::Namespaces;

/// Advice that goes with a failure. `Display` says what to do.
///
/// # Examples
///
/// ```
/// use stockade::{Hint, Sandbox};
/// let error = Sandbox::new().file("/usr/new", "").check().unwrap_err();
/// assert_eq!(error.hint(), Some(&Hint::InTheHosts));
/// println!("{error}");
///
/// // There is none such on the host, either.
/// let error = Sandbox::new().command("/no/such/program").spawn().unwrap_err();
/// assert_eq!(error.hint(), None);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Hint {
    /// `kernel.apparmor_restrict_unprivileged_userns` is 1 (Ubuntu 23.10 and later).
    AppArmorUserNamespaces,
    /// This profile of AppArmor's confines the caller, and may refuse it: user namespaces need `userns,`
    /// there, and what is done in them capabilities and mounts
    /// ([apparmor.d(5)](https://manpages.debian.org/apparmor.d.5)).
    AppArmorProfile(String),
    /// No security module that gives an exec a label is active
    /// ([proc_pid_attr(5)](https://man7.org/linux/man-pages/man5/proc_pid_attr.5.html)).
    NoExecLabels,
    /// The security module does not know the label.
    UnknownLabel,
    /// The caller's own label does not allow to take this one.
    LabelDenied,
    /// The exec may not take the label, or not execute this file with it.
    LabelledExec,
    /// `kernel.unprivileged_userns_clone` is 0 (Debian before 11, hardened kernels).
    UnprivilegedUserNamespacesOff,
    /// `user.max_user_namespaces` is reached or 0
    /// ([namespaces(7)](https://man7.org/linux/man-pages/man7/namespaces.7.html)).
    MaxUserNamespaces,
    /// A `user.max_*_namespaces` is reached and it cannot be told which, or the kernel's limit of 32 user
    /// namespaces in each other
    /// ([user_namespaces(7)](https://man7.org/linux/man-pages/man7/user_namespaces.7.html)).
    MaxNamespaces,
    /// `user.max_*_namespaces` of this other kind is reached
    /// ([namespaces(7)](https://man7.org/linux/man-pages/man7/namespaces.7.html)).
    MaxNamespacesOf(Namespaces),
    /// `fs.mount-max`, how many mounts a mount namespace may have, is reached (Linux 4.9,
    /// [proc_sys_fs(5)](https://man7.org/linux/man-pages/man5/proc_sys_fs.5.html)).
    MaxMounts,
    /// The caller runs in a chroot, where no user namespace can be made
    /// ([user_namespaces(7)](https://man7.org/linux/man-pages/man7/user_namespaces.7.html)).
    Chrooted,
    /// The caller's /proc is masked, as in a container.
    MaskedProc,
    /// The caller is uid 0 without the capabilities that are needed to map it, as in a container
    /// ([user_namespaces(7)](https://man7.org/linux/man-pages/man7/user_namespaces.7.html)).
    RootWithoutCapabilities,
    /// `vm.memfd_noexec` forbids executing from memory (Linux 6.3,
    /// [memfd_create(2)](https://man7.org/linux/man-pages/man2/memfd_create.2.html)).
    MemfdNoExec,
    /// Programs in memory, or where [`init_file`](crate::Sandbox::init_file) is, may not be
    /// executed.
    InitFile,
    /// The profile's actions need a listener, and a filter of the caller's own has one.
    Listener,
    /// A system call filter of the caller's forbids the call.
    Filtered,
    /// The same for namespaces.
    FilteredNamespaces,
    /// Making namespaces needs a user namespace, or privilege.
    NeedsUserNamespace,
    /// The file system cannot map ids; see [`Bind`](crate::Bind).
    NoIdMapping,
    /// The program is on the host but not in the sandbox; this path would have to be bound.
    OnlyOutside(PathBuf),
    /// The program is on the host but not in the sandbox, and in no directory of the sandbox's
    /// PATH.
    OutsideOfPath(PathBuf),
    /// The place does not exist, and nothing is created in what is the host's.
    CreateMountPoint,
    /// The place lies in what is the host's, where nothing is created or changed.
    InTheHosts,
    /// `kernel.keys.maxkeys` is reached for this user
    /// ([keyrings(7)](https://man7.org/linux/man-pages/man7/keyrings.7.html)).
    MaxKeys,
    /// The namespace belongs to another user namespace, which has to be joined as well.
    JoinOwner,
    /// The limit is above the caller's own hard limit
    /// ([getrlimit(2)](https://man7.org/linux/man-pages/man2/getrlimit.2.html)).
    AboveHardLimit,
    /// The limit of open files (`RLIMIT_NOFILE`,
    /// [getrlimit(2)](https://man7.org/linux/man-pages/man2/getrlimit.2.html)) is reached. While a
    /// sandbox is being made, each bind of a root caller needs a descriptor.
    OpenFiles,
    /// The limit of file sizes (`RLIMIT_FSIZE`,
    /// [getrlimit(2)](https://man7.org/linux/man-pages/man2/getrlimit.2.html)) is below that of the init
    /// program, which is written once a process.
    FileSize,
    /// The group has processes of its own, so that it passes no controllers on
    /// ([cgroups(7)](https://man7.org/linux/man-pages/man7/cgroups.7.html)).
    InnerProcesses,
    /// `cgroup.max.descendants` or `cgroup.max.depth` of a group above is reached.
    MaxGroups,
    /// The two groups have no group in common that the caller may move processes in
    /// ([cgroups(7)](https://man7.org/linux/man-pages/man7/cgroups.7.html)).
    NoCommonGroup,
    /// The sandbox's limit of memory was reached before its program ran.
    MemoryLimit,
    /// The room for what is the sandbox's own ([`tmp_size`](crate::Sandbox::tmp_size),
    /// [`tmp_inodes`](crate::Sandbox::tmp_inodes)), or in a [`Tmpfs`](crate::Tmpfs) or an overlay's
    /// upper, is too small for what is given as data.
    Budget,
    /// What a person has to run once.
    Run(String),
    /// What root has to run once in a shell, all of it; where it is about control groups, in the same pid
    /// namespace as the caller.
    RunAsRoot(String),
    /// No systemd manages this host
    /// ([sd_booted(3)](https://man7.org/linux/man-pages/man3/sd_booted.3.html)).
    NoSystemd,
    /// The bus or the manager does not let the caller start units.
    SystemdDenies,
    /// The bus or the manager has not answered in time.
    SystemdSilent,
    /// The manager on this bus is in another pid namespace than the caller.
    SystemdElsewhere,
    /// Only root chooses the host's ids that stand behind those inside.
    OnlyRootChoosesIds,
    /// /etc/subuid or /etc/subgid has no entry for the caller
    /// ([subuid(5)](https://man7.org/linux/man-pages/man5/subuid.5.html)).
    NoSubordinateIds,
    /// The range is not one that this file gives to the caller.
    RangeNotAllowed(&'static str),
    /// The program that maps ranges for who is not root is not installed.
    NoMapHelper(&'static str),
    /// That program is there and has no privilege.
    MapHelperUnprivileged(&'static str),
    /// Two layers of an [`Overlay`](crate::Overlay), or a layer and its upper, are the same or lie in
    /// each other.
    LayersOverlap,
    /// Something is mounted in a directory, which would show what that covers.
    LayerSubmounts,
    /// Another sandbox has this upper directory.
    UpperInUse,
    /// What the kernel asks of the layers of an [`Overlay`](crate::Overlay).
    OverlayLayers,
    /// What was asked for is a directory, FIFO, socket or device, or no file with content of its own,
    /// as those of /proc.
    NoRegularFile,
    /// A link that was followed leads to a file that is not the program's own.
    LinkToForeign,
    /// The file lay on a mount of its own, which was gone when the sandbox had ended.
    KeepMounts,
    /// A sandbox without a mount namespace of its own has no tree of its own.
    NoOwnTree,
    /// A program that has entered a running sandbox has no tree by its own handle.
    AnothersTree,
    /// The minimum kernel, such as "5.12".
    NeedsKernel(&'static str),
}

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Hint::AppArmorUserNamespaces => {
                "AppArmor restricts unprivileged user namespaces; give the program a profile with \
                 \"userns,\" or set kernel.apparmor_restrict_unprivileged_userns to 0; or use \
                 without_namespaces()"
            }
            Hint::AppArmorProfile(profile) => {
                return write!(
                    f,
                    "AppArmor's profile {profile:?} confines the caller and may refuse it; allow it there \
                     (\"userns,\", capabilities, mounts), or start the caller unconfined (on Ubuntu see \
                     kernel.apparmor_restrict_unprivileged_userns, too), or use without_namespaces()"
                );
            }
            Hint::NoExecLabels => {
                "no security module with labels for an exec is active; boot with AppArmor or SELinux (lsm=…), \
                 or use best_effort(Feature::ExecLabel)"
            }
            Hint::UnknownLabel => {
                "the security module does not know this label; apparmor_parser loads profiles, and SELinux \
                 takes user:role:type:level"
            }
            Hint::LabelDenied => {
                "the caller's own label does not allow it; AppArmor asks for a rule \"change_profile -> …,\", \
                 SELinux for setexec"
            }
            Hint::LabelledExec => {
                "the exec was to take another label: with no_new_privs that of a confined caller has to be a \
                 subset of its own (AppArmor), or nnp_transition be allowed (SELinux); and the program be \
                 executable by it"
            }
            Hint::UnprivilegedUserNamespacesOff => {
                "set kernel.unprivileged_userns_clone to 1, or run as root, or use \
                 without_namespaces()"
            }
            Hint::MaxUserNamespaces => {
                "user.max_user_namespaces is reached; raise it, or end other sandboxes, or use \
                 without_namespaces()"
            }
            Hint::MaxNamespaces => {
                "user.max_user_namespaces or another limit below /proc/sys/user is reached; raise it, or \
                 end other sandboxes (the kernel takes ended ones apart in the background); or more than \
                 32 user namespaces would be in each other"
            }
            Hint::MaxNamespacesOf(kind) => {
                return write!(
                    f,
                    "user.max_{}_namespaces is reached; raise it, or end other sandboxes (the kernel takes \
                     ended ones apart in the background)",
                    kind.file()
                );
            }
            Hint::MaxMounts => {
                "fs.mount-max is reached; raise it, or have fewer mounts: a sandbox begins with a copy of \
                 the caller's"
            }
            Hint::Chrooted => {
                "the caller runs in a chroot, where the kernel makes no user namespace; use \
                 pivot_root(2) instead of chroot(2)"
            }
            Hint::MaskedProc => {
                "parts of the caller's /proc are covered, as in a container, and then the kernel \
                 mounts no new one; run the container with an unmasked /proc (Docker: --security-opt \
                 systempaths=unconfined, Podman: --security-opt unmask=ALL, Kubernetes: procMount: \
                 Unmasked), or use proc(Proc::None) or without_namespaces()"
            }
            Hint::RootWithoutCapabilities => {
                "the caller is uid 0 without CAP_SETUID, CAP_SETGID and CAP_SETFCAP, as in a container, and \
                 then the kernel maps no id; start it as another user or with these, or use \
                 without_namespaces()"
            }
            Hint::MemfdNoExec => {
                "vm.memfd_noexec forbids executing from memory; name a place with init_file(..)"
            }
            Hint::InitFile => {
                "a filter, a security module or the file system forbids executing it there; name \
                 another place with init_file(..)"
            }
            Hint::Listener => {
                "a filter of the caller's own has a listener already, and there can be one only; \
                 Action::KillThread needs none"
            }
            Hint::Filtered => "a system call filter of the caller's own may forbid it",
            Hint::FilteredNamespaces => {
                "a system call filter of the caller's own may forbid it, as a container's does; \
                 without_namespaces() needs none"
            }
            Hint::NeedsUserNamespace => {
                "only root makes namespaces without a new user namespace; add Namespaces::USER"
            }
            Hint::NoIdMapping => {
                "this file system cannot map ids; bind from another one, or use \
                 best_effort(Feature::IdMappedMounts)"
            }
            Hint::OnlyOutside(path) => {
                return write!(f, "it exists on the host only; add bind_same({path:?})");
            }
            Hint::OutsideOfPath(path) => {
                return write!(
                    f,
                    "it exists on the host only, in no directory of the sandbox's PATH; add \
                     bind_same({path:?}) and start it by this path"
                );
            }
            Hint::CreateMountPoint => {
                "the place does not exist, and nothing is created in what is the host's; create it"
            }
            Hint::InTheHosts => {
                "the place lies in what is the host's, where nothing is created or changed; choose \
                 another, or bind a prepared one there"
            }
            Hint::MaxKeys => "kernel.keys.maxkeys is reached for this user; raise it",
            Hint::JoinOwner => {
                "the namespace belongs to another user namespace; join that one as well"
            }
            Hint::OpenFiles => {
                "the caller's limit of open files (RLIMIT_NOFILE) is reached, or by what all of its user's \
                 processes have sent each other and not received yet; raise it: while a sandbox is \
                 being made it has some twenty open, and one for each bind of a root caller"
            }
            Hint::FileSize => {
                "the caller's limit of file sizes (RLIMIT_FSIZE) has to be 40 KiB at least until its \
                 first sandbox is made; raise it"
            }
            Hint::InnerProcesses => {
                "the group has processes of its own, and then passes no controllers on; move them \
                 into a group below it"
            }
            Hint::MaxGroups => {
                "cgroup.max.descendants or cgroup.max.depth of a group above is reached; raise it"
            }
            Hint::NoCommonGroup => {
                "processes are moved only within what the caller may write to; start the caller \
                 inside of the delegated group"
            }
            Hint::MemoryLimit => {
                "the limit of memory was reached before the program ran: what is given as data \
                 counts; raise it"
            }
            Hint::Budget => {
                "what is given as data needs more room than there is: raise tmp_size(..), which is half of \
                 a memory limit by default, or tmp_inodes(..), or the size of the tmpfs or overlay that it \
                 lies in"
            }
            Hint::Run(command) => return write!(f, "run {command}"),
            Hint::RunAsRoot(command) => return write!(f, "run as root: {command}"),
            Hint::NoSystemd => {
                "no systemd manages this host; use CgroupParent::Auto, or CgroupParent::Path with a group \
                 that was delegated by hand"
            }
            Hint::SystemdDenies => {
                "the bus or the manager does not let the caller start units: root asks the system's \
                 manager, others their own"
            }
            Hint::SystemdSilent => {
                "the manager has not answered in time; systemctl status, with --user for a user's, \
                 shows what it does"
            }
            Hint::SystemdElsewhere => {
                "the manager on this bus is outside of the caller's container, and would take another \
                 process for it; use CgroupParent::Auto"
            }
            Hint::AboveHardLimit => "it is above the caller's own hard limit",
            Hint::OnlyRootChoosesIds => {
                "only root chooses ids of the host's; IdMap::subordinate() maps those that \
                 /etc/subuid gives to the caller"
            }
            Hint::NoSubordinateIds => {
                "/etc/subuid and /etc/subgid give the caller no ids; add them with usermod \
                 --add-subuids and --add-subgids"
            }
            Hint::RangeNotAllowed(file) => {
                return write!(f, "{file} does not give the caller all of these ids");
            }
            Hint::NoMapHelper(name) => {
                return write!(
                    f,
                    "{name} is not installed, without which only root maps ranges; it is in the \
                     package uidmap or shadow-utils"
                );
            }
            Hint::MapHelperUnprivileged(name) => {
                return write!(
                    f,
                    "{name} has no privilege: it needs its setuid bit or file capabilities, and no \
                     no_new_privs or nosuid mount in the way"
                );
            }
            Hint::LayersOverlap => "what is written in one would change the other; choose another",
            Hint::LayerSubmounts => {
                "something is mounted in it, which an overlay does not show, and what that covers the \
                 kernel shows to root only; unmount it, give it as an overlay or a bind of its own, \
                 or, as root, leave it out by without_submounts()"
            }
            Hint::UpperInUse => "another sandbox has it; wait for that one's end",
            Hint::OverlayLayers => {
                "an overlay needs Linux 5.11, from a root caller 5.19; a layer may be an overlay that \
                 is on none; an upper directory's file system must be able to carry one, which NFS, \
                 FAT and overlays are not; the kernel's log says more"
            }
            Hint::NoRegularFile => "only regular files are opened, and links and directories exported",
            Hint::LinkToForeign => {
                "a link leads there, and the file is not the program's own; ask for it by its own path"
            }
            Hint::KeepMounts => {
                "it lay on a mount that ended with the sandbox; use keep_mounts(), or open it before \
                 the end"
            }
            Hint::NoOwnTree => {
                "the sandbox has no mount namespace of its own; its files are the host's"
            }
            Hint::AnothersTree => {
                "the program has entered a running sandbox: ask the handle of that"
            }
            Hint::NeedsKernel(version) => {
                return write!(f, "this needs Linux {version} or later");
            }
        })
    }
}

/// A setting below /proc/sys, as a number.
fn setting(path: &str) -> Option<u64> {
    fs::read_to_string(format!("/proc/sys/{path}")).ok()?.trim().parse().ok()
}

/// Whether the caller's root directory is not its mount namespace's.
fn is_chrooted() -> bool {
    // The root of a mount namespace is itself a mount point; a chroot rarely is.
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    !table.is_empty() && !table.lines().any(|line| line.split(' ').nth(4) == Some("/"))
}

/// Why a clone with new namespaces failed.
pub(crate) fn for_clone(errno: Errno, with_user: bool) -> Option<Hint> {
    match errno {
        Errno::EPERM if !with_user => Some(Hint::NeedsUserNamespace),
        Errno::EPERM if is_chrooted() => Some(Hint::Chrooted),
        Errno::EPERM if setting("kernel/unprivileged_userns_clone") == Some(0) => {
            Some(Hint::UnprivilegedUserNamespacesOff)
        }
        Errno::EPERM => {
            restricted().or_else(filtered).or_else(confined).or(Some(Hint::FilteredNamespaces))
        }
        Errno::EACCES => apparmor(),
        Errno::ENOSPC | Errno::EUSERS if setting("user/max_user_namespaces") == Some(0) => {
            Some(Hint::MaxUserNamespaces)
        }
        Errno::ENOSPC => Some(Hint::MaxNamespaces),
        Errno::EUSERS => Some(Hint::MaxUserNamespaces),
        _ => None,
    }
}

/// Which limit of namespaces a clone has reached: the kernel does not tell, so each kind is tried.
pub(crate) fn for_exhausted(
    wanted: Namespaces,
    is_exhausted: impl Fn(Namespaces) -> bool,
) -> Option<Hint> {
    let user = wanted & Namespaces::USER;
    if !user.is_empty() && is_exhausted(user) {
        // Or they are too deep in each other, which those of the first one's are not.
        let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        let is_first = map.split_ascii_whitespace().eq(["0", "0", "4294967295"]);
        return is_first.then_some(Hint::MaxUserNamespaces);
    }
    let kind = (wanted - user).iter().find(|kind| is_exhausted(*kind | user))?;
    Some(Hint::MaxNamespacesOf(kind))
}

/// What AppArmor may have refused.
fn apparmor() -> Option<Hint> {
    restricted().or_else(confined)
}

/// Ubuntu's restriction of whoever has no profile.
fn restricted() -> Option<Hint> {
    let on = setting("kernel/apparmor_restrict_unprivileged_userns") == Some(1);
    on.then_some(Hint::AppArmorUserNamespaces)
}

/// A profile of the caller's own.
fn confined() -> Option<Hint> {
    let label = Label::current().ok()?;
    label.profile().map(|profile| Hint::AppArmorProfile(profile.to_owned()))
}

/// A filter of the caller's, as containers have one: the likelier reason where both are there.
fn filtered() -> Option<Hint> {
    let status = fs::read_to_string("/proc/thread-self/status").ok()?;
    status.contains("\nSeccomp:\t2\n").then_some(Hint::FilteredNamespaces)
}

/// Mapping uid 0 takes CAP_SETFCAP, whoever does it.
fn powerless_root() -> Option<Hint> {
    let lacks = |one| !caps::has_cap(None, CapSet::Effective, one).unwrap_or(true);
    let needed = [Capability::CAP_SETUID, Capability::CAP_SETGID, Capability::CAP_SETFCAP];
    let powerless = nix::unistd::geteuid().is_root() && needed.into_iter().any(lacks);
    powerless.then_some(Hint::RootWithoutCapabilities)
}

/// Why an id map was refused.
pub(crate) fn for_maps(errno: Errno) -> Option<Hint> {
    let reason = || apparmor().or_else(powerless_root);
    matches!(errno, Errno::EPERM | Errno::EACCES).then(reason).flatten()
}

/// Why the init program could not be executed.
pub(crate) fn for_memfd(errno: Errno) -> Option<Hint> {
    match errno {
        Errno::EFBIG => Some(Hint::FileSize),
        _ if setting("vm/memfd_noexec").unwrap_or(0) != 0 => Some(Hint::MemfdNoExec),
        Errno::EACCES | Errno::EPERM | Errno::ENOSYS => Some(Hint::InitFile),
        _ => None,
    }
}

/// Whether something is mounted below the path with which an operation's object begins.
fn has_submounts(object: &str) -> bool {
    let path = object.strip_prefix('"').and_then(|rest| rest.split('"').next()).unwrap_or("");
    let Ok(place) = fs::canonicalize(path) else { return false };
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut points = table.lines().filter_map(|line| line.split(' ').nth(4));
    points.any(|point| Path::new(point).starts_with(&place) && Path::new(point) != place)
}

/// Why an operation of init's failed.
pub(crate) fn for_operation(operation: &str, object: &str, errno: Errno) -> Option<Hint> {
    match (operation, errno) {
        ("mount", Errno::EPERM) if object.starts_with("proc ") => {
            apparmor().or(Some(Hint::MaskedProc))
        }
        ("join new session keyring", Errno::EDQUOT) => Some(Hint::MaxKeys),
        ("create mount point", Errno::EROFS) => Some(Hint::CreateMountPoint),
        ("create directory" | "create file" | "create symlink", Errno::EROFS) => {
            Some(Hint::InTheHosts)
        }
        ("unshare", Errno::ENOSPC) => Some(match object {
            "cgroup" => Hint::MaxNamespacesOf(Namespaces::CGROUP),
            "network" => Hint::MaxNamespacesOf(Namespaces::NET),
            "time" => Hint::MaxNamespacesOf(Namespaces::TIME),
            _ => Hint::MaxNamespaces,
        }),
        ("clone", Errno::ENOSPC) => Some(Hint::MaxNamespaces),
        ("mount" | "move_mount", Errno::ENOSPC) => Some(Hint::MaxMounts),
        // Until it is attached, a mount has a namespace of its own.
        ("open_tree" | "fsmount", Errno::ENOSPC) => Some(Hint::MaxNamespacesOf(Namespaces::MOUNT)),
        ("unshare", Errno::EINVAL) if object == "time" => Some(Hint::NeedsKernel("5.6")),
        ("join new session keyring", Errno::EPERM | Errno::ENOSYS) => Some(Hint::Filtered),
        ("install system call filter", Errno::EBUSY) => Some(Hint::Listener),
        ("set resource limit", Errno::EPERM) => Some(Hint::AboveHardLimit),
        ("setns", Errno::EPERM) => Some(Hint::JoinOwner),
        ("fsopen" | "fsconfig" | "fsmount" | "move_mount" | "open_tree", Errno::ENOSYS) => {
            Some(Hint::NeedsKernel("5.2"))
        }
        ("pidfd_open", Errno::ENOSYS) => Some(Hint::NeedsKernel("5.4")),
        ("mount", Errno::ELOOP) if object.starts_with("overlay ") => Some(Hint::LayersOverlap),
        ("mount", Errno::EINVAL | Errno::EPERM | Errno::EOPNOTSUPP)
            if object.starts_with("overlay ") =>
        {
            Some(Hint::OverlayLayers)
        }
        (
            "create file" | "create directory" | "create symlink" | "create mount point" | "write",
            _,
        ) if errno == Errno::ENOSPC => Some(Hint::Budget),
        (_, Errno::EFBIG) => Some(Hint::FileSize),
        (_, Errno::EMFILE) => Some(Hint::OpenFiles),
        ("open_tree", Errno::EINVAL) if has_submounts(object) => Some(Hint::LayerSubmounts),
        ("mount", Errno::EINVAL) if object.contains("(subset=pid") => {
            Some(Hint::NeedsKernel("5.8"))
        }
        // The way of older kernels; mount_setattr(2) needs no path.
        ("remount", _) => Some(Hint::NeedsKernel("5.12")),
        ("resolve target", Errno::ENOSYS) => Some(Hint::NeedsKernel("5.6")),
        ("close_range", Errno::ENOSYS) => Some(Hint::NeedsKernel("5.9")),
        ("open" | "write", Errno::ENOENT | Errno::EINVAL) if object.starts_with("attr/") => {
            Some(Hint::UnknownLabel)
        }
        ("open" | "write", Errno::EACCES | Errno::EPERM) if object.starts_with("attr/") => {
            Some(Hint::LabelDenied)
        }
        ("make control group", Errno::EAGAIN) => Some(Hint::MaxGroups),
        ("write", Errno::EACCES) if object.contains("cgroup.procs") => Some(Hint::NoCommonGroup),
        (_, Errno::EPERM) => apparmor(),
        // Its own errno where it is the file, mount or network that it refuses.
        (_, Errno::EACCES) => confined(),
        _ => None,
    }
}
