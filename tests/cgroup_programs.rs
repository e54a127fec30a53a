//! What BPF programs do on cgroup v2 where v1 has files: devices, the class and the priority of
//! packets, each seen inside and outside, and on packets by the kernel's own eyes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails so")]
#![allow(unsafe_code, reason = "bpf(2), socket options and unmounting in a namespace of its own")]

mod common;
#[path = "common/groups.rs"]
mod groups;
#[path = "common/inside.rs"]
mod inside;
#[path = "common/mounts.rs"]
mod mounts;

use std::io::{BufRead, BufReader, Write};
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::time::Duration;

use common::Needs;
use groups::{Delegated, delegated_to_me};
use inside::{myself, myself_outside, refused, role, sh, sh_fails, shell, succeed};
use nix::sys::stat::{Mode, SFlag};
use stockade::{
    Bind, DeviceRule, Devices, Error, Feature, Limits, NetCls, NetPrio, Network, Outcome, Pids,
    Sandbox, Stdio,
};

tests! {
    Needs::RootAndCgroup2 => [
        devices_are_denied, rules_are_by_access, rules_are_changed_while_it_runs, refusals_are_counted,
        standard_devices_are_all_that_a_sandbox_has, sockets_are_marked, packets_have_a_class,
        packets_have_a_priority, an_interface_that_does_not_exist, two_sandboxes_do_not_mix,
        programs_beside_files, as_many_rules_as_there_may_be,
    ];
    Needs::DelegatedCgroup2 => [without_privilege];
    Needs::RootAndUnmounted(&["net_prio"]) => [packets_have_v1s_priority];
    Needs::RootUnmountedAndProgram(&["net_cls"], "nft") => [packets_have_v1s_class];
}

const NOT_PERMITTED: &str = "Operation not permitted";

/// A sandbox whose device rules are a program's, also where v1 has the controller: its hierarchy is
/// taken out of this process's own mount namespace.
fn with(devices: Devices) -> Sandbox {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let v1 = text.lines().filter(|line| {
        let (before, after) = line.split_once(" - ").unwrap();
        let options = after.rsplit(' ').next().unwrap();
        after.starts_with("cgroup ")
            && options.split(',').any(|option| option == "devices")
            && before.contains(" / ")
    });
    let points: Vec<_> = v1.map(|line| line.split(' ').nth(4).unwrap().to_owned()).collect();
    if !points.is_empty() {
        mounts::own_mounts();
    }
    for point in points {
        mounts::unmount(std::path::Path::new(&point));
    }
    limited(Limits::new().devices(devices))
}

fn limited(limits: Limits) -> Sandbox {
    Sandbox::new().limits(limits)
}

fn devices_are_denied() {
    let only_null = with(Devices::none().allow(DeviceRule::char(1, 3)));
    let read = "head -c 1 /dev/zero | wc -c";
    assert_eq!(sh(&Sandbox::new(), read).trim(), "1");
    sh_fails(&only_null, "head -c 1 /dev/zero", NOT_PERMITTED);
    sh_fails(&only_null, "sh -c '(head -c 1 /dev/random)'", NOT_PERMITTED);
    sh(&only_null, "echo > /dev/null && head -c 1 /dev/null");
    // Outside nothing is denied.
    drop(std::fs::File::open("/dev/zero").unwrap());
    let none = with(Devices::none());
    sh_fails(&none, "cat < /dev/null", NOT_PERMITTED);
    // What was open before stays open.
    let open = std::fs::File::open("/dev/zero").unwrap();
    let script = "head -c 3 | wc -c";
    let command = none.command("sh").args(["-c", script]).stdin(Stdio::from(open));
    assert_eq!(succeed(command).trim(), "3");
}

