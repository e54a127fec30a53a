//! What one program needs to be started, in a sandbox that has nothing else of the host's.
#![allow(
    clippy::exit,
    clippy::incompatible_msrv,
    reason = "a test process, built by a current toolchain"
)]
#![allow(unsafe_code, reason = "mounts of the test's own")]
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
#[path = "common/mounts.rs"]
mod mounts;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Needs, toolchain};
use inside::{is_absent, open_directory, succeed};
use mounts::{mount, own_mounts};
use stockade::{Error, Hint, Rootfs, Sandbox, Stage};

tests! {
    Needs::Nothing => [
        dynamic_program, nothing_else_is_there, it_is_read_only, script, script_of_a_script,
        scripts_that_name_each_other, env_script, env_script_with_options, env_script_outside_of_path,
        links_on_the_way, relative_path, what_is_there_is_not_bound_again, two_programs,
        missing_program, what_is_no_program, fifo_is_not_opened, broken_elf_file, its_plan_shows_it,
    ];
    Needs::Program("busybox") => [static_program, static_program_with_links];
    Needs::Program("cc") => [
        origin, directories_are_inherited, runpath_is_not_inherited, a_name_is_found_once,
        missing_library, missing_library_of_a_library, missing_interpreter,
        interpreter_that_is_no_program, library_by_path, wrong_library_is_passed_over,
        library_that_cannot_be_read, interpreter_that_cannot_be_read, directory_that_cannot_be_searched,
        list_that_cannot_be_read, env_script_that_cannot_be_looked_for,
        through_a_directory, variants_for_the_processor, store_only_host, store_only_host_scripts,
    ];
    Needs::Installed(&["cc", "ldconfig"]) => [library_of_the_cache];
    Needs::Program("musl-gcc") => [musl];
    Needs::Toolchain => [tool_chain_in_a_home_directory];
}

fn empty() -> Sandbox {
    Sandbox::new().rootfs(Rootfs::empty())
}

/// What a program writes that is alone in its sandbox.
fn alone(program: &Path) -> String {
    succeed(empty().program(program).command(program))
}

