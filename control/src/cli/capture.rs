//! `tidegate capture`: copies of packets, taken in the daemon, into a pcapng file.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use super::{Outcome, SocketArguments, Streams};
use crate::capture::file::{CaptureFile, Packet};

use crate::capture::frame::{HEADER_BYTES, Header};
use crate::capture::output::Output;
use crate::client;
use crate::failure::Failure;
use crate::protocol::Request;

/// How long the daemon may take to end a capture that it was told to end.
const END_LIMIT: Duration = Duration::from_secs(5);
/// How long written packets may stay unseen by whoever reads along.
const FLUSH: Duration = Duration::from_millis(200);

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The profile's port; all ports without
    #[arg(long)]
    port: Option<String>,
    /// Which packets, as in `tcp port 80 and host 192.0.2.7`; all packets without. Known are: ip,
    /// ip6, arp, tcp, udp, icmp, icmp6; [src|dst] host, net, port, portrange; vlan; and, or, not,
    /// parentheses
    #[arg(long)]
    filter: Option<String>,
    /// The pcapng file, which replaces one that is there once the daemon has agreed; - for standard
    /// output
    #[arg(short = 'w', value_name = "FILE")]
    file: PathBuf,
    /// End after so many packets
    #[arg(long, value_name = "PACKETS", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// End after so many seconds
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: Option<u64>,
    #[command(flatten)]
    socket: SocketArguments,
}

/// What came of a capture.
struct Taken {
    packets: u64,
    lost: u64,
}

pub(super) fn run(arguments: &Arguments, streams: &mut Streams<'_>) -> Outcome {
    match take(arguments, streams) {
        Ok(Taken { packets, lost }) => {
            let more = match lost {
                0 => String::new(),
                lost => {
                    format!(", {lost} lost because they came too fast; narrow them by --filter")
                }
            };
            writeln!(streams.err, "{packets} packets captured{more}")?;
            Ok(0)
        }
        Err(failure) => {
            writeln!(streams.err, "tidegate: {failure}")?;
            Ok(1)
        }
    }
}

/// That the file cannot be written.
fn unwritable(path: &Path, error: &io::Error) -> Failure {
    Failure::new(
        format!(
            "the capture cannot be written to {}: {error}",
            path.display()
        ),
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                "make room there, or write to another disk with -w"
            }
            _ => "name another file with -w",
        },
    )
}

fn take(arguments: &Arguments, streams: &mut Streams<'_>) -> Result<Taken, Failure> {
    let socket = arguments.socket.path()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("the capture cannot be started: {error}"), ""))?;
    if arguments.file == Path::new("-") {
        return runtime.block_on(copy(arguments, &socket, || Ok(&mut *streams.out)));
    }
    let unwritable = |error: io::Error| unwritable(&arguments.file, &error);
    let output = Output::at(&arguments.file).map_err(unwritable)?;
    let begin = || output.begin().map(BufWriter::new);
    runtime.block_on(copy(arguments, &socket, begin))
}

/// Opens the tap: the names of the ports, and the stream of copies.
async fn open(
    arguments: &Arguments,
    socket: &Path,
) -> Result<
    (
        Vec<String>,
        BufReader<OwnedReadHalf>,
        tokio::net::unix::OwnedWriteHalf,
    ),
    Failure,
> {
    let request = Request::Capture {
        port: arguments.port.clone(),
        filter: arguments.filter.clone(),
    };
    let broken = |error: io::Error| client::broken(socket, &error);
    let stream = UnixStream::connect(socket).await.map_err(broken)?;
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::with_capacity(1 << 20, reader);
    let line = client::line_of(request);
    writer.write_all(line.as_bytes()).await.map_err(broken)?;
    let mut line = String::new();
    reader.read_line(&mut line).await.map_err(broken)?;
    let told = client::outcome_of(&line).map_err(|text| Failure::new(text, ""))?;
    let ports = told["ports"].as_array().into_iter().flatten();
    let ports = ports.filter_map(|name| name.as_str().map(Into::into));
    Ok((ports.collect(), reader, writer))
}

