//! Several ids inside, and ids of the host's for each sandbox.
#![allow(
    clippy::exit,
    clippy::incompatible_msrv,
    clippy::cast_possible_truncation,
    reason = "a test process, built by a current toolchain"
)]
#![allow(unsafe_code, reason = "changing ids, and mounts of the test's own")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails so")]

mod common;
#[path = "common/inside.rs"]
mod inside;
#[path = "common/mounts.rs"]
mod mounts;
#[path = "common/taking.rs"]
mod taking;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

use common::Needs;
use common::ways::Ways;
use inside::{myself, open_directory, refused, role, sh, sh_fails, status_field, succeed};
use mounts::{bind, own_mounts};
use stockade::{
    Capability, Child, Error, Feature, Hint, IdMap, Namespaces, Sandbox, Stage, Stdio, TimeOffsets,
};

tests_in_all_ways! {
    Needs::Nothing => [one_id_by_map, the_program_is_somebody_in_the_map, the_last_word_counts];
    Needs::Nothing => alone [contradictions, plans_show_the_map];
    Needs::Unprivileged => without_template [not_for_everybody];
    Needs::Root => without_template [
        a_range, ids_can_be_changed, packages_with_owners, owners_in_binds, binds_of_a_map_of_identity, without_a_gap,
        three_hundred_ranges, own_ids_differ, own_ids_of_many_processes,
        own_id_with_binds, own_id_needs_init, own_ids_share_no_limit,
    ];
    Needs::Root => alone [
        own_ids_are_free_again, own_id_with_a_joined_network, own_id_of_a_killed_embedder,
        own_ids_own_their_namespace,
    ];
    Needs::RootAndProgram("busybox") => without_template [su_without_pam];
    Needs::RootAndProgram("su") => without_template [su];
    Needs::RootAndProgram("apt-get") => without_template [apt];
    Needs::RootAndProgram("newuidmap") => without_template [
        subordinate_ids, helper_errors, helper_without_privilege, a_range_through_the_helper,
    ];
}

fn caller() -> (u32, u32) {
    (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw())
}

fn problems(sandbox: &Sandbox) -> Vec<String> {
    match sandbox.plan().unwrap_err() {
        Error::Invalid(problems) => problems,
        other => panic!("{other}"),
    }
}

fn contradictions() {
    let map = |map| Sandbox::new().id_map(map);
    let ids = |inside, host, count| IdMap::new().ids(inside, host, count);
    for (sandbox, texts) in [
        (map(IdMap::new()), &["the id map has no uid", "the id map has no gid"][..]),
        (map(IdMap::new().uids(0, 7, 1)), &["the id map has no gid"]),
        (map(ids(0, 7, 0)), &["the uid range from 0 on is empty"]),
        (map(ids(u32::MAX, 7, 1)), &["ends above"]),
        (map(ids(0, u32::MAX - 5, 10)), &["ends above"]),
        (map(ids(0, 7, 10).ids(9, 100, 1)), &["overlaps another one"]),
        (map(ids(0, 7, 10).ids(20, 16, 1)), &["overlaps another one"]),
        (map(ids(0, 7, 10)).uid(10), &["the program's uid 10 is not in the id map"]),
        (map(ids(0, 7, 10)).gid(10), &["the program's gid 10 is not in the id map"]),
        (
            map(ids(0, 7, 10)).capabilities([Capability::SYS_ADMIN]),
            &["one more user namespace, which can have one id only"],
        ),
    ] {
        let problems = problems(&sandbox);
        for text in texts {
            assert!(problems.iter().any(|problem| problem.contains(text)), "{text}: {problems:?}");
        }
    }
    let many = (0..400).fold(IdMap::new(), |map, id| map.ids(id, 1000 + id * 2, 1));
    assert!(problems(&map(many)).iter().any(|problem| problem.contains("more than 337")));
    let own = fs::File::open("/proc/self/ns/user").unwrap();
    let joined = map(ids(0, 7, 1)).join(Namespaces::USER, own);
    assert!(problems(&joined).iter().any(|problem| problem.contains("is joined")));
}

