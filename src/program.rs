//! What one program needs to be started: its interpreter, its dynamic loader and its libraries,
//! found as the kernel and the loader find them, without running anything.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;

use crate::error::{Error, Result, Stage, quoted};
use crate::executable::errno_of;
use crate::hint::Hint;
use object::{Machine, Object};
use search::{Loader, expand};

mod object;
mod search;

/// As many symbolic links as the kernel follows in one path.
const LINKS_MAX: usize = 40;
/// As many interpreters of interpreters as the kernel allows.
const SCRIPTS_MAX: usize = 5;
/// More libraries than this no program has.
const OBJECTS_MAX: usize = 4096;
/// How much of a script's first line the kernel reads (`BINPRM_BUF_SIZE`).
const LINE: usize = 256;

/// Something that has to be at its path inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    File,
    Link(PathBuf),
    /// A directory that a path only goes through.
    Directory,
}

/// All that has to be visible for a program to start, each at its own path. A file named `x` that
/// `#!/usr/bin/env x` asks for is looked for in the directories of `search`, which is the PATH
/// inside.
pub(crate) fn closure(program: &Path, search: &OsStr) -> Result<BTreeMap<PathBuf, Piece>> {
    let mut walk = Walk { pieces: BTreeMap::new(), search, program, obstacle: None };
    walk.visit(program, Role::Program, 0)?;
    let mut pieces = walk.pieces;
    let all: Vec<PathBuf> = pieces.keys().cloned().collect();
    // A directory in which there is something else is there in any case.
    let holds = |directory: &Path| all.iter().any(|path| is_below(path, directory));
    pieces.retain(|path, piece| *piece != Piece::Directory || !holds(path));
    Ok(pieces)
}

/// What a program that is there names to be run by, as far as it can be read.
pub(crate) fn interpreter_of(file: File) -> Option<OsString> {
    // From inside: nothing else is read, as that can wait.
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut line = [0; LINE];
    let length = object::read(&file, 0, &mut line).ok()?;
    let name = match line.get(..length)?.strip_prefix(b"#!") {
        Some(line) => first_word(line).0.to_vec(),
        None => Object::read(&file).ok()??.interpreter?,
    };
    (!name.is_empty()).then(|| OsString::from_vec(name))
}

/// The interpreter in a script's first line, and what follows. Only blanks and tabs end it: what
/// another system ends its lines with belongs to the name.
fn first_word(line: &[u8]) -> (&[u8], &[u8]) {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let line = line.split(|&byte| byte == b'\n' || byte == 0).next().unwrap_or(&[]);
    let start = line.iter().position(|byte| !is_blank(byte)).unwrap_or(line.len());
    let line = line.get(start..).unwrap_or(&[]);
    line.split_at(line.iter().position(is_blank).unwrap_or(line.len()))
}

/// What a file is looked for as.
#[derive(Clone, Copy)]
enum Role<'a> {
    Program,
    /// Of this file.
    Interpreter(&'a Path),
}

/// The links on the way to a file, and where it really is.
#[derive(Debug)]
struct Located {
    pieces: Vec<(PathBuf, Piece)>,
    real: PathBuf,
}

/// A program or library that is loaded.
struct Loaded {
    /// The directory that `$ORIGIN` stands for.
    origin: PathBuf,
    name: PathBuf,
    object: Object,
    /// The number of the one that needed it first.
    parent: Option<usize>,
}

struct Walk<'a> {
    pieces: BTreeMap<PathBuf, Piece>,
    search: &'a OsStr,
    program: &'a Path,
    /// What could not be looked into, or was no library, of all places of the library that is looked for.
    obstacle: Option<(PathBuf, Errno)>,
}

