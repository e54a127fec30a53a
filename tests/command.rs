//! What a command promises: arguments, environment, directory, streams, descriptors, and how a
//! program is found or not.
#![allow(
    clippy::exit,
    clippy::incompatible_msrv,
    clippy::cast_possible_truncation,
    reason = "a test process, built by a current toolchain"
)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails so")]
#![allow(unsafe_code, reason = "descriptors and terminals of the test's own")]

mod common;
#[path = "common/inside.rs"]
mod inside;
#[path = "common/life.rs"]
mod life;

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio as HostStdio;

use common::Needs;
use common::ways::Ways;
use inside::{myself, myself_outside, open_directory, role, sh, shell};
use stockade::{Command, Error, Hint, Outcome, Output, Resource, Sandbox, Stage, Stdio};

tests_in_all_ways! {
    Needs::Nothing => [
        arguments_arrive_as_they_are, name_of_the_program, default_environment,
        environment_can_be_changed, default_directory, directories, directory_through_links,
        default_streams, inherited_streams, closed_streams_are_no_obstacle, piped_streams,
        streams_from_files, a_descriptor_by_number, swapped_descriptors, standard_streams_by_number,
        descriptors_on_all_internal_numbers, nothing_else_gets_in, default_umask, chosen_umask,
        found_in_path, no_terminal,
    ];
    Needs::Nothing => alone [
        inherited_but_closed, closed_streams_stay_closed, closed_streams_beside_others,
        longest_argument, not_found_in_path, programs_that_cannot_be_run, environment_can_be_empty,
        default_streams_of_output, swapped_three_and_four, several_descriptors,
        controlling_terminal, thousands_of_arguments, more_arguments_than_the_kernel_takes,
        arguments_count_against_the_stack, directories_that_cannot_be, directory_of_the_callers,
        directory_of_the_callers_stays, directory_that_is_gone, status_closes_a_piped_input,
        streams_from_sockets, a_closed_reader_ends_it, the_last_of_a_number_counts, one_file_under_two_numbers,
        as_many_descriptors_as_can_be, impossible_descriptors, megabytes_on_both_streams,
        input_while_output_is_read, output_up_to_the_limit, path_of_its_own, no_path,
        relative_programs, programs_through_links, interpreters_that_are_missing, only_outside,
        hint_is_right, hint_for_a_name_is_right, nul_bytes_are_all_listed, names_of_variables,
        all_contradictions_at_once, a_hundred_times_the_same_sandbox, a_command_is_used_up,
        check_does_all_but_the_exec, terminal_that_is_none,
    ];
}

fn both() -> [Sandbox; 2] {
    [true, false].map(|init| Sandbox::new().init(init))
}

fn bytes(text: &[u8]) -> OsString {
    OsString::from_vec(text.to_vec())
}

/// Runs to a good end; returns what was written.
fn said(command: Command) -> Vec<u8> {
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.outcome, Outcome::Exited(0), "{errors}");
    output.stdout
}

fn script(sandbox: &Sandbox, text: &str) -> Command {
    sandbox.way_to("sh").args(["-c", text])
}

/// The operation, the object and the number of a start that failed.
fn not_started(command: Command) -> (&'static str, String, i32) {
    let error = command.spawn().unwrap_err();
    let failed = error.failed().unwrap_or_else(|| panic!("{error}"));
    assert_eq!(failed.stage, Stage::Start, "{error}");
    (failed.operation, failed.object.clone(), failed.raw_os_error())
}

fn problems(command: Command) -> Vec<String> {
    match command.spawn() {
        Err(Error::Invalid(problems)) => problems,
        other => panic!("{other:?}"),
    }
}

// ---- arguments ---------------------------------------------------------------------------------

fn say_arguments() {
    let mut stdout = life::stream(1);
    for argument in std::env::args_os() {
        stdout.write_all(argument.as_bytes()).unwrap();
        stdout.write_all(b"\0").unwrap();
    }
}

const ODD: [&[u8]; 9] =
    [b"", b" ", b"-c", b"$HOME `id` \"'\\", b"two\nlines", b"a=b", b"\xff\xfe", b"\xc3\xa4", b"*"];

fn arguments_arrive_as_they_are() {
    const TEST: &str = "arguments_arrive_as_they_are";
    if role().is_some() {
        return say_arguments();
    }
    for sandbox in both() {
        let command = myself(&sandbox, TEST, "say").arg("one").args(ODD.map(bytes)).arg("last");
        let expected = [&[&b"/probe"[..], b"one"], &ODD[..], &[b"last"]].concat();
        assert_eq!(said(command), [expected.join(&0), vec![0]].concat());
    }
}

fn name_of_the_program() {
    let sandbox = Sandbox::new();
    let shown = |command: Command| {
        said(command.args(["-c", "tr '\\0' '|' </proc/$$/cmdline | cut -d '|' -f 1"]))
    };
    assert_eq!(shown(sandbox.way_to("sh")), b"sh\n");
    assert_eq!(shown(sandbox.way_to("/bin/sh")), b"/bin/sh\n");
    assert_eq!(shown(sandbox.way_to("sh").arg0("another")), b"another\n");
    assert_eq!(shown(sandbox.way_to("sh").arg0("")), b"\n");
    let odd = sandbox.way_to("sh").arg0(bytes(b"\xff name")).arg0(bytes(b"\xfe last"));
    assert_eq!(shown(odd), b"\xfe last\n");
    // What is looked up is the program, not this name.
    assert_eq!(said(sandbox.way_to("cat").arg0("/no/such")), b"");
}

fn thousands_of_arguments() {
    let many: Vec<String> = (0..20_000).map(|number| number.to_string()).collect();
    for sandbox in both() {
        let command = sandbox.way_to("sh").args(["-c", "echo $#; shift 19999; echo $1", "sh"]);
        assert_eq!(said(command.args(&many)), b"20000\n19999\n");
    }
}

/// The kernel's own limit of one string, its NUL included.
const LONGEST: usize = 128 * 1024;

fn longest_argument() {
    let command = |length| script(&Sandbox::new(), "echo ${#1}").args(["sh", &"x".repeat(length)]);
    assert_eq!(said(command(LONGEST - 1)), format!("{}\n", LONGEST - 1).into_bytes());
    let problems = problems(command(LONGEST).arg("x".repeat(LONGEST + 1)));
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems[0].contains("131072") && problems[1].contains("131073"), "{problems:?}");
    // A variable has the same limit, with its name and the equals sign.
    let command = |length| script(&Sandbox::new(), "echo ${#BIG}").env("BIG", "x".repeat(length));
    assert_eq!(said(command(LONGEST - 5)), format!("{}\n", LONGEST - 5).into_bytes());
    let (_, object, errno) = not_started(command(LONGEST - 4));
    assert_eq!((&*object, errno), ("\"sh\"", libc::E2BIG));
}

fn more_arguments_than_the_kernel_takes() {
    let big = "x".repeat(100_000);
    let with = |sandbox: &Sandbox, count| {
        let command = sandbox.way_to("true");
        (0..count).fold(command, |command, _| command.arg(&big))
    };
    for sandbox in both() {
        assert_eq!(with(&sandbox, 15).status().unwrap().outcome, Outcome::Exited(0));
        let (operation, object, errno) = not_started(with(&sandbox, 30));
        assert_eq!((operation, errno), ("exec", libc::E2BIG));
        assert_eq!(object, "\"true\"");
    }
}

