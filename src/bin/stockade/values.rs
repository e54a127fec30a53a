//! Values of options: durations, sizes, pairs.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::time::Duration;

use stockade::{
    BlockDevice, Capability, CapabilitySet, CgroupParent, DeviceRule, Feature, IoLimit, Limit, Max,
    Namespaces, Resource, Seccomp, View,
};

/// `500ms`, `10s`, `2m`, `1h`, `1d`, several of them in a row (`1m30s`); a bare number is seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse() {
        return Ok(Duration::from_secs(seconds));
    }
    let wrong = || "not a duration such as 500ms, 10s, 2m or 1h".to_owned();
    let (mut total, mut rest) = (Duration::ZERO, text);
    while !rest.is_empty() {
        let (number, unit);
        (number, rest) = split_digits(rest);
        (unit, rest) = rest.split_at(rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len()));
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let millis = match unit {
            "ms" => Some(number),
            "s" => number.checked_mul(1000),
            "m" => number.checked_mul(60 * 1000),
            "h" => number.checked_mul(3600 * 1000),
            "d" => number.checked_mul(24 * 3600 * 1000),
            _ => return Err(wrong()),
        };
        let part = millis.map(Duration::from_millis);
        total = part.and_then(|part| total.checked_add(part)).ok_or("too long")?;
    }
    if text.is_empty() { Err(wrong()) } else { Ok(total) }
}

/// `cpus=2,memory=1g,uptime=1h,boot-id=ID`, or nothing.
pub(crate) fn view(text: &str) -> Result<View, String> {
    let mut view = View::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (key, value) = part.split_once('=').ok_or("not KEY=VALUE")?;
        view = match key {
            "cpus" => view.cpus(value.parse().map_err(|_| "not a number of processors")?),
            "memory" => view.memory(room(value)?),
            "uptime" => view.uptime(duration(value)?),
            "boot-id" => view.boot_id(value),
            _ => return Err(format!("{key:?} is none of cpus, memory, uptime, boot-id")),
        };
    }
    Ok(view)
}

/// A duration above zero.
pub(crate) fn limit(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("leaves no time to run".to_owned()),
        limit => Ok(limit),
    }
}

fn split_digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

/// A number of bytes: `4096`, `512k`, `64mb`, `1.5GiB`; the units are powers of 1024.
pub(crate) fn size(text: &str) -> Result<u64, String> {
    let wrong = || "not a size such as 4096, 512k, 64m or 1.5g".to_owned();
    let large = || "too large".to_owned();
    let (whole, rest) = split_digits(text);
    let (fraction, unit) = rest.strip_prefix('.').map_or(("", rest), split_digits);
    let shift = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        "p" | "pb" | "pib" => 50,
        _ => return Err(wrong()),
    };
    let is_fraction = rest.starts_with('.');
    // Nobody means a part of a byte; more digits than these say nothing.
    if is_fraction && (shift == 0 || !(1..=18).contains(&fraction.len())) || whole.is_empty() {
        return Err(wrong());
    }
    let whole: u64 = whole.parse().map_err(|_| large())?;
    let mut bytes = u128::from(whole) << shift;
    if is_fraction {
        let scale = fraction.bytes().fold(1u128, |scale, _| scale * 10);
        bytes += (fraction.parse::<u128>().map_err(|_| wrong())? << shift) / scale;
    }
    u64::try_from(bytes).map_err(|_| large())
}

/// A size above zero, which the kernel would take for "no limit".
pub(crate) fn room(text: &str) -> Result<u64, String> {
    match size(text)? {
        0 => Err("0 would mean \"no limit\"".to_owned()),
        bytes => Ok(bytes),
    }
}

/// A size, or -1.
pub(crate) fn size_or_any(text: &str) -> Result<Max, String> {
    if text == "-1" { Ok(Max::Unlimited) } else { size(text).map(Max::At) }
}

