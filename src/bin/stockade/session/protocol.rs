//! The lines that `stockade session` reads and writes.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::base64;
use crate::values;

/// What a line asks for.
#[derive(Debug)]
pub(super) enum Request {
    Start(Box<Job>),
    /// A signal for the program of this id, or the end of it and of all that it has started.
    Kill {
        id: Value,
        signal: Option<u8>,
    },
}

/// A command to start.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) id: Value,
    pub(super) program: OsString,
    pub(super) args: Vec<OsString>,
    pub(super) argv0: Option<OsString>,
    /// `None` takes one away.
    pub(super) env: Vec<(String, Option<OsString>)>,
    pub(super) clear_env: bool,
    pub(super) cwd: Option<OsString>,
    pub(super) umask: Option<u32>,
    pub(super) stdin: Option<Vec<u8>>,
    pub(super) timeout: Option<Duration>,
    pub(super) keep_output: Option<u64>,
}

/// The same as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Start {
    id: Value,
    argv: Vec<Bytes>,
    argv0: Option<Bytes>,
    #[serde(default)]
    env: BTreeMap<String, Option<Bytes>>,
    #[serde(default)]
    clear_env: bool,
    cwd: Option<Bytes>,
    umask: Option<String>,
    stdin: Option<Bytes>,
    timeout: Option<Amount>,
    keep_output: Option<Amount>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kill {
    kill: Value,
    signal: Option<u8>,
}

/// A value as options have it, or a whole number.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected a string or a whole number")]
enum Amount {
    Text(String),
    Number(u64),
}

/// A JSON string, or base64 of what is none.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected a string or {\"base64\": …}")]
enum Bytes {
    Text(String),
    Encoded(Encoded),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Encoded {
    base64: String,
}

/// Why a line cannot be followed, and whom that is to be told.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) id: Value,
    pub(super) reason: String,
}

impl Amount {
    fn text(&self) -> String {
        match self {
            Amount::Text(text) => text.clone(),
            Amount::Number(number) => number.to_string(),
        }
    }
}

impl Bytes {
    fn get(self) -> Result<Vec<u8>, String> {
        match self {
            Bytes::Text(text) => Ok(text.into()),
            Bytes::Encoded(Encoded { base64 }) => {
                base64::decode(&base64).ok_or_else(|| "not base64".to_owned())
            }
        }
    }

    fn os(self) -> Result<OsString, String> {
        self.get().map(OsString::from_vec)
    }
}

/// Names the field in an error.
fn named<T>(name: &str, result: Result<T, String>) -> Result<T, String> {
    result.map_err(|reason| format!("{name}: {reason}"))
}

impl Start {
    fn decode(self) -> Result<Job, String> {
        let argv = self.argv.into_iter().map(Bytes::os).collect::<Result<Vec<_>, _>>();
        let mut argv = named("argv", argv)?.into_iter();
        let variable = |(name, value): (String, Option<Bytes>)| {
            let value = named("env", value.map(Bytes::os).transpose())?;
            Ok::<_, String>((name, value))
        };
        let timeout = self.timeout.map(|time| values::limit(&time.text())).transpose();
        let kept = self.keep_output.map(|size| values::size(&size.text())).transpose();
        Ok(Job {
            id: self.id,
            program: argv.next().ok_or("argv: no program")?,
            args: argv.collect(),
            argv0: named("argv0", self.argv0.map(Bytes::os).transpose())?,
            env: self.env.into_iter().map(variable).collect::<Result<_, _>>()?,
            clear_env: self.clear_env,
            cwd: named("cwd", self.cwd.map(Bytes::os).transpose())?,
            umask: named("umask", self.umask.map(|mask| values::mask(&mask)).transpose())?,
            stdin: named("stdin", self.stdin.map(Bytes::get).transpose())?,
            timeout: named("timeout", timeout)?,
            keep_output: named("keep_output", kept)?,
        })
    }
}

/// What a line says.
pub(super) fn parse(line: &[u8]) -> Result<Request, Refused> {
    let nobody = |reason: String| Refused { id: Value::Null, reason };
    let value: Value = serde_json::from_slice(line).map_err(|error| nobody(error.to_string()))?;
    let Value::Object(fields) = &value else {
        return Err(nobody("not an object".to_owned()));
    };
    let kills = fields.contains_key("kill");
    let id = fields.get(if kills { "kill" } else { "id" }).cloned().unwrap_or_default();
    if !(id.is_string() || id.is_i64() || id.is_u64()) {
        return Err(nobody("the id is no string and no whole number".to_owned()));
    }
    let wrong = |reason| Refused { id: id.clone(), reason };
    if kills {
        let read = serde_json::from_value(value);
        let Kill { kill, signal } = read.map_err(|error| wrong(error.to_string()))?;
        return match signal {
            Some(signal) if !(1..=64).contains(&signal) => {
                Err(wrong(format!("{signal} is no signal")))
            }
            signal => Ok(Request::Kill { id: kill, signal }),
        };
    }
    let start: Start = serde_json::from_value(value).map_err(|error| wrong(error.to_string()))?;
    start.decode().map_err(wrong).map(|job| Request::Start(Box::new(job)))
}

