//! A terminal of the sandbox's own, used as people use one.
#![allow(
    clippy::exit,
    clippy::incompatible_msrv,
    reason = "a test process, built by a current toolchain"
)]
#![allow(unsafe_code, reason = "terminals of the test's own, and ioctls of a hostile program")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking"
)]

mod common;
#[path = "common/inside.rs"]
mod inside;
#[path = "common/life.rs"]
mod life;
#[path = "common/terminal.rs"]
mod terminal;

use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use common::Needs;
use common::ways::Ways;
use inside::{myself, open_directory, role};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use stockade::{Child, Command, Error, Namespaces, Outcome, Proc, Pty, Rootfs, Sandbox, Stage};
use stockade::{Resource, Stdio};
use terminal::User;

tests_in_all_ways! {
    Needs::Nothing => [
        its_name_and_owner, it_is_all_streams, it_is_the_controlling_terminal, nothing_else_gets_in,
        the_kind_of_terminal, size_and_resize, interrupt_and_end_of_input, output_is_collected,
        what_was_written_before_the_end, a_lot_of_output, read_while_it_is_written_to, hang_up,
        given_with_other_streams, planted_multiplexer,
        descriptors_are_short, passed_descriptors_stay, from_many_threads, forced_input, utf8_erase,
        as_a_descriptor, daemon_does_not_hold_the_end,
    ];
    Needs::Nothing => alone [without_init, checked, no_mount_namespace];
    Needs::Program("busybox") => [in_an_empty_root, in_a_directory];
    Needs::Program("bash") => [job_control];
    Needs::Program("vim.tiny") => [editor];
    Needs::Program("top") => [top];
}

fn script(text: &str) -> Command {
    Sandbox::new().way_to("sh").args(["-c", text]).pty(24, 80)
}

fn shown(command: Command) -> String {
    let output = command.output().unwrap();
    assert_eq!(output.stderr, b"");
    let text = String::from_utf8(output.stdout).unwrap().replace("\r\n", "\n");
    assert_eq!(output.outcome, Outcome::Exited(0), "{text}");
    text
}

/// Sits down at a program.
fn sit_at(command: Command) -> (Child, User<Pty>) {
    let mut child = command.spawn().unwrap();
    let terminal = child.take_pty().unwrap();
    assert!(child.pty().is_none());
    (child, User::at(terminal))
}

fn its_name_and_owner() {
    let text = shown(script("tty; stat -c %u:%a $(tty); id -u; ls /dev/pts | tr '\\n' ' '"));
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("/dev/pts/0"));
    let (owner, id) = (lines.next().unwrap(), lines.next().unwrap());
    assert_eq!(owner, format!("{id}:620"));
    assert_eq!(lines.next(), Some("0 ptmx "));
    // Each sandbox has an instance of its own.
    let (_first, _terminal) = sit_at(script("read line"));
    assert!(shown(script("tty")).starts_with("/dev/pts/0"));
}

fn it_is_all_streams() {
    let text = shown(script("for n in 0 1 2; do test -t $n && readlink /proc/self/fd/$n; done"));
    assert_eq!(text, "/dev/pts/0\n".repeat(3));
    assert_eq!(shown(script("echo out; echo err >&2")), "out\nerr\n");
}

fn it_is_the_controlling_terminal() {
    assert_eq!(shown(script("echo spoken >/dev/tty")), "spoken\n");
    // Session, foreground group and terminal are the program's.
    let text = shown(script("cat /proc/$$/stat"));
    let fields: Vec<_> = text.rsplit(") ").next().unwrap().split(' ').collect();
    assert_eq!(fields[2], fields[3]);
    assert_eq!(fields[2], fields[5]);
    assert_ne!(fields[4], "0");
}

fn nothing_else_gets_in() {
    let command = Sandbox::new().way_to("ls").arg("/proc/self/fd").pty(24, 80);
    // 3 is the directory that ls reads.
    assert_eq!(shown(command).split_whitespace().collect::<Vec<_>>(), ["0", "1", "2", "3"]);
}

fn the_kind_of_terminal() {
    assert_eq!(shown(script("echo $TERM")), "xterm\n");
    assert_eq!(shown(script("echo $TERM").env("TERM", "vt100")), "vt100\n");
    let command = Sandbox::new().way_to("sh").args(["-c", "echo $TERM"]).env("TERM", "dumb");
    assert_eq!(shown(command.pty(1, 1)), "dumb\n");
    assert_eq!(shown(script("echo \"<$TERM>\"").env_remove("TERM")), "<>\n");
}

