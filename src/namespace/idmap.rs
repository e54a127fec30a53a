//! Which ids of the host's stand behind those inside; [user_namespaces(7)](https://man7.org/linux/man-pages/man7/user_namespaces.7.html).

use std::fmt::Write;
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::{Uid, User, getegid, geteuid};

use crate::error::{Error, Result, Stage, quoted};
use crate::executable;
use crate::hint::Hint;

/// The kernel takes 340 lines (5 before Linux 4.15); three are kept for binds.
const LINES_MAX: usize = 337;
/// And less than a page in all.
const TEXT_MAX: usize = 4096 - 100;
pub(super) const SUBUID: &str = "/etc/subuid";
pub(super) const SUBGID: &str = "/etc/subgid";

/// Ids inside and the host's ids that stand for them, in ranges, for
/// [`Sandbox::id_map`](crate::Sandbox::id_map).
///
/// Ids that are in no range do not exist inside: files of theirs belong to 65534, and nothing becomes
/// one of them. Ranges may not overlap, neither inside nor on the host; of each kind there can be as
/// many as fit into a page of text, 337 at the most ([user_namespaces(7)](https://man7.org/linux/man-pages/man7/user_namespaces.7.html)).
///
/// # Examples
///
/// ```
/// use stockade::{IdMap, Sandbox};
/// # let caller = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self")?);
/// # let group = std::os::unix::fs::MetadataExt::gid(&std::fs::metadata("/proc/self")?);
/// let map = IdMap::new().uids(0, caller, 1).gids(0, group, 1);
/// let output = Sandbox::new().id_map(map).command("id").arg("-u").output()?;
/// assert_eq!(output.stdout, b"0\n");
/// // What contradicts itself is told before anything is done.
/// let overlap = IdMap::new().ids(0, 100_000, 1000).ids(999, 200_000, 1);
/// assert!(Sandbox::new().id_map(overlap).plan().is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[must_use]
pub struct IdMap {
    maps: Maps,
    subordinate: bool,
}

/// The lines of both maps.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Maps {
    pub(crate) uids: Vec<Range>,
    pub(crate) gids: Vec<Range>,
}

/// `count` ids from `inside` on stand for as many of the host's from `host` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) inside: u32,
    pub(crate) host: u32,
    pub(crate) count: u32,
}

impl IdMap {
    /// No ids yet.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{IdMap, Sandbox};
    /// assert!(Sandbox::new().id_map(IdMap::new()).plan().is_err());
    /// ```
    pub fn new() -> Self {
        IdMap::default()
    }

    /// The caller's own ids as 0, and from 1 on the first range that /etc/subuid and /etc/subgid give to
    /// the caller, as container engines do ([subuid(5)](https://man7.org/linux/man-pages/man5/subuid.5.html)).
    /// Files of the caller's in binds belong to 0.
    ///
    /// Both are read when the sandbox is planned; without an entry in them that is an error.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{IdMap, Sandbox};
    /// match Sandbox::new().id_map(IdMap::subordinate()).plan() {
    ///     Ok(plan) => assert!(plan.to_string().contains("map uid 1 ")),
    ///     Err(error) => assert!(error.to_string().contains("/etc/sub")),
    /// }
    /// ```
    pub fn subordinate() -> Self {
        IdMap { subordinate: true, ..IdMap::default() }
    }

    /// `count` users from `inside` on stand for the host's from `host` on.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{IdMap, Sandbox};
    /// let map = IdMap::new().uids(0, 100_000, 65_536).gids(0, 100_000, 65_536);
    /// let plan = Sandbox::new().id_map(map).plan()?;
    /// assert!(plan.to_string().contains("map uid 0 to 65535"));
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn uids(mut self, inside: u32, host: u32, count: u32) -> Self {
        self.maps.uids.push(Range { inside, host, count });
        self
    }

    /// `count` groups from `inside` on stand for the host's from `host` on.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{IdMap, Sandbox};
    /// // There have to be users and groups.
    /// assert!(Sandbox::new().id_map(IdMap::new().gids(0, 100_000, 1)).plan().is_err());
    /// ```
    pub fn gids(mut self, inside: u32, host: u32, count: u32) -> Self {
        self.maps.gids.push(Range { inside, host, count });
        self
    }

    /// The same for users and groups.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::IdMap;
    /// assert_eq!(IdMap::new().ids(0, 7, 1), IdMap::new().uids(0, 7, 1).gids(0, 7, 1));
    /// ```
    pub fn ids(self, inside: u32, host: u32, count: u32) -> Self {
        self.uids(inside, host, count).gids(inside, host, count)
    }

