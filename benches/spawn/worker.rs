//! A process that measures, with a heap, threads and descriptors as many as are asked for; the bench
//! starts several, so that these take turns too.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use crate::contender::{Contender, Contenders, Program};

/// How many files the tree of many binds has.
pub(crate) const BINDS: usize = 1000;

/// How large a worker is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Size {
    pub(crate) gigabytes: usize,
    pub(crate) threads: usize,
    pub(crate) descriptors: usize,
}

impl Size {
    fn text(self) -> String {
        format!("{},{},{}", self.gigabytes, self.threads, self.descriptors)
    }

    pub(crate) fn from_text(text: &str) -> Self {
        let mut numbers = text.split(',').map(|word| word.parse().expect("a number"));
        let mut next = || numbers.next().expect("three numbers");
        Size { gigabytes: next(), threads: next(), descriptors: next() }
    }
}

/// What a worker is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// Nothing, to see that it is ready.
    Ready,
    /// Starts one after the other; a time for each.
    Starts,
    /// The same, with [`BINDS`] binds.
    ManyBinds,
    /// Starts from that many threads at once; one time for all.
    Threads(usize),
}

impl Task {
    fn number(self) -> usize {
        match self {
            Task::Ready => 0,
            Task::Starts => 1,
            Task::ManyBinds => 2,
            Task::Threads(threads) => 2 + threads,
        }
    }

    fn from_number(number: usize) -> Self {
        match number {
            0 => Task::Ready,
            1 => Task::Starts,
            2 => Task::ManyBinds,
            more => Task::Threads(more - 2),
        }
    }
}

/// The bench's end of a worker.
#[derive(Debug)]
pub(crate) struct Worker {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Worker {
    pub(crate) fn start(size: Size, scratch: &Path) -> Self {
        let myself = std::env::current_exe().expect("the bench's own path");
        let mut command = Command::new(myself);
        command.arg("--worker").arg(size.text()).arg(scratch);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the bench can start itself");
        let orders = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut worker = Worker { child, orders, answers };
        worker.ask(Task::Ready, Contender::Bare, 0);
        worker
    }

    /// The times of `count` starts, after one that is not counted.
    pub(crate) fn ask(&mut self, task: Task, contender: Contender, count: usize) -> Vec<Duration> {
        let orders = self.orders.as_mut().expect("open until the end");
        writeln!(orders, "{} {} {count}", task.number(), contender as usize).expect("a worker");
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("a worker");
        assert!(line.ends_with('\n'), "the worker died");
        let nanos = line.split_whitespace().map(|word| word.parse().expect("a number"));
        nanos.map(Duration::from_nanos).collect()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        drop(self.orders.take());
        let _ended = self.child.wait();
    }
}

/// The worker's own main function.
pub(crate) fn main(size: Size, scratch: &Path) {
    let heap = touched(size.gigabytes << 30);
    let null = File::open("/dev/null").expect("it is there");
    let held: Vec<_> = (0..size.descriptors).map(|_| null.try_clone()).collect();
    assert!(held.iter().all(Result::is_ok), "{} descriptors", size.descriptors);
    for _ in 0..size.threads {
        let thread = std::thread::Builder::new().stack_size(64 << 10);
        thread
            .spawn(|| {
                loop {
                    std::thread::park()
                }
            })
            .expect("a thread");
    }
    let program = Program::find(scratch).expect("the bench has found one");
    let few = Contenders::new(&program, &[]);
    let many = (size.gigabytes == 0).then(|| Contenders::new(&program, &many_binds(scratch)));
    for line in std::io::stdin().lines() {
        let line = line.expect("an order");
        let numbers: Vec<usize> = line.split(' ').filter_map(|word| word.parse().ok()).collect();
        let (task, count) = (Task::from_number(numbers[0]), numbers[2]);
        let contender = Contender::ALL[numbers[1]];
        let times = match (task, &many) {
            (Task::Starts, _) => in_turn(&few, contender, count),
            (Task::ManyBinds, Some(many)) => in_turn(many, contender, count),
            (Task::Threads(threads), _) => vec![together(&few, contender, threads, count)],
            _ => Vec::new(),
        };
        let times: Vec<_> = times.iter().map(|time| time.as_nanos().to_string()).collect();
        println!("{}", times.join(" "));
    }
    drop((heap, held));
}

fn in_turn(contenders: &Contenders, contender: Contender, count: usize) -> Vec<Duration> {
    // After the others' turns the caches are theirs.
    contenders.run(contender);
    (0..count).map(|_| contenders.run(contender)).collect()
}

fn together(
    contenders: &Contenders,
    contender: Contender,
    threads: usize,
    count: usize,
) -> Duration {
    let before = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let share = (count + thread) / threads;
            scope.spawn(move || in_turn(contenders, contender, share.saturating_sub(1)));
        }
    });
    before.elapsed()
}

/// The files that the bench made, and where they are shown.
pub(crate) fn many_binds(scratch: &Path) -> Vec<(PathBuf, PathBuf)> {
    let pair = |number| {
        let name = format!("{number:03}");
        (scratch.join("files").join(&name), Path::new("/data").join(&name))
    };
    (0..BINDS).map(pair).collect()
}

/// Memory in pages of the smallest size, as a heap of small objects has, each written to.
fn touched(length: usize) -> Vec<u8> {
    let mut memory: Vec<u8> = Vec::with_capacity(length);
    let spare = memory.spare_capacity_mut();
    if !spare.is_empty() {
        let start = spare.as_mut_ptr() as usize;
        let page = start.next_multiple_of(4096);
        // SAFETY: advice about memory that is this vector's, from its first full page on.
        unsafe {
            libc::madvise(page as *mut libc::c_void, length - 4096, libc::MADV_NOHUGEPAGE);
        }
    }
    memory.resize(length, 1);
    memory
}
