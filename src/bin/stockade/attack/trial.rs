//! One attempt, in a sandbox or where it has to work.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use stockade::{Data, Feature, Outcome, Sandbox};

use super::PROGRAM;
use super::configuration::{Configuration, NOBODY};
use super::finding::{Finding, Verdict};
use super::peer;
use super::sibling::Sibling;
use super::source::Source;
use super::stage::Stage;
use super::table::{Attempt, Plant, Way};
use super::tenant::Tenant;
use crate::failure::Failure;

/// How long an attempt may take, where nothing else is asked for.
const TIME: Duration = Duration::from_secs(60);
/// How long the kernel may take to end what has no namespace of its own, and a look needs.
const MOMENT: Duration = Duration::from_secs(1);
/// The number under which the program inside has the socket that it reports to.
pub(crate) const REPORT: i32 = 9;
/// A limit of memory that nothing enforces, in bytes.
const SOME_MEMORY: u64 = 32 << 20;
/// Where the program may be put, of which the first possible is taken.
const PLACES: [&str; 3] = ["/dev/attack", "/tmp/attack", "/attack"];

/// Makes attempts in one kind of place.
#[derive(Debug)]
pub(crate) struct Trial<'a> {
    stage: &'a Stage,
    place: Place<'a>,
}

#[derive(Debug)]
enum Place<'a> {
    /// A sandbox in which the program and what is planted are below this path; `None` where the tree
    /// is the host's.
    Sandbox(&'a Configuration, Option<PathBuf>),
    Outside(Way),
    /// A sandbox that this program makes.
    Peer(&'a Path),
}

/// What came out of the program inside.
#[derive(Debug, Default)]
struct Heard {
    text: String,
    /// Somebody has the socket after the end.
    survived: bool,
}

impl<'a> Trial<'a> {
    /// In a sandbox; fails if that cannot be made at all.
    pub(crate) fn new(stage: &'a Stage, given: &'a Configuration) -> Result<Self, Failure> {
        if !given.own_tree {
            return Self::checked(stage, given, None);
        }
        let mut last = None;
        for place in PLACES {
            let sandbox = given.sandbox.clone().data(program_at(&PathBuf::from(place)));
            let program = PathBuf::from(place).join("program");
            match given.command(sandbox.command(program)).check() {
                Ok(()) => return Self::checked(stage, given, Some(place.into())),
                Err(error) => last = Some(error),
            }
        }
        Err(last.map_or_else(|| Failure::Usage("no place".to_owned()), Failure::Sandbox))
    }

    /// Whether it can be had in this way at all.
    fn checked(
        stage: &'a Stage,
        given: &'a Configuration,
        place: Option<PathBuf>,
    ) -> Result<Self, Failure> {
        let program = match &place {
            Some(place) => place.join("program"),
            None => stage.path("program"),
        };
        let trial = Trial { stage, place: Place::Sandbox(given, place.clone()) };
        drop(Source::new(given.way, &trial.with_program(given, place.as_deref()), &program)?);
        Ok(trial)
    }

    pub(crate) fn outside(stage: &'a Stage, way: Way) -> Self {
        Trial { stage, place: Place::Outside(way) }
    }

    pub(crate) fn under(stage: &'a Stage, peer: &'a Path) -> Self {
        Trial { stage, place: Place::Peer(peer) }
    }

    /// Makes it, and looks at what it has done.
    pub(crate) fn make(&self, attempt: &Attempt) -> Result<Finding, Failure> {
        let (ours, theirs) =
            UnixStream::pair().map_err(|error| Failure::Io("socketpair", error))?;
        let ended = AtomicBool::new(false);
        let mut touched = Vec::new();
        // A sandbox that has others goes on until all has been heard.
        let mut kept = None;
        let (inside, heard) = std::thread::scope(|scope| {
            let hearing = scope.spawn(|| hear(&ours, &ended));
            let inside = match &self.place {
                Place::Sandbox(given, place) => {
                    let place = place.as_deref();
                    self.in_sandbox(attempt, given, place, theirs.into(), &mut kept, &mut touched)
                }
                Place::Outside(way) => self.outside_of_any(attempt, *way, theirs.into()),
                Place::Peer(peer) => self.under_peer(attempt, peer, theirs.into(), &mut touched),
            };
            ended.store(true, Ordering::Relaxed);
            let panicked = |_| io::Error::other("the hearing thread panicked");
            (inside, hearing.join().map_err(panicked).and_then(|heard| heard))
        });
        let inside = inside?;
        let heard = heard.map_err(|error| Failure::Io("hear of the program", error))?;
        touched.extend(self.stage.touched());
        if heard.survived {
            touched.push("a process has outlived the sandbox".to_owned());
        }
        // What the program has said before does not matter then.
        if inside.verdict == Verdict::Open {
            touched.push(inside.why.clone());
        }
        let finding = match heard.text.lines().last() {
            Some(line) => Finding::told(line).ended(&inside),
            None => inside,
        };
        Ok(finding.with(&touched))
    }

    /// Runs it in a fresh sandbox; what the end alone says.
    fn in_sandbox(
        &self,
        attempt: &Attempt,
        given: &Configuration,
        place: Option<&Path>,
        report: OwnedFd,
        kept: &mut Option<Source>,
        touched: &mut Vec<String>,
    ) -> Result<Finding, Failure> {
        let planted = |name: &str| match place {
            Some(place) => place.join(name),
            None => self.stage.path(name),
        };
        let program = planted("program");
        let sandbox = self.sandbox(attempt, given, place);
        let source = match Source::new(given.way, &sandbox, &program) {
            Ok(source) => kept.insert(source),
            Err(error) => return Ok(not_made(attempt, &error)),
        };
        let mut facts = self.facts_inside(given, &planted, place.is_none());
        facts.extend(source.has_others().then(|| "others=1".to_owned()));
        let before = attempt.needs(Plant::Before);
        let before = before.then(|| Tenant::in_sandbox(given, source, &program, attempt));
        let before = match before.transpose() {
            Ok(before) => before,
            Err(error) => return Ok(Finding::broken(format!("the program before: {error}"))),
        };
        facts.extend(before.iter().flat_map(|before| before.facts.clone()));
        let sibling = attempt.needs(Plant::Sibling).then(|| Sibling::new(given, source, &program));
        let sibling = match sibling.transpose() {
            Ok(sibling) => sibling,
            Err(error) => {
                return Ok(Finding::not_applicable(format!("no second sandbox: {error}")));
            }
        };
        facts.extend(sibling.iter().flat_map(|sibling| sibling.facts.clone()));
        let mut command = match source.command(&program) {
            Ok(command) => given.command(command),
            Err(error) => return Ok(not_made(attempt, &error)),
        };
        command = command.arg(attempt.function).args(&facts).fd(REPORT, report);
        if !given.has_terminal() {
            command = command.stdout(stockade::Stdio::null()).stderr(stockade::Stdio::null());
            let input = self.input(attempt);
            command = match input.map_err(|error| Failure::Io("open standard input", error))? {
                Some(input) => command.stdin(input),
                None if attempt.needs(Plant::Terminal) => {
                    return Ok(Finding::not_applicable("no terminal could be made"));
                }
                None => command.stdin(stockade::Stdio::null()),
            };
        }
        let ended = match attempt.needs(Plant::Starts) {
            true => beside_others(source, command, &program, touched),
            false => command.status(),
        };
        let status = match ended {
            Ok(status) => status,
            Err(error) => return Ok(not_made(attempt, &error)),
        };
        touched.extend(sibling.map_or_else(Vec::new, Sibling::touched));
        if source.has_others() {
            // Whatever has become of this one. The program that is entered may be whom the kernel has ended for the
            // memory of all.
            let next = start_next(source, &program);
            let is_shared = matches!(source, Source::Enter(..)) && source.has_killed_for_memory();
            touched.extend(next.filter(|_| !is_shared));
        }
        if attempt.needs(Plant::Follow) {
            self.follow(attempt, given, place, &program, planted("writable/link/made"));
        }
        Ok(said_by_the_end(status.outcome, source))
    }

    /// Makes another sandbox, which comes by what was left in its way. That may well be an error; what is made
    /// outside is seen.
    fn follow(
        &self,
        attempt: &Attempt,
        given: &Configuration,
        place: Option<&Path>,
        program: &Path,
        made: PathBuf,
    ) {
        let sandbox = self.sandbox(attempt, given, place).directory(made, 0o755);
        let next = Source::new(given.way, &sandbox, program);
        let next = next.and_then(|next| next.command(program)?.status());
        log::debug!("the next sandbox: {next:?}");
    }

    /// What every attempt in a sandbox is told.
    fn facts_inside(
        &self,
        given: &Configuration,
        planted: &dyn Fn(&str) -> PathBuf,
        shared: bool,
    ) -> Vec<String> {
        let mut facts = self.stage.facts().to_vec();
        for name in ["writable", "readonly"] {
            facts.push(format!("{name}={}", planted(name).display()));
        }
        facts.push(format!("place={}", planted("").display()));
        facts.push(format!("report={REPORT}"));
        facts.push(format!("variables={}", given.variables()));
        facts.push(format!("memory_limit={}", given.memory_limit()));
        facts.extend((shared && !given.view).then(|| "shared_tree=1".to_owned()));
        facts.extend(given.has_init().then(|| "init=1".to_owned()));
        facts
    }

    /// What the attempt has as standard input, if it is to have any.
    fn input(&self, attempt: &Attempt) -> io::Result<Option<File>> {
        match () {
            () if attempt.needs(Plant::Terminal) => self.stage.terminal(),
            () if attempt.needs(Plant::Input) => {
                File::open(self.stage.path("readonly/file")).map(Some)
            }
            () => Ok(None),
        }
    }

    /// The given one, with the program in it.
    fn with_program(&self, given: &Configuration, place: Option<&Path>) -> Sandbox {
        let sandbox = given.sandbox.clone();
        let sandbox = if given.is_timed() { sandbox } else { sandbox.wall_time(TIME) };
        match place {
            Some(place) => sandbox.data(program_at(place)),
            None if given.view => {
                let sandbox = sandbox.best_effort(Feature::IdMappedMounts);
                sandbox.bind_same(self.stage.path("program"))
            }
            None => sandbox,
        }
    }

    /// The same, with what the attempt needs.
    fn sandbox(&self, attempt: &Attempt, given: &Configuration, place: Option<&Path>) -> Sandbox {
        let mut sandbox = self.with_program(given, place);
        let planted = match place {
            Some(place) => place.to_owned(),
            None if given.view => self.stage.path(""),
            None => return sandbox,
        };
        if attempt.needs(Plant::Writable) {
            sandbox = sandbox.bind_rw(self.stage.path("writable"), planted.join("writable"));
        }
        if attempt.needs(Plant::ReadOnly) {
            sandbox = sandbox.bind_ro(self.stage.path("readonly"), planted.join("readonly"));
        }
        sandbox
    }

    /// Runs it in a sandbox that another program makes.
    fn under_peer(
        &self,
        attempt: &Attempt,
        peer: &Path,
        report: OwnedFd,
        touched: &mut Vec<String>,
    ) -> Result<Finding, Failure> {
        let failed = |step| move |error| Failure::Io(step, error);
        let command = || peer::command(peer, self.stage, attempt);
        let mut facts = self.stage.facts().to_vec();
        for (name, path) in [("writable", "writable"), ("readonly", "readonly"), ("place", "")] {
            facts.push(format!("{name}={}", self.stage.path(path).display()));
        }
        let sibling = attempt.needs(Plant::Sibling).then(|| Sibling::of_peer(command()));
        let sibling = match sibling.transpose() {
            Ok(sibling) => sibling,
            Err(error) => {
                return Ok(Finding::not_applicable(format!("no second sandbox: {error}")));
            }
        };
        facts.extend(sibling.iter().flat_map(|sibling| sibling.facts.clone()));
        facts.extend(attempt.needs(Plant::Starts).then(|| "others=entered".to_owned()));
        let input = self.input(attempt).map_err(failed("open standard input"))?;
        let before = attempt.needs(Plant::Before).then(|| Tenant::of_peer(command(), attempt));
        let before = match before.transpose() {
            Ok(before) => before,
            Err(error) => return Ok(Finding::broken(format!("the program before: {error}"))),
        };
        facts.extend(before.iter().flat_map(|before| before.facts.clone()));
        let found = peer::attack(command(), attempt, &facts, input, report);
        let found = found.map_err(failed("start the other program"))?;
        touched.extend(sibling.map_or_else(Vec::new, Sibling::touched));
        if attempt.needs(Plant::Follow) {
            let made = "no sandbox is told to make a directory there";
            return Ok(Finding::not_applicable(made));
        }
        Ok(found)
    }

    /// Runs it without any sandbox.
    fn outside_of_any(
        &self,
        attempt: &Attempt,
        way: Way,
        report: OwnedFd,
    ) -> Result<Finding, Failure> {
        let failed = |step| move |error| Failure::Io(step, error);
        fcntl(&report, FcntlArg::F_SETFD(FdFlag::empty()))
            .map_err(|errno| Failure::Io("keep a descriptor", errno.into()))?;
        let mut command = Command::new(self.stage.path("program"));
        command.arg(attempt.function).args(self.stage.facts());
        command.arg(format!("report={}", report.as_raw_fd())).arg("bare=1");
        command.arg(format!("memory_limit={SOME_MEMORY}"));
        for (name, path) in [("writable", "writable"), ("readonly", "readonly"), ("place", "")] {
            command.arg(format!("{name}={}", self.stage.path(path).display()));
        }
        command.env("STOCKADE_ATTACK_SECRET", "of the environment");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        if let Some(input) = self.input(attempt).map_err(failed("open standard input"))? {
            command.stdin(input);
        }
        if way == Way::Nobody {
            command.uid(NOBODY.0).gid(NOBODY.1);
        }
        if way == Way::Chroot {
            command.arg(format!("chroot={}", self.stage.path("readonly").display()));
        }
        let before = attempt.needs(Plant::Before).then(|| Tenant::outside(self.stage, attempt));
        let before = before.transpose().map_err(failed("start the program before"))?;
        command.args(before.iter().flat_map(|before| &before.facts));
        let mut child = command.spawn().map_err(failed("start the program"))?;
        drop(report);
        let deadline = Instant::now() + TIME;
        loop {
            if let Some(status) = child.try_wait().map_err(failed("wait"))? {
                if attempt.needs(Plant::Follow) {
                    // As one does who does not look where a link leads to.
                    let made = self.stage.path("writable/link/made");
                    std::fs::create_dir(made).map_err(failed("follow a link"))?;
                }
                return Ok(Finding::broken(format!("the program ended without a word: {status}")));
            }
            if Instant::now() > deadline {
                child.kill().and_then(|()| child.wait()).map_err(failed("end the program"))?;
                return Ok(Finding::broken("the program did not end"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// What keeps the next program from starting in the same sandbox.
fn start_next(source: &Source, program: &Path) -> Option<String> {
    let next = source.command(program);
    let status = next.and_then(|next| next.stderr(stockade::Stdio::null()).status());
    match status.map(|status| status.outcome) {
        Ok(Outcome::Exited(_)) => None,
        Ok(outcome) => Some(format!("the next program of the sandbox: {outcome}")),
        Err(error) => Some(format!("the next program of the sandbox: {error}")),
    }
}

/// Runs it while others are started in the same sandbox.
fn beside_others(
    source: &Source,
    command: stockade::Command,
    program: &Path,
    touched: &mut Vec<String>,
) -> stockade::Result<stockade::Status> {
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let starting = scope.spawn(|| {
            let mut told = None;
            while source.has_others() && told.is_none() && !ended.load(Ordering::Relaxed) {
                told = start_next(source, program);
            }
            told
        });
        let status = command.status();
        ended.store(true, Ordering::Relaxed);
        let panicked = |_| Some("the thread that starts others panicked".to_owned());
        touched.extend(starting.join().unwrap_or_else(panicked));
        status
    })
}

/// What the end of a program says that has said nothing itself.
fn said_by_the_end(outcome: Outcome, source: &mut Source) -> Finding {
    match outcome {
        // The limit is the sandbox's, and its outcome would tell.
        Outcome::Signaled { signal: 9, .. } if source.has_killed_for_memory() => {
            Finding::held("the kernel ended it at the sandbox's limit of memory")
        }
        Outcome::Exited(_) | Outcome::Signaled { .. } => {
            Finding::broken(format!("the program ended without a word: {}", outcome))
        }
        // The sandbox's own goes on, as has been seen.
        Outcome::InitKilled { .. } if source.has_others() => {
            Finding::held("the program's supervisor was killed, which its end says")
        }
        Outcome::InitKilled { .. } => Finding::open("the sandbox's init was killed"),
        outcome => Finding::held(format!("the sandbox was ended: {outcome}")),
    }
}

/// Without the plants it can be made: that has been tried.
fn not_made(attempt: &Attempt, error: &stockade::Error) -> Finding {
    match attempt.plants {
        [] => Finding::broken(error.to_string()),
        _ => Finding::not_applicable(format!("what it needs cannot be given: {error}")),
    }
}

fn program_at(place: &Path) -> Data {
    Data::file(place.join("program"), PROGRAM).mode(0o555)
}

/// Reads all that comes, until nobody can send any more; or, after the end, for a moment.
fn hear(socket: &UnixStream, ended: &AtomicBool) -> io::Result<Heard> {
    let mut heard = Heard::default();
    let mut bytes = [0; 512];
    let mut patience = None;
    socket.set_read_timeout(Some(Duration::from_millis(20)))?;
    loop {
        let mut reading = socket;
        match reading.read(&mut bytes) {
            Ok(0) => return Ok(heard),
            Ok(count) => heard.text.push_str(&String::from_utf8_lossy(&bytes[..count])),
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            // Ended with bytes in its own queue.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(heard),
            Err(error) => return Err(error),
        }
        if ended.load(Ordering::Relaxed) {
            let until = *patience.get_or_insert_with(|| Instant::now() + MOMENT);
            if Instant::now() > until {
                heard.survived = true;
                return Ok(heard);
            }
        }
    }
}
