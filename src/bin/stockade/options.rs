//! The command line, as clap reads it.

use std::ffi::OsString;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum, value_parser};
use stockade::{
    BlockDevice, CapabilitySet, CgroupParent, DeviceRule, Feature, IoLimit, Limit, Max, Namespaces,
    Resource, Seccomp, View,
};

use crate::values::{self, Features, LandlockRule, Scratch};

const EXIT_CODES: &str = "\
Exit codes:
  the program's own, or
  124    the time limit was reached, of wall or of CPU time
  125    the sandbox could not be made, or wrong usage: the program did not run;
         or it did, and --json could not be written
  126    the program was found and cannot be executed
  127    the program, or the interpreter that it names, was not found in the sandbox
  128+N  signal N ended the program; 137 also stands for out of memory";

const ATTACK_CODES: &str = "\
Exit codes:
  0      every attempt was held, or did not apply; with --controls, every control was open
  1      an attempt was open; with --controls, a control was held
  125    the sandbox could not be made, an attempt could not be judged, or wrong usage";

const AUDIT_CODES: &str = "\
Exit codes:
  0      nothing shows above the kind of machine: kernel version, CPU model, memory size
  1      something does
  125    the sandbox could not be made, not all of it could be read, or wrong usage";

const SESSION_CODES: &str = "\
Exit codes:
  0      standard input ended, and every command that was read has been answered
  125    the sandbox could not be made, it ended before, answers could not be written, or wrong usage";

const BENCH_CODES: &str = "\
Exit codes:
  0      it was measured, however the program ended
  125    the sandbox could not be made, the picture could not be written, or wrong usage
  126    the program was found and cannot be executed
  127    the program, or the interpreter that it names, was not found in the sandbox";

/// Runs programs in Linux sandboxes.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true)]
pub(crate) struct Cli {
    /// Tell on standard error what is done; twice for more
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
    #[command(subcommand)]
    pub(crate) action: Action,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Action {
    /// Run a program in a sandbox that is denied everything but what the options give
    #[command(after_help = EXIT_CODES)]
    Run(Box<Run>),
    /// Attack a sandbox as `run` makes it with the same options, from inside, and say what holds
    #[command(after_help = ATTACK_CODES)]
    Attack(Box<Attack>),
    /// Tell what a program in a sandbox as `run` makes it with the same options can find out about the host,
    /// and how to close it
    #[command(after_help = AUDIT_CODES)]
    Audit(Box<Audit>),
    /// Run any number of commands in one sandbox as `run` makes it with the same options: reads them as JSON
    /// lines on standard input, and answers with outcomes as JSON lines on standard output
    #[command(after_help = SESSION_CODES)]
    Session(Box<Session>),
    /// Measure what a start of a program costs in a sandbox as `run` makes it with the same options: without
    /// sandbox, cold, prepared, in a session and from a pool, by turns
    #[command(after_help = BENCH_CODES)]
    Bench(Box<Bench>),
    /// Show what this host can give; exit code 125 if a sandbox without options does not work
    Check,
}

/// What a sandbox and its program are to be.
#[derive(Debug, Args)]
pub(crate) struct Setup {
    #[command(flatten)]
    pub(crate) tree: Tree,
    #[command(flatten)]
    pub(crate) namespaces: Spaces,
    #[command(flatten)]
    pub(crate) identity: Identity,
    #[command(flatten)]
    pub(crate) limits: Limits,
    #[command(flatten)]
    pub(crate) groups: Groups,
    #[command(flatten)]
    pub(crate) program: Program,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) setup: Setup,
    /// Print on standard error, at the end, what the program was refused or did not find because it was
    /// not in the sandbox, each with the builder line that would allow it
    #[arg(long)]
    pub(crate) learn: bool,
    /// What the program should read: this file, or all below this directory. Prints on standard error, at
    /// the end, what was read and not declared, declared and not read, and written and not declared, and
    /// a digest of what was read
    #[arg(long, value_name = "PATH")]
    pub(crate) declare_input: Vec<PathBuf>,
    /// The same for what it should write
    #[arg(long, value_name = "PATH")]
    pub(crate) declare_output: Vec<PathBuf>,
    /// Write the outcome and what was used as one JSON object to this descriptor, which the program
    /// does not get
    #[arg(long, value_name = "FD", value_parser = value_parser!(RawFd).range(3..))]
    pub(crate) json: Option<RawFd>,
    /// Give the program a directory of its own on the host, below DIR (TMPDIR, /tmp), as TMPDIR and HOME; it
    /// is removed at the end. For --tier no-namespaces, where there is no other place to write
    #[arg(long, value_name = "DIR", num_args = 0..=1, require_equals = true, conflicts_with = "explain")]
    pub(crate) private_tmp: Option<Option<PathBuf>>,
    /// Print what would be done, and run nothing
    #[arg(long)]
    pub(crate) explain: bool,
    /// The program, looked up inside, and its arguments
    #[arg(value_name = "PROGRAM", required_unless_present = "explain", trailing_var_arg = true)]
    pub(crate) command: Vec<OsString>,
}