impl Walk<'_> {
    /// A program or interpreter, and all that it needs in turn.
    fn visit(&mut self, path: &Path, role: Role<'_>, depth: usize) -> Result<()> {
        let failed = |errno| match role {
            Role::Program => Error::new(Stage::Prepare, "read program", quoted(path), errno),
            Role::Interpreter(of) => {
                let object = format!("{} of {}", quoted(path), quoted(of));
                Error::new(Stage::Prepare, "find interpreter", object, errno)
            }
        };
        if depth > SCRIPTS_MAX {
            return Err(failed(Errno::ELOOP));
        }
        let located = locate(path).map_err(failed)?;
        let file = open(&located.real).map_err(failed)?;
        let real = located.real.clone();
        self.note(located);
        let mut line = [0; LINE];
        let length = object::read(&file, 0, &mut line).map_err(failed)?;
        if let Some(line) = line.get(..length).and_then(|line| line.strip_prefix(b"#!")) {
            return self.script(path, line, depth);
        }
        match Object::read(&file).map_err(failed)? {
            Some(object) => self.link(path, &real, object),
            None => Err(failed(Errno::ENOEXEC)),
        }
    }

    /// The interpreter that a first line names, and where that is env(1), what it is to run.
    fn script(&mut self, script: &Path, line: &[u8], depth: usize) -> Result<()> {
        let (interpreter, argument) = first_word(line);
        let interpreter = Path::new(OsStr::from_bytes(interpreter));
        self.visit(interpreter, Role::Interpreter(script), depth + 1)?;
        if interpreter.file_name() != Some(OsStr::new("env")) {
            return Ok(());
        }
        let Some(name) = started_by_env(argument.trim_ascii()) else { return Ok(()) };
        let found = self.in_path(name, script)?;
        self.visit(&found, Role::Interpreter(script), depth + 1)
    }

    fn in_path(&self, name: &OsStr, script: &Path) -> Result<PathBuf> {
        if name.as_bytes().contains(&b'/') {
            return Ok(name.into());
        }
        let mut obstacle = None;
        let mut in_path = |path: &OsStr| {
            let mut places = std::env::split_paths(path).map(|directory| directory.join(name));
            places.find(|place| match place.metadata().map_err(|error| errno_of(&error)) {
                Ok(found) => place.is_absolute() && found.is_file(),
                Err(Errno::ENOENT | Errno::ENOTDIR) => false,
                Err(errno) => {
                    obstacle.get_or_insert((place.clone(), errno));
                    false
                }
            })
        };
        if let Some(found) = in_path(self.search) {
            return Ok(found);
        }
        let outside = in_path(&std::env::var_os("PATH").unwrap_or_default());
        let of = format!("{} of {}, in PATH", quoted(name), quoted(script));
        let (object, errno) = match obstacle.filter(|_| outside.is_none()) {
            Some((place, errno)) => (format!("{} as {of}", quoted(place)), errno),
            None => (of, Errno::ENOENT),
        };
        let error = Error::new(Stage::Prepare, "find interpreter", object, errno);
        Err(error.with_hint(outside.map(Hint::OutsideOfPath)))
    }

    /// An ELF file's loader and libraries, in the order in which the loader looks for them.
    fn link(&mut self, path: &Path, real: &Path, object: Object) -> Result<()> {
        let machine = object.machine;
        let mut known = BTreeSet::new();
        let loader = match &object.interpreter {
            Some(name) => {
                let name = Path::new(OsStr::from_bytes(name));
                self.loader(name, path, machine, &mut known)?
            }
            None if object.needed.is_empty() => return Ok(()),
            // A library that was named like a program.
            None => Loader::usual(),
        };
        let origin = real.parent().unwrap_or(Path::new("/")).to_owned();
        let mut loaded = vec![Loaded { origin, name: path.to_owned(), object, parent: None }];
        let mut waiting = VecDeque::from([0]);
        while let Some(number) = waiting.pop_front() {
            for (name, optional) in wanted_by(&loaded, number) {
                if loader.provides(&name) || !known.insert(name.clone()) {
                    continue;
                }
                let found = self.library(&loader, &loaded, number, &name)?;
                if found.is_empty() && !optional {
                    return Err(self.missing(&loader, &name, &loaded, number));
                }
                for (path, object) in found {
                    known.extend(object.soname.clone());
                    let origin = path.parent().unwrap_or(Path::new("/")).to_owned();
                    waiting.push_back(loaded.len());
                    loaded.push(Loaded { origin, name: path, object, parent: Some(number) });
                }
                if loaded.len() > OBJECTS_MAX {
                    let object = format!("all libraries of {}", quoted(self.program));
                    return Err(Error::new(Stage::Prepare, "find", object, Errno::E2BIG));
                }
            }
        }
        Ok(())
    }

    fn loader(
        &mut self,
        name: &Path,
        of: &Path,
        machine: Machine,
        known: &mut BTreeSet<Vec<u8>>,
    ) -> Result<Loader> {
        let failed = |errno| {
            let object = format!("{} of {}", quoted(name), quoted(of));
            Error::new(Stage::Prepare, "find interpreter", object, errno)
        };
        let (located, file, object) = candidate(name, machine).map_err(failed)?;
        self.note(located);
        known.extend(object.soname);
        Loader::read(name, &file).map_err(failed)
    }

    /// Why a library is not found. The loader goes past what it cannot use, so that comes only now.
    fn missing(&self, loader: &Loader, name: &[u8], loaded: &[Loaded], number: usize) -> Error {
        let name = quoted(OsStr::from_bytes(name));
        let by = loaded.get(number).map_or_else(String::new, |wants| quoted(&wants.name));
        let program = quoted(self.program);
        let object = match number {
            0 => format!("{name} of {by}"),
            _ => format!("{name} of {by}, which {program} needs"),
        };
        match (&self.obstacle, &loader.table, loader.unread) {
            (Some((place, errno)), ..) => {
                let object = format!("{} as {object}", quoted(place));
                Error::new(Stage::Prepare, "read library", object, *errno)
            }
            (None, Some(table), Some(errno)) => {
                let object = format!("{} for {object}", quoted(table));
                Error::new(Stage::Prepare, "read list of libraries", object, errno)
            }
            _ => Error::new(Stage::Prepare, "find library", object, Errno::ENOENT),
        }
    }

    /// The files that a library's name stands for: one, or several of which the loader takes one by
    /// what the processor can do.
    fn library(
        &mut self,
        loader: &Loader,
        loaded: &[Loaded],
        number: usize,
        name: &[u8],
    ) -> Result<Vec<(PathBuf, Object)>> {
        let Some(wants) = loaded.get(number) else { return Ok(Vec::new()) };
        self.obstacle = None;
        let machine = wants.object.machine;
        if name.contains(&b'/') {
            return Ok(self.first(&expand(name, &wants.origin), machine));
        }
        let name = OsStr::from_bytes(name);
        for directory in directories_of(loader, loaded, number) {
            let found = self.in_directory(&directory, name, machine);
            if !found.is_empty() {
                return Ok(found);
            }
        }
        if wants.object.no_default {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        for place in loader.cached(name.as_bytes()) {
            found.extend(self.first(&[place], machine));
        }
        let mut by_directory = Vec::new();
        for directory in &loader.directories {
            by_directory = self.in_directory(directory, name, machine);
            if !by_directory.is_empty() {
                break;
            }
        }
        let same = |(path, _): &(PathBuf, Object)| {
            by_directory.first().is_some_and(|(other, _)| real(other) == real(path))
        };
        if loader.is_musl || !found.iter().all(same) {
            // What it says decides, so it has to be there.
            let table = loader.table.as_deref().and_then(|table| locate(table).ok());
            table.into_iter().for_each(|table| self.note(table));
        }
        found.extend(by_directory);
        Ok(found)
    }

    /// A library in a directory, and the variants of it for some processors.
    fn in_directory(
        &mut self,
        directory: &Path,
        name: &OsStr,
        machine: Machine,
    ) -> Vec<(PathBuf, Object)> {
        let plain = self.first(&[directory.join(name)], machine);
        if plain.is_empty() {
            return plain;
        }
        let mut found = plain;
        let variants = directory.join("glibc-hwcaps");
        for variant in machine.variants() {
            found.extend(self.first(&[variants.join(variant).join(name)], machine));
        }
        found
    }

    /// The first of these places at which there is a library for the machine; the loader goes past
    /// what is not.
    fn first(&mut self, places: &[PathBuf], machine: Machine) -> Vec<(PathBuf, Object)> {
        for place in places {
            match candidate(place, machine) {
                Ok((located, _, object)) => {
                    self.note(located);
                    return vec![(place.clone(), object)];
                }
                Err(Errno::ENOENT | Errno::ENOTDIR) => {}
                Err(errno) if self.obstacle.is_none() => {
                    self.obstacle = Some((place.clone(), of_data(place, errno)));
                }
                Err(_) => {}
            }
        }
        Vec::new()
    }

    fn note(&mut self, located: Located) {
        for (path, piece) in located.pieces {
            // A file or link says more than that a path goes through here.
            if piece != Piece::Directory || !self.pieces.contains_key(&path) {
                self.pieces.insert(path, piece);
            }
        }
        self.pieces.insert(located.real, Piece::File);
    }
}

