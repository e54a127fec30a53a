//! A plan as a value: what is printed is what is done, all of it.
#![allow(
    clippy::exit,
    clippy::incompatible_msrv,
    clippy::cast_possible_truncation,
    reason = "a test process, built by a current toolchain"
)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails so")]

mod common;

use std::time::Duration;

use common::Needs;
use stockade::{
    Capability, CgroupParent, DeviceRule, Feature, IoLimit, Limit, Limits, Namespaces, NetCls,
    Network, Proc, Resource, Rootfs, Sandbox, Tmpfs,
};

tests! {
    Needs::Nothing => [
        whatever_differs_makes_another_plan, every_setting_is_printed, order_is_that_of_the_steps,
        every_line_is_one, the_same_twice, checked_up_to_the_exec, failing_step_is_named,
    ];
}

/// Sandboxes that differ from the default one in one thing each.
fn variants() -> Vec<(Sandbox, &'static str)> {
    let new = Sandbox::new;
    vec![
        (new().hide_host_paths(true), "hide where mounts come from"),
        (new().hostname("other"), "sethostname \"other\""),
        (new().capabilities([Capability::NET_RAW]), "CAP_NET_RAW"),
        (new().capabilities([Capability::SYS_ADMIN]), "map to itself uid"),
        (new().allow_nesting(), "filter prlimit"),
        (new().allow_new_privileges(), "lock securebits"),
        (new().rlimit(Resource::OpenFiles, 17), "17:17"),
        (new().rlimit(Resource::Processes, Limit::from(3)), "3:3"),
        (new().nice(7), "set nice value 7"),
        (new().oom_score_adj(900), "oom_score_adj 900"),
        (new().wall_time(Duration::from_secs(9)), "end it after 9s"),
        (new().linger(Duration::from_secs(8)), "linger 8s"),
        (new().network(Network::None), "sethostname"),
        (new().network(Network::Host), "sethostname"),
        (new().namespaces(Namespaces::all() - Namespaces::TIME), "unshare cgroup"),
        (new().bind_ro("/usr", "/srv"), "bind \"/usr\" on \"/srv\""),
        (new().bind_rw("/usr", "/srv"), "(writable)"),
        (new().mount_tmpfs(Tmpfs::new("/srv").size(4096)), "size=4096"),
        (new().file("/srv/file", "text"), "\"/srv/file\" (4 bytes)"),
        (new().rootfs(Rootfs::empty()), "root: tmpfs"),
        (new().proc(Proc::Full), "mask"),
        (new().proc(Proc::Compat), "\"/proc/sys/kernel/osrelease\""),
        (new().timezone("Etc/GMT"), "\"/usr/share/zoneinfo/Etc/GMT\""),
        (new().rootfs(Rootfs::host().generated_etc(false)), "\"/etc/alternatives\""),
        (new().init(false), "enter time"),
        (new().uid(7), "become uid 7"),
        (new().memory_limit(1 << 20), "\"1048576\""),
        (new().pids_limit(5), "write pids.max \"6\""),
        (new().cpu_weight(50), "group of cpu"),
        (new().cpus("0"), "write cpuset.cpus \"0\""),
        (new().device(DeviceRule::char(10, 200)), "devices.allow \"c 10:200 rwm\""),
        (new().io_limit("7:1", IoLimit::new().read_bytes(4096)), "\"7:1 "),
        (new().limits(Limits::new().net_cls(NetCls::new(0, 9))), "net_cls.classid \"9\""),
        (new().cgroup_raw("memory.no_such", "a\nb"), "write memory.no_such \"a\\nb\""),
        (new().cpu_time(Duration::from_secs(9)), "9s of CPU time"),
        (
            new().pids_limit(6).cgroup_parent(CgroupParent::Path("/other".into())),
            "make control groups below \"/other\"",
        ),
    ]
}

fn whatever_differs_makes_another_plan() {
    let default = Sandbox::new().plan().unwrap();
    let plans: Vec<_> = variants().iter().map(|(one, _)| one.plan().unwrap()).collect();
    for (index, plan) in plans.iter().enumerate() {
        assert_ne!(*plan, default, "variant {index}");
        assert_ne!(plan.to_string(), default.to_string(), "variant {index}");
        for other in &plans[index + 1..] {
            assert_ne!(plan, other);
            assert_ne!(plan.to_string(), other.to_string());
        }
    }
}

fn every_setting_is_printed() {
    for (sandbox, text) in variants() {
        let plan = sandbox.plan().unwrap().to_string();
        assert!(plan.contains(text), "{text} in\n{plan}");
    }
}

fn order_is_that_of_the_steps() {
    let sandbox = Sandbox::new().bind_ro("/usr", "/srv/one").tmpfs("/srv/two");
    let plan = sandbox.plan().unwrap().to_string();
    let line = |text: &str| {
        let found = plan.lines().position(|line| line.starts_with(text));
        found.unwrap_or_else(|| panic!("no {text:?} in\n{plan}"))
    };
    let order = [
        "clone ",
        "unshare time",
        "new session keyring",
        "become ",
        "start the program's process",
        "make private",
        "root: tmpfs",
        "mount proc",
        "bind \"/usr\" on \"/srv/one\"",
        "mount tmpfs on \"/srv/two\"",
        "pivot_root",
        "bring up lo",
        "write user.max_user_namespaces 0",
        "sethostname",
        "keep bounding",
        "filter clone",
        "execute",
    ];
    let lines = order.map(line);
    assert!(lines.is_sorted(), "{lines:?}\n{plan}");
}

/// Whatever is in names and paths.
fn every_line_is_one() {
    let sandbox = Sandbox::new().hostname("a\nb").bind_ro("/usr", "/srv/x\ny");
    let plan = sandbox.plan().unwrap();
    // No such name has a file in /etc.
    let fewer = Sandbox::new().hostname("a b").bind_ro("/usr", "/srv").plan().unwrap();
    assert_eq!(plan.to_string().lines().count(), fewer.to_string().lines().count());
    assert!(plan.to_string().lines().all(|line| line.contains(": ")), "{plan}");
}

fn the_same_twice() {
    for (sandbox, _) in variants() {
        assert_eq!(sandbox.plan().unwrap(), sandbox.plan().unwrap());
    }
}

fn checked_up_to_the_exec() {
    Sandbox::new().plan().unwrap().check().unwrap();
    let sandbox = Sandbox::new().best_effort(Feature::TimeNamespace).tmpfs("/srv");
    sandbox.plan().unwrap().check().unwrap();
}

fn failing_step_is_named() {
    let sandbox = Sandbox::new().bind_ro("/no/such/source", "/srv");
    let error = sandbox.plan().unwrap().check().unwrap_err();
    assert!(error.to_string().contains("/no/such/source"), "{error}");
    assert_eq!(error.raw_os_error(), Some(libc::ENOENT));
}
