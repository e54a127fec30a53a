//! Raw system calls and the kernel's numbers, without libc state.
//!
//! This file is compiled twice: into the library, for the few calls between clone and exec, and
//! into the freestanding init program, for everything. It therefore uses `core` alone, which is
//! what proves that nothing between clone and exec allocates or locks.

#![allow(unsafe_code)]
#![allow(clippy::cast_possible_truncation, reason = "error numbers are below 4096")]

#[cfg(target_arch = "aarch64")]
use core::arch::asm;
#[cfg(target_arch = "riscv64")]
use core::arch::asm;
#[cfg(target_arch = "x86_64")]
use core::arch::asm;

/// An error number as the kernel returned it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Errno(pub(crate) i32);

/// Makes one system call.
///
/// # Safety
///
/// The arguments must satisfy what the named call requires; pointers must be valid for it.
#[inline(always)]
pub(crate) unsafe fn syscall(number: usize, args: [usize; 6]) -> Result<usize, Errno> {
    let [a, b, c, d, e, f] = args;
    // SAFETY: the caller answers for the arguments.
    match unsafe { trap(number, a, b, c, d, e, f) } {
        // The kernel keeps the last page of the address space for error numbers.
        result @ -4095..=-1 => Err(Errno(-result as i32)),
        result => Ok(result as usize),
    }
}

