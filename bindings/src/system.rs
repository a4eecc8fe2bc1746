//! What the workers need of the kernel that the standard library does not offer.

use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use crate::error::{Error, system_errno};

/// The set of processor cores that a thread may run on.
#[derive(Clone, Copy)]
pub struct Affinity(libc::cpu_set_t);

impl Affinity {
    /// The calling thread's.
    pub fn current() -> Result<Self, Error> {
        let mut set = Self::empty();
        // SAFETY: the kernel writes at most the size that it is given, into a set of that size.
        let result = unsafe { libc::sched_getaffinity(0, size_of_val(&set.0), &mut set.0) };
        if result != 0 {
            return Err(Error::new(
                "sched_getaffinity",
                system_errno(),
                "reading a thread's cores",
            ));
        }
        Ok(set)
    }

    /// These cores and no others. A number beyond what the kernel's set can hold is an error.
    pub fn of(cores: &[usize]) -> Result<Self, Error> {
        let mut set = Self::empty();
        for &core in cores {
            if core >= libc::CPU_SETSIZE as usize {
                let doing = format!("choosing core {core}");
                return Err(Error::new("CPU_SET", libc::EINVAL, doing));
            }
            // SAFETY: the index was checked against the set's size.
            unsafe { libc::CPU_SET(core, &mut set.0) };
        }
        Ok(set)
    }

    /// Moves the calling thread to these cores.
    pub fn apply(&self) -> Result<(), Error> {
        // SAFETY: the kernel reads a set of the size that it is given.
        let result = unsafe { libc::sched_setaffinity(0, size_of_val(&self.0), &self.0) };
        if result != 0 {
            let doing = format!("moving a thread to cores {:?}", self.cores());
            return Err(Error::new("sched_setaffinity", system_errno(), doing));
        }
        Ok(())
    }

    /// The cores in the set, ascending.
    pub fn cores(&self) -> Vec<usize> {
        (0..libc::CPU_SETSIZE as usize)
            // SAFETY: the index is below the set's size.
            .filter(|core| unsafe { libc::CPU_ISSET(*core, &self.0) })
            .collect()
    }

    fn empty() -> Self {
        // SAFETY: a cpu_set_t is an array of integers, for which all zero is the empty set.
        Self(unsafe { std::mem::zeroed() })
    }
}

/// The process that listens where this stream is connected to; `None` where it is in a process name
/// space that this one cannot see into.
pub fn peer_process(stream: &UnixStream) -> Option<u32> {
    let mut peer = libc::ucred {
        pid: 0,
        uid: 0,
        gid: 0,
    };
    let mut length = size_of_val(&peer) as libc::socklen_t;
    // SAFETY: the descriptor is open, and the kernel writes at most `length` bytes to `peer`, which
    // has that many.
    let result = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut peer).cast(),
            &mut length,
        )
    };
    let process = u32::try_from(peer.pid).ok();
    process.filter(|&process| result == 0 && process != 0)
}

/// Sets how late the kernel may wake the calling thread from a short sleep. It is 50 µs unless
/// told otherwise, which is longer than an idle worker wants to sleep.
pub fn set_timer_slack_ns(slack_ns: u32) -> Result<(), Error> {
    // SAFETY: sets a number of the calling thread.
    let result = unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, libc::c_ulong::from(slack_ns)) };
    if result != 0 {
        return Err(Error::new(
            "prctl",
            system_errno(),
            "setting a thread's timer slack",
        ));
    }
    Ok(())
}

/// Has the kernel write no image of this process, and of what it starts, to a file when it crashes.
pub fn forbid_core_files() -> Result<(), Error> {
    // One byte holds no image; and unlike 0 it keeps the kernel from piping one to a program, which
    // may write it in spite of the limit (core(5)). Who may not set 1 has 0 already.
    set_core_limit(1).or_else(|_| set_core_limit(0))
}

fn set_core_limit(bytes: libc::rlim_t) -> Result<(), Error> {
    let limit = libc::rlimit {
        rlim_cur: bytes,
        rlim_max: bytes,
    };
    // SAFETY: the kernel reads one structure of this type.
    let result = unsafe { libc::setrlimit(libc::RLIMIT_CORE, &limit) };
    if result != 0 {
        let doing = "limiting core dumps";
        return Err(Error::new("setrlimit", system_errno(), doing));
    }
    Ok(())
}

/// Has the kernel give the memory of this process to no core dump and to no debugger that is not
/// root's. Its folder in /proc is root's from then on.
pub fn forbid_inspection() -> Result<(), Error> {
    // SAFETY: sets a flag of the calling process.
    let result = unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0 as libc::c_ulong) };
    if result != 0 {
        let doing = "forbidding core dumps";
        return Err(Error::new("prctl", system_errno(), doing));
    }
    Ok(())
}

/// Whether the kernel may dump this process's memory.
pub fn may_be_inspected() -> bool {
    // SAFETY: reads a flag of the calling process.
    unsafe { libc::prctl(libc::PR_GET_DUMPABLE) != 0 }
}

/// The user that this process acts as.
pub fn effective_user() -> u32 {
    // SAFETY: it reads an identifier of the calling process and cannot fail.
    unsafe { libc::geteuid() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn affinity_is_applied_and_restored() {
        let before = Affinity::current().expect("own cores");
        let core = before.cores()[0];
        Affinity::of(&[core])
            .expect("a set")
            .apply()
            .expect("pinned");
        assert_eq!(Affinity::current().expect("own cores").cores(), [core]);
        before.apply().expect("restored");
        assert_eq!(
            Affinity::current().expect("own cores").cores(),
            before.cores()
        );
    }

    #[test]
    fn a_peer_is_known_by_its_process() {
        let (one, _other) = UnixStream::pair().expect("a pair");
        assert_eq!(peer_process(&one), Some(std::process::id()));
    }

    #[test]
    fn impossible_cores_are_refused() {
        let error = Affinity::of(&[1 << 20]).err().expect("no such core");
        assert!(error.to_string().contains("core 1048576"), "{error}");
        let absent = Affinity::of(&[1023]).expect("within the set");
        let error = absent.apply().expect_err("no machine of ours has it");
        assert_eq!(
            (error.call(), error.errno()),
            ("sched_setaffinity", libc::EINVAL)
        );
    }

    #[test]
    fn timer_slack_is_the_threads_own() {
        std::thread::spawn(|| {
            set_timer_slack_ns(1_000).expect("set");
            // SAFETY: reads a number of the calling thread.
            assert_eq!(unsafe { libc::prctl(libc::PR_GET_TIMERSLACK) }, 1_000);
        })
        .join()
        .expect("no panic");
    }
}