fn rules_are_by_access() {
    let read = with(Devices::none().allow(DeviceRule::char(1, 5).access("r")));
    sh(&read, "head -c 1 < /dev/zero");
    sh_fails(&read, "echo > /dev/zero", NOT_PERMITTED);
    sh_fails(&read, "echo <> /dev/zero", NOT_PERMITTED);
    // Rules for the same device are one, as on v1.
    let rule = |access| DeviceRule::char(1, 5).access(access);
    let both = with(Devices::none().allow(rule("r")).allow(rule("w")));
    sh(&both, "echo <> /dev/zero");
    // The last counts, also of a wider one: denied, and allowed again.
    let memory = Devices::none().allow(DeviceRule::char(1, None)).deny(rule("w"));
    sh(&with(memory.clone()), "head -c 1 < /dev/zero; echo > /dev/full || echo > /dev/null");
    sh_fails(&with(memory.clone()), "echo > /dev/zero", NOT_PERMITTED);
    sh_fails(&with(memory.clone()), "echo <> /dev/zero", NOT_PERMITTED);
    sh(&with(memory.allow(rule("w"))), "echo <> /dev/zero");
    // Making one is another matter than opening it.
    let dev = inside::open_directory();
    let make = |devices| {
        let sandbox = with(devices).bind_rw(dev.path(), "/made").as_host_root();
        let sandbox = sandbox.allow_host_capabilities();
        let sandbox = sandbox.namespaces(stockade::Namespaces::all() - stockade::Namespaces::USER);
        sandbox.capabilities([stockade::Capability::MKNOD])
    };
    let any = |access| DeviceRule::char(None, None).access(access);
    let script = "mknod /made/zero c 1 5";
    sh_fails(&make(Devices::none().allow(any("rw"))), script, NOT_PERMITTED);
    sh(&make(Devices::none().allow(any("m"))), script);
    assert!(dev.path().join("zero").exists());
}

fn as_many_rules_as_there_may_be() {
    let rules = (1000..1499).fold(Devices::none(), |devices, major| {
        devices.allow(DeviceRule::char(major, None)).deny(DeviceRule::char(major, 5))
    });
    let rules = rules.allow(DeviceRule::char(1, 3)).allow(DeviceRule::block(7, 0));
    let sandbox = with(rules.clone());
    sh(&sandbox, "cat < /dev/null");
    sh_fails(&sandbox, "cat < /dev/zero", NOT_PERMITTED);
    let error = refused(&with(rules.allow(DeviceRule::char(1, 5))));
    assert!(error.to_string().contains("more than 1000 rules"), "{error}");
}

fn rules_are_changed_while_it_runs() {
    let nothing = Devices::none();
    let null = DeviceRule::char(1, 3);
    let command = with(nothing.clone().allow(null.clone())).command("sh");
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let script = "while read device; do (: < $device) 2>/dev/null && echo yes || echo no; done";
    let mut child = command.args(["-c", script]).spawn().unwrap();
    let mut asked = child.stdin.take().unwrap();
    let mut answers = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut ask = |device: &str| {
        writeln!(asked, "{device}").unwrap();
        answers.next().unwrap().unwrap()
    };
    // The shell's own writing needs /dev/null.
    assert_eq!([ask("/dev/null"), ask("/dev/zero")], ["yes", "no"]);
    let more = nothing.clone().allow(null.clone()).allow(DeviceRule::char(1, 5));
    child.update(&Limits::new().devices(more)).unwrap();
    assert_eq!([ask("/dev/null"), ask("/dev/zero")], ["yes", "yes"]);
    child.update(&Limits::new().devices(nothing.allow(null))).unwrap();
    assert_eq!([ask("/dev/null"), ask("/dev/zero")], ["yes", "no"]);
    // The count goes on over changes.
    assert_eq!(child.stats().unwrap().device_refusals, Some(2));
    drop(asked);
    assert_eq!(child.wait().unwrap().outcome, Outcome::Exited(0));
}

fn refusals_are_counted() {
    let script = "for i in 1 2 3 4 5; do (: < /dev/zero); done 2>/dev/null; cat /dev/null";
    let rules = Devices::none().allow(DeviceRule::char(1, 3));
    let mut child = with(rules).command("sh").args(["-c", script]).spawn().unwrap();
    assert_eq!(child.wait().unwrap().outcome, Outcome::Exited(0));
    assert_eq!(child.stats().unwrap().device_refusals, Some(5));
    let mut child = with(Devices::standard()).command("true").spawn().unwrap();
    child.wait().unwrap();
    assert_eq!(child.stats().unwrap().device_refusals, Some(0));
    let pids = limited(Limits::new().pids(Pids::new()));
    let mut child = pids.command("true").spawn().unwrap();
    child.wait().unwrap();
    assert_eq!(child.stats().unwrap().device_refusals, None);
}

