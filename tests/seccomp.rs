//! System call filters: what the profiles refuse, and that the sandbox itself does not depend on them.
#![allow(
    clippy::exit,
    clippy::incompatible_msrv,
    reason = "a test process, built by a current toolchain"
)]
#![allow(unsafe_code, reason = "system calls that the program makes")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "a test fails by panicking"
)]

mod common;
#[path = "common/inside.rs"]
mod inside;

use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;

use common::Needs;
use common::ways::Ways;
use inside::{myself, role, sh, succeed};
use stockade::{
    Action, Capabilities, Capability, Condition, Error, Outcome, Rule, Sandbox, Seccomp, Stage,
    Stdio,
};

tests_in_all_ways! {
    Needs::Nothing => [
        the_default_refuses, other_abis_do_not_exist, strict_has_no_sockets, a_shell_works_strictly,
        capabilities_widen_it, nesting_by_name_widens_it, a_terminal_is_not_typed_into,
        write_refused_does_not_stop_the_start, everything_but_the_least_refused,
        a_program_that_is_missing_is_told, a_terminal_under_a_narrow_filter, execve_refused,
        end_refused, without_init_it_must_be_told, killed_by_a_filter, not_killed_by_a_filter, no_file_is_made_setuid,
        a_thread_is_killed_with_its_process, the_end_comes_before_the_answer, the_caller_is_asked,
        an_action_for_the_rest,
        raw_programs, raw_programs_that_are_none, names_are_checked, checked_before_it_runs,
        told_in_the_plan, filters_stack_with_the_programs_own,
        profiles_in_json,
    ];
    Needs::Program("busybox") => [a_static_program_with_few_calls];
    Needs::File("/usr/share/containers/seccomp.json") => [the_profile_of_podman];
}

/// Makes a system call; 0, or the error number.
fn errno_of(number: i64, args: [usize; 6]) -> i32 {
    let [a, b, c, d, e, f] = args;
    // SAFETY: the addresses are null or those of buffers that outlive the call.
    match unsafe { libc::syscall(number, a, b, c, d, e, f) } {
        -1 => std::io::Error::last_os_error().raw_os_error().unwrap(),
        _ => 0,
    }
}