fn one_id_by_map() {
    let (uid, gid) = caller();
    let sandbox = Sandbox::new().id_map(IdMap::new().uids(5, uid, 1).gids(6, gid, 1));
    assert_eq!(sh(&sandbox, "id -u; id -g"), "5\n6\n");
    let directory = open_directory();
    let bound = sandbox.bind_rw(directory.path(), "/srv");
    assert_eq!(sh(&bound, "touch /srv/file; stat -c %u:%g /srv/file"), "5:6\n");
    let file = directory.path().join("file").metadata().unwrap();
    assert_eq!((file.uid(), file.gid()), (uid, gid));
}

fn the_program_is_somebody_in_the_map() {
    let plan = |map| Sandbox::new().id_map(map).plan().unwrap().to_string();
    if inside::is_root() {
        let map = IdMap::new().ids(0, 100_000, 65_536);
        assert!(plan(map).contains("become uid 1000, gid 1000"));
    } else {
        let (uid, gid) = caller();
        let map = IdMap::new().uids(0, 1, 5).uids(5, uid, 1).gids(0, 1, 7).gids(7, gid, 1);
        assert!(plan(map).contains("become uid 5, gid 7"));
    }
    assert!(plan(IdMap::new().ids(3, 100_000, 2)).contains("become uid 3, gid 3"));
    let sandbox = Sandbox::new().id_map(IdMap::new().ids(0, 100_000, 10)).uid(7).gid(8);
    assert!(sandbox.plan().unwrap().to_string().contains("become uid 7, gid 8"));
}

fn plans_show_the_map() {
    let map = IdMap::new().uids(0, 100_000, 1000).uids(1000, 7, 1).gids(0, 200_000, 65_536);
    let plan = Sandbox::new().id_map(map.clone()).plan().unwrap();
    for line in [
        "map uid 0 to 999 to the host's 100000 to 100999: ",
        "map uid 1000 to the host's 7: ",
        "map gid 0 to 65535 to the host's 200000 to 265535: ",
    ] {
        assert!(plan.to_string().contains(line), "{line}: {plan}");
    }
    assert_ne!(plan, Sandbox::new().id_map(map.uids(2000, 8, 1)).plan().unwrap());
    if inside::is_root() {
        let plan = Sandbox::new().own_host_id().plan().unwrap();
        assert!(
            plan.to_string().contains("to one of the host's that no other sandbox has"),
            "{plan}"
        );
        assert_eq!(plan, Sandbox::new().own_host_id().plan().unwrap());
    }
}

fn the_last_word_counts() {
    let map = IdMap::new().ids(0, 100_000, 10);
    let plan = Sandbox::new().id_map(map.clone()).as_host_root().plan().unwrap();
    assert!(!plan.to_string().contains("100000"), "{plan}");
    let plan = Sandbox::new().own_host_id().id_map(map).plan().unwrap();
    assert!(plan.to_string().contains("100009"), "{plan}");
}

fn not_for_everybody() {
    let error = refused(&Sandbox::new().own_host_id());
    assert_eq!(error.hint(), Some(&Hint::OnlyRootChoosesIds), "{error}");
    assert_eq!(error.raw_os_error(), Some(libc::EPERM), "{error}");
    // Of one id only, nothing could help.
    let error = refused(&Sandbox::new().id_map(IdMap::new().ids(0, 0, 1)));
    assert_eq!((error.stage(), error.raw_os_error()), (Some(Stage::Identity), Some(libc::EPERM)));
    // Many would need an entry that nobody has made for this user, or the helper.
    let error = refused(&Sandbox::new().id_map(IdMap::new().ids(0, 1, 60_000)));
    assert_eq!(error.stage(), Some(Stage::Identity), "{error}");
    assert!(error.hint().is_some(), "{error}");
}

// ---- ranges, as root ---------------------------------------------------------------------------

/// Ids 0 to 1999 inside, of which the program is root, with the power over them.
fn range() -> Sandbox {
    use Capability as C;
    let powers = [C::CHOWN, C::SETUID, C::SETGID, C::FOWNER, C::DAC_OVERRIDE, C::KILL];
    let map = IdMap::new().ids(0, 100_000, 2000);
    Sandbox::new().id_map(map).uid(0).gid(0).capabilities(powers)
}

