//! The table of controllers that `stockade check` prints, against what the kernel says itself, and
//! against what happens when somebody does as it says.
#![allow(
    clippy::incompatible_msrv,
    clippy::exit,
    reason = "a test process, built by a current toolchain"
)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails so")]
#![allow(unsafe_code, reason = "mounts of a test's own")]

mod common;
#[path = "common/groups.rs"]
mod groups;
#[path = "common/mounts.rs"]
mod mounts;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use common::{Needs, mounted};
use groups::Delegated;
use mounts::{detach, own_mounts, try_mount, unmount, unmount_all};
use stockade::{Cpu, Devices, Limits, Memory, NetCls, Network, PerfEvent, Pids, Sandbox};

/// Where cargo built the program.
const STOCKADE: &str = env!("CARGO_BIN_EXE_stockade");
const NOBODY: u32 = 65534;

tests! {
    Needs::Program(STOCKADE) => [
        each_controller_has_its_row,
        what_has_a_yes_can_be_limited_and_nothing_else,
    ];
    Needs::RootAndProgram(STOCKADE) => [
        the_rows_of_a_user_without_a_group,
        the_rows_of_a_delegated_user,
        what_is_not_mounted_comes_with_the_command,
    ];
    Needs::RootAndUnmounted(&["net_cls", "net_prio"]) => [what_is_mounted_together_is_told];
}

/// A controller's lines: the first, and the two that a "no" has besides.
#[derive(Debug, Clone)]
struct Row {
    answer: bool,
    line: String,
    why: Option<String>,
    remedy: Option<String>,
}

/// What the table says, by the name that a row has.
fn table(output: &[u8]) -> BTreeMap<String, Row> {
    let text = String::from_utf8_lossy(output);
    let (_, table) = text.split_once("\nLimits by control groups:\n").unwrap();
    let mut rows: Vec<Row> = Vec::new();
    for line in table.lines() {
        let [why, remedy] = ["     why: ", "     try: "].map(|word| line.strip_prefix(word));
        if let (Some(text), Some(row)) = (why, rows.last_mut()) {
            row.why = Some(text.to_owned());
        } else if let (Some(text), Some(row)) = (remedy, rows.last_mut()) {
            row.remedy = Some(text.to_owned());
        } else {
            let answer = line.starts_with("yes ");
            assert!(answer || line.starts_with("no "), "{line}");
            rows.push(Row { answer, line: line.to_owned(), why: None, remedy: None });
        }
    }
    let name = |row: &Row| row.line.split_whitespace().nth(1).unwrap().to_owned();
    rows.into_iter().map(|row| (name(&row), row)).collect()
}

fn own_table() -> BTreeMap<String, Row> {
    table(&Command::new(STOCKADE).arg("check").output().unwrap().stdout)
}

/// What v2 does without a controller of that name.
const WITHOUT: [&str; 6] = ["cpuacct", "freezer", "perf_event", "devices", "net_cls", "net_prio"];
/// Names of v2's that differ from v1's.
fn of_v2(name: &str) -> &str {
    if name == "blkio" { "io" } else { name }
}

/// The controllers of each hierarchy of v1 that is mounted, and where.
fn v1_mounts() -> Vec<(PathBuf, Vec<String>)> {
    let known = all_names();
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = |line: &str| {
        let (before, after) = line.split_once(" - cgroup ")?;
        let options = after.rsplit(' ').next()?.split(',').map(str::to_owned);
        let names: Vec<_> = options.filter(|option| known.contains(option)).collect();
        let point = PathBuf::from(before.split(' ').nth(4)?);
        (!names.is_empty()).then_some((point, names))
    };
    text.lines().filter_map(line).collect()
}

/// All that this kernel or any other has, as v1 calls them.
fn all_names() -> Vec<String> {
    let text = fs::read_to_string("/proc/cgroups").unwrap();
    let names = text.lines().filter(|line| !line.starts_with('#'));
    let mut names: Vec<String> =
        names.map(|line| line.split_whitespace().next().unwrap().to_owned()).collect();
    for more in ["cpu", "memory", "pids", "rdma", "misc", "blkio", "hugetlb", "cpuset"] {
        if !names.iter().any(|name| name == more) {
            names.push(more.to_owned());
        }
    }
    // It is given by no limit of the library's.
    names.retain(|name| !["debug", "dmem"].contains(&name.as_str()));
    names
}

