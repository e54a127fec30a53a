//! Huge pages;
//! [hugetlb.rst](https://docs.kernel.org/admin-guide/cgroup-v1/hugetlb.html).

use std::collections::BTreeMap;

use super::{CgroupVersion, Write, Writes, or_max, or_minus_one};
use crate::rlimit::Max;

/// How many bytes of huge pages a sandbox may use, by size of a page
/// ([hugetlb.rst](https://docs.kernel.org/admin-guide/cgroup-v1/hugetlb.html)). One more is
/// `SIGBUS` at the access.
///
/// # Examples
///
/// ```
/// use stockade::{Hugetlb, Limits, Sandbox};
/// let none = Hugetlb::new().max(2 << 20, 0);
/// let sandbox = Sandbox::new().limits(Limits::new().hugetlb(none));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[must_use = "it limits nothing until it is given to a sandbox"]
pub struct Hugetlb {
    maxima: BTreeMap<u64, Max>,
    reserved: BTreeMap<u64, Max>,
}

impl Hugetlb {
    /// No limit.
    ///
    /// # Examples
    ///
    /// ```
    /// let hugetlb = stockade::Hugetlb::new();
    /// ```
    pub fn new() -> Self {
        Hugetlb::default()
    }

    /// The most bytes in use of pages of `page` bytes, which are a power of two from 64 KiB on.
    ///
    /// # Examples
    ///
    /// ```
    /// let hugetlb = stockade::Hugetlb::new().max(2 << 20, 64 << 20);
    /// ```
    #[doc(alias = "hugetlb.2MB.max")]
    #[doc(alias = "hugetlb.2MB.limit_in_bytes")]
    pub fn max(mut self, page: u64, bytes: impl Into<Max>) -> Self {
        self.maxima.insert(page, bytes.into());
        self
    }

    /// The most bytes that are reserved, by
    /// [mmap(2)](https://man7.org/linux/man-pages/man2/mmap.2.html) with `MAP_HUGETLB`: one more is
    /// `ENOMEM` from there instead of a signal later (Linux 5.7).
    ///
    /// # Examples
    ///
    /// ```
    /// let hugetlb = stockade::Hugetlb::new().max_reserved(2 << 20, 64 << 20);
    /// ```
    #[doc(alias = "hugetlb.2MB.rsvd.max")]
    pub fn max_reserved(mut self, page: u64, bytes: impl Into<Max>) -> Self {
        self.reserved.insert(page, bytes.into());
        self
    }

    pub(crate) fn problems(&self, problems: &mut Vec<String>) {
        for page in self.maxima.keys().chain(self.reserved.keys()) {
            if !page.is_power_of_two() || *page < 64 << 10 {
                problems.push(format!("{page} bytes are no size of huge pages"));
            }
        }
    }

    #[allow(clippy::unnecessary_wraps, reason = "as for every controller")]
    pub(crate) fn writes(&self, version: CgroupVersion) -> Writes {
        let mut writes = Vec::new();
        for (maxima, kind) in [(&self.maxima, ""), (&self.reserved, "rsvd.")] {
            for (page, max) in maxima {
                let size = size_name(*page);
                writes.push(match version {
                    CgroupVersion::V1 => {
                        let file = format!("hugetlb.{size}.{kind}limit_in_bytes");
                        Write::new(file, or_minus_one(*max))
                    }
                    CgroupVersion::V2 => {
                        Write::new(format!("hugetlb.{size}.{kind}max"), or_max(*max))
                    }
                });
            }
        }
        Ok(writes)
    }
}

/// A size as it is in the names of the files.
fn size_name(page: u64) -> String {
    match page {
        0x4000_0000.. => format!("{}GB", page >> 30),
        0x10_0000.. => format!("{}MB", page >> 20),
        _ => format!("{}KB", page >> 10),
    }
}
