//! The wall on the program's own credentials: what it refuses that nothing else would.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::exit,
    reason = "a test fails by panicking"
)]

mod common;
#[path = "common/inside.rs"]
mod inside;

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{ErrorKind, IoSlice, IoSliceMut};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::process::exit;

use common::Needs;
use common::ways::Ways;
use inside::{myself, open_directory, role, sh, sh_fails, succeed};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg,
    sendmsg, socketpair,
};
use stockade::{
    Capabilities, Capability, Error, Feature, Landlock, Namespaces, Network, Outcome, Resource,
    Sandbox, Stdio,
};

tests_in_all_ways! {
    Needs::Landlock(2) => [
        a_received_directory_is_not_written, a_file_for_reading_is_not_opened_for_writing,
        given_descriptors_are_of_use, writable_places_are_writable, few_open_files,
    ];
    Needs::Landlock(6) => [abstract_sockets_of_the_host];
    Needs::UnprivilegedAndLandlock(6) => [signals_to_the_host];
    Needs::Landlock(7) => [logging_can_be_chosen];
    Needs::Nothing => [what_is_missing_is_told];
    Needs::Landlock(4) => [ports_of_its_own, no_ports, told_in_the_plan];
}

fn without() -> Sandbox {
    Sandbox::new().landlock(Landlock::none())
}

/// A directory of the host's that everybody may write to.
fn public() -> tempfile::TempDir {
    let directory = open_directory();
    fs::set_permissions(directory.path(), Permissions::from_mode(0o777)).unwrap();
    directory
}

/// Nothing but the wall stands between a program and a directory that it got hold of.
fn a_received_directory_is_not_written() {
    if role().is_some() {
        let mut space = nix::cmsg_space!(i32);
        let mut byte = [0];
        let mut into = [IoSliceMut::new(&mut byte)];
        let got =
            recvmsg::<()>(3, &mut into, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC).unwrap();
        let Some(ControlMessageOwned::ScmRights(fds)) = got.cmsgs().unwrap().next() else {
            panic!("no descriptor");
        };
        let place = format!("/proc/self/fd/{}/", fds[0]);
        assert_eq!(fs::read(place.clone() + "old").unwrap(), b"kept");
        let errors = [
            fs::write(place.clone() + "new", "x"),
            fs::write(place.clone() + "old", "x"),
            fs::create_dir(place.clone() + "directory"),
            fs::remove_file(place.clone() + "old"),
        ]
        .map(|result| result.err().map_or(0, |error| error.raw_os_error().unwrap()));
        print!("{errors:?}");
        exit(0);
    }
    for (sandbox, expected) in [(without(), [0; 4]), (Sandbox::new(), [libc::EACCES; 4])] {
        let directory = public();
        fs::write(directory.path().join("old"), "kept").unwrap();
        fs::set_permissions(directory.path().join("old"), Permissions::from_mode(0o666)).unwrap();
        let kind = (AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC);
        let (ours, theirs) = socketpair(kind.0, kind.1, None, kind.2).unwrap();
        let opened = File::open(directory.path()).unwrap();
        let rights = [opened.as_raw_fd()];
        let rights = [ControlMessage::ScmRights(&rights)];
        let flags = MsgFlags::empty();
        sendmsg::<()>(ours.as_raw_fd(), &[IoSlice::new(b"x")], &rights, flags, None).unwrap();
        let test = "a_received_directory_is_not_written";
        let got = succeed(myself(&sandbox, test, "inside").fd(3, theirs));
        assert_eq!(got, format!("{expected:?}"));
        let untouched = fs::read(directory.path().join("old")).ok() == Some(b"kept".to_vec());
        assert_eq!(untouched, expected != [0; 4]);
    }
}

