//! Machines as fixture trees, and what is found on them.

use std::os::unix::fs::symlink;

use super::*;
use crate::profile::{Strictness, parse};

/// A machine that lacks nothing: two nodes, a NIC bound to vfio-pci, a veth pair.
const MACHINE: &[(&str, &str)] = &[
    (
        "usr/lib/x86_64-linux-gnu/dpdk/pmds-23.0/librte_net_af_packet.so",
        "",
    ),
    (
        "usr/lib/x86_64-linux-gnu/dpdk/pmds-23.0/librte_net_ice.so",
        "",
    ),
    (
        "proc/cpuinfo",
        "processor\t: 0\nflags\t\t: fpu sse aes avx2 constant_tsc nonstop_tsc\n",
    ),
    ("proc/cmdline", "quiet intel_iommu=on iommu=pt\n"),
    ("proc/mounts", "none /dev/hugepages hugetlbfs rw 0 0\n"),
    (
        "proc/self/status",
        "Uid:\t0\t0\t0\t0\nCapEff:\t000001ffffffffff\nCpus_allowed_list:\t0-7\n",
    ),
    (
        "proc/self/limits",
        "Max locked memory         8388608              8388608              bytes\n",
    ),
    ("sys/devices/system/cpu/online", "0-7\n"),
    ("sys/devices/system/cpu/isolated", "2-3\n"),
    (
        "sys/devices/system/cpu/cpu2/topology/thread_siblings_list",
        "2,6\n",
    ),
    (
        "sys/devices/system/cpu/cpu2/cpufreq/scaling_governor",
        "performance\n",
    ),
    ("sys/devices/system/node/node0/cpulist", "0-3\n"),
    (
        "sys/devices/system/node/node0/hugepages/hugepages-2048kB/free_hugepages",
        "512\n",
    ),
    (
        "sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages",
        "1024\n",
    ),
    (
        "sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages",
        "1000\n",
    ),
    (
        "sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages",
        "0\n",
    ),
    (
        "sys/kernel/mm/hugepages/hugepages-1048576kB/free_hugepages",
        "0\n",
    ),
    ("sys/kernel/iommu_groups/0/type", "DMA\n"),
    ("sys/module/vfio_pci/version", "\n"),
    ("sys/bus/pci/devices/0000:3b:00.0/class", "0x020000\n"),
    ("sys/bus/pci/devices/0000:3b:00.0/numa_node", "0\n"),
    ("sys/class/net/veth0/flags", "0x1003\n"),
    ("sys/class/net/veth0/mtu", "1500\n"),
    ("var/run/dpdk/kept", ""),
];

const PROFILE: &str = r#"
runtime: { workers: [2, 3], control_core: 0, poll: busy, huge_pages: on, memory_mib: 1024 }
ports:
  nic:  { device: "3b:00.0" }
  veth: { device: "net_af_packet0,iface=veth0" }
"#;

const PEER_IS_HERE: &str = r#"[{"ifindex":4,"link":"veth1","ifname":"veth0"}]"#;
const PEER_IS_AWAY: &str = r#"[{"ifindex":4,"link_index":4,"ifname":"veth0","link_netnsid":0}]"#;

