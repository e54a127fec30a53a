//! What a run read and wrote, against what was declared.
#![allow(
    clippy::exit,
    clippy::incompatible_msrv,
    reason = "a test process, built by a current toolchain"
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]
#![allow(unsafe_code, reason = "common asks what this process may do")]

mod common;
#[path = "common/inside.rs"]
mod inside;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use common::Needs;
use inside::{myself, open_directory, role};
use stockade::{
    Access, Command, Denied, Footprint, Gap, Network, Outcome, ReadKind, Sandbox, Seccomp, Stdio,
};

/// What every program needs, and no build declares one by one.
const SYSTEM: [&str; 7] = ["/usr", "/lib", "/lib64", "/bin", "/etc", "/proc", "/dev"];

tests! {
    Needs::Nothing => [
        the_digest, written_by_itself, directories, interpreters, gaps, looked_for, scratch, children_by_vfork,
        nothing_declared, relative_paths,
    ];
    Needs::Installed(&["cc"]) => [an_undeclared_header, static_programs];
    Needs::Installed(&["cc", "make"]) => [a_parallel_make];
    Needs::Toolchain => [a_static_rust_program];
}

fn run(command: Command) -> Footprint {
    let mut child = command.env("LC_ALL", "C").stderr(Stdio::piped()).spawn().unwrap();
    let errors = std::io::read_to_string(child.stderr.take().unwrap()).unwrap();
    assert_eq!(child.wait().unwrap().outcome, Outcome::Exited(0), "{errors}");
    child.footprint().unwrap()
}

fn sh(sandbox: &Sandbox, script: &str) -> Footprint {
    run(sandbox.command("sh").args(["-ec", script]))
}

fn has(footprint: &Footprint, path: &str, kind: ReadKind) -> bool {
    footprint.reads.iter().any(|read| read.path == Path::new(path) && read.kind == kind)
}

/// What was found and not declared.
fn undeclared(footprint: &Footprint) -> Vec<&str> {
    let found = footprint.undeclared_reads.iter().filter(|read| read.kind != ReadKind::Absent);
    found.map(|read| read.path.to_str().unwrap()).collect()
}

/// A directory of these files, that the program may write.
fn sources(files: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = open_directory();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
    for (name, text) in files {
        fs::write(directory.path().join(name), text).unwrap();
    }
    directory
}

fn an_undeclared_header() {
    let directory = sources(&[
        ("main.c", "#include \"dep.h\"\nint main(void) { return NUMBER; }\n"),
        ("dep.h", "#include \"deeper.h\"\n"),
        ("deeper.h", "#define NUMBER 0\n"),
        ("unused.h", ""),
    ]);
    let sandbox = Sandbox::new()
        .bind_ro(directory.path(), "/src")
        .tmpfs("/out")
        .declare_inputs(SYSTEM)
        .declare_inputs(["/src/main.c", "/src/dep.h", "/src/unused.h"])
        .declare_outputs(["/out/main.o"]);
    let compile = |sandbox: &Sandbox| {
        run(sandbox.command("cc").args(["-c", "/src/main.c", "-o", "/out/main.o"]))
    };
    let footprint = compile(&sandbox);
    assert_eq!(undeclared(&footprint), ["/src/deeper.h"], "{footprint}");
    assert!(footprint.unread_inputs.contains(&"/src/unused.h".into()), "{footprint}");
    assert!(footprint.undeclared_writes.is_empty(), "{footprint}");
    assert_eq!(footprint.writes, [PathBuf::from("/out/main.o")]);
    assert!(footprint.gaps.is_empty(), "{footprint}");
    let complete = sandbox.declare_inputs(["/src/deeper.h"]);
    let again = compile(&complete);
    assert!(undeclared(&again).is_empty(), "{again}");
    // Names of files in /tmp differ each time, and what was read does not.
    assert_eq!(again.digest, footprint.digest, "{again}");
    fs::write(directory.path().join("deeper.h"), "#define NUMBER 1\n").unwrap();
    assert_ne!(compile(&complete).digest, footprint.digest);
}