/// What is tried: a name, the call, and what the default answers.
fn attempts() -> Vec<(&'static str, i64, [usize; 6], i32)> {
    const EPERM: i32 = libc::EPERM;
    const ENOSYS: i32 = libc::ENOSYS;
    const EAFNOSUPPORT: i32 = libc::EAFNOSUPPORT;
    let socket = |family: i32, kind: i32, protocol: usize| {
        [family as usize, kind as usize, protocol, 0, 0, 0]
    };
    let (stream, datagram, raw) = (libc::SOCK_STREAM, libc::SOCK_DGRAM, libc::SOCK_RAW);
    vec![
        ("keyctl", libc::SYS_keyctl, [0, usize::MAX - 2, 0, 0, 0, 0], EPERM),
        ("add_key", libc::SYS_add_key, [0; 6], EPERM),
        ("request_key", libc::SYS_request_key, [0; 6], EPERM),
        ("bpf", libc::SYS_bpf, [0, 0, 0, 0, 0, 0], EPERM),
        ("perf_event_open", libc::SYS_perf_event_open, [0; 6], EPERM),
        ("userfaultfd", libc::SYS_userfaultfd, [1, 0, 0, 0, 0, 0], EPERM),
        ("io_uring_setup", libc::SYS_io_uring_setup, [1, 0, 0, 0, 0, 0], ENOSYS),
        ("ptrace", libc::SYS_ptrace, [0x4200, 0, 0, 0, 0, 0], EPERM),
        ("process_vm_readv", libc::SYS_process_vm_readv, [1, 0, 0, 0, 0, 0], EPERM),
        ("pidfd_getfd", libc::SYS_pidfd_getfd, [usize::MAX, 0, 0, 0, 0, 0], EPERM),
        ("kcmp", libc::SYS_kcmp, [1, 1, 99, 0, 0, 0], EPERM),
        ("vmsplice", libc::SYS_vmsplice, [usize::MAX, 0, 0, 0, 0, 0], EPERM),
        ("move_pages", libc::SYS_move_pages, [0; 6], EPERM),
        ("mount", libc::SYS_mount, [0; 6], EPERM),
        ("open_tree", libc::SYS_open_tree, [0; 6], EPERM),
        ("fsopen", libc::SYS_fsopen, [0; 6], EPERM),
        ("umount2", libc::SYS_umount2, [0; 6], EPERM),
        ("unshare mounts", libc::SYS_unshare, [0x2_0000, 0, 0, 0, 0, 0], EPERM),
        ("unshare time", libc::SYS_unshare, [0x80, 0, 0, 0, 0, 0], EPERM),
        ("unshare users", libc::SYS_unshare, [0x1000_0000, 0, 0, 0, 0, 0], EPERM),
        ("setns", libc::SYS_setns, [usize::MAX, 0, 0, 0, 0, 0], EPERM),
        ("clone3", libc::SYS_clone3, [0; 6], ENOSYS),
        ("statmount", 457, [0; 6], ENOSYS),
        ("a call of the future", 4000, [0; 6], ENOSYS),
        ("vsock", libc::SYS_socket, socket(libc::AF_VSOCK, stream, 0), EAFNOSUPPORT),
        ("packet", libc::SYS_socket, socket(libc::AF_PACKET, raw, 0), EAFNOSUPPORT),
        ("alg", libc::SYS_socket, socket(libc::AF_ALG, libc::SOCK_SEQPACKET, 0), EAFNOSUPPORT),
        ("bluetooth", libc::SYS_socket, socket(libc::AF_BLUETOOTH, raw, 1), EAFNOSUPPORT),
        ("netfilter", libc::SYS_socket, socket(libc::AF_NETLINK, raw, 12), EAFNOSUPPORT),
        ("uevents", libc::SYS_socket, socket(libc::AF_NETLINK, datagram, 15), EAFNOSUPPORT),
        // The kernel looks at the low half, and so does the filter.
        ("a family in disguise", libc::SYS_socket, [1 << 32 | 40, 1, 0, 0, 0, 0], EAFNOSUPPORT),
        ("fixed addresses", libc::SYS_personality, [0x4_0000, 0, 0, 0, 0, 0], EPERM),
        ("quotactl", libc::SYS_quotactl, [0; 6], EPERM),
        ("swapon", libc::SYS_swapon, [0; 6], EPERM),
        ("reboot", libc::SYS_reboot, [0; 6], EPERM),
        ("init_module", libc::SYS_init_module, [0; 6], EPERM),
        ("kexec_load", libc::SYS_kexec_load, [0; 6], EPERM),
        ("syslog", libc::SYS_syslog, [10, 0, 0, 0, 0, 0], EPERM),
        ("chroot", libc::SYS_chroot, [0; 6], EPERM),
        ("acct", libc::SYS_acct, [0; 6], EPERM),
        ("fanotify_init", libc::SYS_fanotify_init, [0x200, 0, 0, 0, 0, 0], EPERM),
        ("lsm_list_modules", 461, [0; 6], EPERM),
        ("open_by_handle_at", libc::SYS_open_by_handle_at, [0; 6], EPERM),
    ]
}

/// What the same must answer as without a filter.
fn harmless() -> Vec<(&'static str, i64, [usize; 6])> {
    let socket = |family: i32, kind: i32| [family as usize, kind as usize, 0, 0, 0, 0];
    vec![
        ("unix", libc::SYS_socket, socket(libc::AF_UNIX, libc::SOCK_STREAM)),
        ("inet", libc::SYS_socket, socket(libc::AF_INET, libc::SOCK_STREAM)),
        ("inet6", libc::SYS_socket, socket(libc::AF_INET6, libc::SOCK_DGRAM)),
        ("routes", libc::SYS_socket, socket(libc::AF_NETLINK, libc::SOCK_RAW)),
        ("which personality", libc::SYS_personality, [0xffff_ffff, 0, 0, 0, 0, 0]),
        ("descriptors of its own", libc::SYS_unshare, [0x400, 0, 0, 0, 0, 0]),
        ("memfd", libc::SYS_memfd_create, [c"x".as_ptr() as usize, 0, 0, 0, 0, 0]),
        ("landlock version", libc::SYS_landlock_create_ruleset, [0, 0, 1, 0, 0, 0]),
        ("inotify", libc::SYS_inotify_init1, [0; 6]),
        ("yield", libc::SYS_sched_yield, [0; 6]),
    ]
}

