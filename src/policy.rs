//! All that a sandbox is to be, as plain values, and what contradicts itself in them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::capability::Capabilities;
use crate::cgroup::hierarchy;
use crate::cgroup::{CgroupParent, Limits};
use crate::error::{Error, Feature};
use crate::landlock::Landlock;
#[cfg(feature = "footprint")]
use crate::learn::Declared;
use crate::namespace::net::{self, Network};
use crate::namespace::time::TimeOffsets;
use crate::namespace::user::User;
use crate::namespace::uts::Uts;
use crate::namespace::{Existing, Namespaces, ipc, mount, pid};
use crate::rlimit::Rlimits;
use crate::rootfs::Tree;
use crate::seccomp::{Assembled, Kept, Listener, Seccomp};
use crate::{lsm, tier, wire};

/// All that a sandbox is to be.
#[derive(Debug, Clone)]
pub(crate) struct Policy {
    /// What was asked for, if it was.
    pub(crate) new: Option<Namespaces>,
    pub(crate) implied: Namespaces,
    pub(crate) joined: Vec<(Namespaces, Existing)>,
    pub(crate) user: User,
    pub(crate) uts: Uts,
    pub(crate) time: TimeOffsets,
    pub(crate) network: Option<Network>,
    pub(crate) recycle_network: bool,
    pub(crate) nesting: bool,
    pub(crate) debugging: bool,
    /// None is made; what they would give has to be dispensable.
    pub(crate) without_namespaces: bool,
    pub(crate) without_atomic_end: bool,
    pub(crate) init: bool,
    pub(crate) tree: Tree,
    pub(crate) capabilities: Capabilities,
    pub(crate) host_capabilities: bool,
    pub(crate) new_privileges: bool,
    pub(crate) rlimits: Rlimits,
    pub(crate) nice: i32,
    pub(crate) oom_score_adj: Option<i32>,
    pub(crate) wall: Option<Duration>,
    pub(crate) grace: Duration,
    pub(crate) linger: Duration,
    /// What was said about a feature: whether it may be missing.
    pub(crate) dispensable: BTreeMap<Feature, bool>,
    pub(crate) init_file: Option<PathBuf>,
    pub(crate) limits: Limits,
    pub(crate) cgroup_parent: CgroupParent,
    pub(crate) seccomp: Seccomp,
    pub(crate) landlock: Landlock,
    /// The security module's, for the program.
    pub(crate) exec_label: Option<String>,
    /// What is refused is noted.
    pub(crate) learn: bool,
    /// What is read and written is noted, against this.
    #[cfg(feature = "footprint")]
    pub(crate) declared: Option<Declared>,
}

impl Default for Policy {
    fn default() -> Self {
        Policy {
            new: None,
            implied: Namespaces::empty(),
            joined: Vec::new(),
            user: User::default(),
            uts: Uts::default(),
            time: TimeOffsets::default(),
            network: None,
            recycle_network: false,
            nesting: false,
            debugging: false,
            without_namespaces: false,
            without_atomic_end: false,
            init: true,
            tree: Tree::default(),
            capabilities: Capabilities::none(),
            host_capabilities: false,
            new_privileges: false,
            rlimits: Rlimits::default(),
            nice: 0,
            oom_score_adj: None,
            wall: None,
            grace: Duration::ZERO,
            linger: Duration::ZERO,
            dispensable: BTreeMap::new(),
            init_file: None,
            limits: Limits::default(),
            cgroup_parent: CgroupParent::default(),
            seccomp: Seccomp::default(),
            landlock: Landlock::default(),
            exec_label: None,
            learn: false,
            #[cfg(feature = "footprint")]
            declared: None,
        }
    }
}

impl Policy {
    /// The namespaces that will be made.
    pub(crate) fn new_namespaces(&self) -> Namespaces {
        if self.without_namespaces { Namespaces::empty() } else { self.wanted_namespaces() }
    }

    /// The namespaces that are asked for, whether they can be given or not.
    pub(crate) fn wanted_namespaces(&self) -> Namespaces {
        let new = self.new.unwrap_or(Namespaces::all());
        let new = self.network.map_or(new, |network| network.decide(new));
        (new | self.implied) - self.joined_namespaces()
    }

