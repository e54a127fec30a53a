//! From options to a sandbox and a command.

use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::ArgMatches;
use stockade::{
    Bind, Capabilities, CapabilitySet, Command, Cpu, Cpuset, Data, IdMap, Landlock, Max, Memory,
    Namespaces, Network, Overlay, Proc, Rootfs, Sandbox, Stdio, TimeOffsets, Tmpfs,
};

use crate::descriptor;
use crate::failure::Failure;
use crate::options::{
    Groups, Identity, Limits, NetKind, ProcKind, Program, Setup, Spaces, Tier, Tree,
};
use crate::values::{self, LandlockRule};

/// The sandbox that the options describe.
pub(crate) fn sandbox(setup: &Setup, matches: &ArgMatches) -> Result<Sandbox, Failure> {
    let mut sandbox = spaces(&setup.namespaces)?;
    sandbox = identity(&setup.identity, sandbox);
    sandbox = limits(&setup.limits, sandbox).init(!setup.program.no_init);
    sandbox = groups(&setup.groups, sandbox);
    if let Some(path) = &setup.program.init_file {
        sandbox = sandbox.init_file(path);
    }
    let sandbox = tree(&setup.tree, matches, sandbox)?;
    let sandbox = match setup.namespaces.tier {
        Tier::Full => sandbox,
        Tier::NoNamespaces => sandbox.without_namespaces(),
        Tier::Auto => sandbox.strongest_available()?,
    };
    check_shared(&setup.namespaces, &sandbox)?;
    Ok(sandbox)
}

/// A setting implies its namespace; one that is to be shared all the same is a contradiction.
fn check_shared(spaces: &Spaces, sandbox: &Sandbox) -> Result<(), Failure> {
    let shared: Namespaces = spaces.share.iter().copied().collect();
    if shared.is_empty() {
        return Ok(());
    }
    let both = shared & sandbox.plan()?.namespaces();
    if both.is_empty() {
        return Ok(());
    }
    Err(Failure::Usage(format!(
        "'--share {both}' contradicts another option, which needs a {both} namespace of its own"
    )))
}

fn spaces(spaces: &Spaces) -> Result<Sandbox, Failure> {
    let joins_network = spaces.join.iter().any(|(kind, _)| *kind == Namespaces::NET);
    let network = match spaces.net {
        Some(_) if joins_network => {
            return Err(Failure::Usage("'--net' contradicts '--join network=…'".to_owned()));
        }
        Some(NetKind::None) => Some(Network::None),
        Some(NetKind::Loopback) => Some(Network::Loopback),
        Some(NetKind::Host) => Some(Network::Host),
        None => None,
    };
    let shared: Namespaces = spaces.share.iter().copied().collect();
    let mut sandbox = Sandbox::new().recycle_network(spaces.recycle_network);
    if let Some(network) = network {
        sandbox = sandbox.network(network);
    }
    if !shared.is_empty() {
        let host =
            if network == Some(Network::Host) { Namespaces::NET } else { Namespaces::empty() };
        sandbox = sandbox.namespaces(Namespaces::all() - shared - host);
    }
    for (kind, path) in &spaces.join {
        sandbox = sandbox.join(*kind, path.as_path());
    }
    if spaces.without_atomic_end {
        sandbox = sandbox.without_atomic_end();
    }
    if spaces.allow_nesting {
        sandbox = sandbox.allow_nesting();
    }
    if spaces.allow_debugging {
        sandbox = sandbox.allow_debugging();
    }
    if let Some(name) = &spaces.hostname {
        sandbox = sandbox.hostname(name);
    }
    if let Some(name) = &spaces.domainname {
        sandbox = sandbox.domainname(name);
    }
    if spaces.monotonic.is_some() || spaces.boottime.is_some() {
        sandbox = sandbox.time_offsets(TimeOffsets {
            monotonic: spaces.monotonic.unwrap_or(0),
            boottime: spaces.boottime.unwrap_or(0),
        });
    }
    Ok(sandbox)
}