/// The names of libraries that one asks for, and whether each may be missing.
fn wanted_by(loaded: &[Loaded], number: usize) -> Vec<(Vec<u8>, bool)> {
    let Some(Loaded { object, .. }) = loaded.get(number) else { return Vec::new() };
    let optional = object.optional.iter().map(|name| (name.clone(), true));
    optional.chain(object.needed.iter().map(|name| (name.clone(), false))).collect()
}

/// The directories that a file and those who led to it name (`DT_RPATH`, `DT_RUNPATH`).
fn directories_of(loader: &Loader, loaded: &[Loaded], number: usize) -> Vec<PathBuf> {
    let mut directories = Vec::new();
    let mut add = |list: &[u8], origin: &Path| {
        for part in list.split(|&byte| byte == b':').filter(|part| !part.is_empty()) {
            directories.extend(expand(part, origin));
        }
    };
    let own = loaded.get(number);
    let has_runpath = own.is_some_and(|own| own.object.runpath.is_some());
    let mut at = own.filter(|_| loader.is_musl || !has_runpath);
    while let Some(Loaded { origin, object, parent, .. }) = at {
        match (&object.runpath, &object.rpath) {
            // musl makes no difference between them.
            (Some(list), _) if loader.is_musl => add(list, origin),
            (None, Some(list)) => add(list, origin),
            _ => {}
        }
        // A parent always comes before what it needs.
        at = parent.and_then(|parent| loaded.get(parent));
    }
    if let Some((own, list)) = own.and_then(|own| Some((own, own.object.runpath.as_ref()?))) {
        add(list, &own.origin);
    }
    directories
}

