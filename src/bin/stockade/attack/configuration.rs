//! The sandbox that is attacked.

use std::ffi::OsString;

use clap::{ArgMatches, CommandFactory, FromArgMatches};
use stockade::{Command, Namespaces, Sandbox};

use crate::failure::Failure;
use crate::options::{Action, Attack, Cli, Program, SpawnWay, Tier};
use crate::sandbox;

/// Whom a root caller's program is on the host, unless something else is asked for.
pub(crate) const NOBODY: (u32, u32) = (65534, 65534);

/// A sandbox, and how its program is started.
#[derive(Debug)]
pub(crate) struct Configuration {
    pub(crate) sandbox: Sandbox,
    options: Owned,
    /// Whether it has a file tree of its own.
    pub(crate) own_tree: bool,
    /// Whether it shows parts of the host's at their own paths only.
    pub(crate) view: bool,
    /// How its programs are started.
    pub(crate) way: SpawnWay,
}

/// What is kept of the options.
#[derive(Debug)]
struct Owned {
    program: Program,
    host_ids: (u32, u32),
    memory: u64,
    timed: bool,
}

/// The options of `stockade attack` from words.
pub(crate) fn parse(
    words: impl Iterator<Item = OsString>,
) -> Result<(Box<Attack>, ArgMatches), Failure> {
    let args = ["stockade", "attack"].map(OsString::from).into_iter().chain(words);
    let mut matches = Cli::command().try_get_matches_from(args)?;
    let cli = Cli::from_arg_matches(&matches)?;
    match (cli.action, matches.remove_subcommand()) {
        (Action::Attack(options), Some((_, matches))) => Ok((options, matches)),
        _ => Err(Failure::Usage("another command".to_owned())),
    }
}

impl Configuration {
    pub(crate) fn new(options: &Attack, matches: &ArgMatches) -> Result<Self, Failure> {
        let setup = &options.setup;
        let sandbox = sandbox::sandbox(setup, matches)?;
        let made = sandbox.plan()?.namespaces();
        let own_tree = made.contains(Namespaces::MOUNT);
        let view = setup.namespaces.tier != Tier::Full && made.is_empty();
        let user = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        let host_ids = match setup.identity.host_ids {
            Some(ids) => ids,
            None if setup.identity.host_root || user.0 != 0 => user,
            None => NOBODY,
        };
        let way = options.way;
        let options = Owned {
            program: setup.program.clone(),
            host_ids,
            memory: setup.groups.memory.unwrap_or(0),
            timed: setup.limits.timeout.is_some(),
        };
        Ok(Configuration { sandbox, options, own_tree, view, way })
    }

    /// The sandbox that a row's options describe.
    pub(crate) fn of_control(words: &str) -> Result<Self, Failure> {
        let (options, matches) = parse(words.split_whitespace().map(OsString::from))?;
        Self::new(&options, &matches)
    }

    /// Whom its program is on the host, if that can be known before.
    pub(crate) fn host_ids(&self) -> (u32, u32) {
        self.options.host_ids
    }

    /// Whether a limit of time was asked for.
    pub(crate) fn is_timed(&self) -> bool {
        self.options.timed
    }

    /// The program inside, started as any other.
    pub(crate) fn command(&self, command: Command) -> Command {
        let size = self.options.program.tty.then_some((24, 80));
        sandbox::command(&self.options.program, command, size)
    }

    /// The same without a terminal of its own.
    pub(crate) fn command_on_pipes(&self, command: Command) -> Command {
        sandbox::command(&self.options.program, command, None)
    }

    /// How much memory it may use, in bytes; 0 if that is not limited.
    pub(crate) fn memory_limit(&self) -> u64 {
        self.options.memory
    }

    /// Whether somebody watches over the program.
    pub(crate) fn has_init(&self) -> bool {
        !self.options.program.no_init
    }

    /// The names of the variables that the program has to have.
    pub(crate) fn variables(&self) -> String {
        let Program { env, clear_env, tty, .. } = &self.options.program;
        let mut names: Vec<_> =
            env.iter().map(|(name, _)| name.to_string_lossy().into_owned()).collect();
        let own = ["PATH", "HOME", "LANG"].into_iter().filter(|_| !clear_env);
        names.extend(own.chain(tty.then_some("TERM")).map(str::to_owned));
        names.join(",")
    }

    pub(crate) fn has_terminal(&self) -> bool {
        self.options.program.tty
    }
}
