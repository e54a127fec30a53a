//! What the kernel and the dynamic loader read of an ELF file;
//! [elf(5)](https://man7.org/linux/man-pages/man5/elf.5.html).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use elf::abi;
use elf::dynamic::{Dyn, DynamicTable};
use elf::endian::AnyEndian;
use elf::file::{Class, FileHeader, parse_ident};
use elf::segment::{ProgramHeader, SegmentTable};
use nix::errno::Errno;

/// The size of the header of an ELF64 file.
const HEADER: usize = 64;
/// `PATH_MAX`, the longest text that is read.
const LONGEST: usize = 4096;
/// More entries than this in the dynamic section are no program's.
const ENTRIES: u64 = 1 << 16;
/// More libraries than this are no program's.
const NEEDED: usize = 2048;
/// A library that this one stands in for, if it is there (`DT_AUXILIARY`), or always (`DT_FILTER`).
const AUXILIARY: i64 = 0x7fff_fffd;
const FILTER: i64 = 0x7fff_ffff;

/// A file, or in tests its bytes.
pub(super) trait Source {
    fn read_at(&self, offset: u64, to: &mut [u8]) -> io::Result<usize>;
}

impl Source for File {
    fn read_at(&self, offset: u64, to: &mut [u8]) -> io::Result<usize> {
        FileExt::read_at(self, to, offset)
    }
}

/// What files have to have in common to be in one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Machine {
    wide: bool,
    endian: AnyEndian,
    number: u16,
}

impl Machine {
    /// The directories below `glibc-hwcaps` of which the loader may take one.
    pub(super) fn variants(self) -> &'static [&'static str] {
        match self.number {
            abi::EM_X86_64 => &["x86-64-v4", "x86-64-v3", "x86-64-v2"],
            _ => &[],
        }
    }
}

/// An ELF file, as far as its loading is concerned. Texts are as they are in the file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Object {
    pub(super) machine: Machine,
    pub(super) interpreter: Option<Vec<u8>>,
    pub(super) needed: Vec<Vec<u8>>,
    /// Libraries that may be missing.
    pub(super) optional: Vec<Vec<u8>>,
    pub(super) soname: Option<Vec<u8>>,
    pub(super) rpath: Option<Vec<u8>>,
    pub(super) runpath: Option<Vec<u8>>,
    /// The cache and the loader's own directories are not for this one (`-z nodefaultlib`).
    pub(super) no_default: bool,
}

impl Object {
    /// Reads what there is; `None` if the file is no ELF file at all, `ENOEXEC` if it is a broken
    /// one.
    pub(super) fn read(file: &impl Source) -> Result<Option<Self>, Errno> {
        let mut bytes = [0; HEADER];
        let length = read(file, 0, &mut bytes)?;
        if !bytes.starts_with(&abi::ELFMAGIC) {
            return Ok(None);
        }
        let header = bytes.get(..length).and_then(header).ok_or(Errno::ENOEXEC)?;
        let segments = Segments::read(file, &header)?;
        let machine = Machine {
            wide: header.class == Class::ELF64,
            endian: header.endianness,
            number: header.e_machine,
        };
        let mut object = Object {
            machine,
            interpreter: segments.interpreter(file)?,
            needed: Vec::new(),
            optional: Vec::new(),
            soname: None,
            rpath: None,
            runpath: None,
            no_default: false,
        };
        for (tag, place) in segments.dynamic(file, &header)? {
            object.take(tag, || place.and_then(|offset| text(file, offset)))?;
        }
        Ok(Some(object))
    }

    fn take(
        &mut self,
        tag: i64,
        text: impl FnOnce() -> Result<Vec<u8>, Errno>,
    ) -> Result<(), Errno> {
        match tag {
            abi::DT_NEEDED | FILTER => self.needed.push(text()?),
            AUXILIARY => self.optional.push(text()?),
            abi::DT_SONAME => self.soname = Some(text()?),
            abi::DT_RPATH => self.rpath = Some(text()?),
            abi::DT_RUNPATH => self.runpath = Some(text()?),
            NO_DEFAULT => self.no_default = true,
            _ => {}
        }
        if self.needed.len() + self.optional.len() > NEEDED { Err(Errno::E2BIG) } else { Ok(()) }
    }
}

/// Stands for `DF_1_NODEFLIB` in `DT_FLAGS_1`, which carries no text.
const NO_DEFAULT: i64 = -1;