fn arguments_count_against_the_stack() {
    let with = |stack: u64| {
        let sandbox = Sandbox::new().rlimit(Resource::Stack, stack);
        sandbox.way_to("true").args((0..30).map(|_| "x".repeat(100_000)))
    };
    // A quarter of the stack, and not more than 6 MiB.
    assert_eq!(with(32 << 20).status().unwrap().outcome, Outcome::Exited(0));
    assert_eq!(not_started(with(8 << 20)).2, libc::E2BIG);
}

// ---- environment -------------------------------------------------------------------------------

fn environment(command: Command) -> Vec<Vec<u8>> {
    let said = said(command.arg("-0"));
    said.split_inclusive(|&byte| byte == 0).map(|text| text[..text.len() - 1].to_vec()).collect()
}

const PATH: &[u8] = b"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

fn default_environment() {
    // The caller's own has more than that.
    assert!(std::env::var_os("STOCKADE_TEST_CHILD").is_some());
    let expected = [b"HOME=/home/user".to_vec(), b"LANG=C.UTF-8".to_vec(), PATH.to_vec()];
    for sandbox in both() {
        let mut environment = environment(sandbox.way_to("/usr/bin/env"));
        environment.sort();
        assert_eq!(environment, expected);
    }
}

fn environment_can_be_changed() {
    let command = Sandbox::new()
        .way_to("env")
        .env("ONE", "first")
        .env("ONE", "1")
        .env("EMPTY", "")
        .env("EQUALS", "=a=b=")
        .env(bytes(b"\xffname"), bytes(b"\xfevalue"))
        .env("LINES", "a\nb")
        .envs([("LANG", "C"), ("TWO", "2")])
        .env_remove("HOME")
        .env_remove("NEVER_SET")
        .env("GONE", "x")
        .env_remove("GONE");
    let mut environment = environment(command);
    environment.sort();
    let expected: [&[u8]; 8] = [
        b"EMPTY=",
        b"EQUALS==a=b=",
        b"LANG=C",
        b"LINES=a\nb",
        b"ONE=1",
        PATH,
        b"TWO=2",
        b"\xffname=\xfevalue",
    ];
    assert_eq!(environment, expected);
}

fn environment_can_be_empty() {
    for sandbox in both() {
        let cleared = || sandbox.way_to("/usr/bin/env").env("ONE", "1").env_clear();
        assert_eq!(environment(cleared()), Vec::<Vec<u8>>::new());
        assert_eq!(environment(cleared().env("TWO", "2")), [b"TWO=2"]);
    }
}

// ---- working directory -------------------------------------------------------------------------

fn default_directory() {
    assert_eq!(sh(&Sandbox::new(), "pwd -P"), "/home/user\n");
    // Whatever HOME is set to.
    let command = script(&Sandbox::new(), "pwd -P").env("HOME", "/tmp");
    assert_eq!(said(command), b"/home/user\n");
}

fn directories() {
    let sandbox = Sandbox::new().directory("/srv/a b\n", 0o755);
    let pwd = |directory| said(sandbox.way_to("pwd").arg("-P").current_dir(OsStr::new(directory)));
    assert_eq!(pwd("/tmp"), b"/tmp\n");
    assert_eq!(pwd("/"), b"/\n");
    assert_eq!(pwd("/srv/a b\n"), b"/srv/a b\n\n");
    assert_eq!(pwd("/usr/../tmp/./"), b"/tmp\n");
    // Relative ones start at the root of the inside, not where the caller is.
    std::env::set_current_dir("/tmp").unwrap();
    assert_eq!(pwd("usr/lib"), b"/usr/lib\n");
    let odd = Path::new("/srv").join(bytes(b"\xff\xfe"));
    let command = Sandbox::new().directory(&odd, 0o755).way_to("pwd").current_dir(&odd);
    assert_eq!(said(command), b"/srv/\xff\xfe\n");
    // The last one counts.
    let command = Sandbox::new().way_to("pwd").current_dir("/no/such").current_dir("/tmp");
    assert_eq!(said(command), b"/tmp\n");
}

fn directory_through_links() {
    let sandbox = Sandbox::new().symlink("/tmp", "/srv/there").symlink("../tmp", "/srv/near");
    for link in ["/srv/there", "/srv/near"] {
        assert_eq!(said(sandbox.way_to("pwd").arg("-P").current_dir(link)), b"/tmp\n");
    }
}

fn directories_that_cannot_be() {
    for init in [true, false] {
        let sandbox = Sandbox::new()
            .init(init)
            .file("/srv/file", "")
            .symlink("nowhere", "/srv/dangling")
            .symlink("loop", "/srv/loop")
            .directory("/srv/private", 0o000);
        let long = "/x".repeat(3000);
        for (directory, errno) in [
            ("/no/such", libc::ENOENT),
            ("", libc::ENOENT),
            ("/srv/file", libc::ENOTDIR),
            ("/srv/file/below", libc::ENOTDIR),
            ("/srv/dangling", libc::ENOENT),
            ("/srv/loop", libc::ELOOP),
            ("/srv/private", libc::EACCES),
            // On the host it is there.
            (env!("CARGO_MANIFEST_DIR"), libc::ENOENT),
            (&long, libc::ENAMETOOLONG),
        ] {
            let failure = not_started(sandbox.way_to("true").current_dir(directory));
            let expected = ("change directory", format!("{directory:?}"), errno);
            assert_eq!(failure, expected, "{directory}");
        }
        let odd = Path::new("/srv").join(bytes(b"\xff"));
        let (_, object, _) = not_started(sandbox.way_to("true").current_dir(odd));
        assert_eq!(object, r#""/srv/\xFF""#);
    }
}

/// What the caller has there is not where the program starts, nor reached from there.
fn directory_of_the_callers() {
    let directory = open_directory();
    fs::create_dir(directory.path().join("sub")).unwrap();
    fs::write(directory.path().join("secret"), "").unwrap();
    std::env::set_current_dir(directory.path()).unwrap();
    for sandbox in both() {
        for name in ["sub", "./sub", "sub/../sub"] {
            let failure = not_started(sandbox.way_to("true").current_dir(name));
            assert_eq!(failure, ("change directory", format!("{name:?}"), libc::ENOENT));
        }
        let command = sandbox.way_to("ls").current_dir(".");
        assert_eq!(said(command), said(sandbox.way_to("ls").arg("/")));
    }
}

/// Neither where the caller is, nor its name, is told inside; and no start moves the caller.
fn directory_of_the_callers_stays() {
    let directory = open_directory();
    fs::write(directory.path().join("secret"), "").unwrap();
    std::env::set_current_dir(directory.path()).unwrap();
    let here = std::env::current_dir().unwrap();
    // A thread's own, should it ever have one, is the process's.
    let is_here = move || {
        assert_eq!(std::env::current_dir().unwrap(), here);
        assert_eq!(fs::read_link("/proc/self/cwd").unwrap(), here);
        assert_eq!(fs::read_link("/proc/thread-self/cwd").unwrap(), here);
        assert!(Path::new("secret").exists());
    };
    for sandbox in both() {
        let text = "pwd -P; readlink /proc/self/cwd; ls -A; ls -A ..";
        assert_eq!(sh(&sandbox, text), "/home/user\n/home/user\nuser\n");
        is_here();
        not_started(sandbox.way_to("true").current_dir("/no/such"));
        not_started(sandbox.way_to("/no/such"));
        is_here();
        sandbox.way_to("true").check().unwrap();
        // The source of a relative bind is the caller's, whose directory does not change for it.
        let bound = sandbox.clone().bind_ro(".", "/srv/here");
        assert_eq!(sh(&bound, "ls /srv/here; pwd -P"), "secret\n/home/user\n");
        is_here();
    }
    std::thread::spawn(move || {
        sh(&Sandbox::new(), "true");
        is_here();
    })
    .join()
    .unwrap();
}

/// What the caller stands in no longer has a name: that is the caller's matter alone.
fn directory_that_is_gone() {
    let directory = open_directory();
    std::env::set_current_dir(directory.path()).unwrap();
    directory.close().unwrap();
    let is_gone = || {
        let error = std::env::current_dir().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
    };
    is_gone();
    for sandbox in both() {
        assert_eq!(sh(&sandbox, "pwd -P; ls -A"), "/home/user\n");
        let command = sandbox.way_to("pwd").arg("-P").current_dir("/tmp");
        assert_eq!(said(command), b"/tmp\n");
        // What starts from there is not found, and named.
        let error = sandbox.clone().bind_ro("near", "/srv/near").way_to("true").spawn();
        let error = error.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOENT), "{error}");
        assert!(error.to_string().contains("near"), "{error}");
        is_gone();
    }
}