fn a_file_for_reading_is_not_opened_for_writing() {
    let directory = public();
    let path = directory.path().join("file");
    for (sandbox, refused) in [(without(), false), (Sandbox::new(), true)] {
        fs::write(&path, "kept\n").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
        let script = "cat </dev/stdin; (echo changed >/proc/self/fd/0) || true";
        let command = sandbox.way_to("sh").args(["-c", script]);
        let shown = succeed(command.stdin(Stdio::from(File::open(&path).unwrap())));
        assert_eq!(shown, "kept\n");
        let now = if refused { "kept\n" } else { "changed\n" };
        assert_eq!(fs::read_to_string(&path).unwrap(), now);
    }
}

/// By their names in /proc/self/fd too.
fn given_descriptors_are_of_use() {
    let directory = public();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o666)).unwrap();
    let opened = OpenOptions::new().append(true).open(&file).unwrap();
    let memory =
        nix::sys::memfd::memfd_create("memory", nix::sys::memfd::MFdFlags::empty()).unwrap();
    let script = "echo five >/proc/self/fd/5; echo one >>/proc/self/fd/3; echo two >>/dev/fd/3; mkdir /proc/self/fd/4/made; \
                  echo three >/proc/self/fd/4/made/file; mv /proc/self/fd/4/made/file \
                  /proc/self/fd/4/moved; echo to a pipe >/proc/self/fd/1";
    let command = Sandbox::new()
        .way_to("sh")
        .args(["-ec", script])
        .fd(3, OwnedFd::from(opened))
        .fd(5, memory)
        .fd(4, OwnedFd::from(File::open(directory.path()).unwrap()));
    let output = command.output().unwrap();
    if common::ways::is_session() {
        // All its commands are bound by the same rules.
        assert_eq!(output.outcome, Outcome::Exited(2), "{output:?}");
        return;
    }
    assert_eq!(output.outcome, Outcome::Exited(0), "{output:?}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "one\ntwo\n");
    assert_eq!(fs::read_to_string(directory.path().join("moved")).unwrap(), "three\n");
    assert!(directory.path().join("made").is_dir());
}

fn writable_places_are_writable() {
    let directory = public();
    let sandbox = Sandbox::new()
        .bind_rw(directory.path(), "/data")
        .bind_ro(directory.path(), "/same")
        .tmpfs("/scratch");
    let everything = "mkdir a b; echo x >a/f; mv a/f b/g; ln b/g a/h; ln -s g b/s; mkfifo p; \
                      : >b/g; rm -r a b p";
    for place in ["/tmp", "~", "/dev/shm", "/scratch", "/data"] {
        sh(&sandbox, &format!("set -e; cd {place}; {everything}"));
    }
    sh(
        &sandbox,
        "echo x >/dev/null; echo 500 >/proc/self/oom_score_adj; echo name >/proc/self/comm",
    );
    sh_fails(&sandbox, "touch /same/file", "Read-only file system");
}

/// The rules need descriptors, and the program's limit is not theirs.
fn few_open_files() {
    let sandbox = Sandbox::new().rlimit(Resource::OpenFiles, 4);
    assert!(sandbox.way_to("/bin/true").status().unwrap().outcome.is_success());
    assert_eq!(sh(&sandbox, "ulimit -n"), "4\n");
}

fn ports_of_its_own() {
    if role().is_some() {
        let allowed = TcpListener::bind("127.0.0.1:8080").unwrap();
        let port = allowed.local_addr().unwrap().port();
        TcpStream::connect(("127.0.0.1", port)).unwrap();
        let bound = TcpListener::bind("127.0.0.1:8081").unwrap_err().kind();
        let connected = TcpStream::connect("127.0.0.1:8081").unwrap_err().kind();
        print!("{bound} {connected}");
        exit(0);
    }
    let sandbox = |landlock: Landlock| {
        let command = myself(&Sandbox::new().landlock(landlock), "ports_of_its_own", "inside");
        command.output().unwrap()
    };
    let refused = ErrorKind::PermissionDenied;
    let output = sandbox(Landlock::none().bind_tcp([80, 8080]).connect_tcp([8080]));
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{refused} {refused}"));
    // Only what is named is restricted; then it is that nobody listens there.
    let output = sandbox(Landlock::default().bind_tcp([8080]));
    let nobody = ErrorKind::ConnectionRefused;
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("{refused} {nobody}"));
    assert_ne!(sandbox(Landlock::default()).outcome, Outcome::Exited(0), "8081 was not bound");
}

