//! What a shell cannot try: run inside by the example itself.

use std::error::Error;
use std::net::UdpSocket;

use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{getsockopt, setsockopt, sockopt};

/// `huge PAGE`, `mark`, or `send PORT`; what fails ends it.
pub(crate) fn run(args: &[String]) -> Result<(), Box<dyn Error>> {
    match args {
        [what, page] if what == "huge" => huge(page.parse()?),
        [what] if what == "mark" => mark(),
        [what, port] if what == "send" => send(port.parse()?),
        _ => Err(format!("not known: {args:?}").into()),
    }
}

/// Takes two huge pages of this many bytes, one after the other.
fn huge(page: u32) -> Result<(), Box<dyn Error>> {
    // How memfd_create(2) is told the size.
    let size = page.ilog2() << libc::MFD_HUGE_SHIFT;
    let flags = MFdFlags::MFD_HUGETLB | MFdFlags::from_bits_retain(size);
    let file = memfd_create(c"huge", flags)?;
    let page = i64::from(page);
    for number in 0..2 {
        let took = fallocate(&file, FallocateFlags::empty(), number * page, page);
        took.inspect_err(|_| println!("{number} taken"))?;
    }
    println!("2 taken");
    Ok(())
}

/// Says which mark a new socket has, and takes it off.
fn mark() -> Result<(), Box<dyn Error>> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    println!("{:#x}", getsockopt(&socket, sockopt::Mark)?);
    setsockopt(&socket, sockopt::Mark, &0)?;
    Ok(())
}

/// Sends a packet, and one to which it gives the highest priority that everybody may.
fn send(port: u16) -> Result<(), Box<dyn Error>> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.send_to(b"packet", ("127.0.0.1", port))?;
    setsockopt(&socket, sockopt::Priority, &6)?;
    socket.send_to(b"packet", ("127.0.0.1", port))?;
    Ok(())
}