fn a_range() {
    let child = range().way_to("sleep").arg("1000").spawn().unwrap();
    let program = child.program_id().unwrap();
    assert!(status_field(program, "Uid").starts_with("100000\t"));
    assert!(status_field(program, "Gid").starts_with("100000\t"));
    assert_eq!(status_field(program, "Groups"), "");
    let map = fs::read_to_string(format!("/proc/{program}/uid_map")).unwrap();
    assert_eq!(map.split_whitespace().collect::<Vec<_>>(), ["0", "100000", "2000"]);
    drop(child);
    let script =
        "cd /tmp; touch file; chown 5:7 file; stat -c %u:%g file; chown 2000 file || echo none";
    assert_eq!(sh(&range(), script), "5:7\nnone\n");
    // What the host's root owns belongs to nobody inside.
    assert_eq!(sh(&range(), "stat -c %u /usr"), "65534\n");
    let weak = Sandbox::new().id_map(IdMap::new().ids(0, 100_000, 2000));
    sh_fails(&weak, "touch /tmp/file; chown 5 /tmp/file", "not permitted");
}

/// What su, apt and every server do.
fn ids_can_be_changed() {
    let test = "ids_can_be_changed";
    if role().is_some() {
        let groups = [7, 8];
        // SAFETY: two groups are valid for reading.
        assert_eq!(unsafe { libc::setgroups(2, groups.as_ptr()) }, 0);
        // SAFETY: takes numbers.
        assert_eq!(unsafe { libc::setresgid(33, 33, 33) }, 0);
        // SAFETY: takes numbers.
        assert_eq!(unsafe { libc::setresuid(33, 33, 33) }, 0);
        fs::write("/tmp/of-33", "").unwrap();
        let file = fs::metadata("/tmp/of-33").unwrap();
        println!("{} {} {:?}", file.uid(), file.gid(), nix::unistd::getgroups().unwrap());
        std::process::exit(0);
    }
    let shown = succeed(myself(&range(), test, "other"));
    assert_eq!(shown, "33 33 [Gid(7), Gid(8)]\n");
    let refused = myself(&range().capabilities([Capability::CHOWN]), test, "other").output();
    assert!(!refused.unwrap().outcome.is_success());
}

/// Ids of a whole system, and the powers over them that a package manager has.
fn system() -> Sandbox {
    use Capability as C;
    let powers = [C::CHOWN, C::DAC_OVERRIDE, C::FOWNER, C::FSETID, C::SETUID, C::SETGID];
    Sandbox::new().id_map(IdMap::new().ids(0, 100_000, 65_536)).uid(0).gid(0).capabilities(powers)
}

const WHO: &str = "echo $(id -u):$(id -g):$(id -G)";

/// PAM has to be told what to ask for, as nothing of the host's /etc/pam.d is there.
fn su() {
    let pam = "auth sufficient pam_rootok.so\naccount sufficient pam_rootok.so\n\
               session required pam_permit.so\n";
    let command = format!("su -s /bin/sh nobody -c '{WHO}'");
    sh_fails(&system(), &command, "su: ");
    let system = system().file("/etc/pam.d/su", pam);
    assert_eq!(sh(&system, &command), "65534:65534:65534\n");
    // The way back is a setuid bit, which counts nowhere.
    sh_fails(&system, "su -s /bin/sh nobody -c 'su -c id </dev/null'", "su: ");
    sh_fails(&system.capabilities([Capability::CHOWN]), &command, "su: ");
}

fn su_without_pam() {
    let command = format!("busybox su -s /bin/sh nobody -c '{WHO}'");
    assert_eq!(sh(&system(), &command), "65534:65534:65534\n");
    sh_fails(&range(), &command, "su: ");
}

/// A package with files of several owners and a setuid bit, as a script that makes it.
const PACKAGE: &str = r#"set -eu
    mkdir -p pkg/DEBIAN pkg/var/www pkg/usr/bin
    printf '%s\n' 'Package: one' 'Version: 1' 'Architecture: all' \
        'Maintainer: one <one@localhost>' 'Description: one' >pkg/DEBIAN/control
    echo page >pkg/var/www/page; chown 33:33 pkg/var/www/page
    echo '#!/bin/sh' >pkg/usr/bin/tool; chown 0:4 pkg/usr/bin/tool; chmod 4755 pkg/usr/bin/tool
    dpkg-deb -b pkg one.deb >/dev/null
"#;