fn the_default_refuses() {
    const TEST: &str = "the_default_refuses";
    if role().is_some() {
        for (name, number, args, _) in attempts() {
            println!("{name}={}", errno_of(number, args));
        }
        for (name, number, args) in harmless() {
            println!("{name}={}", errno_of(number, args));
        }
        return;
    }
    let answers = |seccomp: Seccomp| succeed(myself(&Sandbox::new().seccomp(seccomp), TEST, "try"));
    let (with, without) = (answers(Seccomp::default()), answers(Seccomp::none()));
    let find = |answers: &str, name: &str| -> i32 {
        let line = answers.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.unwrap_or_else(|| panic!("{name} in {answers}")).parse().unwrap()
    };
    let mut otherwise = 0;
    for (name, _, _, expected) in attempts() {
        assert_eq!(find(&with, name), expected, "{name}");
        otherwise += u32::from(find(&without, name) != expected);
    }
    // Without capabilities the kernel itself refuses some of these; most it does not.
    assert!(otherwise >= 20, "only {otherwise} differ without the profile");
    for (name, ..) in harmless() {
        assert_eq!(find(&with, name), find(&without, name), "{name}");
        assert_eq!(find(&with, name), 0, "{name}");
    }
}

#[cfg(target_arch = "x86_64")]
fn other_abis_do_not_exist() {
    const TEST: &str = "other_abis_do_not_exist";
    if role().is_some() {
        // x32's getpid, and i386's by its own gate.
        println!("{}", errno_of(0x4000_0000 | 39, [0; 6]));
        let mut answer: i64 = 20;
        // SAFETY: getpid takes nothing and touches nothing but the registers named here.
        unsafe {
            std::arch::asm!("int 0x80", inout("rax") answer, out("r8") _, out("r9") _,
                out("r10") _, out("r11") _);
        }
        println!("{}", answer as i32);
        return;
    }
    for seccomp in [Seccomp::default(), Seccomp::strict(), Seccomp::none()] {
        let answers = succeed(myself(&Sandbox::new().seccomp(seccomp), TEST, "try"));
        assert_eq!(answers, format!("{}\n{}\n", libc::ENOSYS, -libc::ENOSYS));
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn other_abis_do_not_exist() {
    let output = Sandbox::new().way_to("true").status().unwrap();
    assert!(output.outcome.is_success());
}

fn strict_has_no_sockets() {
    const TEST: &str = "strict_has_no_sockets";
    if let Some(role) = role() {
        let refused = if role == "strict" { libc::EPERM } else { 0 };
        let socket = [libc::AF_UNIX as usize, libc::SOCK_STREAM as usize, 0, 0, 0, 0];
        assert_eq!(errno_of(libc::SYS_socket, socket), refused);
        assert_eq!(errno_of(libc::SYS_inotify_init1, [0; 6]), refused);
        assert_eq!(errno_of(libc::SYS_shmget, [0, 4096, 0o600, 0, 0, 0]), refused);
        assert!(std::os::unix::net::UnixStream::pair().is_ok());
        return;
    }
    succeed(myself(&Sandbox::new().seccomp(Seccomp::strict()), TEST, "strict"));
    succeed(myself(&Sandbox::new(), TEST, "default"));
}

fn a_shell_works_strictly() {
    let strict = Sandbox::new().seccomp(Seccomp::strict());
    let script = "seq 100 | sort -rn | head -1; ls / >/tmp/list && cp /tmp/list /tmp/copy && \
                  tar -cf /tmp/x.tar -C /tmp copy && wc -c </tmp/copy | tr -d ' ' >/dev/null; date +%Y >/dev/null";
    assert_eq!(sh(&strict, script), "100\n");
}

fn capabilities_widen_it() {
    const TEST: &str = "capabilities_widen_it";
    if let Some(role) = role() {
        let answer = errno_of(libc::SYS_process_vm_readv, [1, 0, 0, 0, 0, 0]);
        assert_eq!(answer == libc::EPERM, role == "none", "{answer}");
        return;
    }
    succeed(myself(&Sandbox::new(), TEST, "none"));
    let kept = Capabilities::keep([Capability::SYS_PTRACE]);
    succeed(myself(&Sandbox::new().capabilities(kept), TEST, "kept"));
}

fn nesting_by_name_widens_it() {
    let nested = "unshare -Urm mount -t tmpfs none /tmp && echo mounted";
    let refused = inside::shell(&Sandbox::new(), nested);
    assert!(refused.stdout.is_empty());
    assert_eq!(sh(&Sandbox::new().allow_nesting(), nested), "mounted\n");
}

fn a_terminal_is_not_typed_into() {
    const TEST: &str = "a_terminal_is_not_typed_into";
    const TIOCSTI: usize = 0x5412;
    if let Some(role) = role() {
        let letter = b"x";
        let mut answers = Vec::new();
        for request in [TIOCSTI, 1 << 32 | TIOCSTI, 0x541c, 0x5423] {
            answers
                .push(errno_of(libc::SYS_ioctl, [0, request, letter.as_ptr() as usize, 0, 0, 0]));
        }
        match role.as_str() {
            "refused" => assert_eq!(answers, [libc::EPERM; 4]),
            // Standard input is no terminal.
            _ => assert_eq!(answers[..2], [libc::ENOTTY; 2]),
        }
        return;
    }
    succeed(myself(&Sandbox::new(), TEST, "refused"));
    succeed(myself(&Sandbox::new().seccomp(Seccomp::none()), TEST, "asked"));
}

fn write_refused_does_not_stop_the_start() {
    let refusal = Rule::new("write").then(Action::Errno(5));
    let sandbox = Sandbox::new().seccomp(Seccomp::default().rule(refusal));
    let output = sandbox.way_to("cat").arg("/etc/hostname").output().unwrap();
    assert!(!output.outcome.is_success());
    assert!(output.stdout.is_empty());
    assert!(sandbox.way_to("true").status().unwrap().outcome.is_success());
}

/// All that the program's process does itself until the exec.
fn everything_but_the_least_refused() {
    for call in [
        "capset",
        "chdir",
        "close",
        "close_range",
        "dup3",
        "fcntl",
        "ioctl",
        "openat",
        "prctl",
        "prlimit64",
        "recvmsg",
        "rt_sigprocmask",
        "faccessat",
        "sendmsg",
        "setpriority",
        "setsid",
        "umask",
        "seccomp",
    ] {
        let refusal = Rule::new(call).then(Action::Errno(libc::EPERM as u32));
        let sandbox = Sandbox::new().nice(1).seccomp(Seccomp::default().rule(refusal));
        let status = sandbox.way_to("true").status().unwrap();
        // What the loader needs of it fails in the program, not in the sandbox.
        assert!(matches!(status.outcome, Outcome::Exited(_)), "{call}: {status:?}");
        let error = sandbox.way_to("/no/such/program").spawn().unwrap_err();
        assert!(error.to_string().contains("/no/such/program"), "{call}: {error}");
    }
}

/// What such a program asks for until its end.
const FEW: &[&str] = &[
    "execve",
    "exit_group",
    "brk",
    "arch_prctl",
    "set_tid_address",
    "set_robust_list",
    "rseq",
    "prlimit64",
    "readlink",
    "readlinkat",
    "getrandom",
    "mprotect",
    "prctl",
    "getuid",
    "setuid",
    "setgid",
    "getgid",
    "uname",
    "newfstatat",
    "mmap",
];

fn a_static_program_with_few_calls() {
    let sandbox = Sandbox::new().seccomp(Seccomp::allow_list(FEW.iter().copied()));
    let status = sandbox.way_to("busybox").arg("true").status().unwrap();
    assert!(status.outcome.is_success(), "{status:?}");
    let output = sandbox.way_to("busybox").args(["echo", "x"]).output().unwrap();
    assert!(output.stdout.is_empty());
}

fn a_program_that_is_missing_is_told() {
    let sandbox = Sandbox::new().seccomp(Seccomp::allow_list(FEW.iter().copied()));
    for (program, errno) in
        [("/no/such", libc::ENOENT), ("/etc/passwd", libc::EACCES), ("/usr", libc::EACCES)]
    {
        let error = sandbox.way_to(program).spawn().unwrap_err();
        let Error::Failed(failed) = &error else { panic!("{error:?}") };
        assert_eq!(failed.stage, Stage::Start, "{error}");
        assert_eq!(failed.raw_os_error(), errno, "{error}");
    }
}

fn a_terminal_under_a_narrow_filter() {
    let refusal = |call| Rule::new(call).then(Action::Errno(libc::EPERM as u32));
    let seccomp = Seccomp::default().rule(refusal("ioctl")).rule(refusal("sendmsg"));
    let command = Sandbox::new().seccomp(seccomp).way_to("sh");
    let mut child = command.args(["-c", "test -c /dev/tty"]).pty(24, 80).spawn().unwrap();
    assert!(child.wait().unwrap().outcome.is_success());
}

fn refused(seccomp: Seccomp) -> String {
    refusal(&Sandbox::new().seccomp(seccomp))
}

fn refusal(sandbox: &Sandbox) -> String {
    match sandbox.way_to("true").spawn().unwrap_err() {
        Error::Invalid(problems) => problems.join("\n"),
        other => panic!("{other:?}"),
    }
}

fn execve_refused() {
    assert!(refused(Seccomp::deny_list(["execve"])).contains("execve"));
    assert!(refused(Seccomp::allow_list(["read"])).contains("execve"));
    let killing = Seccomp::default().rule(Rule::new("execve").then(Action::KillProcess));
    assert!(refused(killing).contains("execve"));
}

fn end_refused() {
    assert!(refused(Seccomp::deny_list(["exit_group"])).contains("exit_group"));
}

fn without_init_it_must_be_told() {
    let silent = Seccomp::deny_list(["sendmsg"]);
    let sandbox = Sandbox::new().init(false).seccomp(silent);
    assert!(refusal(&sandbox).contains("sendmsg"));
    let quiet = Seccomp::deny_list(["prctl", "umask"]);
    let sandbox = Sandbox::new().init(false).seccomp(quiet);
    assert!(sandbox.way_to("true").status().unwrap().outcome.is_success());
    let error = sandbox.way_to("/no/such").spawn().unwrap_err();
    assert!(error.to_string().contains("/no/such"), "{error}");
}

fn killing(names: &[&str]) -> Seccomp {
    let kill =
        |seccomp: Seccomp, name: &&str| seccomp.rule(Rule::new(*name).then(Action::KillProcess));
    names.iter().fold(Seccomp::default(), kill)
}

fn killed_by_a_filter() {
    let sandbox = Sandbox::new().seccomp(killing(&["mkdir", "mkdirat"]));
    let outcome = sandbox.way_to("mkdir").arg("/tmp/x").status().unwrap().outcome;
    assert!(matches!(outcome.syscall_name(), Some("mkdir" | "mkdirat")), "{outcome}");
    assert!(outcome.to_string().contains("mkdir"), "{outcome}");
    // Without anybody to ask it is a signal.
    let outcome = sandbox.init(false).way_to("mkdir").arg("/tmp/x").status().unwrap().outcome;
    assert_eq!(outcome, Outcome::Signaled { signal: libc::SIGSYS, core_dumped: false });
}

/// Neither a signal that it sends itself, nor what was done to another process.
fn not_killed_by_a_filter() {
    let sandbox = Sandbox::new().seccomp(killing(&["mkdir", "mkdirat"]));
    let status = |script: &str| sandbox.way_to("sh").args(["-c", script]).status().unwrap().outcome;
    for signal in [libc::SIGSYS, libc::SIGKILL] {
        let sent = status(&format!("kill -{signal} $$"));
        assert_eq!(sent, Outcome::Signaled { signal, core_dumped: false });
    }
    assert_eq!(status("mkdir /tmp/x; exit 7"), Outcome::Exited(7));
    let killed = Outcome::Signaled { signal: libc::SIGKILL, core_dumped: false };
    assert_eq!(status("mkdir /tmp/x; kill -9 $$"), killed);
    // Many at once, and some that are killed while they wait.
    let script = "for i in 1 2 3 4 5 6 7 8; do mkdir /tmp/$i & done; wait; ls /tmp | wc -l";
    assert_eq!(sh(&sandbox, script), "0\n");
}

fn a_thread_is_killed_with_its_process() {
    if role().is_some() {
        std::thread::spawn(|| std::fs::create_dir("/tmp/x")).join().unwrap().unwrap();
        std::process::exit(0);
    }
    let sandbox = Sandbox::new().seccomp(killing(&["mkdir", "mkdirat"]));
    let test = "a_thread_is_killed_with_its_process";
    let outcome = myself(&sandbox, test, "inside").status().unwrap().outcome;
    assert!(matches!(outcome, Outcome::SeccompDenied { .. }), "{outcome}");
}

/// Init holds the listener: the end of the sandbox is not in the way of what waits.
fn the_end_comes_before_the_answer() {
    let sandbox = Sandbox::new().seccomp(killing(&["mkdir", "mkdirat"]));
    let loops = "while :; do (mkdir /tmp/x) & done";
    let child = sandbox.way_to("timeout").args(["1", "sh", "-c", loops]).spawn().unwrap();
    drop(child);
    let outcome = sandbox.way_to("timeout").args(["0.2", "sh", "-c", loops]).status().unwrap();
    assert_eq!(outcome.outcome, Outcome::Exited(124));
}

/// The caller answers, and the call is one of its own.
fn the_caller_is_asked() {
    let asking = Seccomp::default().rule(Rule::new("uname").then(Action::Notify));
    let sandbox = Sandbox::new().seccomp(asking.clone());
    let mut child = sandbox.way_to("uname").stderr(Stdio::piped()).spawn().unwrap();
    let listener = child.seccomp_listener().unwrap();
    assert!(child.seccomp_listener().is_none());
    // struct seccomp_notif, and struct seccomp_notif_resp.
    let mut asked = [0u64; 10];
    // SAFETY: there is room for what the kernel writes.
    let result =
        unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &mut asked) };
    assert_eq!(result, 0);
    assert_eq!(i64::from(asked[2] as u32), libc::SYS_uname);
    let mut answer = [asked[0], 0, u64::from((-libc::EXDEV) as u32)];
    // SAFETY: the answer is as long as the kernel reads.
    let result =
        unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &mut answer) };
    assert_eq!(result, 0);
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(errors.contains("cross-device"), "{errors}");
    // Nobody listens any more.
    let child = sandbox.way_to("uname").stderr(Stdio::piped()).spawn().unwrap();
    let mut child = child;
    drop(child.seccomp_listener());
    let output = child.wait_with_output().unwrap();
    assert_ne!(output.outcome, Outcome::Exited(0));
    let error = sandbox.init(false).way_to("true").spawn().unwrap_err();
    assert!(error.to_string().contains("needs init"), "{error}");
    // With another listener above it there is none to be had.
    let both = asking.rule(Rule::new("mkdir").then(Action::KillProcess));
    let status = Sandbox::new().seccomp(both).way_to("true").status().unwrap();
    assert_eq!(status.outcome, Outcome::Exited(0));
}