    pub(super) fn problems(&self, problems: &mut Vec<String>) {
        for (what, ranges) in [("uid", &self.maps.uids), ("gid", &self.maps.gids)] {
            if ranges.is_empty() && !self.subordinate {
                problems.push(format!("the id map has no {what}"));
            }
            if ranges.len() > LINES_MAX {
                problems.push(format!("the id map has more than {LINES_MAX} ranges of {what}s"));
            } else if lines(ranges).len().max(lines(&for_binds(ranges, 0, 0)).len()) > TEXT_MAX {
                problems.push(format!("the {what} map is longer than the page the kernel reads"));
            }
            for (index, range) in ranges.iter().enumerate() {
                range.problems(what, problems);
                if ranges.iter().take(index).any(|other| range.overlaps(*other)) {
                    problems.push(format!("the {what} range {range} overlaps another one"));
                }
            }
        }
    }

    /// Both maps, with what the host's files say.
    pub(super) fn resolve(&self) -> Result<Maps> {
        let mut maps = self.maps.clone();
        if self.subordinate {
            let own = |host| Range { inside: 0, host, count: 1 };
            let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
            maps.uids.extend([own(uid), first_of(SUBUID)?]);
            maps.gids.extend([own(gid), first_of(SUBGID)?]);
        }
        Ok(maps)
    }

    /// What is known of the maps without looking at the host.
    pub(super) fn given(&self) -> Option<&Maps> {
        (!self.subordinate).then_some(&self.maps)
    }
}

impl Range {
    fn problems(self, what: &str, problems: &mut Vec<String>) {
        let end = |first: u32| u64::from(first) + u64::from(self.count);
        if self.count == 0 {
            problems.push(format!("the {what} range from {} on is empty", self.inside));
        } else if end(self.inside).max(end(self.host)) > u64::from(u32::MAX) {
            problems.push(format!("the {what} range {self} ends above {}", u32::MAX - 1));
        }
    }

    fn overlaps(self, other: Range) -> bool {
        let meet = |one: u32, two: u32| {
            u64::from(one) < u64::from(two) + u64::from(other.count)
                && u64::from(two) < u64::from(one) + u64::from(self.count)
        };
        meet(self.inside, other.inside) || meet(self.host, other.host)
    }

    /// The host's id behind one inside.
    fn host_of(self, inside: u32) -> Option<u32> {
        let offset = inside.checked_sub(self.inside).filter(|&offset| offset < self.count)?;
        self.host.checked_add(offset)
    }

    /// The parts that remain without one of the host's ids.
    fn without(self, host: u32) -> [Option<Range>; 2] {
        let Some(before) = host.checked_sub(self.host).filter(|&at| at < self.count) else {
            return [Some(self), None];
        };
        let after = self.count - before - 1;
        let head = Range { count: before, ..self };
        let skip = before.saturating_add(1);
        let tail = Range {
            inside: self.inside.saturating_add(skip),
            host: self.host.saturating_add(skip),
            count: after,
        };
        [Some(head), Some(tail)].map(|part| part.filter(|part| part.count > 0))
    }
}

impl std::fmt::Display for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.inside, self.host, self.count)
    }
}

impl Maps {
    /// One id each.
    pub(crate) fn of(inside: (u32, u32), host: (u32, u32)) -> Self {
        let one = |inside, host| vec![Range { inside, host, count: 1 }];
        Maps { uids: one(inside.0, host.0), gids: one(inside.1, host.1) }
    }

    pub(crate) fn host_of(&self, uid: u32, gid: u32) -> (Option<u32>, Option<u32>) {
        (host_of(&self.uids, uid), host_of(&self.gids, gid))
    }

    /// The ids inside that stand for these of the host's.
    pub(super) fn inside_of(&self, uid: u32, gid: u32) -> (Option<u32>, Option<u32>) {
        let inside = |ranges: &[Range], host| {
            let other = |range: &Range| Range { inside: range.host, host: range.inside, ..*range };
            ranges.iter().find_map(|range| other(range).host_of(host))
        };
        (inside(&self.uids, uid), inside(&self.gids, gid))
    }

    /// The first ids that there are inside.
    pub(super) fn first(&self) -> (u32, u32) {
        let first = |ranges: &[Range]| ranges.first().map_or(0, |range| range.inside);
        (first(&self.uids), first(&self.gids))
    }

    /// Whether there is more than one user or group.
    pub(crate) fn are_many(&self) -> bool {
        let many = |ranges: &[Range]| ranges.len() > 1 || ranges.iter().any(|one| one.count > 1);
        many(&self.uids) || many(&self.gids)
    }

    /// What binds are shown through: on disk the `caller`'s ids are those that the program has on the
    /// `host`; other ids of the map are the same on disk, and those of nobody inside belong to nobody.
    pub(crate) fn for_binds(&self, caller: (u32, u32), host: (u32, u32)) -> Maps {
        Maps {
            uids: for_binds(&self.uids, caller.0, host.0),
            gids: for_binds(&self.gids, caller.1, host.1),
        }
    }
}

fn host_of(ranges: &[Range], inside: u32) -> Option<u32> {
    ranges.iter().find_map(|range| range.host_of(inside))
}

