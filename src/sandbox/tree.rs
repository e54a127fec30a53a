//! What the program sees of files.

use std::path::PathBuf;

use super::Sandbox;
use crate::namespace::Namespaces;
use crate::rootfs::{Bind, Data, Entry, Overlay, Proc, Rootfs, Tmpfs, Tree, View};

impl Sandbox {
    /// What the file tree begins with; default [`Rootfs::host`]
    /// ([pivot_root(2)](https://man7.org/linux/man-pages/man2/pivot_root.2.html)). Implies
    /// [`Namespaces::MOUNT`].
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Rootfs, Sandbox};
    /// Sandbox::new().rootfs(Rootfs::empty()).check()?;
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn rootfs(self, rootfs: Rootfs) -> Self {
        self.entry(|tree| tree.base = rootfs)
    }

    fn entry(self, change: impl FnOnce(&mut Tree)) -> Self {
        self.implying(Namespaces::MOUNT, |policy| change(&mut policy.tree))
    }

    fn push(self, entry: Entry) -> Self {
        self.entry(|tree| tree.entries.push(entry))
    }

    /// Makes a file or directory of the host's visible, read-only; see [`Bind`]
    /// ([mount(2)](https://man7.org/linux/man-pages/man2/mount.2.html)).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Sandbox;
    /// let sandbox = Sandbox::new().bind_ro("/usr/bin", "/tools");
    /// assert!(sandbox.command("/tools/env").status()?.outcome.is_success());
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn bind_ro(self, source: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        self.bind(Bind::read_only(source, target))
    }

    /// Makes a file or directory of the host's visible and writable: a widening; see [`Bind`]
    /// ([mount(2)](https://man7.org/linux/man-pages/man2/mount.2.html)).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Sandbox;
    /// let directory = tempfile::tempdir()?;
    /// let sandbox = Sandbox::new().bind_rw(directory.path(), "/out");
    /// sandbox.command("touch").arg("/out/new").status()?;
    /// assert!(directory.path().join("new").exists());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn bind_rw(self, source: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        self.bind(Bind::read_write(source, target))
    }

    /// Makes a file or directory of the host's visible at its own path, which has to be absolute,
    /// read-only; see [`Bind`] ([mount(2)](https://man7.org/linux/man-pages/man2/mount.2.html)).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Sandbox;
    /// let directory = tempfile::tempdir()?;
    /// std::fs::write(directory.path().join("words"), "pear\n")?;
    /// let sandbox = Sandbox::new().bind_same(directory.path());
    /// let output = sandbox.command("cat").arg(directory.path().join("words")).output()?;
    /// assert_eq!(output.stdout, b"pear\n");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn bind_same(self, path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        self.bind(Bind::read_only(path.clone(), path))
    }

    /// Shows what one program of the host's needs to be started, read-only and at its own paths:
    /// the file itself, the links on the way to it, the interpreter of a script and what that needs,
    /// the dynamic loader and all libraries that it would load. Nothing else of their directories is
    /// there. For hosts with an empty /usr (Nix, Guix), for tool chains in a home directory, and for
    /// sandboxes that begin with [`Rootfs::empty`].
    ///
    /// The libraries are found as the loader finds them (`DT_RUNPATH` and `DT_RPATH` with `$ORIGIN`,
    /// `$LIB` and `$PLATFORM`, its cache, its own directories;
    /// [ld.so(8)](https://man7.org/linux/man-pages/man8/ld.so.8.html)), glibc's or musl's, but
    /// without LD_LIBRARY_PATH. Neither the program nor its loader is run. For `#!/usr/bin/env x`,
    /// `x` is looked for in the [PATH of the command](crate::Command::env). What a program loads by
    /// name while it runs, and the programs and data that it uses, are not known here: they take a
    /// `program(..)` or a [`bind_same`](Self::bind_same) of their own.
    ///
    /// What is there already, because it was bound before or [`Rootfs::host`] has it, is not bound
    /// again. The program's file decides what is shown (programs, scripts and libraries): it should
    /// not be somebody's who must not see those. A relative path starts from the caller's directory.
    ///
    /// A file that is missing or cannot be read is an error when the sandbox is made, or its
    /// [`plan`](Self::plan): [`Error::Failed`](crate::Error::Failed) at
    /// [`Stage::Prepare`](crate::Stage::Prepare) with the library's name and who needs it, and where it is
    /// not just missing, with the file that cannot be read (the library, a directory on the way, the
    /// loader, its list of libraries) and why.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Rootfs, Sandbox};
    /// let sandbox = Sandbox::new().rootfs(Rootfs::empty()).program("/bin/sh");
    /// let output = sandbox.command("/bin/sh").args(["-c", "echo alone"]).output()?;
    /// assert_eq!(output.stdout, b"alone\n");
    /// // Nothing else is there.
    /// assert!(sandbox.command("/bin/ls").spawn().is_err());
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn program(self, path: impl Into<PathBuf>) -> Self {
        self.push(Entry::Program { path: path.into() })
    }

    /// Makes a part of the host's tree visible
    /// ([mount(2)](https://man7.org/linux/man-pages/man2/mount.2.html)).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Bind, Sandbox};
    /// let tools = Bind::read_only("/usr/bin", "/tools").without_submounts();
    /// let sandbox = Sandbox::new().bind(tools);
    /// assert!(sandbox.command("/tools/env").status()?.outcome.is_success());
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn bind(self, bind: Bind) -> Self {
        self.push(Entry::Bind(bind))
    }

    /// An empty, writable file system in memory at `path`, of 64 MiB and 16384 files at the most
    /// ([tmpfs(5)](https://man7.org/linux/man-pages/man5/tmpfs.5.html)).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Sandbox;
    /// let sandbox = Sandbox::new().tmpfs("/scratch");
    /// assert!(sandbox.command("touch").arg("/scratch/new").status()?.outcome.is_success());
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn tmpfs(self, path: impl Into<PathBuf>) -> Self {
        self.mount_tmpfs(Tmpfs::new(path))
    }

    /// An empty file system in memory, with limits of its own
    /// ([tmpfs(5)](https://man7.org/linux/man-pages/man5/tmpfs.5.html)).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Sandbox, Tmpfs};
    /// let sandbox = Sandbox::new().mount_tmpfs(Tmpfs::new("/scratch").size(1 << 20));
    /// assert!(sandbox.command("touch").arg("/scratch/new").status()?.outcome.is_success());
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn mount_tmpfs(self, tmpfs: Tmpfs) -> Self {
        self.push(Entry::Tmpfs(tmpfs))
    }

    /// Directories of the host's laid over each other, and on top of them what the program writes;
    /// see [`Overlay`] (Linux 5.11, from a root caller 5.19;
    /// [overlayfs](https://docs.kernel.org/filesystems/overlayfs.html)). Up to 16.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Overlay, Sandbox};
    /// let sandbox = Sandbox::new().overlay("/srv", Overlay::new(["/usr/bin"]));
    /// let script = "rm /srv/env && test ! -e /srv/env && test -e /usr/bin/env";
    /// assert!(sandbox.command("sh").args(["-c", script]).status()?.outcome.is_success());
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn overlay(self, path: impl Into<PathBuf>, overlay: Overlay) -> Self {
        self.push(Entry::Overlay(path.into(), overlay))
    }

    /// Keeps all mounts of the sandbox as long as its handle, so that
    /// [`Child::open_output`](crate::Child::open_output) finds what is on them after the end too
    /// ([mount_namespaces(7)](https://man7.org/linux/man-pages/man7/mount_namespaces.7.html)).
    /// Without this, what is on the root itself, /tmp, HOME and /dev/shm is found.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Sandbox;
    /// let sandbox = Sandbox::new().tmpfs("/scratch").keep_mounts();
    /// let mut child = sandbox.command("sh").args(["-c", "echo x > /scratch/out"]).spawn()?;
    /// child.wait()?;
    /// assert_eq!(std::io::read_to_string(child.open_output("/scratch/out")?)?, "x\n");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn keep_mounts(self) -> Self {
        self.entry(|tree| tree.keep_mounts = true)
    }

    /// A regular file with this content and mode 0644, where the tree is the sandbox's own; of less
    /// than 4 GiB ([inode(7)](https://man7.org/linux/man-pages/man7/inode.7.html)). Elsewhere the
    /// spawn fails: nothing of the host's is changed.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Sandbox;
    /// let sandbox = Sandbox::new().file("/etc/hosts", "127.0.0.1 localhost\n");
    /// let output = sandbox.command("cat").arg("/etc/hosts").output()?;
    /// assert_eq!(output.stdout, b"127.0.0.1 localhost\n");
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn file(self, path: impl Into<PathBuf>, data: impl Into<Vec<u8>>) -> Self {
        self.file_with_mode(path, data, 0o644)
    }

    /// A regular file with this content and mode, where the tree is the sandbox's own
    /// ([inode(7)](https://man7.org/linux/man-pages/man7/inode.7.html)). Bits of the mode above
    /// 0o1777 are dropped.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Sandbox;
    /// let sandbox = Sandbox::new().file_with_mode("/run", "#!/bin/sh\necho hello\n", 0o755);
    /// assert_eq!(sandbox.command("/run").output()?.stdout, b"hello\n");
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn file_with_mode(
        self,
        path: impl Into<PathBuf>,
        data: impl Into<Vec<u8>>,
        mode: u32,
    ) -> Self {
        self.data(Data::file(path, data.into()).mode(mode))
    }

    /// A directory with this mode, where the tree is the sandbox's own
    /// ([mkdir(2)](https://man7.org/linux/man-pages/man2/mkdir.2.html)). Bits above 0o7777 are
    /// dropped.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Sandbox;
    /// let sandbox = Sandbox::new().directory("/empty", 0o700);
    /// let output = sandbox.command("stat").args(["-c", "%a", "/empty"]).output()?;
    /// assert_eq!(output.stdout, b"700\n");
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn directory(self, path: impl Into<PathBuf>, mode: u32) -> Self {
        self.data(Data::directory(path).mode(mode))
    }

    /// A symbolic link at `path` to `target`, which is not looked at and not empty
    /// ([symlink(2)](https://man7.org/linux/man-pages/man2/symlink.2.html)).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Sandbox;
    /// let sandbox = Sandbox::new().symlink("/usr/bin", "/tools");
    /// let output = sandbox.command("readlink").arg("/tools").output()?;
    /// assert_eq!(output.stdout, b"/usr/bin\n");
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn symlink(self, target: impl Into<PathBuf>, path: impl Into<PathBuf>) -> Self {
        self.data(Data::symlink(target, path))
    }

    /// A file, directory or symbolic link, with an owner, a limit of its size, or what a descriptor
    /// gives; see [`Data`].
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Data, Sandbox};
    /// let (reading, mut writing) = std::io::pipe()?;
    /// std::io::Write::write_all(&mut writing, b"through a pipe\n")?;
    /// drop(writing);
    /// let data = Data::file("/words", std::os::fd::OwnedFd::from(reading));
    /// let sandbox = Sandbox::new().data(data.mode(0o600).max_size(100));
    /// assert_eq!(sandbox.command("cat").arg("/words").output()?.stdout, b"through a pipe\n");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn data(self, data: Data) -> Self {
        self.push(Entry::Data(data))
    }

    /// Whether /proc/self/mountinfo, mounts and mountstats are empty; default no. They tell where on its
    /// file system a bind's source lies, and the layers of an overlay that the host is on
    /// ([proc_pid_mountinfo(5)](https://man7.org/linux/man-pages/man5/proc_pid_mountinfo.5.html)).
    ///
    /// The program's root is then a copy of the tree that is in no mount namespace, so that the kernel has
    /// none to list. All else is as before, but programs that need the list fail: `df` without a file name,
    /// `findmnt`, `find -fstype` and Java's `Files.getFileStore` have nothing to go by, and `mountpoint` says of every path that it is
    /// none. The kernel gives such a program no user namespaces, so that
    /// [`allow_nesting`](Self::allow_nesting) contradicts it, and
    /// with CAP_SYS_ADMIN it would be undone. What other places tell is not changed: the name of a file
    /// that is passed as a descriptor, numbers of devices and files
    /// ([open_tree(2)](https://man7.org/linux/man-pages/man2/open_tree.2.html), Linux 5.2).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Sandbox;
    /// let directory = tempfile::tempdir()?;
    /// # std::fs::set_permissions(directory.path(),
    /// #     std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    /// let sandbox = Sandbox::new().bind_ro(directory.path(), "/data");
    /// let mounts = |sandbox: &Sandbox| sandbox.command("cat").arg("/proc/self/mountinfo").output();
    /// assert!(!mounts(&sandbox)?.stdout.is_empty());
    /// assert!(mounts(&sandbox.hide_host_paths(true))?.stdout.is_empty());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn hide_host_paths(self, hide: bool) -> Self {
        match hide {
            true => self.entry(|tree| tree.hide_paths = true),
            // Which is no reason for a tree of its own.
            false => self.with(|policy| policy.tree.hide_paths = false),
        }
    }

    /// How much of /proc is visible; default [`Proc::Processes`] (Linux 5.8;
    /// [proc(5)](https://man7.org/linux/man-pages/man5/proc.5.html)).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Proc, Sandbox};
    /// let sandbox = Sandbox::new().proc(Proc::None);
    /// assert!(!sandbox.command("ls").arg("/proc/self").status()?.outcome.is_success());
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn proc(self, proc: Proc) -> Self {
        self.entry(|tree| tree.proc = proc)
    }

    /// Shows a machine of the sandbox's own: the number of processors, the memory, the uptime, the load and
    /// the boot id in /proc are as [`View`] says, or as the sandbox's limits make them, and the clocks that
    /// count from the boot are set to fit. Implies [`Proc::Compat`], and namespaces for mounts, processes
    /// and time; [`Proc::Full`] and [`time_offsets`](Self::time_offsets) contradict it.
    ///
    /// The files are as they were at the spawn: uptime stays, where the clocks go on, and processors have
    /// done nothing. What cannot be changed is the host's: what
    /// [sysinfo(2)](https://man7.org/linux/man-pages/man2/sysinfo.2.html) tells besides the uptime, the
    /// processor's own words for itself, uname(2), the time of day, and the processors that
    /// sched_getaffinity(2) tells (`nproc`), which are those of [`cpus`](Self::cpus).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Sandbox, View};
    /// let sandbox = Sandbox::new().view(View::new().cpus(2));
    /// let output = sandbox.command("cat").arg("/proc/loadavg").output()?;
    /// assert_eq!(output.stdout, b"0.00 0.00 0.00 1/1 1\n");
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn view(self, view: View) -> Self {
        let kinds = Namespaces::MOUNT | Namespaces::PID | Namespaces::TIME;
        self.implying(kinds, |policy| policy.tree.view = Some(view))
    }

    /// The time zone inside, such as `Europe/Berlin`, from the host's zoneinfo; default UTC, and never
    /// the host's. It is what /etc/localtime stands for
    /// ([localtime(5)](https://man7.org/linux/man-pages/man5/localtime.5.html)); the variable TZ goes
    /// before it.
    ///
    /// One that the host does not have is an error of the spawn. A
    /// [directory](Rootfs::directory) root keeps its own /etc: that, and an entry at /etc/localtime,
    /// contradict it.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Sandbox;
    /// let date = |sandbox: Sandbox| sandbox.command("date").args(["-d", "@0", "+%H"]).output();
    /// assert_eq!(date(Sandbox::new())?.stdout, b"00\n");
    /// if std::path::Path::new("/usr/share/zoneinfo/Asia/Tokyo").exists() {
    ///     assert_eq!(date(Sandbox::new().timezone("Asia/Tokyo"))?.stdout, b"09\n");
    /// }
    /// assert!(Sandbox::new().timezone("Mars/Olympus").plan().is_err());
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn timezone(self, name: impl Into<String>) -> Self {
        self.entry(|tree| tree.timezone = Some(name.into()))
    }

    /// A read-only /sys ([sysfs(5)](https://man7.org/linux/man-pages/man5/sysfs.5.html)): a
    /// widening, which tells much of the host's hardware. Needs a network namespace of its own. The
    /// kernel refuses it where the caller's own /sys is masked, as in a container.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Sandbox;
    /// assert!(Sandbox::new().sysfs().plan()?.to_string().contains(r#"sysfs on "/sys""#));
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn sysfs(self) -> Self {
        self.push(Entry::Sysfs)
    }

    /// POSIX message queues at /dev/mqueue, those of the sandbox's own ipc namespace, which it
    /// needs ([mq_overview(7)](https://man7.org/linux/man-pages/man7/mq_overview.7.html)).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Sandbox;
    /// assert!(Sandbox::new().mqueue().plan()?.to_string().contains(r#"mqueue on "/dev/mqueue""#));
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn mqueue(self) -> Self {
        self.push(Entry::Mqueue { path: "/dev/mqueue".into() })
    }

    /// How many bytes /tmp, the home directory and /dev/shm can have in all; default 256 MiB, or half
    /// of [`memory_limit`](Self::memory_limit) if there is one; rounded up to a page, not 0. In a
    /// [directory](Rootfs::directory) root each of them
    /// ([tmpfs(5)](https://man7.org/linux/man-pages/man5/tmpfs.5.html)).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Sandbox;
    /// let sandbox = Sandbox::new().tmp_size(1 << 20);
    /// let script = "! head -c 2000000 /dev/zero > /tmp/large";
    /// assert!(sandbox.command("sh").args(["-c", script]).status()?.outcome.is_success());
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn tmp_size(self, bytes: u64) -> Self {
        self.entry(|tree| tree.budget = Some(bytes))
    }

    /// How many files /tmp, the home directory and /dev/shm can have in all; default 65536, not 0
    /// ([tmpfs(5)](https://man7.org/linux/man-pages/man5/tmpfs.5.html)). What the sandbox itself
    /// puts into its root counts, some dozens. In a [directory](Rootfs::directory) root each of
    /// them.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Sandbox;
    /// let command = Sandbox::new().tmp_inodes(200).command("sh").current_dir("/tmp");
    /// let status = command.args(["-c", "touch $(seq 100) && ! touch $(seq 101 200)"]).status()?;
    /// assert!(status.outcome.is_success());
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn tmp_inodes(self, count: u64) -> Self {
        self.entry(|tree| tree.inodes = count)
    }
}