fn standard_devices_are_all_that_a_sandbox_has() {
    let script = "for device in null zero full random urandom; do : < /dev/$device || exit 1; done";
    sh(&with(Devices::standard()), script);
    // A bind does not allow more. This node has no driver, which is found out later.
    let directory = inside::open_directory();
    let node = directory.path().join("node");
    let (kind, device) = (SFlag::S_IFCHR, nix::sys::stat::makedev(240, 77));
    nix::sys::stat::mknod(&node, kind, Mode::from_bits_truncate(0o666), device).unwrap();
    let bound = |sandbox: Sandbox| {
        sandbox.bind(Bind::read_only(&node, "/node").with_devices()).as_host_root()
    };
    sh_fails(&bound(Sandbox::new()), ": < /node", "No such device");
    sh_fails(&bound(with(Devices::standard())), ": < /node", NOT_PERMITTED);
}

/// The mark of a new socket.
fn mark(kind: i32, domain: i32) -> u32 {
    // SAFETY: takes numbers.
    let socket = unsafe { libc::socket(domain, kind | libc::SOCK_CLOEXEC, 0) };
    assert!(socket >= 0, "{}", std::io::Error::last_os_error());
    let (mut mark, mut length) = (u32::MAX, 4);
    let value = (&raw mut mark).cast();
    // SAFETY: there is room for the number.
    let result = unsafe {
        libc::getsockopt(socket, libc::SOL_SOCKET, libc::SO_MARK, value, &raw mut length)
    };
    assert_eq!((result, length), (0, 4));
    mark
}

/// The marks of sockets of all kinds, this process's and a forked copy's.
fn tell_marks() {
    for kind in [libc::SOCK_STREAM, libc::SOCK_DGRAM] {
        print!("{} {} ", mark(kind, libc::AF_INET), mark(kind, libc::AF_INET6));
    }
    println!();
}

fn sockets_are_marked() {
    if let Some(role) = role() {
        if role == "twice" {
            let status = myself_outside("sockets_are_marked", "once").status().unwrap();
            assert!(status.success());
        }
        return tell_marks();
    }
    let class = limited(Limits::new().net_cls(NetCls::new(0x10, 1)));
    let told = succeed(myself(&class, "sockets_are_marked", "twice"));
    assert_eq!(told, "1048577 1048577 1048577 1048577 \n".repeat(2));
    let told = succeed(myself(&Sandbox::new(), "sockets_are_marked", "once"));
    assert_eq!(told, "0 0 0 0 \n");
    let outside = myself_outside("sockets_are_marked", "once").output().unwrap();
    assert_eq!(outside.stdout, b"0 0 0 0 \n");
}

/// Where a packet's mark and priority are in what a program sees of it, `struct __sk_buff`.
const MARK: i16 = 8;
const PRIORITY: i16 = 32;

/// A socket that gets only packets of which the kernel says this.
fn receiver(field: i16, number: u32) -> UdpSocket {
    // r0 = packet[field]; if r0 == number { r0 = all of it } else { r0 = nothing }; return
    let code = [
        0x61 | 0x10 << 8 | u64::from(field.unsigned_abs()) << 16,
        0x56 | 2 << 16 | u64::from(number) << 32,
        0xb4 | 0xffff << 32,
        0x05 | 1 << 16,
        0xb4,
        0x95,
    ];
    // The type "socket filter", the length, the code and the licence.
    let license = c"MIT".as_ptr() as u64;
    let attributes = [1 | (code.len() as u64) << 32, code.as_ptr() as u64, license, 0, 0, 0];
    let (load, size) = (5, size_of_val(&attributes));
    // SAFETY: the attributes are as long as is said, and point to what lives longer.
    let program = unsafe { libc::syscall(libc::SYS_bpf, load, attributes.as_ptr(), size) };
    assert!(program >= 0, "{}", std::io::Error::last_os_error());
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let (level, option) = (libc::SOL_SOCKET, libc::SO_ATTACH_BPF);
    let program = i32::try_from(program).unwrap();
    let value = (&raw const program).cast();
    // SAFETY: the value is a number of that length.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, value, 4) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    socket
}

