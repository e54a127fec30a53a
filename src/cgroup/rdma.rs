//! Handles and objects of RDMA devices;
//! [rdma.rst](https://docs.kernel.org/admin-guide/cgroup-v1/rdma.html).

use std::collections::BTreeMap;

use super::{CgroupVersion, Write, Writes, or_max};
use crate::rlimit::Max;

/// How many handles and objects of RDMA devices a sandbox may hold (Linux 4.11;
/// [rdma.rst](https://docs.kernel.org/admin-guide/cgroup-v1/rdma.html)).
///
/// # Examples
///
/// ```
/// use stockade::{Limits, Max, Rdma, Sandbox};
/// let rdma = Rdma::new().max("mlx5_0", 2, Max::Unlimited);
/// let sandbox = Sandbox::new().limits(Limits::new().rdma(rdma));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[must_use = "it limits nothing until it is given to a sandbox"]
pub struct Rdma {
    maxima: BTreeMap<String, (Max, Max)>,
}

impl Rdma {
    /// No limit.
    ///
    /// # Examples
    ///
    /// ```
    /// let rdma = stockade::Rdma::new();
    /// ```
    pub fn new() -> Self {
        Rdma::default()
    }

    /// The most handles and objects of one device.
    ///
    /// # Examples
    ///
    /// ```
    /// let rdma = stockade::Rdma::new().max("mlx5_0", 2, 2000);
    /// ```
    #[doc(alias = "rdma.max")]
    pub fn max(
        mut self,
        device: impl Into<String>,
        handles: impl Into<Max>,
        objects: impl Into<Max>,
    ) -> Self {
        self.maxima.insert(device.into(), (handles.into(), objects.into()));
        self
    }

    pub(crate) fn problems(&self, problems: &mut Vec<String>) {
        super::limits::check_names("RDMA device", self.maxima.keys(), problems);
    }

    #[allow(clippy::unnecessary_wraps, reason = "as for every controller")]
    pub(crate) fn writes(&self, _: CgroupVersion) -> Writes {
        let line = |(device, (handles, objects)): (&String, &(Max, Max))| {
            let (handles, objects) = (or_max(*handles), or_max(*objects));
            format!("{device} hca_handle={handles} hca_object={objects}")
        };
        Ok(self.maxima.iter().map(line).map(|line| Write::new("rdma.max", line)).collect())
    }
}
