//! What can be told of a device before it is opened, and what DPDK's refusals mean.

use std::fs;
use std::path::Path;
use std::time::Duration;

use bindings::Interface;

use super::devices::Refusal;
use crate::device::RING_HEADER_BYTES;

/// Kernel drivers through which DPDK reaches a device.
const DRIVERS_FOR_DPDK: [&str; 7] = [
    "vfio-pci",
    "igb_uio",
    "uio_pci_generic",
    "uio_hv_generic",
    "mlx4_core",
    "mlx5_core",
    "mana",
];
/// Programs that only look at an interface.
const OBSERVERS: [&str; 4] = ["tcpdump", "dumpcap", "tshark", "wireshark"];
/// `ETH_P_ALL`, as /proc/net/packet writes it.
const EVERY_PROTOCOL: &str = "0003";

/// A device as it is named on a command line: a PCI address, or a virtual device with arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Device {
    pub(super) text: String,
}

impl Device {
    pub(super) fn new(text: &str) -> Self {
        Self {
            text: text.trim().to_owned(),
        }
    }

    /// What stands before the arguments.
    fn name(&self) -> &str {
        self.text.split(',').next().unwrap_or_default()
    }

    fn argument(&self, key: &str) -> Option<&str> {
        let arguments = self.text.split(',').skip(1);
        arguments
            .filter_map(|pair| pair.split_once('='))
            .find_map(|(name, value)| (name == key).then_some(value))
    }

    pub(super) fn is_pci(&self) -> bool {
        let bytes = self.name().as_bytes();
        let short = bytes.strip_prefix(b"0000:").unwrap_or(bytes);
        short.len() >= 7
            && short[short.len() - 2] == b'.'
            && short[short.len() - 5] == b':'
            && short
                .iter()
                .all(|byte| byte.is_ascii_hexdigit() || b":.".contains(byte))
    }

    /// The address with its domain, as the kernel has it.
    fn pci_address(&self) -> String {
        match self.name() {
            short if short.len() == 7 => format!("0000:{short}"),
            long => long.to_owned(),
        }
    }

    fn is_memif(&self) -> bool {
        self.name().starts_with("net_memif")
    }

    /// The kernel's interface that a driver is only a socket on.
    pub(super) fn kernel_interface(&self) -> Option<&str> {
        let name = self.name();
        let is_socket = name.starts_with("net_af_packet") || name.starts_with("net_af_xdp");
        self.argument("iface").filter(|_| is_socket)
    }

    /// The largest frame that fits in a packet socket's ring; drivers lose larger ones in silence.
    pub(super) fn ring_frame_bytes(&self) -> usize {
        let told = self.argument("framesz").and_then(|size| size.parse().ok());
        let bytes: usize = told.unwrap_or(2048);
        bytes.saturating_sub(RING_HEADER_BYTES).max(64)
    }

    /// What two names of one device have in common.
    fn identity(&self) -> String {
        if let Some(interface) = self.kernel_interface() {
            return format!("interface {interface}");
        }
        if self.is_pci() {
            return self.pci_address();
        }
        self.name().to_owned()
    }

    /// The socket that a memif is joined by.
    fn memif_socket(&self) -> Option<&str> {
        let socket = self.argument("socket").unwrap_or("/run/memif.sock");
        self.is_memif().then_some(socket)
    }

    /// The socket whose other side must be there first, where it has a place in the file system.
    pub(super) fn awaited_socket(&self) -> Option<&Path> {
        let is_client = self.argument("role") != Some("server");
        let is_file = self.argument("socket-abstract") == Some("no");
        let socket = self.memif_socket().filter(|_| is_client && is_file);
        socket.map(Path::new)
    }

    /// Whether it is the other end of the same link.
    fn is_joined_to(&self, other: &Self) -> bool {
        let id = |device: &Self| device.argument("id").unwrap_or("0").to_owned();
        self.memif_socket().is_some()
            && self.memif_socket() == other.memif_socket()
            && id(self) == id(other)
    }

    /// That it has no link after such a time.
    pub(super) fn has_no_link(&self, waited: Duration) -> Refusal {
        let what = format!(
            "{} has no link after {:.1} s",
            self.text,
            waited.as_secs_f64()
        );
        Refusal::new(what, self.cure_for_no_link())
    }

    /// What to look at when there is no link.
    fn cure_for_no_link(&self) -> String {
        if let Some(interface) = self.kernel_interface() {
            return format!("`ip link set {interface} up`, and its other end, too");
        }
        if let Some(socket) = self.memif_socket() {
            return format!(
                "start the subject: one side of {socket} is `role=server`, the other \
                 `role=client`, and both have the same `id`"
            );
        }
        "look at the cable, and at what is at its other end".into()
    }
}