fn a_parallel_make() {
    let directory = sources(&[
        ("Makefile", "all: one.o two.o three.o four.o\n%.o: %.c\n\tcc -c $< -o $@\n"),
        ("common.h", "#define NUMBER 3\n"),
    ]);
    for name in ["one", "two", "three", "four"] {
        let hidden = if name == "three" { "#include \"common.h\"\n" } else { "" };
        let text = format!("{hidden}int {name}(void) {{ return 1; }}\n");
        fs::write(directory.path().join(format!("{name}.c")), text).unwrap();
    }
    let built = || {
        let sandbox = Sandbox::new()
            .bind_rw(directory.path(), "/src")
            .declare_inputs(SYSTEM)
            .declare_inputs(
                ["one.c", "two.c", "three.c", "four.c", "Makefile"]
                    .map(|name| format!("/src/{name}")),
            )
            .declare_outputs(["one.o", "two.o", "three.o"].map(|name| format!("/src/{name}")));
        let footprint = run(sandbox.command("make").args(["-j4", "-C", "/src"]));
        for name in ["one", "two", "three", "four"] {
            fs::remove_file(directory.path().join(format!("{name}.o"))).unwrap();
        }
        footprint
    };
    let footprint = built();
    assert!(undeclared(&footprint).contains(&"/src/common.h"), "{footprint}");
    assert_eq!(footprint.undeclared_writes, [PathBuf::from("/src/four.o")], "{footprint}");
    assert!(footprint.gaps.is_empty(), "{footprint}");
    let again = built();
    let differ = |one: &Footprint, other: &Footprint| -> Vec<_> {
        one.reads.iter().filter(|read| !other.reads.contains(read)).cloned().collect()
    };
    let more = [differ(&footprint, &again), differ(&again, &footprint)];
    assert_eq!(again.digest, footprint.digest, "{more:?}");
}

