//! `stockade run --tty` at a real terminal.
#![allow(
    clippy::exit,
    clippy::incompatible_msrv,
    reason = "a test process, built by a current toolchain"
)]
#![allow(unsafe_code, reason = "the test's own sessions and terminals")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking"
)]

mod common;
#[path = "common/life.rs"]
mod life;
#[path = "common/terminal.rs"]
mod terminal;

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use common::Needs;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{Winsize, openpty};
use nix::sys::termios::{LocalFlags, Termios, tcgetattr};
use terminal::User;

/// Where cargo built the program.
const STOCKADE: &str = env!("CARGO_BIN_EXE_stockade");

tests! {
    Needs::Program(STOCKADE) => [
        name_size_and_kind, keys_go_inside, size_changes, exit_codes, modes_after_each_end,
        modes_while_it_is_stopped, no_terminal, explained_without_a_terminal, a_lot_of_output,
        output_to_a_file, the_terminal_goes_away, typed_before_it_is_read,
    ];
    Needs::Program("bash") => [job_control, stopped_and_continued_as_a_job];
    Needs::Program("perl") => [forced_input];
    Needs::Program("vim.tiny") => [editor];
}

/// A user at a terminal on which `stockade run --tty` was started.
struct Seat {
    user: User<File>,
    process: Child,
    /// Kept open, to be looked at.
    theirs: OwnedFd,
    before: Termios,
}

impl Seat {
    fn of(arguments: &[&str]) -> Self {
        Seat::with(|command| {
            command.args(["run", "--tty"]).args(arguments);
        })
    }

    fn with(shape: impl FnOnce(&mut Command)) -> Self {
        Seat::of_program(STOCKADE, shape)
    }

    fn of_program(program: &str, shape: impl FnOnce(&mut Command)) -> Self {
        let size = Winsize { ws_row: 30, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
        let pair = openpty(&size, None).unwrap();
        for side in [&pair.master, &pair.slave] {
            // Or the program would hold both ends itself.
            fcntl(side, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).unwrap();
        }
        let before = tcgetattr(&pair.slave).unwrap();
        let stream = || Stdio::from(pair.slave.try_clone().unwrap());
        let mut command = Command::new(program);
        command.stdin(stream()).stdout(stream()).stderr(stream()).env("TERM", "vt220");
        shape(&mut command);
        let session = || {
            life::session();
            // SAFETY: this request takes a number; standard input is the terminal by now.
            match unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) } {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        };
        // SAFETY: two system calls; nothing is allocated.
        unsafe { command.pre_exec(session) };
        let process = command.spawn().unwrap();
        drop(command);
        Seat { user: User::at(pair.master.into()), process, theirs: pair.slave, before }
    }

    fn shell(script: &str) -> Self {
        Seat::of(&["--", "sh", "-c", script])
    }

    /// Waits for its end; returns exit code and all that was shown.
    fn end(mut self) -> (Option<i32>, String) {
        let until = Instant::now() + life::SAFETY;
        let code = loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                break status.code();
            }
            // What is shown has to be read, or nothing more is written.
            self.user.sees_more();
            assert!(Instant::now() < until, "no end after {:?}", self.user.shown());
        };
        assert!(tcgetattr(&self.theirs).unwrap() == self.before, "the terminal is as it was");
        drop(self.theirs);
        (code, self.user.sees_the_end())
    }

    fn is_raw(&self) -> bool {
        !tcgetattr(&self.theirs).unwrap().local_flags.contains(LocalFlags::ICANON)
    }
}

fn await_that(what: &str, condition: impl Fn() -> bool) {
    let until = Instant::now() + life::SAFETY;
    while !condition() {
        assert!(Instant::now() < until, "{what}");
        std::thread::yield_now();
    }
}

fn name_size_and_kind() {
    let (code, text) = Seat::shell("tty; stty size; echo $TERM").end();
    assert_eq!((code, text.as_str()), (Some(0), "/dev/pts/0\r\n30 100\r\nvt220\r\n"));
    let script = "tty; echo $TERM";
    let (_, text) = Seat::of(&["--env", "TERM=dumb", "--", "sh", "-c", script]).end();
    assert_eq!(text, "/dev/pts/0\r\ndumb\r\n");
    let clear = ["--clear-env", "--", "/bin/sh", "-c", "echo \"<$TERM>\""];
    assert!(!Seat::of(&clear).end().1.contains("vt220"));
}

fn keys_go_inside() {
    let script =
        "trap 'echo interrupted' INT; echo ready; read a; echo got $a; while :; do read b; done";
    let mut seat = Seat::shell(script);
    seat.user.sees("ready");
    assert!(seat.is_raw());
    seat.user.types("word\r");
    seat.user.sees("got word");
    seat.user.types("\x03");
    seat.user.sees("interrupted");
    seat.user.types("\x1c");
    // SIGQUIT of the inside's own terminal.
    assert_eq!(seat.end().0, Some(128 + libc::SIGQUIT));
    let mut seat = Seat::shell("echo ready; cat; echo code=$?");
    // What is typed before this is for the caller's own terminal to edit.
    seat.user.sees("ready");
    seat.user.types("line\r\x04");
    seat.user.sees("code=0");
    assert_eq!(seat.end().0, Some(0));
}

