//! The ways to start a program, and how long each takes.

use std::ffi::OsString;
use std::process::Stdio as Plain;
use std::time::{Duration, Instant};

use stockade::{Command, Outcome, Pool, Prepared, Sandbox, Session, Stdio};

use super::stages;
use crate::failure::Failure;
use crate::{logger, options, sandbox};

/// How many sandboxes wait: one that is used, and one that is made meanwhile.
const PARKED: usize = 2;
/// How long a pool may take to be filled again.
const REFILL: Duration = Duration::from_secs(60);

/// How a program is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Plain,
    Cold,
    Prepared,
    Session,
    Pooled,
}

impl Way {
    pub(super) const ALL: [Way; 5] =
        [Way::Plain, Way::Cold, Way::Prepared, Way::Session, Way::Pooled];

    pub(super) fn name(self) -> &'static str {
        match self {
            Way::Plain => "plain",
            Way::Cold => "cold",
            Way::Prepared => "prepared",
            Way::Session => "session",
            Way::Pooled => "pooled",
        }
    }

    pub(super) fn meaning(self) -> &'static str {
        match self {
            Way::Plain => "posix_spawn, no sandbox: the baseline",
            Way::Cold => "Sandbox::command",
            Way::Prepared => "Prepared::command",
            Way::Session => "Session::command, in a sandbox that stands",
            Way::Pooled => "Pool::command, while the pool makes its next one",
        }
    }
}

/// What was measured of one way, or why it was not.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) way: Way,
    pub(super) missing: Option<String>,
    /// From the call until the program was executed.
    pub(super) started: Vec<Duration>,
    /// From the call until everything of it was gone.
    pub(super) ended: Vec<Duration>,
    /// By stage, of rounds of their own: with the log on all is slower.
    pub(super) stages: Vec<Vec<Option<Duration>>>,
}

/// What is started, in all ways.
#[derive(Debug)]
pub(super) struct Bench<'a> {
    program: &'a options::Program,
    name: &'a OsString,
    args: &'a [OsString],
    sandbox: Sandbox,
    prepared: Prepared,
    session: Result<Session, String>,
    pool: Result<Pool, String>,
}

impl<'a> Bench<'a> {
    pub(super) fn new(
        sandbox: Sandbox,
        program: &'a options::Program,
        (name, args): (&'a OsString, &'a [OsString]),
    ) -> Result<Self, Failure> {
        let prepared = sandbox.prepare()?;
        let session = prepared.session().map_err(|error| error.to_string());
        let pool = prepared.pool(PARKED).map_err(|error| error.to_string());
        Ok(Bench { program, name, args, sandbox, prepared, session, pool })
    }

    /// Takes turns, so that what else the machine does falls on all.
    pub(super) fn run(&self, rounds: u32) -> Result<Vec<Measured>, Failure> {
        let mut all = Vec::new();
        for way in Way::ALL {
            // The first one finds caches empty, and tells whether it can be done.
            all.push(Measured::new(way, self.try_out(way)?));
        }
        for _ in 0..rounds {
            for one in all.iter_mut().filter(|one| one.missing.is_none()) {
                let (started, ended, _) = self.once(one.way)?;
                one.started.push(started);
                one.ended.push(ended);
            }
        }
        for _ in 0..rounds {
            let inside = |one: &&mut Measured| one.missing.is_none() && one.way != Way::Plain;
            for one in all.iter_mut().filter(inside) {
                let (times, messages) = logger::keep(|| self.once(one.way));
                one.stages.push(stages::of(&messages, times?.0));
            }
        }
        Ok(all)
    }