/// `DEV:rbps=4m,wbps=…,riops=…,wiops=…`, where the device is a path or `major:minor`.
pub(crate) fn io_limit(text: &str) -> Result<(BlockDevice, IoLimit), String> {
    let wrong = || "not of the form DEV:rbps=4m,wbps=4m,riops=100,wiops=100".to_owned();
    let (device, keys) =
        text.rsplit_once(':').filter(|(name, _)| !name.is_empty()).ok_or_else(wrong)?;
    let mut limit = IoLimit::new();
    for part in keys.split(',') {
        let (key, number) = part.split_once('=').ok_or_else(wrong)?;
        let number = room(number)?;
        limit = match key {
            "rbps" => limit.read_bytes(number),
            "wbps" => limit.write_bytes(number),
            "riops" => limit.read_operations(number),
            "wiops" => limit.write_operations(number),
            _ => return Err(wrong()),
        };
    }
    Ok((device.into(), limit))
}

/// `c 10:229 rwm`, as the kernel writes it; `*` is any number.
pub(crate) fn device(text: &str) -> Result<DeviceRule, String> {
    let wrong = || "not of the form \"c 10:229 rwm\"".to_owned();
    let words: Vec<_> = text.split_whitespace().collect();
    let (kind, numbers, access) = match words[..] {
        [kind, numbers] => (kind, numbers, "rwm"),
        [kind, numbers, access] => (kind, numbers, access),
        _ => return Err(wrong()),
    };
    let number = |text: &str| match text {
        "*" => Ok(None),
        number => number.parse::<u32>().map(Some).map_err(|_| wrong()),
    };
    let (major, minor) = numbers.split_once(':').ok_or_else(wrong)?;
    let (major, minor) = (number(major)?, number(minor)?);
    let rule = match kind {
        "c" => DeviceRule::char(major, minor),
        "b" => DeviceRule::block(major, minor),
        _ => return Err(wrong()),
    };
    Ok(rule.access(access))
}

/// `FILE=DATA`.
pub(crate) fn raw(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').ok_or("not of the form FILE=DATA")?;
    Ok((pair.0.to_owned(), pair.1.to_owned()))
}

/// A place for a tmpfs, and how large it may grow.
#[derive(Debug, Clone)]
pub(crate) struct Scratch {
    pub(crate) path: PathBuf,
    pub(crate) size: Option<u64>,
}

/// `DST` or `DST:SIZE`.
pub(crate) fn scratch(text: OsString) -> Result<Scratch, String> {
    match split(&text, b':', Side::Last) {
        None => Ok(Scratch { path: text.into(), size: None }),
        Some((path, size)) => {
            let size = size.to_str().ok_or("the size is not UTF-8")?;
            Ok(Scratch { path: path.into(), size: Some(room(size)?) })
        }
    }
}

/// `K=V`.
pub(crate) fn variable(text: OsString) -> Result<(OsString, OsString), String> {
    match split(&text, b'=', Side::First) {
        Some((key, value)) if !key.is_empty() => Ok((key, value)),
        _ => Err("not of the form NAME=VALUE".to_owned()),
    }
}

/// A path, or systemd. A group of that name is still given from the root, as /…/systemd.
pub(crate) fn cgroup_parent(text: OsString) -> Result<CgroupParent, String> {
    if text != "systemd" {
        return Ok(CgroupParent::Path(text.into()));
    }
    #[cfg(feature = "systemd")]
    return Ok(CgroupParent::SystemdScope);
    #[cfg(not(feature = "systemd"))]
    Err("this program was built without the feature systemd".to_owned())
}

/// `KIND=PATH`.
pub(crate) fn existing(text: OsString) -> Result<(Namespaces, PathBuf), String> {
    let (kind, path) = split(&text, b'=', Side::First).ok_or("not of the form KIND=PATH")?;
    let kind = kind.to_str().ok_or("the kind is not UTF-8")?;
    Ok((kind.parse().map_err(of_namespace)?, path.into()))
}

/// The kind of a namespace.
pub(crate) fn kind(text: &str) -> Result<Namespaces, String> {
    text.parse().map_err(of_namespace)
}

