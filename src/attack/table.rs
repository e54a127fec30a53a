//! The attempts, in order of their families.
//!
//! A row is: number, name (which is also that of the function), severity, what it needs from outside,
//! its control, and what is tried. Numbers are stable: a new attempt gets the next free one, and that of
//! a removed one is not used again.

/// Hands the table to a macro: this program looks functions up in it, `stockade attack` all the rest.
macro_rules! attempts {
    ($visit:ident) => { $visit! {
calls {
    1 clone3 Critical [] with("--allow-nesting --seccomp none"),
        "make a user namespace by clone3, whose flags a filter cannot see";
    2 unshare_user Critical [] with("--allow-nesting"),
        "make a user namespace by unshare";
    3 clone_user Critical [] with("--allow-nesting"),
        "make a user namespace by clone";
    4 unshare_other High [] with("--cap-add sys_admin"),
        "make another namespace of each kind";
    5 nested_mount Critical [] with("--allow-nesting"),
        "become root in a nested user namespace and mount a tmpfs";
    6 nested_proc High [] with("--allow-nesting"),
        "become root in a nested user namespace and mount a whole /proc";
    7 x32 High [] bare(),
        "call the kernel by x32, with other numbers than the filter has";
    8 int80 High [] bare(),
        "call the kernel by int 0x80, with the numbers of 32 bits";
    179 vsyscall High [] bare(),
        "call the kernel by the page of vsyscalls, where a filter refuses the call itself";
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
}
objects {
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
    174 tioclinux Medium [] with("--seccomp none"),
        "paste into a virtual console, or read what it shows";
    33 ptrace_child Medium [] with("--seccomp none"),
        "trace a child";
}
machine {
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
    52 abstract_socket High [] with("--net host --landlock none"),
        "connect to an abstract Unix socket of the host's";
    53 take_descriptor Critical [] with("--net host --landlock none"),
        "let a service of the host's send a descriptor";
    54 interfaces Medium [] with("--net host"),
        "find an interface that leads out";
    55 way_out High [] with("--net host"),
        "find a route to the world";
    56 shared_memory High [] with("--share ipc"),
        "write to System V shared memory of the host's";
    57 message_queue High [] with("--share ipc --landlock none"),
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
    86 kill High [] with("--share pid --without-atomic-end --landlock none"),
        "signal a process outside";
    87 kill_everybody Critical [] with("--share pid --without-atomic-end --landlock none"),
        "signal everybody";
    88 kill_group High [] with("--share pid --without-atomic-end --landlock none"),
        "signal a process group outside";
    89 tgkill High [] with("--share pid --without-atomic-end --landlock none"),
        "signal a thread outside";
    90 sigqueue High [] with("--share pid --without-atomic-end --landlock none"),
        "queue a signal for a process outside";
    91 pidfd_signal High [] with("--share pid --without-atomic-end --landlock none"),
        "signal a process outside by a pidfd";
    92 sigio High [] with("--share pid --without-atomic-end --landlock none"),
        "let the kernel signal a process outside when there is something to read";
    93 shoot_init High [] with("--share pid --without-atomic-end --landlock none"),
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
    171 reopen_input High [Input] with("--landlock none"),
        "open standard input anew, for writing what was given for reading";
}
tree {
    100 write_read_only High [ReadOnly] with("--share mount"),
        "write to a file of a read-only bind that anybody may write to";
    101 create_read_only High [ReadOnly] with("--share mount"),
        "make a file in a directory of a read-only bind";
    102 remount Critical [ReadOnly] root_with("--share user --host-root --allow-host-capabilities --cap-add sys_admin"),
        "make a read-only bind writable by mount";
    103 mount_setattr Critical [ReadOnly] root_with("--share user --host-root --allow-host-capabilities --cap-add sys_admin"),
        "make a read-only bind writable by mount_setattr";
    104 mount_tmpfs High [] with("--cap-add sys_admin"),
        "mount a tmpfs";
    105 mount_proc High [] root_with("--share user --host-root --allow-host-capabilities --cap-add sys_admin"),
        "mount a whole /proc";
    106 mount_cgroup Critical [] root_with("--share user --host-root --allow-host-capabilities --cap-add sys_admin"),
        "mount the control groups";
    107 fsopen High [] with("--cap-add sys_admin"),
        "begin a mount by fsopen";
    108 open_tree High [] with("--cap-add sys_admin"),
        "copy the tree by open_tree";
    109 umount_masks High [] root_with("--proc full --share user --host-root --allow-host-capabilities --cap-add sys_admin"),
        "take away what masks a part of /proc";
    110 umount High [] root_with("--share user --host-root --allow-host-capabilities --cap-add sys_admin"),
        "take away any mount";
    111 make_device Critical [Writable] root_with("--share user --host-root --allow-host-capabilities --cap-add mknod"),
        "make a device in a writable bind";
    112 open_device Critical [ReadOnly] root_with("--share mount"),
        "open a device that is in a bind";
    113 devices High [] with("--share mount"),
        "find a device besides the usual ones";
    114 setuid_program Critical [ReadOnly] root_with("--share user --share mount --new-privileges"),
        "gain privileges by a setuid program of root's in a bind";
    115 capable_program Critical [ReadOnly] nobody(),
        "gain privileges by a program with file capabilities in a bind";
    116 swap_target Critical [Writable Follow] bare(),
        "plant a link where the next sandbox makes a directory";
    117 replace_program Medium [] bare(),
        "change a file that was given as data";
    172 leave_setuid Critical [Writable] with("--cap-add fsetid"),
        "leave a setuid program in a writable bind";
    173 create_setuid Critical [Writable] bare_root(),
        "make a file setuid at its creation, and write to it";
}
privileges {
    118 has_capabilities High [] with("--cap-add chown"),
        "find a capability in one of the five sets";
    119 raise_capabilities Critical [] bare_root(),
        "take a capability";
    120 new_privileges High [] with("--new-privileges"),
        "find that an exec may gain privileges";
    121 no_filter High [] bare(),
        "find that there is no filter of system calls";
    122 securebits High [] bare_root(),
        "unlock what keeps uid 0 from capabilities";
    123 become_root Critical [] root_with("--share user --allow-host-capabilities --cap-add setuid"),
        "become uid 0";
    124 set_groups High [] root_with("--share user --allow-host-capabilities --cap-add setgid"),
        "join a group";
    125 core_dump Medium [] with("--rlimit core=unlimited"),
        "let the kernel write a core dump, or hand it to a program of the host's";
    126 raise_limit Medium [] bare_root(),
        "raise a hard limit";
    127 raise_priority Medium [] bare_root(),
        "lower the own nice value";
    128 real_time High [] bare_root(),
        "be scheduled before all others";
    129 io_real_time Medium [] bare_root(),
        "be served by disks before all others";
    130 lower_oom_score Medium [] bare_root(),
        "be spared when memory runs out";
    131 hostname_seen Low [] with("--share uts"),
        "see the host's name";
}
host {
    132 core_pattern Critical [] bare_root(),
        "name a program that the kernel starts at a crash";
    133 modprobe Critical [] bare_root(),
        "name the program that loads modules";
    134 uevent_helper Critical [] bare_root(),
        "name the program that is told of devices";
    135 binfmt_misc Critical [] bare_root(),
        "register an interpreter for all";
    136 sysrq Critical [] bare_root(),
        "press the magic key";
    137 sysctl High [] bare_root(),
        "set a parameter of the kernel's";
    138 release_agent Critical [] bare_root(),
        "name the program that is started when a control group is empty";
    139 control_groups High [] bare_root(),
        "move processes between control groups";
    140 sysfs High [] bare_root(),
        "set a parameter in /sys";
    141 kernel_memory Critical [] bare_root(),
        "read the kernel's memory";
    142 kernel_log Medium [] bare_root(),
        "read the kernel's log from a file";
    143 write_kernel_log Low [] bare_root(),
        "write to the kernel's log";
    144 kernel_addresses Medium [] bare_root(),
        "read where the kernel's functions are";
    145 host_state Medium [] bare_root(),
        "read what /proc tells of the host: keys, timers, sound cards, interrupts";
    175 preload Critical [] bare_root(),
        "have a library of its own loaded into every program that starts";
    176 fuse High [] bare_root(),
        "serve a file system, on which a process can be made to wait for ever";
    177 system_log Low [] bare(),
        "write to the host's log by its socket";
}
resources {
    146 processes High [] with("--rlimit nproc=4000"),
        "make more than 1100 processes";
    147 descriptors Medium [] bare_root(),
        "open more descriptors than the hard limit, or than 524288";
    148 terminals Medium [] with("--share mount"),
        "open more than 300 of the terminals that all share";
    149 room_in_memory High [] with("--tmp-size 400m"),
        "fill more than 300 MiB of memory with files";
    150 files_in_memory Medium [] with("--tmp-inodes 80000"),
        "make more than 66000 files in memory";
    151 message_queues Low [] root_with("--rlimit msgqueue=unlimited"),
        "make more than 20 message queues";
    152 queued_signals Low [] with("--rlimit sigpending=8000"),
        "queue more than 5000 signals";
    153 timers Low [] with("--rlimit sigpending=8000"),
        "make more than 5000 timers";
    154 locked_memory Medium [] root_with("--rlimit memlock=unlimited"),
        "lock more than 16 MiB of memory";
    155 memory High [] bare(),
        "use more memory than the limit";
    156 memory_by_key High [] bare(),
        "the same as shared memory, which counts for no process";
    157 memory_in_pipes High [] bare(),
        "the same in buffers of pipes, which count for no process";
    178 inotify Medium [] bare(),
        "make more than 35 instances of inotify, of which the user who made the sandbox has 128 for all";
    180 flood_log Low [] bare_root(),
        "write more than 40 records to the kernel's log: by its device, by crashes, by a filter that logs";
}
ends {
    158 daemon Critical [] bare(),
        "leave a process in a session of its own";
    159 stopped Critical [] bare(),
        "leave a stopped process";
    160 deaf Critical [] bare(),
        "leave a process that blocks all signals";
    161 vfork_sleeper Critical [] bare(),
        "leave a process that waits for the child of a vfork";
    162 chain Critical [] bare(),
        "leave processes that fork and end faster than anybody counts them";
    163 crowd Critical [] bare(),
        "leave a hundred processes of as many sessions";
}
siblings {
    164 sibling_tcp High [Sibling] with("--net host"),
        "connect to a server in another sandbox";
    165 sibling_abstract High [Sibling] with("--net host --landlock none"),
        "connect to an abstract socket in another sandbox";
    166 sibling_shared_memory High [Sibling] with("--share ipc"),
        "write to shared memory of another sandbox";
    167 sibling_queue High [Sibling] with("--share ipc --landlock none"),
        "open a message queue of another sandbox";
    168 sibling_kill High [Sibling] with("--share pid --without-atomic-end --landlock none"),
        "signal a process of another sandbox";
    169 sibling_memory Critical [Sibling] root_with("--share user --share pid --without-atomic-end --seccomp none --landlock none"),
        "read memory of another sandbox";
    170 sibling_files High [Sibling] with("--share mount"),
        "read a file that another sandbox has in /tmp";
}
tenants {
    181 tenant_files High [Before] with("--share mount"),
        "find a file that a program has left in a sandbox before";
    182 tenant_process Critical [Before] bare(),
        "find a process of its";
    183 tenant_key High [Before] bare(),
        "read a key that it has left to the user";
    184 tenant_objects High [Before] with("--share ipc"),
        "find its System V shared memory, semaphores or messages";
    185 tenant_queue High [Before] with("--share ipc --landlock none"),
        "open its message queue";
    186 tenant_sysctl High [Before] bare_root(),
        "find a parameter of the kernel's as it has set it";
    187 tenant_traffic Medium [Before] with("--net host"),
        "see in loopback's counters what it has sent";
    188 tenant_group Medium [Before] bare(),
        "see in a control group's counters what it has used";
    189 tenant_mount High [Before] bare_root(),
        "find a mount that it has made";
    190 tenant_abstract High [Before] bare(),
        "connect to its abstract socket";
    191 tenant_port High [Before] bare(),
        "connect to its TCP port, or find it taken";
    192 tenant_terminal Medium [Before] bare(),
        "find a terminal that it has opened, or as it has set it";
}
neighbours {
    193 neighbour_files Critical [Starts] bare(),
        "go through /proc into another program's supervisor, or into the next program before its exec";
    194 neighbour_memory Critical [Starts] bare(),
        "trace it, read its memory or take its descriptors";
}
    } };
}