fn identity(identity: &Identity, mut sandbox: Sandbox) -> Sandbox {
    if let Some(uid) = identity.uid {
        sandbox = sandbox.uid(uid);
    }
    if let Some(gid) = identity.gid {
        sandbox = sandbox.gid(gid);
    }
    if let Some((uid, gid)) = identity.host_ids {
        sandbox = sandbox.host_ids(uid, gid);
    }
    if identity.host_root {
        sandbox = sandbox.as_host_root();
    }
    if identity.own_host_id {
        sandbox = sandbox.own_host_id();
    }
    if identity.subids {
        sandbox = sandbox.id_map(IdMap::subordinate());
    }
    if !identity.uid_map.is_empty() {
        let uids = |map: IdMap, &(inside, host, count): &_| map.uids(inside, host, count);
        let gids = |map: IdMap, &(inside, host, count): &_| map.gids(inside, host, count);
        let map = identity.uid_map.iter().fold(IdMap::new(), uids);
        sandbox = sandbox.id_map(identity.gid_map.iter().fold(map, gids));
    }
    let kept: CapabilitySet = identity.cap_add.iter().flat_map(|set| set.iter()).collect();
    sandbox = sandbox.capabilities(Capabilities::keep(kept));
    if identity.allow_host_capabilities {
        sandbox = sandbox.allow_host_capabilities();
    }
    if identity.new_privileges {
        sandbox = sandbox.allow_new_privileges();
    }
    if let Some(seccomp) = &identity.seccomp {
        sandbox = sandbox.seccomp(seccomp.clone());
    }
    sandbox = sandbox.landlock(landlock(&identity.landlock));
    if let Some(label) = &identity.exec_label {
        sandbox = sandbox.exec_label(label);
    }
    let best_effort = identity.best_effort.iter().flat_map(|named| &named.0);
    sandbox = best_effort.fold(sandbox, |sandbox, &one| sandbox.best_effort(one));
    identity.require.iter().fold(sandbox, |sandbox, &one| sandbox.require(one))
}

/// Whatever their order, `none` takes the walls away and the ports add up.
fn landlock(rules: &[LandlockRule]) -> Landlock {
    let none = rules.contains(&LandlockRule::None);
    let start = if none { Landlock::none() } else { Landlock::default() };
    rules.iter().fold(start, |landlock, rule| match *rule {
        LandlockRule::Default | LandlockRule::None => landlock,
        LandlockRule::Bind(port) => landlock.bind_tcp([port]),
        LandlockRule::Connect(port) => landlock.connect_tcp([port]),
    })
}

fn limits(limits: &Limits, mut sandbox: Sandbox) -> Sandbox {
    if let Some(limit) = limits.timeout {
        sandbox = sandbox.wall_time(limit);
    }
    if let Some(grace) = limits.grace {
        sandbox = sandbox.grace_period(grace);
    }
    if let Some(linger) = limits.linger {
        sandbox = sandbox.linger(linger);
    }
    for (resource, limit) in &limits.rlimit {
        sandbox = sandbox.rlimit(*resource, *limit);
    }
    if let Some(nice) = limits.nice {
        sandbox = sandbox.nice(nice);
    }
    if let Some(score) = limits.oom_score_adj {
        sandbox = sandbox.oom_score_adj(score);
    }
    sandbox
}

fn groups(groups: &Groups, mut sandbox: Sandbox) -> Sandbox {
    let mut limits = stockade::Limits::new();
    if let Some(bytes) = groups.memory {
        let memory = Memory::new().max(bytes);
        // As elsewhere, the option counts both together.
        limits = limits.memory(match groups.memory_swap {
            Some(Max::At(both)) => memory.swap(both.saturating_sub(bytes)),
            Some(Max::Unlimited) => memory.swap(Max::Unlimited),
            None => memory,
        });
    }
    let cpu = Cpu::new();
    let cpu = groups.cpus.map_or(cpu.clone(), |cpus| cpu.limit(cpus));
    let cpu = groups.cpu_shares.map_or(cpu.clone(), |shares| cpu.shares(shares));
    let cpu = groups.cpu_weight.map_or(cpu.clone(), |weight| cpu.weight(weight));
    if cpu != Cpu::new() {
        limits = limits.cpu(cpu);
    }
    let cpuset = Cpuset::new();
    let cpuset = groups.cpuset_cpus.as_ref().map_or(cpuset.clone(), |list| cpuset.cpus(list));
    let cpuset = groups.cpuset_mems.as_ref().map_or(cpuset.clone(), |list| cpuset.mems(list));
    if cpuset != Cpuset::new() {
        limits = limits.cpuset(cpuset);
    }
    if let Some(time) = groups.cpu_time {
        limits = limits.cpu_time(time);
    }
    for (file, data) in &groups.cgroup_raw {
        limits = limits.raw(file, data);
    }
    sandbox = sandbox.limits(limits);
    if let Some(count) = groups.pids_limit {
        sandbox = sandbox.pids_limit(count);
    }
    for (device, limit) in &groups.io_max {
        sandbox = sandbox.io_limit(device.clone(), *limit);
    }
    if let Some(weight) = groups.io_weight {
        sandbox = sandbox.io_weight(weight);
    }
    sandbox = groups.device.iter().fold(sandbox, |sandbox, rule| sandbox.device(rule.clone()));
    match &groups.cgroup_parent {
        Some(parent) => sandbox.cgroup_parent(parent.clone()),
        None => sandbox,
    }
}

