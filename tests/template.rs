//! Sandboxes that are copies of what was made once have nothing in common that one of them can change.
#![allow(
    clippy::exit,
    clippy::incompatible_msrv,
    clippy::cast_possible_truncation,
    reason = "a test process, built by a current toolchain"
)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails so")]

mod common;
#[path = "common/inside.rs"]
mod inside;
#[path = "common/life.rs"]
mod life;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{Needs, moment};
use inside::{is_root, role, succeed};
use stockade::{
    Bind, Capability, Command, Data, Namespaces, Outcome, Overlay, Prepared, Proc, Rootfs, Rule,
    Sandbox, Seccomp, Stdio, Tmpfs,
};

tests! {
    Needs::Nothing => [
        what_can_be_copied,
        each_has_its_own,
        copies_are_as_those_that_are_made_alone,
        nothing_is_changed_for_the_next,
        binds_where_each_has_its_own,
        what_leads_elsewhere_is_not_lost,
        limits_of_a_user_are_each_ones,
        keyrings_are_each_ones,
        a_template_that_ends,
        nothing_is_left,
        a_template_is_there_until_its_copies_have_ended,
        copies_whose_template_was_killed,
        a_killed_caller_leaves_nothing,
        many_threads_at_once,
        outputs_of_a_copy,
        a_network_is_used_again,
        a_forked_copy_has_its_own,
        who_keeps_networks_is_the_callers,
        networks_in_a_forked_copy,
        no_power_over_a_network_that_is_used_again,
        what_is_added_is_as_in_one_that_is_made_alone,
        what_is_added_to_an_image,
        what_cannot_be_added_to_a_copy,
        an_added_source_is_as_it_is_now,
        additions_of_many_threads,
        additions_without_descriptors_left,
        the_environment_is_one_commands,
    ];
    Needs::Program("python3") => [
        a_network_that_others_may_join,
        a_network_that_was_used_is_thrown_away,
        a_socket_that_got_out_keeps_its_network,
    ];
    Needs::SocketDiagAndProgram("python3") => [sockets_of_the_one_before_are_not_told];
    Needs::Groups => [limits_hold_in_a_copy, limits_are_added_to_a_copy];
}

const MIB: u64 = 1 << 20;

/// Of which copies are made.
fn template(sandbox: &Sandbox) -> Prepared {
    let prepared = sandbox.prepare().unwrap();
    assert!(prepared.has_template());
    prepared
}

fn sh(prepared: &Prepared, script: &str) -> String {
    succeed(prepared.command("sh").args(["-c", script]))
}

/// A directory that anybody may read, with a file in it.
fn with_file() -> tempfile::TempDir {
    let directory = inside::open_directory();
    fs::write(directory.path().join("file"), "content\n").unwrap();
    directory
}

fn what_can_be_copied() {
    let new = Sandbox::new;
    let directory = with_file();
    for sandbox in [
        new(),
        new().proc(Proc::Full),
        new().proc(Proc::None),
        new().rootfs(Rootfs::empty()),
        new().capabilities([Capability::NET_BIND_SERVICE]),
        new().bind_ro(directory.path(), "/home/user/in"),
        new().network(stockade::Network::Host),
        new().hide_host_paths(true),
    ] {
        assert!(sandbox.prepare().unwrap().has_template());
    }
    let overlay = Overlay::new([directory.path()]);
    for sandbox in [
        new().allow_nesting(),
        new().overlay("/data", overlay),
        new().capabilities([Capability::SYS_ADMIN]),
        new().namespaces(Namespaces::all() - Namespaces::MOUNT),
        new().init(false),
        // Found when the template is made.
        new().bind_ro("/no/such/source", "/in"),
        new().mount_tmpfs(Tmpfs::new("/usr")),
    ] {
        assert!(!sandbox.prepare().unwrap().has_template());
    }
}

/// Prints what is one's own, and waits for a line.
const OWN: &str = "readlink /proc/self/ns/* | sort -u; stat -c '%n %d' /proc /tmp /dev/shm /home/user \
    /dev/pts /scratch; stat -c '%d' /; ls /tmp; echo x >/tmp/$1; echo; read end; ls /tmp";

fn each_has_its_own() {
    let prepared = template(&Sandbox::new().tmpfs("/scratch"));
    let start = |name: &str| {
        let command = prepared.command("sh").args(["-c", OWN, "sh", name]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            output.read_line(&mut line).unwrap();
            match line.trim() {
                "" => break,
                text => lines.push(text.to_owned()),
            }
        }
        (child, output, lines)
    };
    let mut both = ["one", "two"].map(start);
    let [one, two] = &both;
    // Eight namespaces, six places, and the root.
    assert_eq!(one.2.len(), 15, "{:?}", one.2);
    for (one, two) in one.2.iter().zip(&two.2).take(14) {
        assert_ne!(one, two);
    }
    // Which is one for both, and nobody's to change.
    assert_eq!(one.2[14], two.2[14]);
    for ((child, output, _), name) in both.iter_mut().zip(["one", "two"]) {
        child.stdin.take().unwrap().write_all(b"\n").unwrap();
        let mut rest = String::new();
        output.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, format!("{name}\n"));
        assert_eq!(child.wait().unwrap().outcome, Outcome::Exited(0));
    }
}

/// What is mounted where, how, and of which kind.
fn mounts(text: &str) -> BTreeSet<String> {
    let mount = |line: &str| {
        let fields: Vec<_> = line.split(' ').collect();
        let kind = fields.iter().position(|field| *field == "-").unwrap() + 1;
        format!("{} {} {}", fields[4], fields[5], fields[kind])
    };
    let found: Vec<_> = text.lines().map(mount).collect();
    let set: BTreeSet<_> = found.iter().cloned().collect();
    // Nothing is covered.
    assert_eq!(set.len(), found.len(), "{found:?}");
    set
}

