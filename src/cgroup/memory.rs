//! Memory and swap;
//! [memory.rst](https://docs.kernel.org/admin-guide/cgroup-v1/memory.html),
//! [cgroup-v2.rst](https://docs.kernel.org/admin-guide/cgroup-v2.html#memory).

use super::{CgroupVersion, Unsupported, Write, Writes, or_max, or_minus_one};
use crate::rlimit::Max;

/// How much memory a sandbox may use, in bytes; the kernel rounds down to pages
/// ([memory.rst](https://docs.kernel.org/admin-guide/cgroup-v1/memory.html),
/// [cgroup-v2.rst](https://docs.kernel.org/admin-guide/cgroup-v2.html#memory)).
///
/// What counts is what the processes of the sandbox, and what is written to its tmpfs, take of RAM:
/// page cache of files that they read included, which is given back when memory is short. Swap is
/// counted apart.
///
/// # Examples
///
/// ```
/// use stockade::{Limits, Memory, Sandbox};
/// let memory = Memory::new().max(512 << 20).swap(64 << 20);
/// let sandbox = Sandbox::new().limits(Limits::new().memory(memory));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[must_use = "it limits nothing until it is given to a sandbox"]
pub struct Memory {
    pub(crate) max: Option<Max>,
    pub(crate) swap: Option<Max>,
    high: Option<Max>,
    low: Option<Max>,
    min: Option<Max>,
    oom_group: Option<bool>,
    soft: Option<Max>,
    swappiness: Option<u64>,
}

impl Memory {
    /// No limit.
    ///
    /// # Examples
    ///
    /// ```
    /// let memory = stockade::Memory::new();
    /// ```
    pub fn new() -> Self {
        Memory::default()
    }

    /// The most bytes of memory; when they are reached and nothing can be given back, the kernel
    /// kills a process of the sandbox. At least one page. Unless [`swap`](Self::swap) says
    /// otherwise there is no swap on top.
    ///
    /// # Examples
    ///
    /// ```
    /// let memory = stockade::Memory::new().max(64 << 20);
    /// ```
    #[doc(alias = "memory.max")]
    #[doc(alias = "memory.limit_in_bytes")]
    pub fn max(self, bytes: impl Into<Max>) -> Self {
        Memory { max: Some(bytes.into()), ..self }
    }

    /// The most bytes of swap, on top of [`max`](Self::max); 0 by default if there is a maximum of
    /// memory. On v1 it needs a maximum of memory, unless it is unlimited. A kernel that does not
    /// account for swap is an error, unless the host has none.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Max, Memory};
    /// let memory = Memory::new().max(64 << 20).swap(Max::Unlimited);
    /// ```
    #[doc(alias = "memory.swap.max")]
    #[doc(alias = "memory.memsw.limit_in_bytes")]
    pub fn swap(self, bytes: impl Into<Max>) -> Self {
        Memory { swap: Some(bytes.into()), ..self }
    }

    /// The bytes from which on the kernel slows the sandbox down and takes memory back from it,
    /// without killing. v2 only.
    ///
    /// # Examples
    ///
    /// ```
    /// let memory = stockade::Memory::new().high(48 << 20).max(64 << 20);
    /// ```
    #[doc(alias = "memory.high")]
    pub fn high(self, bytes: impl Into<Max>) -> Self {
        Memory { high: Some(bytes.into()), ..self }
    }

    /// The bytes that are taken back only if nobody else has any to give. v2 only.
    ///
    /// # Examples
    ///
    /// ```
    /// let memory = stockade::Memory::new().low(16 << 20);
    /// ```
    #[doc(alias = "memory.low")]
    pub fn low(self, bytes: impl Into<Max>) -> Self {
        Memory { low: Some(bytes.into()), ..self }
    }

    /// The bytes that are never taken back. v2 only.
    ///
    /// # Examples
    ///
    /// ```
    /// let memory = stockade::Memory::new().min(16 << 20);
    /// ```
    #[doc(alias = "memory.min")]
    pub fn min(self, bytes: impl Into<Max>) -> Self {
        Memory { min: Some(bytes.into()), ..self }
    }

    /// Whether all of the sandbox is killed if one process is, for want of memory. v2 only (Linux
    /// 4.19).
    ///
    /// Its init is part of all, unless the caller has CAP_SYS_RESOURCE, with which a sandbox of one
    /// program has that spared. The outcome is [`OutOfMemory`](crate::Outcome::OutOfMemory) in both
    /// cases, but an init that is killed no longer tells what it alone knows: besides what the groups
    /// count, the usage is then that of init and of what it has waited for, no process is counted as
    /// left, and no file system as full. A
    /// [session](crate::Prepared::session) always ends with its init, its programs with
    /// [`InitKilled`](crate::Outcome::InitKilled); that it was for want of memory is in
    /// [`Session::stats`](crate::Session::stats).
    ///
    /// # Examples
    ///
    /// ```
    /// let memory = stockade::Memory::new().max(64 << 20).oom_group(true);
    /// ```
    #[doc(alias = "memory.oom.group")]
    pub fn oom_group(self, all: bool) -> Self {
        Memory { oom_group: Some(all), ..self }
    }