/// Where it would stay on the host, as one of the caller's.
fn no_file_is_made_setuid() {
    let script = "set -e; touch x; chmod 0700 x; chmod 2700 x; chmod 4700 x";
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let bound = Sandbox::new().bind_rw(directory.path(), "/data");
    let run = |sandbox: &Sandbox, directory: &str| {
        let command = sandbox.command("sh").args(["-c", script]).current_dir(directory);
        command.status().unwrap().outcome.is_success()
    };
    assert!(run(&Sandbox::new(), "/tmp"));
    assert!(!run(&bound, "/data") && !run(&bound, "/tmp"));
    assert!(!run(&bound.clone().seccomp(Seccomp::none()), "/data"));
    let kept = Capabilities::keep([Capability::FSETID]);
    assert!(run(&bound.capabilities(kept), "/data"));
    // A descriptor is a way as well.
    let opened = std::fs::File::open(directory.path()).unwrap();
    let command = Sandbox::new().command("sh").args(["-c", script]).fd(3, opened);
    assert!(!command.current_dir("/tmp").status().unwrap().outcome.is_success());
}

fn an_action_for_the_rest() {
    let made = |seccomp: Seccomp| {
        let sandbox = Sandbox::new().seccomp(seccomp);
        sandbox.way_to("mkdir").arg("/tmp/x").status().unwrap().outcome
    };
    assert_eq!(made(Seccomp::deny_list(["link"])), Outcome::Exited(0));
    let killing = Seccomp::deny_list(["link"]).otherwise(Action::Log);
    assert_eq!(made(killing), Outcome::Exited(0));
    let masked = Rule::new("mkdirat").when(Condition::masked(2, 0o1, 0o1));
    let masked = masked.then(Action::Errno(libc::ENOSPC as u32));
    let old = Rule::new("mkdir").then(Action::Errno(libc::ENOSPC as u32));
    assert_eq!(made(Seccomp::default().rule(masked).rule(old)), Outcome::Exited(1));
}