/// apt fetches as a user of its own, to whom it gives a directory, and has dpkg install.
fn apt() {
    let directory = open_directory();
    let script = r#"t=/root/target
        { dpkg-deb -f one.deb; echo Filename: ./one.deb; echo Size: $(stat -c %s one.deb)
          echo SHA256: $(sha256sum one.deb | cut -d' ' -f1); } >Packages
        mkdir -p $t/var/lib/dpkg/info $t/var/lib/dpkg/updates $t/var/lib/apt/lists/partial \
            $t/var/cache/apt/archives/partial $t/var/log/apt $t/etc/apt
        touch $t/var/lib/dpkg/status $t/var/lib/dpkg/available
        echo 'deb [trusted=yes] file:/root ./' >$t/etc/apt/sources.list
        apt() {
            apt-get -qq -o Dir=$t -o Dir::State::status=$t/var/lib/dpkg/status \
                -o DPkg::Options::=--root=$t "$@" >log 2>&1 || { cat log >&2; exit 1; }
            if grep -q 'drop privileges' log; then cat log; fi
        }
        apt update
        apt install -y one
        dpkg --root=$t -s one | grep ^Status
        cd $t; stat -c '%u:%g %a' var/www/page usr/bin/tool var/lib/apt/lists/partial"#;
    let users = "root:x:0:0:root:/root:/bin/sh\n_apt:x:42:65534::/:/usr/sbin/nologin\n";
    let sandbox = system().bind_rw(directory.path(), "/root").file("/etc/passwd", users);
    let seen = sh(&sandbox, &format!("cd /root\n{PACKAGE}{script}"));
    assert_eq!(seen, "Status: install ok installed\n33:33 644\n0:4 4755\n42:0 700\n");
    let page = directory.path().join("target/var/www/page").metadata().unwrap();
    assert_eq!((page.uid(), page.gid()), (100_033, 100_033));
}

/// dpkg makes files of several owners, with setuid bits; outside they are the range's.
fn packages_with_owners() {
    if !common::is_installed("dpkg-deb") {
        // Its archives are made by tar, which does the same.
        let script = "cd /tmp && mkdir a b && touch a/f && chown 33:4 a/f && chmod 4755 a/f && \
                      tar -cf - -C a . | tar -xpf - -C b && stat -c '%u:%g %a' b/f";
        assert_eq!(sh(&system(), script), "33:4 4755\n");
        return;
    }
    let directory = open_directory();
    let script = "mkdir -p /root/var/lib/dpkg/info /root/var/lib/dpkg/updates
        touch /root/var/lib/dpkg/status /root/var/lib/dpkg/available
        dpkg --root=/root -i one.deb >/dev/null
        dpkg --root=/root -s one | grep ^Status
        stat -c '%u:%g %a' /root/var/www/page /root/usr/bin/tool";
    let sandbox = system().bind_rw(directory.path(), "/root");
    let seen = sh(&sandbox, &format!("cd /tmp\n{PACKAGE}{script}"));
    assert_eq!(seen, "Status: install ok installed\n33:33 644\n0:4 4755\n");
    let page = directory.path().join("var/www/page").metadata().unwrap();
    assert_eq!((page.uid(), page.gid()), (100_033, 100_033));
}

fn owners_in_binds() {
    let directory = open_directory();
    let place = directory.path();
    for (name, owner) in [("of-root", 0), ("of-33", 100_033), ("of-a-stranger", 4711)] {
        fs::write(place.join(name), "").unwrap();
        chown(place.join(name), Some(owner), Some(owner)).unwrap();
    }
    fs::set_permissions(place, fs::Permissions::from_mode(0o777)).unwrap();
    let seen = "cd /srv; stat -c '%n %u:%g' of-*; touch new; chown 5:6 new || exit 1; touch mine";
    let shown = "of-33 33:33\nof-a-stranger 65534:65534\nof-root 0:0\n";
    assert_eq!(sh(&range().bind_rw(place, "/srv"), seen), shown);
    let owner =
        |name: &str| place.join(name).metadata().map(|file| (file.uid(), file.gid())).unwrap();
    assert_eq!((owner("new"), owner("mine")), ((100_005, 100_006), (0, 0)));
    // The caller's are the program's, whoever that is.
    let other = range().uid(33).gid(33).bind_rw(place, "/srv");
    let shown = "of-33 65534:65534\nof-a-stranger 65534:65534\nof-root 33:33\n";
    assert_eq!(sh(&other, "cd /srv; stat -c '%n %u:%g' of-*; touch of-the-program"), shown);
    assert_eq!(owner("of-the-program"), (0, 0));
    sh_fails(&range().bind_ro(place, "/srv"), "touch /srv/x", "Read-only");
}