fn size_changes() {
    let script = "trap 'stty size; exit 0' WINCH; echo ready; while :; do sleep 1000 & wait; done";
    let mut seat = Seat::shell(script);
    seat.user.sees("ready");
    let size = Winsize { ws_row: 50, ws_col: 132, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the size lives across the call.
    let result =
        unsafe { libc::ioctl(seat.user.terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
    assert_eq!(result, 0);
    seat.user.sees("50 132");
    assert_eq!(seat.end().0, Some(0));
}

fn exit_codes() {
    assert_eq!(Seat::shell("exit 3").end().0, Some(3));
    assert_eq!(Seat::shell("kill -9 $$").end().0, Some(137));
    let (code, text) = Seat::of(&["--", "/no/such/program"]).end();
    assert_eq!(code, Some(127));
    assert!(text.contains("stockade: exec"), "{text}");
}

/// However it ends, the caller's terminal has its modes again: `end` looks.
fn modes_after_each_end() {
    let (code, text) = Seat::of(&["--timeout", "200ms", "--", "sleep", "1000"]).end();
    assert_eq!(code, Some(124), "{text}");
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT] {
        let mut seat = Seat::shell("echo ready; exec sleep 1000");
        seat.user.sees("ready");
        await_that("raw mode", || seat.is_raw());
        life::signal(seat.process.id(), signal);
        assert_eq!(seat.end().0, Some(128 + signal));
    }
    // Init is killed: nothing inside can have any part in it.
    let mut seat = Seat::shell("echo ready; exec sleep 1000");
    seat.user.sees("ready");
    await_that("raw mode", || seat.is_raw());
    let parent = seat.process.id().to_string();
    let mut killed = false;
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(stat) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        let Some((_, rest)) = stat.rsplit_once(") ") else { continue };
        if rest.split(' ').nth(1) == Some(&parent) && stat.contains("(stockade-init)") {
            let pid = entry.file_name().to_string_lossy().parse().unwrap();
            life::signal(pid, libc::SIGKILL);
            killed = true;
        }
    }
    assert!(killed);
    assert_eq!(seat.end().0, Some(137));
}

fn modes_while_it_is_stopped() {
    let mut seat = Seat::shell("echo ready; read line; echo got $line");
    seat.user.sees("ready");
    await_that("raw mode", || seat.is_raw());
    life::signal(seat.process.id(), libc::SIGTSTP);
    let stat = format!("/proc/{}/stat", seat.process.id());
    await_that("a stop", || std::fs::read_to_string(&stat).unwrap().contains(") T "));
    assert!(tcgetattr(&seat.theirs).unwrap() == seat.before, "the terminal is as it was");
    life::signal(seat.process.id(), libc::SIGCONT);
    await_that("raw mode again", || seat.is_raw());
    seat.user.types("word\r");
    seat.user.sees("got word");
    assert_eq!(seat.end().0, Some(0));
}

fn no_terminal() {
    let output =
        Command::new(STOCKADE).args(["run", "-t", "true"]).stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(125));
    let text = String::from_utf8(output.stderr).unwrap();
    let expected =
        "stockade: '--tty' needs a terminal, and standard input is none; hint: see --help\n";
    assert_eq!(text, expected);
}

fn explained_without_a_terminal() {
    let mut command = Command::new(STOCKADE);
    command.args(["run", "-t", "--explain", "true"]).stdin(Stdio::null());
    assert_eq!(command.output().unwrap().status.code(), Some(0));
}

fn a_lot_of_output() {
    let mut seat = Seat::shell("seq 100000; echo end");
    seat.user.sees("\r\nend\r\n");
    let (code, text) = seat.end();
    assert_eq!(code, Some(0));
    let expected: Vec<_> = (1..=100_000).map(|number| number.to_string()).collect();
    assert!(text.lines().take(100_000).eq(expected), "{} bytes", text.len());
}

fn output_to_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("out");
    let file = File::create(&path).unwrap();
    let seat = Seat::with(|command| {
        command.args(["run", "--tty", "--", "tty"]).stdout(file);
    });
    assert_eq!(seat.end().0, Some(0));
    assert_eq!(std::fs::read_to_string(path).unwrap(), "/dev/pts/0\r\n");
}

/// As when a window is closed.
fn the_terminal_goes_away() {
    let mut seat = Seat::shell("echo ready; exec sleep 1000");
    seat.user.sees("ready");
    await_that("raw mode", || seat.is_raw());
    let Seat { user, mut process, theirs, .. } = seat;
    drop((user, theirs));
    let until = Instant::now() + life::SAFETY;
    while process.try_wait().unwrap().is_none() {
        assert!(Instant::now() < until, "it goes on without a terminal");
        std::thread::yield_now();
    }
}

