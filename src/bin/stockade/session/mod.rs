//! `stockade session`: commands for one sandbox as JSON lines on standard input, outcomes as JSON lines on
//! standard output.

mod base64;
mod lines;
mod protocol;
mod running;

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use clap::ArgMatches;
use serde_json::{Value, json};
use stockade::Stdio;

use crate::failure::Failure;
use crate::values::name_of;
use crate::{descriptor, options, report, sandbox};
use lines::{Line, Lines};
use protocol::{Job, Refused, Request, answer};
use running::Ended;

/// What all threads share.
#[derive(Debug)]
struct Server<'a> {
    options: &'a options::Session,
    session: stockade::Session,
    answers: &'a Answers,
    table: Mutex<Table>,
    /// There is something in the queue, or nothing more will come.
    work: Condvar,
}

#[derive(Debug, Default)]
struct Table {
    queue: VecDeque<Box<Job>>,
    /// What waits or runs, by its id as JSON.
    known: BTreeMap<String, State>,
    closed: bool,
}

#[derive(Debug)]
enum State {
    Waiting,
    /// The writing end of its orders, each the number of a signal; it is closed to end all of it.
    Running(Option<UnixStream>),
}

/// Where the answers go, until that fails.
#[derive(Debug)]
struct Answers {
    output: File,
    failed: Mutex<Option<std::io::Error>>,
}

impl Answers {
    /// Writes a line. After an error nothing is written any more.
    fn write(&self, answer: &Value) {
        let line = format!("{answer}\n");
        let mut failed = lock(&self.failed);
        if failed.is_none() {
            *failed = (&self.output).write_all(line.as_bytes()).err();
        }
    }

