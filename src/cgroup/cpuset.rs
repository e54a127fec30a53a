//! Which CPUs and memory nodes;
//! [cpuset(7)](https://man7.org/linux/man-pages/man7/cpuset.7.html).

use std::collections::BTreeSet;

use super::{CgroupVersion, Unsupported, Write, Writes};

/// Which CPUs and memory nodes a sandbox may use
/// ([cpuset(7)](https://man7.org/linux/man-pages/man7/cpuset.7.html),
/// [cgroup-v2.rst](https://docs.kernel.org/admin-guide/cgroup-v2.html#cpuset)).
///
/// # Examples
///
/// ```
/// use stockade::{Cpuset, Limits, Sandbox};
/// let sandbox = Sandbox::new().limits(Limits::new().cpuset(Cpuset::new().cpus("0-3,8")));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[must_use = "it limits nothing until it is given to a sandbox"]
pub struct Cpuset {
    pub(crate) cpus: Option<String>,
    pub(crate) mems: Option<String>,
    partition: Option<Partition>,
}

/// Whether CPUs are a sandbox's alone
/// ([cgroup-v2.rst](https://docs.kernel.org/admin-guide/cgroup-v2.html#cpuset-interface-files)).
///
/// # Examples
///
/// ```
/// use stockade::{Cpuset, Partition};
/// let cpuset = Cpuset::new().cpus("3").partition(Partition::Isolated);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Partition {
    /// Shared with others, as by default.
    Member,
    /// Its alone (Linux 5.0).
    Root,
    /// Its alone, and without load balancing (Linux 6.1).
    Isolated,
}

impl Cpuset {
    /// All that the group above has.
    ///
    /// # Examples
    ///
    /// ```
    /// let cpuset = stockade::Cpuset::new();
    /// ```
    pub fn new() -> Self {
        Cpuset::default()
    }

    /// The CPUs, as a list of numbers and ranges: `0-3,8`.
    ///
    /// # Examples
    ///
    /// ```
    /// let cpuset = stockade::Cpuset::new().cpus("0");
    /// ```
    #[doc(alias = "cpuset.cpus")]
    pub fn cpus(self, list: impl Into<String>) -> Self {
        Cpuset { cpus: Some(list.into()), ..self }
    }

    /// The memory nodes, as a list of numbers and ranges
    /// ([numa(7)](https://man7.org/linux/man-pages/man7/numa.7.html)).
    ///
    /// # Examples
    ///
    /// ```
    /// let cpuset = stockade::Cpuset::new().mems("0");
    /// ```
    #[doc(alias = "cpuset.mems")]
    pub fn mems(self, list: impl Into<String>) -> Self {
        Cpuset { mems: Some(list.into()), ..self }
    }

    /// Whether the CPUs are the sandbox's alone. v2 only.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Cpuset, Partition};
    /// let cpuset = Cpuset::new().cpus("3").partition(Partition::Root);
    /// ```
    #[doc(alias = "cpuset.cpus.partition")]
    pub fn partition(self, partition: Partition) -> Self {
        Cpuset { partition: Some(partition), ..self }
    }

    pub(crate) fn problems(&self, problems: &mut Vec<String>) {
        for (what, list) in [("CPUs", &self.cpus), ("memory nodes", &self.mems)] {
            let Some(list) = list else { continue };
            if parse_list(list).is_none_or(|numbers| numbers.is_empty()) {
                problems.push(format!("{list:?} is no list of {what} such as \"0-3,8\""));
            }
        }
    }

    pub(crate) fn writes(&self, version: CgroupVersion) -> Writes {
        let mut writes = Vec::new();
        for (file, list) in [("cpuset.cpus", &self.cpus), ("cpuset.mems", &self.mems)] {
            writes.extend(list.iter().map(|list| Write::new(file, list)));
        }
        match (self.partition, version) {
            (None | Some(Partition::Member), CgroupVersion::V1) | (None, CgroupVersion::V2) => {}
            (Some(_), CgroupVersion::V1) => {
                return Err(Unsupported { what: "a cpuset partition", version, instead: "" });
            }
            (Some(partition), CgroupVersion::V2) => {
                let kind = match partition {
                    Partition::Member => "member",
                    Partition::Root => "root",
                    Partition::Isolated => "isolated",
                };
                writes.push(Write::new("cpuset.cpus.partition", kind));
            }
        }
        Ok(writes)
    }