#[derive(Debug, Args)]
pub(crate) struct Attack {
    #[command(flatten)]
    pub(crate) setup: Setup,
    /// Make these attempts only, by name or number, separated by commas
    #[arg(long, value_name = "ATTEMPT", value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    /// How each attempt's sandbox is made
    #[arg(long, value_name = "WAY", default_value = "spawn")]
    pub(crate) way: SpawnWay,
    /// Make each attempt where it has to work instead: in the weakest sandbox that its row names
    #[arg(long, conflicts_with = "way")]
    pub(crate) controls: bool,
    /// Attack the sandboxes of another program instead: it is started with the words to run inside, and is
    /// told by ATTACK_PROGRAM, ATTACK_WRITABLE and ATTACK_READ_ONLY which paths of the host they need there
    #[arg(long, value_name = "PROGRAM", conflicts_with_all = ["way", "controls", "list", "Tree", "Spaces", "Identity",
        "Limits", "Groups", "Program"])]
    pub(crate) under: Option<PathBuf>,
    /// Show which attempts there are, and make none
    #[arg(long)]
    pub(crate) list: bool,
    /// Write the results as one JSON array to this descriptor
    #[arg(long, value_name = "FD", value_parser = value_parser!(RawFd).range(3..))]
    pub(crate) json: Option<RawFd>,
}

#[derive(Debug, Args)]
pub(crate) struct Audit {
    #[command(flatten)]
    pub(crate) setup: Setup,
    /// Write the findings as one JSON object to this descriptor
    #[arg(long, value_name = "FD", value_parser = value_parser!(RawFd).range(3..))]
    pub(crate) json: Option<RawFd>,
}

#[derive(Debug, Args)]
pub(crate) struct Session {
    #[command(flatten)]
    pub(crate) setup: Setup,
    /// How many commands run at a time; more wait
    #[arg(long, value_name = "N", default_value = "16", value_parser = value_parser!(u16).range(1..=1024))]
    pub(crate) jobs: u16,
    /// How many may wait; more are refused
    #[arg(long, value_name = "N", default_value = "256")]
    pub(crate) queue: u16,
    /// How long a line may be
    #[arg(long, value_name = "SIZE", default_value = "1m", value_parser = values::room)]
    pub(crate) max_line: u64,
    /// How much is kept of each of a command's output streams; a request may ask for less
    #[arg(long, value_name = "SIZE", default_value = "1m", value_parser = values::size)]
    pub(crate) keep_output: u64,
}

#[derive(Debug, Args)]
pub(crate) struct Bench {
    #[command(flatten)]
    pub(crate) setup: Setup,
    /// How often each is measured
    #[arg(long, value_name = "N", default_value = "50", value_parser = value_parser!(u32).range(1..))]
    pub(crate) rounds: u32,
    /// Write a picture to this file
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
    /// The program, looked up inside, and its arguments
    #[arg(value_name = "PROGRAM", required = true, trailing_var_arg = true)]
    pub(crate) command: Vec<OsString>,
}