    /// The bytes to which the kernel tries to shrink the sandbox when the host is short of memory.
    /// v1 only.
    ///
    /// # Examples
    ///
    /// ```
    /// let memory = stockade::Memory::new().soft_limit(32 << 20);
    /// ```
    #[doc(alias = "memory.soft_limit_in_bytes")]
    pub fn soft_limit(self, bytes: impl Into<Max>) -> Self {
        Memory { soft: Some(bytes.into()), ..self }
    }

    /// How readily anonymous memory is swapped out instead of page cache being dropped, 0 to 200
    /// (to 100 before Linux 5.8). v1 only.
    ///
    /// # Examples
    ///
    /// ```
    /// let memory = stockade::Memory::new().swappiness(0);
    /// ```
    #[doc(alias = "memory.swappiness")]
    pub fn swappiness(self, readiness: u64) -> Self {
        Memory { swappiness: Some(readiness), ..self }
    }

    pub(crate) fn problems(&self, problems: &mut Vec<String>) {
        let page = 4096;
        if matches!(self.max, Some(Max::At(bytes)) if bytes < page) {
            problems.push(format!("a memory limit below {page} bytes leaves no page"));
        }
        if self.swappiness.is_some_and(|readiness| readiness > 200) {
            problems.push("swappiness is not between 0 and 200".to_owned());
        }
        if let (Some(high), Some(max)) = (self.high, self.max) {
            if high > max {
                problems.push("memory high is above max".to_owned());
            }
        }
    }

    pub(crate) fn writes(&self, version: CgroupVersion) -> Writes {
        match version {
            CgroupVersion::V1 => self.v1(),
            CgroupVersion::V2 => self.v2(),
        }
    }

    /// What swap is limited to; by default nothing of it goes with a limit of memory.
    fn swap_or_default(&self) -> Option<Max> {
        self.swap.or(matches!(self.max, Some(Max::At(_))).then_some(Max::At(0)))
    }

    fn v1(&self) -> Writes {
        let lacks = |what, instead| Err(Unsupported { what, version: CgroupVersion::V1, instead });
        match self {
            Memory { high: Some(_), .. } => return lacks("memory high", "use max or soft_limit"),
            Memory { low: Some(_), .. } => return lacks("memory low", "use soft_limit"),
            Memory { min: Some(_), .. } => return lacks("memory min", "use soft_limit"),
            Memory { oom_group: Some(true), .. } => return lacks("the oom group", ""),
            _ => {}
        }
        let mut writes = Vec::new();
        if let Some(max) = self.max {
            writes.push(Write::new("memory.limit_in_bytes", or_minus_one(max)));
        }
        match (self.swap_or_default(), self.max) {
            (None, _) => {}
            (Some(Max::Unlimited), _) => {
                // Without accounting of swap there is no limit of it either.
                let write = Write::new("memory.memsw.limit_in_bytes", -1);
                writes.push(write.dispensable(true));
            }
            (Some(Max::At(swap)), Some(Max::At(max))) => {
                let both = max.saturating_add(swap);
                writes.push(Write::new("memory.memsw.limit_in_bytes", both).of_swap(true));
            }
            (Some(Max::At(_)), _) => {
                return lacks("a limit of swap alone", "limit memory as well");
            }
        }
        if let Some(soft) = self.soft {
            writes.push(Write::new("memory.soft_limit_in_bytes", or_minus_one(soft)));
        }
        if let Some(readiness) = self.swappiness {
            writes.push(Write::new("memory.swappiness", readiness));
        }
        Ok(writes)
    }

    fn v2(&self) -> Writes {
        let lacks = |what, instead| Err(Unsupported { what, version: CgroupVersion::V2, instead });
        match self {
            Memory { soft: Some(_), .. } => return lacks("the soft limit", "use high or low"),
            Memory { swappiness: Some(_), .. } => return lacks("swappiness", "limit swap"),
            _ => {}
        }
        let mut writes = Vec::new();
        let amounts = [
            ("memory.min", self.min),
            ("memory.low", self.low),
            ("memory.high", self.high),
            ("memory.swap.max", self.swap_or_default()),
            ("memory.max", self.max),
        ];
        for (file, amount) in amounts {
            let of_swap = file == "memory.swap.max";
            let amount = amount.map(|amount| Write::new(file, or_max(amount)).of_swap(of_swap));
            writes.extend(amount);
        }
        if let Some(all) = self.oom_group {
            writes.push(Write::new("memory.oom.group", u8::from(all)));
        }
        Ok(writes)
    }
}
