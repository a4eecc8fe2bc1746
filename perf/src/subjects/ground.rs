//! The place that subjects stand in.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use lab::scratch::Scratch;
use lab::topology::{join, prepare, silence};
use lab::{Error, Namespace};

use super::plan::{station, station_text};
use super::{Absent, Job, Kind, Over, StartError, Subject};
use super::{bare, haproxy, kernel, testpmd, tidegate};

/// The largest IP packet on every link, in bytes.
pub(super) const MTU_BYTES: u16 = 1500;

/// Who works where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cores {
    /// The tester's core, where the subjects' control threads are, too.
    pub tester: usize,
    /// The core that subjects forward on, one after the other.
    pub subject: usize,
}

impl Cores {
    /// The first and the last core that this process may use; on a machine with one, both are one.
    #[must_use]
    pub fn choose() -> Self {
        let mut cores: Vec<usize> = core_affinity::get_core_ids()
            .unwrap_or_default()
            .iter()
            .map(|core| core.id)
            .collect();
        cores.sort_unstable();
        Self {
            tester: cores.first().copied().unwrap_or(0),
            subject: cores.last().copied().unwrap_or(0),
        }
    }
}

/// What the subjects of one test have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How they are joined to the tester.
    pub over: Over,
    /// What they are to do.
    pub job: Job,
    /// How many servers they know, in each family.
    pub servers: u16,
    /// The TCP ports that servers serve.
    pub service_ports: Vec<u16>,
    /// How many sessions a guard has room for.
    pub sessions: u32,
    /// Whether attacks come, on which the daemon's surroundings are larger: a wide network inside,
    /// servers that stand in it, and metrics.
    pub under_attack: bool,
}

impl Default for Settings {
    /// To forward, over memif, to two servers with a web server's ports.
    fn default() -> Self {
        Self {
            over: Over::Memif,
            job: Job::Forward,
            servers: 2,
            service_ports: vec![80, 443],
            sessions: 262_144,
            under_attack: false,
        }
    }
}

/// The place: a name space where the tester's ends of links are, and a folder. Dropped, it is gone.
#[derive(Debug)]
pub struct Ground {
    pub(super) tester: Arc<Namespace>,
    pub(super) scratch: Scratch,
    pub(super) settings: Settings,
    pub(super) cores: Cores,
    started: AtomicU8,
}

impl Ground {
    /// Makes it.
    ///
    /// # Errors
    /// When name spaces cannot be made, as without root.
    pub fn new(settings: Settings, cores: Cores) -> lab::Result<Self> {
        let tester = Namespace::create("tester")?;
        prepare(&tester)?;
        silence(&tester)?;
        Ok(Self {
            tester: Arc::new(tester),
            scratch: Scratch::new()?,
            settings,
            cores,
            started: AtomicU8::new(0),
        })
    }

    /// Where the tester must open its ports when subjects are joined over veth: the thread that
    /// does enters it first.
    #[must_use]
    pub fn tester(&self) -> &Namespace {
        &self.tester
    }

    /// What subjects are set up for.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Starts a subject, which works from then on.
    ///
    /// # Errors
    /// When it is not installed, cannot do the job, or does not start.
    pub fn start(&self, kind: Kind) -> Result<Box<dyn Subject>, StartError> {
        kind.fits(self.settings.over, self.settings.job)?;
        let program = kind.program()?;
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        Ok(match kind {
            Kind::Tidegate | Kind::TidegateXdp => {
                Box::new(tidegate::start(self, number, kind, program)?)
            }
            Kind::TestpmdIo => Box::new(testpmd::start(self, number, kind, program, "io")?),
            Kind::TestpmdMac => Box::new(testpmd::start(self, number, kind, program, "mac")?),
            Kind::TestpmdCsum => Box::new(testpmd::start(self, number, kind, program, "csum")?),
            Kind::Kernel | Kind::Synproxy => Box::new(kernel::start(self, number, kind)?),
            Kind::Haproxy => Box::new(haproxy::start(self, number, program)?),
            Kind::Bare => Box::new(bare::start(self, number)?),
        })
    }