/// What is mounted comes in the order of the command line.
#[derive(Debug, Args)]
#[command(next_help_heading = "File tree (in the order given)")]
pub(crate) struct Tree {
    /// Begin with this directory, read-only, instead of the host's system directories
    #[arg(long, value_name = "DIR")]
    pub(crate) rootfs: Option<PathBuf>,
    /// Let the program write to the directory of --rootfs
    #[arg(long, requires = "rootfs")]
    pub(crate) writable_rootfs: bool,
    /// Begin with directories laid over each other, the first one lowest; can be repeated. What the
    /// program writes is thrown away
    #[arg(long, value_name = "DIR", conflicts_with = "rootfs")]
    pub(crate) layer: Vec<PathBuf>,
    /// Keep what the program writes to the layers, in the directory "upper" of this one
    #[arg(long, value_name = "DIR", requires = "layer")]
    pub(crate) upper: Option<PathBuf>,
    /// Begin with nothing of the host's
    #[arg(long, conflicts_with_all = ["rootfs", "layer"])]
    pub(crate) empty_root: bool,
    /// Show a file or directory of the host's, read-only
    #[arg(long, num_args = 2, value_names = ["SRC", "DST"])]
    pub(crate) ro_bind: Vec<PathBuf>,
    /// Show a file or directory of the host's, writable
    #[arg(long, num_args = 2, value_names = ["SRC", "DST"])]
    pub(crate) bind: Vec<PathBuf>,
    /// Show a device of the host's, or a directory with devices, writable; elsewhere devices do not work
    #[arg(long, num_args = 2, value_names = ["SRC", "DST"])]
    pub(crate) dev_bind: Vec<PathBuf>,
    /// Show what this program of the host's needs to be started: itself, its interpreter, its
    /// libraries
    #[arg(long = "program", value_name = "PATH")]
    pub(crate) programs: Vec<PathBuf>,
    /// Put an empty file system in memory here, of at most SIZE (64m)
    #[arg(long, value_name = "DST[:SIZE]",
        value_parser = OsStringValueParser::new().try_map(values::scratch))]
    pub(crate) tmpfs: Vec<Scratch>,
    /// Make a directory
    #[arg(long, value_name = "DST")]
    pub(crate) dir: Vec<PathBuf>,
    /// Make a symbolic link at PATH
    #[arg(long, num_args = 2, value_names = ["TARGET", "PATH"])]
    pub(crate) symlink: Vec<PathBuf>,
    /// Make a file with what can be read from this descriptor
    #[arg(long, num_args = 2, value_names = ["FD", "DST"])]
    pub(crate) file: Vec<OsString>,
    /// The permissions of what --file or --dir gives
    #[arg(long, num_args = 2, value_names = ["MODE", "DST"])]
    pub(crate) chmod: Vec<OsString>,
    /// Whom it belongs to inside, also what --symlink gives
    #[arg(long, num_args = 2, value_names = ["UID:GID", "DST"])]
    pub(crate) chown: Vec<OsString>,
    /// Show a read-only /sys
    #[arg(long)]
    pub(crate) sysfs: bool,
    /// Show POSIX message queues at /dev/mqueue
    #[arg(long)]
    pub(crate) mqueue: bool,
    /// Let no list of mounts tell where on the host they come from: all are empty
    #[arg(long)]
    pub(crate) hide_host_paths: bool,
    /// How much of /proc is there
    #[arg(long, default_value = "processes")]
    pub(crate) proc: ProcKind,
    /// Show a machine of the sandbox's own in /proc: by its limits, or as cpus=N, memory=SIZE, uptime=TIME and
    /// boot-id=ID say; implies --proc compat
    #[arg(long, value_name = "KEY=VALUE[,…]", num_args = 0..=1, require_equals = true,
        default_missing_value = "", value_parser = values::view, conflicts_with = "proc")]
    pub(crate) view: Option<View>,
    /// Let /etc have passwd, group, hosts and the like of the sandbox's own, or not [default: not with
    /// --empty-root]
    #[arg(long, value_name = "BOOL", conflicts_with_all = ["rootfs", "layer"])]
    pub(crate) generated_etc: Option<bool>,
    /// The time zone, such as Europe/Berlin [default: UTC]
    #[arg(long, value_name = "NAME", conflicts_with_all = ["rootfs", "layer"])]
    pub(crate) timezone: Option<String>,
    /// How much fits into /tmp, the home directory and /dev/shm together [default: 256m, or half
    /// of --memory]
    #[arg(long, value_name = "SIZE", value_parser = values::room)]
    pub(crate) tmp_size: Option<u64>,
    /// How many files fit into them [default: 65536]
    #[arg(long, value_name = "N", value_parser = value_parser!(u64).range(1..))]
    pub(crate) tmp_inodes: Option<u64>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum ProcKind {
    /// The sandbox's own processes only
    Processes,
    /// And a few files that programs ask for: cpuinfo, meminfo, stat, uptime, loadavg
    Compat,
    /// Everything, with what tells of the host masked
    Full,
    /// No /proc
    None,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Namespaces")]
pub(crate) struct Spaces {
    /// How strong the sandbox is; what the weaker one lacks has to be named by --best-effort
    #[arg(long, default_value = "full")]
    pub(crate) tier: Tier,
    /// Which network is there [default: loopback]
    #[arg(long)]
    pub(crate) net: Option<NetKind>,
    /// Where many sandboxes are made, let one have the network of another that has ended, if it is as new
    #[arg(long)]
    pub(crate) recycle_network: bool,
    /// Share the caller's namespace of this kind: user, mount, pid, network, ipc, uts, cgroup, time
    #[arg(long, value_name = "KIND", value_parser = values::kind)]
    pub(crate) share: Vec<Namespaces>,
    /// Join an existing namespace
    #[arg(long, value_name = "KIND=PATH",
        value_parser = OsStringValueParser::new().try_map(values::existing))]
    pub(crate) join: Vec<(Namespaces, PathBuf)>,
    /// Accept that without a pid namespace of its own the sandbox does not end all at once
    #[arg(long)]
    pub(crate) without_atomic_end: bool,
    /// Let the program make user namespaces, and mount in them
    #[arg(long)]
    pub(crate) allow_nesting: bool,
    /// Let processes inside trace each other
    #[arg(long)]
    pub(crate) allow_debugging: bool,
    /// The host name inside [default: stockade]
    #[arg(long, value_name = "NAME")]
    pub(crate) hostname: Option<OsString>,
    /// The NIS domain name inside [default: (none)]
    #[arg(long, value_name = "NAME")]
    pub(crate) domainname: Option<OsString>,
    /// Seconds to add to the monotonic clock inside
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    pub(crate) monotonic: Option<i64>,
    /// Seconds to add to the boot-time clock inside
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    pub(crate) boottime: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Tier {
    /// With namespaces
    Full,
    /// Landlock, system call filter and limits only, for hosts that forbid user namespaces
    NoNamespaces,
    /// The first of these that works here
    Auto,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SpawnWay {
    /// For the program alone, as `stockade run` does
    Spawn,
    /// The same, from what was prepared once
    Prepared,
    /// Before: the program is a command of a session
    Session,
    /// Before: it waits in a pool
    Pool,
    /// For another program before: this one enters it
    Enter,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum NetKind {
    /// Not even loopback
    None,
    /// 127.0.0.1 and ::1
    Loopback,
    /// The caller's own
    Host,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Identity and privilege")]
pub(crate) struct Identity {
    /// The uid inside [default: the caller's, or 1000 for root]
    #[arg(long)]
    pub(crate) uid: Option<u32>,
    /// The gid inside [default: the caller's, or 1000 for root]
    #[arg(long)]
    pub(crate) gid: Option<u32>,
    /// The host's ids behind them, for root to choose [default: 65534:65534]
    #[arg(long, value_name = "UID:GID", value_parser = values::ids)]
    pub(crate) host_ids: Option<(u32, u32)>,
    /// Keep the host's uid 0 behind them
    #[arg(long, conflicts_with = "host_ids")]
    pub(crate) host_root: bool,
    /// Give the sandbox ids of the host's that no other one has; for root
    #[arg(long, conflicts_with_all = ["host_ids", "host_root"])]
    pub(crate) own_host_id: bool,
    /// COUNT uids from INSIDE on stand for the host's from HOST on
    #[arg(long, value_name = "INSIDE:HOST:COUNT", value_parser = values::range,
        conflicts_with_all = ["host_ids", "host_root", "own_host_id"], requires = "gid_map")]
    pub(crate) uid_map: Vec<(u32, u32, u32)>,
    /// COUNT gids from INSIDE on stand for the host's from HOST on
    #[arg(long, value_name = "INSIDE:HOST:COUNT", value_parser = values::range,
        conflicts_with_all = ["host_ids", "host_root", "own_host_id"], requires = "uid_map")]
    pub(crate) gid_map: Vec<(u32, u32, u32)>,
    /// The caller's ids as 0, and from 1 on those that /etc/subuid and /etc/subgid give to the caller
    #[arg(long,
        conflicts_with_all = ["host_ids", "host_root", "own_host_id", "uid_map", "gid_map"])]
    pub(crate) subids: bool,
    /// Keep a capability over the sandbox's own namespaces
    #[arg(long, value_name = "CAP", value_delimiter = ',', value_parser = values::capabilities)]
    pub(crate) cap_add: Vec<CapabilitySet>,
    /// Accept that without a user namespace what is kept is the host's
    #[arg(long)]
    pub(crate) allow_host_capabilities: bool,
    /// Let exec gain privileges (no no_new_privs)
    #[arg(long)]
    pub(crate) new_privileges: bool,
    /// The system calls: default, strict, none, or a profile in JSON as Docker's
    #[arg(long, value_name = "PROFILE", value_parser = values::seccomp)]
    pub(crate) seccomp: Option<Seccomp>,
    /// Landlock: default, none, bind=PORT or connect=PORT (that and no other TCP port)
    #[arg(long, value_name = "RULE", value_delimiter = ',', value_parser = values::landlock)]
    pub(crate) landlock: Vec<LandlockRule>,
    /// The label that the program gets: a profile of AppArmor's or a context of SELinux's
    #[arg(long, value_name = "LABEL")]
    pub(crate) exec_label: Option<String>,
    /// Run also where the host cannot give this protection; "namespaces" stands for all that
    /// --tier no-namespaces lacks in any case
    #[arg(long, value_name = "FEATURE", value_delimiter = ',', value_parser = values::features)]
    pub(crate) best_effort: Vec<Features>,
    /// Do not run where the host cannot give this protection
    #[arg(long, value_name = "FEATURE", value_parser = values::feature)]
    pub(crate) require: Vec<Feature>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Limits")]