struct Fixture {
    folder: tempfile::TempDir,
    /// Features that `ethtool -k` says are on, each as `INTERFACE FEATURE`.
    features: Vec<&'static str>,
    /// What `ip -json link show dev veth0` says.
    link: &'static str,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in MACHINE {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let fixture = Self {
            folder,
            features: Vec::new(),
            link: PEER_IS_HERE,
        };
        fixture.bind("vfio-pci");
        fixture
    }

    fn write(&self, path: &str, text: &str) -> &Self {
        fs::write(self.folder.path().join(path), text).unwrap();
        self
    }

    fn remove(&self, path: &str) -> &Self {
        let path = self.folder.path().join(path);
        if path.is_dir() {
            fs::remove_dir_all(path)
        } else {
            fs::remove_file(path)
        }
        .unwrap();
        self
    }

    fn bind(&self, driver: &str) -> &Self {
        let link = self
            .folder
            .path()
            .join("sys/bus/pci/devices/0000:3b:00.0/driver");
        // The first time there is none yet.
        let _ = fs::remove_file(&link);
        symlink(format!("../../../bus/pci/drivers/{driver}"), link).unwrap();
        self
    }

    fn host(&self) -> Host {
        let features: Vec<String> = self.features.iter().map(ToString::to_string).collect();
        let link = self.link;
        let run = move |program: &str, arguments: &[&str]| {
            if program == "ip" {
                assert_eq!(arguments, ["-json", "link", "show", "dev", "veth0"]);
                return Some(link.to_owned());
            }
            assert_eq!(program, "ethtool");
            if arguments[0] == "-i" {
                return Some("driver: veth\nversion: 1.0\n".into());
            }
            let names = interfaces::ALL_FEATURES.iter();
            let state = |feature: &str| {
                let on = features.contains(&format!("{} {feature}", arguments[1]));
                format!("{feature}: {}\n", if on { "on" } else { "off [fixed]" })
            };
            Some(names.map(|feature| state(feature)).collect())
        };
        Host {
            root: self.folder.path().to_owned(),
            run: Box::new(run),
            dpdk_version: "DPDK 22.11.11".into(),
            hands_over_fragments: true,
        }
    }

    /// What is not in order, for a profile.
    fn trouble_with(&self, text: &str) -> Vec<(Level, &'static str, String, String)> {
        let machine = Machine::read(self.folder.path());
        let profile = parse(text, Path::new("p.yaml"), &machine, Strictness::Check)
            .unwrap()
            .profile;
        let findings = examine(&self.host(), Some(&profile));
        assert!(
            findings
                .iter()
                .all(|one| one.level == Level::Ok || one.cure.is_some())
        );
        findings
            .into_iter()
            .filter(|one| one.level != Level::Ok)
            .map(|one| {
                (
                    one.level,
                    one.subject,
                    one.what,
                    one.cure.unwrap_or_default(),
                )
            })
            .collect()
    }

    /// The only thing that is not in order, for the profile above.
    fn trouble(&self) -> (Level, &'static str, String, String) {
        let mut trouble = self.trouble_with(PROFILE);
        assert_eq!(trouble.len(), 1, "{trouble:#?}");
        trouble.remove(0)
    }

    fn assert_trouble(&self, level: Level, subject: &str, what: &str, cure: &str) {
        let found = self.trouble();
        assert_eq!((found.0, found.1), (level, subject), "{found:?}");
        assert!(
            found.2.contains(what) && found.3.contains(cure),
            "{found:?}"
        );
    }
}

#[test]
fn a_machine_that_lacks_nothing() {
    let fixture = Fixture::new();
    assert_eq!(fixture.trouble_with(PROFILE), []);
    let findings = examine(&fixture.host(), None);
    assert!(
        findings.iter().all(|one| one.level == Level::Ok),
        "{findings:#?}"
    );
    let explained = "it is harmless, and it is never the cause of a failure";
    assert!(findings.iter().any(|one| one.what.contains(explained)));
    assert!(
        findings
            .iter()
            .any(|one| one.what == "1000 of 1024 pages of 2 MB are free")
    );
    // What was probed with is gone.
    assert_eq!(
        fs::read_dir(fixture.folder.path().join("var/run/dpdk"))
            .unwrap()
            .count(),
        1
    );
}

