//! What is in the /etc of `Sandbox::new()`, for the others to have the same.

use std::sync::OnceLock;

#[derive(Debug, Default)]
pub(crate) struct Etc {
    pub(crate) shown: Vec<String>,
    pub(crate) masked: Vec<String>,
    pub(crate) files: Vec<(String, String)>,
    pub(crate) links: Vec<(String, String)>,
}

impl Etc {
    /// As seen from a sandbox, so that the floor follows what the crate does.
    pub(crate) fn of_default() -> &'static Self {
        static SEEN: OnceLock<Etc> = OnceLock::new();
        SEEN.get_or_init(|| {
            let mut etc = Etc::default();
            for line in in_sandbox("cat", &["/proc/self/mountinfo"]).lines() {
                let fields: Vec<_> = line.split(' ').collect();
                match (fields.get(3), fields.get(4)) {
                    (Some(&"/null"), Some(place)) if place.starts_with("/etc/") => {
                        etc.masked.push((*place).to_owned());
                    }
                    (_, Some(place)) if place.starts_with("/etc/") => {
                        etc.shown.push((*place).to_owned());
                    }
                    _ => {}
                }
            }
            let find =
                |kind: &str| in_sandbox("find", &["/etc", "-xdev", "-type", kind, "-size", "+0"]);
            for path in find("f").lines().filter(|path| !etc.shown.iter().any(|one| one == path)) {
                etc.files.push((path.to_owned(), in_sandbox("cat", &[path])));
            }
            for path in find("l").lines() {
                let target = in_sandbox("readlink", &[path]);
                etc.links.push((path.to_owned(), target.trim_end().to_owned()));
            }
            etc
        })
    }
}

fn in_sandbox(program: &str, args: &[&str]) -> String {
    let output = stockade::Sandbox::new().command(program).args(args).output();
    let output = output.expect("the default sandbox works");
    assert!(output.outcome.is_success(), "{program} {args:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}
