//! Nobody between: the tester's two devices are the ends of one link.

use std::sync::Arc;

use lab::topology::join;
use lab::{Namespace, Result};

use super::ground::{Ground, MTU_BYTES, ends};
use super::kernel::{frames, network_file};
use super::plan::{FirstHop, station, wiring};
use super::proof::Account;
use super::{Kind, Subject, version_line};
use crate::wiring::Wiring;

/// A link. It goes with the tester's name space.
#[derive(Debug)]
pub(super) struct Bare {
    tester: Arc<Namespace>,
    interfaces: [String; 2],
    version: String,
    wiring: Wiring,
}

/// Makes it.
pub(super) fn start(ground: &Ground, number: u8) -> Result<Bare> {
    let [(outside, _), (inside, _)] = ends(number);
    join(
        (&ground.tester, &outside),
        (&ground.tester, &inside),
        MTU_BYTES,
    )?;
    for (name, side) in ends(number) {
        ground.own_station(&name, station(number, side))?;
    }
    let first_hop = FirstHop::Known([station(number, 2), station(number, 1)]);
    Ok(Bare {
        tester: Arc::clone(&ground.tester),
        interfaces: [outside, inside],
        version: version_line(std::process::Command::new("uname").arg("-sr")),
        wiring: wiring(ground.devices(number), &first_hop, &ground.settings),
    })
}

impl Subject for Bare {
    fn kind(&self) -> Kind {
        Kind::Bare
    }

    fn version(&self) -> &str {
        &self.version
    }

    fn wiring(&self) -> &Wiring {
        &self.wiring
    }

    fn stations(&self) -> Option<[[u8; 6]; 2]> {
        None
    }

    /// What one end sent, the other end of the link has received.
    fn account(&mut self) -> Result<Account> {
        let text = network_file(&self.tester, "dev")?;
        let interfaces = self.interfaces.each_ref().map(String::as_str);
        let (received, sent) = frames(&text, &interfaces);
        Ok(Account {
            received_frames: sent,
            sent_frames: received,
            ..Account::default()
        })
    }

    fn rest(&mut self) -> Result<()> {
        Ok(())
    }

    fn resume(&mut self) -> Result<()> {
        Ok(())
    }
}