fn size_and_resize() {
    let text = "trap 'stty size; exit 0' WINCH; stty size; while :; do sleep 1000 & wait; done";
    let (mut child, mut user) = sit_at(script(text));
    user.sees("24 80\r\n");
    user.terminal.resize(50, 132).unwrap();
    user.sees("50 132\r\n");
    assert_eq!(child.wait().unwrap().outcome, Outcome::Exited(0));
}

fn interrupt_and_end_of_input() {
    let (mut child, mut user) = sit_at(script("echo begun; exec sleep 1000"));
    user.sees("begun");
    user.types("\x03");
    let outcome = child.wait().unwrap().outcome;
    assert_eq!(outcome, Outcome::Signaled { signal: libc::SIGINT, core_dumped: false });
    let (mut child, mut user) = sit_at(Sandbox::new().way_to("cat").pty(24, 80));
    user.types("line\n\x04");
    assert_eq!(user.sees_the_end(), "line\r\nline\r\n");
    assert_eq!(child.wait().unwrap().outcome, Outcome::Exited(0));
}

fn output_is_collected() {
    let output = script("echo out; echo err >&2; exit 3").output().unwrap();
    assert_eq!(output.outcome, Outcome::Exited(3));
    assert_eq!((output.stdout, output.stderr), (b"out\r\nerr\r\n".to_vec(), Vec::new()));
    assert!(!output.stdout_truncated);
    let output = script("echo hello").keep_output(4).output().unwrap();
    assert_eq!(output.stdout, b"hell");
    assert!(output.stdout_truncated);
}

/// As much as the kernel keeps is there after the end of the whole sandbox.
fn what_was_written_before_the_end() {
    for _ in 0..20 {
        let (mut child, mut user) = sit_at(script("head -c 3000 /dev/zero | tr '\\0' x; exit 0"));
        assert_eq!(child.wait().unwrap().outcome, Outcome::Exited(0));
        assert_eq!(user.sees_the_end(), "x".repeat(3000));
    }
}

fn a_lot_of_output() {
    let text = shown(script("seq 200000"));
    let expected: Vec<_> = (1..=200_000).map(|number| number.to_string()).collect();
    assert!(text.lines().eq(expected), "{} bytes", text.len());
}

fn read_while_it_is_written_to() {
    let (mut child, user) = sit_at(script("stty -echo; echo ready; head -n 5000 | wc -l"));
    let mut copy = user.terminal.try_clone().unwrap();
    let mut user = user;
    user.sees("ready");
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        copy.read_to_string(&mut text).unwrap();
        text
    });
    for number in 0..5000 {
        user.types(&format!("line {number}\n"));
    }
    assert!(reader.join().unwrap().ends_with("5000\r\n"));
    assert_eq!(child.wait().unwrap().outcome, Outcome::Exited(0));
}

fn hang_up() {
    let (mut child, mut user) = sit_at(script("echo begun; exec sleep 1000"));
    user.sees("begun");
    drop(user);
    let outcome = child.wait().unwrap().outcome;
    assert_eq!(outcome, Outcome::Signaled { signal: libc::SIGHUP, core_dumped: false });
}

fn without_init() {
    let command = Sandbox::new().init(false).way_to("sh");
    assert_eq!(
        shown(command.args(["-c", "tty; echo $$; stty size"]).pty(3, 4)),
        "/dev/pts/0\n1\n3 4\n"
    );
}

fn checked() {
    script("exit").check().unwrap();
    Sandbox::new().init(false).way_to("/no/such/program").pty(1, 1).check().unwrap();
}