/// A tag, and the place of its text in the file.
type Entry = (i64, Result<u64, Errno>);

struct Segments(Vec<ProgramHeader>);

impl Segments {
    fn read(file: &impl Source, header: &FileHeader<AnyEndian>) -> Result<Self, Errno> {
        let size = if header.class == Class::ELF64 { 56 } else { 32 };
        if header.e_phnum != 0 && header.e_phentsize != size {
            return Err(Errno::ENOEXEC);
        }
        let table = part(file, header.e_phoff, u64::from(header.e_phnum) * u64::from(size))?;
        Ok(Segments(SegmentTable::new(header.endianness, header.class, &table).iter().collect()))
    }

    fn find(&self, kind: u32) -> Option<&ProgramHeader> {
        self.0.iter().find(|segment| segment.p_type == kind)
    }

    fn interpreter(&self, file: &impl Source) -> Result<Option<Vec<u8>>, Errno> {
        let Some(segment) = self.find(abi::PT_INTERP) else { return Ok(None) };
        // As the kernel does: at least one byte and the NUL, and no longer than a path.
        if !(2..=LONGEST as u64).contains(&segment.p_filesz) {
            return Err(Errno::ENOEXEC);
        }
        let bytes = part(file, segment.p_offset, segment.p_filesz)?;
        match bytes.split(|&byte| byte == 0).next() {
            Some(name) if name.len() < bytes.len() => Ok(Some(name.to_vec())),
            _ => Err(Errno::ENOEXEC),
        }
    }

    /// The entries of the dynamic section that tell of other files.
    fn dynamic(
        &self,
        file: &impl Source,
        header: &FileHeader<AnyEndian>,
    ) -> Result<Vec<Entry>, Errno> {
        let Some(segment) = self.find(abi::PT_DYNAMIC) else { return Ok(Vec::new()) };
        let size = if header.class == Class::ELF64 { 16 } else { 8 };
        let bytes = part(file, segment.p_offset, segment.p_filesz.min(ENTRIES * size))?;
        let table = DynamicTable::new(header.endianness, header.class, &bytes);
        let entries: Vec<Dyn> =
            table.iter().take_while(|entry| entry.d_tag != abi::DT_NULL).collect();
        let strings = entries.iter().find(|entry| entry.d_tag == abi::DT_STRTAB);
        let strings = strings.and_then(|entry| self.place(entry.d_ptr()));
        let entry = |entry: &Dyn| match entry.d_tag {
            abi::DT_FLAGS_1 if entry.d_val() & abi::DF_1_NODEFLIB as u64 != 0 => {
                (NO_DEFAULT, Err(Errno::ENOEXEC))
            }
            tag @ (abi::DT_NEEDED
            | abi::DT_SONAME
            | abi::DT_RPATH
            | abi::DT_RUNPATH
            | AUXILIARY
            | FILTER) => {
                let place = strings.and_then(|start| start.checked_add(entry.d_val()));
                (tag, place.ok_or(Errno::ENOEXEC))
            }
            _ => (abi::DT_NULL, Err(Errno::ENOEXEC)),
        };
        Ok(entries.iter().map(entry).collect())
    }

    /// Where in the file an address is loaded from.
    fn place(&self, address: u64) -> Option<u64> {
        let loaded = self.0.iter().filter(|segment| segment.p_type == abi::PT_LOAD);
        loaded.into_iter().find_map(|segment| {
            let inside = address.checked_sub(segment.p_vaddr)?;
            (inside < segment.p_filesz).then(|| segment.p_offset.checked_add(inside))?
        })
    }
}

fn header(bytes: &[u8]) -> Option<FileHeader<AnyEndian>> {
    // The crate takes it for granted that these are there.
    let (ident, tail) = bytes.split_at_checked(abi::EI_NIDENT)?;
    FileHeader::parse_tail(parse_ident(ident).ok()?, tail).ok()
}

/// Reads until the buffer is full or the file at its end.
pub(super) fn read(file: &impl Source, offset: u64, to: &mut [u8]) -> Result<usize, Errno> {
    let mut length = 0;
    while let Some(rest) = to.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match file.read_at(offset.saturating_add(length as u64), rest) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(crate::executable::errno_of(&error)),
        }
    }
    Ok(length)
}

