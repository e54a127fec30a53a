//! `stockade session`: what it reads and answers, what it refuses, and how it ends.
#![allow(
    clippy::exit,
    clippy::incompatible_msrv,
    clippy::cast_possible_truncation,
    reason = "a test process, built by a current toolchain"
)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails so")]

mod common;
#[path = "common/life.rs"]
mod life;

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use common::{Needs, moment};
use serde_json::{Value, json};

/// Where cargo built the program.
const STOCKADE: &str = env!("CARGO_BIN_EXE_stockade");

tests! {
    Needs::Program(STOCKADE) => [
        what_a_command_is_given, what_is_no_text, what_options_give, files_stay, answers_come_in_order_of_ends,
        reports_are_those_of_run, what_does_not_start, killed, killed_before_the_start, signals, time_limits,
        kept_output, standard_input_that_nobody_reads, so_many_at_a_time, ids_that_run, malformed_lines,
        lines_that_are_too_long, the_last_line_need_not_end, end_of_input_waits, all_killed_inside,
        a_session_that_dies, a_client_that_goes, killed_itself, set_up_that_fails, wrong_usage,
    ];
}

/// A session, and what it is told and says.
#[derive(Debug)]
struct Served {
    process: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    /// The host's pid of init.
    init: u32,
}

impl Served {
    fn new(options: &[&str]) -> Self {
        let mut served = Served::started(options);
        let ready = served.answer();
        assert_eq!(ready["session"], "ready", "{ready}");
        let started = stockade::Sandbox::new().command("true").spawn().unwrap();
        let lacks = match started.missing() {
            [] => json!([]),
            [stockade::Feature::LandlockScopes] => json!(["landlock-scopes"]),
            others => panic!("{others:?}"),
        };
        assert_eq!(ready["missing"], lacks, "{ready}");
        served.init = ready["pid"].as_u64().unwrap().try_into().unwrap();
        served
    }

    fn started(options: &[&str]) -> Self {
        let mut command = Command::new(STOCKADE);
        command.arg("session").args(options).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.stderr(Stdio::piped()).spawn().unwrap();
        let (input, output) = (process.stdin.take(), process.stdout.take().unwrap());
        Served { process, input, output: BufReader::new(output), init: 0 }
    }

    fn raw(&mut self, bytes: &[u8]) {
        self.input.as_mut().unwrap().write_all(bytes).unwrap();
    }

    fn ask(&mut self, request: &Value) {
        self.raw(format!("{request}\n").as_bytes());
    }

    fn sh(&mut self, id: u32, script: &str) {
        self.ask(&json!({ "id": id, "argv": ["sh", "-c", script] }));
    }

    fn answer(&mut self) -> Value {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"))
    }

    /// The answer to a request that is alone.
    fn done(&mut self, request: Value) -> Value {
        self.ask(&request);
        let answer = self.answer();
        assert_eq!(answer["id"], request["id"], "{answer}");
        answer
    }

    /// What a command wrote that ended well.
    fn wrote(&mut self, request: Value) -> String {
        let answer = self.done(request);
        assert_eq!(answer["exit_code"], 0, "{answer}");
        answer["stdout"].as_str().unwrap().to_owned()
    }

    /// Waits until a file is there, by a command.
    fn await_file(&mut self, path: &str) {
        let script = format!("until test -e {path}; do sleep 0.01; done");
        self.wrote(json!({ "id": "await", "argv": ["sh", "-c", script] }));
    }

    /// Asserts that a line is refused, for whom and why.
    fn refused(&mut self, line: &str, id: Value, reason: &str) {
        self.raw(format!("{line}\n").as_bytes());
        let answer = self.answer();
        assert_eq!((&answer["outcome"], &answer["id"]), (&json!("refused"), &id), "{answer}");
        assert!(answer["error"].as_str().unwrap().contains(reason), "{line}: {answer}");
    }

    /// Ends its input, and waits for its end: the code, what was still said, and standard error.
    fn end(mut self) -> (Option<i32>, Vec<Value>, String) {
        drop(self.input.take());
        let lines = self.output.by_ref().lines();
        let answers = lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
        drop(self.output);
        let output = self.process.wait_with_output().unwrap();
        (output.status.code(), answers, String::from_utf8(output.stderr).unwrap())
    }