    /// Starts all of them but those that are missing here, which are told of.
    ///
    /// # Errors
    /// When one of them cannot do the job, or does not start.
    pub fn start_all(
        &self,
        kinds: &[Kind],
        mut tell: impl FnMut(&Absent),
    ) -> Result<Vec<Box<dyn Subject>>, StartError> {
        for kind in kinds {
            kind.fits(self.settings.over, self.settings.job)?;
        }
        let mut subjects: Vec<Box<dyn Subject>> = Vec::new();
        for &kind in kinds {
            match self.start(kind) {
                Ok(mut subject) => {
                    subject.rest()?;
                    subjects.push(subject);
                }
                Err(StartError::Absent(absent)) => tell(&absent),
                Err(error) => return Err(error),
            }
        }
        Ok(subjects)
    }

    /// A name space for a subject, with a link to the tester on each side where links are the
    /// kernel's: `out0` and `in0` there, and the tester's devices here.
    pub(super) fn box_for(&self, number: u8, kind: Kind) -> lab::Result<Namespace> {
        let namespace = Namespace::create(kind.name())?;
        if self.settings.over == Over::Veth {
            prepare(&namespace)?;
            if matches!(kind, Kind::Tidegate | Kind::TidegateXdp) {
                silence(&namespace)?;
            }
            for (own, (name, side)) in ["out0", "in0"].iter().zip(ends(number)) {
                join((&namespace, own), (&self.tester, &name), MTU_BYTES)?;
                self.own_station(&name, station(number, side))?;
            }
        }
        Ok(namespace)
    }

    /// Gives one of the tester's interfaces its station address.
    pub(super) fn own_station(&self, interface: &str, station: [u8; 6]) -> lab::Result<()> {
        let station = station_text(station);
        self.tester
            .ip(&format!("link set {interface} address {station}"))
    }

    /// The tester's two devices before subject `number`.
    pub(super) fn devices(&self, number: u8) -> [String; 2] {
        ends(number).map(|(name, side)| match self.settings.over {
            Over::Veth => format!("net_af_packet_{name},iface={name},framecnt=2048"),
            Over::Memif => format!(
                "net_memif_{name},role=client,id=0,socket={},socket-abstract=no,mac={}",
                self.socket(number, side).display(),
                station_text(station(number, side)),
            ),
        })
    }

    /// The subject's two devices, the first of a driver's two numbers counted from 0.
    pub(super) fn subject_devices(&self, number: u8, kind: Kind) -> [String; 2] {
        let device = |(index, own): (usize, &str)| match self.settings.over {
            Over::Veth if kind == Kind::TidegateXdp => format!("net_af_xdp{index},iface={own}"),
            Over::Veth => format!("net_af_packet{index},iface={own},framecnt=2048"),
            Over::Memif => format!(
                "net_memif{index},role=server,id=0,socket={},socket-abstract=no",
                self.socket(number, index as u8 + 1).display(),
            ),
        };
        [device((0, "out0")), device((1, "in0"))]
    }

    fn socket(&self, number: u8, side: u8) -> PathBuf {
        self.scratch.file(&format!("memif{number}.{side}"))
    }

    /// A command in a name space, kept on the subjects' core. It hears nothing of a Ctrl-C that is
    /// meant for the tester.
    pub(super) fn pinned(&self, namespace: &Namespace, program: &str) -> Command {
        use std::os::unix::process::CommandExt as _;
        let mut command = namespace.command("taskset");
        command.args(["-c", &self.cores.subject.to_string(), program]);
        command.process_group(0);
        command
    }

    /// A file for a subject to log into.
    pub(super) fn log(&self, number: u8, kind: Kind) -> lab::Result<(PathBuf, std::fs::File)> {
        let path = self.scratch.file(&format!("{number}.{kind}.log"));
        let file = std::fs::File::create(&path).map_err(|e| Error::because(path.display(), e))?;
        Ok((path, file))
    }
}

/// The names of the tester's interfaces before subject `number`, and the number of each side.
pub(super) fn ends(number: u8) -> [(String, u8); 2] {
    [(format!("out{number}"), 1), (format!("in{number}"), 2)]
}