fn no_ports() {
    if role().is_some() {
        print!("{}", TcpListener::bind("127.0.0.1:0").is_ok());
        exit(0);
    }
    for (landlock, expected) in [
        (Landlock::default(), "true"),
        (Landlock::default().bind_tcp([0]), "true"),
        (Landlock::default().bind_tcp([]), "false"),
    ] {
        let sandbox = Sandbox::new().landlock(landlock);
        assert_eq!(succeed(myself(&sandbox, "no_ports", "inside")), expected);
    }
}

fn abstract_sockets_of_the_host() {
    let address = |name: &str| SocketAddr::from_abstract_name(name).unwrap();
    if let Some(name) = role() {
        // Its own are its own.
        let _listening = UnixListener::bind_addr(&address("own")).unwrap();
        UnixStream::connect_addr(&address("own")).unwrap();
        let result = UnixStream::connect_addr(&address(&name));
        print!("{:?}", result.err().and_then(|error| error.raw_os_error()));
        exit(0);
    }
    let name = format!("stockade-test-{}", std::process::id());
    let _listening = UnixListener::bind_addr(&address(&name)).unwrap();
    let test = "abstract_sockets_of_the_host";
    let host = |sandbox: Sandbox| sandbox.network(Network::Host);
    assert_eq!(succeed(myself(&host(without()), test, &name)), "None");
    let refused = succeed(myself(&host(Sandbox::new()), test, &name));
    assert_eq!(refused, format!("Some({})", libc::EPERM));
}

fn signals_to_the_host() {
    let shared = |sandbox: Sandbox| {
        sandbox.namespaces(Namespaces::all() - Namespaces::PID).without_atomic_end()
    };
    for (sandbox, dies) in [(Sandbox::new(), false), (without(), true)] {
        let mut victim = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let script = format!("sleep 1000 & kill -9 $! || exit 9; kill -9 {}", victim.id());
        let output = inside::shell(&shared(sandbox), &script);
        assert_eq!(output.outcome.is_success(), dies, "{output:?}");
        assert_ne!(output.outcome, Outcome::Exited(9), "its own child");
        if !dies {
            assert!(victim.try_wait().unwrap().is_none());
            victim.kill().unwrap();
        }
        victim.wait().unwrap();
    }
}

fn logging_can_be_chosen() {
    let landlock = Landlock::default().log_denials(true).log_nested(false);
    let sandbox = Sandbox::new().landlock(landlock);
    assert!(sandbox.way_to("/bin/true").status().unwrap().outcome.is_success());
}

fn what_is_missing_is_told() {
    let missing = |sandbox: Sandbox| {
        let child = sandbox.way_to("/bin/true").spawn().unwrap();
        child.missing().contains(&Feature::Landlock)
    };
    assert!(missing(Sandbox::new().allow_nesting()));
    assert!(missing(Sandbox::new().allow_new_privileges()));
    let may_mount = Capabilities::keep([Capability::SYS_ADMIN]);
    assert!(missing(Sandbox::new().capabilities(may_mount)));
    assert!(!missing(without()), "nobody asked for it");
    let required = Sandbox::new().allow_nesting().require(Feature::Landlock);
    let error = required.way_to("/bin/true").spawn().unwrap_err();
    let Error::Unsupported { feature: Feature::Landlock, reason } = &error else {
        panic!("{error}");
    };
    assert!(reason.contains("mount"), "{reason}");
}

fn told_in_the_plan() {
    let landlock = Landlock::none().bind_tcp([80, 443]).connect_tcp([]);
    let with = Sandbox::new().landlock(landlock).plan().unwrap();
    for part in ["binding TCP ports to 80, 443", "connecting to TCP ports to none"] {
        assert!(with.to_string().contains(part), "{with}");
    }
    let without = without().plan().unwrap();
    assert!(!without.to_string().contains("Landlock"), "{without}");
    assert!(with != without && without != Sandbox::new().plan().unwrap());
}