    fn ends_well(self) {
        let (code, answers, said) = self.end();
        assert_eq!((code, said.as_str()), (Some(0), ""), "{answers:?}");
        assert_eq!(answers, [json!({ "session": "ended" })]);
    }
}

fn what_a_command_is_given() {
    let mut served = Served::new(&[]);
    let wrote = |served: &mut Served, mut request: Value, script: &str| {
        request["id"] = "x".into();
        request["argv"] = json!(["sh", "-c", script, "name", "a b"]);
        served.wrote(request)
    };
    assert_eq!(wrote(&mut served, json!({}), "echo \"$1\"; cat; pwd"), "a b\n/home/user\n");
    assert_eq!(wrote(&mut served, json!({ "stdin": "in\n" }), "cat"), "in\n");
    assert_eq!(wrote(&mut served, json!({ "cwd": "/tmp" }), "pwd"), "/tmp\n");
    assert_eq!(wrote(&mut served, json!({}), "umask"), "0022\n");
    assert_eq!(wrote(&mut served, json!({ "umask": "077" }), "umask"), "0077\n");
    let variables = "echo ${A-none} ${LANG-none} ${HOME-none}";
    assert_eq!(wrote(&mut served, json!({}), variables), "none C.UTF-8 /home/user\n");
    let env = json!({ "A": "1 2", "LANG": null });
    assert_eq!(wrote(&mut served, json!({ "env": env }), variables), "1 2 none /home/user\n");
    let cleared =
        json!({ "id": 1, "argv": ["/usr/bin/env"], "clear_env": true, "env": { "A": "1" } });
    assert_eq!(served.wrote(cleared), "A=1\n");
    let named = json!({ "id": 1, "argv": ["sh", "-c", "echo $0"], "argv0": "x" });
    assert_eq!(served.wrote(named), "x\n");
    served.ends_well();
}

fn what_is_no_text() {
    let mut served = Served::new(&[]);
    let answer = served.done(json!({
        "id": -1,
        "argv": ["sh", "-c", { "base64": "cHJpbnRmICIkMSI7IGNhdA==" }, "x", { "base64": "/w==" }],
        "stdin": { "base64": "/v8=" },
    }));
    // The script is `printf "$1"; cat`.
    assert_eq!(answer["stdout"], json!({ "base64": "//7/" }), "{answer}");
    assert_eq!(answer["stderr"], "", "{answer}");
    served.ends_well();
}

fn what_options_give() {
    let mut served = Served::new(&[
        "--env",
        "A=1",
        "--env",
        "B=1",
        "--chdir",
        "/data",
        "--ro-bind",
        "/usr/share",
        "/data",
        "--hostname",
        "inner",
    ]);
    let script = "echo $A$B; pwd; uname -n; touch x 2>/dev/null || echo read-only";
    let request = json!({ "id": 1, "argv": ["sh", "-c", script], "env": { "B": "2" } });
    assert_eq!(served.wrote(request), "12\n/data\ninner\nread-only\n");
    served.ends_well();
    // And what they do not give: this session has none of it.
    let mut served = Served::new(&[]);
    let other =
        json!({ "id": 1, "argv": ["sh", "-c", "echo $A; uname -n; test -e /data || echo no"] });
    assert_eq!(served.wrote(other), "\nstockade\nno\n");
    served.ends_well();
}

fn files_stay() {
    let mut served = Served::new(&[]);
    served.wrote(json!({ "id": 1, "argv": ["sh", "-c", "echo kept >/tmp/file"] }));
    assert_eq!(served.wrote(json!({ "id": 1, "argv": ["cat", "/tmp/file"] })), "kept\n");
    served.ends_well();
    assert_ne!(
        Served::new(&[]).done(json!({ "id": 1, "argv": ["cat", "/tmp/file"] }))["exit_code"],
        0
    );
}