fn binds_of_a_map_of_identity() {
    let directory = open_directory();
    chown(directory.path(), Some(7), Some(7)).unwrap();
    let sandbox = Sandbox::new().id_map(IdMap::new().ids(0, 0, 100)).uid(7).gid(7);
    let shown = sh(&sandbox.bind_rw(directory.path(), "/srv"), "stat -c %u /srv; id -u");
    // Root's files are the program's, so what is its own on the host is not shown as that.
    assert_eq!(shown, "65534\n7\n");
}

fn without_a_gap() {
    let map = IdMap::new().ids(0, 100_000, 1000).ids(1000, 4711, 1).ids(1001, 101_001, 10);
    let child = Sandbox::new().id_map(map).way_to("sleep").arg("1000").spawn().unwrap();
    assert!(status_field(child.program_id().unwrap(), "Uid").starts_with("4711\t"));
}

fn three_hundred_ranges() {
    // Short ones, as all have to fit into a page.
    let map = |first| (0..300).fold(IdMap::new(), |map, id| map.ids(id, first + id * 2, 1));
    let directory = open_directory();
    let sandbox = Sandbox::new().id_map(map(1)).bind_ro(directory.path(), "/srv");
    assert_eq!(sh(&sandbox, "wc -l </proc/self/uid_map; stat -c %u /srv"), "300\n0\n");
    let longer = problems(&Sandbox::new().id_map(map(1_000_000)));
    assert!(longer[0].contains("longer than the page"), "{longer:?}");
}

// ---- an id of the host's for each --------------------------------------------------------------

fn sleeping(sandbox: &Sandbox) -> Child {
    sandbox.way_to("sleep").arg("1000").spawn().unwrap()
}

fn host_id(child: &Child) -> u32 {
    let ids = |field| -> Vec<u32> {
        let text = status_field(child.program_id().unwrap(), field);
        text.split_whitespace().map(|id| id.parse().unwrap()).collect()
    };
    let uid = ids("Uid")[0];
    assert!((0x7800_0000..0x7900_0000).contains(&uid), "{uid}");
    assert_eq!((ids("Uid"), ids("Gid")), (vec![uid; 4], vec![uid; 4]));
    uid
}

fn own_ids_differ() {
    let sandbox = Sandbox::new().own_host_id();
    let children: Vec<_> = (0..20).map(|_| sleeping(&sandbox)).collect();
    let ids: BTreeSet<_> = children.iter().map(host_id).collect();
    assert_eq!(ids.len(), 20);
    assert_eq!(sh(&sandbox, "id -u; id -g; touch /tmp/x; stat -c %u /tmp/x"), "1000\n1000\n1000\n");
    assert_eq!(sh(&sandbox.uid(0).gid(7), "id -u; id -g"), "0\n7\n");
}

fn own_ids_of_many_processes() {
    use std::io::{BufRead, BufReader, Write};
    let test = "own_ids_of_many_processes";
    if role().is_some() {
        let sandbox = Sandbox::new().own_host_id();
        let children = std::thread::scope(|scope| {
            let spawn = || (0..4).map(|_| sleeping(&sandbox)).collect::<Vec<_>>();
            let workers: Vec<_> = (0..4).map(|_| scope.spawn(spawn)).collect();
            workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect::<Vec<_>>()
        });
        for child in &children {
            println!("{}", host_id(child));
        }
        println!("all");
        std::io::stdout().flush().unwrap();
        // Until the others have theirs.
        std::io::stdin().read_line(&mut String::new()).unwrap();
        return;
    }
    let mut processes: Vec<_> = (0..4)
        .map(|_| {
            let mut command = inside::myself_outside(test, "embedder");
            let piped = std::process::Stdio::piped;
            command.stdin(piped()).stdout(piped()).spawn().unwrap()
        })
        .collect();
    let mut ids = Vec::new();
    for process in &mut processes {
        let lines = BufReader::new(process.stdout.as_mut().unwrap()).lines();
        ids.extend(lines.map(Result::unwrap).take_while(|line| line != "all"));
    }
    for process in &mut processes {
        drop(process.stdin.take());
        assert!(process.wait().unwrap().success());
    }
    assert_eq!(ids.len(), 64);
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 64);
}

fn own_ids_are_free_again() {
    let sandbox = Sandbox::new().own_host_id();
    let before = fs::read_dir("/proc/self/fd").unwrap().count();
    for _ in 0..20 {
        drop(sleeping(&sandbox));
    }
    // The process keeps what it makes once: init, and the warden's lines.
    assert!(fs::read_dir("/proc/self/fd").unwrap().count() < before + 10);
}