const ALLOW: [u8; 8] = [0x06, 0, 0, 0, 0, 0, 0xff, 0x7f];

fn raw_programs() {
    let sandbox = Sandbox::new().seccomp(Seccomp::bpf(ALLOW));
    assert_eq!(sh(&sandbox, "mkdir /tmp/x && echo made"), "made\n");
    // What every sandbox forbids stays forbidden.
    assert!(!inside::shell(&sandbox, "unshare -U true").outcome.is_success());
    let load: [u8; 8] = [0x20, 0, 0, 0, 0, 0, 0, 0];
    let is = |number: i64| {
        let mut one = [0x15, 0, 0, 1, 0, 0, 0, 0];
        one[4..].copy_from_slice(&(number as u32).to_ne_bytes());
        one
    };
    let full: [u8; 8] = [0x06, 0, 0, 0, 28, 0, 5, 0];
    let program = [load, is(libc::SYS_symlinkat), full, is(266), full, ALLOW].concat();
    let sandbox = Sandbox::new().seccomp(Seccomp::bpf(program));
    inside::sh_fails(&sandbox, "ln -s a /tmp/b", "No space left");
    assert_eq!(sh(&sandbox, "mkdir /tmp/x && echo made"), "made\n");
}

fn raw_programs_that_are_none() {
    assert!(refused(Seccomp::bpf([])).contains("8 bytes"));
    assert!(refused(Seccomp::bpf([1, 2, 3])).contains("8 bytes"));
    // It ends without an answer: refused here, or at the latest by the kernel.
    assert!(refused(Seccomp::bpf([0x20, 0, 0, 0, 0, 0, 0, 0])).contains("execve"));
    let beyond: [u8; 8] = [0x05, 0, 0, 0, 9, 0, 0, 0];
    let bad = [[0x15, 0, 1, 0, 0, 0, 0, 0], ALLOW, beyond].concat();
    let error = Sandbox::new().seccomp(Seccomp::bpf(bad)).way_to("true").spawn().unwrap_err();
    assert!(
        error.to_string().contains("filter") || error.to_string().contains("execve"),
        "{error}"
    );
}