    fn finish(&self) -> Result<(), Failure> {
        match lock(&self.failed).take() {
            Some(error) => Err(Failure::Io("write answers", error)),
            None => Ok(()),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What it holds is whole after each of its changes.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Serves until the end of standard input or of the session; the exit code is described by `--help`.
pub(crate) fn session(options: &options::Session, matches: &ArgMatches) -> Result<u8, Failure> {
    let [input, output] = [0, 1].map(descriptor::duplicate);
    let output = output.map_err(|error| Failure::Io("open standard output", error))?;
    let answers = Answers { output: output.into(), failed: Mutex::default() };
    let last = input
        .map_err(|error| Failure::Io("open standard input", error))
        .and_then(|input| serve(options, matches, &answers, input.into()));
    let report =
        last.as_ref().map_or_else(|failure| report::failed(failure).value(), |()| json!({}));
    let word = if last.is_ok() { "ended" } else { "failed" };
    answers.write(&answer("session", word.into(), report, &[]));
    last.and_then(|()| answers.finish()).map(|()| 0)
}

fn serve(
    options: &options::Session,
    matches: &ArgMatches,
    answers: &Answers,
    input: File,
) -> Result<(), Failure> {
    if options.setup.program.tty {
        let reason = "'--tty' is for one program: the commands of a session have pipes";
        return Err(Failure::Usage(reason.to_owned()));
    }
    descriptor::keep_children().map_err(|error| Failure::Io("signal", error))?;
    let session = sandbox::sandbox(&options.setup, matches)?.prepare()?.session()?;
    let missing: Vec<_> = session.missing().iter().copied().map(name_of).collect();
    let ready = json!({ "session": "ready", "pid": session.id(), "missing": missing });
    answers.write(&ready);
    let (table, work) = (Mutex::default(), Condvar::new());
    let server = Server { options, session, answers, table, work };
    thread::scope(|scope| {
        // Without the workers there is nobody to wait for.
        let workers =
            (0..options.jobs).map(|_| thread::Builder::new().spawn_scoped(scope, || server.work()));
        let started = workers.collect::<Result<Vec<_>, _>>();
        let read = match started {
            Ok(_) => server.read(input),
            Err(error) => Err(Failure::Io("start thread", error)),
        };
        server.close();
        read
    })?;
    Ok(server.session.end()?)
}

impl Server<'_> {
    /// Reads requests until there are no more, or nobody is there for them.
    fn read(&self, input: File) -> Result<(), Failure> {
        let limit = usize::try_from(self.options.max_line).unwrap_or(usize::MAX);
        let mut lines = Lines::new(input, limit);
        while lock(&self.answers.failed).is_none() {
            match lines.next(self.session.pidfd(), self.answers.output.as_fd()) {
                Ok(Line::Text(line)) if line.trim_ascii().is_empty() => {}
                Ok(Line::Text(line)) => self.take(&line),
                Ok(Line::TooLong) => {
                    let reason = format!("the line has more than {limit} bytes");
                    self.refuse(&Refused { id: Value::Null, reason });
                }
                Ok(Line::End) => return Ok(()),
                Ok(Line::Deaf) => break,
                Err(failure) => {
                    self.end_all();
                    return Err(failure);
                }
            }
        }
        self.end_all();
        Ok(())
    }

    fn take(&self, line: &[u8]) {
        let done = protocol::parse(line).and_then(|request| match request {
            Request::Start(job) => self.enqueue(job),
            Request::Kill { id, signal } => self.kill(id, signal),
        });
        if let Err(refused) = done {
            self.refuse(&refused);
        }
    }

    fn refuse(&self, refused: &Refused) {
        self.answers.write(&protocol::refused(refused));
    }

    fn enqueue(&self, job: Box<Job>) -> Result<(), Refused> {
        let refused = |reason: &str| Refused { id: job.id.clone(), reason: reason.to_owned() };
        if job.keep_output.is_some_and(|bytes| bytes > self.options.keep_output) {
            return Err(refused("keep_output: more than the option --keep-output allows"));
        }
        let mut table = lock(&self.table);
        let key = job.id.to_string();
        if table.known.contains_key(&key) {
            return Err(refused("a command with this id has not ended"));
        }
        let most = usize::from(self.options.jobs) + usize::from(self.options.queue);
        if table.known.len() >= most {
            return Err(refused("too many commands wait"));
        }
        table.known.insert(key, State::Waiting);
        table.queue.push_back(job);
        self.work.notify_one();
        Ok(())
    }

    fn kill(&self, id: Value, signal: Option<u8>) -> Result<(), Refused> {
        let mut table = lock(&self.table);
        let refused = |id, reason: &str| Err(Refused { id, reason: reason.to_owned() });
        match (table.known.get_mut(&id.to_string()), signal) {
            (None, _) => refused(id, "no command with this id waits or runs"),
            (Some(State::Waiting), Some(_)) => refused(id, "it has not started"),
            (Some(State::Waiting), None) => {
                table.known.remove(&id.to_string());
                table.queue.retain(|job| job.id != id);
                drop(table);
                let report = json!({ "outcome": "killed", "exit_code": 128 + libc::SIGKILL });
                self.answers.write(&answer("id", id, report, &[]));
                Ok(())
            }
            (Some(State::Running(orders)), None) => {
                drop(orders.take());
                Ok(())
            }
            (Some(State::Running(orders)), Some(signal)) => {
                let written = orders.as_ref().map(|mut orders| orders.write_all(&[signal]));
                match written {
                    Some(Err(_)) => refused(id, "too many signals wait"),
                    Some(Ok(())) | None => Ok(()),
                }
            }
        }
    }

    /// Ends what runs, and forgets what waits.
    fn end_all(&self) {
        let mut table = lock(&self.table);
        table.queue.clear();
        for state in table.known.values_mut() {
            if let State::Running(orders) = state {
                drop(orders.take());
            }
        }
    }

    /// Nothing more will come.
    fn close(&self) {
        lock(&self.table).closed = true;
        self.work.notify_all();
    }

    /// A thread's work: one command after another.
    fn work(&self) {
        while let Some((job, orders)) = self.next() {
            let (id, key) = (job.id.clone(), job.id.to_string());
            let done = orders.and_then(|orders| self.run(*job, &orders));
            let answer = done
                .unwrap_or_else(|failure| answer("id", id, report::failed(&failure).value(), &[]));
            // From now on the id is free: the answer says so.
            lock(&self.table).known.remove(&key);
            self.answers.write(&answer);
        }
    }

    /// The next command, with the reading end of its orders.
    fn next(&self) -> Option<(Box<Job>, Result<UnixStream, Failure>)> {
        let mut table = lock(&self.table);
        let job = loop {
            match table.queue.pop_front() {
                Some(job) => break job,
                None if table.closed => return None,
                None => table = self.work.wait(table).unwrap_or_else(PoisonError::into_inner),
            }
        };
        let orders = pair();
        let (reading, writing) = match orders {
            Ok((reading, writing)) => (Ok(reading), Some(writing)),
            Err(error) => (Err(Failure::Io("socketpair", error)), None),
        };
        table.known.insert(job.id.to_string(), State::Running(writing));
        Some((job, reading))
    }

    /// Runs a command to its end; the answer.
    fn run(&self, job: Job, orders: &UnixStream) -> Result<Value, Failure> {
        let program = &self.options.setup.program;
        let mut command = sandbox::command(program, self.session.command(&job.program), None);
        command = command.args(&job.args);
        if job.clear_env {
            command = command.env_clear();
        }
        for (name, value) in &job.env {
            command = match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        if let Some(directory) = &job.cwd {
            command = command.current_dir(directory);
        }
        if let Some(name) = &job.argv0 {
            command = command.arg0(name);
        }
        if let Some(mask) = job.umask {
            command = command.umask(mask);
        }
        let own = job.timeout.into_iter().chain(self.options.setup.limits.timeout).min();
        if let Some(time) = own {
            command = command.wall_time(time);
        }
        let input = if job.stdin.is_some() { Stdio::piped() } else { Stdio::null() };
        command = command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped());
        let keep = job.keep_output.unwrap_or(self.options.keep_output);
        let keep = usize::try_from(keep).unwrap_or(usize::MAX);
        let child = command.spawn()?;
        let missing = child.missing().to_vec();
        let input = job.stdin.unwrap_or_default();
        let Ended { status, stdout, stderr } = running::attend(child, input, keep, orders)?;
        let report = report::ended(&status, &missing).value();
        let more = [
            ("stdout", protocol::bytes(stdout.bytes)),
            ("stdout_truncated", stdout.truncated.into()),
            ("stderr", protocol::bytes(stderr.bytes)),
            ("stderr_truncated", stderr.truncated.into()),
        ];
        Ok(answer("id", job.id, report, &more))
    }
}

/// Both ends of a command's orders; neither waits for the other.
fn pair() -> std::io::Result<(UnixStream, UnixStream)> {
    let (reading, writing) = UnixStream::pair()?;
    reading.set_nonblocking(true)?;
    writing.set_nonblocking(true)?;
    Ok((reading, writing))
}