pub(crate) struct Limits {
    /// How long it may run: 500ms, 10s, 2m, 1h
    #[arg(long, value_name = "TIME", value_parser = values::limit)]
    pub(crate) timeout: Option<Duration>,
    /// How long it has after SIGTERM once the time is up
    #[arg(long, value_name = "TIME", value_parser = values::duration, requires = "timeout")]
    pub(crate) grace: Option<Duration>,
    /// How long what the program left may go on after its end
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    pub(crate) linger: Option<Duration>,
    /// A resource limit: nofile=64, nproc=10:20, as=512m, core=unlimited
    #[arg(long, value_name = "NAME=N[:N]", value_parser = values::rlimit)]
    pub(crate) rlimit: Vec<(Resource, Limit)>,
    /// The nice value
    #[arg(long, value_name = "N", allow_negative_numbers = true,
        value_parser = value_parser!(i32).range(-20..=19))]
    pub(crate) nice: Option<i32>,
    /// How eagerly the kernel kills it when memory is short
    #[arg(long, value_name = "N", allow_negative_numbers = true,
        value_parser = value_parser!(i32).range(-1000..=1000))]
    pub(crate) oom_score_adj: Option<i32>,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Limits by control groups")]
pub(crate) struct Groups {
    /// The most memory: 512m; without --memory-swap there is no swap on top
    #[arg(long, value_name = "SIZE", value_parser = values::room)]
    pub(crate) memory: Option<u64>,
    /// The most memory and swap together: 1g, or -1 for any amount of swap
    #[arg(long, value_name = "SIZE", value_parser = values::size_or_any, requires = "memory",
        allow_negative_numbers = true)]
    pub(crate) memory_swap: Option<Max>,
    /// How many CPUs' time: 1.5
    #[arg(long, value_name = "N")]
    pub(crate) cpus: Option<f64>,
    /// The share among competitors, 2 to 262144, where 1024 is usual
    #[arg(long, value_name = "N", conflicts_with = "cpu_weight")]
    pub(crate) cpu_shares: Option<u64>,
    /// The same, 1 to 10000, where 100 is usual
    #[arg(long, value_name = "N")]
    pub(crate) cpu_weight: Option<u64>,
    /// The CPUs that may be used: 0-3,8
    #[arg(long, value_name = "LIST")]
    pub(crate) cpuset_cpus: Option<String>,
    /// The memory nodes that may be used: 0-1
    #[arg(long, value_name = "LIST")]
    pub(crate) cpuset_mems: Option<String>,
    /// The most processes and threads at a time
    #[arg(long, value_name = "N")]
    pub(crate) pids_limit: Option<u64>,
    /// How much CPU time all may use together: 500ms, 10s, 2m
    #[arg(long, value_name = "TIME", value_parser = values::limit)]
    pub(crate) cpu_time: Option<Duration>,
    /// What may be done in a second on a disk, given as a path or MAJOR:MINOR:
    /// /dev/sda:rbps=4m,wiops=100
    #[arg(long, value_name = "DEV:KEY=N[,…]", value_parser = values::io_limit)]
    pub(crate) io_max: Vec<(BlockDevice, IoLimit)>,
    /// The share of disks among competitors, 1 to 10000, where 100 is usual
    #[arg(long, value_name = "N")]
    pub(crate) io_weight: Option<u64>,
    /// Allow a device besides the standard ones, and no other (root only): "c 10:229 rw"
    #[arg(long, value_name = "RULE", value_parser = values::device)]
    pub(crate) device: Vec<DeviceRule>,
    /// Write to a file of the group that no option here has a name for
    #[arg(long, value_name = "FILE=DATA", value_parser = values::raw)]
    pub(crate) cgroup_raw: Vec<(String, String)>,
    /// Make the groups below this one: /path from the root of each hierarchy, a path below the
    /// caller's own, or "systemd" for a scope unit of systemd's
    #[arg(long, value_name = "PATH",
        value_parser = OsStringValueParser::new().try_map(values::cgroup_parent))]
    pub(crate) cgroup_parent: Option<CgroupParent>,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Program")]
