//! `stockade`: runs a program in a sandbox from the command line.

mod attack;
mod audit;
mod bench;
mod descriptor;
mod failure;
mod logger;
mod options;
mod report;
mod run;
mod sandbox;
mod session;
mod terminal;
mod values;

use std::process::ExitCode;

use clap::{ArgMatches, CommandFactory, FromArgMatches};
use stockade::{Feature, Status, Support};

use crate::failure::{Failure, SET_UP, code_of_outcome};
use crate::options::{Action, Cli, Run};
use crate::terminal::Terminal;

fn main() -> ExitCode {
    match stockade() {
        Ok(code) => code.into(),
        Err(failure) => {
            failure.print();
            failure.code().into()
        }
    }
}

fn stockade() -> Result<u8, Failure> {
    let matches = Cli::command().try_get_matches()?;
    let cli = Cli::from_arg_matches(&matches)?;
    logger::install(cli.verbose);
    match (cli.action, matches.subcommand()) {
        (Action::Run(run), Some((_, matches))) => self::run(*run, matches),
        (Action::Attack(options), Some((_, matches))) => attack::attack(&options, matches),
        (Action::Audit(options), Some((_, matches))) => audit::audit(&options, matches),
        (Action::Bench(options), Some((_, matches))) => bench::bench(&options, matches),
        (Action::Session(options), Some((_, matches))) => session::session(&options, matches),
        _ => check(),
    }
}

fn check() -> Result<u8, Failure> {
    let support = Support::probe();
    attack::print(&support.to_string())?;
    attack::print("\nLimits by control groups:\n")?;
    for controller in Support::controllers() {
        attack::print(&format!("{controller}\n"))?;
    }
    Ok(if support.is_sufficient() { 0 } else { SET_UP })
}

/// `stockade run`: the exit code is the program's, or says why there is none.
fn run(run: Run, matches: &ArgMatches) -> Result<u8, Failure> {
    let Some(number) = run.json.filter(|_| !run.explain) else {
        return match carry_out(&run, matches)? {
            Some((status, _)) => outcome(status),
            None => Ok(0),
        };
    };
    let json = std::fs::File::from(descriptor::of_json(number)?);
    match carry_out(&run, matches) {
        Ok(Some((status, missing))) => {
            report::ended(&status, &missing).write(json)?;
            outcome(status)
        }
        Ok(None) => Ok(0),
        Err(failure) => {
            report::failed(&failure).write(json)?;
            Err(failure)
        }
    }
}

/// Runs the program, or only prints what would be done.
fn carry_out(run: &Run, matches: &ArgMatches) -> Result<Option<(Status, Vec<Feature>)>, Failure> {
    let mut sandbox = sandbox::sandbox(&run.setup, matches)?;
    if run.learn {
        sandbox = sandbox.learn();
    }
    if !run.declare_input.is_empty() {
        sandbox = sandbox.declare_inputs(&run.declare_input);
    }
    if !run.declare_output.is_empty() {
        sandbox = sandbox.declare_outputs(&run.declare_output);
    }
    let tmp = run
        .private_tmp
        .as_ref()
        .map(|parent| sandbox.private_tmp(parent.clone().unwrap_or_else(std::env::temp_dir)));
    // Until the end of this function.
    let tmp = tmp.transpose()?;
    if let Some(tmp) = &tmp {
        sandbox = sandbox.bind_rw(tmp.path(), tmp.path());
    }
    let Some((program, args)) = run.command.split_first() else {
        return attack::print(&sandbox.plan()?.to_string()).map(|()| None);
    };
    let mut command = sandbox.command(program).args(args);
    if let Some(tmp) = &tmp {
        command = command.env("TMPDIR", tmp.path()).env("HOME", tmp.path());
    }
    if run.explain {
        let command = sandbox::command(&run.setup.program, command, None);
        return attack::print(&command.plan()?.to_string()).map(|()| None);
    }
    let terminal = run.setup.program.tty.then(Terminal::of_caller).transpose()?;
    let size = terminal.as_ref().map(Terminal::size);
    let ended = run::run(sandbox::command(&run.setup.program, command, size), terminal, run.learn)?;
    if let Some(tmp) = tmp {
        tmp.close().unwrap_or_else(|error| log::warn!("{error}"));
    }
    Ok(Some(ended))
}

/// The exit code, and a word about what no exit code can say.
fn outcome(status: Status) -> Result<u8, Failure> {
    match code_of_outcome(status.outcome) {
        Some(code) => Ok(code),
        None => Err(Failure::Outcome(status.outcome)),
    }
}