/// Something that is added to the tree, and its place on the command line.
struct Step<'a> {
    place: usize,
    add: Box<dyn FnOnce(Sandbox) -> Sandbox + 'a>,
}

fn tree(tree: &Tree, matches: &ArgMatches, mut sandbox: Sandbox) -> Result<Sandbox, Failure> {
    if let Some(directory) = &tree.rootfs {
        let root = Rootfs::directory(directory);
        sandbox = sandbox.rootfs(if tree.writable_rootfs { root.writable() } else { root });
    }
    if !tree.layer.is_empty() {
        let layers = Overlay::new(&tree.layer);
        let layers = tree.upper.iter().fold(layers, |layers, directory| layers.upper(directory));
        sandbox = sandbox.rootfs(Rootfs::overlay(layers));
    }
    if tree.empty_root || tree.generated_etc.is_some() {
        let root = if tree.empty_root { Rootfs::empty() } else { Rootfs::host() };
        let generated = tree.generated_etc.unwrap_or(!tree.empty_root);
        sandbox = sandbox.rootfs(root.generated_etc(generated));
    }
    if let Some(zone) = &tree.timezone {
        sandbox = sandbox.timezone(zone);
    }
    if let Some(view) = &tree.view {
        sandbox = sandbox.view(view.clone());
    }
    sandbox = sandbox.hide_host_paths(tree.hide_host_paths);
    match tree.proc {
        ProcKind::Processes => {}
        ProcKind::Compat => sandbox = sandbox.proc(Proc::Compat),
        ProcKind::Full => sandbox = sandbox.proc(Proc::Full),
        ProcKind::None => sandbox = sandbox.proc(Proc::None),
    }
    if let Some(bytes) = tree.tmp_size {
        sandbox = sandbox.tmp_size(bytes);
    }
    if let Some(count) = tree.tmp_inodes {
        sandbox = sandbox.tmp_inodes(count);
    }
    let mut steps = pairs(matches, "ro_bind", &tree.ro_bind, Sandbox::bind_ro);
    steps.extend(pairs(matches, "bind", &tree.bind, Sandbox::bind_rw));
    steps.extend(pairs(matches, "dev_bind", &tree.dev_bind, |sandbox, source, target| {
        sandbox.bind(Bind::read_write(source, target).with_devices())
    }));
    steps.extend(places(matches, "tmpfs").zip(&tree.tmpfs).map(|(place, scratch)| {
        let tmpfs = Tmpfs::new(&scratch.path);
        let tmpfs = scratch.size.map_or(tmpfs.clone(), |size| tmpfs.size(size));
        Step { place, add: Box::new(|sandbox| sandbox.mount_tmpfs(tmpfs)) }
    }));
    steps.extend(
        places(matches, "programs").zip(&tree.programs).map(|(place, path)| Step {
            place,
            add: Box::new(move |sandbox| sandbox.program(path)),
        }),
    );
    for (place, data) in given(tree, matches)? {
        steps.push(Step { place, add: Box::new(move |sandbox| sandbox.data(data)) });
    }
    for (id, given, add) in [
        ("sysfs", tree.sysfs, Sandbox::sysfs as fn(Sandbox) -> Sandbox),
        ("mqueue", tree.mqueue, Sandbox::mqueue),
    ] {
        let place = places(matches, id).next().filter(|_| given);
        steps.extend(place.map(|place| Step { place, add: Box::new(add) }));
    }
    steps.sort_by_key(|step| step.place);
    Ok(steps.into_iter().fold(sandbox, |sandbox, step| (step.add)(sandbox)))
}