fn answers_come_in_order_of_ends() {
    let mut served = Served::new(&[]);
    served.sh(1, "until test -e /tmp/go; do sleep 0.01; done; echo first");
    served.sh(2, "echo second");
    assert_eq!(served.answer()["stdout"], "second\n");
    served.sh(3, "touch /tmp/go");
    let mut ids = [served.answer(), served.answer()].map(|answer| answer["id"].as_u64().unwrap());
    ids.sort_unstable();
    assert_eq!(ids, [1, 3]);
    served.ends_well();
}

/// The same fields as `run --json` has, and the streams.
fn reports_are_those_of_run() {
    let mut served = Served::new(&[]);
    let script = "sleep 1000 & echo out; echo err >&2; exit 3";
    let answer = served.done(json!({ "id": "x", "argv": ["sh", "-c", script] }));
    served.ends_well();
    let run = format!("exec 3>&1 >/dev/null 2>&1; {STOCKADE} run --json 3 -- sh -c '{script}'");
    let output = Command::new("sh").args(["-c", &run]).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let names = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    let mut expected = names(&report);
    expected
        .extend(["id", "stdout", "stdout_truncated", "stderr", "stderr_truncated"].map(Into::into));
    expected.sort_unstable();
    assert_eq!(names(&answer), expected);
    for name in ["outcome", "exit_code", "code", "signal", "core_dumped", "left_count", "disk_full"]
    {
        assert_eq!(answer[name], report[name], "{name}");
    }
    assert_eq!((&answer["exit_code"], &answer["left_count"]), (&json!(3), &json!(1)));
    assert!(answer["left"][0]["pid"].as_u64().is_some(), "{answer}");
    assert!(answer["usage"]["wall_us"].as_u64().unwrap() > 0);
    assert_eq!((&answer["stdout"], &answer["stderr"]), (&json!("out\n"), &json!("err\n")));
}

fn what_does_not_start() {
    let mut served = Served::new(&[]);
    let answer = served.done(json!({ "id": 1, "argv": ["/no/such"] }));
    assert_eq!((&answer["outcome"], &answer["exit_code"]), (&json!("failed"), &json!(127)));
    assert_eq!((&answer["stage"], &answer["errno"]), (&json!("start"), &json!(libc::ENOENT)));
    let answer = served.done(json!({ "id": 1, "argv": ["/etc/passwd"] }));
    assert_eq!((&answer["outcome"], &answer["exit_code"]), (&json!("failed"), &json!(126)));
    let answer = served.done(json!({ "id": 1, "argv": ["true"], "cwd": "/no/such" }));
    assert_eq!((&answer["outcome"], &answer["exit_code"]), (&json!("failed"), &json!(125)));
    let answer = served.done(json!({ "id": 1, "argv": ["true", "a\0b"], "env": { "": "x" } }));
    assert_eq!(answer["outcome"], "failed");
    assert!(answer["error"].as_str().unwrap().contains("NUL"), "{answer}");
    assert_eq!(served.wrote(json!({ "id": 1, "argv": ["echo", "x"] })), "x\n");
    served.ends_well();
}