// ---- streams -----------------------------------------------------------------------------------

/// In a program: says over descriptor 9 what each of the three streams is.
fn say_streams() {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let mut told = life::inherited(9);
    for number in 0..3 {
        let metadata = life::stream(number).metadata().unwrap();
        let (kind, device) = (metadata.file_type(), metadata.rdev());
        let name = match () {
            () if kind.is_char_device() && device == libc::makedev(1, 3) => "null",
            () if kind.is_fifo() => "pipe",
            () if kind.is_file() => "file",
            () if kind.is_socket() => "socket",
            () => "other",
        };
        writeln!(told, "{name}").unwrap();
    }
}

/// Runs a command that does that.
fn streams(command: impl FnOnce(OwnedFd) -> Outcome) -> String {
    let (mut reading, writing) = std::io::pipe().unwrap();
    assert_eq!(command(writing.into()), Outcome::Exited(0));
    let mut text = String::new();
    reading.read_to_string(&mut text).unwrap();
    text
}

fn default_streams() {
    const TEST: &str = "default_streams";
    if role().is_some() {
        return say_streams();
    }
    for sandbox in both() {
        let probe = |fd| myself(&sandbox, TEST, "say").fd(9, fd);
        let seen = streams(|fd| probe(fd).status().unwrap().outcome);
        assert_eq!(seen, "null\nnull\nnull\n");
        let seen = streams(|fd| probe(fd).spawn().unwrap().wait().unwrap().outcome);
        assert_eq!(seen, "null\nnull\nnull\n");
        let mut child = script(&sandbox, "cat").spawn().unwrap();
        assert!(child.stdin.is_none() && child.stdout.is_none() && child.stderr.is_none());
        assert_eq!(child.wait().unwrap().outcome, Outcome::Exited(0));
    }
}

fn default_streams_of_output() {
    const TEST: &str = "default_streams_of_output";
    if role().is_some() {
        return say_streams();
    }
    for sandbox in both() {
        let probe = |fd| myself(&sandbox, TEST, "say").fd(9, fd);
        let seen = streams(|fd| probe(fd).output().unwrap().outcome);
        assert_eq!(seen, "null\npipe\npipe\n");
        let seen = streams(|fd| probe(fd).stderr(Stdio::null()).output().unwrap().outcome);
        assert_eq!(seen, "null\npipe\nnull\n");
        // One that is a file is not collected.
        let log = tempfile::tempfile().unwrap();
        let command = script(&sandbox, "echo out; echo err >&2").stdout(log.try_clone().unwrap());
        let output = command.output().unwrap();
        assert_eq!((output.stdout, output.stderr), (vec![], b"err\n".to_vec()));
        assert!(!output.stdout_truncated);
        assert_eq!(log.metadata().unwrap().len(), 4);
    }
}

/// The embedder's own streams are pipes to the test.
fn inherited_streams() {
    const TEST: &str = "inherited_streams";
    if let Some(role) = role() {
        let sandbox = Sandbox::new().init(role == "with init");
        let mut command = script(&sandbox, "cat; echo error >&2; exit 5").stdin(Stdio::inherit());
        command = command.stdout(Stdio::inherit()).stderr(Stdio::inherit());
        let child = command.spawn().unwrap();
        assert!(child.stdin.is_none() && child.stdout.is_none() && child.stderr.is_none());
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.outcome, output.stdout), (Outcome::Exited(5), vec![]));
        return;
    }
    for role in ["with init", "without"] {
        let mut command = myself_outside(TEST, role);
        command.stdin(HostStdio::piped()).stdout(HostStdio::piped()).stderr(HostStdio::piped());
        let mut embedder = command.spawn().unwrap();
        embedder.stdin.take().unwrap().write_all(b"through").unwrap();
        let output = embedder.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!((&*output.stdout, &*output.stderr), (&b"through"[..], &b"error\n"[..]));
    }
}

/// Makes a command while these streams are closed, and starts it.
fn start_without(closed: &[i32], command: impl Fn() -> Command) -> Error {
    let before: Vec<_> = closed.iter().map(|&number| life::stream(number)).collect();
    for &number in closed {
        // SAFETY: nothing owns the standard streams, and what follows writes to none.
        unsafe { libc::close(number) };
    }
    let result = command().spawn();
    for (file, &number) in before.iter().zip(closed) {
        // SAFETY: the number is free.
        unsafe { libc::dup2(file.as_raw_fd(), number) };
    }
    result.unwrap_err()
}

/// What the library opens in the meantime is not taken for a stream.
fn inherited_but_closed() {
    let command = || Sandbox::new().way_to("true");
    let all = || command().stdin(Stdio::inherit()).stdout(Stdio::inherit());
    for error in [
        start_without(&[0], || command().stdin(Stdio::inherit())),
        start_without(&[1], || command().stdout(Stdio::inherit())),
        start_without(&[2], || command().stderr(Stdio::inherit())),
        start_without(&[0, 1, 2], || all().stderr(Stdio::inherit())),
        start_without(&[1], || all().stdin(Stdio::piped())),
        start_without(&[1, 2], || all().stdin(Stdio::null()).stderr(Stdio::inherit())),
    ] {
        assert_eq!(error.raw_os_error(), Some(libc::EBADF), "{error}");
        assert_eq!(error.stage(), Some(Stage::Prepare), "{error}");
    }
}

/// A later spawn could pass on what an earlier one left there.
fn closed_streams_stay_closed() {
    life::close_from(0);
    let outcome = Sandbox::new().bind_ro("/usr", "/srv").way_to("true").status().unwrap().outcome;
    assert_eq!(outcome, Outcome::Exited(0));
    let open: Vec<_> =
        (0..3).map(|number| fs::read_link(format!("/proc/self/fd/{number}"))).collect();
    assert!(open.iter().all(Result::is_err), "{open:?}");
}

