//! CPU time, by quota and weight;
//! [sched-bwc.rst](https://docs.kernel.org/scheduler/sched-bwc.html),
//! [cgroup-v2.rst](https://docs.kernel.org/admin-guide/cgroup-v2.html#cpu).

use std::time::Duration;

use super::{CgroupVersion, Unsupported, Write, Writes, micros};

/// How much CPU time a sandbox may use
/// ([sched-bwc.rst](https://docs.kernel.org/scheduler/sched-bwc.html),
/// [cgroup-v2.rst](https://docs.kernel.org/admin-guide/cgroup-v2.html#cpu)).
///
/// # Examples
///
/// ```
/// use stockade::{Cpu, Limits, Sandbox};
/// let sandbox = Sandbox::new().limits(Limits::new().cpu(Cpu::new().limit(1.5).weight(200)));
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
#[must_use = "it limits nothing until it is given to a sandbox"]
pub struct Cpu {
    limit: Option<f64>,
    period: Option<Duration>,
    burst: Option<Duration>,
    weight: Option<Weight>,
    idle: Option<bool>,
    realtime: Option<(Duration, Duration)>,
}

/// A share of what competitors leave; in the unit in which it was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Weight {
    /// 1 to 10000, 100 by default.
    V2(u64),
    /// 2 to 262144, 1024 by default.
    Shares(u64),
}

/// The shares and the weight that every group has.
const SHARES: u64 = 1024;
const WEIGHT: u64 = 100;
/// The kernel's bounds of a period, and the least quota.
const PERIODS: [Duration; 2] = [Duration::from_millis(1), Duration::from_secs(1)];
const LEAST: u64 = 1000;
const PERIOD: Duration = Duration::from_millis(100);

impl Weight {
    /// The kernel's own conversion, by which the defaults are the same.
    fn shares(self) -> u64 {
        match self {
            Weight::Shares(shares) => shares,
            Weight::V2(weight) => (weight * SHARES / WEIGHT).max(2),
        }
    }

    fn weight(self) -> u64 {
        match self {
            Weight::V2(weight) => weight,
            Weight::Shares(shares) => ((shares * WEIGHT + SHARES / 2) / SHARES).clamp(1, 10_000),
        }
    }
}

impl Cpu {
    /// How many processors' time the limit is, rounded up.
    pub(crate) fn whole(&self) -> Option<u32> {
        let limit = self.limit?.ceil().clamp(1.0, 65536.0);
        // The same number, by a comparison: there is no conversion that could not be wrong.
        (1..=65536).find(|&count| f64::from(count) >= limit)
    }

    /// No limit.
    ///
    /// # Examples
    ///
    /// ```
    /// let cpu = stockade::Cpu::new();
    /// ```
    pub fn new() -> Self {
        Cpu::default()
    }

    /// How many CPUs' time the sandbox may use, 0.001 to 1,000,000; 1.5 is one and a half.
    /// Infinity takes the limit off.
    ///
    /// # Examples
    ///
    /// ```
    /// let cpu = stockade::Cpu::new().limit(0.25);
    /// ```
    #[doc(alias = "cpu.max")]
    #[doc(alias = "cpu.cfs_quota_us")]
    pub fn limit(self, cpus: f64) -> Self {
        Cpu { limit: Some(cpus), ..self }
    }

    /// In which time the quota is counted, 1 ms to 1 s. By default 100 ms, or 1 s for less than
    /// 0.01 CPUs. A sandbox that has used its quota sleeps until the period is over.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// let cpu = stockade::Cpu::new().limit(0.5).period(Duration::from_millis(10));
    /// ```
    #[doc(alias = "cpu.cfs_period_us")]
    pub fn period(self, period: Duration) -> Self {
        Cpu { period: Some(period), ..self }
    }

    /// How much of the quota of earlier periods may be used in addition, at most the quota (Linux
    /// 5.14).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// let cpu = stockade::Cpu::new().limit(0.5).burst(Duration::from_millis(20));
    /// ```
    #[doc(alias = "cpu.max.burst")]
    #[doc(alias = "cpu.cfs_burst_us")]
    pub fn burst(self, burst: Duration) -> Self {
        Cpu { burst: Some(burst), ..self }
    }

    /// The share of what competitors of the same group want as well, 1 to 10,000; 100 is what each
    /// has by default. On v1 it is written as shares, of which 1024 are the default.
    ///
    /// # Examples
    ///
    /// ```
    /// let cpu = stockade::Cpu::new().weight(50);
    /// ```
    #[doc(alias = "cpu.weight")]
    pub fn weight(self, weight: u64) -> Self {
        Cpu { weight: Some(Weight::V2(weight)), ..self }
    }

    /// The same as [`weight`](Self::weight) in v1's unit, 2 to 262,144; 1024 is what each has by
    /// default.
    ///
    /// # Examples
    ///
    /// ```
    /// let cpu = stockade::Cpu::new().shares(512);
    /// ```
    #[doc(alias = "cpu.shares")]
    pub fn shares(self, shares: u64) -> Self {
        Cpu { weight: Some(Weight::Shares(shares)), ..self }
    }