    /// Why the kernel does not do what it was told. v2 takes lists and partitions that it cannot give,
    /// and says so in what `read` finds in other files of the group.
    pub(crate) fn denied(&self, read: impl Fn(&str) -> Option<String>) -> Option<String> {
        let lists = [
            ("CPUs", &self.cpus, "cpuset.cpus.effective"),
            ("memory nodes", &self.mems, "cpuset.mems.effective"),
        ];
        for (what, list, file) in lists {
            let (Some(list), Some(given)) = (list, read(file)) else { continue };
            let (wanted, given) = (parse_list(list)?, given.trim());
            if parse_list(given).is_some_and(|given| !given.is_subset(&wanted)) {
                return Some(format!(
                    "the group above has none of the {what} {list}, and the kernel gives {given}; \
                     choose from these"
                ));
            }
        }
        let partition = self.partition.and_then(|_| read("cpuset.cpus.partition"))?;
        partition.contains("invalid").then(|| {
            format!(
                "the kernel calls the partition {:?}; the group above has to be the root of a \
                 partition with CPUs to spare, as cgroup_parent(CgroupParent::Path(\"/\".into())) is",
                partition.trim()
            )
        })
    }
}

/// How many numbers are in such a list.
pub(crate) fn count(list: &str) -> Option<u32> {
    parse_list(list).and_then(|cpus| u32::try_from(cpus.len()).ok())
}

/// The numbers of a list such as `0-3,8`, as the kernel reads and writes it; no number is above
/// 65535.
pub(crate) fn parse_list(list: &str) -> Option<BTreeSet<u16>> {
    let mut numbers = BTreeSet::new();
    let number = |text: &str| -> Option<u16> {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        if digits { text.parse().ok() } else { None }
    };
    let list = list.trim();
    for part in list.split(',').filter(|_| !list.is_empty()) {
        match part.split_once('-') {
            None => drop(numbers.insert(number(part)?)),
            Some((first, last)) => {
                let (first, last) = (number(first)?, number(last)?);
                if first > last {
                    return None;
                }
                numbers.extend(first..=last);
            }
        }
    }
    Some(numbers)
}

#[cfg(test)]
mod tests {
    use super::{Cpuset, Partition};

    #[test]
    fn what_v2_takes_and_does_not_give_is_found() {
        let group = |cpus: &'static str, partition: &'static str| {
            move |file: &str| match file {
                "cpuset.cpus.effective" => Some(format!("{cpus}\n")),
                "cpuset.mems.effective" => Some("0\n".to_owned()),
                "cpuset.cpus.partition" => Some(format!("{partition}\n")),
                _ => None,
            }
        };
        let cpus = |list| Cpuset::new().cpus(list).mems("0");
        assert_eq!(cpus("1").denied(group("1", "member")), None);
        assert_eq!(cpus("0-7").denied(group("1,3", "member")), None, "fewer are within the limit");
        let text = cpus("1").denied(group("0,2-3", "member")).unwrap();
        assert!(text.contains("none of the CPUs 1") && text.contains("gives 0,2-3"), "{text}");
        assert!(Cpuset::new().mems("1").denied(group("0", "member")).is_some());
        assert_eq!(Cpuset::new().denied(group("0", "member")), None);
        let part = cpus("1").partition(Partition::Root);
        assert_eq!(part.denied(group("1", "root")), None);
        let text =
            part.denied(group("1", "root invalid (Parent is not a partition root)")).unwrap();
        assert!(text.contains("Parent is not a partition root"), "{text}");
        assert_eq!(cpus("1").denied(group("1", "root invalid")), None, "not asked for");
        assert_eq!(part.denied(|_| None), None);
    }
}