/// Much more than a terminal keeps, while nobody reads it: then it is all read.
fn typed_before_it_is_read() {
    let script = "stty raw -echo; echo ready; sleep 0.3; head -c 20000 | wc -c";
    let mut seat = Seat::shell(script);
    seat.user.sees("ready");
    seat.user.types(&"x".repeat(20_000));
    seat.user.sees("20000");
    assert_eq!(seat.end().0, Some(0));
}

fn job_control() {
    let mut seat = Seat::of(&["--env", "PS1=ready> ", "--", "bash", "--norc", "--noprofile", "-i"]);
    seat.user.sees("ready> ");
    seat.user.types("trap 'echo; echo asleep' USR1; sh -c 'kill -USR1 $PPID; sleep 1000'\r");
    seat.user.sees("sleep 1000'\r\n");
    await_asleep(seat.process.id());
    seat.user.types("\x1a");
    seat.user.sees("Stopped");
    seat.user.sees("ready> ");
    seat.user.types("fg\r");
    seat.user.sees("sleep 1000'\r\n");
    // The shell says so before it hands the terminal over.
    await_asleep(seat.process.id());
    seat.user.types("\x03");
    seat.user.sees("ready> ");
    seat.user.types("exit 5\r");
    assert_eq!(seat.end().0, Some(5));
}

/// Ctrl-Z and `fg` in a shell outside: what is inside does nothing meanwhile, and its time does not
/// pass.
fn stopped_and_continued_as_a_job() {
    let mut seat = Seat::of_program("bash", |command| {
        command.args(["--norc", "--noprofile", "-i"]).env("PS1", "ready> ");
        // Its history would be left in the caller's home.
        command.env("HISTFILE", "");
    });
    seat.user.sees("ready> ");
    let marker = format!("marker-{}", std::process::id());
    let script = format!(
        "(while :; do :; done) & echo begun; read word; echo got $word; kill $!; exit 6; {marker}"
    );
    seat.user.types(&format!("{STOCKADE} run --timeout 50s -- sh -c '{script}'; echo code=$?\r"));
    seat.user.sees("\rbegun\r\n");
    let used = || {
        let inside = |pid: &i32| {
            let comm = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            comm == "sh\n"
        };
        let ticks = |pid: i32| -> u64 {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
            let words: Vec<_> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
            words[11].parse::<u64>().unwrap() + words[12].parse::<u64>().unwrap()
        };
        let found: Vec<_> = life::anyone_with(&marker).into_iter().filter(inside).collect();
        assert_eq!(found.len(), 2, "the program and its loop");
        found.into_iter().map(ticks).sum::<u64>()
    };
    for _ in 0..2 {
        seat.user.types("\x1a");
        seat.user.sees("Stopped");
        seat.user.sees("ready> ");
        let before = used();
        std::thread::sleep(common::moment(100));
        assert_eq!(used(), before);
        seat.user.types("fg\r");
        seat.user.sees("run --timeout");
        await_that("it goes on", || used() > before);
    }
    seat.user.types("word\r");
    seat.user.sees("got word");
    seat.user.sees("ready> ");
    seat.user.types("exit\r");
    seat.end();
}

/// Waits until some descendant of the process sleeps as told, with the terminal being its own.
fn await_asleep(ancestor: u32) {
    let stat_of = |pid: u32| -> Option<Vec<String>> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        Some(stat.rsplit_once(") ")?.1.split(' ').map(str::to_owned).collect())
    };
    let parent_of = |pid: u32| -> Option<u32> { stat_of(pid)?[1].parse().ok() };
    await_that("the program sleeps", || {
        life::anyone_with("sleep\x001000").into_iter().any(|pid| {
            let mut pid = pid.cast_unsigned();
            let Some(stat) = stat_of(pid) else { return false };
            // Its group of processes, and the terminal's.
            if stat[0] == "T" || stat[2] != stat[5] {
                return false;
            }
            while let Some(parent) = parent_of(pid) {
                if parent == ancestor {
                    return true;
                }
                pid = parent;
            }
            false
        })
    });
}

/// What a hostile program pushes into every terminal that it has is never the caller's input.
fn forced_input() {
    let push = r#"open T, "+</dev/tty"; for $f (*STDIN, *STDOUT, *STDERR, *T)
        { ioctl($f, 0x5412, my $c = $_) for split //, "touch forced\n" } print "pushed\n""#;
    let mut seat = Seat::of(&["--", "perl", "-e", push]);
    seat.user.sees("pushed");
    assert!(seat.process.wait().unwrap().success());
    let mut set = [PollFd::new(seat.theirs.as_fd(), PollFlags::POLLIN)];
    assert_eq!(poll(&mut set, PollTimeout::ZERO), Ok(0), "the caller's terminal has got input");
    assert_eq!(seat.end().0, Some(0));
}

fn editor() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap().to_owned();
    let options = ["--bind", &path, "/place", "--", "vim.tiny", "-u", "NONE", "-n", "/place/text"];
    let mut seat = Seat::of(&options);
    seat.user.sees("~");
    seat.user.types("ityped\x1b:wq\r");
    assert_eq!(seat.end().0, Some(0));
    assert_eq!(std::fs::read_to_string(directory.path().join("text")).unwrap(), "typed\n");
}