    /// Why this way is not for this program and this sandbox, if it is not.
    fn try_out(&self, way: Way) -> Result<Option<String>, Failure> {
        let unfit = match way {
            Way::Session => self.session.as_ref().err(),
            Way::Pooled => self.pool.as_ref().err(),
            _ => None,
        };
        if unfit.is_some() {
            return Ok(unfit.cloned());
        }
        match (self.once(way), way) {
            (Ok((_, _, outcome)), _) => {
                if let Some(outcome) = outcome.filter(|outcome| !outcome.is_success()) {
                    log::warn!("{}: the program {outcome}", way.name());
                }
                Ok(None)
            }
            // The others need more than this one, or the program on the host.
            (Err(failure), Way::Cold) => Err(failure),
            (Err(failure), _) => Ok(Some(failure.to_string())),
        }
    }

    fn once(&self, way: Way) -> Result<(Duration, Duration, Option<Outcome>), Failure> {
        let times = match way {
            Way::Plain => self.plain(),
            way => self.inside(way),
        };
        if let (Way::Pooled, Ok(pool)) = (way, &self.pool) {
            // The next one is made meanwhile, and is not to fall on others.
            if !pool.wait_until_filled(REFILL) {
                let error = std::io::Error::from(std::io::ErrorKind::TimedOut);
                return Err(Failure::Io("fill the pool", error));
            }
        }
        times
    }

    fn plain(&self) -> Result<(Duration, Duration, Option<Outcome>), Failure> {
        let failed = |error| Failure::Io("posix_spawn", error);
        let began = Instant::now();
        let mut command = std::process::Command::new(self.name);
        command.args(self.args).stdin(Plain::null()).stdout(Plain::null()).stderr(Plain::null());
        let mut child = command.spawn().map_err(failed)?;
        let started = began.elapsed();
        child.wait().map_err(failed)?;
        Ok((started, began.elapsed(), None))
    }

    fn inside(&self, way: Way) -> Result<(Duration, Duration, Option<Outcome>), Failure> {
        let began = Instant::now();
        let command = match (way, &self.session, &self.pool) {
            (Way::Session, Ok(session), _) => session.command(self.name),
            (Way::Pooled, _, Ok(pool)) => pool.command(self.name),
            (Way::Prepared, ..) => self.prepared.command(self.name),
            _ => self.sandbox.command(self.name),
        };
        let mut child = self.given(command).args(self.args).spawn()?;
        let started = began.elapsed();
        let status = child.wait()?;
        Ok((started, began.elapsed(), Some(status.outcome)))
    }

    /// As the options say, and without streams.
    fn given(&self, command: Command) -> Command {
        let command = sandbox::command(self.program, command, None);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null())
    }
}

impl Measured {
    fn new(way: Way, missing: Option<String>) -> Self {
        let (started, ended, stages) = (Vec::new(), Vec::new(), Vec::new());
        Measured { way, missing, started, ended, stages }
    }

    /// The median of each stage; `None` for what it does not have.
    pub(super) fn by_stage(&self) -> Vec<Option<Duration>> {
        let of_stage = |at: usize| {
            let times: Vec<_> =
                self.stages.iter().filter_map(|round| round.get(at).copied().flatten()).collect();
            Quartiles::of(&times).map(|quartiles| quartiles.median)
        };
        (0..stages::names().count()).map(of_stage).collect()
    }
}

/// The middle of what was measured, and of its halves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Quartiles {
    pub(super) first: Duration,
    pub(super) median: Duration,
    pub(super) third: Duration,
}

impl Quartiles {
    /// `None` of nothing.
    pub(super) fn of(times: &[Duration]) -> Option<Self> {
        let mut times = times.to_vec();
        times.sort_unstable();
        let last = times.len().checked_sub(1)?;
        let at = |quarter: usize| times.get(last * quarter / 4).copied();
        Some(Quartiles { first: at(1)?, median: at(2)?, third: at(3)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_are_of_what_is_sorted() {
        let times = [5, 1, 4, 2, 3].map(Duration::from_micros);
        let [first, median, third] = [2, 3, 4].map(Duration::from_micros);
        assert_eq!(Quartiles::of(&times), Some(Quartiles { first, median, third }));
        assert_eq!(Quartiles::of(&times[..1]).map(|it| it.median), Some(times[0]));
        assert_eq!(Quartiles::of(&[]), None);
    }
}
