//! Mounts of a test's own, which nobody else sees. Whoever removes a directory must not do so while
//! a part of the host's tree is bound below it.
#![allow(dead_code, reason = "each test binary uses some")]
#![allow(unsafe_code, reason = "unshare(2) and mount(2)")]

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// A mount namespace of this process's own; for who is not root in a user namespace of its own.
pub(crate) fn own_mounts() {
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    let user = if uid.is_root() { 0 } else { libc::CLONE_NEWUSER };
    // SAFETY: this process has one thread and no pointer is passed.
    let result = unsafe { libc::unshare(libc::CLONE_NEWNS | user) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    if user != 0 {
        fs::write("/proc/self/setgroups", "deny").unwrap();
        fs::write("/proc/self/uid_map", format!("{uid} {uid} 1")).unwrap();
        fs::write("/proc/self/gid_map", format!("{gid} {gid} 1")).unwrap();
    }
    mount("none", Path::new("/"), "", libc::MS_REC | libc::MS_PRIVATE);
}

/// mount(2); `kind` is the source as well.
pub(crate) fn mount(kind: &str, at: &Path, options: &str, flags: libc::c_ulong) {
    let result = try_mount(kind, at, options, flags);
    assert_eq!(result, 0, "{at:?}: {}", std::io::Error::last_os_error());
}

/// The same, which may fail.
pub(crate) fn try_mount(kind: &str, at: &Path, options: &str, flags: libc::c_ulong) -> i32 {
    let [kind, options] = [kind, options].map(|text| CString::new(text).unwrap());
    let at = CString::new(at.as_os_str().as_bytes()).unwrap();
    let (kind, at, options) = (kind.as_ptr(), at.as_ptr(), options.as_ptr().cast());
    // SAFETY: all are NUL-terminated and live until the end of the call.
    unsafe { libc::mount(kind, at, kind, flags, options) }
}

/// A bind mount of one directory or file on another.
pub(crate) fn bind(from: &Path, at: &Path) {
    let [from, to] = [from, at].map(|path| CString::new(path.as_os_str().as_bytes()).unwrap());
    let (from, to, null) = (from.as_ptr(), to.as_ptr(), std::ptr::null());
    // SAFETY: all are NUL-terminated and live until the end of the call.
    let result = unsafe { libc::mount(from, to, null, libc::MS_BIND, null.cast()) };
    assert_eq!(result, 0, "{at:?}: {}", std::io::Error::last_os_error());
}

/// Mounts v1 hierarchies that this machine has and does not use, for this process alone.
pub(crate) fn private_hierarchies(names: &[&str]) -> tempfile::TempDir {
    own_mounts();
    let directory = tempfile::tempdir().unwrap();
    let open = fs::Permissions::from_mode(0o755);
    fs::set_permissions(directory.path(), open).unwrap();
    for name in names {
        let point = directory.path().join(name);
        fs::create_dir(&point).unwrap();
        mount_hierarchy(&point, name);
    }
    directory
}

/// A hierarchy stays without any mount if a group in it was not quite gone when the last one went, and
/// keeps its controllers from being mounted otherwise: mounted once more and let go, it ends.
fn mount_hierarchy(point: &Path, name: &str) {
    for _ in 0..3000 {
        if try_mount("cgroup", point, name, 0) == 0 {
            return;
        }
        let error = std::io::Error::last_os_error();
        assert_eq!(error.raw_os_error(), Some(libc::EBUSY), "{name}: {error}");
        for other in ["net_cls,net_prio", "net_cls", "net_prio", "perf_event"] {
            if try_mount("cgroup", point, other, 0) == 0 {
                unmount(point);
            }
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("{name} is in use elsewhere");
}

/// Takes away what is mounted in a directory, that it can be removed. This process and its warden
/// may still know the place.
pub(crate) fn unmount_all(directory: &tempfile::TempDir) {
    for entry in fs::read_dir(directory.path()).unwrap().flatten() {
        unmount(&entry.path());
        fs::remove_dir(entry.path()).unwrap();
    }
}

pub(crate) fn unmount(point: &Path) {
    let path = CString::new(point.as_os_str().as_bytes()).unwrap();
    // SAFETY: the path is NUL-terminated.
    let result = unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) };
    assert_eq!(result, 0, "{point:?}: {}", std::io::Error::last_os_error());
}

/// Binds all that is mounted at a place, which may fail.
pub(crate) fn try_bind_all(from: &Path, at: &Path) -> bool {
    let [from, at] = [from, at].map(|path| CString::new(path.as_os_str().as_bytes()).unwrap());
    let (none, flags) = (std::ptr::null(), libc::MS_BIND | libc::MS_REC);
    // SAFETY: both are NUL-terminated and live until the end of the call.
    unsafe { libc::mount(from.as_ptr(), at.as_ptr(), none, flags, none.cast()) == 0 }
}

/// Takes away a mount and all below it.
pub(crate) fn detach(at: &Path) {
    let at = CString::new(at.as_os_str().as_bytes()).unwrap();
    // SAFETY: the path is NUL-terminated and lives until the end of the call.
    assert_eq!(unsafe { libc::umount2(at.as_ptr(), libc::MNT_DETACH) }, 0);
}