/// Enters the kernel. Never inlined, because init is made of these and must stay small.
///
/// # Safety
///
/// As for [`syscall`].
#[inline(never)]
unsafe fn trap(number: usize, a: usize, b: usize, c: usize, d: usize, e: usize, f: usize) -> isize {
    let result: isize;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the register convention of the x86-64 system call instruction, which clobbers rcx
    // and r11 only; the caller answers for the arguments.
    unsafe {
        asm!("syscall", inlateout("rax") number as isize => result,
            in("rdi") a, in("rsi") b, in("rdx") c,
            in("r10") d, in("r8") e, in("r9") f,
            lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: the register convention of `svc 0` on arm64, which clobbers x0 only; the caller
    // answers for the arguments.
    unsafe {
        asm!("svc 0", in("x8") number, inlateout("x0") a => result,
            in("x1") b, in("x2") c, in("x3") d,
            in("x4") e, in("x5") f, options(nostack));
    }
    #[cfg(target_arch = "riscv64")]
    // SAFETY: the register convention of `ecall` on riscv64 Linux, which clobbers a0 only; the
    // caller answers for the arguments.
    unsafe {
        asm!("ecall", in("a7") number, inlateout("a0") a => result,
            in("a1") b, in("a2") c, in("a3") d,
            in("a4") e, in("a5") f, options(nostack));
    }
    result
}

/// Clones the calling process; the child calls `entry(arg)` on the given stack and never returns.
///
/// # Safety
///
/// `stack_top` must be the end of writable memory that stays untouched by others while the child
/// uses it, `arg` must be what `entry` expects, and with `CLONE_VM` everything that `entry`
/// touches must outlive the child's use of it.
pub(crate) unsafe fn clone(
    flags: usize,
    stack_top: *mut u8,
    pidfd: *mut i32,
    entry: extern "C" fn(*mut u8) -> !,
    arg: *mut u8,
) -> Result<usize, Errno> {
    let args = [flags, stack_top as usize & !15, pidfd as usize];
    // SAFETY: clone(2) takes flags, stack and pidfd first; the caller answers for them.
    unsafe { split(nr::CLONE, args, entry, arg) }
}

/// As [`clone`], by clone3(2), which can do more.
///
/// # Safety
///
/// As for [`clone`]; `args` names stack and pidfd.
#[allow(dead_code, reason = "init needs no control groups")]
pub(crate) unsafe fn clone3(
    args: &CloneArgs,
    entry: extern "C" fn(*mut u8) -> !,
    arg: *mut u8,
) -> Result<usize, Errno> {
    let args = [core::ptr::from_ref(args) as usize, size_of::<CloneArgs>(), 0];
    // SAFETY: clone3(2) takes a struct and its size; the caller answers for what it says.
    unsafe { split(nr::CLONE3, args, entry, arg) }
}

/// `struct clone_args` as of Linux 5.7.
#[allow(dead_code, reason = "init needs no control groups, and the kernel reads it")]
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct CloneArgs {
    pub(crate) flags: u64,
    pub(crate) pidfd: u64,
    pub(crate) child_tid: u64,
    pub(crate) parent_tid: u64,
    pub(crate) exit_signal: u64,
    pub(crate) stack: u64,
    pub(crate) stack_size: u64,
    pub(crate) tls: u64,
    pub(crate) set_tid: u64,
    pub(crate) set_tid_size: u64,
    pub(crate) cgroup: u64,
}

/// A system call that returns twice; the child, on the stack that the call gives it, enters `entry`.
///
/// # Safety
///
/// As for [`clone`].
#[inline(always)]
unsafe fn split(
    number: usize,
    [a, b, c]: [usize; 3],
    entry: extern "C" fn(*mut u8) -> !,
    arg: *mut u8,
) -> Result<usize, Errno> {
    let result: isize;
    #[cfg(target_arch = "x86_64")]
    // SAFETY: clone(2) with its x86-64 argument order; in the child (rax = 0) the stack pointer is
    // the fresh stack, aligned, and control goes to `entry`, which never returns.
    unsafe {
        asm!("syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r13",
            "call r12",
            "ud2",
            "2:",
            inlateout("rax") number as isize => result,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") 0usize, in("r8") 0usize,
            in("r12") entry, in("r13") arg,
            lateout("rcx") _, lateout("r11") _);
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above, with the arm64 argument order (flags, stack, parent_tid, tls, child_tid).
    unsafe {
        asm!("svc 0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x0, x20",
            "blr x21",
            "brk #1",
            "2:",
            in("x8") number, inlateout("x0") a => result,
            in("x1") b, in("x2") c, in("x3") 0usize, in("x4") 0usize,
            in("x20") arg, in("x21") entry);
    }
    #[cfg(target_arch = "riscv64")]
    // SAFETY: as above, with the riscv64 argument order (flags, stack, parent_tid, tls, child_tid).
    unsafe {
        asm!("ecall",
            "bnez a0, 2f",
            "mv a0, s2",
            "jalr s3",
            "ebreak",
            "2:",
            in("a7") number, inlateout("a0") a => result,
            in("a1") b, in("a2") c, in("a3") 0usize, in("a4") 0usize,
            in("s2") arg, in("s3") entry);
    }
    match result {
        -4095..=-1 => Err(Errno(-result as i32)),
        _ => Ok(result as usize),
    }
}

/// Ends the calling process at once.
pub(crate) fn exit(code: i32) -> ! {
    loop {
        // SAFETY: exit_group takes a number and does not return.
        let _never = unsafe { syscall(nr::EXIT_GROUP, [code as usize, 0, 0, 0, 0, 0]) };
    }
}

macro_rules! numbers {
    ($($name:ident $x86:literal $generic:literal;)*) => {
        /// System call numbers: x86-64's own table, and the generic one of arm64 and riscv64.
        pub(crate) mod nr {
            $(
                #[cfg(target_arch = "x86_64")]
                pub(crate) const $name: usize = $x86;
                #[cfg(not(target_arch = "x86_64"))]
                pub(crate) const $name: usize = $generic;
            )*
            /// Each number with libc's name for it, for the test that compares them.
            #[cfg(test)]
            pub(super) const ALL: &[(&str, usize)] = &[$((stringify!($name), $name)),*];
        }
    };
}

numbers! {
    READ 0 63;
    WRITE 1 64;
    CLOSE 3 57;
    MMAP 9 222;
    MUNMAP 11 215;
    RT_SIGACTION 13 134;
    RT_SIGPROCMASK 14 135;
    RT_SIGTIMEDWAIT 128 137;
    IOCTL 16 29;
    SOCKET 41 198;
    SENDMSG 46 211;
    RECVMSG 47 212;
    SOCKETPAIR 53 199;
    SCHED_YIELD 24 124;
    PERSONALITY 135 92;
    SCHED_SETSCHEDULER 144 119;
    SCHED_GETSCHEDULER 145 120;
    SCHED_SETAFFINITY 203 122;
    SCHED_GETAFFINITY 204 123;
    GETCPU 309 168;
    CLONE 56 220;
    EXECVE 59 221;
    KILL 62 129;
    TGKILL 234 131;
    FCNTL 72 25;
    UNAME 63 160; SYSINFO 99 179; GETCWD 79 17;
    FCHDIR 81 50;
    CHDIR 80 49;
    UMASK 95 166;
    SETPRIORITY 141 140;
    SETGROUPS 116 159;
    SETRESUID 117 147;
    SETRESGID 119 149;
    SETSID 112 157;
    LANDLOCK_CREATE_RULESET 444 444; LANDLOCK_ADD_RULE 445 445; LANDLOCK_RESTRICT_SELF 446 446;
    CAPGET 125 90;
    CAPSET 126 91;
    PRCTL 157 167;
    MOUNT 165 40;
    UMOUNT2 166 39;
    PIVOT_ROOT 155 41; CHROOT 161 51;
    SETHOSTNAME 170 161;
    SETDOMAINNAME 171 162;
    CLOCK_GETTIME 228 113;
    EXIT_GROUP 231 94;
    WAITID 247 95;
    KEYCTL 250 219;
    OPENAT 257 56;
    MKDIRAT 258 34;
    MKNODAT 259 33;
    FSTAT 5 80; FSTATFS 138 44; FCHOWNAT 260 54;
    STATX 332 291;
    SYMLINKAT 266 36;
    READLINKAT 267 78;
    FACCESSAT 269 48;
    PPOLL 271 73;
    UNSHARE 272 97;
    DUP3 292 24;
    PRLIMIT64 302 261;
    SETNS 308 268;
    SECCOMP 317 277;
    EXECVEAT 322 281;
    SIGNALFD4 289 74;
    FCHMOD 91 52;
    GETDENTS64 217 61;
    PREAD64 17 67;
    UNLINKAT 263 35;
    PIDFD_SEND_SIGNAL 424 424;
    PIDFD_OPEN 434 434; GETPID 39 172;
    OPEN_TREE 428 428;
    MOVE_MOUNT 429 429;
    FSOPEN 430 430;
    FSCONFIG 431 431;
    FSMOUNT 432 432;
    CLONE3 435 435;
    CLOSE_RANGE 436 436;
    OPENAT2 437 437;
    MOUNT_SETATTR 442 442;
}

#[cfg(test)]
mod tests {
    use super::{clone, nr, syscall};

    #[test]
    fn numbers_are_those_of_libc() {
        macro_rules! same {
            ($($name:ident $libc:ident;)*) => { $(assert_eq!(
                nr::$name as i64, i64::from(libc::$libc as i32), stringify!($name));)*
                assert_eq!(nr::ALL.len(), [$(stringify!($name)),*].len(), "one is not compared");
            };
        }
        same! {
                   READ SYS_read; WRITE SYS_write; CLOSE SYS_close; MMAP SYS_mmap; MUNMAP SYS_munmap;
                   RT_SIGACTION SYS_rt_sigaction; RT_SIGPROCMASK SYS_rt_sigprocmask;
                   RT_SIGTIMEDWAIT SYS_rt_sigtimedwait; IOCTL SYS_ioctl;
                   SOCKET SYS_socket; SENDMSG SYS_sendmsg; RECVMSG SYS_recvmsg;
                   SOCKETPAIR SYS_socketpair;
                   SCHED_SETAFFINITY SYS_sched_setaffinity; SCHED_GETAFFINITY SYS_sched_getaffinity;
                   GETCPU SYS_getcpu; UNAME SYS_uname; SYSINFO SYS_sysinfo; GETCWD SYS_getcwd;
                   PERSONALITY SYS_personality; SCHED_SETSCHEDULER SYS_sched_setscheduler;
                   SCHED_GETSCHEDULER SYS_sched_getscheduler;
                   SCHED_YIELD SYS_sched_yield; CLONE SYS_clone; EXECVE SYS_execve; KILL SYS_kill; TGKILL SYS_tgkill; FCNTL SYS_fcntl;
                   FCHDIR SYS_fchdir; CHDIR SYS_chdir; UMASK SYS_umask;
        SETPRIORITY SYS_setpriority;
                   SETGROUPS SYS_setgroups; SETRESUID SYS_setresuid; SETRESGID SYS_setresgid;
                   SETSID SYS_setsid; CAPGET SYS_capget; CAPSET SYS_capset;
                   PRCTL SYS_prctl; MOUNT SYS_mount; UMOUNT2 SYS_umount2; PIVOT_ROOT SYS_pivot_root; CHROOT SYS_chroot;
                   SETHOSTNAME SYS_sethostname; SETDOMAINNAME SYS_setdomainname;
                   CLOCK_GETTIME SYS_clock_gettime; EXIT_GROUP SYS_exit_group; WAITID SYS_waitid;
                   LANDLOCK_CREATE_RULESET SYS_landlock_create_ruleset;
                   LANDLOCK_ADD_RULE SYS_landlock_add_rule;
                   LANDLOCK_RESTRICT_SELF SYS_landlock_restrict_self;
                   KEYCTL SYS_keyctl; OPENAT SYS_openat; MKDIRAT SYS_mkdirat; MKNODAT SYS_mknodat;
                   FSTAT SYS_fstat; FSTATFS SYS_fstatfs; FCHOWNAT SYS_fchownat; STATX SYS_statx; SYMLINKAT SYS_symlinkat; READLINKAT SYS_readlinkat;
                   FACCESSAT SYS_faccessat; PPOLL SYS_ppoll; UNSHARE SYS_unshare; DUP3 SYS_dup3;
                    PRLIMIT64 SYS_prlimit64; SETNS SYS_setns; SECCOMP SYS_seccomp;
                   EXECVEAT SYS_execveat; SIGNALFD4 SYS_signalfd4;
                   FCHMOD SYS_fchmod; GETDENTS64 SYS_getdents64; PREAD64 SYS_pread64; UNLINKAT SYS_unlinkat;
                   PIDFD_SEND_SIGNAL SYS_pidfd_send_signal; PIDFD_OPEN SYS_pidfd_open; GETPID SYS_getpid; OPEN_TREE SYS_open_tree;
                   MOVE_MOUNT SYS_move_mount; FSOPEN SYS_fsopen; FSCONFIG SYS_fsconfig;
                   FSMOUNT SYS_fsmount; CLONE3 SYS_clone3; CLOSE_RANGE SYS_close_range; OPENAT2 SYS_openat2;
        MOUNT_SETATTR SYS_mount_setattr;
               }
    }

    extern "C" fn leave(arg: *mut u8) -> ! {
        super::exit(arg as i32)
    }

    #[test]
    fn a_clone_runs_its_entry_on_its_own_stack() {
        let mut stack = vec![0u8; 16384];
        let top = stack.as_mut_ptr_range().end;
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
        // SAFETY: with CLONE_VFORK the stack outlives the child, and `leave` takes a number.
        let pid = unsafe { clone(flags as usize, top, std::ptr::null_mut(), leave, 42 as *mut u8) };
        let mut info = [0u8; 128];
        let args = [
            libc::P_PID as usize,
            pid.unwrap(),
            info.as_mut_ptr() as usize,
            libc::WEXITED as usize,
            0,
            0,
        ];
        // SAFETY: `info` is a siginfo_t's 128 bytes.
        unsafe { syscall(nr::WAITID, args) }.unwrap();
        assert_eq!(info[24], 42, "si_status is at offset 24");
    }
}