fn own_id_with_binds() {
    let directory = open_directory();
    let sandbox = Sandbox::new().own_host_id().bind_rw(directory.path(), "/srv");
    for name in ["one", "two"] {
        let script = format!("touch /srv/{name}; stat -c %u:%g /srv /srv/{name}");
        assert_eq!(sh(&sandbox, &script), "1000:1000\n1000:1000\n");
        let file = directory.path().join(name).metadata().unwrap();
        assert_eq!((file.uid(), file.gid()), (0, 0));
    }
}

fn own_id_with_a_joined_network() {
    let first = Sandbox::new().way_to("sleep").arg("1000").spawn().unwrap();
    let network = fs::File::open(format!("/proc/{}/ns/net", first.id())).unwrap();
    let sandbox = Sandbox::new().own_host_id().join(Namespaces::NET, network);
    let (one, two) = (sleeping(&sandbox), sleeping(&sandbox));
    assert_ne!(host_id(&one), host_id(&two));
}

fn own_id_needs_init() {
    let problems = problems(&Sandbox::new().own_host_id().init(false));
    assert!(problems[0].contains("needs init"), "{problems:?}");
    // The program does not have what holds the id.
    assert_eq!(sh(&Sandbox::new().own_host_id(), "ls /proc/self/fd | wc -l"), "4\n");
}

/// As long as anything of the sandbox lives, init has the id.
fn own_id_of_a_killed_embedder() {
    let test = "own_id_of_a_killed_embedder";
    let user = |process: u32| fs::read_link(format!("/proc/{process}/ns/user")).ok();
    if role().is_some() {
        let child = sleeping(&Sandbox::new().own_host_id());
        let id = host_id(&child);
        // The namespace with the number that the id comes from is held by init.
        let held = fs::read_dir(format!("/proc/{}/fd", child.id())).unwrap();
        let links = held.map(|entry| fs::read_link(entry.unwrap().path()).unwrap());
        let wanted = format!("user:[{}]", u64::from(id - 0x7800_0000) + 0xf000_0000);
        assert!(links.into_iter().any(|link| link == Path::new(&wanted)), "{wanted}");
        assert_ne!(user(child.id()).unwrap(), Path::new(&wanted));
        print!("{}", child.id());
        std::io::Write::flush(&mut std::io::stdout()).unwrap();
        // SAFETY: takes numbers.
        unsafe { libc::raise(libc::SIGKILL) };
    }
    let output = inside::myself_outside(test, "embedder").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let init: u32 = text
        .parse()
        .unwrap_or_else(|_| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)));
    for _ in 0..1000 {
        if user(init).is_none() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("the sandbox goes on");
}

// ---- ranges, for who is not root ---------------------------------------------------------------