/// Nor what is there for longer: who inherits such a stream would have the socket of another one's init.
fn closed_streams_beside_others() {
    life::close_from(0);
    let sandbox = Sandbox::new().recycle_network(true);
    let prepared = sandbox.prepare().unwrap();
    let session = prepared.session().unwrap();
    let sleep = |command: stockade::Command| command.arg("1000");
    let running = [sandbox.command("sleep"), prepared.command("sleep"), session.command("sleep")]
        .map(|command| sleep(command).spawn().unwrap());
    let entering = sleep(running[0].command("sleep").unwrap());
    for number in 0..3 {
        let open = fs::read_link(format!("/proc/self/fd/{number}"));
        assert!(open.is_err(), "{number}: {open:?}");
    }
    let entered = entering.spawn().unwrap();
    for number in 0..3 {
        let open = fs::read_link(format!("/proc/self/fd/{number}"));
        assert!(open.is_err(), "{number}: {open:?}");
    }
    let inheriting = session.command("true").stdin(Stdio::inherit()).spawn();
    assert_eq!(inheriting.unwrap_err().raw_os_error(), Some(libc::EBADF));
    drop((running, entered));
}

fn closed_streams_are_no_obstacle() {
    life::close_from(0);
    let status = Sandbox::new().way_to("true").status();
    let output = script(&Sandbox::new(), "echo out; echo err >&2; ls /proc/self/fd").output();
    assert_eq!(status.unwrap().outcome, Outcome::Exited(0));
    let output = output.unwrap();
    assert_eq!((&*output.stdout, &*output.stderr), (&b"out\n0\n1\n2\n3\n"[..], &b"err\n"[..]));
}

fn piped_streams() {
    for sandbox in both() {
        let mut command = script(&sandbox, "cat; echo error >&2").stdin(Stdio::piped());
        command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (mut out, mut err) = (String::new(), String::new());
        child.stdin.as_mut().unwrap().write_all(b"in").unwrap();
        drop(child.stdin.take());
        child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        assert_eq!((&*out, &*err), ("in", "error\n"));
        assert_eq!(child.wait().unwrap().outcome, Outcome::Exited(0));
    }
}

fn status_closes_a_piped_input() {
    let status = Sandbox::new().way_to("cat").stdin(Stdio::piped()).status().unwrap();
    assert_eq!(status.outcome, Outcome::Exited(0));
    let output = Sandbox::new().way_to("cat").stdin(Stdio::piped()).output().unwrap();
    assert_eq!((output.outcome, output.stdout), (Outcome::Exited(0), vec![]));
}

fn streams_from_files() {
    let directory = open_directory();
    let (input, log) = (directory.path().join("in"), directory.path().join("log"));
    fs::write(&input, "first\nsecond\n").unwrap();
    fs::write(&log, "before\n").unwrap();
    for sandbox in both() {
        let file = File::open(&input).unwrap();
        let append = fs::OpenOptions::new().append(true).open(&log).unwrap();
        let command = script(&sandbox, "cat; echo error >&2").stdin(file);
        let command = command.stdout(append.try_clone().unwrap()).stderr(append);
        assert_eq!(command.status().unwrap().outcome, Outcome::Exited(0));
    }
    let both = "before\nfirst\nsecond\nerror\nfirst\nsecond\nerror\n";
    assert_eq!(fs::read_to_string(&log).unwrap(), both);
    // Where the caller stopped reading, the program goes on.
    let mut file = File::open(&input).unwrap();
    file.read_exact(&mut [0; 6]).unwrap();
    assert_eq!(said(Sandbox::new().way_to("cat").stdin(file)), b"second\n");
}