fn names_are_checked() {
    let problems = refused(Seccomp::allow_list(["execve", "exit_group", "opennat"]));
    assert!(problems.contains("\"opennat\"") && problems.contains("openat"), "{problems}");
    // Of another machine: nothing to do here.
    let other = Seccomp::default().rule(Rule::new("s390_sthyi").then(Action::KillProcess));
    assert!(Sandbox::new().seccomp(other).way_to("true").status().unwrap().outcome.is_success());
}

fn checked_before_it_runs() {
    for seccomp in [
        Seccomp::default(),
        Seccomp::deny_list(["sendmsg", "openat"]),
        Seccomp::deny_list(["umask"]),
        Seccomp::bpf(ALLOW),
    ] {
        Sandbox::new().seccomp(seccomp).check().unwrap();
    }
}

fn told_in_the_plan() {
    let plan = |seccomp: Seccomp| Sandbox::new().seccomp(seccomp).plan().unwrap();
    assert!(plan(Seccomp::default()).to_string().contains("the default profile"));
    assert!(plan(Seccomp::deny_list(["link"])).to_string().contains("all but link"));
    assert!(plan(Seccomp::default()) == Sandbox::new().plan().unwrap());
    assert!(plan(Seccomp::strict()) != Sandbox::new().plan().unwrap());
    let rule = |value| Rule::new("socket").when(Condition::equal(0, value));
    assert!(plan(Seccomp::default().rule(rule(1))) != plan(Seccomp::default().rule(rule(2))));
}