fn of_namespace(unknown: stockade::UnknownName) -> String {
    format!("{unknown}; there are user, mount, pid, network, ipc, uts, cgroup and time")
}

#[derive(PartialEq, Eq)]
enum Side {
    First,
    Last,
}

fn split(text: &OsString, at: u8, side: Side) -> Option<(OsString, OsString)> {
    let bytes = text.as_bytes();
    let mut places = bytes.iter().enumerate().filter(|(_, byte)| **byte == at);
    let (place, _) = if side == Side::First { places.next() } else { places.next_back() }?;
    let part = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
    Some((part(bytes.get(..place)?), part(bytes.get(place + 1..)?)))
}

/// `default`, `strict`, `none`, or the path of a profile.
pub(crate) fn seccomp(text: &str) -> Result<Seccomp, String> {
    match text {
        "default" => Ok(Seccomp::default()),
        "strict" => Ok(Seccomp::strict()),
        "none" => Ok(Seccomp::none()),
        path => Seccomp::from_json_file(path).map_err(|error| error.to_string()),
    }
}

/// A part of `--landlock`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LandlockRule {
    Default,
    None,
    Bind(u16),
    Connect(u16),
}

/// `default`, `none`, `bind=PORT` or `connect=PORT`.
pub(crate) fn landlock(text: &str) -> Result<LandlockRule, String> {
    let port = |port: &str| port.parse().map_err(|_| format!("{port:?} is no port"));
    match text.split_once('=').unwrap_or((text, "")) {
        ("default", "") => Ok(LandlockRule::Default),
        ("none", "") => Ok(LandlockRule::None),
        ("bind", number) => port(number).map(LandlockRule::Bind),
        ("connect", number) => port(number).map(LandlockRule::Connect),
        _ => Err("there are default, none, bind=PORT and connect=PORT".to_owned()),
    }
}

/// `NAME=N` for both limits, or `NAME=SOFT:HARD`; each a number, a size or `unlimited`.
pub(crate) fn rlimit(text: &str) -> Result<(Resource, Limit), String> {
    let (name, limits) = text.split_once('=').ok_or("not of the form NAME=N or NAME=SOFT:HARD")?;
    let resource: Resource = name.parse().map_err(|unknown| format!("{unknown}"))?;
    let max = |text: &str| match text.parse() {
        Ok(max) => Ok(max),
        Err(_) => size(text).map(Max::from),
    };
    let limit = match limits.split_once(':') {
        Some((soft, hard)) => Limit { soft: max(soft)?, hard: max(hard)? },
        None => max(limits)?.into(),
    };
    if limit.soft > limit.hard {
        return Err("the soft limit is above the hard one".to_owned());
    }
    Ok((resource, limit))
}

/// A capability, or `all` that this program has names for.
pub(crate) fn capabilities(text: &str) -> Result<CapabilitySet, String> {
    if text.eq_ignore_ascii_case("all") {
        return Ok(CapabilitySet::all_known());
    }
    let capability: Capability = text.parse().map_err(|unknown| format!("{unknown}"))?;
    Ok([capability].into())
}

/// An octal permission mask.
pub(crate) fn mask(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mask) if mask <= 0o777 && !text.starts_with('+') => Ok(mask),
        _ => Err("not an octal number of up to 777".to_owned()),
    }
}

/// `UID:GID`.
pub(crate) fn ids(text: &str) -> Result<(u32, u32), String> {
    let pair =
        text.split_once(':').and_then(|(uid, gid)| Some((uid.parse().ok()?, gid.parse().ok()?)));
    pair.ok_or_else(|| "not of the form UID:GID".to_owned())
}

/// `INSIDE:HOST:COUNT`.
pub(crate) fn range(text: &str) -> Result<(u32, u32, u32), String> {
    let numbers: Option<Vec<u32>> = text.split(':').map(|number| number.parse().ok()).collect();
    match numbers.as_deref() {
        Some([inside, host, count]) => Ok((*inside, *host, *count)),
        _ => Err("not of the form INSIDE:HOST:COUNT".to_owned()),
    }
}

