//! Where a dynamic loader looks for libraries;
//! [ld.so(8)](https://man7.org/linux/man-pages/man8/ld.so.8.html).
//!
//! Which directories it looks into by itself, and where its cache is, was decided when it was
//! built. Both are in it as texts, and are read from there: a loader of Debian's has others than one
//! of Fedora's, of Nix' or of musl's.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::open_data;
use crate::executable::errno_of;

/// No loader, and no cache, is as large.
const LARGEST: u64 = 64 << 20;
/// Where to look if the loader does not tell.
const USUAL: &[&str] = &["/lib64", "/usr/lib64", "/lib", "/usr/lib"];
/// Begins the part of the cache that is not a libc5's.
const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
/// What a library has a name of its own for and musl has in its loader.
const IN_MUSL: &[&str] = &["c", "pthread", "rt", "m", "dl", "util", "xnet"];

/// A dynamic loader.
#[derive(Debug)]
pub(super) struct Loader {
    pub(super) directories: Vec<PathBuf>,
    /// musl's, which has rules of its own.
    pub(super) is_musl: bool,
    /// The file that its directories, or the places of libraries, come from.
    pub(super) table: Option<PathBuf>,
    /// Why that cannot be read, if it is there: the loader then does without.
    pub(super) unread: Option<Errno>,
    cache: Vec<u8>,
}

impl Loader {
    /// One that is not known.
    pub(super) fn usual() -> Self {
        let directories = USUAL.iter().map(PathBuf::from).collect();
        Loader { directories, is_musl: false, table: None, unread: None, cache: Vec::new() }
    }

    /// Reads a loader; `name` is what programs call it by.
    pub(super) fn read(name: &Path, file: &File) -> Result<Self, Errno> {
        let text = all_of(file)?;
        let texts = || text.split(|&byte| byte == 0).filter(|text| text.len() < 4096);
        let mut loader = Loader { directories: Vec::new(), ..Loader::usual() };
        if let Some(table) = texts().find_map(|text| text.strip_prefix(b"%.*s/etc/ld-musl-")) {
            loader.read_musl(name, table, texts());
        } else {
            loader.read_glibc(texts());
        }
        // musl's, with a list that cannot be read, looks nowhere.
        if loader.directories.is_empty() && !(loader.is_musl && loader.unread.is_some()) {
            loader.directories = Loader::usual().directories;
        }
        Ok(loader)
    }

    fn read_glibc<'a>(&mut self, texts: impl Iterator<Item = &'a [u8]>) {
        for text in texts.filter(|text| text.starts_with(b"/")) {
            if text.ends_with(b"/etc/ld.so.cache") {
                let path = PathBuf::from(OsStr::from_bytes(text));
                self.cache = self.list(&path).unwrap_or_default();
                self.table = Some(path);
            } else if text.len() > 1 && text.ends_with(b"/") {
                let directory = PathBuf::from(OsStr::from_bytes(&text[..text.len() - 1]));
                if !self.directories.contains(&directory) {
                    self.directories.push(directory);
                }
            }
        }
    }

    /// The table lies beside the loader's directory, and says all there is to say.
    fn read_musl<'a>(
        &mut self,
        name: &Path,
        table: &[u8],
        mut texts: impl Iterator<Item = &'a [u8]>,
    ) {
        self.is_musl = true;
        let prefix = name.parent().and_then(Path::parent).unwrap_or(Path::new("/"));
        let table = [&b"ld-musl-"[..], table].concat();
        let table = prefix.join("etc").join(OsStr::from_bytes(&table));
        let list = self.list(&table).unwrap_or_else(|| {
            let is_list = |text: &&[u8]| text.starts_with(b"/lib:/");
            texts.find(is_list).unwrap_or(&[]).to_vec()
        });
        if table.exists() || self.unread.is_some() {
            self.table = Some(table);
        }
        let parts = list.split(|byte| matches!(byte, b':' | b'\n'));
        let directories = parts.map(|part| PathBuf::from(OsStr::from_bytes(part)));
        self.directories = directories.filter(|path| path.is_absolute()).collect();
    }

    /// What is in the file that lists libraries or directories; `None` if there is none.
    fn list(&mut self, path: &Path) -> Option<Vec<u8>> {
        match open_data(path).and_then(|file| all_of(&file)) {
            Err(Errno::ENOENT | Errno::ENOTDIR) => None,
            Err(errno) => {
                self.unread = Some(errno);
                Some(Vec::new())
            }
            Ok(bytes) => Some(bytes),
        }
    }

    /// Whether the loader has it in itself.
    pub(super) fn provides(&self, name: &[u8]) -> bool {
        let Some(rest) = name.strip_prefix(b"lib").filter(|_| self.is_musl) else { return false };
        let is_one = |own: &&str| rest.strip_prefix(own.as_bytes()).is_some_and(starts_with_dot);
        IN_MUSL.iter().any(is_one)
    }

    /// The places of a library that the cache knows, the one for any processor among them.
    pub(super) fn cached(&self, name: &[u8]) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let Some(start) = self.cache.windows(MAGIC.len()).position(|part| part == MAGIC) else {
            return found;
        };
        let cache = self.cache.get(start..).unwrap_or(&[]);
        let number = |at: usize| -> Option<usize> {
            let bytes = cache.get(at..at.checked_add(4)?)?;
            usize::try_from(u32::from_ne_bytes(bytes.try_into().ok()?)).ok()
        };
        let text = |at: usize| cache.get(at..)?.split(|&byte| byte == 0).next();
        // struct cache_file_new: 20 bytes of magic, a count, 24 more; then entries of 24 bytes,
        // which are flags, key, value, version and capabilities.
        let count = number(20).unwrap_or(0).min(cache.len() / 24);
        for entry in (0..count).map(|index| 48 + index * 24) {
            let Some(key) = number(entry + 4).and_then(text).filter(|key| *key == name) else {
                continue;
            };
            if let Some(path) = number(entry + 8).and_then(text).filter(|_| !key.is_empty()) {
                found.push(PathBuf::from(OsStr::from_bytes(path)));
            }
        }
        found.retain(|path| path.is_absolute());
        found
    }
}