/// The group of a process on v1 with a controller, or on v2.
fn group_of(pid: &str, controller: Option<&str>) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let found = text.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_, names, path) = (parts.next()?, parts.next()?, parts.next()?);
        let ours = match controller {
            Some(name) => names.split(',').any(|one| one == name),
            None => names.is_empty(),
        };
        ours.then(|| path.trim_start_matches('/').to_owned())
    });
    found.unwrap()
}

fn below(point: &Path, group: &str) -> PathBuf {
    // Without a slash at its end.
    point.join(group).components().collect()
}

/// The nearest group from `start` upwards in which this user may make some.
fn delegated(start: &Path, point: &Path, user: u32) -> Option<PathBuf> {
    let owns = |path: &Path| user == 0 || fs::metadata(path).is_ok_and(|found| found.uid() == user);
    let inside = start.ancestors().take_while(|path| path.starts_with(point));
    let mut ours = inside.filter(|path| owns(path) && owns(&path.join("cgroup.procs")));
    ours.next().map(Path::to_owned)
}

/// Compares the rows with what the kernel has, for a process of this user in these groups.
fn compare(rows: &BTreeMap<String, Row>, user: u32, pid: &str) {
    let v1 = v1_mounts();
    let v2 = mounted().into_iter().find_map(|(point, v2)| v2.then_some(point));
    let known = fs::read_to_string("/proc/cgroups").unwrap();
    let passed = v2.as_ref().map_or(String::new(), |point| {
        fs::read_to_string(point.join("cgroup.controllers")).unwrap()
    });
    for name in all_names() {
        let name = name.as_str();
        let row = |name: &str| rows.get(name).unwrap_or_else(|| panic!("no {name}: {rows:?}"));
        let (row, expected) = if let Some((point, all)) =
            v1.iter().find(|(_, all)| all.iter().any(|one| one == name))
        {
            let row = row(name);
            let others: Vec<_> = all.iter().filter(|other| *other != name).collect();
            for other in &others {
                assert!(
                    row.line.contains(" with ") && row.line.contains(other.as_str()),
                    "{row:?}"
                );
            }
            assert_eq!(row.line.contains(" with "), !others.is_empty(), "{row:?}");
            let own = below(point, &group_of(pid, Some(name)));
            assert!(row.line.contains(&format!("  v1  on {}", point.display())), "{row:?}");
            (row, delegated(&own, point, user))
        } else if let Some(point) = v2.as_ref().filter(|_| {
            let name = of_v2(name);
            WITHOUT.contains(&name) || passed.split_whitespace().any(|one| one == name)
        }) {
            let row = row(of_v2(name));
            let own = below(point, &group_of(pid, None));
            let start = if own == *point { &own } else { own.parent().unwrap() };
            assert!(row.line.contains(&format!("  v2  on {}, ", point.display())), "{row:?}");
            (row, delegated(start, point, user))
        } else {
            let row = row(of_v2(name));
            let switched_on = known.lines().any(|line| {
                let words: Vec<_> = line.split_whitespace().collect();
                words[0] == name && words[3] == "1"
            });
            // Newer kernels list only what v1 has: with nothing mounted the others are not known.
            let unknown = mounted().is_empty();
            let text = if switched_on || unknown { "not mounted" } else { "not in the kernel" };
            assert!(!row.answer && row.line.ends_with(&format!("  -   {text}")), "{row:?}");
            (row, None)
        };
        match &expected {
            Some(place) => {
                let text = format!(", delegated below {}", place.display());
                assert!(row.line.ends_with(&text), "{text}: {row:?}");
            }
            None => assert!(!row.answer && !row.line.contains(", delegated"), "{row:?}"),
        }
        assert_eq!(
            row.line.ends_with(", not delegated"),
            expected.is_none() && row.line.contains("  v")
        );
        assert_eq!(row.answer, row.why.is_none(), "{row:?}");
        assert_eq!(row.answer, row.remedy.is_none(), "{row:?}");
        assert!(row.why.as_deref() != Some("") && row.remedy.as_deref() != Some(""), "{row:?}");
    }
}

fn each_controller_has_its_row() {
    compare(&own_table(), nix::unistd::geteuid().as_raw(), "self");
}

