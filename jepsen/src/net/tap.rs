//! Opening a TAP device.

use std::ffi::{c_int, c_short};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;

use rustix::fs::OFlags;
use rustix::ioctl::{Opcode, Setter, ioctl, opcode};

/// `struct ifreq` of the kernel, as `TUNSETIFF` reads it.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; 16],
    flags: c_short,
    rest: [u8; 22],
}

const TUNSETIFF: Opcode = opcode::write::<c_int>(b'T', 202);
/// Ethernet frames, with nothing in front of them.
const TAP_WITHOUT_HEADER: c_short = 0x0002 | 0x1000;

/// Makes the device `name` in the network namespace of the calling thread. It lives as long as the file, from which its
/// frames are read one at a time, without waiting.
pub fn open(name: &str) -> io::Result<File> {
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).map_err(io::Error::other)?;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(flags)
        .open("/dev/net/tun")?;
    let mut request = InterfaceRequest {
        name: [0; 16],
        flags: TAP_WITHOUT_HEADER,
        rest: [0; 22],
    };
    // The last byte stays 0, as the kernel wants it.
    for (byte, letter) in request.name[..15].iter_mut().zip(name.bytes()) {
        *byte = letter;
    }
    #[expect(
        unsafe_code,
        reason = "TUNSETIFF reads a struct ifreq, which this is, and keeps no pointer to it"
    )]
    unsafe {
        ioctl(&file, Setter::<TUNSETIFF, InterfaceRequest>::new(request))?;
    }
    Ok(file)
}
