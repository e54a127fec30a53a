//! Labels of the kernel's security modules: the caller's, and the one that an exec is asked to take;
//! [proc_pid_attr(5)](https://man7.org/linux/man-pages/man5/proc_pid_attr.5.html).

use std::fmt;
use std::path::Path;

use nix::errno::Errno;

use crate::error::{Error, Feature, Result, Stage, quoted};
use crate::executable;
use crate::hint::Hint;
use crate::lower::Lower;
use crate::policy::Policy;
use crate::wire::Op;

/// A page less one byte is what the kernel reads, with the command before the label.
const LONGEST: usize = 4000;
/// Where every module with labels shows the calling thread's.
const CURRENT: &str = "/proc/thread-self/attr/current";
/// The same of AppArmor alone (Linux 5.8), whatever other module is there.
const OF_APPARMOR: &str = "/proc/thread-self/attr/apparmor/current";

/// What a security module says of the calling thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Label {
    module: Module,
    text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Module {
    AppArmor {
        /// Whether its files have a directory of their own.
        apart: bool,
    },
    SELinux,
    /// One that lets nobody choose a label for an exec.
    Other,
}

impl Label {
    /// The calling thread's, of the module that labels processes here; without one an error of reading it.
    pub(crate) fn current() -> Result<Self> {
        if let Ok(text) = std::fs::read(OF_APPARMOR) {
            return Ok(Label::new(Module::AppArmor { apart: true }, &text));
        }
        match std::fs::read(CURRENT) {
            Ok(text) => Ok(Label::new(Module::find(), &text)),
            Err(error) => {
                let errno = executable::errno_of(&error);
                Err(Error::new(Stage::Prepare, "read", quoted(CURRENT), errno))
            }
        }
    }

    fn new(module: Module, text: &[u8]) -> Self {
        let text = String::from_utf8_lossy(text);
        Label { module, text: text.trim_end_matches(['\0', '\n']).to_owned() }
    }

    /// The profile of AppArmor's that confines the calling thread, if one does.
    pub(crate) fn profile(&self) -> Option<&str> {
        let confines = self.text != "unconfined" && !self.text.ends_with(" (unconfined)");
        (matches!(self.module, Module::AppArmor { .. }) && confines).then_some(&self.text)
    }

    /// The file below the thread's directory in /proc that an exec's label is written to, and what.
    fn exec(&self, label: &str) -> Option<(&'static str, String)> {
        match self.module {
            Module::AppArmor { apart: true } => {
                Some(("thread-self/attr/apparmor/exec", format!("exec {label}")))
            }
            Module::AppArmor { apart: false } => {
                Some(("thread-self/attr/exec", format!("exec {label}")))
            }
            Module::SELinux => Some(("thread-self/attr/exec", label.to_owned())),
            Module::Other => None,
        }
    }

    /// Whether an exec can be given a label, and the caller's.
    pub(crate) fn chooses() -> Result<Self> {
        let current =
            Label::current().map_err(|error| error.with_hint(Some(Hint::NoExecLabels)))?;
        if current.module == Module::Other {
            let error = Error::new(Stage::Prepare, "write", "attr/exec", Errno::EINVAL);
            return Err(error.with_hint(Some(Hint::NoExecLabels)));
        }
        Ok(current)
    }
}

impl Module {
    /// Which one it is that shows labels where each other module would. There can be one of these only.
    fn find() -> Self {
        let has = |path: &str, text: &str| {
            std::fs::read_to_string(Path::new(path)).is_ok_and(|found| found.contains(text))
        };
        if has("/proc/filesystems", "\tselinuxfs\n") {
            Module::SELinux
        } else if has("/sys/module/apparmor/parameters/enabled", "Y") {
            Module::AppArmor { apart: false }
        } else {
            Module::Other
        }
    }
}

/// The module's name, and the label.
impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.module {
            Module::AppArmor { .. } => write!(f, "AppArmor {:?}", self.text),
            Module::SELinux => write!(f, "SELinux {:?}", self.text),
            Module::Other => write!(f, "{:?}", self.text),
        }
    }
}

/// What is wrong with a label that is asked for.
pub(crate) fn problems(policy: &Policy, problems: &mut Vec<String>) {
    let Some(label) = &policy.exec_label else { return };
    if label.is_empty() || label.contains(['\0', '\n']) || label.len() > LONGEST {
        problems.push(format!(
            "the exec label {label:?} is empty, has a NUL or an end of line in it, or is longer than \
             {LONGEST} bytes"
        ));
    }
}

/// Has init's next exec, and that of whatever it starts, take the label that is asked for; or tells that no
/// module here has labels, and that it may be missing.
pub(crate) fn lower(policy: &Policy, plan: &mut Lower) -> Result<Option<Feature>> {
    let Some(label) = &policy.exec_label else { return Ok(None) };
    let current = match Label::chooses() {
        Err(_) if policy.is_best_effort(Feature::ExecLabel) => return Ok(Some(Feature::ExecLabel)),
        other => other?,
    };
    if let Some((path, data)) = current.exec(label) {
        let op = Op::WriteFile { path: path.into(), data: data.into_bytes(), optional: 0 };
        plan.step(op, "the next exec takes it, which is the program's");
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::{Label, Module};

    #[test]
    fn profiles_that_confine_are_told_from_those_that_do_not() {
        let apparmor = Module::AppArmor { apart: true };
        for (text, profile) in [
            (&b"unconfined\n"[..], None),
            (b"chrome (unconfined)\n", None),
            (b"docker-default (enforce)\n", Some("docker-default (enforce)")),
            (b"a//&b (mixed)", Some("a//&b (mixed)")),
        ] {
            assert_eq!(Label::new(apparmor, text).profile(), profile);
        }
        let context = Label::new(Module::SELinux, b"u:r:t:s0\0");
        assert_eq!((context.profile(), context.to_string()), (None, "SELinux \"u:r:t:s0\"".into()));
    }

    #[test]
    fn each_module_has_its_own_file_and_text() {
        let exec = |module| Label::new(module, b"").exec("x");
        let said = |file, text: &str| Some((file, text.to_owned()));
        let apart = Module::AppArmor { apart: true };
        assert_eq!(exec(apart), said("thread-self/attr/apparmor/exec", "exec x"));
        let old = Module::AppArmor { apart: false };
        assert_eq!(exec(old), said("thread-self/attr/exec", "exec x"));
        assert_eq!(exec(Module::SELinux), said("thread-self/attr/exec", "x"));
        assert_eq!(exec(Module::Other), None);
    }
}