fn what_has_a_yes_can_be_limited_and_nothing_else() {
    let rows = own_table();
    let all = [
        ("cpu", Limits::new().cpu(Cpu::new().limit(0.5))),
        ("cpuset", Limits::new().cpuset(stockade::Cpuset::new().cpus("0"))),
        ("memory", Limits::new().memory(Memory::new().max(64 << 20))),
        ("pids", Limits::new().pids(Pids::new().max(9))),
        ("devices", Limits::new().devices(Devices::standard())),
        ("net_cls", Limits::new().net_cls(NetCls::new(1, 1))),
        ("perf_event", Limits::new().perf_event(PerfEvent)),
        ("hugetlb", Limits::new().hugetlb(stockade::Hugetlb::new().max(2 << 20, 2 << 20))),
        ("rdma", Limits::new().rdma(stockade::Rdma::new())),
        ("cpuacct", Limits::new().cpu_time(Duration::from_secs(1000))),
    ];
    for (name, limits) in all {
        let sandbox = Sandbox::new().network(Network::Host).limits(limits);
        let checked = sandbox.check().map_err(|error| error.to_string());
        assert_eq!(checked.is_ok(), rows[name].answer, "{checked:?}: {:?}", rows[name]);
    }
}

/// The program where that user can execute it.
fn for_all() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::Builder::new().tempdir_in("/tmp").unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let copy = directory.path().join("stockade");
    fs::copy(STOCKADE, &copy).unwrap();
    (directory, copy)
}

fn the_rows_of_a_user_without_a_group() {
    let (_directory, program) = for_all();
    let user = NOBODY.to_string();
    let mut command = Command::new("setpriv");
    command.args([&format!("--reuid={user}"), &format!("--regid={user}"), "--clear-groups"]);
    let output = command.arg(program).arg("check").current_dir("/").output().unwrap();
    let rows = table(&output.stdout);
    compare(&rows, NOBODY, "self");
    assert!(rows.values().all(|row| !row.answer), "{rows:?}");
}

fn the_rows_of_a_delegated_user() {
    let parent = Delegated::to(NOBODY);
    let mut command = Command::new(STOCKADE);
    command.arg("check");
    let output = parent.run(command, NOBODY);
    let rows = table(&output.stdout);
    assert_eq!(parent.content(), Vec::<PathBuf>::new());
    let pids = &rows["pids"];
    let below = format!(", delegated below {}", parent.of("pids").display());
    assert!(pids.answer && pids.line.ends_with(&below), "{below}: {pids:?}");
    // The kernel lets only root say which devices.
    let devices = &rows["devices"];
    assert!(!devices.answer && devices.line.contains(", delegated below "), "{devices:?}");
    let answers = rows.values().filter(|row| row.line.contains(", delegated below "));
    assert!(answers.count() >= 8, "{rows:?}");
}

fn what_is_mounted_together_is_told() {
    own_mounts();
    let directory = tempfile::tempdir().unwrap();
    let point = directory.path().join("both");
    fs::create_dir(&point).unwrap();
    mount_together(&point);
    let rows = own_table();
    compare(&rows, 0, "self");
    for (name, other) in [("net_cls", "net_prio"), ("net_prio", "net_cls")] {
        let begin = format!("  v1  on {} with {other}, ", point.display());
        assert!(rows[name].answer && rows[name].line.contains(&begin), "{rows:?}");
    }
    unmount_all(&directory);
}

/// A hierarchy that was unmounted before the kernel had let its last group go stays, and keeps its
/// controller, until it is mounted once more.
fn mount_together(point: &Path) {
    for _ in 0..300 {
        if try_mount("cgroup", point, "net_cls,net_prio", 0) == 0 {
            return;
        }
        for name in ["net_cls", "net_prio"] {
            if try_mount("cgroup", point, name, 0) == 0 {
                unmount(point);
            }
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("{}", fs::read_to_string("/proc/cgroups").unwrap());
}

/// In a mount namespace without any: each command mounts what its row says is not.
fn what_is_not_mounted_comes_with_the_command() {
    own_mounts();
    detach(Path::new("/sys/fs/cgroup"));
    // Another test has those of the network.
    for name in ["pids", "perf_event"] {
        let rows = own_table();
        compare(&rows, 0, "self");
        let row = &rows[name];
        if row.answer {
            // v2 has them all.
            continue;
        }
        assert!(row.line.ends_with("not mounted"), "{row:?}");
        let remedy = row.remedy.as_deref().unwrap();
        let command = remedy.strip_prefix("run as root: ").unwrap_or_else(|| panic!("{remedy}"));
        assert!(Command::new("sh").args(["-c", command]).status().unwrap().success(), "{command}");
        let rows = own_table();
        compare(&rows, 0, "self");
        assert!(rows[name].answer, "{rows:?}");
    }
}
