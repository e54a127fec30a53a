//! What the documentation of each public item has to have, as far as a program can see it: an example,
//! and where the kernel does the work the page that says how.
#![allow(
    clippy::exit,
    clippy::incompatible_msrv,
    clippy::cast_possible_truncation,
    reason = "a test process, built by a current toolchain"
)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails so")]

mod common;

use std::path::{Path, PathBuf};

use common::Needs;

tests! {
    Needs::File(concat!(env!("CARGO_MANIFEST_DIR"), "/src/lib.rs")) => [
        every_item_has_an_example, what_the_kernel_does_has_its_page, pages_are_called_as_they_are,
    ];
}

/// What the kernel has no part in, or only through the others.
const OURS: [&str; 22] = [
    "Ability",
    "Audit",
    "Change",
    "ChangeKind",
    "Content",
    "Error",
    "Failed",
    "Feature",
    "Finding",
    "Hint",
    "Leak",
    "Left",
    "Need",
    "Output",
    "Plan",
    "Result",
    "Sandbox",
    "Severity",
    "Stage",
    "Status",
    "Support",
    "UnknownName",
];
/// Types whose methods have little in common: each has a page of its own, or leads to one.
const OF_MANY: [&str; 3] = ["Sandbox", "Command", "Child"];
/// Those of their methods that the crate alone does.
const OUR_METHODS: [&str; 6] = [
    "Child::detach",
    "Child::missing",
    "Command::plan",
    "Sandbox::best_effort",
    "Sandbox::plan",
    "Sandbox::require",
];

const MAN: &str = "https://man7.org/linux/man-pages/";
const PAGES: [&str; 2] = [MAN, "https://docs.kernel.org/"];

/// A public type, or a public method of one.
struct Item {
    place: String,
    of: Option<String>,
    name: String,
    docs: String,
}

impl Item {
    fn full_name(&self) -> String {
        self.of.iter().map(|of| format!("{of}::")).collect::<String>() + &self.name
    }

    fn has_page(&self) -> bool {
        PAGES.iter().any(|page| self.docs.contains(page))
    }

    /// Whether it says where it is explained: by a link to one of these.
    fn leads_to(&self, names: &[String]) -> bool {
        let links = self.docs.split('[').skip(1).filter_map(|rest| {
            let (text, rest) = rest.split_once(']')?;
            let target = rest.strip_prefix('(').and_then(|rest| rest.split(')').next());
            Some(target.unwrap_or(text.trim_matches('`')))
        });
        let own = self.of.as_deref().unwrap_or_default();
        links.map(|link| link.trim_start_matches("crate::").replace("Self", own)).any(|link| {
            let of = link.split_once("::").map_or("", |(of, _)| of);
            names.iter().any(|name| *name == link || name == of)
        })
    }
}

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).expect("the sources are readable") {
        let path = entry.expect("a directory can be read").path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        match name {
            // Programs of their own.
            "init" | "bin" => {}
            _ if path.is_dir() => sources(&path, found),
            _ if name.ends_with(".rs") => found.push(path),
            _ => {}
        }
    }
}

/// The names that the crate exports.
fn exported(lib: &str) -> Vec<&str> {
    let uses = lib.split("pub use ").skip(1).filter_map(|rest| rest.split(';').next());
    uses.flat_map(|list| list.split(|c: char| !c.is_alphanumeric()))
        .filter(|name| name.starts_with(char::is_uppercase))
        .collect()
}

fn items() -> Vec<Item> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let lib = std::fs::read_to_string(root.join("lib.rs")).expect("lib.rs is readable");
    let exported = exported(&lib);
    let mut paths = Vec::new();
    sources(&root, &mut paths);
    let mut items = Vec::new();
    for path in paths {
        let text = std::fs::read_to_string(&path).expect("a source is readable");
        items_of(&path, &text, &exported, &mut items);
    }
    // Should it ever read past them, it says so.
    for name in &exported {
        assert!(items.iter().any(|item| item.name == *name), "{name} is found");
    }
    assert!(items.len() > 300, "only {} items are found", items.len());
    items
}