fn copies_are_as_those_that_are_made_alone() {
    let directory = with_file();
    let new = Sandbox::new;
    let data = Data::file("/home/user/data", "x").mode(0o600);
    for sandbox in [
        new(),
        new().proc(Proc::Full).sysfs(),
        new().rootfs(Rootfs::empty()).bind_same("/usr").bind_same("/lib64").bind_same("/lib"),
        new().bind_ro(directory.path(), "/home/user/in").bind_rw(directory.path(), "/out"),
        new().tmpfs("/tmp/deep/er").tmpfs("/scratch/deep").data(data),
        new().mqueue(),
    ] {
        let prepared = sandbox.prepare().unwrap();
        assert!(prepared.has_template());
        let script = "cat /proc/self/mountinfo; echo; ls -lan --time-style=+ / /dev /etc /home/user /tmp; id; umask
            cat /proc/self/uid_map /proc/self/gid_map; grep -E '^(Cap|NoNew|Seccomp|Groups)' /proc/self/status";
        assert_same(&sh(&prepared, script), &inside::sh(&sandbox, script));
    }
}

/// Mounts, and after an empty line anything else.
fn assert_same(copy: &str, alone: &str) {
    let [copy, alone] = [copy, alone].map(|text| text.split_once("\n\n").unwrap());
    assert_eq!(mounts(copy.0), mounts(alone.0));
    // Directories in memory count what is in them, and each has its own map.
    let rest = |text: &str| -> Vec<String> {
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        // That of processes counts them, and queues belong to who has an id when they are made.
        let kept = text.lines().filter(|line| {
            !line.starts_with("total") && !line.ends_with(" proc") && !line.ends_with(" mqueue")
        });
        kept.map(|line| match words(line) {
            words if words.len() == 3 && line.starts_with(' ') => words[0].clone(),
            words => words.join(" "),
        })
        .collect()
    };
    assert_eq!(rest(copy.1), rest(alone.1));
}

fn nothing_is_changed_for_the_next() {
    let capabilities = [
        Capability::DAC_OVERRIDE,
        Capability::FOWNER,
        Capability::CHOWN,
        Capability::SYS_CHROOT,
        Capability::MKNOD,
    ];
    for sandbox in [Sandbox::new(), Sandbox::new().capabilities(capabilities)] {
        let sandbox = sandbox.data(Data::file("/given", "as it was"));
        let prepared = template(&sandbox);
        let hostile = "for path in /x /etc/x /dev/x /usr/x /home/x; do touch $path && exit 7; done
            for path in /given /etc/passwd; do echo x >>$path && exit 8; chmod 777 $path && exit 9; done
            rm -f /given && exit 10; mv /etc /cte && exit 11; rmdir /home && exit 12
            for place in / /usr /etc/passwd /proc /dev/null; do
                umount $place && exit 13; mount -o remount,rw $place && exit 14
            done
            touch -d 1970-01-01 /given && exit 15; ln /given /other && exit 16; :";
        sh(&prepared, &format!("exec 2>/dev/null\n{hostile}"));
        let next = sh(&prepared, "cat /given; stat -c %a /given; ls /");
        let fresh = sh(&template(&sandbox), "cat /given; stat -c %a /given; ls /");
        assert_eq!(next, fresh);
    }
}

fn binds_where_each_has_its_own() {
    let (read, written) = (with_file(), tempfile::tempdir().unwrap());
    let sandbox = Sandbox::new()
        .bind_ro(read.path(), "/home/user/in")
        .bind_ro(read.path().join("file"), "/tmp/deep/file")
        .bind_rw(written.path(), "/tmp/out")
        .data(Data::file("/tmp/data", "data\n"));
    let prepared = template(&sandbox);
    for round in 0..3 {
        let script = format!(
            "cat ~/in/file /tmp/deep/file /tmp/data; ls /tmp; touch /tmp/out/{round}; touch /tmp/mine
            touch ~/in/x 2>/dev/null; echo $?"
        );
        let found = sh(&prepared, &script);
        assert_eq!(found, "content\ncontent\ndata\ndata\ndeep\nout\n1\n");
    }
    assert_eq!(fs::read_dir(written.path()).unwrap().count(), 3);
}

/// A place that is named through a link is below what each has of its own, although it does not look so.
fn what_leads_elsewhere_is_not_lost() {
    let directory = with_file();
    let linked = || Sandbox::new().data(Data::symlink("/tmp", "/alias"));
    let on_it = linked().bind_ro(directory.path(), "/alias");
    let below_it = linked().bind_ro(directory.path(), "/alias/in");
    let data_below_it = linked().data(Data::file("/alias/file", "content\n"));
    for (sandbox, path) in
        [(on_it, "/tmp/file"), (below_it, "/tmp/in/file"), (data_below_it, "/tmp/file")]
    {
        let alone = sandbox.command("cat").arg(path).output().unwrap();
        let prepared = sandbox.prepare().unwrap();
        assert!(!prepared.has_template());
        let copy = prepared.command("cat").arg(path).output().unwrap();
        assert_eq!((copy.stdout, copy.stderr), (alone.stdout, alone.stderr));
    }
    // With nothing below it, it is a link like any other.
    assert_eq!(sh(&template(&linked()), "touch /alias/x; ls /tmp"), "x\n");
}

/// How many inotify instances can be had, all of which are then kept until a line is read.
fn use_up_instances() {
    let mut instances = Vec::new();
    while let Ok(one) = nix::sys::inotify::Inotify::init(nix::sys::inotify::InitFlags::empty()) {
        instances.push(one);
        assert!(instances.len() < 1000, "no limit");
    }
    println!("{}", instances.len());
    std::io::stdin().read_line(&mut String::new()).unwrap();
}