/// Runs the test again as nobody, with these files of subordinate ids.
fn as_nobody(test: &str, role: &str, subuid: &str, subgid: &str) {
    let directory = open_directory();
    for (name, text) in [("subuid", subuid), ("subgid", subgid)] {
        let file = directory.path().join(name);
        fs::write(&file, text).unwrap();
        let there = Path::new("/etc").join(name);
        assert!(there.exists(), "{there:?} is not there to be covered");
        bind(&file, &there);
    }
    let binary = directory.path().join("test");
    fs::copy(std::env::current_exe().unwrap(), &binary).unwrap();
    let mut command = std::process::Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--groups=4,24"]).arg(&binary);
    command.env("STOCKADE_TEST_CHILD", test).env("STOCKADE_TEST_ROLE", role);
    let output = command.output().unwrap();
    for name in ["subuid", "subgid"] {
        let place = std::ffi::CString::new(format!("/etc/{name}")).unwrap();
        // SAFETY: it is NUL-terminated and lives until the end of the call.
        assert_eq!(unsafe { libc::umount2(place.as_ptr(), 0) }, 0);
    }
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

const SUBIDS: &str = "root:900000:10\nnobody:300000:70000\n";

fn subordinate_ids() {
    if role().is_some() {
        use Capability as C;
        let powers = [C::CHOWN, C::SETUID, C::SETGID, C::FOWNER];
        let sandbox = Sandbox::new().id_map(IdMap::subordinate()).capabilities(powers);
        assert_eq!(sh(&sandbox, "id -u; id -g; id -G"), "0\n0\n0\n");
        let map = sh(&sandbox, "awk '{print $1, $2, $3}' /proc/self/uid_map /proc/self/gid_map");
        assert_eq!(map, "0 65534 1\n1 300000 70000\n".repeat(2));
        assert_eq!(sh(&sandbox, "cd /tmp; touch f; chown 70000:5 f; stat -c %u:%g f"), "70000:5\n");
        std::thread::scope(|scope| {
            for _ in 0..64 {
                scope.spawn(|| assert_eq!(sh(&sandbox, "wc -l </proc/self/uid_map"), "2\n"));
            }
        });
        // The caller's files are its own, and its groups are gone.
        let directory = open_directory();
        let bound = sandbox.clone().bind_rw(directory.path(), "/srv");
        assert_eq!(sh(&bound, "stat -c %u:%g /srv; touch /srv/file"), "0:0\n");
        assert_eq!(directory.path().join("file").metadata().unwrap().uid(), 65534);
        let child = sandbox.require(Feature::SupplementaryGroups).command("sleep").arg("1000");
        let child = child.stdout(Stdio::null()).spawn().unwrap();
        assert_eq!(child.missing(), []);
        assert_eq!(status_field(child.program_id().unwrap(), "Groups"), "");
        return;
    }
    own_mounts();
    as_nobody("subordinate_ids", "user", SUBIDS, SUBIDS);
}

fn a_range_through_the_helper() {
    if role().is_some() {
        // The program is none of the caller's ids.
        let map = IdMap::new().ids(0, 300_000, 1000);
        let sandbox = Sandbox::new().id_map(map).uid(33).gid(33);
        let child = sleeping(&sandbox);
        assert!(status_field(child.program_id().unwrap(), "Uid").starts_with("300033\t"));
        let directory = open_directory();
        let bound = sandbox.bind_rw(directory.path(), "/srv");
        assert_eq!(sh(&bound, "stat -c %u /srv"), "65534\n");
        sh_fails(&bound, "touch /srv/x", "Permission denied");
        return;
    }
    own_mounts();
    as_nobody("a_range_through_the_helper", "user", SUBIDS, SUBIDS);
}

fn helper_errors() {
    let test = "helper_errors";
    let map = |host| Sandbox::new().id_map(IdMap::new().ids(0, host, 100));
    let told = |sandbox: &Sandbox| {
        let error = refused(sandbox);
        assert_eq!(error.stage(), Some(Stage::Identity), "{error}");
        assert!(error.to_string().starts_with("newuidmap 0 "), "{error}");
        (error.raw_os_error().unwrap(), error.hint().unwrap().clone())
    };
    match role().as_deref() {
        Some("none") => {
            assert_eq!(told(&map(300_000)), (libc::EPERM, Hint::NoSubordinateIds));
            let error = refused(&Sandbox::new().id_map(IdMap::subordinate()));
            assert_eq!(error.hint(), Some(&Hint::NoSubordinateIds), "{error}");
        }
        Some("other") => {
            let expected = (libc::EPERM, Hint::RangeNotAllowed("/etc/subuid"));
            assert_eq!(told(&map(500_000)), expected);
            assert_eq!(told(&map(369_950)), expected);
            assert_eq!(told(&map(0)), expected);
        }
        Some("groups") => {
            let error = refused(&map(300_000));
            assert!(error.to_string().starts_with("newgidmap 0 300000 100: "), "{error}");
            assert_eq!(error.hint(), Some(&Hint::RangeNotAllowed("/etc/subgid")), "{error}");
        }
        Some(_) => assert_eq!(told(&map(300_000)), (libc::ENOENT, Hint::NoMapHelper("newuidmap"))),
        None => {
            own_mounts();
            as_nobody(test, "none", "root:300000:70000\n", "");
            as_nobody(test, "other", SUBIDS, SUBIDS);
            as_nobody(test, "groups", SUBIDS, "nobody:400000:10\n");
            // No file any more.
            for directory in ["/usr/bin", "/bin", "/usr/sbin", "/usr/local/bin"] {
                let helper = Path::new(directory).join("newuidmap");
                if helper.is_file() {
                    bind(Path::new("/dev/null"), &helper);
                }
            }
            as_nobody(test, "missing", SUBIDS, SUBIDS);
        }
    }
}

fn helper_without_privilege() {
    let test = "helper_without_privilege";
    if role().is_some() {
        let error = refused(&Sandbox::new().id_map(IdMap::new().ids(0, 300_000, 100)));
        assert_eq!(error.hint(), Some(&Hint::MapHelperUnprivileged("newuidmap")), "{error}");
        return;
    }
    own_mounts();
    let directory = open_directory();
    let copy = directory.path().join("newuidmap");
    fs::copy("/usr/bin/newuidmap", &copy).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    bind(&copy, Path::new("/usr/bin/newuidmap"));
    as_nobody(test, "user", SUBIDS, SUBIDS);
}

// ---- what the kernel counts for a user ---------------------------------------------------------

/// How much each of two sandboxes gets, while the other has what it has.
fn each_gets(sandbox: &Sandbox, test: &str, kind: &str) -> [usize; 2] {
    use std::io::{BufRead, BufReader};
    let mut children = Vec::new();
    [(); 2].map(|()| {
        let command = myself(sandbox, test, kind);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        children.push(child);
        line.trim().parse().unwrap_or_else(|_| panic!("{kind}: {line:?}"))
    })
}

fn own_ids_share_no_limit() {
    let test = "own_ids_share_no_limit";
    if let Some(kind) = role() {
        println!("{}", taking::take_all(&kind));
        // Until the other has its own.
        std::io::stdin().read_line(&mut String::new()).unwrap();
        return;
    }
    for (resource, most) in [
        (libc::RLIMIT_MSGQUEUE, 300_000),
        (libc::RLIMIT_SIGPENDING, 500),
        (libc::RLIMIT_MEMLOCK, 1 << 20),
    ] {
        let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
        // SAFETY: a limit of this process, which runs this test only.
        assert_eq!(unsafe { libc::setrlimit(resource, &raw const limit) }, 0);
    }
    for (kind, least) in [("queues", 10), ("signals", 490), ("memory", 16)] {
        let [one, other] = each_gets(&Sandbox::new().own_host_id(), test, kind);
        assert!(one >= least && one.abs_diff(other) <= 2, "{kind}: {one} and {other}");
        // Of the memory the kernel takes the user's bytes for pages: nobody reaches that limit.
        if kind == "memory" {
            continue;
        }
        // Both are the caller's.
        let [first, second] = each_gets(&Sandbox::new(), test, kind);
        assert!(first + second <= one + 2, "{kind}: {first} and {second} of {one}");
    }
    // As many as each sandbox may have. Not tried with the caller's: they are the host's.
    assert_eq!(each_gets(&Sandbox::new().own_host_id(), test, "inotify"), [32, 32]);
}

/// The namespace belongs to its own id, which nothing outside has, and what init does as the id that
/// made it works: files of its own in /proc, and clocks.
fn own_ids_own_their_namespace() {
    use std::os::fd::AsRawFd;
    const NS_GET_OWNER_UID: libc::Ioctl = 0xb704;
    let owner = |child: &Child| {
        let namespace = fs::File::open(format!("/proc/{}/ns/user", child.id())).unwrap();
        let mut uid: libc::uid_t = 0;
        // SAFETY: writes one uid.
        let got = unsafe { libc::ioctl(namespace.as_raw_fd(), NS_GET_OWNER_UID, &raw mut uid) };
        assert_eq!(got, 0, "{}", std::io::Error::last_os_error());
        uid
    };
    let own = Sandbox::new().own_host_id();
    let child = sleeping(&own);
    assert_eq!(owner(&child), host_id(&child));
    assert_eq!(owner(&sleeping(&Sandbox::new())), 0);
    let first = Sandbox::new().way_to("sleep").arg("1000").spawn().unwrap();
    let network = fs::File::open(format!("/proc/{}/ns/net", first.id())).unwrap();
    for sandbox in [own.clone(), own.join(Namespaces::NET, network)] {
        let sandbox = sandbox
            .oom_score_adj(700)
            .time_offsets(TimeOffsets { monotonic: 1 << 30, boottime: 0 });
        let script = "cat /proc/self/oom_score_adj; cat /proc/self/timens_offsets";
        let text = sh(&sandbox, script);
        assert!(text.starts_with("700\n") && text.contains("1073741824"), "{text}");
    }
    // What it has locked is that id's as well.
    let sandbox = Sandbox::new().own_host_id().capabilities([Capability::SYS_ADMIN]);
    assert_eq!(sh(&sandbox, "id -u"), "1000\n");
}