/// The program that env(1) is to run by a script's first line, of which the kernel makes one
/// argument.
fn started_by_env(argument: &[u8]) -> Option<&OsStr> {
    let Some(words) = argument.strip_prefix(b"-S").or(argument.strip_prefix(b"--split-string="))
    else {
        let is_option = argument.is_empty() || argument.starts_with(b"-");
        return (!is_option).then(|| OsStr::from_bytes(argument));
    };
    let mut words = words.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let name = words.find(|word| !word.starts_with(b"-") && !word.contains(&b'='));
    name.map(OsStr::from_bytes)
}

/// Something at this path that the machine can load.
fn candidate(path: &Path, machine: Machine) -> Result<(Located, File, Object), Errno> {
    let located = locate(path)?;
    let file = open(&located.real)?;
    match Object::read(&file)? {
        Some(object) if object.machine == machine => Ok((located, file, object)),
        _ => Err(Errno::ENOEXEC),
    }
}

fn is_below(path: &Path, directory: &Path) -> bool {
    path != directory && path.starts_with(directory)
}

fn real(path: &Path) -> Option<PathBuf> {
    locate(path).ok().map(|located| located.real)
}

/// Follows a path as the kernel does, and keeps what it goes through.
fn locate(path: &Path) -> Result<Located, Errno> {
    if !path.is_absolute() {
        return Err(Errno::ENOENT);
    }
    let mut rest = reversed(path);
    let mut located = Located { pieces: Vec::new(), real: PathBuf::from("/") };
    let mut links = 0;
    while let Some(part) = rest.pop() {
        if part == ".." {
            located.pieces.push((located.real.clone(), Piece::Directory));
            located.real.pop();
            continue;
        }
        located.real.push(&part);
        let found = located.real.symlink_metadata().map_err(|error| errno_of(&error))?;
        if found.is_symlink() {
            let target = located.real.read_link().map_err(|error| errno_of(&error))?;
            links += 1;
            if links > LINKS_MAX {
                return Err(Errno::ELOOP);
            }
            rest.extend(reversed(&target));
            located.pieces.push((located.real.clone(), Piece::Link(target.clone())));
            if target.is_absolute() {
                located.real = PathBuf::from("/");
            } else {
                located.real.pop();
            }
        } else if !rest.is_empty() && !found.is_dir() {
            return Err(Errno::ENOTDIR);
        }
    }
    Ok(located)
}