/// Exactly this part of the file, which the callers have limited.
fn part(file: &impl Source, offset: u64, length: u64) -> Result<Vec<u8>, Errno> {
    let mut bytes = vec![0; usize::try_from(length).map_err(|_| Errno::ENOEXEC)?];
    let complete = read(file, offset, &mut bytes)? == bytes.len();
    if complete { Ok(bytes) } else { Err(Errno::ENOEXEC) }
}

/// A text that ends in NUL.
fn text(file: &impl Source, offset: u64) -> Result<Vec<u8>, Errno> {
    let mut bytes = vec![0; LONGEST];
    let length = read(file, offset, &mut bytes)?;
    bytes.truncate(length);
    let end = bytes.iter().position(|&byte| byte == 0).ok_or(Errno::ENOEXEC)?;
    bytes.truncate(end);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Source for [u8] {
        fn read_at(&self, offset: u64, to: &mut [u8]) -> io::Result<usize> {
            let from = usize::try_from(offset).ok().and_then(|start| self.get(start..));
            Ok(from.map_or(0, |from| {
                let length = from.len().min(to.len());
                to[..length].copy_from_slice(&from[..length]);
                length
            }))
        }
    }

    impl Source for Vec<u8> {
        fn read_at(&self, offset: u64, to: &mut [u8]) -> io::Result<usize> {
            self.as_slice().read_at(offset, to)
        }
    }

    impl Source for &[u8] {
        fn read_at(&self, offset: u64, to: &mut [u8]) -> io::Result<usize> {
            (**self).read_at(offset, to)
        }
    }

    /// The test's own program, which is dynamically linked.
    fn own() -> Vec<u8> {
        std::fs::read("/proc/self/exe").unwrap()
    }

    #[test]
    fn a_dynamic_program_tells_what_it_needs() {
        let object = Object::read(&own()).unwrap().unwrap();
        assert!(object.interpreter.unwrap().starts_with(b"/"));
        assert!(object.needed.iter().any(|name| name.starts_with(b"libc.")));
    }

    #[test]
    fn what_is_no_elf_file_is_none() {
        for bytes in [&b""[..], b"#!/bin/sh\n", b"\x7fEL", b"\x7fFLE"] {
            assert_eq!(Object::read(&bytes.to_vec()), Ok(None));
        }
        assert_eq!(Object::read(&b"\x7fELF".to_vec()), Err(Errno::ENOEXEC));
    }

    #[test]
    fn cut_off_anywhere_it_is_an_error_or_the_same() {
        let whole = own();
        let object = Object::read(&whole).unwrap();
        let step = (whole.len() / 2000).max(1);
        for length in (0..200).chain((200..whole.len()).step_by(step)) {
            match Object::read(&&whole[..length]) {
                Ok(None) => assert!(length < 4),
                Ok(some) => assert_eq!(some, object, "cut at {length}"),
                Err(errno) => assert_eq!(errno, Errno::ENOEXEC),
            }
        }
    }

    /// Each byte of the headers and of the dynamic section, with each of a few values: an answer
    /// comes, and soon.
    #[test]
    fn changed_bytes_neither_panic_nor_loop() {
        let whole = own();
        let header = header(&whole[..HEADER]).unwrap();
        let segments = Segments::read(&whole, &header).unwrap();
        let dynamic = segments.find(abi::PT_DYNAMIC).unwrap();
        let range = |start: u64, length: u64| {
            (usize::try_from(start).unwrap())..(usize::try_from(start + length).unwrap())
        };
        let table = range(header.e_phoff, u64::from(header.e_phnum) * 56);
        let places = (0..HEADER).chain(table).chain(range(dynamic.p_offset, dynamic.p_filesz));
        // Only what is read is kept, or the copies would take the time.
        let end = usize::try_from(dynamic.p_offset + dynamic.p_filesz).unwrap();
        let strings = whole[..end.max(1 << 16).min(whole.len())].to_vec();
        let mut bytes = strings;
        for place in places {
            let before = bytes[place];
            for value in [0, 1, 2, 0x7f, 0x80, 0xff, before ^ 1, before.wrapping_add(1)] {
                bytes[place] = value;
                if let Err(errno) = Object::read(&bytes) {
                    assert!(matches!(errno, Errno::ENOEXEC | Errno::E2BIG), "{place}: {errno}");
                }
            }
            bytes[place] = before;
        }
    }
}
