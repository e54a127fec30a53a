//! Root images as people have them, used as they come.
#![allow(
    clippy::exit,
    clippy::incompatible_msrv,
    reason = "a test process, built by a current toolchain"
)]
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

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use common::{Needs, image};
use inside::{open_directory, sh, sh_fails};
use stockade::{IdMap, Rootfs, Sandbox};

tests! {
    Needs::Program("busybox") => [
        busybox_root, its_own_etc, nothing_is_written_to_it, its_places_to_write, writable,
        as_root_inside, what_only_the_owner_may_read, links_of_an_image_stay_inside, links_while_others_rename,
        two_at_once, with_the_hosts_files_on_top,
    ];
    Needs::Image => [debian_root, debian_root_as_root_inside];
    Needs::RootAndImage => [debian_packages];
}

const PASSWD: &str =
    "root:x:0:0:of the image:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n";

/// As an unpacked Alpine: a busybox with its links, and a configuration of its own.
fn busybox() -> tempfile::TempDir {
    let image = open_directory();
    let at = |name: &str| image.path().join(name);
    for name in [
        "bin", "sbin", "usr/bin", "usr/sbin", "lib", "etc", "root", "home", "var/tmp", "var/log",
        "run", "mnt", "proc", "sys", "dev", "tmp", "opt", "srv",
    ] {
        fs::create_dir_all(at(name)).unwrap();
    }
    fs::set_permissions(at("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
    fs::copy("/usr/bin/busybox", at("bin/busybox")).unwrap();
    let list = Command::new(at("bin/busybox")).arg("--list-full").output().unwrap().stdout;
    for path in String::from_utf8(list).unwrap().lines() {
        let link = at(path);
        if link.parent().is_some_and(Path::is_dir) && !link.exists() {
            symlink("/bin/busybox", link).unwrap();
        }
    }
    for (name, text) in [
        ("passwd", PASSWD),
        ("group", "root:x:0:\nuser:x:1000:\n"),
        ("os-release", "ID=boxed\n"),
        ("hostname", "image\n"),
        ("hosts", "127.0.0.1 localhost of-the-image\n"),
        ("profile", "export FROM_PROFILE=yes\n"),
    ] {
        fs::write(at("etc").join(name), text).unwrap();
    }
    image
}

fn read_only(image: &tempfile::TempDir) -> Sandbox {
    Sandbox::new().rootfs(Rootfs::directory(image.path()))
}

/// Everything of an image: kind and permissions, owner, size and time of the last change.
fn listing(directory: &Path) -> BTreeMap<PathBuf, (u32, u32, u64, i64, i64)> {
    let mut found = BTreeMap::new();
    let mut waiting = vec![directory.to_owned()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(directory).unwrap().flatten() {
            let (path, data) = (entry.path(), entry.path().symlink_metadata().unwrap());
            if data.is_dir() {
                waiting.push(path.clone());
            }
            let facts = (data.mode(), data.uid(), data.size(), data.mtime(), data.ctime_nsec());
            found.insert(path, facts);
        }
    }
    found
}

fn busybox_root() {
    let image = busybox();
    let sandbox = read_only(&image);
    let script = "seq 100 | sort -rn | head -n 1; find /etc -type f | wc -l; \
        awk 'BEGIN { print 6*7 }'; ps >/dev/null && echo ps; pwd";
    assert_eq!(sh(&sandbox, script), "100\n6\n42\nps\n/home/user\n");
    // A login shell reads the image's profile.
    assert_eq!(sh(&sandbox, "sh -lc 'echo $FROM_PROFILE'"), "yes\n");
}

fn its_own_etc() {
    let image = busybox();
    let sandbox = read_only(&image);
    assert_eq!(sh(&sandbox, "cat /etc/passwd"), PASSWD);
    assert_eq!(sh(&sandbox, "cat /etc/os-release /etc/hostname"), "ID=boxed\nimage\n");
    assert_eq!(sh(&sandbox, "ls /etc | wc -l"), "6\n");
    assert_eq!(sh(&sandbox.uid(1000).gid(1000), "whoami"), "user\n");
}

fn nothing_is_written_to_it() {
    let image = busybox();
    let before = listing(image.path());
    for script in [
        "touch /etc/new || touch /root/new || rm /bin/sh || chmod 700 /srv || mkdir /opt/x || true",
        "mktemp; echo x >~/file; echo x >/dev/shm/x; mkdir -p /tmp/a/b; true",
    ] {
        sh(&read_only(&image), script);
        sh(&read_only(&image).uid(0).gid(0), script);
    }
    assert!(listing(image.path()) == before);
}

fn its_places_to_write() {
    let image = busybox();
    let sandbox = read_only(&image);
    sh(&sandbox, "for d in /tmp /home/user /dev/shm; do echo x >$d/file || exit 1; done");
    for place in ["/", "/etc", "/root", "/var/tmp", "/run", "/bin"] {
        sh_fails(&sandbox, &format!("echo x >{place}/file"), "");
    }
    // Each run has its own.
    assert_eq!(sh(&sandbox, "ls /tmp /home/user"), "/home/user:\n\n/tmp:\n");
}

fn writable() {
    let image = busybox();
    let sandbox = Sandbox::new().rootfs(Rootfs::directory(image.path()).writable());
    sh(&sandbox, "echo kept >/srv/kept; mkdir /opt/d; echo x >/tmp/x; echo x >/dev/shm/x");
    assert_eq!(fs::read_to_string(image.path().join("srv/kept")).unwrap(), "kept\n");
    let own = nix::unistd::geteuid().as_raw();
    for made in ["srv/kept", "opt/d"] {
        assert_eq!(image.path().join(made).metadata().unwrap().uid(), own, "{made}");
    }
    assert_eq!(fs::read_dir(image.path().join("tmp")).unwrap().count(), 0);
    assert_eq!(fs::read_dir(image.path().join("dev")).unwrap().count(), 0);
    // The next one finds it.
    assert_eq!(sh(&sandbox, "cat /srv/kept"), "kept\n");
}

fn as_root_inside() {
    let image = busybox();
    let sandbox = read_only(&image).uid(0).gid(0);
    assert_eq!(sh(&sandbox, "id -un; stat -c %U /etc/passwd"), "root\nroot\n");
}

fn what_only_the_owner_may_read() {
    let image = busybox();
    let shadow = image.path().join("etc/shadow");
    fs::write(&shadow, "root:*:::::::\n").unwrap();
    fs::set_permissions(&shadow, fs::Permissions::from_mode(0o600)).unwrap();
    // The image is the caller's, and the program is it inside.
    assert_eq!(sh(&read_only(&image), "cat /etc/shadow"), "root:*:::::::\n");
}

fn links_of_an_image_stay_inside() {
    let image = busybox();
    let at = |name: &str| image.path().join(name);
    fs::remove_dir(at("tmp")).unwrap();
    symlink("../../../../var/tmp", at("tmp")).unwrap();
    symlink("/etc/passwd", at("srv/link")).unwrap();
    let sandbox = read_only(&image);
    assert_eq!(sh(&sandbox, "cat /srv/link"), PASSWD);
    sh(&sandbox, "echo x >/tmp/x && test -e /var/tmp/x");
    assert_eq!(fs::read_dir(at("var/tmp")).unwrap().count(), 0);
}

/// The kernel does not vouch for a way up while anything on the machine is renamed: it is asked
/// again.
fn links_while_others_rename() {
    let image = busybox();
    let tmp = image.path().join("tmp");
    fs::remove_dir(&tmp).unwrap();
    symlink("../bin/../srv/../bin/../var/tmp", &tmp).unwrap();
    let other = open_directory();
    let (one, two) = (other.path().join("one"), other.path().join("two"));
    fs::create_dir(&one).unwrap();
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done.load(Ordering::Relaxed) {
                fs::rename(&one, &two).unwrap();
                fs::rename(&two, &one).unwrap();
            }
        });
        let runs =
            || (0..50).try_for_each(|_| read_only(&image).command("true").status().map(drop));
        let result = runs();
        is_done.store(true, Ordering::Relaxed);
        result.unwrap();
    });
}