/// Looks at devices that are to be opened together.
///
/// # Errors
/// The first that is missing, in use, or named twice.
pub(super) fn before_start(devices: &[Device]) -> Result<(), Refusal> {
    for (place, device) in devices.iter().enumerate() {
        let is_same = |other: &&Device| other.identity() == device.identity();
        if let Some(other) = devices[..place].iter().find(is_same) {
            return Err(Refusal::new(
                format!("{} and {} are the same device", other.text, device.text),
                "name two devices, with what is tested between them",
            ));
        }
        if let Some(other) = devices[..place]
            .iter()
            .find(|other| device.is_joined_to(other))
        {
            return Err(Refusal::new(
                format!(
                    "{} and {} are the two ends of one link",
                    other.text, device.text
                ),
                "give each a socket or an `id` of its own, and join both to the subject",
            ));
        }
        exists(device, Path::new("/"))?;
        is_free(device)?;
    }
    Ok(())
}

fn exists(device: &Device, root: &Path) -> Result<(), Refusal> {
    if device.text.is_empty() {
        return Err(Refusal::new(
            "a device without a name",
            "name one, such as eth1 or 0000:3b:00.0",
        ));
    }
    if let Some(interface) = device.kernel_interface() {
        return match Interface::named(interface) {
            Ok(_) => Ok(()),
            Err(_) => Err(Refusal::new(
                format!(
                    "{}: there is no network interface {interface} here",
                    device.text
                ),
                "create it, or correct the name; `ip link` lists those of this name space",
            )),
        };
    }
    if device.is_memif() {
        return memif_exists(device);
    }
    if device.is_pci() {
        let place = root.join("sys/bus/pci/devices").join(device.pci_address());
        if !place.exists() {
            return Err(Refusal::new(
                format!("there is no PCI device {}", device.pci_address()),
                "`dpdk-devbind.py --status` and `lspci` list those that there are",
            ));
        }
        return pci_is_bound(device, &place);
    }
    Ok(())
}

fn memif_exists(device: &Device) -> Result<(), Refusal> {
    let Some(socket) = device.argument("socket") else {
        return Ok(());
    };
    // An abstract socket has no place in the file system.
    if device.argument("socket-abstract") != Some("no") {
        return Ok(());
    }
    let folder = Path::new(socket).parent().unwrap_or(Path::new("/"));
    if folder.as_os_str().is_empty() || folder.is_dir() {
        return Ok(());
    }
    Err(Refusal::new(
        format!("{}: there is no folder {}", device.text, folder.display()),
        "create it, or correct `socket=`",
    ))
}

fn pci_is_bound(device: &Device, place: &Path) -> Result<(), Refusal> {
    let driver = fs::read_link(place.join("driver")).ok();
    let driver = driver.as_deref().and_then(Path::file_name);
    let driver = driver.map(|name| name.to_string_lossy().into_owned());
    let address = device.pci_address();
    match driver.as_deref() {
        Some(driver) if DRIVERS_FOR_DPDK.contains(&driver) => Ok(()),
        Some(driver) => {
            let interfaces = fs::read_dir(place.join("net")).into_iter().flatten();
            let name = interfaces.flatten().next();
            let name = name.map_or(String::new(), |entry| {
                format!(" as {}", entry.file_name().to_string_lossy())
            });
            Err(Refusal::new(
                format!("{address} is in use by the kernel's driver {driver}{name}"),
                format!("give it to DPDK by `dpdk-devbind.py --bind=vfio-pci {address}`"),
            ))
        }
        None => Err(Refusal::new(
            format!("{address} has no driver"),
            format!("give it to DPDK by `dpdk-devbind.py --bind=vfio-pci {address}`"),
        )),
    }
}

/// Another process that takes every frame of an interface is probably an appliance.
fn is_free(device: &Device) -> Result<(), Refusal> {
    let Some(interface) = device.kernel_interface() else {
        return Ok(());
    };
    // The calling thread's name space, which need not be the process's.
    let read = |name: &str| {
        fs::read_to_string(format!("/proc/thread-self/net/{name}")).unwrap_or_default()
    };
    let groups = read("dev_mcast");
    let Some(index) = index_of(&groups, interface) else {
        return Ok(());
    };
    for inode in sockets_on(&read("packet"), index) {
        if let Some((pid, program)) = owner_of(inode)
            && pid != std::process::id()
            && !OBSERVERS.contains(&program.as_str())
        {
            return Err(Refusal::new(
                format!("{interface} is in use by {program} (process {pid})"),
                "end it, or name an interface of the tester's own",
            ));
        }
    }
    Ok(())
}

/// An interface's index, as the list of the groups that interfaces listen to has it.
fn index_of<'a>(groups: &'a str, interface: &str) -> Option<&'a str> {
    let words = groups.lines().map(|line| {
        let mut words = line.split_whitespace();
        (words.next(), words.next())
    });
    words
        .filter(|(_, name)| *name == Some(interface))
        .find_map(|(index, _)| index)
}