    /// Whether the sandbox runs only when nobody else wants to (Linux 5.15).
    ///
    /// # Examples
    ///
    /// ```
    /// let cpu = stockade::Cpu::new().idle(true);
    /// ```
    #[doc(alias = "cpu.idle")]
    pub fn idle(self, idle: bool) -> Self {
        Cpu { idle: Some(idle), ..self }
    }

    /// How much of each period real-time processes may run
    /// ([sched(7)](https://man7.org/linux/man-pages/man7/sched.7.html)). v1 only, if the kernel was
    /// built with `CONFIG_RT_GROUP_SCHED`.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// let cpu = stockade::Cpu::new().realtime(Duration::from_millis(10), Duration::from_secs(1));
    /// ```
    #[doc(alias = "cpu.rt_runtime_us")]
    pub fn realtime(self, runtime: Duration, period: Duration) -> Self {
        Cpu { realtime: Some((runtime, period)), ..self }
    }

    /// What a limit is counted in.
    fn period_of(&self, cpus: f64) -> Duration {
        let short = if cpus < 0.01 { PERIODS[1] } else { PERIOD };
        self.period.unwrap_or(short)
    }

    /// The quota of each period in microseconds, `None` without a limit.
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "checked before; a fraction of a microsecond does not count"
    )]
    fn quota(&self) -> Option<(Option<u64>, u64)> {
        let cpus = self.limit?;
        let period = micros(self.period_of(cpus));
        let quota = (cpus * period as f64).round() as u64;
        Some((cpus.is_finite().then_some(quota), period))
    }

    pub(crate) fn problems(&self, problems: &mut Vec<String>) {
        if self.limit.is_some_and(|cpus| cpus.is_nan() || cpus <= 0.0) {
            problems.push("a CPU limit is more than 0".to_owned());
        } else if self.limit.is_some_and(|cpus| cpus.is_finite() && cpus > 1e6) {
            problems.push("a CPU limit above 1000000 is none".to_owned());
        } else if let Some((Some(quota), period)) = self.quota() {
            if quota < LEAST {
                problems.push(format!(
                    "a CPU limit of {quota} µs in each {period} µs is below the kernel's {LEAST} µs"
                ));
            }
            if self.burst.is_some_and(|burst| micros(burst) > quota) {
                problems.push("a CPU burst is above the quota of a period".to_owned());
            }
        }
        if self.limit.is_none() && (self.period.is_some() || self.burst.is_some()) {
            problems.push("a CPU period or burst needs a limit".to_owned());
        }
        if self.period.is_some_and(|period| period < PERIODS[0] || period > PERIODS[1]) {
            problems.push("a CPU period is not between 1 ms and 1 s".to_owned());
        }
        let weight_fits = match self.weight {
            None => true,
            Some(Weight::V2(weight)) => (1..=10_000).contains(&weight),
            Some(Weight::Shares(shares)) => (2..=262_144).contains(&shares),
        };
        if !weight_fits {
            problems.push("a CPU weight is not between 1 and 10000, or shares 2 and 262144".into());
        }
        if self.idle == Some(true) && self.weight.is_some() {
            problems.push("an idle sandbox has no CPU weight".to_owned());
        }
        if self.realtime.is_some_and(|(runtime, period)| runtime > period || period.is_zero()) {
            problems.push("a real-time runtime is above its period".to_owned());
        }
    }

    pub(crate) fn writes(&self, version: CgroupVersion) -> Writes {
        match version {
            CgroupVersion::V1 => Ok(self.v1()),
            CgroupVersion::V2 if self.realtime.is_some() => {
                let instead = "";
                Err(Unsupported { what: "a limit of real-time processes", version, instead })
            }
            CgroupVersion::V2 => Ok(self.v2()),
        }
    }

    fn v1(&self) -> Vec<Write> {
        let mut writes = Vec::new();
        if let Some((quota, period)) = self.quota() {
            let is_default = u128::from(period) == PERIOD.as_micros();
            writes.push(Write::new("cpu.cfs_period_us", period).default(is_default));
            let quota = quota.map_or("-1".to_owned(), |quota| quota.to_string());
            writes.push(Write::new("cpu.cfs_quota_us", quota));
        }
        if let Some(burst) = self.burst {
            writes.push(Write::new("cpu.cfs_burst_us", micros(burst)));
        }
        if let Some(weight) = self.weight {
            writes.push(Write::new("cpu.shares", weight.shares()));
        }
        if let Some(idle) = self.idle {
            writes.push(Write::new("cpu.idle", u8::from(idle)));
        }
        if let Some((runtime, period)) = self.realtime {
            writes.push(Write::new("cpu.rt_period_us", micros(period)));
            writes.push(Write::new("cpu.rt_runtime_us", micros(runtime)));
        }
        writes
    }

    fn v2(&self) -> Vec<Write> {
        let mut writes = Vec::new();
        if let Some((quota, period)) = self.quota() {
            let quota = quota.map_or("max".to_owned(), |quota| quota.to_string());
            writes.push(Write::new("cpu.max", format!("{quota} {period}")));
        }
        if let Some(burst) = self.burst {
            writes.push(Write::new("cpu.max.burst", micros(burst)));
        }
        if let Some(weight) = self.weight {
            writes.push(Write::new("cpu.weight", weight.weight()));
        }
        if let Some(idle) = self.idle {
            writes.push(Write::new("cpu.idle", u8::from(idle)));
        }
        writes
    }
}
