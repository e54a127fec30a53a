//! Host name and NIS domain name; [uts_namespaces(7)](https://man7.org/linux/man-pages/man7/uts_namespaces.7.html).

use crate::lower::Lower;
use crate::wire::Op;

/// The names of a UTS namespace. Inside they are never the host's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Uts {
    pub(crate) hostname: Vec<u8>,
    pub(crate) domainname: Vec<u8>,
}

impl Default for Uts {
    fn default() -> Self {
        Uts { hostname: b"stockade".to_vec(), domainname: b"(none)".to_vec() }
    }
}

/// `__NEW_UTS_LEN`.
const LONGEST: usize = 64;

impl Uts {
    pub(crate) fn problems(&self, problems: &mut Vec<String>) {
        for (what, name) in [("host name", &self.hostname), ("domain name", &self.domainname)] {
            if name.len() > LONGEST || name.is_empty() {
                problems.push(format!("the {what} must have 1 to {LONGEST} bytes"));
            }
            if name.contains(&0) {
                problems.push(format!("the {what} contains a NUL byte"));
            }
        }
    }

    pub(crate) fn lower(&self, plan: &mut Lower) {
        let name = self.hostname.clone();
        plan.step(Op::Hostname { name }, "the host's name stays outside");
        let name = self.domainname.clone();
        plan.step(Op::Domainname { name }, "the host's NIS domain stays outside");
    }
}
