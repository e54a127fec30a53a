//! Who the program is, inside and outside.

use super::Sandbox;
use crate::namespace::Namespaces;
use crate::namespace::idmap::IdMap;
use crate::namespace::user::Host;

impl Sandbox {
    /// The program's uid inside, 0 to 4294967294
    /// ([user_namespaces(7)](https://man7.org/linux/man-pages/man7/user_namespaces.7.html)).
    /// Default: the caller's own, or 1000 if the caller is root. 0 is not the host's 0: which id
    /// stands behind it is [`host_ids`](Self::host_ids)' matter. Without a user namespace of the
    /// sandbox's own it is an id of the host's, which only root may choose.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Sandbox;
    /// let output = Sandbox::new().uid(1234).command("id").arg("-u").output()?;
    /// assert_eq!(output.stdout, b"1234\n");
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn uid(self, uid: u32) -> Self {
        self.with(|policy| policy.user.uid = Some(uid))
    }

    /// The program's gid inside, 0 to 4294967294
    /// ([user_namespaces(7)](https://man7.org/linux/man-pages/man7/user_namespaces.7.html)).
    /// Default: the caller's own, or 1000 if the caller is root. 0 is not the host's 0: which id
    /// stands behind it is [`host_ids`](Self::host_ids)' matter. Without a user namespace of the
    /// sandbox's own it is an id of the host's, which only root may choose.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Sandbox;
    /// let output = Sandbox::new().gid(1234).command("id").arg("-g").output()?;
    /// assert_eq!(output.stdout, b"1234\n");
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn gid(self, gid: u32) -> Self {
        self.with(|policy| policy.user.gid = Some(gid))
    }

    /// The host's ids that stand behind the ids inside, which only root may choose. Default: the
    /// caller's own, or 65534 (nobody) if the caller is root. 0 to 4294967294; implies
    /// [`Namespaces::USER`]
    /// ([user_namespaces(7)](https://man7.org/linux/man-pages/man7/user_namespaces.7.html)).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Sandbox, Stage};
    /// match Sandbox::new().host_ids(65534, 65534).command("true").status() {
    ///     Ok(status) => assert!(status.outcome.is_success()),
    ///     // The caller is neither root nor nobody.
    ///     Err(error) => assert_eq!(error.stage(), Some(Stage::Identity)),
    /// }
    /// ```
    pub fn host_ids(self, uid: u32, gid: u32) -> Self {
        self.implying(Namespaces::USER, |policy| policy.user.host = Host::Ids(uid, gid))
    }

    /// All ids that there are inside, and the host's that stand for them; see [`IdMap`]. Implies
    /// [`Namespaces::USER`]; the last word of this, [`host_ids`](Self::host_ids),
    /// [`own_host_id`](Self::own_host_id) and [`as_host_root`](Self::as_host_root) counts.
    ///
    /// The program is [`uid`](Self::uid) and [`gid`](Self::gid), by default the id that stands for
    /// the caller's own, or 1000 if the caller is root; if that is not in the map, its first id. To become another of them it needs
    /// CAP_SETUID and CAP_SETGID ([`capabilities`](Self::capabilities)), and to give files away CAP_CHOWN; uid 0 alone gives no power, and a change of uid takes none away, as the securebits
    /// are locked. CAP_SYS_ADMIN and several ids contradict each other.
    ///
    /// Root maps any of its ids. Others map what /etc/subuid and /etc/subgid give them, through
    /// newuidmap and newgidmap, which are run as short-lived children of the caller
    /// ([newuidmap(1)](https://man7.org/linux/man-pages/man1/newuidmap.1.html)).
    ///
    /// In binds of a root caller, its own files are the program's; those of the map's other ids on the
    /// host belong to them inside, and what these write is theirs outside. In binds of another
    /// caller every file belongs to whom its owner is inside.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Capability, IdMap, Sandbox, Stage};
    /// let sandbox = Sandbox::new()
    ///     .id_map(IdMap::new().ids(0, 100_000, 1000))
    ///     .uid(0)
    ///     .gid(0)
    ///     .capabilities([Capability::CHOWN]);
    /// let script = "touch /tmp/file && chown 5:7 /tmp/file && stat -c %u:%g /tmp/file";
    /// match sandbox.command("sh").args(["-c", script]).output() {
    ///     Ok(output) => assert_eq!(output.stdout, b"5:7\n"),
    ///     // Somebody who may not.
    ///     Err(error) => assert_eq!(error.stage(), Some(Stage::Identity)),
    /// }
    /// ```
    pub fn id_map(self, map: IdMap) -> Self {
        self.implying(Namespaces::USER, |policy| policy.user.host = Host::Map(map))
    }

    /// Gives each sandbox an id of the host's that no other one has at the same time, whichever
    /// process started it: one of 16777216 from 2013265920 on, which needs no configuration
    /// ([credentials(7)](https://man7.org/linux/man-pages/man7/credentials.7.html)). So sandboxes
    /// of a root caller share no count of processes, no key, no signal, no room in pipes and no count of descriptors that were sent
    /// and not received. It is also that id that makes
    /// the user namespace, so that nothing is shared that the kernel counts for who made one: the number of
    /// namespaces and of inotify instances, and (Linux 5.14) POSIX queues, pending signals and locked
    /// shared memory, of which each sandbox has what the limits of the calling process allow.
    ///
    /// For root only. Implies [`Namespaces::USER`]; needs [`init`](Self::init), which holds the id. A
    /// spawn takes two short-lived processes more.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Hint, Sandbox};
    /// let sandbox = Sandbox::new().own_host_id();
    /// match (sandbox.command("sleep").arg("9").spawn(), sandbox.command("sleep").arg("9").spawn()) {
    ///     (Ok(one), Ok(other)) => {
    ///         use std::os::unix::fs::MetadataExt;
    ///         let uid = |id| std::fs::metadata(format!("/proc/{id}")).map(|entry| entry.uid());
    ///         let id = |child: stockade::Child| child.program_id().map(uid);
    ///         assert_ne!(id(one).transpose()?, id(other).transpose()?);
    ///     }
    ///     (Err(error), _) | (_, Err(error)) => {
    ///         assert_eq!(error.hint(), Some(&Hint::OnlyRootChoosesIds));
    ///     }
    /// }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn own_host_id(self) -> Self {
        self.implying(Namespaces::USER, |policy| policy.user.host = Host::Own)
    }

    /// Runs the program with the caller's own ids even if the caller is root: a widening, by which
    /// the program passes every check of the host that asks for uid 0 and no capability. For other
    /// callers nothing changes.
    ///
    /// `RLIMIT_NPROC` does not bind the host's uid 0
    /// ([getrlimit(2)](https://man7.org/linux/man-pages/man2/getrlimit.2.html)): the default limit
    /// of 1024 processes is without effect then.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Sandbox;
    /// # let caller = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self")?);
    /// let output = Sandbox::new().as_host_root().command("id").arg("-u").output()?;
    /// assert_eq!(output.stdout, format!("{caller}\n").into_bytes());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn as_host_root(self) -> Self {
        self.with(|policy| policy.user.host = Host::Caller)
    }
}