    pub(crate) fn joined_namespaces(&self) -> Namespaces {
        self.joined.iter().map(|(kind, _)| *kind).collect()
    }

    pub(crate) fn is_best_effort(&self, feature: Feature) -> bool {
        // Without namespaces these are no second wall, but the only one.
        let alone = self.without_namespaces
            && matches!(feature, Feature::Landlock | Feature::LandlockScopes);
        let by_default = feature.is_best_effort_by_default() && !alone;
        self.dispensable.get(&feature).copied().unwrap_or(by_default)
    }

    /// The mark of an operation that may fail, 0 if it may not.
    pub(crate) fn optional(&self, feature: Feature) -> u32 {
        if self.is_best_effort(feature) { feature.bit() } else { 0 }
    }

    /// A line for each thing that only the filter refuses.
    pub(crate) fn shared_lines(&self) -> Vec<String> {
        let names = tier::shared(self).iter_names();
        names
            .map(|(name, _)| {
                format!("filter {}: no namespace keeps them apart", name.to_lowercase())
            })
            .collect()
    }

    /// Finds everything that contradicts itself.
    pub(crate) fn validate(&self) -> crate::error::Result<()> {
        let mut problems = Vec::new();
        self.namespace_problems(&mut problems);
        tier::problems(self, &mut problems);
        self.user.problems(&mut problems);
        self.uts.problems(&mut problems);
        self.tree.problems(&mut problems);
        problems.extend(self.rlimits.problems());
        self.process_problems(&mut problems);
        self.cgroup_problems(&mut problems);
        self.filter_problems(&mut problems);
        lsm::problems(self, &mut problems);
        #[cfg(feature = "footprint")]
        if let Some(declared) = &self.declared {
            declared.problems(&mut problems);
        }
        if problems.is_empty() { Ok(()) } else { Err(Error::Invalid(problems)) }
    }

    fn namespace_problems(&self, problems: &mut Vec<String>) {
        let (new, joined) = (self.new_namespaces(), self.joined_namespaces());
        for kind in (self.implied & joined).iter() {
            problems.push(format!(
                "the {kind} namespace is joined, so its settings are not ours to change"
            ));
        }
        let own_user = (new | joined).contains(Namespaces::USER);
        if !self.capabilities.bounding().is_empty() && !own_user && !self.host_capabilities {
            problems.push(
                "capabilities without a user namespace of the sandbox's own are the host's; \
                 allow_host_capabilities() accepts that"
                    .to_owned(),
            );
        }
        if self.joined.iter().any(|(kind, _)| kind.iter().count() != 1) {
            problems.push("join(..) takes one kind of namespace at a time".to_owned());
        }
        if self.joined.len() > wire::JOIN_MAX {
            problems.push(format!("at most {} namespaces can be joined", wire::JOIN_MAX));
        }
        if joined.contains(Namespaces::USER) && self.user.uid.is_none() {
            problems
                .push("a joined user namespace has its own ids; say which with uid(..)".to_owned());
        }
        if !new.contains(Namespaces::NET) && self.tree.has_sysfs() {
            problems.push("sysfs() needs a network namespace of its own".to_owned());
        }
        if self.user.is_own() && !self.init {
            problems.push("own_host_id() needs init, which holds the id".to_owned());
        }
        if self.user.has_many() && mount::must_be_locked(self) {
            problems.push(
                "CAP_SYS_ADMIN is kept in one more user namespace, which can have one id only: not \
                 those of id_map(..)"
                    .to_owned(),
            );
        }
        if new.contains(Namespaces::USER) {
            let not_there =
                |(_, (uid, gid)): &(_, (u32, u32))| self.user.is_mapped(*uid, *gid) == Some(false);
            for (path, (uid, gid)) in self.tree.owners().filter(not_there) {
                problems.push(format!("the owner {uid}:{gid} of {path:?} is no id inside"));
            }
        }
        if self.tree.view.is_some() && self.time != TimeOffsets::default() {
            problems.push("view(..) sets the clocks, and time_offsets(..) does, too".to_owned());
        }
        net::problems(self, problems);
        pid::problems(self, problems);
        ipc::problems(self, problems);
        mount::problems(self, problems);
    }

