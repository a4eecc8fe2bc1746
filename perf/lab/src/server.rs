//! nginx, and what it serves.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use simulator::Random;

use crate::command::{Running, line_of, wait_until};
use crate::scratch::Scratch;
use crate::{Error, Namespace, Result};

/// What is served.
#[derive(Clone, Debug)]
pub struct Body {
    /// Its path in a URL.
    pub path: &'static str,
    /// How long it is.
    pub bytes: u64,
    /// Its SHA-256.
    pub digest: [u8; 32],
}

/// The files that are served. Several labs may share them.
#[derive(Debug)]
pub struct Site {
    scratch: Scratch,
    /// 4 kB.
    pub small: Body,
    /// 256 kB.
    pub medium: Body,
    /// As long as was asked for.
    pub large: Body,
}

impl Site {
    /// Writes the files, of random bytes.
    ///
    /// # Errors
    /// When the disk is full.
    pub fn write(large_bytes: u64) -> Result<Arc<Self>> {
        let scratch = Scratch::for_bodies()?;
        let body = |path, bytes| {
            let digest = write_random(&scratch.file(path), bytes)
                .map_err(|e| Error::because(scratch.file(path).display(), e))?;
            Ok(Body {
                path,
                bytes,
                digest,
            })
        };
        let small = body("small", 4096)?;
        let medium = body("medium", 256 << 10)?;
        let large = body("large", large_bytes)?;
        Ok(Arc::new(Self {
            scratch,
            small,
            medium,
            large,
        }))
    }
}

fn write_random(path: &std::path::Path, bytes: u64) -> std::io::Result<[u8; 32]> {
    let mut random = Random::new(bytes);
    let mut file = BufWriter::new(File::create(path)?);
    let mut digest = ring::digest::Context::new(&ring::digest::SHA256);
    let mut left = bytes;
    let mut block = vec![0; 64 << 10];
    while left > 0 {
        for word in block.chunks_exact_mut(8) {
            word.copy_from_slice(&random.next_u64().to_le_bytes());
        }
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(block.len());
        file.write_all(&block[..length])?;
        digest.update(&block[..length]);
        left -= length as u64;
    }
    file.flush()?;
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest.finish().as_ref());
    Ok(bytes)
}

/// nginx in a name space, on ports 80, 443 and 8080, in clear on each. Dropping it kills it.
#[derive(Debug)]
pub struct Server {
    running: Running,
    log: PathBuf,
    /// What it serves.
    pub site: Arc<Site>,
}

impl Server {
    /// Starts nginx and waits until it accepts connections.
    ///
    /// # Errors
    /// When it does not start; the error holds its log.
    pub fn start(namespace: &Namespace, site: &Arc<Site>, scratch: &Scratch) -> Result<Self> {
        let path = scratch.file("nginx.conf");
        let log = scratch.file("nginx.log");
        let text = configuration(site, scratch);
        std::fs::write(&path, text).map_err(|e| Error::because(path.display(), e))?;
        let output = File::create(&log).map_err(|e| Error::because(log.display(), e))?;
        let mut command: Command = namespace.command("nginx");
        command
            .arg("-e")
            .arg(&log)
            .arg("-c")
            .arg(&path)
            .stdout(Stdio::null())
            .stderr(output);
        let running = Running::start(&mut command)?;
        let mut server = Self {
            running,
            log,
            site: Arc::clone(site),
        };
        namespace
            .within(|| wait_until("nginx", Duration::from_secs(5), accepts))?
            .map_err(|e| {
                Error::new(format!("{}: {e}\n{}", line_of(&command), server.log_text()))
            })?;
        if server.running.ended()?.is_some() {
            return Err(Error::new(format!("nginx ended: {}", server.log_text())));
        }
        Ok(server)
    }

    /// What nginx has logged as errors.
    #[must_use]
    pub fn log_text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Kills nginx as a crash would: its kernel then resets what comes for it.
    ///
    /// # Errors
    /// When it is gone already.
    pub fn crash(&mut self) -> Result<()> {
        // The workers go with the master when it is told to stop at once.
        self.running.signal(Signal::SIGTERM)?;
        self.running.wait(Duration::from_secs(5)).map(drop)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A killed master would leave its workers; a terminated one takes them along.
        let _ = self.crash();
    }
}

fn accepts() -> Result<()> {
    for port in [80, 443, 8080] {
        TcpStream::connect(("127.0.0.1", port))
            .map_err(|e| Error::because(format!("port {port}"), e))?;
    }
    Ok(())
}

fn configuration(site: &Site, scratch: &Scratch) -> String {
    let folder = scratch.path().display();
    let root = site.scratch.path().display();
    format!(
        "daemon off;
user root;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log warn;
events {{ worker_connections 8192; }}
http {{
  access_log {folder}/nginx.access.log;
  client_body_temp_path {folder}/nginx.client;
  proxy_temp_path {folder}/nginx.proxy;
  fastcgi_temp_path {folder}/nginx.fastcgi;
  uwsgi_temp_path {folder}/nginx.uwsgi;
  scgi_temp_path {folder}/nginx.scgi;
  sendfile on;
  default_type application/octet-stream;
  server {{
    listen 80 backlog=4096;
    listen [::]:80 backlog=4096;
    listen 443 backlog=4096;
    listen [::]:443 backlog=4096;
    listen 8080 backlog=4096;
    listen [::]:8080 backlog=4096;
    root {root};
  }}
}}
"
    )
}
