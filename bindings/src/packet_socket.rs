//! Packet sockets that hand over IPv4 fragments as they came.
//!
//! DPDK's driver for packet sockets has the kernel join IPv4 fragments before it hands them over:
//! it asks for `PACKET_FANOUT_FLAG_DEFRAG`, and none of its arguments (22.11) leaves that
//! out. A joined datagram outgrows the MTU and the ring's frames, and comes cut. A group of sockets
//! keeps its flags for good, so they are put right on the way to the kernel: this process has a
//! `setsockopt` of its own, which the dynamic linker finds before the C library's.

use std::ffi::{c_int, c_void};

use libc::socklen_t;

/// Where the flags of `PACKET_FANOUT`'s argument begin.
const FLAGS_SHIFT: u32 = 16;

/// The C library's `setsockopt`, but for the flag that joins fragments.
///
/// # Safety
/// As the C library's: `value` points at `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn setsockopt(
    socket: c_int,
    level: c_int,
    name: c_int,
    value: *const c_void,
    length: socklen_t,
) -> c_int {
    // SAFETY: as the caller says; the kernel checks the rest, and refuses what it cannot read.
    let ask = |value: *const c_void| unsafe {
        libc::syscall(
            libc::SYS_setsockopt,
            socket,
            level,
            name,
            value,
            libc::c_ulong::from(length),
        ) as c_int
    };
    let is_number = length as usize == size_of::<c_int>() && !value.is_null();
    if (level, name) == (libc::SOL_PACKET, libc::PACKET_FANOUT) && is_number {
        // SAFETY: the caller has as many bytes there as a number has.
        let asked = unsafe { value.cast::<u32>().read_unaligned() };
        let ours = without_joining(asked);
        return ask((&raw const ours).cast());
    }
    ask(value)
}

/// A fan-out's argument without the flag that joins fragments.
fn without_joining(argument: u32) -> u32 {
    argument & !(libc::PACKET_FANOUT_FLAG_DEFRAG << FLAGS_SHIFT)
}

/// Whether drivers get that function. They do not where something was linked or loaded before it.
pub fn hands_over_fragments() -> bool {
    type Function = unsafe extern "C" fn(c_int, c_int, c_int, *const c_void, socklen_t) -> c_int;
    // SAFETY: the name is a string. The address is compared, not called.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"setsockopt".as_ptr()) };
    std::ptr::eq(found, (setsockopt as Function as *const ()).cast())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_flag_that_joins_is_taken_out() {
        let (hash, rollover, group) = (libc::PACKET_FANOUT_HASH, 0x1000, 0x1234);
        let asked = (hash | libc::PACKET_FANOUT_FLAG_DEFRAG | rollover) << FLAGS_SHIFT | group;
        assert_eq!(
            without_joining(asked),
            (hash | rollover) << FLAGS_SHIFT | group
        );
        assert_eq!(without_joining(group), group);
    }

    #[test]
    fn other_options_are_set_as_ever() {
        assert!(hands_over_fragments());
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let stream = std::net::TcpStream::connect(listener.local_addr().expect("one")).expect("up");
        stream.set_nodelay(true).expect("an option");
        assert!(stream.nodelay().expect("an option"));
        // SAFETY: there is no such socket, and nothing is read.
        let result = unsafe { setsockopt(-1, libc::SOL_SOCKET, 2, std::ptr::null(), 0) };
        let error = std::io::Error::last_os_error();
        assert_eq!((result, error.raw_os_error()), (-1, Some(libc::EBADF)));
    }
}
