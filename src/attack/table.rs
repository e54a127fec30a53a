//! The attempts, in order of their families.
//!
//! A row is: number, name (which is also that of the function), severity, what it needs from outside,
//! its control, and what is tried. Numbers are stable: a new attempt gets the next free one, and that of
//! a removed one is not used again.

/// Hands the table to a macro: this program looks functions up in it, `stockade attack` all the rest.
macro_rules! attempts {
    ($visit:ident) => { $visit! {
calls {
    1 clone3 Critical [] with("--allow-nested-userns --seccomp none"),
        "make a user namespace by clone3, whose flags a filter cannot see";
    2 unshare_user Critical [] with("--allow-nested-userns"),
        "make a user namespace by unshare";
    3 clone_user Critical [] with("--allow-nested-userns"),
        "make a user namespace by clone";
    4 unshare_other High [] with("--cap-add sys_admin"),
        "make another namespace of each kind";
    5 nested_mount Critical [] with("--allow-nested-userns"),
        "become root in a nested user namespace and mount a tmpfs";
    6 nested_proc High [] with("--allow-nested-userns"),
        "become root in a nested user namespace and mount a whole /proc";
    7 x32 High [] bare(),
        "call the kernel by x32, with other numbers than the filter has";
    8 int80 High [] bare(),
        "call the kernel by int 0x80, with the numbers of 32 bits";
    9 userfaultfd High [] with("--seccomp none"),
        "open a userfaultfd, which holds the kernel in the middle of a copy";
    10 io_uring High [] with("--seccomp none"),
        "set up an io_uring, whose operations pass by a filter";
    11 bpf_program High [] bare_root(),
        "load a BPF program";
    12 bpf_map Medium [] bare_root(),
        "make a BPF map";
    13 perf_event Medium [] bare_root(),
        "count events of this process";
    14 vmsplice Medium [] with("--seccomp none"),
        "lend pages to a pipe";
    15 fanotify Medium [] with("--seccomp none"),
        "watch whole file systems";
    16 modify_ldt Medium [] with("--seccomp none"),
        "read the local descriptor table";
    17 mempolicy Low [] with("--seccomp none"),
        "set a memory policy";
    18 move_pages Low [] with("--seccomp none"),
        "ask where pages of memory are";
    19 no_randomize Medium [] with("--seccomp none"),
        "switch the randomization of addresses off";
    20 keyctl_session Medium [] with("--seccomp none"),
        "use the session keyring";
    21 key_of_host Critical [] with("--seccomp none"),
        "read a key of the same user's on the host by its number";
    22 add_key Medium [] with("--seccomp none"),
        "use up the user's quota of keys";
    23 request_key Medium [] with("--seccomp none"),
        "let the kernel look for a key, or start a program of the host's for it";
    24 vsock Critical [] with("--seccomp none"),
        "open a vsock, which leads to the hypervisor";
    25 af_alg High [] with("--seccomp none"),
        "open a socket of the kernel's cryptography";
    26 af_packet High [] with("--cap-add net_raw"),
        "open a packet socket";
    27 raw_socket High [] with("--cap-add net_raw"),
        "open a raw socket of IPv4 or IPv6";
    28 netlink High [] with("--seccomp none"),
        "open a netlink socket other than that for routes";
    29 old_families High [] with("--seccomp none"),
        "open a socket of any other family";
    30 tiocsti Critical [Terminal] bare_root(),
        "type into the caller's terminal";
    31 tiocsti_high Critical [Terminal] bare_root(),
        "the same, with 2^32 added to the request";
    32 tiocsetd Medium [] with("--seccomp none"),
        "load another line discipline into a terminal";
    33 ptrace_child Medium [] with("--seccomp none"),
        "trace a child";
    34 kexec High [] bare_root(),
        "load another kernel, with flags that are wrong";
    35 init_module Critical [] bare_root(),
        "load a module, which is none";
    36 finit_module Critical [] bare_root(),
        "load a module from a descriptor, which is closed";
    37 delete_module High [] bare_root(),
        "unload a module, which does not exist";
    38 swapon High [] bare_root(),
        "swap to a file, which does not exist";
    39 swapoff High [] bare_root(),
        "stop swapping to a file, which does not exist";
    40 acct High [] bare_root(),
        "write accounts of processes to a file, which does not exist";
    41 vhangup Medium [] bare_root(),
        "hang up a terminal";
    42 reboot Critical [] bare_root(),
        "reboot, with a wrong magic number";
    43 syslog Medium [] bare_root(),
        "read the kernel's log";
    44 clock High [] bare_root(),
        "set a parameter of the host's clock to what it is";
    45 sethostname Medium [] bare_root(),
        "name the host as it is named";
    46 raw_io Critical [] bare_root(),
        "get access to all I/O ports";
    47 open_by_handle Critical [Writable] root_with("--share user --host-root --allow-host-capabilities --cap-add dac_read_search"),
        "open files by handles, the root of the file system among them";
    48 chroot High [] with("--cap-add sys_chroot"),
        "change the root directory";
    49 pivot_root High [] with("--cap-add sys_admin"),
        "exchange the root mount";
}
reach {
    50 tcp_of_host High [] with("--net host"),
        "connect to a server on the host's loopback";
    51 udp_of_host High [] with("--net host"),
        "send a datagram to a service on the host's loopback";
    52 abstract_socket High [] with("--net host"),
        "connect to an abstract Unix socket of the host's";
    53 take_descriptor Critical [] with("--net host"),
        "let a service of the host's send a descriptor";
    54 interfaces Medium [] with("--net host"),
        "find an interface that leads out";
    55 way_out High [] with("--net host"),
        "find a route to the world";
    56 shared_memory High [] with("--share ipc"),
        "write to System V shared memory of the host's";
    57 message_queue High [] with("--share ipc"),
        "open a POSIX message queue of the host's";
    58 environment High [] bare(),
        "find a variable of the caller's environment";
    59 desktop Critical [] with("--share mount"),
        "connect to a socket of a bus, a display or an agent";
}
others {
    60 seen Low [] bare(),
        "see a process outside";
    61 proc_mem Critical [] bare(),
        "open the memory of init or of a process outside";
    62 proc_environ High [] bare(),
        "read its environment";
    63 proc_cwd High [] bare(),
        "go through its working directory";
    64 proc_root Critical [] bare(),
        "go through its root directory";
    65 proc_fd Critical [] bare(),
        "go through its descriptors";
    66 proc_map_files High [] bare(),
        "go through the files that it has mapped";
    67 proc_maps Medium [] bare(),
        "read where its memory is";
    68 proc_auxv Low [] bare(),
        "read its auxiliary vector";
    69 proc_syscall Medium [] bare(),
        "read which system call it is in";
    70 proc_exe High [] bare(),
        "open its program";
    71 proc_exe_write Critical [] bare(),
        "open its program for writing";
    72 oom_score_of_others Medium [] bare(),
        "let the kernel kill it first";
    73 ptrace_others Critical [] bare(),
        "trace it";
    74 read_memory Critical [] bare(),
        "read its memory by process_vm_readv";
    75 write_memory Critical [] bare(),
        "write to its memory by process_vm_writev";
    76 steal_descriptor Critical [] bare(),
        "take a descriptor of its by pidfd_getfd";
    77 compare_others Medium [] bare(),
        "compare what the kernel has of it";
    78 advise_others Medium [] bare_root(),
        "advise the kernel about its memory";
    79 enter_others Critical [] bare_root(),
        "enter its namespaces by a pidfd";
    80 limit_others Medium [] with("--share pid --without-atomic-end"),
        "set a limit of its";
    81 priority_of_others Medium [] with("--share pid --without-atomic-end"),
        "set its nice value";
    82 schedule_others Medium [] with("--share pid --without-atomic-end"),
        "set its scheduling policy";
    83 pin_others Medium [] with("--share pid --without-atomic-end"),
        "set the processors it may run on";
    84 io_priority_of_others Low [] with("--share pid --without-atomic-end"),
        "set its I/O priority";
    85 mrelease Medium [] with("--share pid --without-atomic-end"),
        "take its memory away, as of one that dies";
}
signals {
    86 kill High [] with("--share pid --without-atomic-end"),
        "signal a process outside";
    87 kill_everybody Critical [] with("--share pid --without-atomic-end"),
        "signal everybody";
    88 kill_group High [] with("--share pid --without-atomic-end"),
        "signal a process group outside";
    89 tgkill High [] with("--share pid --without-atomic-end"),
        "signal a thread outside";
    90 sigqueue High [] with("--share pid --without-atomic-end"),
        "queue a signal for a process outside";
    91 pidfd_signal High [] with("--share pid --without-atomic-end"),
        "signal a process outside by a pidfd";
    92 sigio High [] with("--share pid --without-atomic-end"),
        "let the kernel signal a process outside when there is something to read";
    93 shoot_init High [] with("--share pid --without-atomic-end"),
        "send init every signal";
}
descriptors {
    94 inherited_any Critical [] bare(),
        "find a descriptor that was not given";
    95 inherited_directory Critical [] bare(),
        "open a file beside a directory that was left open";
    96 inherited_namespace Critical [] bare_root(),
        "enter a namespace that was left open";
    97 working_directory Critical [] chroot(),
        "go up from the working directory, past the root";
    98 secret_by_path High [] with("--share mount"),
        "read a file of the host's that everybody may read";
    99 magic_links Critical [] with("--share mount"),
        "read it through the magic links of this process";
}
    } };
}