fn filters_stack_with_the_programs_own() {
    const TEST: &str = "filters_stack_with_the_programs_own";
    if role().is_some() {
        let program = libc::sock_fprog { len: 1, filter: ALLOW.as_ptr().cast_mut().cast() };
        let answer = errno_of(libc::SYS_seccomp, [1, 0, (&raw const program) as usize, 0, 0, 0]);
        assert_eq!(answer, 0);
        return;
    }
    succeed(myself(&Sandbox::new(), TEST, "try"));
}

fn profiles_in_json() {
    // As Docker's: what is allowed by name, by argument, and by capability.
    let text = r#"{
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1,
        "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
        "syscalls": [
            {"names": ["execve", "exit_group", "brk", "arch_prctl", "set_tid_address", "rseq",
                "set_robust_list", "prlimit64", "readlink", "readlinkat", "getrandom", "mprotect",
                "mmap", "munmap", "openat", "read", "write", "close", "fstat", "newfstatat",
                "pread64", "access", "faccessat", "rt_sigaction", "rt_sigprocmask", "getuid",
                "geteuid", "getgid", "getegid", "getppid", "getpid", "fcntl", "dup2", "dup3",
                "vfork", "wait4", "chown32", "_llseek", "ioctl", "getcwd", "stat", "lseek",
                "statfs", "fadvise64", "statx", "umask", "prctl", "futex", "uname", "rt_sigreturn"],
             "action": "SCMP_ACT_ALLOW", "comment": "enough for a shell"},
            {"names": ["clone"], "action": "SCMP_ACT_ALLOW",
             "args": [{"index": 0, "value": 2114060288, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}],
             "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
            {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ALLOW",
             "includes": {"caps": ["CAP_SYS_TIME"]}}
        ]}"#;
    let sandbox = Sandbox::new().seccomp(Seccomp::from_json(text).unwrap());
    assert_eq!(sh(&sandbox, "cat /etc/hostname"), "stockade\n");
    inside::sh_fails(&sandbox, "mkdir /tmp/x", "not permitted");
    let kept = sandbox.capabilities(Capabilities::keep([Capability::SYS_TIME]));
    assert_eq!(sh(&kept, "mkdir /tmp/x; echo made"), "made\n");
    let Err(Error::Invalid(problems)) = Seccomp::from_json("{").map(drop) else { panic!("read") };
    assert!(problems[0].contains("cannot be read"), "{problems:?}");
    let unknown = text.replace("\"vfork\"", "\"vfrok\"");
    assert!(refused(Seccomp::from_json(unknown).unwrap()).contains("vfork"));
}

fn the_profile_of_podman() {
    let seccomp = Seccomp::from_json_file("/usr/share/containers/seccomp.json").unwrap();
    let sandbox = Sandbox::new().seccomp(seccomp);
    assert_eq!(sh(&sandbox, "ls / | sort | head -1"), "bin\n");
    assert!(!inside::shell(&sandbox, "unshare -U true").outcome.is_success());
    inside::sh_fails(&sandbox, "mount -t tmpfs x /tmp", "");
}
