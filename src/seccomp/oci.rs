//! Profiles in JSON: those of the OCI's runtime specification, and Docker's and Podman's, which have
//! conditions of their own.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::Kept;
use super::rule::{Action, Compare, Condition, Rule};
use crate::capability::Capability;

/// What can be read of a profile; whatever it has besides is an error.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Profile {
    default_action: String,
    default_errno_ret: Option<u32>,
    /// Podman's way to write it.
    default_errno: Option<String>,
    #[serde(default)]
    syscalls: Vec<Entry>,
    /// Calls of other architectures than the native one do not exist, whatever these say.
    architectures: Option<Vec<String>>,
    arch_map: Option<Vec<ArchMap>>,
    flags: Option<Vec<String>>,
    listener_path: Option<String>,
    listener_metadata: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ArchMap {
    #[serde(rename = "architecture")]
    _architecture: String,
    #[serde(rename = "subArchitectures")]
    _sub: Option<Vec<String>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Entry {
    #[serde(default)]
    names: Vec<String>,
    name: Option<String>,
    action: String,
    errno_ret: Option<u32>,
    /// Podman's way to write it.
    errno: Option<String>,
    args: Option<Vec<Arg>>,
    #[serde(rename = "comment")]
    _comment: Option<String>,
    #[serde(default)]
    includes: Filter,
    #[serde(default)]
    excludes: Filter,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Arg {
    index: u8,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Filter {
    #[serde(default)]
    caps: Vec<String>,
    #[serde(default)]
    arches: Vec<String>,
    min_kernel: Option<String>,
}

impl Profile {
    pub(crate) fn parse(text: &[u8]) -> Result<Self, String> {
        let profile: Profile = serde_json::from_slice(text)
            .map_err(|error| format!("the seccomp profile cannot be read: {error}"))?;
        if profile.listener_path.is_some() || profile.listener_metadata.is_some() {
            return Err("the seccomp profile asks for a listener, which there is none of".into());
        }
        if let Some(flag) = profile.flags.iter().flatten().find(|flag| !is_harmless(flag)) {
            return Err(format!("the seccomp profile has the unknown flag {flag:?}"));
        }
        let default = profile.default_action.as_str();
        action(default, profile.default_errno_ret, profile.default_errno.as_deref())?;
        for entry in &profile.syscalls {
            entry.action()?;
            entry.rules()?;
            for filter in [&entry.includes, &entry.excludes] {
                filter.check()?;
            }
        }
        Ok(profile)
    }

    /// Its rules, and what is done with known and with unknown calls that it does not name.
    pub(super) fn lower(
        &self,
        kept: &Kept,
        problems: &mut Vec<String>,
    ) -> (Vec<Rule>, Action, Action) {
        match self.rules(kept) {
            Ok(lowered) => lowered,
            Err(problem) => {
                problems.push(problem);
                (Vec::new(), Action::KillProcess, Action::KillProcess)
            }
        }
    }

    fn rules(&self, kept: &Kept) -> Result<(Vec<Rule>, Action, Action), String> {
        let default = self.default_action.as_str();
        let otherwise = action(default, self.default_errno_ret, self.default_errno.as_deref())?;
        let mut rules = Vec::new();
        let kernel = running_kernel()?;
        for entry in self.syscalls.iter().filter(|entry| entry.applies(kept, kernel)) {
            let action = entry.action()?;
            // As if it had not been written.
            if action == otherwise {
                continue;
            }
            for name in entry.names.iter().chain(&entry.name) {
                for conditions in entry.rules()? {
                    rules.push(Rule::with(name, conditions, action));
                }
            }
        }
        // A rule without arguments replaces those with some.
        let whole: BTreeSet<_> = rules
            .iter()
            .filter(|rule| rule.conditions.is_empty())
            .map(|rule| rule.call.clone())
            .collect();
        rules.retain(|rule| rule.conditions.is_empty() || !whole.contains(&rule.call));
        let unknown = match otherwise {
            Action::Errno(_) => Action::Errno(libc::ENOSYS.unsigned_abs()),
            other => other,
        };
        Ok((rules, otherwise, unknown))
    }
}

/// Those change what the kernel logs or how threads are treated; there is one thread here.
fn is_harmless(flag: &str) -> bool {
    let known = [
        "",
        "SECCOMP_FILTER_FLAG_TSYNC",
        "SECCOMP_FILTER_FLAG_LOG",
        "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
        "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
    ];
    known.contains(&flag)
}

fn action(name: &str, number: Option<u32>, errno: Option<&str>) -> Result<Action, String> {
    let number = match (number, errno) {
        (Some(number), _) => number,
        (None, None | Some("" | "EPERM")) => libc::EPERM.unsigned_abs(),
        (None, Some("ENOSYS")) => libc::ENOSYS.unsigned_abs(),
        (None, Some("EACCES")) => libc::EACCES.unsigned_abs(),
        (None, Some("EINVAL")) => libc::EINVAL.unsigned_abs(),
        (None, Some("EAFNOSUPPORT")) => libc::EAFNOSUPPORT.unsigned_abs(),
        (None, Some(other)) => {
            return Err(format!("the seccomp profile has the unknown error {other:?}"));
        }
    };
    Ok(match name {
        "SCMP_ACT_ALLOW" => Action::Allow,
        "SCMP_ACT_LOG" => Action::Log,
        "SCMP_ACT_ERRNO" => Action::Errno(number),
        "SCMP_ACT_TRAP" => Action::Trap,
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => Action::KillThread,
        "SCMP_ACT_KILL_PROCESS" => Action::KillProcess,
        "SCMP_ACT_NOTIFY" | "SCMP_ACT_TRACE" => {
            return Err(format!(
                "the seccomp profile's action {name} needs a listener or a tracer"
            ));
        }
        other => return Err(format!("the seccomp profile has the unknown action {other:?}")),
    })
}

impl Entry {
    fn action(&self) -> Result<Action, String> {
        action(&self.action, self.errno_ret, self.errno.as_deref())
    }

    /// All arguments have to fit; of several for the same argument, one.
    fn rules(&self) -> Result<Vec<Vec<Condition>>, String> {
        let args = self.args.as_deref().unwrap_or_default();
        let conditions = args.iter().map(Arg::condition).collect::<Result<Vec<_>, _>>()?;
        let indexes: BTreeSet<_> = args.iter().map(|arg| arg.index).collect();
        Ok(match indexes.len() == args.len() {
            true => vec![conditions],
            false => conditions.into_iter().map(|one| vec![one]).collect(),
        })
    }

    fn applies(&self, kept: &Kept, kernel: (u32, u32)) -> bool {
        let has = |name: &String| {
            name.parse::<Capability>().is_ok_and(|capability| kept.has(capability.number()))
        };
        let here = |arches: &[String]| arches.iter().any(|arch| is_native(arch));
        let least = |filter: &Filter| filter.min_kernel.as_deref().and_then(version);
        let (includes, excludes) = (&self.includes, &self.excludes);
        includes.caps.iter().all(has)
            && (includes.arches.is_empty() || here(&includes.arches))
            && least(includes).is_none_or(|least| least <= kernel)
            && !excludes.caps.iter().any(has)
            && !here(&excludes.arches)
            && least(excludes).is_none_or(|least| least > kernel)
    }
}

impl Filter {
    fn check(&self) -> Result<(), String> {
        if let Some(name) = self.caps.iter().find(|name| name.parse::<Capability>().is_err()) {
            return Err(format!("the seccomp profile has the unknown capability {name:?}"));
        }
        match self.min_kernel.as_deref().filter(|least| version(least).is_none()) {
            Some(least) => Err(format!("the seccomp profile has the kernel version {least:?}")),
            None => Ok(()),
        }
    }
}

impl Arg {
    fn condition(&self) -> Result<Condition, String> {
        let compare = match self.op.as_str() {
            "SCMP_CMP_EQ" => Compare::Equal,
            "SCMP_CMP_NE" => Compare::NotEqual,
            "SCMP_CMP_LT" => Compare::Less,
            "SCMP_CMP_LE" => Compare::AtMost,
            "SCMP_CMP_GT" => Compare::Greater,
            "SCMP_CMP_GE" => Compare::AtLeast,
            // The mask comes first.
            "SCMP_CMP_MASKED_EQ" => Compare::Masked(self.value),
            other => return Err(format!("the seccomp profile has the unknown operator {other:?}")),
        };
        let masked = matches!(compare, Compare::Masked(_));
        let value = if masked { self.value_two } else { self.value };
        Ok(Condition { argument: self.index, compare, value, whole: true })
    }
}

/// Docker names architectures as Go does, Podman as libseccomp.
fn is_native(name: &str) -> bool {
    match std::env::consts::ARCH {
        "x86_64" => ["amd64", "x86_64", "SCMP_ARCH_X86_64"].contains(&name),
        "aarch64" => ["arm64", "aarch64", "SCMP_ARCH_AARCH64"].contains(&name),
        other => {
            name == other
                || name.strip_prefix("SCMP_ARCH_").is_some_and(|it| it.eq_ignore_ascii_case(other))
        }
    }
}

fn version(text: &str) -> Option<(u32, u32)> {
    let (major, rest) = text.split_once('.')?;
    let digits = rest.split(|letter: char| !letter.is_ascii_digit()).next()?;
    Some((major.parse().ok()?, digits.parse().ok()?))
}

fn running_kernel() -> Result<(u32, u32), String> {
    let name = nix::sys::utsname::uname().map_err(|errno| format!("uname: {errno}"))?;
    let release = name.release().to_string_lossy();
    version(&release).ok_or_else(|| format!("the kernel's release {release:?} has no version"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(text: &str, kept: &Kept) -> (Vec<Rule>, Action, Action) {
        Profile::parse(text.as_bytes()).unwrap().rules(kept).unwrap()
    }

    #[test]
    fn conditions_of_capability_kernel_and_machine_decide() {
        let with = |part: &str| {
            let text = format!(
                r#"{{"defaultAction": "SCMP_ACT_ERRNO", "syscalls":
                    [{{"names": ["read"], "action": "SCMP_ACT_ALLOW", {part}}}]}}"#
            );
            !rules(&text, &Kept { capabilities: 1 << 21, ..Kept::PLAIN }).0.is_empty()
        };
        for (part, applies) in [
            (r#""includes": {"caps": ["CAP_SYS_ADMIN"]}"#, true),
            (r#""includes": {"caps": ["CAP_SYS_ADMIN", "CAP_BPF"]}"#, false),
            (r#""excludes": {"caps": ["CAP_SYS_ADMIN", "CAP_BPF"]}"#, false),
            (r#""includes": {"minKernel": "4.8"}"#, true),
            (r#""includes": {"minKernel": "99.0"}"#, false),
            (r#""excludes": {"minKernel": "4.8"}"#, false),
            (r#""includes": {"arches": ["s390x"]}"#, false),
            (r#""excludes": {"arches": ["s390x"]}"#, true),
            (r#""includes": {"arches": ["amd64", "arm64", "riscv64"]}"#, true),
        ] {
            assert_eq!(with(part), applies, "{part}");
        }
    }

    #[test]
    fn several_values_of_one_argument_are_alternatives() {
        let one = |index, value| {
            format!(r#"{{"index": {index}, "value": {value}, "op": "SCMP_CMP_EQ"}}"#)
        };
        let text = |args: &str| {
            format!(
                r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{{"names": ["read"],
                    "action": "SCMP_ACT_KILL", "args": [{args}]}}]}}"#
            )
        };
        let both = text(&[one(0, 1), one(1, 2)].join(","));
        let either = text(&[one(0, 1), one(0, 2)].join(","));
        assert_eq!(rules(&both, &Kept::PLAIN).0.len(), 1);
        assert_eq!(rules(&either, &Kept::PLAIN).0.len(), 2);
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        for (text, part) in [
            (r#"{}"#, "defaultAction"),
            (r#"{"defaultAction": "SCMP_ACT_MAYBE"}"#, "SCMP_ACT_MAYBE"),
            (r#"{"defaultAction": "SCMP_ACT_NOTIFY"}"#, "listener"),
            (r#"{"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/x"}"#, "listener"),
            (r#"{"defaultAction": "SCMP_ACT_ALLOW", "flags": ["X"]}"#, "\"X\""),
            (r#"{"defaultAction": "SCMP_ACT_ALLOW", "other": 1}"#, "other"),
            (
                r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"],
                    "action": "SCMP_ACT_KILL", "args": [{"index": 0, "value": 1, "op": "~"}]}]}"#,
                "operator",
            ),
            (
                r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"],
                    "action": "SCMP_ACT_KILL", "includes": {"caps": ["CAP_FLY"]}}]}"#,
                "CAP_FLY",
            ),
        ] {
            let error = Profile::parse(text.as_bytes()).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