/// What is given as data, with its place on the command line, its permissions and its owner.
fn given(tree: &Tree, matches: &ArgMatches) -> Result<Vec<(usize, Data)>, Failure> {
    let mut given: Vec<(usize, &Path, Data)> = Vec::new();
    for (place, path) in places(matches, "dir").zip(&tree.dir) {
        given.push((place, path, Data::directory(path)));
    }
    for (place, pair) in places(matches, "symlink").step_by(2).zip(tree.symlink.chunks_exact(2)) {
        let [target, path] = pair else { continue };
        given.push((place, path, Data::symlink(target, path)));
    }
    for (place, pair) in places(matches, "file").step_by(2).zip(tree.file.chunks_exact(2)) {
        let [number, path] = pair else { continue };
        given.push((place, Path::new(path), Data::file(path, read(number)?)));
    }
    given = changed("--chmod <MODE> <DST>", &tree.chmod, given, |data, mode| {
        values::mode(mode).map(|mode| data.mode(mode))
    })?;
    given = changed("--chown <UID:GID> <DST>", &tree.chown, given, |data, ids| {
        values::ids(ids).map(|(uid, gid)| data.owner(uid, gid))
    })?;
    Ok(given.into_iter().map(|(place, _, data)| (place, data)).collect())
}

/// Applies an option of a value and a path to what is given at that path.
fn changed<'a>(
    option: &str,
    pairs: &[OsString],
    mut given: Vec<(usize, &'a Path, Data)>,
    change: impl Fn(Data, &str) -> Result<Data, String>,
) -> Result<Vec<(usize, &'a Path, Data)>, Failure> {
    for pair in pairs.chunks_exact(2) {
        let [value, path] = pair else { continue };
        let wrong = |reason: &dyn std::fmt::Display| {
            Failure::Usage(format!("invalid value {value:?} for '{option}': {reason}"))
        };
        let value = value.to_str().ok_or_else(|| wrong(&"not UTF-8"))?;
        let found = given.iter_mut().rfind(|(_, other, _)| *other == Path::new(path));
        let Some((_, _, data)) = found else {
            let reason = format!("no --file, --dir or --symlink gives {path:?}");
            return Err(wrong(&reason));
        };
        *data = change(data.clone(), value).map_err(|reason| wrong(&reason))?;
    }
    Ok(given)
}

/// Where the values of an option are on the command line.
fn places<'a>(matches: &'a ArgMatches, id: &str) -> impl Iterator<Item = usize> + use<'a> {
    matches.indices_of(id).into_iter().flatten()
}

/// The steps of an option of two values.
fn pairs<'a>(
    matches: &ArgMatches,
    id: &str,
    values: &'a [PathBuf],
    add: fn(Sandbox, &'a Path, &'a Path) -> Sandbox,
) -> Vec<Step<'a>> {
    let step = |(place, pair): (usize, &'a [PathBuf])| match pair {
        [first, second] => {
            Some(Step { place, add: Box::new(move |sandbox| add(sandbox, first, second)) })
        }
        _ => None,
    };
    places(matches, id).step_by(2).zip(values.chunks_exact(2)).filter_map(step).collect()
}

/// Everything that a descriptor of the caller's has to give.
fn read(number: &OsString) -> Result<Vec<u8>, Failure> {
    let wrong = |reason: &dyn std::fmt::Display| {
        Failure::Usage(format!("invalid value {number:?} for '--file <FD> <DST>': {reason}"))
    };
    let Some(fd) = number.to_str().and_then(|text| text.parse().ok()) else {
        return Err(wrong(&"not a descriptor's number"));
    };
    let mut file = std::fs::File::from(descriptor::duplicate(fd).map_err(|error| wrong(&error))?);
    let mut data = Vec::new();
    file.read_to_end(&mut data).map_err(|error| wrong(&error))?;
    Ok(data)
}

/// The command with its environment, directory and streams.
/// With a terminal of its own, of this size, it has no other streams.
pub(crate) fn command(
    program: &Program,
    mut command: Command,
    terminal: Option<(u16, u16)>,
) -> Command {
    if let Some((rows, columns)) = terminal {
        command = command.pty(rows, columns);
        // A kind of terminal tells nothing of who uses it.
        if let Some(kind) = std::env::var_os("TERM") {
            command = command.env("TERM", kind);
        }
    }
    if program.clear_env {
        command = command.env_clear();
    }
    command = command.envs(program.env.iter().map(|(key, value)| (key, value)));
    if let Some(directory) = &program.chdir {
        command = command.current_dir(directory);
    }
    if let Some(name) = &program.argv0 {
        command = command.arg0(name);
    }
    if let Some(mask) = program.umask {
        command = command.umask(mask);
    }
    if terminal.is_some() {
        return command;
    }
    command.stdin(Stdio::inherit()).stdout(Stdio::inherit()).stderr(Stdio::inherit())
}
