//! What the handle of a started command is made of.

use std::path::Path;
use std::sync::Arc;

use super::{Command, Streams};
use crate::changes::Source;
use crate::child::Attached;
use crate::lower::Lowered;
use crate::output::Remains;
use crate::rootfs::{Held, Overlay};
use crate::spawn::{Kept, Role};

impl Command {
    /// What a handle is made of, as far as the command tells.
    pub(super) fn attached(&self, streams: Streams, lowered: &Lowered, role: Role) -> Attached {
        let policy = self.sandbox.policy();
        #[cfg(feature = "footprint")]
        let passed = streams.passed;
        let [stdin, stdout, stderr] = streams.ours;
        let wall = self.wall();
        let limit = wall.map(|wall| wall.saturating_add(policy.grace));
        Attached {
            stdin: stdin.map(Into::into),
            stdout: stdout.map(Into::into),
            stderr: stderr.map(Into::into),
            missing: Vec::new(),
            supervised: policy.init,
            own_pids: false,
            wall,
            limit: limit.filter(|_| !matches!(role, Role::Waiting(_) | Role::Template)),
            keep_bytes: self.keep,
            memory_mounts: lowered.plan.memory_mounts(),
            groups: None,
            sandbox: self.sandbox.clone(),
            remains: Arc::default(),
            held: Vec::new(),
            listener: None,
            lowered: None,
            #[cfg(feature = "footprint")]
            passed: passed || self.pty.is_some() || !self.descriptors.is_empty(),
        }
    }

    /// What stays of the tree: what the operations that keep something have sent, in their order.
    pub(super) fn remains(
        &self,
        lowered: &Lowered,
        kept: Kept,
        held: &mut [Held],
        check_only: bool,
    ) -> Remains {
        let tree = &self.sandbox.policy().tree;
        let (mut namespace, mut writable, mut uppers) = (None, None, Vec::new());
        for (index, fd) in kept.others {
            match lowered.plan.kept(index) {
                Some(b"") => namespace = Some(fd),
                Some(b"/") => writable = Some(fd),
                Some(_) => uppers.push(Arc::new(fd)),
                None => {}
            }
        }
        for upper in &mut *held {
            upper.open_work();
            upper.used = !check_only;
        }
        let (mut own, mut held_uppers) = (uppers.into_iter(), held.iter().map(|held| &held.upper));
        let source = |(path, overlay): (&Path, &Overlay)| {
            let (upper, ids) = match overlay.kept() {
                Some(_) => (held_uppers.next().cloned(), None),
                None if overlay.is_thrown_away() => (own.next(), Some(lowered.ids)),
                None => (None, None),
            };
            upper.map(|upper| Source::new(path, overlay, upper, ids))
        };
        let overlays = tree.overlays().filter_map(source).collect();
        let (mounts, uid) = (tree.mounts(), lowered.ids.host.0);
        Remains { own: true, root: kept.root, writable, namespace, mounts, uid, overlays }
    }
}