fn killed() {
    let mut served = Served::new(&[]);
    served.sh(1, "sleep 1000 & touch /tmp/up; sleep 1000");
    served.await_file("/tmp/up");
    served.ask(&json!({ "kill": 1 }));
    let answer = served.answer();
    assert_eq!((&answer["id"], &answer["outcome"]), (&json!(1), &json!("killed")), "{answer}");
    assert_eq!(answer["exit_code"], 137);
    // Nothing of it is left in the session.
    let others =
        json!({ "id": 2, "argv": ["sh", "-c", "grep -l sleep /proc/[0-9]*/comm || echo none"] });
    assert_eq!(served.wrote(others), "none\n");
    served.refused(r#"{"kill": 1}"#, json!(1), "no command with this id");
    served.refused(r#"{"kill": "never"}"#, json!("never"), "no command with this id");
    served.ends_well();
}

fn killed_before_the_start() {
    let mut served = Served::new(&["--jobs", "1"]);
    served.sh(1, "until test -e /tmp/go; do sleep 0.01; done");
    served.sh(2, "touch /tmp/done");
    served.refused(r#"{"kill": 2, "signal": 15}"#, json!(2), "has not started");
    served.ask(&json!({ "kill": 2 }));
    assert_eq!(served.answer(), json!({ "id": 2, "outcome": "killed", "exit_code": 137 }));
    served.ask(&json!({ "kill": 1 }));
    assert_eq!(served.answer()["outcome"], "killed");
    let done = json!({ "id": 2, "argv": ["sh", "-c", "test -e /tmp/done || echo no"] });
    assert_eq!(served.wrote(done), "no\n");
    served.ends_well();
}

fn signals() {
    let mut served = Served::new(&[]);
    served.sh(1, "trap 'exit 9' USR1; touch /tmp/up; while :; do sleep 0.01; done");
    served.await_file("/tmp/up");
    served.ask(&json!({ "kill": 1, "signal": libc::SIGUSR1 }));
    assert_eq!(served.answer()["exit_code"], 9);
    served.sh(1, "touch /tmp/again; sleep 1000");
    served.await_file("/tmp/again");
    served.ask(&json!({ "kill": 1, "signal": libc::SIGTERM }));
    let answer = served.answer();
    assert_eq!((&answer["outcome"], &answer["signal"]), (&json!("signaled"), &json!(15)));
    served.refused(r#"{"kill": 1, "signal": 0}"#, json!(1), "0 is no signal");
    served.ends_well();
}

fn time_limits() {
    let mut served = Served::new(&[]);
    let answer = served.done(json!({ "id": 1, "argv": ["sleep", "1000"], "timeout": "50ms" }));
    assert_eq!((&answer["outcome"], &answer["exit_code"]), (&json!("timed_out"), &json!(124)));
    let answer = served.done(json!({ "id": 1, "argv": ["sh", "-c", "exit 4"], "timeout": 1000 }));
    assert_eq!((&answer["outcome"], &answer["exit_code"]), (&json!("exited"), &json!(4)));
    served.ends_well();
    // That of the options is for each command.
    let mut served = Served::new(&["--timeout", "50ms"]);
    for _ in 0..2 {
        let answer = served.done(json!({ "id": 1, "argv": ["sleep", "1000"] }));
        assert_eq!((&answer["outcome"], &answer["exit_code"]), (&json!("timed_out"), &json!(124)));
    }
    served.ends_well();
}

fn kept_output() {
    let mut served = Served::new(&["--keep-output", "100000"]);
    let script = "head -c 100000 /dev/zero | tr '\\0' x; head -c 100001 /dev/zero | tr '\\0' y >&2";
    let answer = served.done(json!({ "id": 1, "argv": ["sh", "-c", script] }));
    assert_eq!(answer["exit_code"], 0);
    assert_eq!(
        (&answer["stdout"], &answer["stdout_truncated"]),
        (&json!("x".repeat(100_000)), &json!(false))
    );
    assert_eq!(
        (&answer["stderr"], &answer["stderr_truncated"]),
        (&json!("y".repeat(100_000)), &json!(true))
    );
    let answer = served.done(json!({ "id": 1, "argv": ["sh", "-c", script], "keep_output": 2 }));
    assert_eq!((&answer["stdout"], &answer["stdout_truncated"]), (&json!("xx"), &json!(true)));
    served.refused(
        r#"{"id": 1, "argv": ["true"], "keep_output": 100001}"#,
        json!(1),
        "more than the option --keep-output allows",
    );
    // A program that writes for ever is ended by its time, and by nothing else.
    let time = format!("{}ms", common::moment(100).as_millis());
    let answer = served.done(json!({ "id": 1, "argv": ["yes"], "timeout": time }));
    assert_eq!(
        (&answer["outcome"], &answer["stdout_truncated"]),
        (&json!("timed_out"), &json!(true))
    );
    served.ends_well();
}

fn standard_input_that_nobody_reads() {
    let mut served = Served::new(&[]);
    let much = "x".repeat(500_000);
    assert_eq!(served.wrote(json!({ "id": 1, "argv": ["true"], "stdin": much })), "");
    assert_eq!(served.wrote(json!({ "id": 1, "argv": ["wc", "-c"], "stdin": much })), "500000\n");
    let answer = served
        .done(json!({ "id": 1, "argv": ["sleep", "1000"], "stdin": much, "timeout": "50ms" }));
    assert_eq!(answer["outcome"], "timed_out");
    served.ends_well();
}

fn so_many_at_a_time() {
    let mut served = Served::new(&["--jobs", "2", "--queue", "1"]);
    let waits = "until test -e /tmp/go; do sleep 0.01; done";
    served.sh(1, waits);
    served.sh(2, waits);
    served.sh(3, waits);
    served.refused(r#"{"id": 4, "argv": ["true"]}"#, json!(4), "too many commands wait");
    // There is no room for whoever would tell them to go: one is killed.
    served.ask(&json!({ "kill": 1 }));
    assert_eq!(served.answer()["id"], 1);
    served.sh(4, "touch /tmp/go");
    served.ask(&json!({ "kill": 3 }));
    let mut ids =
        [served.answer(), served.answer(), served.answer()].map(|answer| answer["id"].as_u64());
    ids.sort_unstable();
    assert_eq!(ids, [Some(2), Some(3), Some(4)]);
    served.ends_well();
}

fn ids_that_run() {
    let mut served = Served::new(&[]);
    served.sh(1, "sleep 1000");
    served.refused(r#"{"id": 1, "argv": ["true"]}"#, json!(1), "has not ended");
    // A string is another id.
    assert_eq!(served.wrote(json!({ "id": "1", "argv": ["echo", "x"] })), "x\n");
    served.ask(&json!({ "kill": 1 }));
    assert_eq!(served.answer()["outcome"], "killed");
    assert_eq!(served.wrote(json!({ "id": 1, "argv": ["echo", "x"] })), "x\n");
    served.ends_well();
}

fn malformed_lines() {
    let mut served = Served::new(&[]);
    served.refused("garbage", Value::Null, "expected value");
    served.refused("[]", Value::Null, "not an object");
    served.refused(r#"{"argv": ["true"]}"#, Value::Null, "the id");
    served.refused(r#"{"id": null, "argv": ["true"]}"#, Value::Null, "the id");
    served.refused(r#"{"id": 1}"#, json!(1), "missing field `argv`");
    served.refused(r#"{"id": 1, "argv": []}"#, json!(1), "no program");
    served.refused(r#"{"id": 1, "argv": "true"}"#, json!(1), "invalid type");
    served.refused(r#"{"id": 1, "argv": ["true"], "user": 0}"#, json!(1), "unknown field `user`");
    served.refused(r#"{"id": 1, "argv": ["true"], "timeout": "-1s"}"#, json!(1), "timeout: ");
    served.refused(
        r#"{"id": 1, "argv": ["true"], "stdin": {"base64": "!"}}"#,
        json!(1),
        "not base64",
    );
    served.refused(&"[".repeat(10_000), Value::Null, "recursion");
    served.raw(b"\xff\xfe\n");
    assert_eq!(served.answer()["outcome"], "refused");
    served.raw(b"\n  \n\r\n");
    assert_eq!(served.wrote(json!({ "id": 1, "argv": ["echo", "x"] })), "x\n");
    served.ends_well();
}

fn lines_that_are_too_long() {
    let mut served = Served::new(&["--max-line", "100000"]);
    let line = |length: usize| {
        let bare = json!({ "id": 1, "argv": ["wc", "-c"], "stdin": "" }).to_string().len();
        json!({ "id": 1, "argv": ["wc", "-c"], "stdin": "x".repeat(length - bare) })
    };
    assert!(served.wrote(line(100_000)).starts_with("99"));
    served.refused(&line(100_001).to_string(), Value::Null, "more than 100000 bytes");
    served.refused(&line(1_000_000).to_string(), Value::Null, "more than 100000 bytes");
    assert!(served.wrote(line(1000)).starts_with("9"));
    served.ends_well();
}

fn the_last_line_need_not_end() {
    let mut served = Served::new(&[]);
    served.raw(br#"{"id": 1, "argv": ["echo", "x"]}"#);
    let (code, answers, _) = served.end();
    assert_eq!((code, &answers[0]["stdout"]), (Some(0), &json!("x\n")));
    assert_eq!(answers[1..], [json!({ "session": "ended" })]);
}

fn end_of_input_waits() {
    let mut served = Served::new(&["--jobs", "1"]);
    served.sh(1, "sleep 0.2; echo slow");
    served.sh(2, "echo queued");
    let (code, answers, _) = served.end();
    assert_eq!(code, Some(0));
    assert_eq!(
        (&answers[0]["stdout"], &answers[1]["stdout"]),
        (&json!("slow\n"), &json!("queued\n"))
    );
    assert_eq!(answers[2..], [json!({ "session": "ended" })]);
}

/// A program that kills all that it sees takes its own command along, and no more than others' of the session.
fn all_killed_inside() {
    let mut served = Served::new(&[]);
    let answer = served.done(json!({ "id": 1, "argv": ["sh", "-c", "kill -9 -1; sleep 1000"] }));
    assert_ne!(answer["outcome"], "exited", "{answer}");
    assert_eq!(served.wrote(json!({ "id": 1, "argv": ["echo", "x"] })), "x\n");
    served.ends_well();
}

fn a_session_that_dies() {
    let mut served = Served::new(&["--jobs", "1"]);
    served.sh(1, "sleep 1000");
    served.sh(2, "echo never");
    // Both have been read when this is answered.
    served.refused("[]", Value::Null, "not an object");
    life::signal(served.init, libc::SIGKILL);
    // Its input is still open.
    let answers = [served.answer(), served.answer(), served.answer()];
    let [first, second, last] = &answers;
    assert_eq!(first["id"], 1);
    assert_ne!(first["outcome"], "exited", "{first}");
    assert_eq!((&second["id"], &second["outcome"]), (&json!(2), &json!("failed")), "{second}");
    assert_eq!((&last["session"], &last["exit_code"]), (&json!("failed"), &json!(125)), "{last}");
    assert_eq!(last["errno"], libc::ESRCH, "{last}");
    let output = served.process.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(125));
    assert!(String::from_utf8(output.stderr).unwrap().starts_with("stockade: end session"));
}

fn is_there(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

fn a_client_that_goes() {
    for busy in [false, true] {
        let mut served = Served::new(&[]);
        if busy {
            served.sh(1, "sleep 1000");
        }
        assert!(is_there(served.init));
        // The input stays open; only nobody listens any more.
        drop(served.output);
        assert_eq!(served.process.wait().unwrap().code(), Some(125));
        assert!(!is_there(served.init));
    }
}

fn killed_itself() {
    let mut served = Served::new(&[]);
    served.sh(1, "sleep 1000");
    assert!(is_there(served.init));
    served.process.kill().unwrap();
    served.process.wait().unwrap();
    while is_there(served.init) {
        std::thread::sleep(moment(1));
    }
}

fn set_up_that_fails() {
    for (options, reason) in [
        (&["--hostname", ""][..], "host name"),
        (&["--no-init"], "only an init"),
        (&["--cpu-time", "1s"], "no limit of CPU time"),
        (&["--tty"], "'--tty' is for one program"),
    ] {
        let (code, answers, said) = Served::started(options).end();
        assert_eq!(code, Some(125), "{options:?}: {answers:?}");
        assert_eq!(answers.len(), 1, "{options:?}: {answers:?}");
        assert_eq!(answers[0]["session"], "failed", "{answers:?}");
        assert!(answers[0]["error"].as_str().unwrap().contains(reason), "{options:?}: {answers:?}");
        assert!(said.starts_with("stockade: ") && said.contains(reason), "{said}");
    }
}

fn wrong_usage() {
    for options in [
        &["--jobs", "0"][..],
        &["--queue", "-1"],
        &["--max-line", "0"],
        &["--", "true"],
        &["--learn"],
    ] {
        let (code, answers, said) = Served::started(options).end();
        assert_eq!((code, answers.len()), (Some(125), 0), "{options:?}");
        assert!(said.starts_with("stockade: ") && said.contains("hint: "), "{options:?}: {said}");
    }
}