/// Without libraries, without a fixed address, and without even libc, as programs of Go are: by system calls alone.
fn static_programs() {
    const USUAL: &str = "#include <stdio.h>
        int main(void) { return !fopen(\"/src/hidden\", \"r\"); }";
    const RAW: &str = "#include <fcntl.h>
        #include <sys/syscall.h>
        #if defined __x86_64__
        static long call(long number, long a, long b, long c) {
            long answer;
            __asm__ volatile(\"syscall\" : \"=a\"(answer)
                : \"a\"(number), \"D\"(a), \"S\"(b), \"d\"(c) : \"rcx\", \"r11\", \"memory\");
            return answer;
        }
        #elif defined __aarch64__
        static long call(long number, long a, long b, long c) {
            register long n __asm__(\"x8\") = number, x0 __asm__(\"x0\") = a;
            register long x1 __asm__(\"x1\") = b, x2 __asm__(\"x2\") = c;
            __asm__ volatile(\"svc 0\" : \"+r\"(x0) : \"r\"(n), \"r\"(x1), \"r\"(x2) : \"memory\");
            return x0;
        }
        #endif
        void _start(void) {
            long fd = call(SYS_openat, AT_FDCWD, (long)\"/src/hidden\", O_RDONLY);
            call(SYS_exit_group, fd < 0, 0, 0);
        }";
    for (code, flags) in [
        (USUAL, &["-static"][..]),
        (USUAL, &["-static-pie"]),
        (RAW, &["-static", "-nostdlib", "-O1"]),
    ] {
        let directory = sources(&[("main.c", code), ("hidden", "")]);
        let (program, source) = (directory.path().join("main"), directory.path().join("main.c"));
        let mut compiler = std::process::Command::new("cc");
        assert!(compiler.args(flags).arg("-o").args([program, source]).status().unwrap().success());
        let sandbox =
            Sandbox::new().bind_ro(directory.path(), "/src").declare_inputs(["/src/main"]);
        let footprint = run(sandbox.command("/src/main"));
        assert_eq!(undeclared(&footprint), ["/src/hidden"], "{flags:?}: {footprint}");
        // No loader, no libraries.
        let library = footprint.reads.iter().find(|read| read.path.starts_with("/usr/lib"));
        assert_eq!(library, None, "{flags:?}");
    }
}

/// What it asks for is told by the journal and by the footprint alike.
fn a_static_rust_program() {
    const CODE: &str = r#"fn main() {
        use std::{fs, io::ErrorKind, net::UdpSocket};
        assert_eq!(fs::read("/src/there").unwrap(), b"text");
        let missing = fs::read("/proc/meminfo").unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::NotFound);
        let denied = fs::read("/src/denied").unwrap_err();
        assert_eq!(denied.kind(), ErrorKind::PermissionDenied);
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        assert_eq!(socket.connect("192.0.2.1:7").unwrap_err().raw_os_error(), Some(101));
    }"#;
    let directory = sources(&[("main.rs", CODE), ("there", "text"), ("denied", "text")]);
    let path = |name: &str| directory.path().join(name);
    let mut compiler = std::process::Command::new(common::toolchain().unwrap().join("bin/rustc"));
    compiler.args(["--edition=2024", "-Ctarget-feature=+crt-static", "-o"]);
    assert!(compiler.args([path("main"), path("main.rs")]).status().unwrap().success());
    fs::set_permissions(path("denied"), fs::Permissions::from_mode(0o0)).unwrap();

    let sandbox = Sandbox::new().bind_ro(directory.path(), "/src");
    let mut child = sandbox.clone().learn().command("/src/main").spawn().unwrap();
    assert_eq!(child.wait().unwrap().outcome, Outcome::Exited(0));
    let denials = child.denials();
    let found: Vec<_> = denials.iter().map(|one| (one.what.clone(), one.errno)).collect();
    let read = |path: &str| Denied::Path { path: path.into(), access: Access::Read };
    let expected = [
        (read("/proc/meminfo"), libc::ENOENT),
        (read("/src/denied"), libc::EACCES),
        (Denied::Address("192.0.2.1:7".into()), libc::ENETUNREACH),
    ];
    assert_eq!(found, expected, "{denials}");
    assert!(denials.iter().all(|one| one.program == "main"), "{denials}");
    let footprint = run(sandbox.declare_inputs(["/src/main"]).command("/src/main"));
    assert!(has(&footprint, "/src/there", ReadKind::Content), "{footprint}");
    assert!(has(&footprint, "/proc/meminfo", ReadKind::Absent), "{footprint}");
    // That it is there is all that was seen.
    assert!(has(&footprint, "/src/denied", ReadKind::Metadata), "{footprint}");
    // No loader, no libraries.
    let library = footprint.reads.iter().find(|read| read.path.starts_with("/usr/lib"));
    assert_eq!(library, None, "{footprint}");
    assert!(footprint.gaps.is_empty(), "{footprint}");
}

fn children_by_vfork() {
    if role().is_some() {
        let read = std::process::Command::new("cat").arg("/src/hidden").status().unwrap();
        assert!(read.success());
        return;
    }
    let directory = sources(&[("hidden", "")]);
    let sandbox = Sandbox::new()
        .bind_ro(directory.path(), "/src")
        .declare_inputs(SYSTEM)
        .declare_inputs(["/probe"]);
    let footprint = run(myself(&sandbox, "children_by_vfork", "inside"));
    assert!(undeclared(&footprint).contains(&"/src/hidden"), "{footprint}");
}

fn the_digest() {
    let directory = sources(&[("read", "one"), ("unread", "one")]);
    let path = |name: &str| directory.path().join(name);
    let digest = || {
        let sandbox = Sandbox::new().bind_ro(directory.path(), "/src").declare_inputs(SYSTEM);
        sh(&sandbox, "cat /src/read; test -x /src/asked; test -e /src/absent || :").digest
    };
    fs::write(path("asked"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(path("asked"), fs::Permissions::from_mode(0o755)).unwrap();
    let first = digest();
    assert_eq!(digest(), first);
    // Neither times nor inode numbers, nor what is not read.
    fs::write(path("unread"), "two").unwrap();
    fs::write(path("new"), "one").unwrap();
    fs::rename(path("new"), path("read")).unwrap();
    assert_eq!(digest(), first);
    fs::write(path("read"), "two").unwrap();
    let changed = digest();
    assert_ne!(changed, first);
    fs::write(path("read"), "one").unwrap();
    assert_eq!(digest(), first);
    // What was asked for, and what was not there.
    fs::set_permissions(path("asked"), fs::Permissions::from_mode(0o711)).unwrap();
    assert_ne!(digest(), first);
    fs::set_permissions(path("asked"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(path("absent"), "").unwrap();
    assert_ne!(digest(), first);
}

fn written_by_itself() {
    let directory = sources(&[("old", "x"), ("log", "x"), ("moved", "x")]);
    if inside::is_root() {
        for name in ["old", "log", "moved"] {
            fs::set_permissions(directory.path().join(name), fs::Permissions::from_mode(0o666))
                .unwrap();
        }
    }
    let sandbox = Sandbox::new()
        .bind_rw(directory.path(), "/src")
        .declare_inputs(SYSTEM)
        .declare_outputs(["/src/new"]);
    let script = "cd /src; echo >new; cat new; mkdir deep; echo >deep/x; ls deep; cat deep/x
        echo >old; cat old; echo >>log; mv moved other; cat other; rm other";
    let footprint = sh(&sandbox, script);
    for own in ["/src/new", "/src/deep/x", "/src/old", "/src/other"] {
        assert!(!has(&footprint, own, ReadKind::Content), "{own}: {footprint}");
    }
    assert!(!has(&footprint, "/src/deep", ReadKind::Names), "{footprint}");
    // What is added to and what gets another name was there before.
    for before in ["/src/log", "/src/moved"] {
        assert!(has(&footprint, before, ReadKind::Content), "{before}: {footprint}");
    }
    let expected = ["deep", "deep/x", "log", "moved", "old", "other"];
    let expected: Vec<_> = expected.iter().map(|name| Path::new("/src").join(name)).collect();
    assert_eq!(footprint.undeclared_writes, expected, "{footprint}");
}

fn directories() {
    let directory = sources(&[("one", ""), ("two", "")]);
    let sandbox = Sandbox::new().bind_ro(directory.path(), "/src").declare_inputs(SYSTEM);
    let footprint = sh(&sandbox, "ls /src");
    assert!(has(&footprint, "/src", ReadKind::Names), "{footprint}");
    fs::write(directory.path().join("three"), "").unwrap();
    assert_ne!(sh(&sandbox, "ls /src").digest, footprint.digest);
    // That it is there is no more than the way to what is declared.
    let below = sandbox.declare_inputs(["/src/one"]);
    assert!(undeclared(&sh(&below, "test -d /src; cat /src/one")).is_empty());
    assert_eq!(undeclared(&sh(&below, "ls /src")), ["/src"]);
}

fn interpreters() {
    let directory = sources(&[("script", "#!/bin/sh\n:\n")]);
    let program = directory.path().join("script");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let sandbox = Sandbox::new().bind_ro(directory.path(), "/src").declare_inputs(["/src"]);
    let footprint = run(sandbox.command("/src/script"));
    assert!(has(&footprint, "/src/script", ReadKind::Content), "{footprint}");
    let shell = fs::canonicalize("/bin/sh").unwrap();
    assert!(has(&footprint, shell.to_str().unwrap(), ReadKind::Content), "{footprint}");
    // What the kernel itself opens: the loader.
    let loader = footprint.reads.iter().any(|read| {
        read.kind == ReadKind::Content
            && read.path.to_str().is_some_and(|path| path.contains("/ld-"))
    });
    assert!(loader, "{:?}", footprint.reads);
    // By the name it was declared with, too.
    let linked = Sandbox::new().declare_inputs(["/bin/sh"]);
    assert!(run(linked.command("/bin/sh").args(["-c", ":"])).unread_inputs.is_empty());
}

fn gaps() {
    let sandbox = Sandbox::new().declare_inputs(SYSTEM);
    assert!(run(sandbox.command("true")).gaps.is_empty());
    let file = fs::File::open("/dev/null").unwrap();
    let found = |command: Command| run(command).gaps;
    assert_eq!(found(sandbox.command("true").fd(5, file)), [Gap::Descriptors]);
    let everything = sandbox.clone().seccomp(Seccomp::none());
    assert_eq!(found(everything.command("true")), [Gap::IoUring]);
    let shared = sandbox.network(Network::Host);
    assert_eq!(found(shared.command("true")), [Gap::Network]);
}

fn looked_for() {
    let footprint = sh(&Sandbox::new().declare_inputs(SYSTEM), "cat /no/such/file || :");
    let absent = footprint.undeclared_reads.iter().find(|read| read.kind == ReadKind::Absent);
    assert_eq!(absent.map(|read| &*read.path), Some(Path::new("/no/such/file")), "{footprint}");
}

fn scratch() {
    let sandbox = Sandbox::new().file("/tmp/given", "x").declare_inputs(SYSTEM);
    let script = "cd /tmp; echo >a; cat a; test -e b || :; ls . >/dev/null; cat given; echo >~/x";
    let footprint = sh(&sandbox, script);
    assert_eq!(undeclared(&footprint), ["/tmp/given"], "{footprint}");
    assert!(footprint.writes.is_empty(), "{footprint}");
    let declared = sandbox.declare_outputs(["/tmp/a"]);
    assert_eq!(sh(&declared, script).writes, [PathBuf::from("/tmp/a")]);
}

fn nothing_declared() {
    let mut child = Sandbox::new().learn().command("true").spawn().unwrap();
    child.wait().unwrap();
    assert!(child.footprint().is_none());
    let mut child = Sandbox::new().declare_inputs(SYSTEM).command("cat").arg("/x").spawn().unwrap();
    child.wait().unwrap();
    assert!(child.denials().is_empty());
    // Both at once.
    let both = Sandbox::new().learn().declare_inputs(SYSTEM);
    let mut child = both.command("cat").arg("/proc/meminfo").spawn().unwrap();
    child.wait().unwrap();
    assert!(!child.denials().is_empty() && child.footprint().is_some());
}

fn relative_paths() {
    let error = Sandbox::new().declare_inputs(["src"]).command("true").spawn().unwrap_err();
    assert!(error.to_string().contains("\"src\" is not absolute"), "{error}");
}