/// The inodes of sockets that take every frame of the interface with this index.
fn sockets_on<'a>(sockets: &'a str, index: &str) -> Vec<&'a str> {
    let inode = |line: &'a str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            [_, _, _, protocol, interface, _, _, _, inode, ..]
                if protocol == EVERY_PROTOCOL && interface == index =>
            {
                Some(inode)
            }
            _ => None,
        }
    };
    sockets.lines().skip(1).filter_map(inode).collect()
}

/// The process that holds a socket, and its name.
fn owner_of(inode: &str) -> Option<(u32, String)> {
    let wanted = format!("socket:[{inode}]");
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        let mut open = fs::read_dir(entry.path().join("fd")).ok()?.flatten();
        open.find(|file| {
            fs::read_link(file.path()).is_ok_and(|link| link.as_os_str() == wanted.as_str())
        })?;
        let name = fs::read_to_string(entry.path().join("comm")).ok()?;
        Some((pid, name.trim().to_owned()))
    })
}

/// What DPDK's refusal of a device means, and what to do.
pub(super) fn in_words(device: &Device, error: &bindings::Error) -> (String, String) {
    let said = error.said().join(" ").to_lowercase();
    let text = &device.text;
    let is_busy = ["busy", "in use", "already"]
        .iter()
        .any(|word| said.contains(word));
    if is_busy {
        let what = format!("{text} is in use: {error}");
        return (what, "end the process that has it".into());
    }
    let unknown = [
        "cannot find plugin",
        "no driver",
        "failed to parse",
        "failed to find",
    ];
    if !device.is_pci() && unknown.iter().any(|words| said.contains(words)) {
        return (
            format!("DPDK knows no device {text}: {error}"),
            "write a network interface of this name space (`ip link`), a PCI address, or a virtual \
             device such as net_memif0,role=client,id=0,socket=/run/a.sock"
                .into(),
        );
    }
    let remedy = "correct the device's arguments; `tidegate doctor` says what DPDK lacks";
    (format!("{text}: {error}"), remedy.into())
}

/// What is free in huge pages of all sizes, in MiB.
pub(super) fn free_huge_mib() -> usize {
    let sizes = fs::read_dir("/sys/kernel/mm/hugepages")
        .into_iter()
        .flatten();
    let free_mib = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().ok()?;
        let kib: usize = name
            .strip_prefix("hugepages-")?
            .strip_suffix("kB")?
            .parse()
            .ok()?;
        let free = fs::read_to_string(entry.path().join("free_hugepages")).ok()?;
        Some(free.trim().parse::<usize>().ok()? * kib / 1024)
    };
    sizes.flatten().filter_map(free_mib).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_told_apart_by_what_they_are() {
        for (one, other) in [
            ("0000:3b:00.0", "3b:00.0,queues=2"),
            (
                "net_af_packet0,iface=lo",
                "net_af_packet1,iface=lo,qpairs=2",
            ),
            ("net_null0", "net_null0,size=64"),
        ] {
            let devices = [Device::new(one), Device::new(other)];
            assert_eq!(devices[0].identity(), devices[1].identity());
        }
        let refusal = before_start(&[Device::new("net_null0"), Device::new("net_null0")]);
        assert!(refusal.unwrap_err().what.contains("the same device"));
        let ends = [
            Device::new("net_memif0,role=server,socket=/tmp/a"),
            Device::new("net_memif1,role=client,id=0,socket=/tmp/a"),
        ];
        let refusal = before_start(&ends).unwrap_err();
        assert!(refusal.what.contains("two ends of one link"), "{refusal}");
        assert!(Device::new("0000:3b:00.0").is_pci() && Device::new("3b:00.1").is_pci());
        assert!(!Device::new("net_null0").is_pci() && !Device::new("a").is_pci());
    }

    #[test]
    fn a_missing_device_is_told_with_its_cure() {
        for (device, what) in [
            (
                "net_af_packet0,iface=nosuch0",
                "no network interface nosuch0",
            ),
            ("0000:ff:1f.7", "no PCI device 0000:ff:1f.7"),
            (
                "net_memif0,socket=/nosuch/a.sock,socket-abstract=no",
                "no folder /nosuch",
            ),
            ("", "without a name"),
        ] {
            let refusal = before_start(&[Device::new(device)]).unwrap_err();
            assert!(refusal.what.contains(what), "{refusal}");
            assert!(!refusal.remedy.is_empty());
        }
    }

    #[test]
    fn a_socket_on_an_interface_is_found() {
        let table = "sk               RefCnt Type Proto  Iface R Rmem   User   Inode\n\
                     00000000a 3      3    0003   7     1 0      0      4711\n\
                     00000000b 3      3    88cc   7     1 0      0      4712\n\
                     00000000c 3      3    0003   8     1 0      0      4713\n";
        assert_eq!(sockets_on(table, "7"), ["4711"]);
        assert!(sockets_on("", "7").is_empty());
        let groups = "2    eth0            1     0     333300000001\n\
                      7    veth1           1     0     333300000001\n";
        assert_eq!(index_of(groups, "veth1"), Some("7"));
        assert_eq!(index_of(groups, "veth"), None);
    }
}