    fn process_problems(&self, problems: &mut Vec<String>) {
        if !(-20..=19).contains(&self.nice) {
            problems.push(format!("the nice value {} is not between -20 and 19", self.nice));
        }
        if self.oom_score_adj.is_some_and(|score| !(-1000..=1000).contains(&score)) {
            problems.push("oom_score_adj is not between -1000 and 1000".to_owned());
        }
        if self.wall == Some(Duration::ZERO) {
            problems.push("a wall time of 0 leaves no time to run".to_owned());
        }
        if self.grace > Duration::ZERO && self.wall.is_none() {
            problems.push("a grace period needs a wall time".to_owned());
        }
        if !self.init && (self.grace > Duration::ZERO || self.linger > Duration::ZERO) {
            problems.push("a grace period and lingering need init".to_owned());
        }
    }

    /// Whether somebody notes the program's calls.
    pub(crate) fn is_journaled(&self) -> bool {
        #[cfg(feature = "footprint")]
        if self.declared.is_some() {
            return true;
        }
        self.learn
    }

    /// The system call filter of a program that was given something of the host's to write to, or not, and
    /// with or without a journal that is asked.
    pub(crate) fn filter(
        &self,
        writes_to_host: bool,
        journaled: bool,
    ) -> Result<Arc<Assembled>, Vec<String>> {
        self.seccomp.assembled(Kept {
            capabilities: self.capabilities.bounding().bits(),
            nesting_forbidden: !self.nesting,
            debugging: self.debugging,
            init_guarded: self.init && self.has_own_pids(),
            supervised: self.init,
            journaled,
            writes_to_host: writes_to_host || self.tree.is_kept(),
            shared: tier::shared(self),
        })
    }

    fn filter_problems(&self, problems: &mut Vec<String>) {
        match self.filter(false, self.is_journaled()) {
            Err(more) => problems.extend(more),
            Ok(filter) if !filter.allow_setup && self.new_privileges => problems.push(
                "where exec may gain privileges the filter comes before what is given up, and the \
                 seccomp profile refuses that"
                    .to_owned(),
            ),
            Ok(filter)
                if filter.listener == Some(Listener::Journal)
                    && (!self.init || !filter.allow_setup) =>
            {
                problems.push(
                    "learn() and declare_inputs(..) need init, which hands the listener over, and a seccomp profile that neither \
                     traps what the start needs nor forbids to say why it failed"
                        .to_owned(),
                );
            }
            Ok(filter)
                if filter.listener == Some(Listener::Caller)
                    && (!self.init || !filter.allow_setup) =>
            {
                problems.push(
                    "Action::Notify needs init, which hands the listener over, and a profile that allows \
                     what the start needs"
                        .to_owned(),
                );
            }
            Ok(filter) if !filter.allow_report && !self.init => problems.push(
                "the seccomp profile refuses openat, faccessat or sendmsg, without which only init \
                 can tell that the program did not start"
                    .to_owned(),
            ),
            Ok(_) => {}
        }
    }

    /// What is wrong with limits for this sandbox, the ones it has or others.
    pub(crate) fn limit_problems(&self, limits: &Limits, problems: &mut Vec<String>) {
        limits.problems(problems);
        if limits.cpu_time.is_some() && !self.init {
            problems.push("a limit of CPU time needs init, which keeps it".to_owned());
        }
        let nets = self.new_namespaces() | self.joined_namespaces();
        if limits.net_prio.is_some() && nets.contains(Namespaces::NET) {
            problems.push(
                "priorities of packets are for interfaces of the caller's network, which needs \
                 network(Network::Host)"
                    .to_owned(),
            );
        }
    }

    fn cgroup_problems(&self, problems: &mut Vec<String>) {
        self.limit_problems(&self.limits, problems);
        match &self.cgroup_parent {
            CgroupParent::Path(path) if !hierarchy::is_plain(path) => {
                problems.push(format!("{path:?} does not name a group below its start"));
            }
            _ => {}
        }
    }
}

/// A text without NUL, or a problem.
pub(crate) fn check_text(what: &str, text: &OsString, problems: &mut Vec<String>) {
    if text.as_encoded_bytes().contains(&0) {
        problems.push(format!("{what} {text:?} contains a NUL byte"));
    }
}