pub(crate) struct Program {
    /// Set an environment variable; nothing of the caller's gets in by itself
    #[arg(long, value_name = "NAME=VALUE",
        value_parser = OsStringValueParser::new().try_map(values::variable))]
    pub(crate) env: Vec<(OsString, OsString)>,
    /// Leave out PATH, HOME and LANG, which are set otherwise
    #[arg(long)]
    pub(crate) clear_env: bool,
    /// The working directory inside [default: the home directory]
    #[arg(long, value_name = "DIR")]
    pub(crate) chdir: Option<PathBuf>,
    /// The name under which the program is started
    #[arg(long, value_name = "NAME")]
    pub(crate) argv0: Option<OsString>,
    /// Give the program a terminal of its own, shown on this one; TERM is passed on
    #[arg(short, long)]
    pub(crate) tty: bool,
    /// The permissions that new files do not get
    #[arg(long, value_name = "MASK", value_parser = values::mask)]
    pub(crate) umask: Option<u32>,
    /// Make the program PID 1: signals that it does not handle do nothing to it, Ctrl-C included
    #[arg(long)]
    pub(crate) no_init: bool,
    /// Where the init program may be put if programs in memory may not be executed
    #[arg(long, value_name = "PATH")]
    pub(crate) init_file: Option<PathBuf>,
}