fn limits_of_a_user_are_each_ones() {
    const TEST: &str = "limits_of_a_user_are_each_ones";
    if role().is_some() {
        return use_up_instances();
    }
    let binary = std::env::current_exe().unwrap();
    let prepared = template(&Sandbox::new().bind_ro(binary, "/probe"));
    let started: Vec<_> = (0..2)
        .map(|_| {
            let command = prepared.command("/probe").env("STOCKADE_TEST_CHILD", TEST);
            let command = command.env("STOCKADE_TEST_ROLE", "inside");
            let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
            let mut line = String::new();
            BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
            (child, line)
        })
        .collect();
    assert!(started.iter().all(|(_, line)| line == "32\n"), "{started:?}");
}

fn keyrings_are_each_ones() {
    const GET_ID: &str = "import ctypes;print(ctypes.CDLL(None).syscall(250,0,-3,0))";
    let allows = Seccomp::default().rule(Rule::new("keyctl"));
    let sandbox = Sandbox::new().seccomp(allows);
    let prepared = sandbox.prepare().unwrap();
    // As the program's id all of root's sandboxes would have one quota.
    assert_eq!(prepared.has_template(), !is_root());
    if !common::has("python3") {
        return;
    }
    let [one, two] = [(); 2].map(|()| succeed(prepared.command("python3").args(["-c", GET_ID])));
    assert_ne!(one, two);
    // By default nobody has an answer.
    let none = template(&Sandbox::new());
    assert_eq!(succeed(none.command("python3").args(["-c", GET_ID])), "-1\n");
}

/// The templates that are children of this process.
fn templates() -> Vec<i32> {
    life::children()
        .into_iter()
        .filter(|(_, name)| name == "stockade-tmpl")
        .map(|(pid, _)| pid)
        .collect()
}

fn a_template_that_ends() {
    let prepared = template(&Sandbox::new());
    let [pid] = templates()[..] else { panic!("{:?}", life::children()) };
    let mut running = prepared.command("sleep").arg("1000").spawn().unwrap();
    life::signal(u32::try_from(pid).unwrap(), libc::SIGKILL);
    while prepared.has_template() {
        std::thread::yield_now();
    }
    // What was copied goes on, and others are made without.
    assert_eq!(running.try_wait().unwrap(), None);
    assert_eq!(sh(&prepared, "echo x"), "x\n");
    running.kill().unwrap();
    running.wait().unwrap();
    drop((running, prepared));
    life::await_no_child("the template");
}

fn nothing_is_left() {
    drop(template(&Sandbox::new()));
    let before = life::descriptors();
    for _ in 0..common::rounds(10) {
        let prepared = template(&Sandbox::new());
        // What its documentation says.
        assert_eq!(life::descriptors() - before, 4);
        sh(&prepared, "true");
        prepared.command("/nowhere").spawn().unwrap_err();
        // And the copy that has ended last.
        assert_eq!(life::descriptors() - before, 5);
        let copy = prepared.clone();
        drop(prepared);
        sh(&copy, "true");
    }
    assert_eq!(life::descriptors(), before);
    life::await_no_child("a template");
}

/// It reaps them. Who reaps orphans here is this process, and does not.
fn a_template_is_there_until_its_copies_have_ended() {
    life::adopt_orphans();
    let start = |prepared: &Prepared| {
        let command = prepared.command("cat").stdin(Stdio::piped()).stdout(Stdio::piped());
        command.spawn().unwrap()
    };
    for _ in 0..common::rounds(10) {
        let prepared = template(&Sandbox::new());
        let mut ends = start(&prepared);
        let mut killed = start(&prepared);
        let dropped = start(&prepared);
        drop(prepared);
        assert_eq!(life::children_of(templates()[0]).len(), 3);
        writeln!(ends.stdin.as_mut().unwrap(), "goes on").unwrap();
        assert_eq!(ends.wait_with_output().unwrap().stdout, b"goes on\n");
        killed.kill().unwrap();
        assert_eq!(killed.wait().unwrap().outcome, Outcome::Killed);
        drop((killed, dropped));
        let mut left = life::children();
        left.retain(|(_, name)| name != "stockade-warden");
        assert!(left.is_empty(), "{left:?}");
    }
}

/// Then they have another parent.
fn copies_whose_template_was_killed() {
    let prepared = template(&Sandbox::new());
    let mut ends = prepared.command("cat").stdin(Stdio::piped()).spawn().unwrap();
    let mut killed = prepared.command("sleep").arg("1000").spawn().unwrap();
    life::signal(templates()[0].cast_unsigned(), libc::SIGKILL);
    while prepared.has_template() {}
    assert_eq!(ends.wait().unwrap().outcome, Outcome::Exited(0));
    killed.kill().unwrap();
    assert_eq!(killed.wait().unwrap().outcome, Outcome::Killed);
}

fn a_killed_caller_leaves_nothing() {
    if role().is_some() {
        let prepared = template(&Sandbox::new());
        let sleep = |_| prepared.command("sleep").arg("1000").spawn().unwrap();
        let children: Vec<_> = (0..3).map(sleep).collect();
        println!("{}", templates().len());
        std::io::stdin().read_line(&mut String::new()).unwrap();
        return drop(children);
    }
    life::adopt_orphans();
    let mut caller = inside::myself_outside("a_killed_caller_leaves_nothing", "caller");
    let caller = caller.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut caller = caller.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(caller.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "1\n");
    life::kill_and_reap(&mut caller);
    life::await_no_child("of the killed caller");
}

