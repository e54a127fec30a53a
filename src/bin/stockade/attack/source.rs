//! Where the sandboxes of an attempt come from.

use std::ffi::OsStr;
use std::sync::Arc;

use stockade::{Command, Pool, Prepared, Result, Sandbox, Session};

use crate::options::SpawnWay;

/// What starts programs in one of the ways.
#[derive(Debug)]
pub(crate) enum Source {
    Spawn(Sandbox),
    Prepared(Prepared),
    Session(Prepared, Session),
    Pool(Arc<Pool>),
}

impl Source {
    pub(crate) fn new(way: SpawnWay, sandbox: &Sandbox) -> Result<Self> {
        Ok(match way {
            SpawnWay::Spawn => Source::Spawn(sandbox.clone()),
            SpawnWay::Prepared => Source::Prepared(sandbox.prepare()?),
            SpawnWay::Session => {
                let prepared = sandbox.prepare()?;
                let session = prepared.session()?;
                Source::Session(prepared, session)
            }
            SpawnWay::Pool => Source::Pool(Arc::new(sandbox.prepare()?.pool(1)?)),
        })
    }

    /// One whose programs are not in the same sandbox: of a session, another session.
    pub(crate) fn another(&self) -> Result<Self> {
        Ok(match self {
            Source::Spawn(sandbox) => Source::Spawn(sandbox.clone()),
            Source::Prepared(prepared) => Source::Prepared(prepared.clone()),
            Source::Session(prepared, _) => Source::Session(prepared.clone(), prepared.session()?),
            Source::Pool(pool) => Source::Pool(Arc::clone(pool)),
        })
    }

    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        match self {
            Source::Spawn(sandbox) => sandbox.command(program),
            Source::Prepared(prepared) => prepared.command(program),
            Source::Session(_, session) => session.command(program),
            Source::Pool(pool) => pool.command(program),
        }
    }

    pub(crate) fn is_session(&self) -> bool {
        matches!(self, Source::Session(..))
    }
}
