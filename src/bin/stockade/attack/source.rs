//! Where the sandboxes of an attempt come from.

use std::path::Path;
use std::sync::Arc;

use stockade::{Child, Command, Pool, Prepared, Result, Sandbox, Session, Stdio};

use crate::options::SpawnWay;

/// What starts programs in one of the ways.
#[derive(Debug)]
pub(crate) enum Source {
    Spawn(Sandbox),
    Prepared(Prepared),
    Session(Prepared, Session),
    Pool(Arc<Pool>),
    /// The program that the sandbox is made for does nothing, and ends with the handle.
    Enter(Sandbox, Box<Child>),
}

impl Source {
    /// The sandbox has the program that attacks at that path.
    pub(crate) fn new(way: SpawnWay, sandbox: &Sandbox, program: &Path) -> Result<Self> {
        Ok(match way {
            SpawnWay::Spawn => Source::Spawn(sandbox.clone()),
            SpawnWay::Prepared => Source::Prepared(sandbox.prepare()?),
            SpawnWay::Session => {
                let prepared = sandbox.prepare()?;
                let session = prepared.session()?;
                Source::Session(prepared, session)
            }
            SpawnWay::Pool => Source::Pool(Arc::new(sandbox.prepare()?.pool(1)?)),
            SpawnWay::Enter => Self::entering(sandbox, program)?,
        })
    }

    fn entering(sandbox: &Sandbox, program: &Path) -> Result<Self> {
        let resting = sandbox.command(program).arg("rest").stdin(Stdio::piped());
        let resting = resting.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        // Whether it can be entered at all.
        drop(resting.command(program)?);
        Ok(Source::Enter(sandbox.clone(), Box::new(resting)))
    }

    /// One whose programs are not in the same sandbox: of a session, another session.
    pub(crate) fn another(&self, program: &Path) -> Result<Self> {
        Ok(match self {
            Source::Spawn(sandbox) => Source::Spawn(sandbox.clone()),
            Source::Prepared(prepared) => Source::Prepared(prepared.clone()),
            Source::Session(prepared, _) => Source::Session(prepared.clone(), prepared.session()?),
            Source::Pool(pool) => Source::Pool(Arc::clone(pool)),
            Source::Enter(sandbox, _) => Self::entering(sandbox, program)?,
        })
    }

    pub(crate) fn command(&self, program: &Path) -> Result<Command> {
        Ok(match self {
            Source::Spawn(sandbox) => sandbox.command(program),
            Source::Prepared(prepared) => prepared.command(program),
            Source::Session(_, session) => session.command(program),
            Source::Pool(pool) => pool.command(program),
            Source::Enter(_, resting) => resting.command(program)?,
        })
    }

    /// Whether the kernel has killed somebody there, who needed more memory than there was.
    pub(crate) fn has_killed_for_memory(&mut self) -> bool {
        let stats = match self {
            Source::Session(_, session) => session.stats(),
            Source::Enter(_, resting) => resting.stats(),
            Source::Spawn(_) | Source::Prepared(_) | Source::Pool(_) => return false,
        };
        stats.is_ok_and(|stats| stats.memory.oom_kills > Some(0))
    }

    /// Whether others are started in the same sandbox, which outlives each.
    pub(crate) fn has_others(&self) -> bool {
        matches!(self, Source::Session(..) | Source::Enter(..))
    }
}