// CASES 28: huge pages missing, core missing, port gone.
#[test]
fn each_lack_has_its_cause_and_its_cure() {
    use Level::{Fail, Warn};
    let huge = "sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages";
    let one = Fixture::new();
    one.write(huge, "0")
        .assert_trouble(Fail, "huge pages", "none are free", "nr_hugepages=512");
    one.write(huge, "511")
        .assert_trouble(Fail, "huge pages", "1022 MiB are free", "sysctl");

    let one = Fixture::new();
    one.remove("proc/mounts").assert_trouble(
        Warn,
        "huge pages",
        "not mounted",
        "mount -t hugetlbfs",
    );

    let one = Fixture::new();
    one.write("sys/devices/system/cpu/isolated", "2\n");
    one.assert_trouble(
        Warn,
        "cores",
        "worker core 3",
        "isolcpus=3 nohz_full=3 rcu_nocbs=3",
    );

    let one = Fixture::new();
    one.write(
        "sys/devices/system/cpu/cpu2/topology/thread_siblings_list",
        "2-3",
    );
    one.assert_trouble(Warn, "cores", "workers 2 and 3 are two threads", "lscpu -e");

    let one = Fixture::new();
    one.write(
        "sys/devices/system/cpu/cpu2/cpufreq/scaling_governor",
        "powersave",
    );
    one.assert_trouble(Warn, "cores", "core 2 changes its clock", "cpupower -c 2");

    let one = Fixture::new();
    one.write("sys/devices/system/node/node0/cpulist", "0-2");
    one.assert_trouble(
        Warn,
        "numa",
        "on node 0, and worker 3 is not",
        "workers from 0,1,2",
    );

    let one = Fixture::new();
    let path = "sys/devices/system/node/node0/hugepages/hugepages-2048kB/free_hugepages";
    one.write(path, "0")
        .assert_trouble(Warn, "numa", "node 0, where 0000:3b:00.0 is", "echo 512");

    let one = Fixture::new();
    one.remove("sys/kernel/iommu_groups/0");
    one.assert_trouble(Fail, "iommu", "the firmware has it off", "VT-d");
    one.write("proc/cmdline", "quiet");
    one.assert_trouble(
        Fail,
        "iommu",
        "vfio-pci cannot hold a device",
        "intel_iommu=on",
    );

    let one = Fixture::new();
    one.remove("sys/module/vfio_pci").assert_trouble(
        Fail,
        "vfio",
        "not loaded",
        "modprobe vfio-pci",
    );

    let one = Fixture::new();
    one.bind("ice").assert_trouble(
        Fail,
        "devices",
        "kernel's driver ice",
        "--bind=vfio-pci 0000:3b:00.0",
    );

    let one = Fixture::new();
    one.write("proc/cpuinfo", "flags: sse constant_tsc nonstop_tsc");
    one.assert_trouble(Warn, "processor", "no AES", "-cpu host");
}

#[test]
fn a_missing_device_and_a_missing_driver_fail() {
    let one = Fixture::new();
    one.remove("sys/bus/pci/devices/0000:3b:00.0");
    one.assert_trouble(
        Level::Fail,
        "devices",
        "there is no PCI device 0000:3b:00.0",
        "dpdk-devbind",
    );

    let one = Fixture::new();
    one.remove("usr/lib/x86_64-linux-gnu/dpdk/pmds-23.0/librte_net_af_packet.so");
    one.assert_trouble(
        Level::Fail,
        "drivers",
        "librte_net_af_packet.so is missing",
        "apt-get",
    );

    let one = Fixture::new();
    one.remove("usr").assert_trouble(
        Level::Fail,
        "drivers",
        "no folder of DPDK drivers",
        "apt-get",
    );
}

#[test]
fn rights_are_needed_where_a_device_needs_them() {
    let one = Fixture::new();
    // All but CAP_IPC_LOCK (14): the limit of locked memory counts again.
    one.write(
        "proc/self/status",
        "Uid:\t0\t0\t0\t0\nCapEff:\t000001ffffffbfff\n",
    );
    let trouble = one.trouble_with(PROFILE);
    assert_eq!(trouble.len(), 2, "{trouble:#?}");
    assert!(trouble[0].2.contains("CAP_IPC_LOCK is missing"));
    assert!(trouble[1].2.contains("only 8388608 bytes may be locked"));
    assert!(trouble[1].3.contains("LimitMEMLOCK=infinity"));

    // All but CAP_NET_RAW (13), which nothing but a packet socket needs.
    one.write(
        "proc/self/status",
        "Uid:\t0\t0\t0\t0\nCapEff:\t000001ffffffdfff\n",
    );
    one.assert_trouble(Level::Fail, "rights", "CAP_NET_RAW is missing", "setcap");
    let without = PROFILE.replace("net_af_packet0,iface=veth0", "net_null0");
    one.write(
        "usr/lib/x86_64-linux-gnu/dpdk/pmds-23.0/librte_net_null.so",
        "",
    );
    assert_eq!(one.trouble_with(&without)[0].0, Level::Warn);
}

