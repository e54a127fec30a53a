//! Files that no value of this crate has a name for.

use super::{CgroupVersion, Controller, Write};

/// A file of a group, and what is written to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Raw {
    pub(crate) file: String,
    pub(crate) data: String,
}

/// What this crate itself does with a group.
const OURS: &str = "freezer.state";
/// What v2 takes and need not give, by the method that looks whether it does.
const CONFIRMED: [(&str, &str); 3] = [
    ("cpuset.cpus", "Cpuset::cpus"),
    ("cpuset.mems", "Cpuset::mems"),
    ("cpuset.cpus.partition", "Cpuset::partition"),
];

impl Raw {
    pub(crate) fn problems(&self, problems: &mut Vec<String>) {
        let file = &self.file;
        let letters = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.';
        let plain = file.bytes().all(letters) && !file.contains("..") && !file.starts_with('.');
        if !plain || self.controller().is_none() {
            problems.push(format!("{file:?} is no file of a controller's"));
        } else if file == OURS {
            problems.push(format!("{file:?} is not to be written to"));
        } else if let Some((_, method)) = CONFIRMED.iter().find(|(name, _)| name == file) {
            problems.push(format!("{file:?} is not to be written as it is; use {method}"));
        } else if self.data.is_empty() {
            problems.push(format!("nothing is written to {file:?}"));
        }
        if self.data.contains('\0') {
            problems.push(format!("what is written to {file:?} contains a NUL byte"));
        }
    }

    /// The controller that it is a file of; none has what each v2 group has.
    pub(crate) fn controller(&self) -> Option<Controller> {
        let (name, _) = self.file.split_once('.')?;
        Controller::ALL.into_iter().find(|controller| {
            [CgroupVersion::V1, CgroupVersion::V2].iter().any(|at| controller.name(*at) == name)
        })
    }

    pub(crate) fn write(&self) -> Write {
        Write::new(&self.file, &self.data)
    }
}