fn problems(command: Command) -> String {
    match command.spawn() {
        Err(error @ Error::Invalid(_)) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

fn given_with_other_streams() {
    let text =
        problems(script("").stdin(Stdio::null()).fd(2, life::pipe().1).controlling_terminal());
    for part in ["stdin(..)", "stderr(..)", "another is asked for"] {
        assert!(text.contains(part), "{text}");
    }
    assert!(!text.contains("stdout"), "{text}");
}

fn no_mount_namespace() {
    let sandbox = Sandbox::new().namespaces(Namespaces::all() - Namespaces::MOUNT);
    assert!(problems(sandbox.way_to("true").pty(1, 1)).contains("mount namespace"));
}

/// What the caller puts in the place of the terminals' file system is not taken for it.
fn planted_multiplexer() {
    let directory = open_directory();
    let pts = directory.path();
    let attempt = || {
        let sandbox = Sandbox::new().bind_rw(pts, "/dev/pts");
        let error = sandbox.way_to("true").pty(1, 1).spawn().unwrap_err();
        assert_eq!(error.stage(), Some(Stage::Start), "{error}");
        error.to_string()
    };
    assert_eq!(attempt(), "open \"/dev/pts/ptmx\": no such file or directory (os error 2)");
    let no_terminal = "verify of the new terminal: protocol error (os error 71)";
    fs::write(pts.join("ptmx"), "").unwrap();
    assert_eq!(attempt(), no_terminal);
    fs::remove_file(pts.join("ptmx")).unwrap();
    std::os::unix::fs::symlink("/dev/null", pts.join("ptmx")).unwrap();
    assert_eq!(attempt(), no_terminal);
    fs::remove_file(pts.join("ptmx")).unwrap();
    nix::unistd::mkfifo(&pts.join("ptmx"), nix::sys::stat::Mode::all()).unwrap();
    assert_eq!(attempt(), no_terminal);
}

fn descriptors_are_short() {
    // The program's limit does not bind the making of its terminal.
    let sandbox = Sandbox::new().rlimit(Resource::OpenFiles, 4);
    let command = sandbox.way_to("sh").args(["-c", "ulimit -n; tty"]);
    assert_eq!(shown(command.pty(1, 1)), "4\n/dev/pts/0\n");
}

fn passed_descriptors_stay() {
    let (reading, writing) = life::pipe();
    let command = script("echo through >&3; tty").fd(3, writing);
    assert_eq!(shown(command), "/dev/pts/0\n");
    let mut text = String::new();
    fs::File::from(reading).read_to_string(&mut text).unwrap();
    assert_eq!(text, "through\n");
}

fn from_many_threads() {
    let threads: Vec<_> = (0..16)
        .map(|number| {
            std::thread::spawn(move || {
                let text = format!("tty; echo {number}");
                assert_eq!(shown(script(&text)), format!("/dev/pts/0\n{number}\n"));
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

/// What a hostile program pushes into its terminal is for itself: the caller's has nothing to read.
fn forced_input() {
    if role().is_some() {
        let tty = fs::File::open("/dev/tty").unwrap();
        for fd in [0, 1, 2, tty.as_raw_fd()] {
            for byte in b"echo forced\n" {
                // SAFETY: one byte is read from a live address.
                unsafe { libc::ioctl(fd, libc::TIOCSTI, &raw const *byte) };
            }
        }
        println!("pushed");
        return;
    }
    let pair = nix::pty::openpty(None, None).unwrap();
    life::session();
    // SAFETY: takes numbers.
    assert_eq!(unsafe { libc::ioctl(pair.slave.as_raw_fd(), libc::TIOCSCTTY, 0) }, 0);
    let text = shown(myself(&Sandbox::new(), "forced_input", "inside").pty(24, 80));
    assert!(text.contains("pushed"), "{text}");
    let mut set = [PollFd::new(pair.slave.as_fd(), PollFlags::POLLIN)];
    assert_eq!(poll(&mut set, PollTimeout::ZERO), Ok(0));
    // Else the end of this terminal would be this process's as well.
    life::ignore(libc::SIGHUP);
    drop(pair.master);
}

/// The kernel's own line editing takes away a whole character.
fn utf8_erase() {
    let (mut child, mut user) = sit_at(script("read line; echo \"<$line>\""));
    user.types("aä\x7f\n");
    user.sees("<a>");
    assert_eq!(child.wait().unwrap().outcome, Outcome::Exited(0));
}

fn as_a_descriptor() {
    let mut child = script("echo seen").spawn().unwrap();
    let fd: OwnedFd = child.take_pty().unwrap().into();
    let (mut seen, mut buffer) = (Vec::new(), [0; 64]);
    // What the program writes at once may come in parts.
    while !seen.ends_with(b"\n") {
        let length = nix::unistd::read(&fd, &mut buffer).unwrap();
        seen.extend_from_slice(&buffer[..length]);
    }
    assert_eq!(seen, b"seen\r\n");
    child.wait().unwrap();
}

/// Who still has the terminal when the program ends is ended, and the terminal with it.
fn daemon_does_not_hold_the_end() {
    let (mut child, mut user) = sit_at(script("setsid sleep 1000 & echo left"));
    assert_eq!(child.wait().unwrap().outcome, Outcome::Exited(0));
    assert!(user.sees_the_end().contains("left\r\n"));
}

fn in_an_empty_root() {
    let sandbox = Sandbox::new().rootfs(Rootfs::empty()).program("/usr/bin/busybox");
    let command = sandbox.way_to("/usr/bin/busybox").args(["tty"]).pty(24, 80);
    assert_eq!(shown(command), "/dev/pts/0\n");
}

fn in_a_directory() {
    let directory = open_directory();
    for name in ["proc", "dev", "tmp", "bin"] {
        fs::create_dir(directory.path().join(name)).unwrap();
    }
    fs::copy("/usr/bin/busybox", directory.path().join("bin/busybox")).unwrap();
    let sandbox = Sandbox::new().rootfs(Rootfs::directory(directory.path()));
    let command = sandbox.way_to("/bin/busybox").args(["tty"]).pty(24, 80);
    assert_eq!(shown(command), "/dev/pts/0\n");
}

// ---- programs that need a terminal -------------------------------------------------------------

fn job_control() {
    let command = Sandbox::new().way_to("bash").args(["--norc", "--noprofile", "-i"]);
    let (mut child, mut user) = sit_at(command.env("PS1", "ready> ").pty(24, 80));
    user.sees("ready> ");
    user.types("sleep 1000\r");
    user.sees("sleep 1000\r\n");
    await_foreground(&child, "sleep");
    user.types("\x1a");
    user.sees("Stopped");
    user.sees("ready> ");
    user.types("jobs\r");
    user.sees("[1]+  Stopped");
    user.sees("ready> ");
    user.types("bg; jobs\r");
    user.sees("Running");
    user.sees("ready> ");
    user.types("fg\r");
    user.sees("sleep 1000\r\n");
    await_foreground(&child, "sleep");
    user.types("\x03");
    user.sees("ready> ");
    user.types("echo code=$?\r");
    user.sees("code=130");
    user.sees("ready> ");
    user.terminal.resize(33, 99).unwrap();
    user.types("stty size\r");
    user.sees("33 99");
    user.types("exit\r");
    let text = user.sees_the_end();
    assert!(!text.contains("no job control") && !text.contains("terminal process group"), "{text}");
    assert_eq!(child.wait().unwrap().outcome, Outcome::Exited(0));
}

/// Waits until a process of this name is in the foreground of the terminal: keys reach it then.
fn await_foreground(child: &Child, name: &str) {
    let program = child.program_id().unwrap();
    let until = std::time::Instant::now() + life::SAFETY;
    loop {
        let stat = fs::read_to_string(format!("/proc/{program}/stat")).unwrap();
        let foreground = stat.rsplit(") ").next().unwrap().split(' ').nth(5).unwrap().to_owned();
        let command = fs::read_to_string(format!("/proc/{foreground}/comm")).unwrap_or_default();
        if command.trim() == name {
            return;
        }
        assert!(std::time::Instant::now() < until, "{name} is not in the foreground: {stat}");
        std::thread::yield_now();
    }
}

fn editor() {
    let directory = open_directory();
    let file = directory.path().join("text");
    fs::write(&file, "before\n").unwrap();
    let sandbox = Sandbox::new().bind_rw(directory.path(), "/place");
    let command = sandbox.way_to("vim.tiny").args(["-u", "NONE", "-n", "/place/text"]);
    let (mut child, mut user) = sit_at(command.pty(24, 80));
    user.sees("before");
    user.types("otyped inside\x1b:wq\r");
    user.sees_the_end();
    assert_eq!(child.wait().unwrap().outcome, Outcome::Exited(0));
    assert_eq!(fs::read_to_string(file).unwrap(), "before\ntyped inside\n");
}

fn top() {
    let command = Sandbox::new().proc(Proc::Compat).way_to("top").arg("-b").args(["-n", "1"]);
    let batch = shown(command.pty(24, 80));
    assert!(batch.contains("PID") && batch.contains("top"), "{batch}");
    let (mut child, mut user) = sit_at(Sandbox::new().proc(Proc::Compat).way_to("top").pty(24, 80));
    user.sees("PID");
    user.types("q");
    user.sees_the_end();
    assert_eq!(child.wait().unwrap().outcome, Outcome::Exited(0));
}
