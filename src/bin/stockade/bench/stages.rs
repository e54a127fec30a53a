//! Where the time of a start goes, as the library's own log tells.

use std::time::Duration;

/// How the library's messages begin, and what is done meanwhile.
const STAGES: [(&str, &str); 8] = [
    ("prepare: lowered", "look at the host, make the plan"),
    ("prepare: streams", "open streams, copy trees"),
    ("cgroup:", "control groups"),
    ("launch:", "clone, exec of init"),
    ("join:", "join namespaces"),
    ("identity:", "id maps, plan to init"),
    ("setup:", "wait for init's set-up"),
    ("start:", "wait for the exec"),
];

/// What of the whole is in none of the stages.
const OTHER: &str = "all else";

/// The names of the rows.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    STAGES.into_iter().map(|(_, name)| name).chain([OTHER])
}

/// How long each stage took in a start that took so long, in the order of their names; `None` for what it does
/// not have.
pub(super) fn of(messages: &[String], whole: Duration) -> Vec<Option<Duration>> {
    let of_stage = |(start, _): (&str, _)| {
        let own = messages.iter().filter(|message| message.starts_with(start));
        own.filter_map(|message| time_in(message)).reduce(|sum, time| sum + time)
    };
    let mut times: Vec<_> = STAGES.into_iter().map(of_stage).collect();
    let known: Duration = times.iter().flatten().sum();
    times.push(Some(whole.saturating_sub(known)));
    times
}

/// The time that a message tells.
fn time_in(message: &str) -> Option<Duration> {
    message.split_whitespace().rev().find_map(duration)
}

/// As `Debug` writes it.
fn duration(word: &str) -> Option<Duration> {
    let digits = word.find(|c: char| !c.is_ascii_digit() && c != '.')?;
    let (number, unit) = word.split_at(digits);
    let number: f64 = number.parse().ok()?;
    let seconds = match unit {
        "ns" => 1e-9,
        "µs" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        _ => return None,
    };
    Duration::try_from_secs_f64(number * seconds).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_they_are_written() {
        for nanos in [0, 7, 1_500, 123_456, 1_000_000, 2_345_678, 1_200_000_000, 90_000_000_000] {
            let time = Duration::from_nanos(nanos);
            let read = duration(&format!("{time:?}")).unwrap();
            assert!(read.abs_diff(time) <= Duration::from_nanos(1), "{time:?}: {read:?}");
        }
        for word in ["", "7", "s", "init", "1.2.3ms", "5x", "-1ms"] {
            assert_eq!(duration(word), None, "{word}");
        }
    }

    #[test]
    fn stages_and_the_rest_make_the_whole() {
        let messages = [
            "prepare: lowered to 70 operations in 200µs",
            "cgroup: 2 groups made in 30µs",
            "cgroup: attached in 20µs",
            "setup: waited 1ms for init",
            "spawned as 17 in 9ms in all",
        ];
        let times = of(&messages.map(str::to_owned), Duration::from_millis(2));
        let micros: Vec<_> = times.iter().map(|time| time.map(|time| time.as_micros())).collect();
        let none = None;
        assert_eq!(
            micros,
            [Some(200), none, Some(50), none, none, none, Some(1000), none, Some(750)]
        );
        assert_eq!(names().count(), micros.len());
    }
}
