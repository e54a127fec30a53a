//! The kernel's constants that both the library and the freestanding init program need.
//!
//! Init cannot use the crate `libc`; a test compares each of these with libc's value.
#![allow(dead_code, reason = "each side uses some")]

macro_rules! constants {
    ($($name:ident: $type:ty = $value:expr;)*) => {
        $(pub(crate) const $name: $type = $value;)*
        #[cfg(test)]
        mod tests {
            #[test]
            fn constants_are_those_of_libc() {
                $(assert_eq!(super::$name as i128, libc::$name as i128, stringify!($name));)*
            }
        }
    };
}

constants! {
    AT_FDCWD: i32 = -100;
    AT_REMOVEDIR: u32 = 0x200;
    AT_EMPTY_PATH: u32 = 0x1000;
    AT_SYMLINK_NOFOLLOW: u32 = 0x100;
    AT_NO_AUTOMOUNT: u32 = 0x800;
    STATX_MNT_ID: u32 = 0x1000;
    STATX_MNT_ID_UNIQUE: u32 = 0x4000;
    AT_RECURSIVE: u32 = 0x8000;
    O_RDONLY: u32 = 0;
    O_WRONLY: u32 = 1;
    O_RDWR: u32 = 2;
    O_NOCTTY: u32 = 0o400;
    O_CREAT: u32 = 0o100;
    O_EXCL: u32 = 0o200;
    O_CLOEXEC: u32 = 0o2000000;
    O_NONBLOCK: u32 = 0o4000;
    O_PATH: u32 = 0o10000000;
    DT_DIR: u8 = 4;
    S_IFMT: u32 = 0o170000;
    S_IFDIR: u32 = 0o040000;
    S_IFREG: u32 = 0o100000;
    S_IFCHR: u32 = 0o020000;

    CLONE_VM: usize = 0x100;
    CLONE_PIDFD: usize = 0x1000;
    CLONE_PARENT: usize = 0x8000;
    CLONE_NEWNS: usize = 0x0002_0000;
    CLONE_NEWTIME: usize = 0x80;
    CLONE_NEWUSER: usize = 0x1000_0000;
    CLONE_NEWNET: usize = 0x4000_0000;

    MS_RDONLY: u32 = 1;
    MS_NOSUID: u32 = 2;
    MS_NODEV: u32 = 4;
    MS_NOEXEC: u32 = 8;
    MS_REMOUNT: u32 = 32;
    MS_NOSYMFOLLOW: u32 = 256;
    MS_NOATIME: u32 = 1024;
    MS_NODIRATIME: u32 = 2048;
    MS_BIND: u32 = 4096;
    MS_REC: u32 = 16384;
    MS_PRIVATE: u32 = 1 << 18;
    MS_RELATIME: u32 = 1 << 21;
    MS_STRICTATIME: u32 = 1 << 24;
    MNT_DETACH: u32 = 2;
    OPEN_TREE_CLONE: u32 = 1;
    MOVE_MOUNT_F_EMPTY_PATH: u32 = 4;
    MOVE_MOUNT_T_EMPTY_PATH: u32 = 0x40;
    MOUNT_ATTR_RDONLY: u32 = 1;
    MOUNT_ATTR_NOSUID: u32 = 2;
    MOUNT_ATTR_NODEV: u32 = 4;
    MOUNT_ATTR_NOEXEC: u32 = 8;
    RESOLVE_NO_XDEV: u64 = 1;
    RESOLVE_NO_MAGICLINKS: u64 = 2;
    RESOLVE_IN_ROOT: u64 = 0x10;

    PR_SET_DUMPABLE: usize = 4;
    PR_SET_NAME: usize = 15;
    PR_CAPBSET_DROP: usize = 24;
    PR_SET_SECUREBITS: usize = 28;
    PR_SET_CHILD_SUBREAPER: usize = 36;
    PR_SET_NO_NEW_PRIVS: usize = 38;
    PR_CAP_AMBIENT: usize = 47;
    PR_CAP_AMBIENT_RAISE: usize = 2;
    PR_CAP_AMBIENT_CLEAR_ALL: usize = 4;
    SECCOMP_SET_MODE_FILTER: usize = 1;
    SECCOMP_FILTER_FLAG_NEW_LISTENER: usize = 8;
    PRIO_PROCESS: usize = 0;

    F_SETFD: usize = 2;
    F_DUPFD_CLOEXEC: usize = 1030;
    FD_CLOEXEC: usize = 1;
    SOL_SOCKET: i32 = 1;
    SCM_RIGHTS: i32 = 1;
    MSG_NOSIGNAL: usize = 0x4000;
    MSG_PEEK: usize = 2;
    MSG_DONTWAIT: usize = 0x40;
    MSG_CMSG_CLOEXEC: usize = 0x4000_0000;
    AF_INET: usize = 2;
    SOCK_DGRAM: usize = 2;
    SOCK_SEQPACKET: usize = 5;
    RLIMIT_FSIZE: usize = 1;
    RLIMIT_NOFILE: usize = 7;
    SCHED_FIFO: u32 = 1;
    SCHED_RR: u32 = 2;
    AF_UNIX: usize = 1;
    SOCK_CLOEXEC: usize = 0o2000000;
    SIOCSIFFLAGS: usize = 0x8914;
    TIOCSCTTY: usize = 0x540e;
    TIOCSWINSZ: usize = 0x5414;
    TIOCSPTLCK: usize = 0x4004_5431;
    TIOCGPTPEER: usize = 0x5441;
    POLLIN: i16 = 1;
    PROT_READ: usize = 1;
    PROT_WRITE: usize = 2;
    MAP_SHARED: usize = 1;
    MAP_PRIVATE: usize = 2;
    MAP_ANONYMOUS: usize = 0x20;
    P_ALL: usize = 0;
    P_PID: usize = 1;
    WEXITED: usize = 4;
    WSTOPPED: usize = 2;
    WNOHANG: usize = 1;
    WNOWAIT: usize = 0x0100_0000;
    __WALL: usize = 0x4000_0000;
    CLD_EXITED: i32 = 1;
    CLD_DUMPED: i32 = 3;
    CLOCK_MONOTONIC: usize = 1;
    SIG_SETMASK: usize = 2;
    SIGKILL: usize = 9;
    SIGUSR1: usize = 10;
    SIGTERM: usize = 15;
    SIGCHLD: usize = 17;
    SA_NOCLDWAIT: usize = 2;
    SIGCONT: usize = 18;
    SIGSTOP: usize = 19;

    EPERM: i32 = 1;
    ENOENT: i32 = 2;
    ESRCH: i32 = 3;
    EIO: i32 = 5;
    E2BIG: i32 = 7;
    ECHILD: i32 = 10;
    EAGAIN: i32 = 11;
    ENOMEM: i32 = 12;
    EACCES: i32 = 13;
    EDQUOT: i32 = 122;
    EEXIST: i32 = 17;
    ENOTDIR: i32 = 20;
    ENOTEMPTY: i32 = 39;
    EINVAL: i32 = 22;
    EMFILE: i32 = 24;
    ETXTBSY: i32 = 26;
    EROFS: i32 = 30;
    EPIPE: i32 = 32;
    ENAMETOOLONG: i32 = 36;
    ENOSYS: i32 = 38;
    ETIME: i32 = 62;
    EPROTO: i32 = 71;
    EBADFD: i32 = 77;
    SECCOMP_IOCTL_NOTIF_RECV: usize = 0xc050_2100;
}
