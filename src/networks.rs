//! Networks that sandboxes have one after the other.

use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::errno::Errno;

use crate::control::{Received, init_died, pair, receive, receive_now, send_with, unheard};
use crate::error::{Error, Result, Stage};
use crate::namespace::Namespaces;
use crate::process::{Launched, hold_closed_streams};
use crate::wire::{BARE, Call, LOOK, LOOPBACK, Report, report};
use crate::{hint, sys};

/// How many are kept, looked at or on their way; more are thrown away.
const KEPT: usize = 16;

/// Who makes them, and those that nobody has.
#[derive(Debug)]
pub(crate) struct Networks {
    owner: u32,
    /// The process that makes them.
    keeper: Launched,
    door: OwnedFd,
    /// What is asked for.
    kind: u8,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Not used, or as if they had not been.
    free: Vec<OwnedFd>,
    /// Over this comes one that was asked for.
    coming: Vec<OwnedFd>,
    /// Over the sockets comes whether one is free.
    looked_at: Vec<(OwnedFd, OwnedFd)>,
}

/// A sandbox's, as long as that is there.
#[derive(Debug)]
pub(crate) struct Lent {
    network: OwnedFd,
    from: Arc<Networks>,
}

impl Lent {
    pub(crate) fn network(&self) -> BorrowedFd<'_> {
        self.network.as_fd()
    }

    /// When nothing runs in it any more: otherwise it is thrown away with this.
    pub(crate) fn give_back(self) {
        self.from.look_at(self.network);
    }
}

impl Drop for Networks {
    fn drop(&mut self) {
        // In a forked copy of the caller the keeper is somebody else's.
        self.keeper.armed &= self.owner == std::process::id();
    }
}

impl Networks {
    pub(crate) fn new(keeper: Launched, door: OwnedFd, loopback: bool) -> Self {
        let kind = if loopback { LOOPBACK } else { BARE };
        let (owner, state) = (std::process::id(), Mutex::default());
        Networks { owner, keeper, door, kind, state }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // What it holds is whole after each of its changes.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn lives(&self) -> bool {
        !sys::wait_readable(self.keeper.pidfd.as_fd(), Some(Duration::ZERO))
    }

    /// One that nobody else has; the next is asked for meanwhile.
    pub(crate) fn lend(self: &Arc<Self>) -> Result<Lent> {
        let from = Arc::clone(self);
        if self.owner != std::process::id() {
            // What is kept is the other process's.
            let network = self.receive(self.ask()?)?;
            return Ok(Lent { network, from });
        }
        let mut state = self.lock();
        state.sort();
        let free = state.free.pop();
        let coming = if free.is_none() { state.coming.pop() } else { None };
        let wanted = state.free.is_empty() && state.coming.is_empty();
        drop(state);
        let network = match (free, coming) {
            (Some(network), _) => network,
            // That there was no room when it was asked for says nothing about now.
            (None, Some(socket)) => self.receive(socket).or_else(|error| {
                log::debug!("no network was made ahead: {error}");
                self.receive(self.ask()?)
            })?,
            (None, None) => self.receive(self.ask()?)?,
        };
        if wanted {
            self.ask_ahead();
        }
        Ok(Lent { network, from })
    }

    /// For the next one, which asks itself if this fails.
    fn ask_ahead(&self) {
        match self.ask() {
            Ok(socket) => {
                let mut state = self.lock();
                if state.has_room() {
                    state.coming.push(socket);
                }
            }
            Err(error) => log::debug!("no network is made ahead: {error}"),
        }
    }

    /// Has a new one made; it comes over the socket.
    fn ask(&self) -> Result<OwnedFd> {
        self.tell(self.kind, None)
    }

    fn receive(&self, socket: OwnedFd) -> Result<OwnedFd> {
        match receive(socket.as_fd(), &self.keeper) {
            Received::Report(answer, fds) if answer.kind == report::KEPT => {
                let network = fds.into_iter().next();
                network.ok_or_else(|| unheard(Stage::Launch, Errno::EMFILE))
            }
            Received::Report(answer, _) => Err(not_made(&answer)),
            Received::Failed(errno) => Err(unheard(Stage::Launch, errno)),
            _ => Err(init_died(&self.keeper, Stage::Launch)),
        }
    }

    /// Has somebody look whether it is as if it had not been used.
    fn look_at(&self, network: OwnedFd) {
        if self.owner != std::process::id() || !self.lock().has_room() {
            return;
        }
        match hold_closed_streams().and_then(|_held| self.tell(LOOK, Some(&network))) {
            Ok(socket) => {
                let mut state = self.lock();
                // Others may have come meanwhile.
                if state.has_room() {
                    state.looked_at.push((network, socket));
                }
            }

            Err(error) => log::debug!("a network is not used again: {error}"),
        }
    }

    /// Sends a word, with a socket for the answer, through which a network goes first.
    fn tell(&self, word: u8, network: Option<&OwnedFd>) -> Result<OwnedFd> {
        let (ours, theirs) = pair()?;
        if let Some(network) = network {
            let fds = [network.as_raw_fd()];
            send_with(ours.as_fd(), &[IoSlice::new(&[0])], &fds, &self.keeper, Stage::Run)?;
        }
        let (word, fds) = ([word], [theirs.as_raw_fd()]);
        send_with(self.door.as_fd(), &[IoSlice::new(&word)], &fds, &self.keeper, Stage::Launch)?;
        Ok(ours)
    }
}

/// Why there is no new one.
fn not_made(failure: &Report) -> Error {
    let call = Call::from_number(failure.numbers[1]).map_or("unshare", Call::name);
    let errno = i32::try_from(failure.numbers[2]).map_or(Errno::EPROTO, Errno::from_raw);
    let object = Namespaces::NET.to_string();
    let hint = hint::for_operation(call, &object, errno);
    Error::new(Stage::Launch, call, object, errno).with_hint(hint)
}

impl State {
    fn has_room(&self) -> bool {
        self.free.len() + self.coming.len() + self.looked_at.len() < KEPT
    }

    /// Takes those that were looked at for what they are.
    fn sort(&mut self) {
        for (network, socket) in std::mem::take(&mut self.looked_at) {
            match receive_now(socket.as_fd()) {
                None => self.looked_at.push((network, socket)),
                Some(Received::Report(answer, _))
                    if answer.kind == report::READY && answer.numbers[0] == 1 =>
                {
                    self.free.push(network);
                }
                // Used, or nobody knows.
                Some(_) => log::trace!("a network is not used again"),
            }
        }
    }
}