fn for_binds(ranges: &[Range], caller: u32, host: u32) -> Vec<Range> {
    let mut on_disk = vec![Range { inside: caller, host, count: 1 }];
    for range in ranges {
        let same = Range { inside: range.host, ..*range };
        let rest = same.without(host).into_iter().flatten();
        on_disk.extend(rest.flat_map(|part| part.without(caller)).flatten());
    }
    on_disk
}

/// The lines as the kernel reads them.
pub(super) fn lines(ranges: &[Range]) -> String {
    let mut text = String::new();
    for Range { inside, host, count } in ranges {
        // Writing to a string does not fail.
        let _always = writeln!(text, "{inside} {host} {count}");
    }
    text
}

/// The first of them, for people.
pub(super) fn shown(lines: &str) -> String {
    let mut some: Vec<_> = lines.lines().take(4).collect();
    if some.len() > 3 {
        some[3] = "…";
    }
    some.join(", ")
}

/// The caller's ranges in a file of subordinate ids.
pub(super) fn subordinate_to_the_caller(file: &str) -> std::io::Result<Vec<(u32, u32)>> {
    let text = std::fs::read(file)?;
    let text = String::from_utf8_lossy(&text);
    let uid = geteuid();
    let name = User::from_uid(uid).ok().flatten().map(|user| user.name);
    let lines = text.lines().filter_map(|line| range_of(line, uid, name.as_deref()));
    Ok(lines.collect())
}

/// `name:first:count`, if it is about this user.
fn range_of(line: &str, uid: Uid, name: Option<&str>) -> Option<(u32, u32)> {
    let mut fields = line.trim().splitn(3, ':');
    let owner = fields.next()?;
    let own = Some(owner) == name || owner.parse() == Ok(uid.as_raw());
    let (first, count) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    own.then_some((first, count))
}

/// The first of these, from 1 on.
fn first_of(file: &str) -> Result<Range> {
    let object = || quoted(Path::new(file));
    let found = subordinate_to_the_caller(file).or_else(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Ok(Vec::new()),
        _ => {
            let errno = executable::errno_of(&error);
            Err(Error::new(Stage::Prepare, "read", object(), errno))
        }
    })?;
    let first = found.first().filter(|(_, count)| *count > 0);
    let &(host, count) = first.ok_or_else(|| {
        let error = Error::new(Stage::Prepare, "find the caller in", object(), Errno::ENOENT);
        error.with_hint(Some(Hint::NoSubordinateIds))
    })?;
    Ok(Range { inside: 1, host, count: count.min(u32::MAX - 1) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(inside: u32, host: u32, count: u32) -> Range {
        Range { inside, host, count }
    }

    #[test]
    fn ranges_overlap_on_either_side() {
        assert!(range(0, 100, 10).overlaps(range(9, 500, 1)));
        assert!(range(0, 100, 10).overlaps(range(50, 109, 1)));
        assert!(!range(0, 100, 10).overlaps(range(10, 110, 10)));
        let high = u32::MAX - 1;
        assert!(range(high, 0, 1).overlaps(range(high, 7, 1)));
    }

    #[test]
    fn a_hole_in_a_range() {
        let all = range(0, 100, 3);
        let parts = |host| all.without(host).into_iter().flatten().collect::<Vec<_>>();
        assert_eq!(parts(101), [range(0, 100, 1), range(2, 102, 1)]);
        assert_eq!(parts(100), [range(1, 101, 2)]);
        assert_eq!(parts(102), [range(0, 100, 2)]);
        assert_eq!(parts(103), [all]);
        assert_eq!(range(5, 7, 1).without(7), [None, None]);
    }

    #[test]
    fn binds_keep_the_owners_on_disk() {
        let maps = [range(0, 100_000, 1000)];
        // The program is 1 inside.
        let shown = for_binds(&maps, 0, 100_001);
        let rest = [range(100_000, 100_000, 1), range(100_002, 100_002, 998)];
        assert_eq!(shown, [&[range(0, 100_001, 1)][..], &rest].concat());
        // The caller is in the map itself.
        assert_eq!(for_binds(&[range(0, 0, 3)], 0, 1), [range(0, 1, 1), range(2, 2, 1)]);
        assert_eq!(for_binds(&[range(7, 7, 1)], 7, 7), [range(7, 7, 1)]);
    }

    #[test]
    fn lines_of_subordinate_ids() {
        let uid = Uid::from_raw(1000);
        assert_eq!(range_of("me:100000:65536", uid, Some("me")), Some((100_000, 65_536)));
        assert_eq!(range_of("1000:1:2", uid, None), Some((1, 2)));
        for other in ["you:1:2", "10000:1:2", "me:1", "me:x:2", "", "# me:1:2", "me:1:2:3"] {
            assert_eq!(range_of(other, uid, Some("me")), None, "{other}");
        }
    }
}