fn items_of(path: &Path, text: &str, exported: &[&str], items: &mut Vec<Item>) {
    let (mut docs, mut of, mut in_attribute) = (String::new(), None, false);
    for (number, line) in text.lines().enumerate() {
        let trimmed = line.trim_start();
        if let Some(text) = trimmed.strip_prefix("///") {
            docs += text;
            docs.push('\n');
            continue;
        }
        if in_attribute || trimmed.starts_with("#[") || trimmed.starts_with("//") {
            in_attribute = !trimmed.starts_with("//") && !trimmed.ends_with(']');
            continue;
        }
        if let Some(header) = line.strip_prefix("impl") {
            of = header.strip_suffix('{').and_then(implemented).map(str::to_owned);
        }
        let of = of.clone().filter(|_| line.starts_with(' '));
        let public = of.as_deref().is_none_or(|of| exported.contains(&of));
        if let Some(name) = defined(trimmed).filter(|_| public) {
            if of.is_some() == trimmed.contains("fn ") && (of.is_some() || exported.contains(&name))
            {
                items.push(Item {
                    place: format!("{}:{}", path.display(), number + 1),
                    of,
                    name: name.to_owned(),
                    docs: std::mem::take(&mut docs),
                });
            }
        }
        docs.clear();
    }
}

/// What `impl … {` has the methods of; none for a trait's.
fn implemented(header: &str) -> Option<&str> {
    let header = match header.strip_prefix('<') {
        Some(generic) => generic.split_once('>')?.1,
        None => header,
    };
    let name = header.trim();
    (!name.contains(" for ")).then(|| name.split('<').next().unwrap_or(name))
}

/// The name that a line defines for others.
fn defined(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("pub ")?;
    let rest = rest.strip_prefix("const fn ").map_or(rest, |_| &rest["const ".len()..]);
    let kinds = ["fn ", "struct ", "enum ", "type ", "trait "];
    let name = kinds.iter().find_map(|kind| rest.strip_prefix(kind))?;
    name.split(|c: char| !c.is_alphanumeric() && c != '_').next()
}

fn assert_none(missing: &[String], what: &str) {
    assert!(missing.is_empty(), "{what}:\n{}", missing.join("\n"));
}

fn every_item_has_an_example() {
    let without = items()
        .iter()
        .filter(|item| !item.docs.contains("# Examples"))
        .map(|item| format!("{}: {}", item.place, item.full_name()))
        .collect::<Vec<_>>();
    assert_none(&without, "no example");
}

fn what_the_kernel_does_has_its_page() {
    let items = items();
    let with: Vec<_> = items.iter().filter(|item| item.has_page()).map(Item::full_name).collect();
    let without = items
        .iter()
        .filter(|item| match item.of.as_deref() {
            None => !OURS.contains(&&*item.name) && !item.has_page(),
            Some(of) => {
                OF_MANY.contains(&of)
                    && !OUR_METHODS.contains(&&*item.full_name())
                    && !item.has_page()
                    && !item.leads_to(&with)
            }
        })
        .map(|item| format!("{}: {}", item.place, item.full_name()))
        .collect::<Vec<_>>();
    assert_none(&without, "no page that says what the kernel does");
}

/// `[name(section)]` leads to the page of that name and section.
fn pages_are_called_as_they_are() {
    let mut wrong = Vec::new();
    for item in items() {
        for (before, after) in
            item.docs.split(&format!("]({MAN}")).zip(item.docs.split(MAN).skip(1))
        {
            let text = before.rsplit('[').next().unwrap_or_default();
            let page = after.split(')').next().unwrap_or_default();
            let fits = text.strip_suffix(')').and_then(|text| text.split_once('(')).is_some_and(
                |(name, section)| page == format!("man{section}/{name}.{section}.html"),
            );
            if !fits {
                wrong.push(format!("{}: [{text}] leads to {page}", item.place));
            }
        }
    }
    assert_none(&wrong, "misnamed");
}