/// The parts of a path, the last one first.
fn reversed(path: &Path) -> Vec<OsString> {
    let parts = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    });
    let mut parts: Vec<_> = parts.collect();
    parts.reverse();
    parts
}

/// Opens a regular file; nothing else is even opened, as that can wait or do something.
fn open(path: &Path) -> Result<File, Errno> {
    let kind = |error| errno_of(&error);
    if !path.metadata().map_err(kind)?.is_file() {
        return Err(Errno::EACCES);
    }
    let mut options = File::options();
    options.read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
    let file = options.open(path).map_err(kind)?;
    // What was there a moment ago may have been replaced.
    if file.metadata().map_err(kind)?.is_file() { Ok(file) } else { Err(Errno::EACCES) }
}

/// The same for what is read and not executed.
fn open_data(path: &Path) -> Result<File, Errno> {
    open(path).map_err(|errno| of_data(path, errno))
}

/// The kernel refuses to execute a directory, and to read it.
fn of_data(path: &Path, errno: Errno) -> Errno {
    if errno == Errno::EACCES && path.is_dir() { Errno::EISDIR } else { errno }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_env_starts() {
        for (argument, name) in [
            ("python3", Some("python3")),
            ("-S python3 -u", Some("python3")),
            ("-S A=b perl -w", Some("perl")),
            ("-Sperl", Some("perl")),
            ("-i", None),
            ("", None),
        ] {
            assert_eq!(started_by_env(argument.as_bytes()), name.map(OsStr::new), "{argument}");
        }
    }

    #[test]
    fn links_are_kept_and_loops_end() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        std::fs::create_dir(root.join("a")).unwrap();
        std::fs::write(root.join("a/file"), "").unwrap();
        std::os::unix::fs::symlink("a", root.join("b")).unwrap();
        std::os::unix::fs::symlink("../b/file", root.join("a/link")).unwrap();
        std::os::unix::fs::symlink("loop", root.join("loop")).unwrap();
        let located = locate(&root.join("b/link")).unwrap();
        assert_eq!(located.real, root.join("a/file"));
        let link = |at: &str, to: &str| (root.join(at), Piece::Link(to.into()));
        let through = (root.join("a"), Piece::Directory);
        let expected = [link("b", "a"), link("a/link", "../b/file"), through, link("b", "a")];
        assert_eq!(located.pieces, expected);
        assert_eq!(locate(&root.join("loop")).unwrap_err(), Errno::ELOOP);
        assert_eq!(locate(&root.join("a/file/x")).unwrap_err(), Errno::ENOTDIR);
        assert_eq!(locate(Path::new("relative")).unwrap_err(), Errno::ENOENT);
    }
}