/// The answer to a line that cannot be followed.
pub(super) fn refused(refused: &Refused) -> Value {
    json!({ "id": refused.id, "outcome": "refused", "error": refused.reason })
}

/// A report with whom it is for, and more fields.
pub(super) fn answer(name: &str, of: Value, report: Value, more: &[(&str, Value)]) -> Value {
    let mut fields = Map::from_iter([(name.to_owned(), of)]);
    if let Value::Object(report) = report {
        fields.extend(report);
    }
    fields.extend(more.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    Value::Object(fields)
}

/// Bytes as a string, or in base64 if they are none.
pub(super) fn bytes(bytes: Vec<u8>) -> Value {
    match String::from_utf8(bytes) {
        Ok(text) => Value::String(text),
        Err(error) => json!({ "base64": base64::encode(error.as_bytes()) }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn job(line: &str) -> Job {
        match parse(line.as_bytes()) {
            Ok(Request::Start(job)) => *job,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn what_is_asked_for_is_read() {
        let all = job(
            r#"{"id": 7, "argv": ["a", {"base64": "/w=="}], "argv0": "x", "env": {"A": "1", "B": null},
                "clear_env": true, "cwd": "/tmp", "umask": "077", "stdin": "é", "timeout": "500ms",
                "keep_output": "4k"}"#,
        );
        assert_eq!((all.id, all.program), (json!(7), "a".into()));
        assert_eq!(all.args, [OsString::from_vec(vec![0xff])]);
        assert_eq!(all.argv0, Some("x".into()));
        assert_eq!(all.env, [("A".to_owned(), Some("1".into())), ("B".to_owned(), None)]);
        assert!(all.clear_env);
        assert_eq!((all.cwd, all.umask), (Some("/tmp".into()), Some(0o77)));
        assert_eq!(all.stdin, Some("é".into()));
        assert_eq!(all.timeout, Some(Duration::from_millis(500)));
        assert_eq!(all.keep_output, Some(4096));
        let numbers = job(r#"{"id": "x", "argv": ["a"], "timeout": 2, "keep_output": 10}"#);
        assert_eq!(numbers.timeout, Some(Duration::from_secs(2)));
        assert_eq!(numbers.keep_output, Some(10));
        assert!(matches!(
            parse(br#"{"kill": "x", "signal": 15}"#),
            Ok(Request::Kill { id, signal: Some(15) }) if id == "x"
        ));
    }

    #[test]
    fn who_is_told_what_is_wrong() {
        for (line, id, reason) in [
            ("", Value::Null, "EOF"),
            ("[]", Value::Null, "not an object"),
            (r#"{"argv": ["a"]}"#, Value::Null, "the id is no string"),
            (r#"{"id": 1.5, "argv": ["a"]}"#, Value::Null, "the id is no string"),
            (r#"{"kill": []}"#, Value::Null, "the id is no string"),
            (r#"{"id": 1}"#, json!(1), "missing field `argv`"),
            (r#"{"id": 1, "argv": []}"#, json!(1), "argv: no program"),
            (r#"{"id": 1, "argv": ["a"], "more": 2}"#, json!(1), "unknown field `more`"),
            (r#"{"id": 1, "argv": [{"base64": "", "x": 1}]}"#, json!(1), "expected a string or"),
            (r#"{"id": 1, "argv": [{"base64": "?"}]}"#, json!(1), "argv: not base64"),
            (r#"{"id": 1, "argv": ["a"], "umask": "8"}"#, json!(1), "umask: not an octal"),
            (r#"{"id": 1, "argv": ["a"], "umask": 77}"#, json!(1), "expected a string"),
            (r#"{"id": 1, "argv": ["a"], "timeout": 0}"#, json!(1), "timeout: leaves no time"),
            (r#"{"id": 1, "argv": ["a"], "timeout": 1.5}"#, json!(1), "a whole number"),
            (
                r#"{"id": 1, "argv": ["a"], "keep_output": "x"}"#,
                json!(1),
                "keep_output: not a size",
            ),
            (r#"{"kill": 1, "signal": 300}"#, json!(1), "expected u8"),
            (r#"{"kill": 1, "signal": 65}"#, json!(1), "65 is no signal"),
            (r#"{"kill": 1, "id": 1}"#, json!(1), "unknown field `id`"),
        ] {
            let refused = parse(line.as_bytes()).unwrap_err();
            assert_eq!(refused.id, id, "{line}");
            assert!(refused.reason.contains(reason), "{line}: {}", refused.reason);
        }
    }

    #[test]
    fn what_is_no_text_is_encoded() {
        assert_eq!(bytes("é".into()), json!("é"));
        assert_eq!(bytes(vec![0xff]), json!({ "base64": "/w==" }));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_line_ends_in_a_panic(
            line: Vec<u8>,
            near in r#"\{"(id|kill)": ?[0-9a"\[]{0,4}, ?"argv": ?\[("a"|\{"base64": ?"[A-Z=]*"\})?\]\}?"#,
        ) {
            drop(parse(&line));
            drop(parse(near.as_bytes()));
        }
    }
}