/// An octal mode.
pub(crate) fn mode(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o7777 && !text.starts_with('+') => Ok(mode),
        _ => Err("not an octal number of up to 7777".to_owned()),
    }
}

/// The names under which the command line knows what may be missing.
const FEATURES: [(&str, Feature); 37] = [
    ("supplementary-groups", Feature::SupplementaryGroups),
    ("nested-user-namespace-count", Feature::NestedUserNamespaceCount),
    ("inotify-limits", Feature::InotifyLimits),
    ("session-keyring", Feature::SessionKeyring),
    ("time-namespace", Feature::TimeNamespace),
    ("oom-score-adj", Feature::OomScoreAdj),
    ("id-mapped-mounts", Feature::IdMappedMounts),
    ("cpu-limits", Feature::CpuLimits),
    ("cpu-time-limit", Feature::CpuTimeLimit),
    ("cpuset-limits", Feature::CpusetLimits),
    ("memory-limits", Feature::MemoryLimits),
    ("io-limits", Feature::IoLimits),
    ("device-rules", Feature::DeviceRules),
    ("freezer", Feature::Freezer),
    ("network-class", Feature::NetworkClass),
    ("network-priority", Feature::NetworkPriority),
    ("perf-event-group", Feature::PerfEventGroup),
    ("hugetlb-limits", Feature::HugetlbLimits),
    ("pids-limit", Feature::PidsLimit),
    ("rdma-limits", Feature::RdmaLimits),
    ("misc-limits", Feature::MiscLimits),
    ("landlock", Feature::Landlock),
    ("landlock-scopes", Feature::LandlockScopes),
    ("landlock-ports", Feature::LandlockPorts),
    ("landlock-log", Feature::LandlockLog),
    ("user-namespace", Feature::UserNamespace),
    ("mount-namespace", Feature::MountNamespace),
    ("pid-namespace", Feature::PidNamespace),
    ("atomic-end", Feature::AtomicEnd),
    ("network-namespace", Feature::NetworkNamespace),
    ("ipc-namespace", Feature::IpcNamespace),
    ("uts-namespace", Feature::UtsNamespace),
    ("cgroup-namespace", Feature::CgroupNamespace),
    ("file-attributes", Feature::FileAttributes),
    ("nesting-forbidden", Feature::NestingForbidden),
    ("debugging-forbidden", Feature::DebuggingForbidden),
    ("exec-label", Feature::ExecLabel),
];

/// A protection by its name.
pub(crate) fn feature(text: &str) -> Result<Feature, String> {
    let found = FEATURES.iter().find(|(name, _)| *name == text);
    found.map(|(_, feature)| *feature).ok_or_else(|| {
        let names: Vec<_> = FEATURES.iter().map(|(name, _)| *name).collect();
        format!("there are {}", names.join(", "))
    })
}

/// Protections that are named together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Features(pub(crate) Vec<Feature>);

/// What a sandbox without namespaces lacks whatever the kernel.
const OF_NAMESPACES: [Feature; 9] = [
    Feature::UserNamespace,
    Feature::MountNamespace,
    Feature::PidNamespace,
    Feature::AtomicEnd,
    Feature::NetworkNamespace,
    Feature::IpcNamespace,
    Feature::UtsNamespace,
    Feature::CgroupNamespace,
    Feature::TimeNamespace,
];

/// A protection by its name, or those that come from namespaces.
pub(crate) fn features(text: &str) -> Result<Features, String> {
    match text {
        "namespaces" => Ok(Features(OF_NAMESPACES.to_vec())),
        other => feature(other).map(|one| Features(vec![one])),
    }
}