fn starts_with_dot(text: &[u8]) -> bool {
    text.starts_with(b".")
}

fn all_of(file: &File) -> Result<Vec<u8>, Errno> {
    let mut bytes = Vec::new();
    file.take(LARGEST).read_to_end(&mut bytes).map_err(|error| errno_of(&error))?;
    Ok(bytes)
}

/// Replaces `$ORIGIN`, `$LIB` and `$PLATFORM` in a path. What the last two stand for was decided
/// when the loader was built: all that is usual is tried.
pub(super) fn expand(text: &[u8], origin: &Path) -> Vec<PathBuf> {
    let triplet = format!("lib/{}-linux-gnu", std::env::consts::ARCH);
    let origin = origin.as_os_str().as_bytes();
    let tokens: [(&[u8], &[&[u8]]); 3] = [
        (b"ORIGIN", &[origin]),
        (b"LIB", &[triplet.as_bytes(), b"lib64", b"lib"]),
        (b"PLATFORM", &[std::env::consts::ARCH.as_bytes(), b"haswell", b"xeon_phi"]),
    ];
    let mut made = vec![Vec::new()];
    let mut rest = text;
    while let Some((&first, tail)) = rest.split_first() {
        let token = tokens.iter().find_map(|(name, values)| {
            let name = [b"$", *name].concat();
            let braced = [b"${", &name[1..], b"}"].concat();
            let after = rest.strip_prefix(&*braced).or_else(|| rest.strip_prefix(&*name));
            after.map(|after| (after, *values))
        });
        let (after, values) = match token {
            Some((after, values)) => (after, values),
            None => (tail, &[std::slice::from_ref(&first)][..]),
        };
        // Three places for each of a few tokens; more is not a path that anybody wrote.
        if made.len() * values.len() > 81 {
            return Vec::new();
        }
        let longer = |path: &Vec<u8>| -> Vec<Vec<u8>> {
            values.iter().map(|value| [path, *value].concat()).collect()
        };
        made = made.iter().flat_map(longer).collect();
        rest = after;
    }
    let paths = made.into_iter().map(|path| PathBuf::from(OsStr::from_bytes(&path)));
    // A relative one starts where the program is started, which is not known here.
    paths.filter(|path| path.is_absolute()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tokens_of_a_path() {
        let paths = |text: &[u8]| expand(text, Path::new("/o"));
        assert_eq!(paths(b"$ORIGIN/../lib"), [Path::new("/o/../lib")]);
        assert_eq!(paths(b"${ORIGIN}x"), [Path::new("/ox")]);
        assert_eq!(paths(b"/$LIB").len(), 3);
        assert_eq!(paths(b"/a$b"), [Path::new("/a$b")]);
        assert_eq!(paths(b"relative"), [""; 0].map(PathBuf::from));
        assert_eq!(paths(&b"/$LIB".repeat(100)), [""; 0].map(PathBuf::from));
    }

    fn with_cache(cache: Vec<u8>) -> Loader {
        Loader { directories: Vec::new(), cache, ..Loader::usual() }
    }

    #[test]
    fn a_broken_cache_is_an_empty_one() {
        let mut cache = MAGIC.to_vec();
        cache.extend(u32::MAX.to_ne_bytes());
        cache.extend([0xff; 4096]);
        assert_eq!(with_cache(cache).cached(b"libc.so.6"), [""; 0].map(PathBuf::from));
        for length in 0..MAGIC.len() + 30 {
            let cache = [MAGIC, &[0; 30]].concat();
            assert!(with_cache(cache[..length].to_vec()).cached(b"").is_empty());
        }
    }

    #[test]
    fn what_musl_has_in_itself() {
        let mut loader = with_cache(Vec::new());
        assert!(!loader.provides(b"libc.so"));
        loader.is_musl = true;
        for name in ["libc.so", "libc.musl-x86_64.so.1", "libm.so.6", "libpthread.so.0"] {
            assert!(loader.provides(name.as_bytes()), "{name}");
        }
        for name in ["libcrypto.so.3", "libmagic.so.1", "c.so", "libz.so.1"] {
            assert!(!loader.provides(name.as_bytes()), "{name}");
        }
    }
}
