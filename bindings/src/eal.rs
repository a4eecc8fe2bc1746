//! The environment abstraction layer: started once, stopped when the last that needs it is gone.

use std::collections::BTreeSet;
use std::ffi::{CStr, CString, OsStr, c_char};
use std::marker::PhantomData;
use std::os::unix::ffi::OsStrExt;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::error::{Call, Error, c_string};
use crate::log;
use crate::system::Affinity;

pub use crate::log::{LogLevel, LogSink, set_log_level, set_log_sink};

/// What EAL is started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EalConfig {
    /// The program's name, as EAL logs it.
    pub program: String,
    /// Keeps this process's run-time files apart from those of other DPDK processes.
    pub file_prefix: String,
    /// Memory from huge pages, which a NIC's driver needs, or from ordinary pages, which virtual
    /// devices do with.
    pub huge_pages: bool,
    /// Memory to reserve at the start, in MiB. Without huge pages it is all there will be.
    pub memory_mib: u32,
    /// The processor core that EAL counts as its main one. EAL pins a thread there only while it
    /// starts, and keeps its own service threads off it.
    pub main_core: usize,
    /// Cores for EAL's service threads (interrupts, alarms): those that no worker polls on. Empty
    /// for wherever the calling thread may run.
    pub service_cores: Vec<usize>,
    /// Whether to look for devices on the PCI bus.
    pub pci: bool,
    /// PCI addresses to use; empty takes every one that a driver fits.
    pub pci_allow: Vec<String>,
    /// Virtual devices to make at the start, as in `net_af_packet0,iface=eth1`.
    pub virtual_devices: Vec<String>,
    /// What EAL logs.
    pub log_level: LogLevel,
    /// More arguments for EAL, passed on as they are.
    pub extra: Vec<String>,
}

impl Default for EalConfig {
    fn default() -> Self {
        Self {
            program: "tidegate".into(),
            file_prefix: "tidegate".into(),
            huge_pages: false,
            memory_mib: 256,
            main_core: 0,
            service_cores: Vec::new(),
            pci: false,
            pci_allow: Vec::new(),
            virtual_devices: Vec::new(),
            log_level: LogLevel::Notice,
            extra: Vec::new(),
        }
    }
}

impl EalConfig {
    /// The arguments that EAL is given, the program's name first.
    pub fn arguments(&self) -> Vec<String> {
        let mut arguments = vec![
            self.program.clone(),
            // EAL's number for a core is an index into its tables and ends at 127, a machine's
            // may not: core number N is always EAL's number 0.
            format!("--lcores=0@{}", self.main_core),
            format!("--file-prefix={}", self.file_prefix),
            format!("--log-level={}", self.log_level as u32),
            "--no-telemetry".into(),
        ];
        // Neither way leaves a file behind that a killed process could trip its successor with.
        // The two cannot be combined.
        if self.huge_pages {
            arguments.push("--in-memory".into());
        } else {
            arguments.extend(["--no-huge".into(), "--no-shconf".into()]);
        }
        if self.memory_mib > 0 {
            arguments.extend(["-m".into(), self.memory_mib.to_string()]);
        }
        if self.pci {
            arguments.extend(
                self.pci_allow
                    .iter()
                    .flat_map(|pci| ["-a".into(), pci.clone()]),
            );
        } else {
            arguments.push("--no-pci".into());
        }
        arguments.extend(
            self.virtual_devices
                .iter()
                .map(|device| format!("--vdev={device}")),
        );
        arguments.extend(self.extra.iter().cloned());
        arguments
    }
}

/// The proof that EAL runs. It ends when this and everything made with it is dropped.
#[derive(Clone)]
pub struct Eal {
    state: Arc<State>,
}

/// What lives as long as EAL does.
pub(crate) struct State {
    resources: Mutex<Resources>,
}

/// What has been made of EAL's memory and devices.
#[derive(Default)]
pub(crate) struct Resources {
    /// Every pool ever made: none is freed before EAL itself ends, see [`State::drop`].
    pub(crate) pools: Vec<Pool>,
    /// Ports that somebody owns.
    pub(crate) ports: BTreeSet<u16>,
}

/// The address of a memory pool.
pub(crate) struct Pool(pub(crate) NonNull<dpdk_sys::rte_mempool>);

// SAFETY: the address alone is kept; what is called with it (counting) is safe on any thread.
unsafe impl Send for Pool {}

static STARTED: AtomicBool = AtomicBool::new(false);
static RUNNING: Mutex<Weak<State>> = Mutex::new(Weak::new());