/// Writes packets until one of the bounds, a signal, or the daemon's end. The output is begun once the
/// daemon has agreed.
async fn copy<W: Write>(
    arguments: &Arguments,
    socket: &Path,
    begin: impl FnOnce() -> io::Result<W>,
) -> Result<Taken, Failure> {
    let unwritable = |error: io::Error| unwritable(&arguments.file, &error);
    let no_signals =
        |error: io::Error| Failure::new(format!("signals cannot be caught: {error}"), "");
    let mut interrupt = signal(SignalKind::interrupt()).map_err(no_signals)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(no_signals)?;
    let (ports, mut reader, writer) = open(arguments, socket).await?;
    let output = begin().map_err(unwritable)?;
    let mut file = CaptureFile::begin(output, &ports).map_err(unwritable)?;
    file.flush().map_err(unwritable)?;
    let mut writer = Some(writer);
    let mut end = arguments
        .seconds
        .map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let mut taken = Taken {
        packets: 0,
        lost: 0,
    };
    let mut flushed = Instant::now();
    let mut frame = Frame::default();
    loop {
        let is_full = arguments.count.is_some_and(|count| taken.packets >= count);
        if is_full && writer.take().is_some() {
            end = Some(Instant::now() + END_LIMIT);
        }
        let deadline = end.unwrap_or_else(|| Instant::now() + FLUSH);
        let deadline = deadline.min(flushed + FLUSH);
        tokio::select! {
            header = frame.read(&mut reader) => match header {
                Ok(Some(Header::End { lost })) => {
                    taken.lost = lost;
                    break;
                }
                Ok(Some(Header::Packet { original_bytes, unix_ns, port, passage, .. })) => {
                    if !is_full {
                        let bytes = frame.packet();
                        let packet = Packet { port, unix_ns, passage, original_bytes, bytes };
                        file.write(&packet).map_err(unwritable)?;
                        taken.packets += 1;
                    }
                    frame.done();
                }
                // The daemon has stopped: what was taken stays.
                Ok(None) => break,
                Err(error) => {
                    file.flush().map_err(unwritable)?;
                    return Err(client::broken(socket, &error));
                }
            },
            _ = interrupt.recv() => end = Some(Instant::now()),
            _ = terminate.recv() => end = Some(Instant::now()),
            () = tokio::time::sleep_until(deadline) => {}
        }
        if flushed.elapsed() >= FLUSH {
            file.flush().map_err(unwritable)?;
            flushed = Instant::now();
        }
        if end.is_some_and(|end| Instant::now() >= end) {
            // The first time, the daemon is told; the second time it has had its chance.
            if writer.take().is_none() {
                break;
            }
            end = Some(Instant::now() + END_LIMIT);
        }
    }
    file.flush().map_err(unwritable)?;
    Ok(taken)
}

/// A frame that is being read: what has come of it survives when another event comes first.
#[derive(Default)]
struct Frame {
    bytes: Vec<u8>,
}

impl Frame {
    /// Reads the rest of the frame; `None` when the stream ends before one begins.
    async fn read(&mut self, reader: &mut BufReader<OwnedReadHalf>) -> io::Result<Option<Header>> {
        loop {
            let header = self.header()?;
            let wanted = match header {
                None => HEADER_BYTES,
                Some(Header::End { .. }) => return Ok(header),
                Some(Header::Packet { kept_bytes, .. }) => HEADER_BYTES + kept_bytes as usize,
            };
            if header.is_some() && self.bytes.len() == wanted {
                return Ok(header);
            }
            let missing = (wanted - self.bytes.len()) as u64;
            match (&mut *reader)
                .take(missing)
                .read_buf(&mut self.bytes)
                .await?
            {
                0 if self.bytes.is_empty() => return Ok(None),
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                _ => {}
            }
        }
    }

    fn header(&self) -> io::Result<Option<Header>> {
        let Some(bytes) = self.bytes.first_chunk() else {
            return Ok(None);
        };
        let header = Header::from_bytes(bytes);
        header
            .map(Some)
            .ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    fn packet(&self) -> &[u8] {
        &self.bytes[HEADER_BYTES..]
    }

    fn done(&mut self) {
        self.bytes.clear();
    }
}