fn many_threads_at_once() {
    let prepared = template(&Sandbox::new());
    std::thread::scope(|scope| {
        for thread in 0..16 {
            let prepared = &prepared;
            scope.spawn(move || {
                for round in 0..8 {
                    let code = thread * 8 + round;
                    let script = format!("ls /tmp; touch /tmp/x; exit {code}");
                    let output = prepared.command("sh").args(["-c", &script]).output().unwrap();
                    assert_eq!(
                        (output.outcome, output.stdout),
                        (Outcome::Exited(code), Vec::new())
                    );
                }
            });
        }
    });
}

/// What is written can be opened when nothing of the sandbox is there any more.
fn outputs_of_a_copy() {
    let directory = with_file();
    let sandbox = Sandbox::new().tmpfs("/tmp/own").bind_ro(directory.path(), "/tmp/in");
    let script = "for at in /tmp /dev/shm ~ /tmp/own; do echo $at >$at/out; done
        ln -s /home/user/out /tmp/link; ln -s /etc/passwd /tmp/foreign; echo; read end";
    let command = template(&sandbox).command("sh").args(["-c", script]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
    let open = |child: &stockade::Child, path: &str| {
        child.open_output(path).map(|file| std::io::read_to_string(file).unwrap())
    };
    let places = ["/tmp", "/dev/shm", "/home/user"];
    for at in places.into_iter().chain(["/tmp/own"]) {
        assert_eq!(open(&child, &format!("{at}/out")).unwrap(), format!("{at}\n"));
    }
    drop(child.stdin.take());
    child.wait().unwrap();
    for at in places {
        assert_eq!(open(&child, &format!("{at}/out")).unwrap(), format!("{at}\n"));
    }
    assert_eq!(open(&child, "/tmp/link").unwrap(), "/home/user\n");
    let error = |path: &str| open(&child, path).unwrap_err().raw_os_error();
    assert_eq!(error("/tmp/own/out"), Some(libc::ESTALE));
    assert!(error("/tmp/foreign").is_some() && error("/tmp/none") == Some(libc::ENOENT));
}

fn limits_hold_in_a_copy() {
    let sandbox = Sandbox::new().memory_limit(32 * MIB).pids_limit(8);
    let prepared = template(&sandbox);
    for _ in 0..2 {
        let output = prepared.command("tail").arg("/dev/zero").output().unwrap();
        assert!(matches!(output.outcome, Outcome::OutOfMemory { .. }), "{:?}", output.outcome);
        // Content of tmpfs is charged, too.
        let script = "head -c 48M /dev/zero >/tmp/x || exit 7";
        let output = prepared.command("sh").args(["-c", script]).output().unwrap();
        assert_ne!(output.outcome, Outcome::Exited(0));
        let script = "for i in 1 2 3 4 5 6 7 8 9; do sleep 1000 & done 2>/dev/null; exit 3";
        let output = prepared.command("sh").args(["-c", script]).output().unwrap();
        let hits = output.usage.unwrap().stats.pids.limit_hits;
        assert!(hits.is_some_and(|hits| hits > 0), "{hits:?}");
    }
}

/// How many networks so many had that did this, one after the other.
fn networks_after(prepared: &Prepared, script: &str, count: u32) -> usize {
    let script = format!("{script}; echo; read end");
    let (mut numbers, mut held) = (BTreeSet::new(), Vec::new());
    for _ in 0..count {
        let command = prepared.command("sh").args(["-c", &script]).stderr(Stdio::inherit());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        assert_ne!(output.read_line(&mut String::new()).unwrap(), 0, "{script}");
        // As long as it is open, no other one gets its number.
        let network = network_of(&child);
        numbers.insert(std::os::unix::fs::MetadataExt::ino(&network.metadata().unwrap()));
        held.push(network);
        drop(child.stdin.take());
        child.wait().unwrap();
    }
    numbers.len()
}

fn network_of(child: &stockade::Child) -> fs::File {
    fs::File::open(format!("/proc/{}/ns/net", child.program_id().unwrap())).unwrap()
}

/// What a program can see of the network, but for what counts all of the host's together.
const VIEW: &str = "cd /proc/self/net; for file in *; do
        case $file in netlink|protocols|softnet_stat|rt_cache|stat|ptype) continue;; esac
        echo == $file; cat $file 2>/dev/null
    done | sed 's/ mem [0-9]*//; s/ alloc [0-9]*//; s/ orphan [0-9]*//'
    cat /sys/class/net/lo/statistics/* 2>/dev/null; :";

fn a_network_is_used_again() {
    let sandbox = Sandbox::new().recycle_network(true);
    let prepared = template(&sandbox);
    // Some are there at the same time, as the last is looked at when the next is wanted.
    assert!(networks_after(&prepared, ":", 30) < 10);
    // The next tenant sees what the first one saw, and what one sees in a network of its own.
    let own = sh(&template(&Sandbox::new()), VIEW);
    for _ in 0..10 {
        assert_eq!(sh(&prepared, VIEW), own);
    }
    // Two at once have two.
    let read = |mut child: stockade::Child| {
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        (child, line)
    };
    let start = |_| {
        let command = prepared.command("sh").args(["-c", "readlink /proc/self/ns/net; sleep 1000"]);
        read(command.stdout(Stdio::piped()).spawn().unwrap())
    };
    let running: Vec<_> = (0..5).map(start).collect();
    let different: BTreeSet<_> = running.iter().map(|(_, line)| line).collect();
    assert_eq!(different.len(), 5);
    // Without being asked, none is used again.
    assert_eq!(networks_after(&template(&Sandbox::new()), ":", 8), 8);
}

/// Who has a descriptor of a session's namespaces may be in its network after its end.
fn a_network_that_others_may_join() {
    let prepared = template(&Sandbox::new().recycle_network(true));
    let networks = |shown: bool, count| {
        let (mut numbers, mut held) = (BTreeSet::new(), Vec::new());
        for _ in 0..count {
            let session = prepared.session().unwrap();
            let network = fs::File::open(format!("/proc/{}/ns/net", session.id())).unwrap();
            numbers.insert(std::os::unix::fs::MetadataExt::ino(&network.metadata().unwrap()));
            held.push(network);
            if shown {
                drop(session.namespaces().unwrap());
            }
            session.end().unwrap();
        }
        numbers.len()
    };
    // On a busy machine who looks at them may be late.
    assert!(networks(false, 40) < 40);
    assert_eq!(networks(true, 10), 10);
}

/// What sends anything, or leaves a socket to somebody, is the last in its network.
fn a_network_that_was_used_is_thrown_away() {
    let prepared = template(&Sandbox::new().recycle_network(true));
    let python = |code: &str| format!("python3 -c 'import socket, os\n{code}'");
    for traces in [
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.sendto(b\"x\", (\"127.0.0.1\", 9))",
        "s = socket.create_server((\"127.0.0.1\", 7000)); c = socket.create_connection((\"127.0.0.1\", 7000)); a = s.accept(); c.close()",
        "s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); s.sendto(b\"x\", (\"::1\", 9))",
        "s = socket.socket()
try: s.connect((\"127.0.0.1\", 1))
except OSError: pass",
        "s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
try: s.connect((\"2001:db8::1\", 9))
except OSError: pass
for to in (\"224.0.0.251\", \"127.0.0.2\"):
    t = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try: t.sendto(b\"x\", (to, 9))
    except OSError: pass",
    ] {
        let script = python(traces);
        assert_eq!(networks_after(&prepared, &script, 6), 6, "{traces}");
    }
    // What is made and closed leaves nothing.
    let closed = python(
        "s = socket.create_server((\"127.0.0.1\", 7000)); t = socket.socket(socket.AF_UNIX); t.bind(\"\\0name\")",
    );
    assert!(networks_after(&prepared, &closed, 30) < 10);
    // Nor does the next tenant see anything of it, or find the port taken.
    let own = sh(&template(&Sandbox::new()), VIEW);
    for _ in 0..4 {
        sh(&prepared, &closed);
        assert_eq!(sh(&prepared, VIEW), own);
    }
}

/// A socket that somebody else has keeps its network from being used again, whatever it is bound to.
fn a_socket_that_got_out_keeps_its_network() {
    let prepared = template(&Sandbox::new().recycle_network(true));
    let (mut kept, mut networks) = (Vec::new(), BTreeSet::new());
    for _ in 0..6 {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let code = "import socket, os
way = socket.socket(fileno=3)
inside = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
socket.send_fds(way, [b\"x\"], [inside.fileno()])
print(flush=True)
input()";
        let command = prepared.command("python3").args(["-c", code]).fd(3, theirs);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        assert_ne!(output.read_line(&mut String::new()).unwrap(), 0);
        let network = network_of(&child);
        networks.insert(std::os::unix::fs::MetadataExt::ino(&network.metadata().unwrap()));
        child.stdin.take().unwrap().write_all(b"\n").unwrap();
        assert_eq!(child.wait().unwrap().outcome, Outcome::Exited(0));
        // Unread, it is in flight.
        kept.push((ours, network));
    }
    assert_eq!(networks.len(), 6);
}

/// Asks the kernel for all sockets of the network by sock_diag(7), and prints their kinds and states. `before` leaves some.
const DUMP: &str = r#"
import errno, os, socket, struct, sys, time
def dump(name, request, tries=900):
    s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 4)
    s.send(struct.pack("=IHHII", 16 + len(request), 20, 0x301, 1, 0) + request)
    found = []
    while True:
        data = s.recv(1 << 16)
        while len(data) >= 16:
            length, kind = struct.unpack_from("=IH", data)
            if kind == 3 and name == "unix" and found == [5] and tries:
                # That by which one's own init has started the program, which it closes a moment later.
                time.sleep(0.01)
                return dump(name, request, tries - 1)
            if kind == 3:
                print(name, sorted(found))
                return
            if kind == 2:
                print(name, errno.errorcode[-struct.unpack_from("=i", data, 16)[0]])
                return
            found.append(data[17])
            data = data[(length + 3) & ~3:]
def all_sockets():
    for family in (socket.AF_INET, socket.AF_INET6):
        for protocol in (6, 17, 132, 255):
            states = struct.pack("=BBBBI48x", family, protocol, 0, 0, 0xffffffff)
            dump(f"inet {family} {protocol}", states)
    dump("unix", struct.pack("=BBHIIIII", 1, 0, 0, 0xffffffff, 0, 0, 0, 0))
    dump("packet", struct.pack("=BBHIIII", 17, 0, 0, 0, 0, 0, 0))
    dump("netlink", struct.pack("=BBHIIII", 16, 255, 0, 0, 0, 0, 0))
"#;

/// What a tenant sees who asks for all sockets is what one sees in a network of his own: nothing of those before, which waits
/// in TIME_WAIT included.
fn sockets_of_the_one_before_are_not_told() {
    let asks = Seccomp::default().rule(Rule::new("socket"));
    let sandbox = Sandbox::new().seccomp(asks);
    let (again, fresh) = (template(&sandbox.clone().recycle_network(true)), template(&sandbox));
    let python = |prepared: &Prepared, code: &str| {
        let code = format!("{DUMP}\n{code}\nprint(os.readlink('/proc/self/ns/net'))");
        let output = succeed(prepared.command("python3").args(["-c", &code]));
        let (told, network) = output.trim_end().rsplit_once('\n').unwrap();
        (told.to_owned(), network.to_owned())
    };
    let (nothing, _) = python(&fresh, "all_sockets()");
    assert!(nothing.contains("inet 2 6 []\n") && nothing.contains("unix []\n"), "{nothing}");
    let connect = "
listening = socket.create_server(('127.0.0.1', 7000))
for _ in range(20):
    client = socket.create_connection(('127.0.0.1', 7000))
    server = listening.accept()[0]
    client.close()
    server.close()
there = socket.socket(socket.AF_UNIX)
there.bind('\\0name')
datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
datagrams.bind(('127.0.0.1', 7001))
all_sockets()";
    let only_made = "
listening = socket.create_server(('127.0.0.1', 7000))
there = socket.socket(socket.AF_UNIX)
there.bind('\\0name')
all_sockets()";
    let (mut used_again, mut before) = (0, BTreeSet::new());
    for round in 0..12 {
        let (told, left) = python(&again, if round % 2 == 0 { connect } else { only_made });
        // It would be seen: 6 is TIME_WAIT, 10 is who listens.
        let seen = if round % 2 == 0 { "inet 2 6 [6, 6, " } else { "inet 2 6 [10]" };
        assert!(told.contains(seen), "{told}");
        for _ in 0..2 {
            let (told, network) = python(&again, "all_sockets()");
            assert_eq!(told, nothing);
            before.insert(left.clone());
            used_again += usize::from(!before.insert(network));
        }
    }
    assert_ne!(used_again, 0);
}

/// In a forked copy of the caller sandboxes are that one's children, and so made without the template.
fn a_forked_copy_has_its_own() {
    let prepared = template(&Sandbox::new());
    let copy = life::fork(|| {
        assert!(!prepared.has_template());
        assert_eq!(sh(&prepared, "echo x"), "x\n");
        life::await_no_child("of the copy");
    });
    life::join(copy);
    assert_eq!(sh(&prepared, "echo x"), "x\n");
    assert!(prepared.has_template());
}

/// What a forked copy lets go is still the caller's; and without who keeps networks sandboxes are made alone.
fn who_keeps_networks_is_the_callers() {
    let mut prepared = Some(template(&Sandbox::new().recycle_network(true)));
    let copy = life::fork(|| drop(prepared.take()));
    life::join(copy);
    let prepared = prepared.unwrap();
    assert!(networks_after(&prepared, ":", 30) < 10);
    let keeper = life::children().into_iter().find(|(_, name)| name == "stockade-net").unwrap().0;
    life::signal(u32::try_from(keeper).unwrap(), libc::SIGKILL);
    while prepared.has_template() {
        std::thread::yield_now();
    }
    assert_eq!(sh(&prepared, "echo x"), "x\n");
    drop(prepared);
    life::await_no_child("the template");
}

/// A copy of the caller does not use what is the caller's.
fn networks_in_a_forked_copy() {
    let prepared = template(&Sandbox::new().recycle_network(true));
    networks_after(&prepared, ":", 4);
    let copy = life::fork(|| {
        let running: Vec<_> =
            (0..4).map(|_| prepared.command("sleep").arg("1000").spawn().unwrap()).collect();
        let number = |child: &stockade::Child| {
            fs::read_link(format!("/proc/{}/ns/net", child.program_id().unwrap())).unwrap()
        };
        let theirs: BTreeSet<_> = running.iter().map(number).collect();
        assert_eq!(theirs.len(), 4);
    });
    let ours: Vec<_> =
        (0..4).map(|_| prepared.command("sleep").arg("1000").spawn().unwrap()).collect();
    life::join(copy);
    drop(ours);
}

fn no_power_over_a_network_that_is_used_again() {
    for capability in [Capability::NET_ADMIN, Capability::NET_RAW, Capability::NET_BIND_SERVICE] {
        let sandbox = Sandbox::new().recycle_network(true).capabilities([capability]);
        assert!(matches!(sandbox.prepare().unwrap_err(), stockade::Error::Invalid(_)));
    }
    let script = "exec 2>/dev/null; echo 1 >/proc/sys/net/ipv4/ip_forward && exit 7
        echo 1 >/proc/sys/net/ipv4/ip_unprivileged_port_start && exit 8
        ip link set lo down && exit 9; ip addr add 10.0.0.1/8 dev lo && exit 10
        test ! -w /proc/sys/net/ipv4/ip_forward || exit 11; :";
    let sandbox = Sandbox::new().recycle_network(true).proc(Proc::Full);
    sh(&template(&sandbox), script);
    // Whom such files belong to has no such network.
    let prepared = template(&sandbox.uid(0).gid(0));
    sh(&prepared, script);
    assert_eq!(networks_after(&prepared, ":", 6), 6);
}

/// What one command's sandbox has besides.
type Add = fn(Command, &Path) -> Command;

static COPIES: AtomicUsize = AtomicUsize::new(0);

/// Counts them.
struct Log;

impl log::Log for Log {
    fn enabled(&self, _metadata: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        if record.args().to_string().starts_with("launch: the copy is ") {
            COPIES.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn flush(&self) {}
}

/// By what is logged.
fn is_copy(command: Command) -> bool {
    let _was_set = log::set_logger(&Log);
    log::set_max_level(log::LevelFilter::Debug);
    let before = COPIES.load(Ordering::Relaxed);
    succeed(command.args(["-c", ":"]));
    COPIES.load(Ordering::Relaxed) != before
}

/// What it adds is where it would be, and nothing else differs.
fn assert_added(sandbox: &Sandbox, source: &Path, copied: bool, add: Add) {
    const SCRIPT: &str = "cat /proc/self/mountinfo; echo; for at in / /dev /etc /home/user /tmp /in /out /scratch; do
        ls -lan --time-style=+ $at 2>/dev/null; done; cat /proc/self/uid_map | tr -s ' ' | cut -d' ' -f2
        grep -E '^(Cap|NoNew|Seccomp|Groups)' /proc/self/status; cat /file; for at in / /etc /in /out /scratch /tmp; do
        touch $at/made 2>/dev/null && echo $at; done; :";
    let prepared = template(sandbox);
    let alone = succeed(add(sandbox.command("sh").args(["-c", SCRIPT]), source));
    let _not_always = fs::remove_file(source.join("made"));
    let copy = succeed(add(prepared.command("sh").args(["-c", SCRIPT]), source));
    let _not_always = fs::remove_file(source.join("made"));
    assert_same(&copy, &alone);
    assert_eq!(last_mounts(&copy), last_mounts(&alone));
    assert_eq!(is_copy(add(prepared.command("sh"), source)), copied);
    // Nothing of it is there for the next one.
    assert_same(&sh(&prepared, SCRIPT), &sh(&template(sandbox), SCRIPT));
}

/// Where the last two are, which were added.
fn last_mounts(text: &str) -> Vec<&str> {
    let (mounts, _) = text.split_once("\n\n").unwrap();
    let places: Vec<_> = mounts.lines().map(|line| line.split(' ').nth(4).unwrap()).collect();
    places[places.len() - 2..].to_vec()
}

/// With places for what is added.
fn with_places() -> Sandbox {
    Sandbox::new()
        .data(Data::directory("/in"))
        .data(Data::directory("/out"))
        .data(Data::file("/file", "empty"))
        .tmpfs("/scratch")
}

fn what_is_added_is_as_in_one_that_is_made_alone() {
    let (directory, sandbox) = (with_file(), with_places());
    let tmpfs: [Add; 3] = [
        |command, _| command.tmpfs("/in").tmpfs("/out"),
        |command, _| command.mount_tmpfs(Tmpfs::new("/tmp/a/b").no_exec()).tmpfs("/home/user/c"),
        |command, _| command.tmpfs("/in").tmpfs("/in/below/it"),
    ];
    for add in tmpfs {
        assert_added(&sandbox, directory.path(), true, add);
    }
    // An unprivileged caller cannot open what a copy has no name for.
    let binds: [Add; 5] = [
        |command, source| command.bind_ro(source, "/in").bind_rw(source, "/out"),
        |command, source| command.bind_ro(source.join("file"), "/file").bind_ro(source, "/tmp/a/b"),
        |command, source| command.tmpfs("/in").bind_ro(source.join("file"), "/in/deep/file"),
        |command, source| command.bind_ro(source, "/scratch/a").bind_rw(source, "/home/user/b"),
        |command, source| {
            command.bind(Bind::read_only(source, "/in").no_exec()).bind_ro("/dev/null", "/tmp/null")
        },
    ];
    for add in binds {
        assert_added(&sandbox, directory.path(), is_root(), add);
    }
}

/// In a root of the host's no place is made in either, so that any that is there can be taken.
fn what_is_added_to_an_image() {
    let (image, directory) = (inside::open_directory(), with_file());
    for part in ["proc", "dev", "tmp", "usr", "bin", "lib", "lib64", "etc", "srv/in"] {
        fs::create_dir_all(image.path().join(part)).unwrap();
    }
    std::os::unix::fs::symlink("srv/in", image.path().join("in")).unwrap();
    fs::write(image.path().join("file"), "image").unwrap();
    let sandbox = Sandbox::new().rootfs(Rootfs::directory(image.path()));
    let sandbox = sandbox.bind_same("/usr").bind_same("/bin").bind_same("/lib").bind_same("/lib64");
    let tmpfs: Add = |command, _| command.tmpfs("/in").tmpfs("/etc");
    assert_added(&sandbox, directory.path(), true, tmpfs);
    let binds: Add = |command, source| command.bind_rw(source, "/in").bind_ro(source, "/tmp/a/b");
    assert_added(&sandbox, directory.path(), is_root(), binds);
    let prepared = template(&sandbox);
    let [copy, alone] = [prepared.command("true"), sandbox.command("true")]
        .map(|command| command.tmpfs("/new").spawn().unwrap_err().to_string());
    assert_eq!(copy, alone);
}

/// In a root that all have no place is made, and what is there may lead there.
fn what_cannot_be_added_to_a_copy() {
    let directory = with_file();
    std::os::unix::fs::symlink("/etc", directory.path().join("link")).unwrap();
    let sandbox =
        with_places().data(Data::symlink("/tmp", "/alias")).bind_ro(directory.path(), "/data");
    let adds: [Add; 8] = [
        |command, _| command.tmpfs("/new"),
        |command, _| command.tmpfs("/in/new"),
        |command, _| command.tmpfs("/alias/new"),
        |command, _| command.tmpfs("/data/link/new"),
        |command, source| command.bind_ro(source.join("file"), "/etc/hosts"),
        |command, source| command.bind_ro(source, "/new/deep"),
        |command, source| command.bind_ro(source, "/in").tmpfs("/in/link/new"),
        |command, source| command.tmpfs("/in").bind_ro(source, "/etc/new"),
    ];
    for add in adds {
        assert_added(&sandbox, directory.path(), false, add);
    }
    // What is refused, is refused alike.
    let prepared = template(&sandbox);
    let refused: [Add; 4] = [
        |command, _| command.tmpfs("/file"),
        |command, _| command.tmpfs("/data/new"),
        |command, source| command.bind_ro(source, "/proc/1/new"),
        |command, source| command.bind_ro(source.join("file"), "/in"),
    ];
    for add in refused {
        let [copy, alone] = [prepared.command("true"), sandbox.command("true")]
            .map(|command| add(command, directory.path()).spawn().unwrap_err());
        assert_eq!(copy.to_string(), alone.to_string());
    }
}

/// Not as it was when the sandbox was prepared.
fn an_added_source_is_as_it_is_now() {
    let (directory, prepared) = (with_file(), template(&with_places()));
    let source = directory.path().join("file");
    let shown = || {
        let command = prepared.command("cat").arg("/file").bind_ro(&source, "/file");
        command.output().map(|output| output.stdout)
    };
    assert_eq!(shown().unwrap(), b"content\n");
    fs::write(directory.path().join("new"), "new\n").unwrap();
    fs::rename(directory.path().join("new"), &source).unwrap();
    assert_eq!(shown().unwrap(), b"new\n");
    fs::remove_file(&source).unwrap();
    let alone = with_places().bind_ro(&source, "/file").command("cat").output().unwrap_err();
    assert_eq!(shown().unwrap_err().to_string(), alone.to_string());
    // What a program writes is the host's, but not by a link that it plants.
    let out = tempfile::tempdir().unwrap();
    let script = "echo x >/out/made; ln -s /etc /out/link";
    let command = prepared.command("sh").args(["-c", script]);
    succeed(command.bind_rw(out.path(), "/out"));
    assert!(out.path().join("made").exists());
    let planted = prepared.command("ls").args(["-a", "/etc"]).bind_rw(out.path(), "/out");
    let own = sh(&prepared, "ls -a /etc");
    assert_eq!(succeed(planted.tmpfs("/out/link")), ".\n..\n");
    assert_eq!(sh(&prepared, "ls -a /etc"), own);
}

fn additions_of_many_threads() {
    let (prepared, sources) = (template(&with_places()), tempfile::tempdir().unwrap());
    std::thread::scope(|scope| {
        for thread in 0..64 {
            let (prepared, sources) = (&prepared, sources.path());
            scope.spawn(move || {
                let own = sources.join(thread.to_string());
                fs::write(&own, thread.to_string()).unwrap();
                for _ in 0..2 {
                    let command =
                        prepared.command("sh").args(["-c", "cat /file /in/x; ls /in /tmp"]);
                    let command =
                        command.tmpfs("/in").bind_ro(&own, "/file").bind_ro(&own, "/in/x");
                    assert_eq!(succeed(command), format!("{thread}{thread}/in:\nx\n\n/tmp:\n"));
                }
            });
        }
    });
}

fn additions_without_descriptors_left() {
    let (prepared, directory) = (template(&with_places()), with_file());
    let command = || {
        let bind =
            |command: Command, at: u32| command.bind_ro(directory.path(), format!("/tmp/{at}"));
        (0..32).fold(prepared.command("sh").args(["-c", "ls /tmp | wc -l"]), bind)
    };
    assert_eq!(succeed(command()), "32\n");
    let before = life::descriptors();
    life::limit_open_files_softly(before as u64 + 24);
    let error = command().spawn().err().and_then(|error| error.raw_os_error());
    // An unprivileged caller has init open them.
    assert_eq!(error, is_root().then_some(libc::EMFILE));
    assert_eq!(life::descriptors(), before);
    life::limit_open_files_softly(1024);
    assert_eq!(succeed(command()), "32\n");
}

fn the_environment_is_one_commands() {
    let prepared = template(&Sandbox::new());
    let command = prepared.command("/bin/sh").env("PATH", "/nowhere:/usr/bin").env("ONE", "1");
    assert!(is_copy(command));
    let path = "command -v stat; echo $PATH";
    let command = prepared.command("/bin/sh").args(["-c", path]).env("PATH", "/nowhere:/usr/bin");
    assert_eq!(succeed(command), "/usr/bin/stat\n/nowhere:/usr/bin\n");
}

fn limits_are_added_to_a_copy() {
    let prepared = template(&Sandbox::new().data(Data::directory("/in")));
    let small = || prepared.command("sh").memory_limit(32 * MIB).pids_limit(8);
    assert!(is_copy(small()));
    assert!(is_copy(small().tmpfs("/in")));
    let output = prepared.command("tail").arg("/dev/zero").memory_limit(32 * MIB).output().unwrap();
    assert!(matches!(output.outcome, Outcome::OutOfMemory { .. }), "{:?}", output.outcome);
    // Half of it is for what is written to memory.
    let size = ["-c", "stat -f -c '%b %S' /tmp"];
    assert_eq!(succeed(small().args(size)), "4096 4096\n");
    let sandboxs = Sandbox::new().memory_limit(32 * MIB).command("sh").args(size);
    assert_eq!(succeed(sandboxs), "4096 4096\n");
    assert_eq!(succeed(prepared.command("sh").args(size)), "65536 4096\n");
    let forks = "for i in 1 2 3 4 5 6 7 8 9; do sleep 1000 & done 2>/dev/null; exit 3";
    let output = small().args(["-c", forks]).output().unwrap();
    let hits = output.usage.unwrap().stats.pids.limit_hits;
    assert!(hits.is_some_and(|hits| hits > 0), "{hits:?}");
    // With a tree that is handed over, where there is one.
    let endless = || prepared.command("sh").args(["-c", "ls /in/env && while :; do :; done"]);
    let spent = endless().cpu_time(moment(200)).bind_ro("/usr/bin", "/in");
    assert_eq!(spent.status().unwrap().outcome, Outcome::CpuTime);
    let again = template(&Sandbox::new().recycle_network(true));
    assert!(is_copy(again.command("sh").pids_limit(8).tmpfs("/tmp/new")));
    // In the place of the sandbox's own.
    let narrow = template(&Sandbox::new().pids_limit(8));
    assert!(is_copy(narrow.command("sh").limits(stockade::Limits::new())));
}