/// The name of a protection.
pub(crate) fn name_of(feature: Feature) -> String {
    let found = FEATURES.iter().find(|(_, other)| *other == feature);
    found.map_or_else(|| feature.to_string(), |(name, _)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_have_units() {
        for (text, millis) in
            [("500ms", 500), ("10s", 10_000), ("2m", 120_000), ("1h", 3_600_000), ("7", 7000)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        for text in ["", "s", "10x", "-1s", "1.5s", "10s5", "99999999999999999h", "1 s"] {
            assert!(duration(text).is_err(), "{text}");
        }
        assert!(limit("0ms").is_err());
    }

    #[test]
    fn a_parent_is_a_path_or_systemd() {
        for path in ["/systemd", "below/me", "systemd/below"] {
            assert_eq!(cgroup_parent(path.into()), Ok(CgroupParent::Path(path.into())));
        }
        let scope = cgroup_parent("systemd".into());
        #[cfg(feature = "systemd")]
        assert_eq!(scope, Ok(CgroupParent::SystemdScope));
        #[cfg(not(feature = "systemd"))]
        assert!(scope.unwrap_err().contains("feature systemd"));
    }

    #[test]
    fn sizes_are_powers_of_1024() {
        for (text, bytes) in [("4096", 4096), ("1k", 1024), ("64M", 64 << 20), ("2GiB", 2 << 30)] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for (text, bytes) in [("1.5g", 3 << 29), ("0.1k", 102), ("1.000000000000000001k", 1024)] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "m", "1x", "-1", "99999999999g", "1 m", "1.5", "1.k", ".5k", "1..5k"] {
            assert!(size(text).is_err(), "{text}");
        }
        for text in ["1ib", "1bb", "1mibib", "1kk", "+1", "1e3", "0x1", "１k"] {
            assert!(size(text).is_err(), "{text}");
        }
        assert!(room("0").is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn sizes_are_exact_or_too_large(
            number: u64, small in 0u64..5000, power in 0u32..6, ending in 0usize..3, upper: bool,
        ) {
            let letter = ["", "k", "m", "g", "t", "p"][power as usize];
            let ending = ["", "b", if power == 0 { "" } else { "ib" }][ending];
            let unit = format!("{letter}{ending}");
            let unit = if upper { unit.to_ascii_uppercase() } else { unit };
            for number in [number, small] {
                let exact = u128::from(number) * 1024u128.pow(power);
                prop_assert_eq!(size(&format!("{number}{unit}")).ok(), u64::try_from(exact).ok());
                let half = exact + 1024u128.pow(power) / 2;
                let wanted = u64::try_from(half).ok().filter(|_| power > 0);
                prop_assert_eq!(size(&format!("{number}.50{unit}")).ok(), wanted);
            }
        }

        #[test]
        fn no_text_ends_in_a_panic(text: String, near in "[0-9.]{0,24}[ kmgtpiKB]{0,4}") {
            for text in [&text, &near] {
                drop((size(text), room(text), duration(text)));
            }
        }
    }

    #[test]
    fn limits_of_devices_are_read() {
        let (device, limit) = io_limit("/dev/sda:rbps=4m,wiops=100").unwrap();
        assert_eq!(device, BlockDevice::Path("/dev/sda".into()));
        assert_eq!(limit, IoLimit::new().read_bytes(4 << 20).write_operations(100));
        assert_eq!(io_limit("8:0:rbps=1").unwrap().0, BlockDevice::Number(8, 0));
        for text in ["", "8:0", "8:0:", ":rbps=1", "8:0:rbps", "8:0:xbps=1", "8:0:rbps=0"] {
            assert!(io_limit(text).is_err(), "{text}");
        }
        assert_eq!(device_text("c 10:229 rw"), "c 10:229 rw");
        assert_eq!(device_text("b 8:*"), "b 8:* rwm");
        for text in ["", "c", "x 1:1", "c 1", "c 1:x", "c 1:1 r w"] {
            assert!(super::device(text).is_err(), "{text}");
        }
        assert_eq!(size_or_any("-1"), Ok(Max::Unlimited));
        assert_eq!(size_or_any("1k"), Ok(Max::At(1024)));
    }

    fn device_text(text: &str) -> String {
        super::device(text).unwrap().to_string()
    }

    #[test]
    fn every_feature_has_a_name() {
        for named in Feature::ALL {
            assert_eq!(feature(&name_of(named)), Ok(named));
        }
    }
}