/// Sends a word to a port of this network.
fn send() {
    let port = std::env::var("PORT").unwrap();
    let word = std::env::var("WORD").unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.send_to(word.as_bytes(), format!("127.0.0.1:{port}")).unwrap();
}

/// Of a packet from outside and one from inside only the latter is as is expected.
fn only_ours_arrive(test: &str, limits: Limits, receiver: &UdpSocket) {
    let mut outside = myself_outside(test, "send");
    outside.env("PORT", port_of(receiver)).env("WORD", "outside");
    assert!(outside.status().unwrap().success());
    let sandbox = limited(limits).network(Network::Host);
    let command = myself(&sandbox, test, "send");
    succeed(command.env("PORT", port_of(receiver)).env("WORD", "inside"));
    assert_eq!(received(receiver), "inside");
}

fn port_of(receiver: &UdpSocket) -> String {
    receiver.local_addr().unwrap().port().to_string()
}

fn received(receiver: &UdpSocket) -> String {
    let mut word = [0; 16];
    let (length, _) = receiver.recv_from(&mut word).unwrap();
    String::from_utf8(word[..length].to_owned()).unwrap()
}

/// The side of a user to whom a group is delegated: sends from a sandbox with these limits.
fn send_delegated(test: &str, limits: Limits) {
    assert!(!inside::is_root());
    let sandbox = limited(limits).network(Network::Host).cgroup_parent(delegated_to_me());
    let [port, word] = ["PORT", "WORD"].map(|name| std::env::var(name).unwrap());
    succeed(myself(&sandbox, test, "send").env("PORT", port).env("WORD", word));
}

/// Runs that side.
fn has_sent_delegated(test: &str, receiver: &UdpSocket) {
    let parent = Delegated::to(65534);
    let mut command = myself_outside(test, "user");
    command.env("PORT", port_of(receiver)).env("WORD", "user");
    let output = parent.run(command, 65534);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(parent.content(), Vec::<std::path::PathBuf>::new());
}

/// The kernel gives packets v1's priority when they leave; interfaces are those of the first network.
fn packets_have_v1s_priority() {
    const TEST: &str = "packets_have_v1s_priority";
    let limits = Limits::new().net_prio(NetPrio::new().priority("lo", 5));
    match role().as_deref() {
        Some("send") => return send(),
        Some(_) => return send_delegated(TEST, limits),
        None => {}
    }
    let directory = mounts::private_hierarchies(&["net_prio"]);
    let receiver = receiver(PRIORITY, 5);
    only_ours_arrive(TEST, limits, &receiver);
    has_sent_delegated(TEST, &receiver);
    assert_eq!(received(&receiver), "user");
    mounts::unmount_all(&directory);
}

/// nftables, in a network of the test's own.
fn nft(arguments: &str) -> String {
    let output = std::process::Command::new("nft").args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn packets_have_v1s_class() {
    const TEST: &str = "packets_have_v1s_class";
    let limits = Limits::new().net_cls(NetCls::new(0xabc, 0xdef));
    match role().as_deref() {
        Some("send") => return send(),
        Some(_) => return send_delegated(TEST, limits),
        None => {}
    }
    let directory = mounts::private_hierarchies(&["net_cls"]);
    // SAFETY: this process has one thread and no pointer is passed.
    assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWNET) }, 0);
    let up = std::process::Command::new("ip").args(["link", "set", "lo", "up"]).status();
    assert!(up.unwrap().success());
    nft("add table ip test");
    nft("add chain ip test out { type filter hook output priority 0 ; }");
    nft("add rule ip test out meta cgroup 0x0abc0def counter");
    let packets = || {
        let text = nft("list chain ip test out");
        let mut words = text.split_whitespace().skip_while(|word| *word != "packets");
        words.nth(1).unwrap().parse::<u64>().unwrap()
    };
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut outside = myself_outside(TEST, "send");
    outside.env("PORT", port_of(&receiver)).env("WORD", "outside");
    assert!(outside.status().unwrap().success());
    assert_eq!((received(&receiver), packets()), ("outside".to_owned(), 0));
    let sandbox = limited(limits).network(Network::Host);
    let command = myself(&sandbox, TEST, "send").env("PORT", port_of(&receiver));
    succeed(command.env("WORD", "inside"));
    assert_eq!((received(&receiver), packets()), ("inside".to_owned(), 1));
    has_sent_delegated(TEST, &receiver);
    assert_eq!((received(&receiver), packets()), ("user".to_owned(), 2));
    mounts::unmount_all(&directory);
}