// G2
#[test]
fn an_end_of_a_wire_by_packet_sockets_forgets_the_kind_of_a_tag() {
    const WIRE: &str = r#"
guard:
  outside: veth
  inside: nic
  wire: {}
  protect: [ { server: 192.0.2.10, ports: [80] } ]
  keys: cookie.key
"#;
    let one = Fixture::new();
    let by_sockets = format!("{PROFILE}{WIRE}");
    let trouble = one.trouble_with(&by_sockets);
    assert_eq!(trouble.len(), 1, "{trouble:#?}");
    assert!(trouble[0].2.contains("802.1ad"), "{trouble:#?}");
    assert!(trouble[0].3.contains("net_af_xdp0,iface=veth0"));
    one.write(
        "usr/lib/x86_64-linux-gnu/dpdk/pmds-23.0/librte_net_af_xdp.so",
        "",
    );
    let by_xdp = by_sockets.replace("net_af_packet0", "net_af_xdp0");
    assert!(one.trouble_with(&by_xdp).is_empty());
}

#[test]
fn the_interface_behind_a_port_and_its_peer() {
    let one = Fixture::new();
    one.write("sys/class/net/veth0/flags", "0x1002");
    one.assert_trouble(
        Level::Fail,
        "interfaces",
        "veth0 is down",
        "ip link set veth0 up",
    );

    let one = Fixture::new();
    one.write("sys/class/net/veth0/mtu", "1400");
    one.assert_trouble(
        Level::Fail,
        "interfaces",
        "an MTU of 1400",
        "ip link set veth0 mtu 1500",
    );

    let one = Fixture::new();
    one.remove("sys/class/net/veth0");
    one.assert_trouble(
        Level::Fail,
        "interfaces",
        "not in this name space",
        "ip netns exec",
    );

    let mut one = Fixture::new();
    one.link = PEER_IS_AWAY;
    one.assert_trouble(
        Level::Warn,
        "interfaces",
        "in another name space",
        "ethtool -K PEER tx off",
    );

    let mut one = Fixture::new();
    one.features = vec!["veth1 tx-checksumming", "veth0 tx-checksumming"];
    one.assert_trouble(
        Level::Warn,
        "interfaces",
        "(tx-checksumming)",
        "ethtool -K veth1 tx off",
    );

    // A machine with no ethtool: what cannot be seen is said, and not taken for right.
    let blind = Fixture::new();
    let mut host = blind.host();
    host.run = Box::new(|_, _| None);
    let machine = Machine::read(blind.folder.path());
    let profile = parse(PROFILE, Path::new("p.yaml"), &machine, Strictness::Check)
        .unwrap()
        .profile;
    let findings = examine(&host, Some(&profile));
    let cure = Some("apt-get install ethtool".to_owned());
    assert!(
        findings
            .iter()
            .any(|one| one.level == Level::Warn && one.cure == cure),
        "{findings:#?}"
    );

    one.features = vec!["veth0 generic-receive-offload"];
    one.assert_trouble(
        Level::Warn,
        "interfaces",
        "joins packets",
        "ethtool -K veth0 gro off",
    );
}