impl Eal {
    /// Starts EAL. DPDK can be started once in the life of a process, so a second call is an
    /// error, and so is one after a first that failed.
    ///
    /// The calling thread keeps its processor affinity: EAL pins the thread that starts it, and
    /// here that is a thread of its own, which ends at once.
    pub fn init(config: &EalConfig) -> Result<Self, Error> {
        let arguments = config.arguments();
        let doing = format!("starting EAL with \"{}\"", arguments[1..].join(" "));
        if STARTED.swap(true, Ordering::AcqRel) {
            return Err(Error::new("rte_eal_init", libc::EALREADY, doing));
        }
        log::install()?;
        let arguments = arguments
            .into_iter()
            .map(|argument| c_string(&argument, "rte_eal_init", || doing.clone()))
            .collect::<Result<Vec<_>, _>>()?;
        std::thread::scope(|scope| {
            std::thread::Builder::new()
                .name("eal-init".into())
                .spawn_scoped(scope, || start(arguments, &config.service_cores, &doing))
                .map_err(|error| {
                    Error::new(
                        "pthread_create",
                        error.raw_os_error().unwrap_or(0),
                        doing.clone(),
                    )
                })?
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })?;
        let state = Arc::new(State {
            resources: Mutex::default(),
        });
        *RUNNING.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(&state);
        Ok(Self { state })
    }

    pub(crate) fn state(&self) -> Arc<State> {
        Arc::clone(&self.state)
    }
}

fn start(arguments: Vec<CString>, service_cores: &[usize], doing: &str) -> Result<(), Error> {
    // EAL's service threads take over the cores of the thread that starts it.
    if !service_cores.is_empty() {
        Affinity::of(service_cores)?.apply()?;
    }
    let count = i32::try_from(arguments.len()).unwrap_or(i32::MAX);
    let mut pointers: Vec<*mut c_char> = arguments.into_iter().map(CString::into_raw).collect();
    pointers.push(std::ptr::null_mut());
    // EAL keeps pointers into its arguments: they are never given back.
    let pointers = pointers.leak();
    let call = Call::to("rte_eal_init");
    // SAFETY: `pointers` holds `count` strings and a null after them, as main()'s argv does, all
    // of them writable and never freed. `STARTED` lets this run once in the process.
    let result = unsafe { dpdk_sys::rte_eal_init(count, pointers.as_mut_ptr()) };
    remove_empty_runtime_folder();
    if result < 0 {
        Err(call.failed(doing))
    } else {
        Ok(())
    }
}

/// EAL makes a folder for its run-time files even when it is told to keep none. One that holds
/// something stays.
fn remove_empty_runtime_folder() {
    // SAFETY: the path is a string that is static in EAL, and empty where it never came to one.
    let path = unsafe { CStr::from_ptr(dpdk_sys::rte_eal_get_runtime_dir()) };
    let _ = std::fs::remove_dir(OsStr::from_bytes(path.to_bytes()));
}

impl State {
    pub(crate) fn resources(&self) -> MutexGuard<'_, Resources> {
        self.resources
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for State {
    /// Ends EAL, unless an mbuf is still out: an mbuf does not hold EAL up (it is one pointer
    /// wide), so the memory under it stays mapped instead, until the process ends.
    fn drop(&mut self) {
        let resources = self
            .resources
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        let all_back = resources.pools.iter().all(|pool| {
            // SAFETY: pools are never freed before EAL's end, which is not yet.
            unsafe { dpdk_sys::rte_mempool_in_use_count(pool.0.as_ptr()) == 0 }
        });
        if all_back {
            // SAFETY: ports, rings and registered threads hold this state, so none is left; no
            // mbuf is out. A thread that has just put the last one back is unregistered, thus
            // without a cache, and its last access was the store that made the count complete.
            unsafe { dpdk_sys::rte_eal_cleanup() };
        }
    }
}

/// The version of the DPDK in use, as in `DPDK 22.11.11`.
pub fn version() -> String {
    // SAFETY: returns a string that is static in the library.
    unsafe { CStr::from_ptr(dpdk_sys::rte_version()) }
        .to_string_lossy()
        .into_owned()
}

/// A thread that EAL knows: its mempool caches work while this lives. It stays on its thread.
pub struct ThreadRegistration {
    _state: Arc<State>,
    _not_send: PhantomData<*mut ()>,
}

/// Makes the calling thread known to EAL. Without it, every allocation and every free goes to
/// the pool's shared ring instead of the core's own cache.
pub fn register_thread() -> Result<ThreadRegistration, Error> {
    let doing = || {
        format!(
            "registering thread {:?}",
            std::thread::current().name().unwrap_or("")
        )
    };
    let state = RUNNING
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .upgrade();
    let Some(state) = state else {
        return Err(Error::new("rte_thread_register", libc::ENODEV, doing()));
    };
    if is_registered() {
        return Err(Error::new("rte_thread_register", libc::EALREADY, doing()));
    }
    let call = Call::to("rte_thread_register");
    // SAFETY: EAL runs, for we hold its state, and this thread is not registered yet.
    if unsafe { dpdk_sys::rte_thread_register() } < 0 {
        return Err(call.failed(doing()));
    }
    Ok(ThreadRegistration {
        _state: state,
        _not_send: PhantomData,
    })
}

/// Whether EAL knows the calling thread.
pub fn is_registered() -> bool {
    // SAFETY: reads a thread-local integer.
    unsafe { dpdk_sys::shim_lcore_id() != dpdk_sys::SHIM_LCORE_ID_ANY }
}

impl Drop for ThreadRegistration {
    fn drop(&mut self) {
        // SAFETY: this thread was registered when `self` was made, and `self` cannot leave it.
        unsafe { dpdk_sys::rte_thread_unregister() };
    }
}