fn packets_have_a_class() {
    if role().is_some() {
        return send();
    }
    let class = Limits::new().net_cls(NetCls::new(0xabc, 0xdef));
    only_ours_arrive("packets_have_a_class", class, &receiver(MARK, 0x0abc_0def));
}

fn packets_have_a_priority() {
    if role().is_some() {
        return send();
    }
    let test = "packets_have_a_priority";
    let limits =
        |interface, number| Limits::new().net_prio(NetPrio::new().priority(interface, number));
    only_ours_arrive(test, limits("lo", 5), &receiver(PRIORITY, 5));
    // Both, and a class: two programs.
    let class = NetCls::new(1, 2);
    only_ours_arrive(test, limits("lo", 6).net_cls(class), &receiver(PRIORITY, 6));
    only_ours_arrive(test, limits("lo", 7).net_cls(class), &receiver(MARK, 0x1_0002));
}

fn an_interface_that_does_not_exist() {
    let priority = NetPrio::new().priority("lo", 1).priority("nowhere0", 2);
    let sandbox = |priority| limited(Limits::new().net_prio(priority)).network(Network::Host);
    let error = refused(&sandbox(priority));
    let failed = error.failed().unwrap();
    assert_eq!(failed.object, r#""nowhere0""#);
    assert_eq!(failed.raw_os_error(), libc::ENODEV);
    // Nothing was left of it: the next one is like the first.
    sh(&sandbox(NetPrio::new().priority("lo", 1)), "true");
}

fn two_sandboxes_do_not_mix() {
    if role().is_some() {
        return tell_marks();
    }
    let test = "two_sandboxes_do_not_mix";
    let start = |class| {
        let sandbox = limited(Limits::new().net_cls(NetCls::new(0, class)));
        myself(&sandbox, test, "tell").stdout(Stdio::piped()).spawn().unwrap()
    };
    let children: Vec<_> = (1..=8).map(|class| (class, start(class))).collect();
    for (class, child) in children {
        let output = child.wait_with_output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{class} ").repeat(4) + "\n");
    }
}

fn programs_beside_files() {
    let limits = Limits::new().pids(Pids::new().max(8)).net_cls(NetCls::new(1, 1));
    let devices = Devices::none().allow(DeviceRule::char(1, 3));
    let script = "cat /proc/self/limits > /dev/null; (: < /dev/zero) 2>&1; echo end";
    let output = shell(&with(devices.clone()).limits(limits.devices(devices)), script);
    let told = String::from_utf8(output.stdout).unwrap();
    assert!(told.contains(NOT_PERMITTED) && told.ends_with("end\n"), "{told}");
}

fn without_privilege() {
    let kinds = [
        (Feature::DeviceRules, Limits::new().devices(Devices::standard())),
        (Feature::NetworkClass, Limits::new().net_cls(NetCls::new(1, 1))),
        (Feature::NetworkPriority, Limits::new().net_prio(NetPrio::new().priority("lo", 1))),
    ];
    for (wanted, limits) in kinds {
        let sandbox = limited(limits).network(Network::Host);
        match refused(&sandbox) {
            Error::Unsupported { feature, reason } => {
                assert_eq!(feature, wanted);
                assert!(reason.contains("CAP_BPF"), "{reason}");
            }
            other => panic!("{other}"),
        }
        // It says what is missing where that is allowed.
        let child = sandbox.best_effort(wanted).command("true").spawn().unwrap();
        assert!(child.missing().contains(&wanted));
    }
}
