//! What is recognised by what it is, and not by a text.

use super::facts::Facts;
use super::format::*;
use super::leak::Leak;
use super::search::Search;
use super::told::{Item, number, word};

/// Where hardware shows, if there is anything to read.
const HARDWARE: [&str; 17] = [
    "/sys/bus",
    "/sys/class",
    "/sys/devices",
    "/sys/firmware",
    "/proc/acpi",
    "/proc/bus",
    "/proc/diskstats",
    "/proc/dma",
    "/proc/driver",
    "/proc/interrupts",
    "/proc/iomem",
    "/proc/ioports",
    "/proc/mdstat",
    "/proc/partitions",
    "/proc/scsi",
    "/proc/swaps",
    "/proc/tty/driver",
];
/// Where sound cards and monitors do.
const MONITORS: [&str; 5] =
    ["/proc/asound", "/sys/class/sound", "/sys/class/drm", "/dev/snd", "/dev/dri"];
/// Devices that stand for nothing: null, zero, full, random, urandom, tty, ptmx.
const PLAIN: [(u64, u64); 7] = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2)];
/// Terminals of a devpts.
const TERMINALS: u64 = 136;

impl Search {
    pub(super) fn structured(&mut self, item: &Item) {
        let place = item.place();
        if let Some(number) = item.file_system.filter(|it| self.facts.file_systems.contains(it)) {
            self.add(Leak::FileSystem, &format!("{number:#x}"), &format!("statfs(2) of {place}"));
        }
        if let Some(device) = item.device {
            self.device(device, &place);
        }
        if let Some(number) = item.descriptor {
            self.descriptor(number, &item.data);
        }
        match &*item.name {
            UNAME => self.names(&item.data),
            SYSINFO => self.sysinfo(&item.data),
            CLOCKS => self.clocks(&item.data),
            AFFINITY => {
                let count: u32 = item.data.iter().map(|byte| byte.count_ones()).sum();
                self.processors(usize::try_from(count).unwrap_or(0), &place);
            }
            KEYRINGS => self.keyrings(&item.data),
            INTERFACES => self.interfaces(&item.data),
            b"/etc/passwd" => self.users(&item.data),
            b"/proc/stat" => {
                let text = String::from_utf8_lossy(&item.data);
                let of_one = |line: &&str| {
                    line.strip_prefix("cpu").is_some_and(|rest| !rest.starts_with(' '))
                };
                self.processors(text.lines().filter(of_one).count(), &place);
            }
            name => self.path(&String::from_utf8_lossy(name), &item.data, &place),
        }
    }

    fn path(&mut self, name: &str, data: &[u8], place: &str) {
        if data.is_empty() || !name.starts_with('/') {
            return;
        }
        let is_in = |places: &[&str]| places.iter().any(|at| name.starts_with(at));
        if is_in(&MONITORS) {
            self.add(Leak::Monitor, "what they are, and whether they are used", place);
        } else if is_in(&HARDWARE) {
            self.add(Leak::Hardware, "what there is, and how it is used", place);
        }
        if !name.starts_with("/proc/") {
            return;
        }
        let text = String::from_utf8_lossy(data);
        if name.ends_with("/mountinfo") {
            text.lines().for_each(|line| self.mount(line, place));
        }
        if name.ends_with("/uid_map") || name.ends_with("/gid_map") {
            self.ids(&text, place);
        }
        if name.ends_with("/cgroup") {
            for path in text.lines().filter_map(|line| line.splitn(3, ':').nth(2)) {
                if path != "/" {
                    self.add(Leak::Cgroup, path, place);
                }
            }
        }
        if name == "/proc/loadavg" && !data.starts_with(b"0.00 0.00 0.00 1/1 1\n") {
            self.add(Leak::Load, "of the whole machine", place);
        }
    }

    /// A line of mountinfo: where a mount begins on its file system, what that lies on, its options.
    fn mount(&mut self, line: &str, place: &str) {
        let Some((first, last)) = line.split_once(" - ") else { return };
        let first: Vec<_> = first.split(' ').collect();
        let last: Vec<_> = last.split(' ').collect();
        let ([_, _, _, root, point, ..], [kind, source, options, ..]) = (&first[..], &last[..])
        else {
            return;
        };
        // What the kernel has in memory has paths of its own, which are those of the sandbox.
        let in_memory = ["tmpfs", "proc", "devpts", "mqueue", "sysfs", "devtmpfs", "cgroup2"];
        if !in_memory.contains(kind) && *root != "/" && root != point {
            self.add(Leak::Path, &format!("{root} at {point}"), place);
        }
        for option in options.split(',') {
            let value = option.split_once('=').map_or("", |(_, value)| value);
            let layers = option.starts_with("lowerdir") || option.starts_with("upperdir");
            if layers && value.split(':').any(|path| path.starts_with('/')) {
                self.add(Leak::Path, value, place);
            }
        }
        if source.starts_with('/') {
            self.add(Leak::Device, source, place);
        } else if source.contains(":/") {
            self.add(Leak::Path, source, place);
        }
    }

