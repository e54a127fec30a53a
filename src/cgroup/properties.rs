//! What holds for whatever the kernel, or a caller, may write: properties of the parsers.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;

use super::CgroupVersion;
use super::cpuset::parse_list;
use super::hierarchy::{CgroupMount, Membership, parse_memberships, parse_mountinfo, unescape};
use super::stats::{IoStats, Pressure, parse_blkio, parse_io_stat, parse_keyed, parse_pressure};

/// A text with an octal escape for each byte of these.
fn escaped(text: &[u8], special: &[u8]) -> Vec<u8> {
    let mut written = Vec::new();
    for &byte in text {
        match special.contains(&byte) {
            true => written.extend(format!("\\{byte:03o}").bytes()),
            false => written.push(byte),
        }
    }
    written
}

/// An absolute path with all that a path can hold.
fn paths() -> impl Strategy<Value = PathBuf> {
    let letters = proptest::sample::select(b"abc/ \t\n\\:,-#()0147\xff\x01".to_vec());
    let any = prop_oneof![3 => letters, 1 => 1u8..];
    proptest::collection::vec(any, 0..24)
        .prop_map(|rest| PathBuf::from(OsString::from_vec([b"/", rest.as_slice()].concat())))
}

fn options() -> impl Strategy<Value = Vec<String>> {
    let known =
        ["rw", "cpu", "cpuacct", "memory", "nsdelegate", "xattr", "name=systemd", "name=a b"];
    proptest::collection::vec(proptest::sample::select(known.to_vec()), 1..4)
        .prop_map(|words| words.into_iter().map(str::to_owned).collect())
}

fn mounts() -> impl Strategy<Value = CgroupMount> {
    let version = prop_oneof![Just(CgroupVersion::V1), Just(CgroupVersion::V2)];
    (version, paths(), paths(), any::<bool>(), options()).prop_map(
        |(version, root, point, read_only, options)| CgroupMount {
            version,
            root,
            point,
            read_only,
            options,
        },
    )
}

/// A line as the kernel's `show_mountinfo` has it.
fn mountinfo_line(mount: &CgroupMount, optional: &str) -> Vec<u8> {
    let path = |path: &Path| escaped(path.as_os_str().as_bytes(), b" \t\n\\");
    let kind = match mount.version {
        CgroupVersion::V1 => "cgroup",
        CgroupVersion::V2 => "cgroup2",
    };
    let options = escaped(mount.options.join(",").as_bytes(), b" \t\n\\");
    let flags = if mount.read_only { "ro,nosuid" } else { "rw,nosuid" };
    let (root, point) = (path(&mount.root), path(&mount.point));
    let parts: [&[u8]; 5] = [b"31 23 0:28", &root, &point, flags.as_bytes(), optional.as_bytes()];
    let rest = [b"-", kind.as_bytes(), b"no\\040source", &options];
    let words: Vec<&[u8]> = parts.into_iter().chain(rest).filter(|word| !word.is_empty()).collect();
    [words.join(&b' '), vec![b'\n']].concat()
}