fn streams_from_sockets() {
    let (mut ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let theirs = OwnedFd::from(theirs);
    let command = Sandbox::new().way_to("cat").stdin(theirs.try_clone().unwrap());
    let mut child = command.stdout(theirs).spawn().unwrap();
    ours.write_all(b"back and forth").unwrap();
    ours.shutdown(std::net::Shutdown::Write).unwrap();
    let mut text = String::new();
    ours.read_to_string(&mut text).unwrap();
    assert_eq!(text, "back and forth");
    assert_eq!(child.wait().unwrap().outcome, Outcome::Exited(0));
}

/// Rust ignores SIGPIPE, the program must not.
fn a_closed_reader_ends_it() {
    let mut child = Sandbox::new().way_to("yes").stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let expected = Outcome::Signaled { signal: libc::SIGPIPE, core_dumped: false };
    assert_eq!(child.wait().unwrap().outcome, expected);
}

// ---- descriptors -------------------------------------------------------------------------------

/// A file with this content, to be recognised by.
fn marked(text: &str) -> OwnedFd {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file.rewind().unwrap();
    file.into()
}

/// In a program: says what each descriptor leads to, by its content, and its flags.
fn say_descriptors() {
    let mut lines = Vec::new();
    for number in open_numbers() {
        let mut text = String::new();
        let mut file = std::mem::ManuallyDrop::new(life::inherited(number));
        if number > 2 {
            // Outside there are others, which cannot be read.
            let _unreadable = file.read_to_string(&mut text);
        }
        let flags = nix::fcntl::fcntl(&*file, nix::fcntl::FcntlArg::F_GETFD).unwrap();
        lines.push(format!("{number} {text:?} {flags}"));
    }
    life::stream(1).write_all(lines.join("\n").as_bytes()).unwrap();
}

/// The numbers of all descriptors of this process but the one that lists them.
fn open_numbers() -> Vec<i32> {
    let directory = File::open("/proc/self/fd").unwrap();
    let list = fs::read_dir(format!("/proc/self/fd/{}/", directory.as_raw_fd())).unwrap();
    let mut numbers: Vec<i32> =
        list.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect();
    drop(directory);
    numbers.retain(|&number| {
        // SAFETY: asks for flags only.
        unsafe { libc::fcntl(number, libc::F_GETFD) >= 0 }
    });
    numbers.sort_unstable();
    numbers
}

/// What the program finds, besides the standard streams, if it is given these.
fn found(test: &str, sandbox: &Sandbox, given: Vec<(i32, OwnedFd)>) -> Vec<String> {
    let command = myself(sandbox, test, "say");
    let command = given.into_iter().fold(command, |command, (number, fd)| command.fd(number, fd));
    let text = String::from_utf8(said(command)).unwrap();
    text.lines().skip(3).map(str::to_owned).collect()
}

fn expected(given: &[(i32, &str)]) -> Vec<String> {
    given.iter().map(|(number, text)| format!("{number} {text:?} 0")).collect()
}

fn a_descriptor_by_number() {
    const TEST: &str = "a_descriptor_by_number";
    if role().is_some() {
        return say_descriptors();
    }
    for sandbox in both() {
        for number in [3, 4, 7, 100, 1022] {
            let found = found(TEST, &sandbox, vec![(number, marked("it"))]);
            assert_eq!(found, expected(&[(number, "it")]));
        }
    }
}

fn several_descriptors() {
    const TEST: &str = "several_descriptors";
    if role().is_some() {
        return say_descriptors();
    }
    for sandbox in both() {
        let given = [(900, "a"), (3, "b"), (5, "c"), (64, "d"), (4, "e")];
        let made = given.map(|(number, text)| (number, marked(text)));
        let sorted = [(3, "b"), (4, "e"), (5, "c"), (64, "d"), (900, "a")];
        assert_eq!(found(TEST, &sandbox, made.into()), expected(&sorted));
    }
}

/// The numbers wanted are those that the caller's own have, in another order.
fn swapped_descriptors() {
    const TEST: &str = "swapped_descriptors";
    if role().is_some() {
        return say_descriptors();
    }
    for sandbox in both() {
        let files: Vec<_> = ["a", "b", "c", "d", "e"].map(marked).into();
        let mut numbers: Vec<_> = files.iter().map(AsRawFd::as_raw_fd).collect();
        numbers.rotate_left(1);
        let mut names: Vec<_> = numbers.iter().copied().zip(["a", "b", "c", "d", "e"]).collect();
        names.sort_unstable();
        let given = numbers.into_iter().zip(files).collect();
        assert_eq!(found(TEST, &sandbox, given), expected(&names));
    }
}

fn swapped_three_and_four() {
    const TEST: &str = "swapped_three_and_four";
    if role().is_some() {
        return say_descriptors();
    }
    let given = vec![(4, at_number(marked("a"), 3)), (3, at_number(marked("b"), 4))];
    let found = found(TEST, &Sandbox::new(), given);
    assert_eq!(found, expected(&[(3, "b"), (4, "a")]));
}

/// Moves a descriptor to this number, at which nobody has anything yet.
fn at_number(fd: OwnedFd, number: i32) -> OwnedFd {
    if fd.as_raw_fd() == number {
        return fd;
    }
    // SAFETY: asks for flags only.
    assert_eq!(unsafe { libc::fcntl(number, libc::F_GETFD) }, -1);
    // SAFETY: nobody owns the number.
    assert_eq!(unsafe { libc::dup3(fd.as_raw_fd(), number, libc::O_CLOEXEC) }, number);
    // SAFETY: just made.
    unsafe { OwnedFd::from_raw_fd(number) }
}

fn standard_streams_by_number() {
    let (mut reading, writing) = std::io::pipe().unwrap();
    let error = writing.try_clone().unwrap();
    for sandbox in both() {
        let command = script(&sandbox, "cat; echo error >&2").fd(0, marked("in\n"));
        let command = command.fd(1, writing.try_clone().unwrap()).fd(2, error.try_clone().unwrap());
        assert_eq!(command.status().unwrap().outcome, Outcome::Exited(0));
    }
    drop((writing, error));
    let mut text = String::new();
    reading.read_to_string(&mut text).unwrap();
    assert_eq!(text, "in\nerror\nin\nerror\n");
}

fn the_last_of_a_number_counts() {
    const TEST: &str = "the_last_of_a_number_counts";
    if role().is_some() {
        return say_descriptors();
    }
    let given = vec![(5, marked("first")), (5, marked("second"))];
    assert_eq!(found(TEST, &Sandbox::new(), given), expected(&[(5, "second")]));
    let (reading, writing) = life::pipe();
    let command = Sandbox::new().way_to("cat").fd(5, writing).fd(5, marked(""));
    // The one that is replaced is closed, and nobody else holds it.
    life::await_released(&reading, "the command");
    assert_eq!(command.status().unwrap().outcome, Outcome::Exited(0));
    let cat = || Sandbox::new().way_to("cat");
    assert_eq!(said(cat().fd(0, marked("fd")).stdin(File::from(marked("stdin")))), b"stdin");
    assert_eq!(said(cat().stdin(File::from(marked("stdin"))).fd(0, marked("fd"))), b"fd");
}

fn one_file_under_two_numbers() {
    let file = marked("once");
    for sandbox in both() {
        let command = script(&sandbox, "head -c 2 <&3; printf ' '; cat <&4; cat");
        let command = command.fd(3, file.try_clone().unwrap()).fd(4, file.try_clone().unwrap());
        // They share their position.
        assert_eq!(said(command.stdin(file.try_clone().unwrap())), b"on ce");
        File::from(file.try_clone().unwrap()).rewind().unwrap();
    }
}

/// More numbers than init has descriptors of its own: each of them is somebody's.
fn descriptors_on_all_internal_numbers() {
    const TEST: &str = "descriptors_on_all_internal_numbers";
    if role().is_some() {
        return say_descriptors();
    }
    let directory = open_directory();
    for sandbox in both() {
        // Trees are descriptors too, if the caller is root.
        let sandbox = sandbox.bind_ro(directory.path(), "/srv/one").bind_ro("/usr", "/srv/two");
        let names: Vec<_> =
            (3..60).rev().map(|number| (number, format!("file {number}"))).collect();
        let given = names.iter().map(|(number, name)| (*number, marked(name))).collect();
        let mut names: Vec<_> =
            names.iter().map(|(number, name)| (*number, name.as_str())).collect();
        names.sort_unstable();
        assert_eq!(found(TEST, &sandbox, given), expected(&names));
    }
}

fn as_many_descriptors_as_can_be() {
    const TEST: &str = "as_many_descriptors_as_can_be";
    if role().is_some() {
        return say_descriptors();
    }
    // With the standard streams 256.
    let given = |count| (3..3 + count).map(|number| (number, marked("one of many"))).collect();
    for sandbox in both() {
        assert_eq!(found(TEST, &sandbox, given(253)).len(), 253);
    }
    let command = Sandbox::new().way_to("true");
    let command = given(254)
        .into_iter()
        .fold(command, |command, (number, fd): (i32, OwnedFd)| command.fd(number, fd));
    assert_eq!(problems(command), ["more than 253 descriptors are passed"]);
}

fn impossible_descriptors() {
    let with = |numbers: &[i32]| {
        let command = Sandbox::new().way_to("true");
        numbers.iter().fold(command, |command, &number| command.fd(number, marked("")))
    };
    for number in [1024, 5000, i32::MAX, -1, i32::MIN] {
        let problems = problems(with(&[number]));
        assert_eq!(problems.len(), 1);
        assert!(problems[0].contains(&format!("descriptor {number} ")), "{problems:?}");
    }
    assert_eq!(problems(with(&[1024, 3, 2000])).len(), 2);
    // The limit is the sandbox's.
    let limit = |limit| Sandbox::new().rlimit(Resource::OpenFiles, limit).way_to("true");
    assert_eq!(problems(limit(20u64).fd(20, marked(""))).len(), 1);
    let status = limit(20u64).fd(19, marked("")).status().unwrap();
    assert_eq!(status.outcome, Outcome::Exited(0));
    assert_eq!(limit(1100u64).fd(1050, marked("")).status().unwrap().outcome, Outcome::Exited(0));
    assert_eq!(
        Sandbox::new().way_to("true").fd(1023, marked("")).status().unwrap().outcome,
        Outcome::Exited(0)
    );
}

fn nothing_else_gets_in() {
    const TEST: &str = "nothing_else_gets_in";
    if role().is_some() {
        return say_descriptors();
    }
    let secret = marked("secret");
    // Not even one that the caller left open for all of its children.
    // SAFETY: the descriptor is open.
    assert_eq!(unsafe { libc::fcntl(secret.as_raw_fd(), libc::F_SETFD, 0) }, 0);
    for sandbox in both() {
        let command = myself(&sandbox, TEST, "say");
        assert_eq!(said(command), b"0 \"\" 0\n1 \"\" 0\n2 \"\" 0");
    }
    let outside = myself_outside(TEST, "say").output().unwrap();
    assert!(String::from_utf8_lossy(&outside.stdout).contains("\"secret\""), "{outside:?}");
}

// ---- umask -------------------------------------------------------------------------------------

fn umask_inside(command: impl FnOnce(Command) -> Command) -> String {
    let script = script(&Sandbox::new(), "umask; touch file; mkdir dir; stat -c %a file dir");
    String::from_utf8(said(command(script))).unwrap()
}

fn default_umask() {
    for mask in [0, 0o777, 0o027] {
        // SAFETY: takes a number.
        unsafe { libc::umask(mask) };
        assert_eq!(umask_inside(|command| command), "0022\n644\n755\n");
    }
    // SAFETY: as above.
    assert_eq!(unsafe { libc::umask(0o022) }, 0o027, "a spawn changed the caller's");
}

fn chosen_umask() {
    assert_eq!(umask_inside(|command| command.umask(0)), "0000\n666\n777\n");
    assert_eq!(umask_inside(|command| command.umask(0o077)), "0077\n600\n700\n");
    assert_eq!(umask_inside(|command| command.umask(0o777)), "0777\n0\n0\n");
    assert_eq!(umask_inside(|command| command.umask(0o7027)), "0027\n640\n750\n");
}

// ---- output ------------------------------------------------------------------------------------

fn megabytes_on_both_streams() {
    let zeros = |count: u32, stream| format!("head -c {count} /dev/zero >&{stream};");
    // More than any pipe holds, on one stream first, then on the other, and in turns.
    let mut text = zeros(3 << 20, 2) + &zeros(3 << 20, 1);
    text += "for i in 1 2 3 4 5 6 7 8 9 10; do ";
    text += &(zeros(200_000, 1) + &zeros(200_000, 2) + "done; exit 3");
    for sandbox in both() {
        let output = script(&sandbox, &text).output().unwrap();
        assert_eq!(output.outcome, Outcome::Exited(3));
        let length = (3 << 20) + 2_000_000;
        assert_eq!((output.stdout.len(), output.stderr.len()), (length, length));
        assert!(!output.stdout_truncated && !output.stderr_truncated);
    }
}

fn input_while_output_is_read() {
    let input: Vec<u8> = (0..=255).cycle().take(5 << 20).collect();
    for sandbox in both() {
        let text = "head -c 5000000 /dev/zero >&2 & cat; wait";
        let mut command = script(&sandbox, text).stdin(Stdio::piped());
        command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let output = std::thread::scope(|scope| {
            scope.spawn(|| {
                stdin.write_all(&input).unwrap();
                drop(stdin);
            });
            child.wait_with_output().unwrap()
        });
        assert_eq!(output.outcome, Outcome::Exited(0));
        assert!(output.stdout == input && output.stderr == vec![0; 5_000_000]);
    }
}

fn output_up_to_the_limit() {
    let run = |keep, text| -> Output {
        script(&Sandbox::new(), text).keep_output(keep).output().unwrap()
    };
    let seen = |output: &Output| (output.stdout.clone(), output.stdout_truncated);
    assert_eq!(seen(&run(5, "printf 12345")), (b"12345".to_vec(), false));
    assert_eq!(seen(&run(4, "printf 12345")), (b"1234".to_vec(), true));
    assert_eq!(seen(&run(0, "printf 1")), (vec![], true));
    assert_eq!(seen(&run(0, "true")), (vec![], false));
    let output = run(2, "printf 12; printf 123 >&2; exit 6");
    assert_eq!((output.outcome, output.stdout_truncated), (Outcome::Exited(6), false));
    assert_eq!((&*output.stderr, output.stderr_truncated), (&b"12"[..], true));
    // One stream that is closed early does not cut off the other.
    let output = run(100, "exec >&-; sleep 0.1; echo late >&2");
    assert_eq!((&*output.stdout, &*output.stderr), (&b""[..], &b"late\n"[..]));
}

// ---- finding the program -----------------------------------------------------------------------

const SAYS: &str = "#!/bin/sh\necho $0\n";

/// A sandbox with scripts that say their path.
fn with_scripts(paths: &[&str]) -> Sandbox {
    let add = |sandbox: Sandbox, path: &&str| sandbox.file_with_mode(path, SAYS, 0o755);
    paths.iter().fold(Sandbox::new(), add)
}

fn found_in_path() {
    let output = Sandbox::new().way_to("sh").args(["-c", "command -v env"]).output().unwrap();
    assert_eq!(output.stdout, b"/usr/bin/env\n");
    for sandbox in both() {
        assert_eq!(sandbox.way_to("true").status().unwrap().outcome, Outcome::Exited(0));
        assert_eq!(sandbox.way_to("/usr/bin/true").status().unwrap().outcome, Outcome::Exited(0));
    }
    // The caller's PATH is not asked.
    // SAFETY: this process has one thread.
    unsafe { std::env::set_var("PATH", "/no/such/directory") };
    assert_eq!(Sandbox::new().way_to("true").status().unwrap().outcome, Outcome::Exited(0));
}

fn path_of_its_own() {
    let sandbox = with_scripts(&["/one/tool", "/two/tool", "/two/other"])
        .file("/one/other", SAYS)
        .directory("/one/third", 0o755)
        .file_with_mode("/two/third", SAYS, 0o755);
    let run = |name: &str, path: &str| said(sandbox.way_to(name).env("PATH", path));
    assert_eq!(run("tool", "/one:/two"), b"/one/tool\n");
    assert_eq!(run("tool", "/two:/one"), b"/two/tool\n");
    assert_eq!(run("tool", "/missing:/one/../two/:/one"), b"/one/../two//tool\n");
    // What cannot be executed is passed over, as a shell does.
    assert_eq!(run("other", "/one:/two"), b"/two/other\n");
    assert_eq!(run("third", "/one:/two"), b"/two/third\n");
    let failure = not_started(sandbox.way_to("other").env("PATH", "/missing:/one"));
    assert_eq!(failure, ("exec", "\"/one/other\"".to_owned(), libc::EACCES));
    let failure = not_started(sandbox.way_to("third").env("PATH", "/missing:/one"));
    assert_eq!(failure, ("exec", "\"/one/third\"".to_owned(), libc::EACCES));
    // The last PATH counts, and a path is not looked up.
    assert_eq!(run("/two/tool", "/one"), b"/two/tool\n");
    let command = sandbox.way_to("tool").env("PATH", "/one").env("PATH", "/two");
    assert_eq!(said(command), b"/two/tool\n");
    let odd = Path::new("/srv").join(bytes(b"\xff"));
    let sandbox = Sandbox::new().file_with_mode(odd.join("tool"), SAYS, 0o755);
    assert_eq!(said(sandbox.way_to("tool").env("PATH", odd)), b"/srv/\xff/tool\n");
}

fn not_found_in_path() {
    for init in [true, false] {
        let sandbox = with_scripts(&["/one/tool"]).init(init);
        for (name, path) in [("tool", "/missing"), ("tool", "/one/tool"), ("no-such", "/one")] {
            let failure = not_started(sandbox.way_to(name).env("PATH", path));
            assert_eq!(failure, ("exec", format!("{name:?}"), libc::ENOENT), "{path}");
        }
        let failure = not_started(sandbox.way_to("no-such\n\"name"));
        assert_eq!(failure, ("exec", r#""no-such\n\"name""#.to_owned(), libc::ENOENT));
        let failure = not_started(sandbox.way_to(bytes(b"\xff")));
        assert_eq!(failure, ("exec", r#""\xFF""#.to_owned(), libc::ENOENT));
        let (_, _, errno) = not_started(sandbox.way_to("x".repeat(300)));
        assert_eq!(errno, libc::ENAMETOOLONG);
    }
}

/// Without a PATH no name is found, least of all in a directory that the program can write to.
fn no_path() {
    let sandbox = with_scripts(&["/tmp/tool", "/one/tool"]);
    let command = || sandbox.way_to("tool").current_dir("/tmp");
    for command in [
        command().env("PATH", ""),
        command().env("PATH", ":"),
        command().env("PATH", ":/missing:"),
        command().env_remove("PATH"),
        command().env_clear(),
    ] {
        let failure = not_started(command);
        assert_eq!(failure, ("exec", "\"tool\"".to_owned(), libc::ENOENT));
    }
    assert_eq!(said(command().env("PATH", ":/one:")), b"/one/tool\n");
    assert_eq!(said(sandbox.way_to("/one/tool").env_clear()), b"/one/tool\n");
}

fn relative_programs() {
    let sandbox = with_scripts(&["/one/tool", "/tmp/sub/tool"]);
    // To the directory that the program starts in.
    for (name, directory) in [("./tool", "/one"), ("one/tool", "/"), ("sub/../../one/tool", "/tmp")]
    {
        let command = sandbox.way_to(name).current_dir(directory);
        assert_eq!(said(command), format!("{name}\n").into_bytes());
    }
    let failure = not_started(sandbox.way_to("./tool").current_dir("/tmp"));
    assert_eq!(failure, ("exec", "\"./tool\"".to_owned(), libc::ENOENT));
    // Nothing to do with where the caller is.
    let directory = open_directory();
    fs::write(directory.path().join("here"), SAYS).unwrap();
    std::env::set_current_dir(directory.path()).unwrap();
    assert_eq!(not_started(sandbox.way_to("./here")).2, libc::ENOENT);
}

fn programs_through_links() {
    let sandbox = with_scripts(&["/one/tool"])
        .symlink("/one/tool", "/two/link")
        .symlink("nowhere", "/two/dangling")
        .symlink("loop", "/two/loop");
    assert_eq!(said(sandbox.way_to("/two/link")), b"/two/link\n");
    assert_eq!(said(sandbox.way_to("link").env("PATH", "/two")), b"/two/link\n");
    let failure = not_started(sandbox.way_to("/two/dangling"));
    assert_eq!(failure, ("exec", "\"/two/dangling\"".to_owned(), libc::ENOENT));
    let failure = not_started(sandbox.way_to("/two/loop"));
    assert_eq!(failure, ("exec", "\"/two/loop\"".to_owned(), libc::ELOOP));
    let failure = not_started(sandbox.way_to("dangling").env("PATH", "/two"));
    assert_eq!(failure, ("exec", "\"dangling\"".to_owned(), libc::ENOENT));
}

fn programs_that_cannot_be_run() {
    for init in [true, false] {
        let sandbox = Sandbox::new()
            .init(init)
            .file("/srv/plain", SAYS)
            .file_with_mode("/srv/text", "echo no line that names a shell\n", 0o755)
            .file_with_mode("/srv/empty", "", 0o755)
            .file_with_mode("/srv/broken", "\x7fELF and no more", 0o755)
            .file_with_mode("/srv/nameless", "#!\n/bin/sh\n", 0o755);
        for (program, errno) in [
            ("/usr", libc::EACCES),
            ("/srv/", libc::EACCES),
            ("/srv/plain", libc::EACCES),
            ("/dev/null", libc::EACCES),
            ("/srv/text", libc::ENOEXEC),
            ("/srv/empty", libc::ENOEXEC),
            ("/srv/broken", libc::ENOEXEC),
            ("/srv/nameless", libc::ENOEXEC),
        ] {
            let failure = not_started(sandbox.way_to(program));
            assert_eq!(failure, ("exec", format!("{program:?}"), errno));
        }
    }
}

/// A copy of a program whose loader is not there.
fn without_loader() -> Option<Vec<u8>> {
    let mut program = fs::read("/usr/bin/true").unwrap();
    let at = program.windows(5).position(|window| window == b"/lib6" || window == b"/lib/")?;
    program[at..at + 4].copy_from_slice(b"/bil");
    program.starts_with(b"\x7fELF").then_some(program)
}

fn interpreters_that_are_missing() {
    let binary = without_loader().unwrap();
    let end = binary.windows(4).position(|window| window == b"/bil").unwrap();
    let loader: Vec<u8> = binary[end..].iter().copied().take_while(|&byte| byte != 0).collect();
    let loader = String::from_utf8(loader).unwrap();
    for init in [true, false] {
        let sandbox = Sandbox::new()
            .init(init)
            .file_with_mode("/srv/my-binary", binary.clone(), 0o755)
            .file_with_mode("/srv/my-script", "#!/no/such/shell -x\n", 0o755)
            .file_with_mode("/srv/my-spaces", "#! \t /no/such/shell\n", 0o755)
            .file_with_mode("/srv/my-windows", "#!/bin/sh\r\necho\r\n", 0o755)
            .file_with_mode("/srv/my-unended", "#!/no/such/shell", 0o755)
            .file_with_mode("/srv/my-relative", "#!no-such-shell\n", 0o755);
        for (program, interpreter) in [
            ("/srv/my-binary", &*loader),
            ("/srv/my-script", "/no/such/shell"),
            ("/srv/my-spaces", "/no/such/shell"),
            ("/srv/my-windows", "/bin/sh\r"),
            ("/srv/my-unended", "/no/such/shell"),
            ("/srv/my-relative", "no-such-shell"),
        ] {
            let object = format!("{interpreter:?} of {program:?}");
            let expected = ("find interpreter", object, libc::ENOENT);
            assert_eq!(not_started(sandbox.way_to(program)), expected);
            let name = Path::new(program).file_name().unwrap();
            assert_eq!(not_started(sandbox.way_to(name).env("PATH", "/usr/bin:/srv")), expected);
        }
    }
}

/// A program of the host's that the sandbox does not have.
fn host_program() -> (tempfile::TempDir, PathBuf) {
    let directory = open_directory();
    let path = directory.path().join("only-outside");
    fs::write(&path, SAYS).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    (directory, path)
}

fn only_outside() {
    let (directory, path) = host_program();
    let hint = Some(Hint::OnlyOutside(path.clone()));
    let command = |name: &OsStr| Sandbox::new().way_to(name);
    assert_eq!(command(path.as_os_str()).spawn().unwrap_err().hint(), hint.as_ref());
    // By name, from the sandbox's PATH or from the caller's.
    let name = path.file_name().unwrap();
    let error = command(name).env("PATH", directory.path()).spawn().unwrap_err();
    assert_eq!(error.hint(), hint.as_ref());
    assert_eq!(command(name).spawn().unwrap_err().hint(), None);
    // SAFETY: this process has one thread.
    unsafe { std::env::set_var("PATH", directory.path()) };
    let hint = Hint::OutsideOfPath(path.clone());
    assert_eq!(command(name).spawn().unwrap_err().hint(), Some(&hint));
    // Neither directories nor plain files are programs, nor is what is nowhere.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(command(path.as_os_str()).spawn().unwrap_err().hint(), None);
    assert_eq!(command(directory.path().as_os_str()).spawn().unwrap_err().hint(), None);
    assert_eq!(command(OsStr::new("no-such-program")).spawn().unwrap_err().hint(), None);
}

/// Who does what the hint says has what was missing.
fn hint_is_right() {
    let (directory, path) = host_program();
    let follow = |sandbox: &Sandbox, error: &Error| match error.hint() {
        Some(Hint::OnlyOutside(path)) => sandbox.clone().bind_same(path),
        other => panic!("{other:?}"),
    };
    let sandbox = Sandbox::new();
    let error = sandbox.way_to(&path).spawn().unwrap_err();
    let expected = format!("{}\n", path.display()).into_bytes();
    assert_eq!(said(follow(&sandbox, &error).way_to(&path)), expected);
    // An interpreter too.
    let line = format!("#!{}\n", path.display());
    let sandbox = Sandbox::new().file_with_mode("/srv/my-script", line, 0o755);
    let error = sandbox.way_to("/srv/my-script").spawn().unwrap_err();
    assert_eq!(error.failed().unwrap().operation, "find interpreter");
    assert_eq!(
        follow(&sandbox, &error).way_to("/srv/my-script").status().unwrap().outcome,
        Outcome::Exited(0)
    );
    let name = path.file_name().unwrap();
    let command = |sandbox: &Sandbox| sandbox.way_to(name).env("PATH", directory.path());
    let error = command(&sandbox).spawn().unwrap_err();
    assert_eq!(said(command(&follow(&sandbox, &error))), expected);
}

/// A program that only the caller's PATH leads to is not found by its name after the bind alone.
fn hint_for_a_name_is_right() {
    let (directory, path) = host_program();
    // SAFETY: this process has one thread.
    unsafe { std::env::set_var("PATH", directory.path()) };
    let name = path.file_name().unwrap();
    let error = Sandbox::new().way_to(name).spawn().unwrap_err();
    let Some(Hint::OutsideOfPath(path)) = error.hint() else { panic!("{error}") };
    let outcome = Sandbox::new().bind_same(path).way_to(path).status().unwrap().outcome;
    assert_eq!(outcome, Outcome::Exited(0));
}

// ---- what is no command ------------------------------------------------------------------------

fn nul_bytes_are_all_listed() {
    let command = Sandbox::new()
        .way_to("program\0")
        .arg0("arg0\0")
        .arg("arg\0one")
        .args(["fine", "\0"])
        .env("KEY\0", "fine")
        .env("SECRET", "hidden\0hidden")
        .current_dir("/dir\0");
    let problems = problems(command);
    let expected = [
        r#"the program's name "program\0" contains a NUL byte"#,
        r#"the argument "arg\0one" contains a NUL byte"#,
        r#"the argument "\0" contains a NUL byte"#,
        r#"the argument "arg0\0" contains a NUL byte"#,
        r#"the environment variable "KEY\0" contains a NUL byte"#,
        r#"the value of "SECRET" contains a NUL byte"#,
        r#"the working directory "/dir\0" contains a NUL byte"#,
    ];
    assert_eq!(problems, expected);
}

fn names_of_variables() {
    let command = Sandbox::new().way_to("true").env("", "empty").env("A=B", "c").env("=", "");
    let problems = problems(command);
    let expected = ["\"\"", "\"=\"", "\"A=B\""]
        .map(|name| format!("{name} is no name for an environment variable"));
    assert_eq!(problems, expected);
    // What is taken away again is no problem.
    let command = Sandbox::new().way_to("true").env("A=B", "c").env_remove("A=B");
    assert_eq!(command.status().unwrap().outcome, Outcome::Exited(0));
}

fn all_contradictions_at_once() {
    let command = Sandbox::new()
        .hostname("")
        .tmpfs("relative")
        .nice(30)
        .way_to("")
        .arg("\0")
        .env("", "")
        .current_dir("\0")
        .fd(5000, marked(""));
    let problems = problems(command);
    for text in
        ["host name", "relative", "nice", "no name", "argument", "variable", "directory", "5000"]
    {
        let found = problems.iter().any(|problem| problem.contains(text));
        assert!(found, "{text}: {problems:#?}");
    }
    assert_eq!(problems.len(), 8, "{problems:#?}");
    let plan = Sandbox::new().hostname("").way_to("").plan().unwrap_err();
    assert!(matches!(plan, Error::Invalid(problems) if problems.len() == 2));
}

// ---- commands as values ------------------------------------------------------------------------

fn a_hundred_times_the_same_sandbox() {
    let sandbox = Sandbox::new().file("/srv/file", "same");
    let before = life::descriptors();
    for number in 0..100 {
        let command =
            script(&sandbox, "cat /srv/file; echo $0 $NUMBER; test ! -e here; touch here");
        let command = command.env("NUMBER", number.to_string());
        assert_eq!(said(command), format!("samesh {number}\n").into_bytes());
        if number == 0 {
            // The warden and init stay.
            assert!(life::descriptors() <= before + 5);
        }
    }
    let kept = life::descriptors();
    assert_eq!(shell(&sandbox, "exit 3").outcome, Outcome::Exited(3));
    assert_eq!(life::descriptors(), kept);
}

fn a_command_is_used_up() {
    let _by_value: [fn(Command) -> bool; 4] = [
        |command| command.spawn().is_ok(),
        |command| command.status().is_ok(),
        |command| command.output().is_ok(),
        |command| command.check().is_ok(),
    ];
    // With it go the descriptors that it held, whether it was started or not.
    let (reading, writing) = life::pipe();
    let child = Sandbox::new().way_to("sleep").arg("1000").fd(5, writing).spawn().unwrap();
    assert!(life::is_held(&reading));
    drop(child);
    life::await_released(&reading, "the program");
    for command in [Sandbox::new().way_to("/no/such"), Sandbox::new().way_to("")] {
        let (reading, writing) = life::pipe();
        command.fd(5, writing).spawn().unwrap_err();
        life::await_released(&reading, "a command that failed");
    }
    let (reading, writing) = life::pipe();
    drop(Sandbox::new().way_to("true").fd(5, writing));
    life::await_released(&reading, "a command that was dropped");
}

fn check_does_all_but_the_exec() {
    let (reading, writing) = life::pipe();
    Sandbox::new().way_to("/no/such/program").fd(5, writing).check().unwrap();
    life::await_released(&reading, "the checked sandbox");
    for sandbox in both() {
        let (_, path) = host_program();
        let command = script(&sandbox, "echo ran").current_dir("/no/such").arg(path);
        let error = command.check().unwrap_err();
        assert_eq!(error.failed().unwrap().operation, "change directory");
        assert!(sandbox.way_to("").check().is_err());
        let error = sandbox.bind_ro("/no/such", "/srv").way_to("true").check().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
    }
}

// ---- terminals ---------------------------------------------------------------------------------

/// Both ends of a new terminal.
fn terminal() -> (File, OwnedFd) {
    let (mut ours, mut theirs) = (-1, -1);
    let null = std::ptr::null_mut();
    // SAFETY: both numbers are valid for writing; the rest may be null.
    let result =
        unsafe { libc::openpty(&raw mut ours, &raw mut theirs, null, null.cast(), null.cast()) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    let own = |number| {
        // SAFETY: the kernel just made it, and nobody else owns it.
        unsafe { OwnedFd::from_raw_fd(number) }
    };
    (own(ours).into(), own(theirs))
}

const TALK: &str = "echo to the terminal >/dev/tty && echo worked";

fn no_terminal() {
    for sandbox in both() {
        let (_ours, theirs) = terminal();
        let output = script(&sandbox, TALK).stdin(theirs).output().unwrap();
        assert_ne!(output.outcome, Outcome::Exited(0));
        assert_eq!(output.stdout, b"", "it is no controlling terminal unless asked for");
    }
}

fn controlling_terminal() {
    for sandbox in both() {
        let (mut ours, theirs) = terminal();
        let kept = theirs.try_clone().unwrap();
        let command = script(&sandbox, TALK).stdin(theirs).controlling_terminal();
        assert_eq!(said(command), b"worked\n");
        let mut text = [0; 15];
        ours.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"to the terminal");
        drop(kept);
    }
}

fn terminal_that_is_none() {
    for sandbox in both() {
        let command = sandbox.way_to("true").controlling_terminal();
        let (operation, _, errno) = not_started(command);
        assert_eq!((operation, errno), ("set controlling terminal", libc::ENOTTY));
    }
}