fn two_at_once() {
    let image = busybox();
    let threads: Vec<_> = (0..8)
        .map(|number| {
            let sandbox = read_only(&image);
            std::thread::spawn(move || {
                let script = format!("echo {number} >/tmp/own; cat /tmp/own; ls /tmp | wc -l");
                assert_eq!(sh(&sandbox, &script), format!("{number}\n1\n"));
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

fn with_the_hosts_files_on_top() {
    let image = busybox();
    let project = open_directory();
    fs::write(project.path().join("source"), "text").unwrap();
    // Where the image has a directory, something of the caller's can be put over it.
    let sandbox = read_only(&image).bind_rw(project.path(), "/srv");
    assert_eq!(sh(&sandbox, "cat /srv/source; echo made >/srv/made"), "text");
    assert!(project.path().join("made").exists());
    // Where it has none, nothing is created in it: /tmp is a place for that.
    sh_fails_to_start(&read_only(&image).bind_ro(project.path(), "/project"));
    let sandbox = read_only(&image).bind_ro(project.path(), "/tmp/project");
    assert_eq!(sh(&sandbox, "cat /tmp/project/source"), "text");
}

fn sh_fails_to_start(sandbox: &Sandbox) {
    let error = sandbox.command("sh").spawn().unwrap_err();
    assert_eq!(error.hint(), Some(&stockade::Hint::CreateMountPoint), "{error}");
}

// ---- Debian's, made by mmdebstrap or debootstrap -----------------------------------------------

fn debian() -> Sandbox {
    Sandbox::new().rootfs(Rootfs::directory(image().unwrap()))
}

fn debian_root() {
    let sandbox = debian();
    let on_disk = |name: &str| fs::read_to_string(image().unwrap().join(name)).unwrap();
    assert_eq!(sh(&sandbox, "cat /etc/debian_version"), on_disk("etc/debian_version"));
    assert_eq!(sh(&sandbox, "cat /etc/passwd"), on_disk("etc/passwd"));
    assert_eq!(sh(&sandbox, "perl -e 'print 6*7'"), "42");
    assert_eq!(sh(&sandbox, "getent passwd root | cut -d: -f6"), "/root\n");
    assert_eq!(sh(&sandbox, "bash -c 'echo ${BASH_VERSION:+bash}'"), "bash\n");
    let packages: usize = sh(&sandbox, "dpkg-query -l | grep -c ^ii").trim().parse().unwrap();
    assert!(packages > 20, "{packages}");
    sh(&sandbox, "tar -C /etc -czf ~/etc.tar.gz passwd && tar -tzf ~/etc.tar.gz | grep -q passwd");
    sh_fails(&sandbox, "echo x >/etc/new", "Read-only file system");
}

fn debian_root_as_root_inside() {
    let sandbox = debian().uid(0).gid(0);
    assert_eq!(sh(&sandbox, "id -un; whoami"), "root\nroot\n");
    assert_eq!(sh(&sandbox, "dpkg --print-architecture | wc -l"), "1\n");
}

/// What apt installs goes to a throw-away upper; its scripts run as another id than the host's root.
fn debian_packages() {
    use stockade::Capability as C;
    let powers = [C::CHOWN, C::DAC_OVERRIDE, C::FOWNER, C::FSETID, C::SETUID, C::SETGID];
    let sandbox = Sandbox::new()
        .rootfs(Rootfs::layers([image().unwrap()]))
        .id_map(IdMap::new().ids(0, 100_000, 65_536))
        .uid(0)
        .gid(0)
        .capabilities(powers);
    let script = r#"set -eu; cd /tmp; mkdir -p pkg/DEBIAN pkg/usr/bin
        printf '%s\n' 'Package: one' 'Version: 1' 'Architecture: all' \
            'Maintainer: one <one@localhost>' 'Description: one' >pkg/DEBIAN/control
        printf '%s\n' '#!/bin/sh' 'id -u >/var/ran; chown www-data:mail /var/ran' >pkg/DEBIAN/postinst
        printf '%s\n' '#!/bin/sh' 'echo installed' >pkg/usr/bin/tool
        chmod 755 pkg/DEBIAN/postinst pkg/usr/bin/tool; dpkg-deb -b pkg one.deb >/dev/null
        apt-get -qq install -y ./one.deb >log 2>&1 || { cat log >&2; exit 1; }
        tool; cat /var/ran; stat -c %U:%G /var/ran; dpkg -s one | grep ^Status"#;
    let seen = "installed\n0\nwww-data:mail\nStatus: install ok installed\n";
    assert_eq!(sh(&sandbox, script), seen);
    assert!(!image().unwrap().join("usr/bin/tool").exists());
}
