//! Processes and their end; [pid_namespaces(7)](https://man7.org/linux/man-pages/man7/pid_namespaces.7.html).

use super::Namespaces;
use crate::policy::Policy;

impl Policy {
    /// Whether there is a pid namespace that ends with its PID 1.
    pub(crate) fn has_own_pids(&self) -> bool {
        self.new_namespaces().contains(Namespaces::PID)
    }
}

pub(crate) fn problems(policy: &Policy, problems: &mut Vec<String>) {
    if policy.has_own_pids() {
        return;
    }
    if !policy.without_atomic_end && !policy.without_namespaces {
        problems.push(
            "without a pid namespace of its own a sandbox has no atomic end; \
             without_atomic_end() accepts that"
                .to_owned(),
        );
    }
    if !policy.init {
        problems.push("without a pid namespace of its own a sandbox needs init".to_owned());
    }
}