// H7: AF_XDP takes single queues of an interface.
#[test]
fn queues_that_stay_with_the_kernel_are_told() {
    let one = Fixture::new();
    for queue in ["rx-0", "rx-1", "tx-0", "tx-1"] {
        let folder = format!("sys/class/net/veth0/queues/{queue}");
        fs::create_dir_all(one.folder.path().join(folder)).unwrap();
    }
    let machine = Machine::read(one.folder.path());
    let told = |device: &str| {
        let text = PROFILE.replace("net_af_packet0,iface=veth0", device);
        let profile = parse(&text, Path::new("p.yaml"), &machine, Strictness::Check).unwrap();
        let findings = examine(&one.host(), Some(&profile.profile)).into_iter();
        let mut findings = findings.filter(|one| one.what.contains("stays with the kernel"));
        findings.next()
    };
    let finding = told("net_af_xdp0,iface=veth0").unwrap();
    assert_eq!(finding.level, Level::Fail);
    assert!(
        finding
            .what
            .contains("has 2 receive queues, and port `veth` takes 1")
    );
    assert!(
        finding
            .cure
            .unwrap()
            .starts_with("ethtool -L veth0 combined 1")
    );
    assert!(told("net_af_xdp0,iface=veth0,queue_count=2").is_none());
    assert!(told("net_af_packet0,iface=veth0").is_none());
}

#[test]
fn h7_fragments_that_the_kernel_joins_are_told_of_packet_sockets() {
    let one = Fixture::new();
    let machine = Machine::read(one.folder.path());
    let told = |device: &str, hands_over_fragments: bool| {
        let text = PROFILE.replace("net_af_packet0,iface=veth0", device);
        let profile = parse(&text, Path::new("p.yaml"), &machine, Strictness::Check).unwrap();
        let host = Host {
            hands_over_fragments,
            ..one.host()
        };
        let findings = examine(&host, Some(&profile.profile)).into_iter();
        let mut findings = findings.filter(|one| one.what.contains("fragments joined"));
        findings.next()
    };
    for device in ["net_af_packet0,iface=veth0", "eth_af_packet0,iface=veth0"] {
        let finding = told(device, false).unwrap();
        assert_eq!(finding.level, Level::Warn);
        assert!(finding.what.starts_with("port `veth` will get"));
        assert_eq!(finding.cure.as_deref(), Some("unset LD_PRELOAD"));
        assert!(told(device, true).is_none());
    }
    assert!(told("net_af_xdp0,iface=veth0", false).is_none());
}

#[test]
fn an_empty_tree_is_survived_and_nothing_fails_without_a_profile() {
    let folder = tempfile::tempdir().unwrap();
    let host = Host {
        root: folder.path().to_owned(),
        run: Box::new(|_, _| None),
        dpdk_version: "DPDK 22.11.11".into(),
        hands_over_fragments: true,
    };
    let findings = examine(&host, None);
    assert!(
        findings.iter().all(|one| one.level != Level::Fail),
        "{findings:#?}"
    );
    assert!(
        findings
            .iter()
            .any(|one| one.subject == "iommu" && one.level == Level::Warn)
    );
}

#[test]
fn c3_a_kernel_that_forwards_past_the_guard_fails() {
    const GUARDED: &str = r#"
runtime: { workers: [2, 3], control_core: 0, poll: busy, huge_pages: on, memory_mib: 1024 }
ports:
  nic:  { device: "3b:00.0", address: 10.0.0.1/24 }
  veth: { device: "net_af_packet0,iface=veth0", address: 192.0.2.1/24 }
guard: { outside: veth, inside: nic, protect: [ { server: 10.0.0.10, ports: 80 } ] }
"#;
    let fixture = Fixture::new();
    assert_eq!(fixture.trouble_with(GUARDED), []);
    let folder = fixture
        .folder
        .path()
        .join("proc/sys/net/ipv4/conf/veth0/forwarding");
    fs::create_dir_all(folder.parent().unwrap()).unwrap();
    fs::write(folder, "1\n").unwrap();
    let (level, subject, what, cure) = fixture.trouble_with(GUARDED).remove(0);
    assert_eq!((level, subject), (Level::Fail, "kernel"));
    assert!(what.contains("IPv4 from veth0"), "{what}");
    assert_eq!(cure, "sysctl -w net/ipv4/conf/veth0/forwarding=0");
    let warned = GUARDED.replace("inside: nic,", "inside: nic, kernel_forwarding: warn,");
    assert_eq!(fixture.trouble_with(&warned).remove(0).0, Level::Warn);
}