fn write_script(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn error_of(sandbox: &Sandbox) -> Error {
    sandbox.plan().unwrap_err()
}

fn fails(program: &Path, operation: &str, object: &str, errno: i32) {
    let error = error_of(&empty().program(program));
    let failed = error.failed().unwrap_or_else(|| panic!("{error}"));
    assert_eq!((failed.stage, failed.operation), (Stage::Prepare, operation), "{error}");
    assert_eq!((failed.object.as_str(), error.raw_os_error()), (object, Some(errno)), "{error}");
}

fn shown(path: &Path) -> String {
    format!("{path:?}")
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Compiles one file of C.
fn cc(text: &str, to: &Path, options: &[&str]) {
    compile("cc", text, to, options);
}

fn compile(compiler: &str, text: &str, to: &Path, options: &[&str]) {
    let source = to.with_extension("c");
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    fs::write(&source, text).unwrap();
    run(Command::new(compiler).arg("-o").arg(to).arg(&source).args(options));
    fs::remove_file(source).unwrap();
}

const LIBRARY: &str = "const char *word(void) { return \"hello\"; }";
const OTHER: &str = "const char *word(void) { return \"other\"; }";
const CALLER: &str = "const char *word(void); const char *far(void) { return word(); }";
const PROGRAM: &str = "int puts(const char *); const char *word(void);\
    int main(void) { puts(word()); return 0; }";
const FAR_PROGRAM: &str = "int puts(const char *); const char *far(void);\
    int main(void) { puts(far()); return 0; }";

/// `PROGRAM` in bin, its library in lib.
fn with_library(directory: &Path, options: &[&str]) -> PathBuf {
    let (library, program) = (directory.join("lib/libword.so"), directory.join("bin/hello"));
    cc(LIBRARY, &library, &["-shared", "-fPIC"]);
    let mut all = vec![library.to_str().unwrap()];
    all.extend(options);
    cc(PROGRAM, &program, &[&["-Wl,-soname,ignored"], &*all].concat());
    program
}

fn dynamic_program() {
    let output =
        succeed(empty().program("/bin/sh").command("/bin/sh").args(["-c", "echo $((6*7))"]));
    assert_eq!(output, "42\n");
}

fn nothing_else_is_there() {
    let script = "for f in /* /usr/* /usr/bin/* /etc/*; do test -e $f && echo $f; done; true";
    let sandbox = empty().program("/bin/sh");
    let listed = succeed(sandbox.command("/bin/sh").args(["-c", script]));
    let own = ["/dev", "/home", "/proc", "/tmp"];
    for line in listed.lines().filter(|line| !own.contains(line)) {
        let known = ["/bin", "/lib", "/lib64", "/usr", "/usr/bin", "/usr/lib", "/usr/lib64"];
        let file = line.starts_with("/usr/bin/") && Path::new(line).is_file();
        assert!(known.contains(&line) || file || line == "/etc/ld.so.cache", "{listed}");
    }
    assert!(listed.lines().filter(|line| line.starts_with("/usr/bin/")).count() <= 2, "{listed}");
}

fn it_is_read_only() {
    let directory = open_directory();
    let own = directory.path().join("own");
    fs::copy("/bin/ls", &own).unwrap();
    let script = format!("echo x >> {}", own.display());
    let sandbox = empty().program("/bin/sh").program(&own);
    let output = sandbox.command("/bin/sh").args(["-c", &script]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("Read-only file system"), "{text}");
}

fn static_program() {
    let sandbox = empty().program("/usr/bin/busybox");
    let output = succeed(sandbox.command("/usr/bin/busybox").args(["echo", "static"]));
    assert_eq!(output, "static\n");
}

fn static_program_with_links() {
    let directory = open_directory();
    let path = directory.path().join("sh");
    symlink("/usr/bin/busybox", &path).unwrap();
    let output = succeed(empty().program(&path).command(&path).args(["-c", "echo linked"]));
    assert_eq!(output, "linked\n");
}

fn script() {
    let directory = open_directory();
    let path = directory.path().join("script");
    write_script(&path, "#! /bin/sh -e\necho scripted $0\n");
    assert_eq!(alone(&path), format!("scripted {}\n", path.display()));
}

fn script_of_a_script() {
    let directory = open_directory();
    let (inner, outer) = (directory.path().join("inner"), directory.path().join("outer"));
    write_script(&inner, "#!/bin/sh\necho inner \"$@\"\n");
    write_script(&outer, &format!("#!{} word\n", inner.display()));
    assert_eq!(alone(&outer), format!("inner word {}\n", outer.display()));
}

fn scripts_that_name_each_other() {
    let directory = open_directory();
    let (one, two) = (directory.path().join("one"), directory.path().join("two"));
    write_script(&one, &format!("#!{}\n", two.display()));
    write_script(&two, &format!("#!{}\n", one.display()));
    let error = error_of(&empty().program(&one));
    assert_eq!(error.raw_os_error(), Some(libc::ELOOP), "{error}");
}

fn env_script() {
    let directory = open_directory();
    let path = directory.path().join("script");
    write_script(&path, "#!/usr/bin/env sh\necho by env\n");
    assert_eq!(alone(&path), "by env\n");
}

fn env_script_with_options() {
    let directory = open_directory();
    let path = directory.path().join("script");
    write_script(&path, "#!/usr/bin/env -S WORD=given sh -e\necho $WORD\n");
    assert_eq!(alone(&path), "given\n");
}

fn env_script_outside_of_path() {
    let directory = open_directory();
    let (tools, path) = (directory.path().join("tools"), directory.path().join("script"));
    fs::create_dir(&tools).unwrap();
    symlink("/bin/sh", tools.join("tool-sh")).unwrap();
    write_script(&path, "#!/usr/bin/env tool-sh\necho by the path inside\n");
    // SAFETY: this process has one thread.
    unsafe { std::env::set_var("PATH", &tools) };
    let sandbox = empty().program(&path);
    let error = error_of(&sandbox);
    assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
    assert_eq!(error.hint(), Some(&Hint::OutsideOfPath(tools.join("tool-sh"))));
    let command = sandbox.command(&path).env("PATH", &tools);
    command.plan().unwrap().check().unwrap();
    assert_eq!(succeed(command), "by the path inside\n");
}

fn links_on_the_way() {
    let directory = open_directory();
    let at = |name: &str| directory.path().join(name);
    fs::create_dir_all(at("real/deep")).unwrap();
    write_script(&at("real/deep/script"), "#!/bin/sh\necho found\n");
    symlink("real", at("one")).unwrap();
    symlink(at("one"), at("two")).unwrap();
    symlink("../deep/script", at("real/deep/three")).unwrap();
    assert_eq!(alone(&at("two/deep/three")), "found\n");
}

fn relative_path() {
    let directory = open_directory();
    write_script(&directory.path().join("script"), "#!/bin/sh\necho near\n");
    std::env::set_current_dir(directory.path()).unwrap();
    let inside = directory.path().join("script");
    assert_eq!(succeed(empty().program("script").command(inside)), "near\n");
}

fn what_is_there_is_not_bound_again() {
    let plan = |sandbox: &Sandbox| sandbox.plan().unwrap();
    assert!(plan(&Sandbox::new().program("/bin/sh")) == plan(&Sandbox::new()));
    let own = empty().program("/bin/sh");
    assert!(plan(&own.clone().program("/bin/sh")) == plan(&own));
    assert!(plan(&own).len() > plan(&empty()).len());
}

fn two_programs() {
    let sandbox = empty().program("/bin/sh").program("/bin/ls");
    let script = "/bin/ls -d /tmp";
    assert_eq!(succeed(sandbox.command("/bin/sh").args(["-c", script])), "/tmp\n");
}

fn missing_program() {
    fails(Path::new("/no/such/program"), "read program", "\"/no/such/program\"", libc::ENOENT);
    fails(Path::new("/etc/passwd/x"), "read program", "\"/etc/passwd/x\"", libc::ENOTDIR);
    let directory = open_directory();
    let path = directory.path().join("loop");
    symlink("loop", &path).unwrap();
    fails(&path, "read program", &shown(&path), libc::ELOOP);
}

fn what_is_no_program() {
    let directory = open_directory();
    let path = directory.path().join("text");
    fs::write(&path, "echo not a script\n").unwrap();
    fails(&path, "read program", &shown(&path), libc::ENOEXEC);
    fails(directory.path(), "read program", &shown(directory.path()), libc::EACCES);
    fails(Path::new("/dev/null"), "read program", "\"/dev/null\"", libc::EACCES);
    let error = error_of(&Sandbox::new().program(""));
    assert_eq!(error.to_string(), "invalid sandbox: a path is empty");
}

/// Opening it would wait for somebody who writes.
fn fifo_is_not_opened() {
    let directory = open_directory();
    let path = directory.path().join("fifo");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    fails(&path, "read program", &shown(&path), libc::EACCES);
    let script = directory.path().join("script");
    write_script(&script, &format!("#!{}\n", path.display()));
    let object = format!("{} of {}", shown(&path), shown(&script));
    fails(&script, "find interpreter", &object, libc::EACCES);
}

/// Whatever is wrong with it, an answer comes, and it is a typed error or a plan.
fn broken_elf_file() {
    let directory = open_directory();
    let whole = fs::read("/bin/sh").unwrap();
    let path = directory.path().join("broken");
    for length in [4, 5, 16, 63, 64, 65, 100, 500, 1000, 4096] {
        fs::write(&path, &whole[..length]).unwrap();
        fails(&path, "read program", &shown(&path), libc::ENOEXEC);
    }
    let mut random = 1u32;
    for _ in 0..500 {
        let mut bytes = whole.clone();
        for _ in 0..4 {
            random = random.wrapping_mul(1664525).wrapping_add(1013904223);
            bytes[random as usize >> 8 & 0x3ff] = random as u8;
        }
        fs::write(&path, bytes).unwrap();
        if let Err(error) = empty().program(&path).plan() {
            assert_eq!(error.stage(), Some(Stage::Prepare), "{error}");
        }
    }
}

fn its_plan_shows_it() {
    let plan = empty().program("/bin/sh").plan().unwrap().to_string();
    let shell = fs::canonicalize("/bin/sh").unwrap();
    let line = format!("bind {} on {} (read-only)", shown(&shell), shown(&shell));
    assert!(plan.contains(&line), "{plan}");
}

fn origin() {
    let directory = open_directory();
    let program = with_library(directory.path(), &["-Wl,-rpath,$ORIGIN/../lib"]);
    assert_eq!(alone(&program), "hello\n");
    // It is the real file's directory that counts.
    let link = directory.path().join("link");
    symlink("bin/hello", &link).unwrap();
    assert_eq!(alone(&link), "hello\n");
}

/// `far` needs `word`, and only the program's `DT_RPATH` says where that is.
fn chain(directory: &Path, tags: &str) -> PathBuf {
    let at = |name: &str| directory.join(name).to_str().unwrap().to_owned();
    cc(LIBRARY, Path::new(&at("lib/libword.so")), &["-shared", "-fPIC", "-Wl,-soname,libword.so"]);
    let library = ["-shared", "-fPIC", "-Wl,-soname,libfar.so", &at("lib/libword.so")];
    cc(CALLER, Path::new(&at("lib/libfar.so")), &library);
    let rpath = format!("-Wl,-rpath,{}", at("lib"));
    let options = [&at("lib/libfar.so"), tags, &rpath, "-Wl,--allow-shlib-undefined"];
    cc(FAR_PROGRAM, Path::new(&at("bin/far")), &options);
    directory.join("bin/far")
}

fn directories_are_inherited() {
    let directory = open_directory();
    let program = chain(directory.path(), "-Wl,--disable-new-dtags");
    assert_eq!(alone(&program), "hello\n");
}

fn runpath_is_not_inherited() {
    let directory = open_directory();
    let program = chain(directory.path(), "-Wl,--enable-new-dtags");
    // As outside.
    assert!(!Command::new(&program).output().unwrap().status.success());
    let library = directory.path().join("lib/libfar.so");
    let object = format!("\"libword.so\" of {}, which {} needs", shown(&library), shown(&program));
    fails(&program, "find library", &object, libc::ENOENT);
}

/// What the program has loaded is not looked for again by who cannot find it.
fn a_name_is_found_once() {
    let directory = open_directory();
    let at = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    chain(directory.path(), "-Wl,--enable-new-dtags");
    let program = directory.path().join("bin/both");
    let rpath = format!("-Wl,-rpath,{}", at("lib"));
    let libraries = [at("lib/libfar.so"), at("lib/libword.so")];
    let options = ["-Wl,--no-as-needed", &libraries[0], &libraries[1], &rpath];
    cc(FAR_PROGRAM, &program, &options);
    assert_eq!(alone(&program), "hello\n");
}

fn missing_library() {
    let directory = open_directory();
    let program = with_library(directory.path(), &["-Wl,-rpath,$ORIGIN/../lib"]);
    let library = directory.path().join("lib/libword.so");
    fs::remove_file(&library).unwrap();
    // The library had no name of its own: the program knows it by the path it was linked by.
    let object = format!("{} of {}", shown(&library), shown(&program));
    fails(&program, "find library", &object, libc::ENOENT);
}

fn missing_library_of_a_library() {
    let directory = open_directory();
    let program = chain(directory.path(), "-Wl,--disable-new-dtags");
    fs::remove_file(directory.path().join("lib/libword.so")).unwrap();
    let library = directory.path().join("lib/libfar.so");
    let object = format!("\"libword.so\" of {}, which {} needs", shown(&library), shown(&program));
    fails(&program, "find library", &object, libc::ENOENT);
}

fn missing_interpreter() {
    let directory = open_directory();
    let program = with_library(directory.path(), &["-Wl,--dynamic-linker=/no/such/loader"]);
    let object = format!("\"/no/such/loader\" of {}", shown(&program));
    fails(&program, "find interpreter", &object, libc::ENOENT);
    let script = directory.path().join("script");
    write_script(&script, "#!/no/such/shell\n");
    let object = format!("\"/no/such/shell\" of {}", shown(&script));
    fails(&script, "find interpreter", &object, libc::ENOENT);
}

/// A file of the caller's that a hostile program names does not get in by that.
fn interpreter_that_is_no_program() {
    let directory = open_directory();
    let secret = directory.path().join("secret");
    fs::write(&secret, "the caller's").unwrap();
    let option = format!("-Wl,--dynamic-linker={}", secret.display());
    let program = with_library(directory.path(), &[&option]);
    let object = format!("{} of {}", shown(&secret), shown(&program));
    fails(&program, "find interpreter", &object, libc::ENOEXEC);
    let script = directory.path().join("script");
    write_script(&script, &format!("#!{}\n", secret.display()));
    let object = format!("{} of {}", shown(&secret), shown(&script));
    fails(&script, "find interpreter", &object, libc::ENOEXEC);
}

/// Puts something at a path that cannot be read as a file of its kind, one after the other, and tells what
/// reading it says, as data and as a program.
fn in_place_of(path: &Path, mut check: impl FnMut(i32, i32)) {
    let whole = fs::read(path).unwrap();
    let file = |content: &[u8]| fs::write(path, content).unwrap();
    let remove = || fs::remove_file(path).unwrap();
    remove();
    fs::create_dir(path).unwrap();
    check(libc::EISDIR, libc::EACCES);
    fs::remove_dir(path).unwrap();
    nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    check(libc::EACCES, libc::EACCES);
    remove();
    symlink(path, path).unwrap();
    check(libc::ELOOP, libc::ELOOP);
    remove();
    file(&whole[..100]);
    check(libc::ENOEXEC, libc::ENOEXEC);
    // At its address 0 there is nothing.
    mount("/proc/self/mem", path, "", libc::MS_BIND);
    check(libc::EIO, libc::EIO);
    let name = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
    // SAFETY: the path ends in NUL.
    assert_eq!(unsafe { libc::umount2(name.as_ptr(), 0) }, 0);
    file(&whole);
    fs::set_permissions(path, fs::Permissions::from_mode(0o000)).unwrap();
    powerless(|| check(libc::EACCES, libc::EACCES));
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Without the capabilities by which every file can be read.
fn powerless(work: impl FnOnce()) {
    let before = caps::read(None, caps::CapSet::Effective).unwrap();
    caps::clear(None, caps::CapSet::Effective).unwrap();
    work();
    caps::set(None, caps::CapSet::Effective, &before).unwrap();
}

fn library_that_cannot_be_read() {
    let directory = open_directory();
    own_mounts();
    let program = chain(directory.path(), "-Wl,--disable-new-dtags");
    let at = |name: &str| directory.path().join("lib").join(name);
    let (library, far) = (at("libword.so"), at("libfar.so"));
    let object = format!(
        "{} as \"libword.so\" of {}, which {} needs",
        shown(&library),
        shown(&far),
        shown(&program)
    );
    in_place_of(&library, |errno, _| fails(&program, "read library", &object, errno));
    assert_eq!(alone(&program), "hello\n");
    // One that is found elsewhere is no error: the loader goes on.
    fs::create_dir(at("other")).unwrap();
    fs::rename(&library, at("other/libword.so")).unwrap();
    fs::create_dir(&library).unwrap();
    let rpath = format!("-Wl,-rpath,{0}:{0}/other", directory.path().join("lib").display());
    let options = [far.to_str().unwrap(), &rpath, "-Wl,--disable-new-dtags"];
    cc(FAR_PROGRAM, &program, &[&options[..], &["-Wl,--allow-shlib-undefined"]].concat());
    empty().program(&program).plan().unwrap();
}

fn directory_that_cannot_be_searched() {
    let directory = open_directory();
    let program = chain(directory.path(), "-Wl,--disable-new-dtags");
    let libraries = directory.path().join("lib");
    fs::set_permissions(&libraries, fs::Permissions::from_mode(0o000)).unwrap();
    let library = shown(&libraries.join("libfar.so"));
    let object = format!("{library} as \"libfar.so\" of {}", shown(&program));
    powerless(|| fails(&program, "read library", &object, libc::EACCES));
    fs::set_permissions(&libraries, fs::Permissions::from_mode(0o755)).unwrap();
}

fn interpreter_that_cannot_be_read() {
    let directory = open_directory();
    own_mounts();
    let loader = directory.path().join("loader");
    fs::copy(c_library().0, &loader).unwrap();
    let option = format!("-Wl,--dynamic-linker={}", loader.display());
    let program = with_library(directory.path(), &[&option, "-Wl,-rpath,$ORIGIN/../lib"]);
    let object = format!("{} of {}", shown(&loader), shown(&program));
    in_place_of(&loader, |_, errno| fails(&program, "find interpreter", &object, errno));
    assert_eq!(alone(&program), "hello\n");
}

fn env_script_that_cannot_be_looked_for() {
    let directory = open_directory();
    let (tools, path) = (directory.path().join("tools"), directory.path().join("script"));
    fs::create_dir(&tools).unwrap();
    symlink("/bin/sh", tools.join("tool-sh")).unwrap();
    write_script(&path, "#!/usr/bin/env tool-sh\n");
    fs::set_permissions(&tools, fs::Permissions::from_mode(0o000)).unwrap();
    powerless(|| {
        let command = empty().program(&path).command(&path).env("PATH", &tools);
        let error = command.plan().unwrap_err();
        let tool = shown(&tools.join("tool-sh"));
        let object = format!("{tool} as \"tool-sh\" of {}, in PATH", shown(&path));
        assert_eq!(error.failed().unwrap().object, object);
        assert_eq!(error.raw_os_error(), Some(libc::EACCES));
    });
    fs::set_permissions(&tools, fs::Permissions::from_mode(0o755)).unwrap();
}

/// The loader does without its list; the library that only the list knows is not there, and why is told.
fn list_that_cannot_be_read() {
    let directory = open_directory();
    let at = |name: &str| directory.path().join(name);
    let library = at("lib/libword.so.1");
    cc(LIBRARY, &library, &["-shared", "-fPIC", "-Wl,-soname,libword.so.1"]);
    cc(PROGRAM, &at("hello"), &[library.to_str().unwrap()]);
    let needed = format!("\"libword.so.1\" of {}", shown(&at("hello")));
    fs::create_dir(at("etc")).unwrap();
    fs::copy("/etc/ld.so.cache", at("etc/ld.so.cache")).unwrap();
    own_mounts();
    mount(at("etc").to_str().unwrap(), Path::new("/etc"), "", libc::MS_BIND);
    let list = Path::new("/etc/ld.so.cache");
    let object = format!("{} for {needed}", shown(list));
    in_place_of(list, |errno, _| {
        // One that is cut off is read, and says nothing: so it is for the loader.
        if errno == libc::ENOEXEC {
            fails(&at("hello"), "find library", &needed, libc::ENOENT);
        } else {
            fails(&at("hello"), "read list of libraries", &object, errno);
        }
        // Who needs none of it does without.
        empty().program("/bin/sh").plan().unwrap();
    });
    fails(&at("hello"), "find library", &needed, libc::ENOENT);
}

fn library_by_path() {
    let directory = open_directory();
    // Without a name of its own it is known by the path it was linked by.
    let program = with_library(directory.path(), &[]);
    assert_eq!(alone(&program), "hello\n");
}

fn wrong_library_is_passed_over() {
    let directory = open_directory();
    let program = chain(directory.path(), "-Wl,--disable-new-dtags");
    let decoy = directory.path().join("decoy");
    fs::create_dir(&decoy).unwrap();
    let rpath =
        format!("-Wl,-rpath,{}:{}", decoy.display(), directory.path().join("lib").display());
    let libraries = directory.path().join("lib");
    let options = [
        libraries.join("libfar.so").to_str().unwrap().to_owned(),
        rpath,
        "-Wl,--disable-new-dtags".to_owned(),
        "-Wl,--allow-shlib-undefined".to_owned(),
    ];
    cc(FAR_PROGRAM, &program, &options.each_ref().map(String::as_str));
    // One for another machine: the loader goes on.
    let mut foreign = fs::read(libraries.join("libword.so")).unwrap();
    foreign[18] ^= 0xff;
    fs::write(decoy.join("libword.so"), foreign).unwrap();
    assert_eq!(alone(&program), "hello\n");
}

/// The way to a library leads through a directory that has nothing else in it.
fn through_a_directory() {
    let directory = open_directory();
    let empty = directory.path().join("empty");
    let rpath = format!("-Wl,-rpath,{}/../lib", empty.display());
    fs::create_dir(&empty).unwrap();
    cc(
        LIBRARY,
        &directory.path().join("lib/libword.so"),
        &["-shared", "-fPIC", "-Wl,-soname,libword.so"],
    );
    let program = directory.path().join("bin/hello");
    let library = directory.path().join("lib/libword.so");
    cc(PROGRAM, &program, &[library.to_str().unwrap(), &rpath]);
    assert_eq!(alone(&program), "hello\n");
}

/// The loader takes the best that is there: the same inside as outside.
fn variants_for_the_processor() {
    let directory = open_directory();
    let at = |name: &str| directory.path().join(name);
    let shared = ["-shared", "-fPIC", "-Wl,-soname,libword.so"];
    cc(LIBRARY, &at("lib/libword.so"), &shared);
    for level in ["x86-64-v2", "x86-64-v3", "x86-64-v4"] {
        cc(OTHER, &at("lib/glibc-hwcaps").join(level).join("libword.so"), &shared);
    }
    let library = at("lib/libword.so");
    let options = [library.to_str().unwrap(), "-Wl,-rpath,$ORIGIN/../lib"];
    cc(PROGRAM, &at("bin/hello"), &options);
    let outside = Command::new(at("bin/hello")).output().unwrap().stdout;
    assert_eq!(alone(&at("bin/hello")).into_bytes(), outside);
}

fn library_of_the_cache() {
    let directory = open_directory();
    let at = |name: &str| directory.path().join(name);
    let library = at("lib/libword.so.1");
    cc(LIBRARY, &library, &["-shared", "-fPIC", "-Wl,-soname,libword.so.1"]);
    cc(PROGRAM, &at("hello"), &[library.to_str().unwrap()]);
    fails(&at("hello"), "find library", &format!("\"libword.so.1\" of {}", shown(&at("hello"))), 2);
    fs::write(at("conf"), format!("{}\n", at("lib").display())).unwrap();
    run(Command::new("ldconfig").arg("-X").arg("-C").arg(at("cache")).arg("-f").arg(at("conf")));
    own_mounts();
    mount(at("cache").to_str().unwrap(), Path::new("/etc/ld.so.cache"), "", libc::MS_BIND);
    assert_eq!(alone(&at("hello")), "hello\n");
    // Only who needs the cache gets it.
    let plan = empty().program("/bin/sh").plan().unwrap().to_string();
    assert!(!plan.contains("ld.so.cache"), "{plan}");
}

fn musl() {
    let directory = open_directory();
    let (library, program) =
        (directory.path().join("lib/libword.so"), directory.path().join("hello"));
    compile("musl-gcc", LIBRARY, &library, &["-shared", "-fPIC", "-Wl,-soname,libword.so"]);
    let options = [library.to_str().unwrap(), "-Wl,-rpath,$ORIGIN/lib"];
    compile("musl-gcc", PROGRAM, &program, &options);
    assert_eq!(alone(&program), "hello\n");
}

// ---- a host whose programs are in a store ------------------------------------------------------

/// The files of this process's own C library: the loader and the library itself.
fn c_library() -> (PathBuf, PathBuf) {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let find = |start: &str| {
        let paths = maps.lines().filter_map(|line| line.split_whitespace().nth(5));
        let mut paths = paths.map(PathBuf::from);
        let is_it = |path: &PathBuf| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(start))
        };
        paths.find(is_it).unwrap_or_else(|| panic!("no {start} in {maps}"))
    };
    (find("ld-"), find("libc.so"))
}

/// Makes a host of which only /nix/store has programs, and moves this process onto it.
fn become_a_store_only_host() {
    const LIBC: &str = "/nix/store/aaaa-libc/lib";
    let directory = open_directory();
    // Not removed by the test: it is the root afterwards, and the harness's to remove.
    let host = directory.keep();
    let store = |name: &str| host.join("nix/store").join(name);
    for name in ["proc", "dev", "tmp", "usr/bin", "run/current-system/sw/bin", "etc"] {
        fs::create_dir_all(host.join(name)).unwrap();
    }
    fs::set_permissions(host.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
    let (loader, libc) = c_library();
    fs::create_dir_all(store("aaaa-libc/lib")).unwrap();
    fs::copy(&loader, store("aaaa-libc/lib/ld.so")).unwrap();
    fs::copy(&libc, store("aaaa-libc/lib/libc.so.6")).unwrap();
    let rpath = format!("-Wl,-rpath,{LIBC}");
    let library = store("bbbb-word/lib/libword.so.1.0");
    cc(LIBRARY, &library, &["-shared", "-fPIC", "-Wl,-soname,libword.so.1", &rpath]);
    symlink("libword.so.1.0", store("bbbb-word/lib/libword.so.1")).unwrap();
    let program = store("cccc-hello/bin/hello");
    let options = [
        library.to_str().unwrap(),
        &format!("-Wl,--dynamic-linker={LIBC}/ld.so"),
        &format!("-Wl,-rpath,{LIBC}:$ORIGIN/../libraries"),
    ];
    cc(PROGRAM, &program, &options);
    symlink("../bbbb-word/lib", store("cccc-hello/libraries")).unwrap();
    symlink("/nix/store/cccc-hello/bin/hello", host.join("run/current-system/sw/bin/hello"))
        .unwrap();
    if common::has("busybox") {
        fs::create_dir_all(store("dddd-busybox/bin")).unwrap();
        fs::copy("/usr/bin/busybox", store("dddd-busybox/bin/busybox")).unwrap();
        for name in ["sh", "env"] {
            symlink("busybox", store("dddd-busybox/bin").join(name)).unwrap();
        }
        symlink("/nix/store/dddd-busybox/bin/env", host.join("usr/bin/env")).unwrap();
        let sh = host.join("run/current-system/sw/bin/sh");
        symlink("/nix/store/dddd-busybox/bin/sh", sh).unwrap();
    }
    fs::create_dir_all(store("eeee-script/bin")).unwrap();
    write_script(
        &store("eeee-script/bin/plain"),
        "#!/nix/store/dddd-busybox/bin/sh -e\necho plain\n",
    );
    write_script(&store("eeee-script/bin/by-env"), "#!/usr/bin/env sh\necho by env\n");
    own_mounts();
    mount(host.to_str().unwrap(), &host, "", libc::MS_BIND | libc::MS_REC);
    for name in ["proc", "dev"] {
        mount(&format!("/{name}"), &host.join(name), "", libc::MS_BIND | libc::MS_REC);
    }
    std::env::set_current_dir(&host).unwrap();
    nix::unistd::pivot_root(".", ".").unwrap();
    // SAFETY: the path ends in NUL.
    let detached = unsafe { libc::umount2(c".".as_ptr(), libc::MNT_DETACH) };
    assert_eq!(detached, 0, "{}", std::io::Error::last_os_error());
    std::env::set_current_dir("/").unwrap();
    // SAFETY: this process has one thread.
    unsafe { std::env::set_var("TMPDIR", "/tmp") };
    assert!(is_absent(Path::new("/bin")) && is_absent(Path::new("/lib64")));
}

fn store_only_host() {
    become_a_store_only_host();
    let path = Path::new("/run/current-system/sw/bin/hello");
    assert_eq!(Command::new(path).output().unwrap().stdout, b"hello\n");
    assert_eq!(alone(path), "hello\n");
    // The default root too has nothing that it would need.
    assert!(Sandbox::new().command(path).spawn().is_err());
    assert_eq!(succeed(Sandbox::new().program(path).command(path)), "hello\n");
    let plan = empty().program(path).plan().unwrap().to_string();
    let bound = plan.lines().filter(|line| line.contains("bind \"/nix")).count();
    // The program, its loader and two libraries.
    assert_eq!(bound, 4, "{plan}");
}

fn store_only_host_scripts() {
    if !common::has("busybox") {
        // Installed with the tests' packages; without it there is no shell for the store.
        panic!("needs busybox");
    }
    become_a_store_only_host();
    assert_eq!(alone(Path::new("/nix/store/eeee-script/bin/plain")), "plain\n");
    let path = Path::new("/nix/store/eeee-script/bin/by-env");
    // SAFETY: this process has one thread.
    unsafe { std::env::set_var("PATH", "/run/current-system/sw/bin") };
    let sandbox = empty().program(path);
    let hint = Hint::OutsideOfPath("/run/current-system/sw/bin/sh".into());
    assert_eq!(error_of(&sandbox).hint(), Some(&hint));
    let command = sandbox.command(path).env("PATH", "/run/current-system/sw/bin");
    assert_eq!(succeed(command), "by env\n");
}

// ---- a tool chain in a home directory ----------------------------------------------------------

fn tool_chain_in_a_home_directory() {
    let toolchain = toolchain().unwrap();
    let rustc = toolchain.join("bin/rustc");
    let outside = Command::new(&rustc).arg("--version").output().unwrap().stdout;
    let version = succeed(empty().program(&rustc).command(&rustc).arg("--version"));
    assert_eq!(version.into_bytes(), outside);
    // Nothing else of the tool chain is there.
    let rustdoc = toolchain.join("bin/rustdoc");
    assert!(empty().program(&rustc).command(rustdoc).spawn().is_err());

    // To compile, it also needs its own libraries for programs, and the host's linker.
    let sandbox = Sandbox::new()
        .program(&rustc)
        .bind_same(toolchain.join("lib/rustlib"))
        .file("/build/hello.rs", "fn main() { println!(\"compiled inside\"); }");
    let script = r#""$0" -o hello /build/hello.rs && ./hello"#;
    let output = succeed(sandbox.command("sh").args(["-c", script]).arg(&rustc));
    assert_eq!(output, "compiled inside\n");
}