/// Mounts of something else, lines cut off, and nothing.
fn other_lines() -> impl Strategy<Value = String> {
    proptest::sample::select(vec![
        "",
        "22 1 8:1 / / rw shared:1 - ext4 /dev/sda1 rw\n",
        "31 1 0:28 / /cgroup2 rw - tmpfs cgroup2 rw,mode=755\n",
        "31 1 0:28 / /a rw - cgroup2 none\n",
        "31 1 0:28 / /a rw cgroup none rw\n",
        "\n",
    ])
    .prop_map(str::to_owned)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mounts_are_read_as_they_are_written(
        mounts in proptest::collection::vec(mounts(), 0..6),
        optional in proptest::sample::select(vec!["", "shared:9", "shared:9 master:2", "unbindable"]),
        between in other_lines(),
    ) {
        let lines = mounts.iter().map(|mount| {
            [between.clone().into_bytes(), mountinfo_line(mount, optional)].concat()
        });
        let text: Vec<u8> = lines.flatten().chain(between.bytes()).collect();
        prop_assert_eq!(parse_mountinfo(&text), mounts);
    }

    #[test]
    fn memberships_are_read_as_they_are_written(
        groups in proptest::collection::vec((any::<u32>(), options(), paths(), any::<bool>()), 0..6),
    ) {
        // In /proc/PID/cgroup only a line feed is escaped; a name may well end like the mark.
        let plain = |path: &Path| !path.as_os_str().as_bytes().ends_with(b" (deleted)")
            && !path.as_os_str().as_bytes().contains(&b'\n');
        let groups: Vec<_> = groups.into_iter().filter(|(_, _, path, _)| plain(path)).collect();
        let mut text = Vec::new();
        for (number, names, path, deleted) in &groups {
            text.extend(format!("{number}:{}:", names.join(",")).bytes());
            text.extend(path.as_os_str().as_bytes());
            text.extend(if *deleted { " (deleted)\n" } else { "\n" }.bytes());
        }
        let expected: Vec<_> = groups.into_iter().map(|(hierarchy, controllers, path, _)| {
            Membership { hierarchy, controllers, path }
        }).collect();
        prop_assert_eq!(parse_memberships(&text), expected);
    }

    #[test]
    fn escaping_is_undone(text: Vec<u8>, more: Vec<u8>) {
        let special = [b" \t\n\\".as_slice(), &more].concat();
        prop_assert_eq!(unescape(&escaped(&text, &special)), text);
    }

    #[test]
    fn lists_are_read_as_they_are_written(numbers: BTreeSet<u16>, twice: bool, newline: bool) {
        // As the kernel writes them: the longest ranges, in order.
        let mut ranges: Vec<(u16, u16)> = Vec::new();
        for &number in &numbers {
            match ranges.last_mut() {
                Some((_, last)) if number.checked_sub(1) == Some(*last) => *last = number,
                _ => ranges.push((number, number)),
            }
        }
        // As a caller may: again, and the other way round.
        if twice {
            ranges.extend(ranges.clone().into_iter().rev());
        }
        let words = ranges.iter().map(|(first, last)| match first == last {
            true => first.to_string(),
            false => format!("{first}-{last}"),
        });
        let list = words.collect::<Vec<_>>().join(",") + if newline { "\n" } else { "" };
        prop_assert_eq!(parse_list(&list), Some(numbers));
    }

    #[test]
    fn what_is_no_list_is_refused(
        list in "[0-9]{1,6}(-[0-9]{1,6})?",
        bad in proptest::sample::select(vec!["+1", "-", "1-", "-1", "1--2", "2-1", "1:2", "0x1", "1 2", ",", "a"]),
    ) {
        prop_assert_eq!(parse_list(&format!("{list},{bad}")), None);
        prop_assert_eq!(parse_list(&format!("{bad},{list}")), None);
    }

    #[test]
    fn statistics_are_read_as_they_are_written(
        numbers in proptest::collection::btree_map("[a-z_]{1,12}", any::<u64>(), 0..12),
        other in proptest::sample::select(vec!["", "word\n", "two words\n", "minus -1\n", "\n", "big 99999999999999999999\n"]),
    ) {
        let mut text = other.to_owned();
        for (key, number) in &numbers {
            text += &format!("{key} {number}\n{other}");
        }
        prop_assert_eq!(parse_keyed(&text), numbers);
    }

    #[test]
    fn pressure_is_read_as_it_is_written(some: u64, full: Option<u64>) {
        let line = |kind, total| {
            format!("{kind} avg10=0.12 avg60=3.40 avg300=99.99 total={total}\n")
        };
        let text = line("some", some) + &full.map(|full| line("full", full)).unwrap_or_default();
        let full = full.map(Duration::from_micros);
        let some = Duration::from_micros(some);
        prop_assert_eq!(parse_pressure(&text), Some(Pressure { some, full }));
    }

    #[test]
    fn devices_are_read_as_they_are_written(
        numbers in proptest::collection::btree_map(any::<(u32, u32)>(), any::<[u64; 4]>(), 0..6),
    ) {
        let numbers: BTreeMap<_, _> = numbers;
        let (mut v2, mut bytes, mut operations) = (String::new(), String::new(), String::new());
        let mut expected = Vec::new();
        for ((major, minor), [read_bytes, write_bytes, reads, writes]) in numbers {
            let device = format!("{major}:{minor}");
            v2 += &format!(
                "{device} rbytes={read_bytes} wbytes={write_bytes} rios={reads} wios={writes} \
                 dbytes=5 dios=6 cost.usage=7\n"
            );
            for (text, read, write) in
                [(&mut bytes, read_bytes, write_bytes), (&mut operations, reads, writes)]
            {
                *text += &format!("{device} Read {read}\n{device} Write {write}\n");
                *text += &format!("{device} Sync 1\n{device} Async 2\n{device} Total 3\n");
            }
            let device = (major, minor);
            let mut stats = IoStats { device, ..IoStats::default() };
            (stats.read_bytes, stats.write_bytes) = (read_bytes, write_bytes);
            (stats.reads, stats.writes) = (reads, writes);
            expected.push(stats);
        }
        for text in [&mut bytes, &mut operations] {
            *text += "Total 17\n";
        }
        prop_assert_eq!(parse_io_stat(&v2), expected.clone());
        prop_assert_eq!(parse_blkio(&bytes, &operations), expected);
    }

    #[test]
    fn nothing_that_is_read_ends_in_a_panic(bytes: Vec<u8>, text in "[ -~\n]{0,64}") {
        for input in [&bytes, text.as_bytes()] {
            drop(parse_mountinfo(input));
            drop(parse_memberships(input));
            prop_assert!(unescape(input).len() <= input.len());
        }
        drop(parse_list(&text));
        let lossy = String::from_utf8_lossy(&bytes);
        for text in [text.as_str(), &lossy] {
            drop((parse_keyed(text), parse_io_stat(text), parse_blkio(text, text)));
            let _none_or_some = parse_pressure(text);
        }
    }
}