    fn ids(&mut self, text: &str, place: &str) {
        for line in text.lines() {
            let mut fields = line.split_whitespace();
            if let (Some(_), Some(host), Some(count)) =
                (fields.next(), fields.next(), fields.next())
            {
                self.add(Leak::HostIds, &format!("{count} from {host} on"), place);
            }
        }
    }

    fn device(&mut self, device: u64, place: &str) {
        let (major, minor) = (libc::major(device).into(), libc::minor(device).into());
        if !PLAIN.contains(&(major, minor)) && !(TERMINALS..TERMINALS + 8).contains(&major) {
            self.add(Leak::DeviceNode, &format!("{major}:{minor}"), place);
        }
    }

    /// The standard ones are there in every program.
    fn descriptor(&mut self, number: i32, link: &[u8]) {
        let (link, place) = (String::from_utf8_lossy(link), format!("descriptor {number}"));
        if number > 2 {
            self.add(Leak::Descriptor, &link, &place);
        } else if link.starts_with('/') && !link.starts_with("/dev/") {
            self.add(Leak::Path, &link, &place);
        }
    }

    fn names(&mut self, names: &[u8]) {
        // struct new_utsname: the second of fields of 65 bytes.
        let name = names.get(65..130).unwrap_or(&[]);
        let name = name.split(|&byte| byte == 0).next().unwrap_or(&[]);
        let Facts { host_name, .. } = &self.facts;
        if !name.is_empty() && name == host_name {
            self.add(Leak::HostName, &String::from_utf8_lossy(name), "uname(2)");
        }
    }

    fn sysinfo(&mut self, info: &[u8]) {
        // struct sysinfo: uptime, three loads, total memory, …, the unit at 104.
        let total =
            number(info, 32).zip(word(info, 104)).map(|(total, unit)| total * u64::from(unit));
        if total.is_some_and(|total| Some(total / 1024) == self.facts.memory) {
            let shown = format!("{}", self.facts.memory.unwrap_or(0));
            self.add(Leak::Memory, &shown, "sysinfo(2)");
        }
        self.add(Leak::Load, "of the whole machine", "sysinfo(2)");
    }

    fn clocks(&mut self, clocks: &[u8]) {
        let (Some(now), Some(since)) = (number(clocks, 0), number(clocks, 16)) else { return };
        let boot = now.saturating_sub(since);
        if let Some(host) = self.facts.boot_time.filter(|&host| host.abs_diff(boot) <= 2) {
            self.add(Leak::BootTime, &host.to_string(), "clock_gettime(2)");
        }
    }

    fn processors(&mut self, count: usize, place: &str) {
        if count == self.facts.processors && count > 0 {
            self.add(Leak::Processors, &count.to_string(), place);
        }
    }

    /// The session's is a new one; the user's is one for each user namespace.
    fn keyrings(&mut self, numbers: &[u8]) {
        let own = [libc::KEY_SPEC_SESSION_KEYRING, libc::KEY_SPEC_USER_KEYRING];
        for (at, special) in [0, 4].into_iter().zip(own) {
            let Some(found) = word(numbers, at).filter(|&number| number != u32::MAX) else {
                continue;
            };
            let shared = special == libc::KEY_SPEC_USER_KEYRING && self.shares_users();
            if shared || crate::sys::keyring(special) == Some(found) {
                self.add(Leak::Key, &format!("{found:#x}"), "keyctl(2)");
            }
        }
    }

    /// struct ifreq: 16 bytes of name first.
    fn interfaces(&mut self, interfaces: &[u8]) {
        for interface in interfaces.chunks_exact(40) {
            let name = interface.split(|&byte| byte == 0).next().unwrap_or(&[]);
            if name != b"lo" {
                let place = String::from_utf8_lossy(INTERFACES).into_owned();
                self.add(Leak::Address, &String::from_utf8_lossy(name), &place);
            }
        }
    }

    /// Names that are too short to be looked for as text.
    fn users(&mut self, passwd: &[u8]) {
        // The sandbox's own.
        let own: [&[u8]; 3] = [b"user", b"root", b"nobody"];
        for line in passwd.split(|&byte| byte == b'\n') {
            let name = line.split(|&byte| byte == b':').next().unwrap_or(&[]);
            if self.facts.users.contains(name) && !own.contains(&name) {
                self.add(Leak::User, &String::from_utf8_lossy(name), "/etc/passwd");
            }
        }
    }
}
